//! What the machine is: read from `/proc` and `/sys`, and one `io_uring` set up for a moment.
//!
//! Every file is read below a root, so that tests lay out a machine in a directory. What cannot be
//! read takes the value that does not refuse a start: the start itself will say.

use std::path::{Path, PathBuf};

use chariot_shard::{KernelCapabilities, ProbeError};

/// Bit of `CAP_IPC_LOCK` in a capability mask.
const CAP_IPC_LOCK: u32 = 14;

/// The facts.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Release as the kernel spells it.
    pub kernel_release: String,
    /// Major and minor version.
    pub kernel: Option<(u32, u32)>,
    /// What `io_uring` offers, or why it does not start.
    pub io_uring: Result<String, ProbeError>,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Soft limit of locked memory; `None` is unlimited.
    pub memlock: Option<u64>,
    /// True when the limit does not bind this process.
    pub may_lock: bool,
    /// Soft limit of open files.
    pub open_files: u64,
    /// Bytes available on the machine.
    pub memory_available: u64,
    /// Bytes left below the tightest cgroup limit above this process.
    pub cgroup_available: Option<u64>,
    /// `vm.overcommit_memory`.
    pub overcommit: u32,
    /// Free reserved huge pages.
    pub hugepages_free: u64,
    /// Size of one.
    pub hugepage_bytes: u64,
    /// Mode of transparent huge pages for shared memory.
    pub shmem_huge: String,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Cores this process may run on.
    pub affinity: Vec<usize>,
    /// CPUs that the cgroup grants.
    pub cpu_quota: Option<f64>,
    /// NUMA nodes with their cores.
    pub numa_nodes: Vec<(usize, Vec<usize>)>,
    /// Depth of the pid namespace as far as it can be seen; 1 is the outermost.
    pub pid_namespace_depth: usize,
}

/// Reads files below a root.
struct Reader<'a> {
    root: &'a Path,
}

impl Reader<'_> {
    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The rest of the line that begins with `key`.
    fn line(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path)?;
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|rest| rest.trim().to_owned())
    }

    /// A line of `/proc/meminfo` in bytes.
    fn memory(&self, key: &str) -> Option<u64> {
        let text = self.line("proc/meminfo", key)?;
        Some(text.trim_end_matches("kB").trim().parse::<u64>().ok()? * 1_024)
    }

    /// Soft limit; `None` is unlimited.
    fn limit(&self, name: &str) -> Option<u64> {
        let text = self.line("proc/self/limits", name)?;
        text.split_ascii_whitespace().next()?.parse().ok()
    }
}

impl Facts {
    /// Reads the machine at `root` (`/`); `io_uring` is the outcome of a probe.
    pub fn read(root: &Path, io_uring: Result<String, ProbeError>) -> Self {
        let reader = Reader { root };
        let status = |key: &str| reader.line("proc/self/status", key);
        let kernel_release = reader
            .text("proc/sys/kernel/osrelease")
            .unwrap_or_else(|| "unknown".to_owned());
        let number = |path: &str| {
            reader
                .number(path)
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(0)
        };
        let capabilities = status("CapEff:")
            .and_then(|text| u64::from_str_radix(&text, 16).ok())
            .unwrap_or(0);
        Facts {
            kernel: parse_kernel(&kernel_release),
            kernel_release,
            io_uring,
            seccomp: status("Seccomp:")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            memlock: reader.limit("Max locked memory"),
            may_lock: (capabilities >> CAP_IPC_LOCK) & 1 == 1,
            open_files: reader.limit("Max open files").unwrap_or(u64::MAX),
            memory_available: reader.memory("MemAvailable:").unwrap_or(u64::MAX),
            cgroup_available: cgroup_available(&reader),
            overcommit: number("proc/sys/vm/overcommit_memory"),
            hugepages_free: reader
                .line("proc/meminfo", "HugePages_Free:")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            hugepage_bytes: reader.memory("Hugepagesize:").unwrap_or(2 << 20),
            shmem_huge: reader
                .text("sys/kernel/mm/transparent_hugepage/shmem_enabled")
                .and_then(|text| {
                    let (_, rest) = text.split_once('[')?;
                    Some(rest.split_once(']')?.0.to_owned())
                })
                .unwrap_or_else(|| "not in this kernel".to_owned()),
            page_bytes: page_bytes(&reader),
            affinity: status("Cpus_allowed_list:")
                .map(|text| cpu_list(&text))
                .unwrap_or_default(),
            cpu_quota: cpu_quota(&reader),
            numa_nodes: numa_nodes(&reader),
            pid_namespace_depth: status("NSpid:")
                .map_or(1, |text| text.split_ascii_whitespace().count()),
        }
    }
}

