//! Flags of a worker to settings of `chariotd`.
//!
//! Everything that can be judged without starting anything is judged here: what a flag asks for is
//! mapped, or refused because nobody would keep it, or named as without effect. What it does not
//! say, `chariotd` decides. Neighbours: `flags.rs` (the table), `start.rs` (runs the plan).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::CliError;
use crate::flags::{self, Effect, FLAGS_0_1_6, Flag};

/// Ports between the address for clients and the admin endpoints: 31501 and 31580 by default.
const ADMIN_DISTANCE: u16 = 79;
/// `chariotd` hands memory out in pieces of 64 MiB, and needs two of them.
const GRANULE_MIB: u64 = 64;
const MEMORY_MIN_MIB: u64 = 2 * GRANULE_MIB;
/// Most sessions of a node.
const SESSIONS_MAX: u64 = 1024;
/// Share of the free disk that is taken when `spill_size_limit` names none, as of old.
const SPILL_PERCENT: u64 = 95;
/// Directory that default paths begin with.
const DEFAULT_HOME: &str = "./chariotds";

/// Flags as they were given, in order; a later one of the same name wins.
pub(crate) type Given = Vec<(String, String)>;

/// One key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    pub access_key: String,
    pub secret_key: String,
}

/// How `chariotd` is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Address for clients, as it was given.
    pub address: String,
    /// Its arguments, but `--auth`: that file is written at the start.
    pub arguments: Vec<String>,
    /// What the credentials file says; empty for none.
    pub credentials: Vec<Credential>,
    pub log_dir: PathBuf,
    pub log_name: String,
    pub ready_file: PathBuf,
    /// To be made before the start.
    pub spill_dir: Option<PathBuf>,
    /// Given, and without effect here.
    pub idle: Vec<String>,
    /// Given, and in no list.
    pub unknown: Vec<String>,
}

/// Reads a configuration file: names to values, or to objects that hold a `value`.
///
/// # Errors
/// Not readable, or not of that shape.
pub(crate) fn read_file(path: &Path) -> Result<Given, CliError> {
    let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
    let odd = |what: &str| CliError::Usage(format!("{}: {what}", path.display()));
    let value: Value = serde_json::from_str(&text).map_err(|error| odd(&error.to_string()))?;
    let Value::Object(entries) = value else {
        return Err(odd("is no object of flags"));
    };
    entries
        .into_iter()
        .map(|(name, entry)| {
            let value = match &entry {
                Value::Object(fields) => fields.get("value").unwrap_or(&Value::Null),
                plain => plain,
            };
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return Err(odd(&format!("{name} has no value"))),
            };
            Ok((name, text))
        })
        .collect()
}

/// The address of the worker that the flags describe.
///
/// # Errors
/// It is none.
pub(crate) fn address_of(given: &Given) -> Result<String, CliError> {
    let flags = Flags(given);
    let text = flags.text("worker_address");
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(text.to_owned()),
        _ => Err(CliError::Refused(format!(
            "worker_address {text} is not IP:port"
        ))),
    }
}

/// URLs of etcd out of a list of addresses.
pub(crate) fn endpoints(list: &str) -> Vec<String> {
    let addresses = list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    addresses
        .map(|part| {
            if part.contains("://") {
                part.to_owned()
            } else {
                format!("http://{part}")
            }
        })
        .collect()
}

