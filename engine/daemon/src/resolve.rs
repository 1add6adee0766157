//! Text to typed settings: the only validation.
//!
//! Everything that can be judged without starting anything is judged here, so that
//! `--check-config` and a start refuse the same things with the same words. What depends on the
//! machine (cores, memory, kernel) is the business of `doctor.rs`.

mod ssd;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr as _;

use chariot_base::limits::{GRANULE_BYTES, SHARDS_MAX};
use chariot_base::units::{format_bytes, parse_bytes};

use crate::credentials;
use crate::seam::{
    AccessRules, Credential, EvictionPolicy, NodeOptions, ShardPlacement, SpinBudget,
    session_memory_default,
};
use crate::settings::document::InForce;
use crate::settings::value::{
    format_list, parse_address, parse_cluster, parse_cores, parse_endpoints, parse_ids,
    parse_number, parse_spin, parse_switch,
};
use crate::settings::{Given, RawSettings, Refusal, SETTINGS, SettingsError, Source, find};

const MEMORY_MIN: u64 = 2 * GRANULE_BYTES;
const MEMORY_MAX: u64 = 16 << 40;
const METADATA_MIN: u64 = 1 << 20;
const METADATA_MAX: u64 = 1 << 40;
/// One session with 64 shards needs 34 MiB.
const SESSION_MEMORY_MIN: u64 = 64 << 20;

/// `sun_path` holds 108 bytes with its final zero; the lock file's suffix must fit a path too.
const SOCKET_PATH_MAX: usize = 100;

/// What the process finds around itself, taken once at the start and passed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Effective user id.
    pub uid: u32,
    /// Cores this process may run on, ascending.
    pub affinity: Vec<usize>,
    /// `$XDG_RUNTIME_DIR`, when set and absolute.
    pub runtime_dir: Option<PathBuf>,
}

/// What the command line asks the process to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the node.
    Serve,
    /// Print the settings in force.
    PrintConfig,
    /// Only check.
    CheckConfig,
    /// Check the machine.
    Doctor,
    /// Tell a running daemon to expel a session.
    Expel {
        /// Its number.
        session: u64,
        /// Whether to end its process as well.
        kill: bool,
    },
}

/// The cluster that the node belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// URLs, `http://host:port`.
    pub endpoints: Vec<String>,
    /// Its name.
    pub cluster: String,
    /// The address that the node registers: one that others reach.
    pub advertise: SocketAddr,
}

/// Validated settings.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What to do.
    pub action: Action,
    /// What the node needs.
    pub node: NodeOptions,
    /// Directory of the socket when it was derived, and so is ours to make with mode 0700.
    pub own_directory: Option<PathBuf>,
    /// Address of the admin endpoints.
    pub admin: SocketAddr,
    /// Where to register, if anywhere.
    pub membership: Option<Etcd>,
    /// Probe files: health and ready.
    pub probes: (Option<PathBuf>, Option<PathBuf>),
    /// Log level.
    pub log: tracing_subscriber::filter::LevelFilter,
    /// True when clients beyond this host can reach a port that asks for no proof.
    pub open_to_network: bool,
    /// True when the loopback port asks for no proof.
    pub open_on_loopback: bool,
    /// Every setting with its value and source, in the order of the table.
    pub in_force: Vec<InForce>,
}

/// Reads values out of the collected text and keeps what was understood.
struct Reader<'a> {
    raw: &'a RawSettings,
    in_force: Vec<InForce>,
}

impl Reader<'_> {
    fn given(&self, name: &'static str) -> Given {
        self.raw.get(name).cloned().unwrap_or_else(|| Given {
            text: find(name)
                .expect("read settings are declared")
                .default
                .to_owned(),
            source: Source::Default,
        })
    }

    /// Parses a setting and writes it back in its canonical form. Empty text is "unset".
    fn read<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        format: impl FnOnce(&T) -> String,
    ) -> Result<Option<T>, SettingsError> {
        let given = self.given(name);
        let setting = find(name).expect("read settings are declared");
        if given.text.is_empty() && given.source == Source::Default {
            self.keep(name, None);
            return Ok(None);
        }
        let value = parse(&given.text)
            .map_err(|cause| SettingsError::out_of_range(setting, &given, cause))?;
        self.keep(name, Some(format(&value)));
        Ok(Some(value))
    }

    /// As `read`, for settings with a default.
    fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        format: impl FnOnce(&T) -> String,
    ) -> Result<T, SettingsError> {
        let value = self.read(name, parse, format)?;
        Ok(value.expect("a setting with a default always has a value"))
    }

    fn switch(&mut self, name: &'static str) -> Result<bool, SettingsError> {
        self.required(name, parse_switch, ToString::to_string)
    }

    fn keep(&mut self, name: &'static str, text: Option<String>) {
        let setting = find(name).expect("kept settings are declared");
        let source = self.given(name).source;
        self.in_force.retain(|held| held.setting.name != name);
        self.in_force.push(InForce {
            setting,
            text,
            source,
        });
    }

    /// A refusal that the range of one setting alone does not explain.
    fn refuse(&self, name: &'static str, cause: String, remedy: String) -> SettingsError {
        let Given { text, source } = self.given(name);
        Refusal::Value {
            name,
            text,
            given_by: source,
            cause,
            remedy,
        }
        .into()
    }
}

