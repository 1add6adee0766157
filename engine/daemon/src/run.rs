//! A start, step by step: settings, checks, address, node, endpoints; then signals and the drain.
//!
//! Exit status: 0 done (a clean drain included), 1 a start was refused or the doctor found a
//! failure, 2 a setting was refused.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};

use crate::address::{self, Claim};
use crate::control::{self, Admin};
use crate::doctor::{self, Facts, Verdict};
use crate::membership::{Member, Membership, Registration, Standing, this_place};
use crate::metrics::ProcessFacts;
use crate::operate::{self, Token};
use crate::probes::Probes;
use crate::resolve::{Action, Resolved, Surroundings, resolve};
use crate::seam::{NodeControl, NodeOptions, StartError};
use crate::settings::sources::{self, CommandLine};
use crate::settings::{RawSettings, SETTINGS, SettingsError, document};

/// How long a drain may take; service managers wait 90 s before they kill.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Starts a node; called on the control thread inside its runtime.
pub type StartNode = fn(NodeOptions) -> StartingNode;
/// A node that starts, on the control thread.
pub type StartingNode =
    std::pin::Pin<Box<dyn Future<Output = Result<Arc<dyn NodeControl>, StartError>>>>;

/// Exit status of a refused start.
const REFUSED: u8 = 1;
/// Exit status of a refused setting.
const MISUSED: u8 = 2;

/// Runs the daemon with the arguments after the program's name.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<String>,
    start_node: StartNode,
) -> ExitCode {
    let raw = match sources::from_command_line(arguments, crate::build::VERSION) {
        Ok(CommandLine::Text(text)) => return print(&text),
        Ok(CommandLine::Settings(raw)) => raw,
        Err(error) => return refuse(&error, MISUSED),
    };
    let surroundings = match look_around(&environment) {
        Ok(surroundings) => surroundings,
        Err(error) => return refuse(&error, REFUSED),
    };
    let settings = match collect(raw, environment, &surroundings) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error, MISUSED),
    };
    match settings.action {
        Action::CheckConfig => print("settings are good\n"),
        Action::PrintConfig => print(&document::printed_configuration(&settings.in_force)),
        Action::Doctor => {
            let mut report = doctor::examine(&facts(), &settings);
            doctor::add_ssd(&mut report, &settings);
            let status = u8::from(report.worst() == Verdict::Fail) * REFUSED;
            print(&report.table());
            ExitCode::from(status)
        },
        Action::Expel { session, kill } => {
            match operate::expel(session, kill, settings.admin, &settings.node.socket) {
                Ok(text) => print(&text),
                Err(error) => refuse(&error, REFUSED),
            }
        },
        Action::Serve => match serve(settings, surroundings.uid, start_node) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error, REFUSED),
        },
    }
}

fn look_around(environment: &impl Fn(&str) -> Option<String>) -> Result<Surroundings, StartError> {
    let uid = doctor::facts::effective_uid().map_err(|error| StartError {
        cause: format!("cannot tell the user of this process: {error}"),
        remedy: "mount /proc".to_owned(),
    })?;
    let runtime_dir = environment("XDG_RUNTIME_DIR").map(PathBuf::from);
    Ok(Surroundings {
        uid,
        affinity: doctor::facts::affinity(),
        runtime_dir: runtime_dir.filter(|path| path.is_absolute()),
    })
}

/// Merges flags, environment and file, and resolves them.
fn collect(
    mut raw: RawSettings,
    environment: impl Fn(&str) -> Option<String>,
    surroundings: &Surroundings,
) -> Result<Resolved, SettingsError> {
    sources::from_environment(&mut raw, environment);
    if let Some(file) = raw.get("config").map(|given| PathBuf::from(&given.text)) {
        sources::from_file(&mut raw, &file)?;
    }
    resolve(&raw, surroundings)
}

fn facts() -> Facts {
    Facts::read(Path::new("/"), doctor::facts::probe_io_uring())
}

/// Writes to stdout; a reader that has gone away is no failure of ours.
fn print(text: &str) -> ExitCode {
    drop(std::io::stdout().write_all(text.as_bytes()));
    ExitCode::SUCCESS
}