/// Makes a plan. `home` takes the place of `./chariotds` in default paths.
///
/// # Errors
/// [`CliError::Refused`]: no backend, a value that cannot be kept, with `strict` an unknown flag.
pub(crate) fn plan(given: &Given, home: &Path, strict: bool) -> Result<Plan, CliError> {
    let flags = Flags(given);
    let (idle, unknown) = judge(given)?;
    if strict && !unknown.is_empty() {
        let text = format!("unknown parameters: {}", unknown.join(", "));
        return Err(CliError::Refused(text));
    }
    check_backend(&flags)?;
    let address = address_of(given)?;
    let path = |name| at_home(flags.text(name), home);
    let mut plan = Plan {
        arguments: network(&flags, &address)?,
        credentials: credentials(&flags)?,
        log_dir: path("log_dir"),
        log_name: match flags.text("log_filename") {
            "" => "chariotd".to_owned(),
            name => name.to_owned(),
        },
        ready_file: path("ready_check_path"),
        spill_dir: None,
        address,
        idle,
        unknown,
    };
    plan.set("--memory", format!("{}MiB", memory_mib(&flags)?));
    let sessions = flags.number("max_client_num")?.clamp(1, SESSIONS_MAX);
    plan.set("--max-sessions", sessions.to_string());
    if flags.switch("enable_huge_tlb")? {
        plan.arguments.push("--hugepages".to_owned());
    }
    plan.set("--log", log_level(&flags)?);
    plan.set(
        "--health-file",
        path("health_check_path").display().to_string(),
    );
    plan.set("--ready-file", plan.ready_file.display().to_string());
    if !flags.text("etcd_address").is_empty() {
        plan.set("--etcd", endpoints(flags.text("etcd_address")).join(","));
        let names = ["cluster_name", "etcd_table_prefix", "az_name"];
        let named = names.map(|name| flags.text(name));
        if let Some(name) = named.into_iter().find(|name| !name.is_empty()) {
            plan.set("--cluster", name.to_owned());
        }
    }
    // Also how `dscli stop` finds a worker that is bound to another address than it is called by.
    if !flags.text("bind_address").is_empty() {
        plan.set("--advertise", plan.address.clone());
    }
    if let Some(directory) = flags.given("unix_domain_socket_dir") {
        let name = format!("chariot-{}.sock", port_of(&plan.address));
        let socket = at_home(directory, home).join(name);
        plan.set("--socket", socket.display().to_string());
    }
    spill(&flags, home, &mut plan)?;
    Ok(plan)
}

impl Plan {
    fn set(&mut self, name: &str, value: String) {
        self.arguments.extend([name.to_owned(), value]);
    }
}

/// Refuses what cannot be kept; finds what has no effect, and what nobody knows.
fn judge(given: &Given) -> Result<(Vec<String>, Vec<String>), CliError> {
    let mut idle = Vec::new();
    let mut unknown = Vec::new();
    for (name, value) in given {
        let Some(Flag {
            default, effect, ..
        }) = flags::find(name)
        else {
            unknown.push(name.clone());
            continue;
        };
        match effect {
            Effect::Setting(_) => {},
            Effect::OnlyDefault { neutral, .. } if value.is_empty() || value == neutral => {},
            Effect::OnlyDefault { neutral, why } => {
                let text =
                    format!("{name}={value} cannot be kept: {why} (leave it at '{neutral}')");
                return Err(CliError::Refused(text));
            },
            Effect::None if *default == Some(value.as_str()) => {},
            Effect::None => idle.push(name.clone()),
        }
    }
    Ok((idle, unknown))
}

/// A worker belongs to etcd, or is alone because that was said.
fn check_backend(flags: &Flags<'_>) -> Result<(), CliError> {
    let has_etcd = !flags.text("etcd_address").is_empty();
    let is_alone =
        !flags.text("metastore_address").is_empty() || flags.switch("start_metastore_service")?;
    let text = match (has_etcd, is_alone) {
        (true, false) | (false, true) => return Ok(()),
        (false, false) => {
            "Missing required: coordinator_address, etcd_address, or metastore_address must be \
             specified"
        },
        (true, true) => "Only one coordination backend can be specified",
    };
    Err(CliError::Refused(text.to_owned()))
}

/// Spilling to disk is the SSD tier: where it lies, and how much of that disk it takes.
fn spill(flags: &Flags<'_>, home: &Path, plan: &mut Plan) -> Result<(), CliError> {
    let directory = flags.text("spill_directory");
    if directory.is_empty() {
        return Ok(());
    }
    let directory = at_home(directory, home);
    let bytes = match flags.number("spill_size_limit")? {
        0 => available(&directory)? / 100 * SPILL_PERCENT,
        bytes => bytes,
    };
    plan.set("--ssd", directory.display().to_string());
    plan.set("--ssd-size", bytes.to_string());
    plan.spill_dir = Some(directory);
    Ok(())
}