/// Validates everything that was given.
///
/// # Errors
/// The first refused setting.
///
/// # Panics
/// When a declared setting is not read here: a mistake in this program.
pub fn resolve(raw: &RawSettings, surroundings: &Surroundings) -> Result<Resolved, SettingsError> {
    let mut reader = Reader {
        raw,
        in_force: Vec::new(),
    };
    let action = resolve_action(&mut reader)?;
    let shards = resolve_shards(&mut reader, surroundings)?;
    let (memory_bytes, metadata_bytes) = resolve_memory(&mut reader, shards.len())?;
    let hugepages = reader.switch("hugepages")?;
    let spin = reader.required("spin-us", parse_spin, format_spin)?;
    let eviction = reader.required("eviction", parse_eviction, |policy| {
        String::from(if *policy == EvictionPolicy::Lru {
            "lru"
        } else {
            "s3fifo"
        })
    })?;
    let sessions_max = reader.required(
        "max-sessions",
        |text| parse_number(text, 1..=1_024),
        ToString::to_string,
    )?;
    let sessions_max = u16::try_from(sessions_max).expect("at most 1,024");
    let session_memory_bytes = resolve_session_memory(&mut reader, shards.len(), sessions_max)?;
    let ssd = ssd::resolve(&mut reader, shards.len())?;
    let access = resolve_access(&mut reader, surroundings.uid)?;
    let listen = resolve_listen(&mut reader, &access)?;
    let (socket, own_directory) = resolve_socket(&mut reader, listen, surroundings)?;
    let admin = reader.required("admin", parse_address, ToString::to_string)?;
    if admin == listen {
        let cause = "is the address of --listen too".to_owned();
        return Err(reader.refuse("admin", cause, "give another port".to_owned()));
    }
    let membership = resolve_membership(&mut reader, listen)?;
    let probes = resolve_probes(&mut reader)?;
    let log = reader.required("log", parse_level, ToString::to_string)?;
    reader.read("config", parse_path, |path| path.display().to_string())?;
    let open = !access.auth_required();
    let mut in_force = reader.in_force;
    in_force.sort_by_key(|held| SETTINGS.iter().position(|s| s.name == held.setting.name));
    assert_eq!(
        in_force.len(),
        SETTINGS.len(),
        "every declared setting is read"
    );
    Ok(Resolved {
        action,
        node: NodeOptions {
            shards,
            memory_bytes,
            metadata_bytes,
            hugepages,
            spin,
            listen,
            socket,
            eviction,
            sessions_max,
            session_memory_bytes,
            access,
            ssd,
        },
        own_directory,
        admin,
        membership,
        probes,
        log,
        open_to_network: open && !listen.ip().is_loopback(),
        open_on_loopback: open && listen.ip().is_loopback(),
        in_force,
    })
}

fn resolve_membership(
    reader: &mut Reader<'_>,
    listen: SocketAddr,
) -> Result<Option<Etcd>, SettingsError> {
    let endpoints = reader.read("etcd", parse_endpoints, |urls| format_list(urls))?;
    let cluster = reader.required("cluster", parse_cluster, Clone::clone)?;
    let advertise = reader.read("advertise", parse_nonzero, ToString::to_string)?;
    let Some(endpoints) = endpoints else {
        return Ok(None);
    };
    // What a node is called by has to mean the same node on every host.
    let alone = endpoints.iter().all(|url| is_on_this_host(url));
    let (setting, shown) = advertise.map_or(("listen", listen), |shown| ("advertise", shown));
    let cause = match shown.ip() {
        ip if ip.is_unspecified() => "is no address that others could call",
        ip if ip.is_loopback() && !alone => "means another node on every host, and etcd is beyond",
        _ => {
            return Ok(Some(Etcd {
                endpoints,
                cluster,
                advertise: shown,
            }));
        },
    };
    let remedy = "give --advertise IP:port, as others reach this node".to_owned();
    Err(reader.refuse(setting, cause.to_owned(), remedy))
}