/// Effective user id of this process, from the owner of its `/proc` directory's status.
///
/// # Errors
/// `/proc` is not mounted.
pub fn effective_uid() -> std::io::Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved, file system.
    uid.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| std::io::Error::other("no Uid line in /proc/self/status"))
}

/// Cores this process may run on, ascending; empty when `/proc` does not tell.
pub fn affinity() -> Vec<usize> {
    let reader = Reader {
        root: Path::new("/"),
    };
    let list = reader.line("proc/self/status", "Cpus_allowed_list:");
    list.map(|text| cpu_list(&text)).unwrap_or_default()
}

/// Asks the shard room what this kernel lets it do; makes and drops one ring.
///
/// # Errors
/// The first thing that is missing, with its remedy.
pub fn probe_io_uring() -> Result<String, ProbeError> {
    let found = KernelCapabilities::probe()?;
    let sends = if found.send_zero_copy {
        "with"
    } else {
        "without"
    };
    Ok(format!(
        "{:?} mode, {sends} zero-copy send",
        found.ring_mode
    ))
}

fn parse_kernel(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A kernel CPU list (`0-3,8`); parts that are none are skipped.
fn cpu_list(text: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>())
        {
            cores.extend(first..=last.min(first.saturating_add(8_191)));
        }
    }
    cores
}

/// Page size, from the smaps of the first mapping; 4 KiB when it does not tell.
fn page_bytes(reader: &Reader<'_>) -> u64 {
    let kib = reader.line("proc/self/smaps", "KernelPageSize:");
    kib.and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(4_096, |kib| kib * 1_024)
}

fn numa_nodes(reader: &Reader<'_>) -> Vec<(usize, Vec<usize>)> {
    let online = reader
        .text("sys/devices/system/node/online")
        .unwrap_or_default();
    let nodes = cpu_list(&online).into_iter().map(|node| {
        let list = reader.text(&format!("sys/devices/system/node/node{node}/cpulist"));
        (node, list.map(|text| cpu_list(&text)).unwrap_or_default())
    });
    nodes.collect()
}

/// Directories of this process's cgroup for a controller, innermost first, below the root.
///
/// Version 2 has one line with an empty controller list; version 1 a line for each controller. In a
/// container the path may be that of the host; the mount's own top is always tried last.
fn cgroup_directories(reader: &Reader<'_>, controller: &str) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for line in reader.text("proc/self/cgroup").unwrap_or_default().lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let mount = match controllers {
            "" => PathBuf::from("sys/fs/cgroup"),
            list if list.split(',').any(|name| name == controller) => {
                Path::new("sys/fs/cgroup").join(controllers)
            },
            _ => continue,
        };
        let mut path = Path::new(path.trim_start_matches('/'));
        loop {
            directories.push(mount.join(path));
            match path.parent() {
                Some(parent) if !path.as_os_str().is_empty() => path = parent,
                _ => break,
            }
        }
    }
    directories
}

/// The least room below any memory limit from this process's cgroup up. Page cache that can be
/// dropped counts as room.
fn cgroup_available(reader: &Reader<'_>) -> Option<u64> {
    let room = |directory: PathBuf| {
        let read = |name: &str| reader.number(directory.join(name).to_str()?);
        // The first pair of names is version 2, the second version 1.
        let limit = read("memory.max").or_else(|| read("memory.limit_in_bytes"))?;
        let used = read("memory.current")
            .or_else(|| read("memory.usage_in_bytes"))
            .unwrap_or(0);
        let statistics = directory.join("memory.stat");
        let inactive = reader
            .line(statistics.to_str()?, "inactive_file ")
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0);
        // Version 1 writes "no limit" as a number close to 2^63.
        (limit < 1 << 60).then(|| limit.saturating_sub(used.saturating_sub(inactive)))
    };
    cgroup_directories(reader, "memory")
        .into_iter()
        .filter_map(room)
        .min()
}

/// CPUs granted by the tightest quota from this process's cgroup up.
fn cpu_quota(reader: &Reader<'_>) -> Option<f64> {
    let quota = |directory: PathBuf| {
        let text = |name: &str| reader.text(directory.join(name).to_str()?);
        let (quota, period) = match text("cpu.max") {
            Some(text) => {
                let (quota, period) = text.split_once(' ')?;
                (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?)
            },
            None => (
                text("cpu.cfs_quota_us")?.parse::<f64>().ok()?,
                text("cpu.cfs_period_us")?.parse::<f64>().ok()?,
            ),
        };
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    };
    cgroup_directories(reader, "cpu")
        .into_iter()
        .filter_map(quota)
        .min_by(f64::total_cmp)
}