/// What this user may still write on the file system of a directory, made already or not.
fn available(directory: &Path) -> Result<u64, CliError> {
    let there = directory.ancestors().find(|path| path.exists());
    let there = there.unwrap_or_else(|| Path::new("/"));
    let facts = rustix::fs::statvfs(there).map_err(CliError::kernel("measure spill_directory"))?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

fn network(flags: &Flags<'_>, address: &str) -> Result<Vec<String>, CliError> {
    let listen = match flags.text("bind_address") {
        "" => address,
        bound => bound,
    };
    let parsed: SocketAddr = listen
        .parse()
        .map_err(|_not_one| CliError::Refused(format!("bind_address {listen} is not IP:port")))?;
    let admin_port = parsed.port().checked_add(ADMIN_DISTANCE);
    let admin_port = admin_port.unwrap_or_else(|| parsed.port() - ADMIN_DISTANCE);
    // Metrics stay on this host unless somebody asks for more with chariotd itself.
    let admin = format!("127.0.0.1:{admin_port}");
    let mut arguments = vec![
        "--listen".to_owned(),
        listen.to_owned(),
        "--admin".to_owned(),
        admin,
    ];
    // Workers of old were open to the network unless keys were given; so the operator said so.
    if !parsed.ip().is_loopback() && credentials(flags)?.is_empty() {
        arguments.push("--insecure-listen".to_owned());
    }
    Ok(arguments)
}

fn port_of(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or(address)
}

fn memory_mib(flags: &Flags<'_>) -> Result<u64, CliError> {
    let wanted = flags.number("shared_memory_size_mb")?;
    Ok(wanted.next_multiple_of(GRANULE_MIB).max(MEMORY_MIN_MIB))
}

fn log_level(flags: &Flags<'_>) -> Result<String, CliError> {
    let level = match (flags.number("minloglevel")?, flags.number("v")?) {
        (0, 0) => "info",
        (0, 1) => "debug",
        (0, _) => "trace",
        (1, _) => "warn",
        _ => "error",
    };
    Ok(level.to_owned())
}

fn credentials(flags: &Flags<'_>) -> Result<Vec<Credential>, CliError> {
    let mut all = Vec::new();
    for who in ["system", "tenant"] {
        let access_key = flags.text(&format!("{who}_access_key")).to_owned();
        let secret_key = flags.text(&format!("{who}_secret_key")).to_owned();
        match (access_key.is_empty(), secret_key.is_empty()) {
            (true, true) => {},
            (false, false) => all.push(Credential {
                access_key,
                secret_key,
            }),
            _ => {
                let text = format!("{who}_access_key and {who}_secret_key come together");
                return Err(CliError::Refused(text));
            },
        }
    }
    Ok(all)
}

/// Default paths lie under `home`; others stay, absolute or relative to the working directory.
fn at_home(path: &str, home: &Path) -> PathBuf {
    let path = match Path::new(path).strip_prefix(DEFAULT_HOME) {
        Ok(inside) => home.join(inside),
        Err(_elsewhere) => PathBuf::from(path),
    };
    std::path::absolute(&path).unwrap_or(path)
}

/// Looks values up: what was given last, else the default of 0.1.6, else nothing.
struct Flags<'a>(&'a Given);