/// Says whether a URL of etcd, as the parser gives it, names this host by a loopback address.
fn is_on_this_host(url: &str) -> bool {
    let place = url.strip_prefix("http://").unwrap_or(url);
    let host = place.rsplit_once(':').map_or(place, |(host, _port)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = |ip: std::net::IpAddr| ip.is_loopback();
    host == "localhost" || bare.parse().is_ok_and(loopback)
}

fn resolve_probes(
    reader: &mut Reader<'_>,
) -> Result<(Option<PathBuf>, Option<PathBuf>), SettingsError> {
    let format = |path: &PathBuf| path.display().to_string();
    let health = reader.read("health-file", parse_path, format)?;
    let ready = reader.read("ready-file", parse_path, format)?;
    if health.is_some() && health == ready {
        let cause = "is the file of --health-file too".to_owned();
        return Err(reader.refuse("ready-file", cause, "give another path".to_owned()));
    }
    Ok((health, ready))
}

fn resolve_action(reader: &mut Reader<'_>) -> Result<Action, SettingsError> {
    let print = reader.switch("print-config")?;
    let check = reader.switch("check-config")?;
    let doctor = reader.switch("doctor")?;
    let expel = reader.read(
        "expel",
        |text| parse_number(text, 1..=u64::MAX),
        ToString::to_string,
    )?;
    let kill = reader.switch("kill")?;
    if kill && expel.is_none() {
        return Err(Refusal::FlagForm {
            flag: "--kill".to_owned(),
            cause: "is given without --expel",
            remedy: "say whose process, with --expel ID".to_owned(),
        }
        .into());
    }
    match (print, check, doctor, expel) {
        (false, false, false, None) => Ok(Action::Serve),
        (true, false, false, None) => Ok(Action::PrintConfig),
        (false, true, false, None) => Ok(Action::CheckConfig),
        (false, false, true, None) => Ok(Action::Doctor),
        (false, false, false, Some(session)) => Ok(Action::Expel { session, kill }),
        _ => Err(Refusal::FlagForm {
            flag: "--print-config, --check-config, --doctor, --expel".to_owned(),
            cause: "more than one of them is given",
            remedy: "give one".to_owned(),
        }
        .into()),
    }
}

fn resolve_shards(
    reader: &mut Reader<'_>,
    surroundings: &Surroundings,
) -> Result<Vec<ShardPlacement>, SettingsError> {
    let automatic = || {
        surroundings.affinity.first().map_or_else(
            || Err("the cores of this process are unknown".to_owned()),
            |core| Ok(vec![*core]),
        )
    };
    let cores = reader.required(
        "cores",
        |text| {
            if text == "auto" {
                automatic()
            } else {
                parse_cores(text)
            }
        },
        |cores| format_list(cores),
    )?;
    let per_core = reader.required(
        "shards-per-core",
        |text| parse_number(text, 1..=SHARDS_MAX as u64),
        ToString::to_string,
    )?;
    let per_core = usize::try_from(per_core).expect("at most 64");
    let count = cores.len() * per_core;
    if count > SHARDS_MAX {
        let cause = format!(
            "{} cores with {per_core} shards each are {count} shards",
            cores.len()
        );
        let remedy = format!("keep the product at most {SHARDS_MAX}");
        return Err(reader.refuse("shards-per-core", cause, remedy));
    }
    // Neighbouring shards lie on different cores, so that a few keys spread over all cores.
    let placements = (0..count).map(|index| ShardPlacement {
        cpu: cores[index % cores.len()],
    });
    Ok(placements.collect())
}

fn resolve_memory(
    reader: &mut Reader<'_>,
    shard_count: usize,
) -> Result<(u64, u64), SettingsError> {
    let format = |bytes: &u64| format_bytes(*bytes);
    let memory = reader.required(
        "memory",
        |text| {
            within(text, MEMORY_MIN, MEMORY_MAX).map(|bytes| bytes / GRANULE_BYTES * GRANULE_BYTES)
        },
        format,
    )?;
    if memory / GRANULE_BYTES < shard_count as u64 {
        let needed = format_bytes(GRANULE_BYTES * shard_count as u64);
        let cause = format!("too little for {shard_count} shards, which take 64MiB at a time");
        return Err(reader.refuse("memory", cause, format!("give at least {needed}")));
    }
    let metadata = reader.read(
        "metadata-memory",
        |text| within(text, METADATA_MIN, METADATA_MAX),
        format,
    )?;
    let metadata = metadata.unwrap_or(memory / 16);
    reader.keep("metadata-memory", Some(format_bytes(metadata)));
    assert!(
        metadata >= METADATA_MIN,
        "a sixteenth of the least memory is enough"
    );
    Ok((memory, metadata))
}

fn resolve_session_memory(
    reader: &mut Reader<'_>,
    shard_count: usize,
    sessions_max: u16,
) -> Result<u64, SettingsError> {
    let given = reader.read(
        "session-memory",
        |text| within(text, SESSION_MEMORY_MIN, METADATA_MAX),
        |bytes| format_bytes(*bytes),
    )?;
    let shard_count = u16::try_from(shard_count).expect("at most 64 shards");
    let bytes = given.unwrap_or_else(|| session_memory_default(shard_count, sessions_max));
    reader.keep("session-memory", Some(format_bytes(bytes)));
    Ok(bytes)
}

/// Reads a size and holds it against its range.
fn within(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    match bytes {
        _ if bytes < min => Err(format!("less than {}", format_bytes(min))),
        _ if bytes > max => Err(format!("more than {}", format_bytes(max))),
        _ => Ok(bytes),
    }
}

fn resolve_access(reader: &mut Reader<'_>, uid: u32) -> Result<AccessRules, SettingsError> {
    let allow_uids = reader.read("allow-uid", parse_ids, |ids| format_list(ids))?;
    let allow_gids = reader.read("allow-gid", parse_ids, |ids| format_list(ids))?;
    let file = reader.read("auth", parse_path, |path| path.display().to_string())?;
    let credentials: Vec<Credential> = file
        .map(|file| credentials::load(&file, uid))
        .transpose()?
        .unwrap_or_default();
    Ok(AccessRules {
        own_uid: uid,
        allow_uids: allow_uids.unwrap_or_default(),
        allow_gids: allow_gids.unwrap_or_default(),
        credentials,
    })
}

fn resolve_listen(
    reader: &mut Reader<'_>,
    access: &AccessRules,
) -> Result<SocketAddr, SettingsError> {
    let listen = reader.required("listen", parse_nonzero, ToString::to_string)?;
    let insecure = reader.switch("insecure-listen")?;
    if !listen.ip().is_loopback() && !access.auth_required() && !insecure {
        let cause = "reaches beyond this host and nobody has to prove anything".to_owned();
        let remedy = "give --auth FILE, or --insecure-listen if that is meant".to_owned();
        return Err(reader.refuse("listen", cause, remedy));
    }
    Ok(listen)
}

fn resolve_socket(
    reader: &mut Reader<'_>,
    listen: SocketAddr,
    surroundings: &Surroundings,
) -> Result<(PathBuf, Option<PathBuf>), SettingsError> {
    let derived = || {
        let directory = match (&surroundings.runtime_dir, surroundings.uid) {
            (Some(directory), _) => directory.clone(),
            (None, 0) => PathBuf::from("/run/chariot"),
            (None, uid) => PathBuf::from(format!("/tmp/chariot-{uid}")),
        };
        (
            directory.join(format!("chariot-{}.sock", listen.port())),
            Some(directory),
        )
    };
    let given = reader.read("socket", parse_path, |path| path.display().to_string())?;
    let (path, directory) = given.map_or_else(derived, |path| (path, None));
    let text = path.display().to_string();
    if text.len() > SOCKET_PATH_MAX {
        let cause = format!("the path has {} bytes, the kernel takes few", text.len());
        let remedy = format!("give --socket a path of at most {SOCKET_PATH_MAX} bytes");
        return Err(reader.refuse("socket", cause, remedy));
    }
    reader.keep("socket", Some(text));
    Ok((path, directory))
}

fn parse_nonzero(text: &str) -> Result<SocketAddr, String> {
    match parse_address(text)? {
        address if address.port() == 0 => Err("port 0 gives clients no address".to_owned()),
        address => Ok(address),
    }
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match text {
        "" => Err("an empty path".to_owned()),
        _ if text.contains('\0') => Err("a path with a zero byte".to_owned()),
        _ if path.is_absolute() => Ok(path),
        // Relative paths are taken from the directory of the start, once.
        _ => std::path::absolute(&path).map_err(|error| error.to_string()),
    }
}

fn parse_eviction(text: &str) -> Result<EvictionPolicy, String> {
    match text {
        "lru" => Ok(EvictionPolicy::Lru),
        "s3fifo" => Ok(EvictionPolicy::S3Fifo),
        _ => Err("no such policy".to_owned()),
    }
}

fn parse_level(text: &str) -> Result<tracing_subscriber::filter::LevelFilter, String> {
    tracing_subscriber::filter::LevelFilter::from_str(text)
        .ok()
        .filter(|_| text.bytes().all(|b| b.is_ascii_lowercase()) && !text.is_empty())
        .ok_or_else(|| "no such level".to_owned())
}

fn format_spin(spin: &SpinBudget) -> String {
    match spin {
        SpinBudget::Auto => "auto".to_owned(),
        SpinBudget::Fixed(time) => time.as_micros().to_string(),
    }
}

#[cfg(test)]
mod tests;
