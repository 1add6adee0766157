//! Settings, read once from the environment: the only door that a shared library has.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crate::link::Preset;
use crate::numa::Numa;

/// Most cards of one host.
pub(crate) const DEVICES_MAX: usize = 80;

/// What happens to memory that is registered with the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// Page-locked, read-only pages too.
    Full,
    /// Page-locked when writable; read-only pages are refused.
    Writable,
    /// Recorded without effect, as drivers without support do: still pageable.
    Record,
    /// Refused: 207000.
    Refuse,
}

/// How this process's simulator behaves. Every field has a variable `ASCEND_SIM_<NAME>`.
#[derive(Debug)]
pub(crate) struct Config {
    /// `DIR`: what processes of one host share. Default `/dev/shm/ascend-sim-<uid>`.
    pub(crate) dir: PathBuf,
    /// `DEVICES`: cards, 1 to 80, default 8.
    pub(crate) devices: u32,
    /// `HBM_BYTES` of each card, default 64 GiB.
    pub(crate) hbm_bytes: u64,
    /// `PINNED_BYTES`: most page-locked host memory of the process, default 1 TiB.
    pub(crate) pinned_bytes: u64,
    /// `PRESET` of the link model: `a3` (default), `a2`, `h200pcie`, `instant`.
    pub(crate) preset: &'static Preset,
    /// `CLOCK`: `real` (default) or `virtual`.
    pub(crate) real: bool,
    /// `SCALE`: how many times slower than the preset, default 1.
    pub(crate) scale: u64,
    /// `PEER_SLOWER`: how many times slower than the preset bytes move between cards, default 1:
    /// objects that are shorter by the same factor take the time of whole ones.
    pub(crate) peer_slower: u64,
    /// `SCHEDULE`: `eager` (default), or `late`: tasks wait until somebody waits for them.
    pub(crate) late: bool,
    /// `JITTER_US`: longest random delay before a task under `eager`, default 20.
    pub(crate) jitter_us: u64,
    /// `SEED` of the delays, default 1.
    pub(crate) seed: u64,
    /// `PAGEABLE`: `modern` (default) or `legacy`, as drivers that cannot tell pageable memory.
    pub(crate) legacy: bool,
    /// `STRICT=1`: a new communicator must have completed an operation before the next one.
    pub(crate) strict: bool,
    /// `REGISTER`: `full` (default), `writable`, `record`, `refuse`.
    pub(crate) register: Register,
    /// `NUMA`: how nodes of host memory are known: `kernel`, or the CPUs of each node
    /// (`0-1/2-3`). Unset: there is one.
    pub(crate) numa: Numa,
    /// `CARD_NODES`: the node of each card (`0,0,1`), of further cards the last. Default 0.
    pub(crate) card_nodes: Vec<u32>,
    /// `FAULTS`: see [`crate::fault`].
    pub(crate) faults: String,
    /// `FAULTS_FILE`: more of them, taken whenever there is such a file.
    pub(crate) faults_file: Option<PathBuf>,
    /// `REPORT`: where the audit at finalise or exit goes.
    pub(crate) report: Option<PathBuf>,
    /// `CONNECT_TIMEOUT_MS`, default 120 s; `HCCL_CONNECT_TIMEOUT` in seconds.
    pub(crate) connect_timeout: Duration,
    /// `EXEC_TIMEOUT_MS`, default 1836 s; `HCCL_EXEC_TIMEOUT` in seconds.
    pub(crate) exec_timeout: Duration,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    let value = variable(name)?;
    let Ok(number) = value.parse() else {
        crate::log(&format!("{name}={value} is no number, ignored"));
        return None;
    };
    Some(number)
}

fn timeout(own: &str, vendor: &str, default_s: u64) -> Duration {
    let own = number(own).map(Duration::from_millis);
    let vendor = || number(vendor).map(Duration::from_secs);
    own.or_else(vendor)
        .unwrap_or(Duration::from_secs(default_s))
}

/// Is `ASCEND_SIM_<name>` set to `value`?
fn is(name: &str, value: &str) -> bool {
    variable(name).as_deref() == Some(value)
}

fn numa() -> Numa {
    let Some(value) = variable("ASCEND_SIM_NUMA") else {
        return Numa::One;
    };
    Numa::parse(&value).unwrap_or_else(|| {
        crate::log(&format!("ASCEND_SIM_NUMA={value} is no list, ignored"));
        Numa::One
    })
}

fn card_nodes() -> Vec<u32> {
    let value = variable("ASCEND_SIM_CARD_NODES").unwrap_or_default();
    let nodes = value.split(',').filter(|node| !node.is_empty());
    nodes.filter_map(|node| node.parse().ok()).collect()
}

/// The settings of this process.
pub(crate) fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        // SAFETY: getuid has no conditions and cannot fail.
        let user = unsafe { libc::getuid() };
        let dir = variable("ASCEND_SIM_DIR").map_or_else(
            || PathBuf::from(format!("/dev/shm/ascend-sim-{user}")),
            PathBuf::from,
        );
        let register = match variable("ASCEND_SIM_REGISTER").as_deref() {
            Some("writable") => Register::Writable,
            Some("record") => Register::Record,
            Some("refuse") => Register::Refuse,
            _ => Register::Full,
        };
        let devices = number("ASCEND_SIM_DEVICES")
            .unwrap_or(8)
            .clamp(1, DEVICES_MAX as u64);
        Config {
            dir,
            devices: devices as u32,
            hbm_bytes: number("ASCEND_SIM_HBM_BYTES")
                .unwrap_or(64 << 30)
                .min(64 << 30),
            pinned_bytes: number("ASCEND_SIM_PINNED_BYTES").unwrap_or(1 << 40),
            preset: Preset::named(variable("ASCEND_SIM_PRESET").as_deref().unwrap_or("a3")),
            real: !is("ASCEND_SIM_CLOCK", "virtual"),
            scale: number("ASCEND_SIM_SCALE").unwrap_or(1).max(1),
            peer_slower: number("ASCEND_SIM_PEER_SLOWER").unwrap_or(1).max(1),
            late: is("ASCEND_SIM_SCHEDULE", "late"),
            jitter_us: number("ASCEND_SIM_JITTER_US").unwrap_or(20),
            seed: number("ASCEND_SIM_SEED").unwrap_or(1),
            legacy: is("ASCEND_SIM_PAGEABLE", "legacy"),
            strict: is("ASCEND_SIM_STRICT", "1"),
            register,
            numa: numa(),
            card_nodes: card_nodes(),
            faults: variable("ASCEND_SIM_FAULTS").unwrap_or_default(),
            faults_file: variable("ASCEND_SIM_FAULTS_FILE").map(PathBuf::from),
            report: variable("ASCEND_SIM_REPORT").map(PathBuf::from),
            connect_timeout: timeout("ASCEND_SIM_CONNECT_TIMEOUT_MS", "HCCL_CONNECT_TIMEOUT", 120),
            exec_timeout: timeout("ASCEND_SIM_EXEC_TIMEOUT_MS", "HCCL_EXEC_TIMEOUT", 1836),
        }
    })
}