impl Flags<'_> {
    fn given(&self, name: &str) -> Option<&str> {
        let default = FLAGS_0_1_6.iter().find(|flag| flag.name == name);
        let value = self.0.iter().rev().find(|(given, _)| given == name);
        let value = value.map(|(_, value)| value.as_str());
        value.filter(|&value| default.and_then(|flag| flag.default) != Some(value))
    }

    fn text(&self, name: &str) -> &str {
        let flag = flags::find(name).expect("flags that are read are in the table");
        assert!(
            matches!(flag.effect, Effect::Setting(_)),
            "a flag that is read has an effect: {name}"
        );
        let last = self.0.iter().rev().find(|(given, _)| given == name);
        let value = last.map(|(_, value)| value.as_str());
        value.or(flag.default).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Result<u64, CliError> {
        let text = self.text(name);
        text.parse()
            .map_err(|_not_one| CliError::Refused(format!("{name} {text} is not a number")))
    }

    fn switch(&self, name: &str) -> Result<bool, CliError> {
        match self.text(name) {
            "true" | "True" | "1" => Ok(true),
            "false" | "False" | "0" | "" => Ok(false),
            other => {
                let text = format!("{name} {other} is neither true nor false");
                Err(CliError::Refused(text))
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Target;

    /// Every target is read somewhere above; the compiler asks when one is added.
    fn names_of(target: Target) -> &'static [&'static str] {
        match target {
            Target::Listen => &["worker_address"],
            Target::Bind => &["bind_address"],
            Target::Etcd => &["etcd_address"],
            Target::Cluster => &["cluster_name", "etcd_table_prefix", "az_name"],
            Target::Metastore => &["metastore_address", "start_metastore_service"],
            Target::Memory => &["shared_memory_size_mb"],
            Target::Sessions => &["max_client_num"],
            Target::HugePages => &["enable_huge_tlb"],
            Target::SocketDir => &["unix_domain_socket_dir"],
            Target::Key => &[
                "system_access_key",
                "system_secret_key",
                "tenant_access_key",
                "tenant_secret_key",
            ],
            Target::LogDir => &["log_dir"],
            Target::LogName => &["log_filename"],
            Target::LogLevel => &["minloglevel", "v"],
            Target::Health => &["health_check_path"],
            Target::Ready => &["ready_check_path"],
            Target::Spill => &["spill_directory", "spill_size_limit"],
        }
    }

    fn given(line: &str) -> Given {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words
            .chunks(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect()
    }

    fn planned(line: &str) -> Result<Plan, String> {
        plan(&given(line), Path::new("/base"), false).map_err(|error| error.to_string())
    }

    fn option<'a>(plan: &'a Plan, name: &str) -> Option<&'a str> {
        let at = plan.arguments.iter().position(|word| word == name)?;
        plan.arguments.get(at + 1).map(String::as_str)
    }

    #[test]
    fn the_line_of_the_quick_start_is_mapped() {
        let plan = planned("worker_address 127.0.0.1:31501 etcd_address 127.0.0.1:2379").unwrap();
        for (name, value) in [
            ("--listen", "127.0.0.1:31501"),
            ("--admin", "127.0.0.1:31580"),
            ("--memory", "1024MiB"),
            ("--max-sessions", "200"),
            ("--etcd", "http://127.0.0.1:2379"),
            ("--ready-file", "/base/probe/ready"),
            ("--health-file", "/base/probe/healthy"),
            ("--log", "info"),
        ] {
            assert_eq!(option(&plan, name), Some(value), "{name}");
        }
        assert_eq!(option(&plan, "--socket"), None, "the daemon derives it");
        assert_eq!(plan.log_dir, Path::new("/base/logs"));
        assert!(plan.idle.is_empty() && plan.unknown.is_empty());
    }

    #[test]
    fn all_settings_have_their_flags_in_the_table_and_the_reverse() {
        for flag in FLAGS_0_1_6.iter().chain(flags::FLAGS_LATER) {
            if let Effect::Setting(target) = flag.effect {
                assert!(names_of(target).contains(&flag.name), "{}", flag.name);
            }
        }
    }

    #[test]
    fn arguments_are_those_of_the_daemon() {
        let plan = planned(
            "worker_address 0.0.0.0:4000 start_metastore_service true enable_huge_tlb true \
             unix_domain_socket_dir /tmp/uds shared_memory_size_mb 100 minloglevel 1",
        )
        .unwrap();
        for word in plan
            .arguments
            .iter()
            .filter_map(|word| word.strip_prefix("--"))
        {
            assert!(chariotd::settings::find(word).is_some(), "{word}");
        }
        assert_eq!(option(&plan, "--memory"), Some("128MiB"));
        assert_eq!(
            option(&plan, "--socket"),
            Some("/tmp/uds/chariot-4000.sock")
        );
        assert!(
            plan.arguments
                .iter()
                .any(|word| word == "--insecure-listen")
        );
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        let base = "worker_address 127.0.0.1:1 start_metastore_service true";
        for (more, word) in [
            ("l2_cache_type obs", "l2_cache_type=obs cannot be kept"),
            ("enable_curve_zmq true", "enable_curve_zmq=true"),
            ("etcd_address a:1", "Only one coordination backend"),
            ("max_client_num many", "max_client_num many is not a number"),
            ("enable_huge_tlb perhaps", "neither true nor false"),
            ("system_access_key a", "come together"),
            ("worker_address here", "worker_address here is not IP:port"),
        ] {
            let said = planned(&format!("{base} {more}")).unwrap_err();
            assert!(said.contains(word), "{more}: {said}");
        }
        let said = planned("worker_address 127.0.0.1:1").unwrap_err();
        assert!(said.contains("must be specified"), "{said}");
    }

    #[test]
    fn flags_without_effect_and_unknown_ones_are_named() {
        let line = "worker_address 127.0.0.1:1 start_metastore_service true rpc_thread_num 64 \
                    oc_thread_num 32 no_such_flag 1";
        let plan = planned(line).unwrap();
        assert_eq!(plan.idle, ["rpc_thread_num"], "a default asks for nothing");
        assert_eq!(plan.unknown, ["no_such_flag"]);
        let strict = super::plan(&given(line), Path::new("/base"), true);
        assert!(strict.unwrap_err().to_string().contains("no_such_flag"));
    }

    /// The start lines of programs that exist, word for word but for addresses.
    #[test]
    fn start_lines_of_real_programs_are_taken() {
        for line in [
            "--worker_address 127.0.0.1:18481 --etcd_address 127.0.0.1:2379 \
             --shared_memory_size_mb 40960 --arena_per_tenant 1 --enable_huge_tlb true \
             --enable_fallocate false --rpc_thread_num 64 --oc_thread_num 64 \
             --enable_worker_worker_batch_get true --sc_regular_socket_num 0 \
             --sc_stream_socket_num 0 --log_dir /tmp/log --remote_h2d_device_ids 0,1",
            "--worker_address 127.0.0.1:31501 --metastore_address 127.0.0.1:2379 \
             --start_metastore_service true --arena_per_tenant 1 \
             --enable_worker_worker_batch_get true --shared_memory_size_mb 8192 \
             --remote_h2d_device_ids 0 --enable_huge_tlb true --enable_rdma true",
            "--worker_address 127.0.0.1:31501 --etcd_address 127.0.0.1:2379 \
             --shared_memory_size_mb 512000 --node_timeout_s 30 --node_dead_timeout_s 60",
        ] {
            let bare = line.replace("--", "");
            let plan = plan(&given(&bare), Path::new("/base"), true);
            assert!(plan.is_ok(), "{line}: {plan:?}");
        }
    }

    #[test]
    fn spilling_is_the_ssd_tier() {
        let base = "worker_address 127.0.0.1:1 start_metastore_service true";
        let limit = format!("{base} spill_directory ./chariotds/spill spill_size_limit 1073741824");
        let plan = planned(&limit).unwrap();
        assert_eq!(option(&plan, "--ssd"), Some("/base/spill"));
        assert_eq!(option(&plan, "--ssd-size"), Some("1073741824"));
        assert_eq!(plan.spill_dir.as_deref(), Some(Path::new("/base/spill")));
        for name in ["ssd", "ssd-size"] {
            assert!(chariotd::settings::find(name).is_some(), "{name}");
        }
        let rest = planned(&format!("{base} spill_directory /tmp/spill")).unwrap();
        let bytes: u64 = option(&rest, "--ssd-size").unwrap().parse().unwrap();
        assert!(bytes > 0, "some of the disk is free");
        let none = planned(&format!("{base} spill_size_limit 5")).unwrap();
        assert_eq!(option(&none, "--ssd"), None);
    }

    #[test]
    fn a_worker_bound_elsewhere_registers_the_address_it_is_called_by() {
        let line = "worker_address 10.1.2.3:4000 bind_address 0.0.0.0:4000 etcd_address e:2379";
        let plan = planned(line).unwrap();
        assert_eq!(option(&plan, "--listen"), Some("0.0.0.0:4000"));
        assert_eq!(option(&plan, "--advertise"), Some("10.1.2.3:4000"));
    }

    #[test]
    fn keys_become_credentials() {
        let plan = planned(
            "worker_address 127.0.0.1:1 start_metastore_service true \
             system_access_key ak system_secret_key sk",
        )
        .unwrap();
        assert_eq!(plan.credentials.len(), 1);
        assert!(
            !plan.arguments.iter().any(|word| word.contains("sk")),
            "secrets stay out of /proc"
        );
    }
}