/// Writes one line to stderr.
fn refuse(error: &dyn std::error::Error, status: u8) -> ExitCode {
    drop(writeln!(std::io::stderr(), "chariotd: {error}"));
    ExitCode::from(status)
}

/// Starts everything, and stays until a signal has ended it.
fn serve(settings: Resolved, uid: u32, start_node: StartNode) -> Result<(), StartError> {
    start_log(&settings);
    abort_on_panic();
    check_machine(&settings)?;
    let node = &settings.node;
    let claim = address::claim(
        &node.socket,
        settings.own_directory.as_deref(),
        node.listen,
        uid,
    )?;
    // Under the lock: nobody else issues one for this socket.
    let token = Token::issue(&node.socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError {
            cause: format!("cannot start the control thread: {error}"),
            remedy: "raise the limit of open files".to_owned(),
        })?;
    // The node may keep tasks of its own on this thread.
    tokio::task::LocalSet::new()
        .block_on(&runtime, control_thread(settings, claim, token, start_node))
}

/// Everything that happens on the control thread while the node lives.
async fn control_thread(
    settings: Resolved,
    claim: Claim,
    token: Token,
    start_node: StartNode,
) -> Result<(), StartError> {
    let cannot = |what: &str, error: &std::io::Error, remedy: &str| StartError {
        cause: format!("cannot {what}: {error}"),
        remedy: remedy.to_owned(),
    };
    // Before the node starts: a signal during the start is a drain, not a sudden death.
    let mut signals = Signals::install()
        .map_err(|error| cannot("handle signals", &error, "allow rt_sigaction"))?;
    let listener = tokio::net::TcpListener::bind(settings.admin)
        .await
        .map_err(|error| {
            cannot(
                &format!("listen on {}", settings.admin),
                &error,
                "give another --admin address",
            )
        })?;
    let admin_address = listener
        .local_addr()
        .map_err(|error| cannot("read the admin address", &error, "give another --admin"))?;
    log_exposure(&settings);
    let (listen, socket) = (settings.node.listen, settings.node.socket.clone());
    let shard_count = settings.node.shards.len();
    let to_ssd = settings.node.ssd.as_ref().map(|ssd| ssd.drain);
    let within = DRAIN_WITHIN + to_ssd.unwrap_or_default();
    let start = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (health, ready) = settings.probes;
    let probes = Probes::start(health, ready)?;
    let registration = settings.membership.map(|etcd| Registration {
        endpoints: etcd.endpoints,
        cluster: etcd.cluster,
        member: member(&settings.node, etcd.advertise, admin_address, start),
    });
    let node = start_node(settings.node).await?;
    let standing = Arc::new(Standing::default());
    let admin = Arc::new(Admin {
        node: Arc::clone(&node),
        token,
        address: admin_address.ip(),
        in_force: settings.in_force,
        shard_count,
        base_private_bytes: ProcessFacts::read(Path::new("/proc/self"), 0).private_bytes,
        start_unix_s: start.as_secs(),
        standing: Arc::clone(&standing),
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let endpoints = tokio::spawn(control::serve(listener, admin, async {
        // A dropped sender stops the endpoints as well.
        drop(stopped.await);
    }));
    tracing::info!(
        %listen, socket = %socket.display(), admin = %admin_address, shards = shard_count,
        version = crate::build::VERSION, "serving"
    );
    probes.set_ready()?;
    let membership = registration.map(|registration| Membership::start(registration, standing));
    signals.until_stop().await;
    probes.set_draining();
    if let Some(membership) = membership {
        membership.leave().await;
    }
    drain(&*node, &mut signals, within).await;
    drop(stop);
    // Endpoints finish the answers under way; a client that holds its connection open is cut off.
    drop(tokio::time::timeout(Duration::from_secs(1), endpoints).await);
    drop(claim);
    Ok(())
}

/// What this node says of itself to its cluster.
fn member(
    options: &NodeOptions,
    advertise: SocketAddr,
    admin: SocketAddr,
    start: Duration,
) -> Member {
    Member {
        address: advertise.to_string(),
        admin: admin.to_string(),
        version: crate::build::VERSION.to_owned(),
        cores: options.shards.iter().map(|shard| shard.cpu).collect(),
        memory_bytes: options.memory_bytes,
        start_unix_ms: u64::try_from(start.as_millis()).unwrap_or(u64::MAX),
        place: this_place(),
    }
}

/// Finishes what is under way; a second signal cuts it short.
async fn drain(node: &dyn NodeControl, signals: &mut Signals, within: Duration) {
    tracing::info!(within_s = within.as_secs(), "draining");
    tokio::select! {
        drained = node.drain(within) => {
            let requests_abandoned = drained.requests_abandoned;
            tracing::info!(requests_abandoned, sessions_open = drained.sessions_open, "drained");
        },
        () = signals.until_stop() => tracing::warn!("second signal: the drain is cut short"),
    }
}

/// The signals that a service manager or a terminal sends.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    /// A write beyond a limit of the service manager (`LimitFSIZE`) is an error of the SSD tier,
    /// not the end of the process.
    _file_size: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// Completes at the first SIGTERM or SIGINT.
    async fn until_stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP ignored: settings take effect at the next start");
                },
            }
        }
    }
}

