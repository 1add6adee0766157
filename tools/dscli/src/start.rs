//! `start`: runs `chariotd` with the mapped flags, and waits until it takes work.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::arguments::{StartOrder, Worker};
use crate::error::CliError;
use crate::mapping::{self, Plan};
use crate::{nodes, say_info, say_warning};

/// Distance of two looks at the ready file.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Most bytes of a failed daemon's last words that are shown.
const OUTPUT_MAX: u64 = 4096;
/// Permissions that files and directories of a node do not have for others.
const UMASK: u32 = 0o077;

/// Starts the node.
///
/// # Errors
/// A flag is refused, the address is taken, the daemon ends, or is not ready in time.
pub(crate) fn run(order: &StartOrder) -> Result<(), CliError> {
    let given = match &order.worker {
        Worker::Flags(flags) => flags.clone(),
        Worker::File(file) => mapping::read_file(file)?,
    };
    let home = home(order.home.as_deref())?;
    let plan = mapping::plan(&given, &home, order.strict)?;
    warn(&plan);
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(UMASK));
    if let Some(node) = nodes::find(&plan.address) {
        return Err(CliError::NotStarted {
            cause: format!(
                "PID {} serves there already: dscli stop -w {}",
                node.pid, plan.address
            ),
            address: plan.address,
        });
    }
    let (child, log) = spawn(&plan, order.cores.as_deref())?;
    wait_ready(&plan, child, &log, order.within)
}

/// Where default paths lie: below `-d`, or in a directory of their own in the working directory.
fn home(given: Option<&Path>) -> Result<PathBuf, CliError> {
    let own = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        PathBuf::from(format!(
            "chariotds{}",
            stamp(now.unwrap_or_default().as_secs())
        ))
    };
    let home = given.map_or_else(own, |directory| directory.join("chariotds"));
    std::path::absolute(&home).map_err(CliError::file(&home))
}

/// Universal time as `yyyymmddHHMMSS`.
///
/// The calendar from days is the usual one with years that begin in March; see Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
fn stamp(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}{month:02}{day:02}{hour:02}{minute:02}{:02}",
        second % 60
    )
}

fn warn(plan: &Plan) {
    if !plan.idle.is_empty() {
        say_warning(&format!("without effect here: {}", plan.idle.join(", ")));
    }
    if !plan.unknown.is_empty() {
        say_warning(&format!(
            "unknown parameters, ignored: {}",
            plan.unknown.join(", ")
        ));
    }
}

/// The daemon beside this program, or the one on the path.
fn daemon() -> PathBuf {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|exe| exe.parent().map(|directory| directory.join("chariotd")));
    beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("chariotd"))
}

fn spawn(plan: &Plan, cores: Option<&str>) -> Result<(Child, PathBuf), CliError> {
    fs::create_dir_all(&plan.log_dir).map_err(CliError::file(&plan.log_dir))?;
    say_info(&format!(
        "Log directory configured at: {}",
        plan.log_dir.display()
    ));
    let log = plan.log_dir.join(format!("{}.INFO.log", plan.log_name));
    let output = OpenOptions::new().create(true).append(true).open(&log);
    let output = output.map_err(CliError::file(&log))?;
    let errors = output.try_clone().map_err(CliError::file(&log))?;
    // A probe of an earlier start would be believed.
    drop(fs::remove_file(&plan.ready_file));
    let program = daemon();
    let mut command = Command::new(&program);
    command
        .args(&plan.arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    if let Some(cores) = cores {
        command.args(["--cores", cores]);
    }
    if !plan.credentials.is_empty() {
        let file = write_credentials(plan)?;
        command.arg("--auth").arg(file);
    }
    if let Some(socket) =
        option(&plan.arguments, "--socket").and_then(|path| Path::new(path).parent())
    {
        fs::create_dir_all(socket).map_err(CliError::file(socket))?;
    }
    if let Some(spill) = &plan.spill_dir {
        fs::create_dir_all(spill).map_err(CliError::file(spill))?;
    }
    // Out of the terminal's process group: its interrupt is not for the node.
    let child = command
        .process_group(0)
        .spawn()
        .map_err(CliError::file(program))?;
    say_info(&format!("Starting worker service with PID: {}", child.id()));
    Ok((child, log))
}

fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|word| word == name)?;
    arguments.get(at + 1).map(String::as_str)
}

/// Writes the credentials beside the log, for the daemon's user alone.
fn write_credentials(plan: &Plan) -> Result<PathBuf, CliError> {
    let path = plan.log_dir.join(format!("{}.auth.toml", plan.log_name));
    let quote = |value: &str| serde_json::Value::from(value).to_string();
    let tables: Vec<String> = plan
        .credentials
        .iter()
        .map(|credential| {
            let access_key = quote(&credential.access_key);
            let secret_key = quote(&credential.secret_key);
            format!(
                "[[credential]]\naccess-key = {access_key}\nsecret-key = {secret_key}\n\
                 tenant = \"default\"\n"
            )
        })
        .collect();
    let text = tables.concat();
    // A new file, always: one that lies there may be another user's, a link, or open to others.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(CliError::file(&path)(error));
        },
        _ => {},
    }
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    let mut file = options.open(&path).map_err(CliError::file(&path))?;
    file.write_all(text.as_bytes())
        .map_err(CliError::file(&path))?;
    Ok(path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a probe file is polled: whoever asks for one gets no other event"
)]
fn wait_ready(plan: &Plan, mut child: Child, log: &Path, within: Duration) -> Result<(), CliError> {
    let until = Instant::now() + within;
    let pid = child.id();
    loop {
        if let Some(status) = child
            .try_wait()
            .map_err(CliError::kernel("wait for the node"))?
        {
            let code = match (status.code(), status.signal()) {
                (Some(code), _) => code.to_string(),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown".to_owned(),
            };
            let output = tail(log).unwrap_or_default();
            return Err(CliError::Exited { code, output });
        }
        if plan.ready_file.exists() {
            let address = &plan.address;
            say_info(&format!(
                "[  OK  ] Start worker service @ {address} success, PID: {pid}"
            ));
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(CliError::NotReady {
                seconds: within.as_secs(),
                log: format!("; PID {pid} goes on, its log is {}", log.display()),
            });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(OUTPUT_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_dates() {
        assert_eq!(stamp(0), "19700101000000");
        assert_eq!(stamp(951_782_400), "20000229000000");
        assert_eq!(stamp(1_795_305_599), "20261121235959");
        assert_eq!(stamp(4_107_542_400), "21000301000000");
    }

    #[test]
    fn credentials_survive_quotes_and_are_for_the_owner_alone() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan {
            address: "127.0.0.1:1".to_owned(),
            arguments: Vec::new(),
            credentials: vec![mapping::Credential {
                access_key: "a\"b".to_owned(),
                secret_key: "sixteen bytes and \\ more".to_owned(),
            }],
            log_dir: directory.path().to_owned(),
            log_name: "node".to_owned(),
            ready_file: directory.path().join("ready"),
            spill_dir: None,
            idle: Vec::new(),
            unknown: Vec::new(),
        };
        // What lies there from before does not get the secrets.
        let known = directory.path().join("known");
        fs::write(&known, "").unwrap();
        std::os::unix::fs::symlink(&known, directory.path().join("node.auth.toml")).unwrap();
        let path = write_credentials(&plan).unwrap();
        assert_eq!(fs::read_to_string(&known).unwrap(), "");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
        let read = chariotd::credentials::load(&path, metadata.uid()).unwrap();
        assert_eq!(read.len(), 1);
    }
}