/// The doctor's checks, before anything is taken: failures refuse, warnings are logged.
fn check_machine(settings: &Resolved) -> Result<(), StartError> {
    let mut report = doctor::examine(&facts(), settings);
    doctor::add_ssd(&mut report, settings);
    for finding in report.of(Verdict::Warn) {
        let check = finding.check;
        tracing::warn!(check, found = %finding.found, remedy = %finding.remedy, "doctor");
    }
    match report.of(Verdict::Fail).next() {
        None => Ok(()),
        Some(finding) => Err(StartError {
            cause: format!("{}: {}", finding.check, finding.found),
            remedy: format!("{} (chariotd --doctor checks everything)", finding.remedy),
        }),
    }
}

/// Says once who can reach the port without proving anything.
fn log_exposure(settings: &Resolved) {
    let listen = settings.node.listen;
    if settings.open_to_network {
        tracing::warn!(%listen, "anyone who reaches this port may read and write: no --auth");
    } else if settings.open_on_loopback {
        tracing::info!(%listen, "every user of this host may read and write: no --auth");
    }
    if !settings.admin.ip().is_loopback() {
        tracing::warn!(admin = %settings.admin, "admin endpoints are open to the network");
    }
}

fn start_log(settings: &Resolved) {
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_max_level(settings.log)
        .with_target(false);
    // Only a test that starts twice in one process finds a log already in place.
    drop(log.try_init());
    for name in unknown_variables(std::env::vars_os()) {
        tracing::warn!(name, "this environment variable is no setting");
    }
}

/// Variables that look like settings and are none: most likely misspelt. They do not refuse a
/// start, because other programs of the house read variables with the same beginning.
fn unknown_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let known: Vec<String> = SETTINGS
        .iter()
        .map(crate::settings::Setting::environment_name)
        .collect();
    variables
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("CHARIOT_") && !known.contains(name))
        .collect()
}

/// A panic is a bug: the process says where, and aborts. A node with one shard missing would look
/// alive and answer for a part of its keys only.
fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        drop(writeln!(
            std::io::stderr(),
            "chariotd: this is a bug; aborting"
        ));
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_variables_are_noticed() {
        let pair = |name: &str| (OsString::from(name), OsString::new());
        let variables = [pair("CHARIOT_MEMROY"), pair("CHARIOT_MEMORY"), pair("PATH")];
        assert_eq!(unknown_variables(variables.into_iter()), ["CHARIOT_MEMROY"]);
    }

    /// Set for the process that is meant to abort.
    const DOOMED: &str = "CHARIOT_TEST_PANIC";

    #[test]
    fn panic_after_the_hook_is_in_place() {
        if std::env::var_os(DOOMED).is_none() {
            return;
        }
        abort_on_panic();
        // On another thread and caught: still the end of the process.
        let outcome = std::thread::spawn(|| panic!("the cause")).join();
        unreachable!("survived with {outcome:?}");
    }

    #[test]
    fn a_panic_aborts_the_process() {
        use std::os::unix::process::ExitStatusExt as _;
        let name = "run::tests::panic_after_the_hook_is_in_place";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(DOOMED, "1")
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(libc::SIGABRT));
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(
            said.contains("the cause") && said.contains("aborting"),
            "{said}"
        );
    }
}
