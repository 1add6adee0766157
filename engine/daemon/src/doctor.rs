//! Whether this machine can run these settings: `--doctor`, and the same checks before every start.
//!
//! Facts are gathered first ([`Facts`], from `/proc`, `/sys` and one probe of `io_uring`) and
//! judged second ([`examine`], pure), so that a test can describe any machine. A `fail` refuses a
//! start; a `warn` costs speed or comfort and is logged.

use std::fmt::Write as _;

use chariot_base::units::format_bytes;

use chariot_server::{SsdDevice, SsdExamination};

use crate::resolve::Resolved;
use crate::seam::StartError;

pub mod facts;

pub use facts::Facts;

/// Oldest kernel that starts (5.15), and oldest that is fully supported (6.6).
const KERNEL_MIN: (u32, u32) = (5, 15);
const KERNEL_SUPPORTED: (u32, u32) = (6, 6);

/// Kernel with `SO_PEERPIDFD`, which tells of a client's death across pid namespaces.
const KERNEL_PEER_PIDFD: (u32, u32) = (6, 5);

/// Locked memory that a shard's rings may need on kernels that count it (below 5.12 they all did).
const MEMLOCK_PER_SHARD: u64 = 512 << 10;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, at a cost.
    Warn,
    /// A start is refused.
    Fail,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub check: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing.
    pub remedy: String,
}

/// All findings of one examination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the table.
    pub findings: Vec<Finding>,
}

impl Report {
    fn note(
        &mut self,
        check: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: &str,
    ) {
        let remedy = if verdict == Verdict::Ok { "" } else { remedy };
        assert!(
            verdict == Verdict::Ok || !remedy.is_empty(),
            "{check}: a remedy is owed"
        );
        self.findings.push(Finding {
            check,
            verdict,
            found: found.into(),
            remedy: remedy.to_owned(),
        });
    }

    /// The worst verdict; an empty report is fine.
    pub fn worst(&self) -> Verdict {
        self.findings
            .iter()
            .map(|finding| finding.verdict)
            .max()
            .unwrap_or(Verdict::Ok)
    }

    /// The findings of one verdict.
    pub fn of(&self, verdict: Verdict) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.verdict == verdict)
    }

    /// Renders the table for a terminal.
    pub fn table(&self) -> String {
        let width = self
            .findings
            .iter()
            .map(|finding| finding.check.len())
            .max()
            .unwrap_or(0);
        let mut table = String::new();
        for finding in &self.findings {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            let check = finding.check;
            writeln!(table, "{verdict}  {check:width$}  {}", finding.found)
                .expect("writing to a string does not fail");
            if !finding.remedy.is_empty() {
                writeln!(table, "      {:width$}  -> {}", "", finding.remedy)
                    .expect("writing to a string does not fail");
            }
        }
        table
    }
}

/// Judges the facts for these settings.
pub fn examine(facts: &Facts, settings: &Resolved) -> Report {
    let mut report = Report::default();
    check_kernel(&mut report, facts);
    check_io_uring(&mut report, facts);
    check_limits(&mut report, facts, settings);
    check_memory(&mut report, facts, settings);
    check_pages(&mut report, facts, settings);
    check_cores(&mut report, facts, settings);
    check_clients(&mut report, facts);
    report
}

/// Adds what the paths of the SSD tier are good for.
///
/// # Panics
/// When the settings name more than 64 shards, which resolving refuses.
pub fn add_ssd(report: &mut Report, settings: &Resolved) {
    let Some(options) = &settings.node.ssd else {
        return;
    };
    let shards = u16::try_from(settings.node.shards.len()).expect("at most 64 shards");
    judge_ssd(report, &chariot_server::examine_ssd(options, shards));
}

fn judge_ssd(report: &mut Report, examined: &Result<SsdExamination, StartError>) {
    let examined = match examined {
        Ok(examined) => examined,
        Err(error) => {
            report.note("ssd", Verdict::Fail, error.cause.clone(), &error.remedy);
            return;
        },
    };
    let found = format!("{} partitions found", examined.partitions);
    report.note("ssd", Verdict::Ok, found, "");
    for device in &examined.devices {
        report.note("ssd device", Verdict::Ok, describe(device), "");
    }
    let (verdict, found) = if examined.is_direct {
        (Verdict::Ok, "taken")
    } else {
        (Verdict::Warn, "refused")
    };
    let remedy = "use a file system with O_DIRECT (ext4, xfs) or a block device: here every byte \
                  goes through the page cache";
    report.note("ssd direct I/O", verdict, found, remedy);
    if examined.needed_bytes > 0 {
        let (needed, free) = (examined.needed_bytes, examined.free_bytes);
        let verdict = if needed > free {
            Verdict::Fail
        } else {
            Verdict::Ok
        };
        let mib = |bytes: u64| format_bytes(bytes >> 20 << 20);
        let found = format!("{} to be taken, {} free", mib(needed), mib(free));
        report.note(
            "ssd space",
            verdict,
            found,
            "lower --ssd-size, or make room",
        );
    }
}

fn describe(device: &SsdDevice) -> String {
    let size = format_bytes(device.size_bytes);
    let blocks = match device.block_bytes {
        0 => "logical blocks of a size that the kernel does not tell".to_owned(),
        bytes => format!("logical blocks of {bytes} bytes"),
    };
    let holds = match (device.is_ours, device.is_in_use) {
        (true, true) => "a partition of chariotd, in use",
        (true, false) => "a partition of chariotd",
        (false, _) => "blank",
    };
    format!("{}: {size}, {blocks}, {holds}", device.path.display())
}

fn check_kernel(report: &mut Report, facts: &Facts) {
    let found = format!("Linux {}", facts.kernel_release);
    let verdict = match facts.kernel {
        Some(version) if version >= KERNEL_SUPPORTED => Verdict::Ok,
        Some(version) if version < KERNEL_MIN => Verdict::Fail,
        Some(_) | None => Verdict::Warn,
    };
    let remedy = "use kernel 6.6 or newer; 5.15 to 6.5 works with fewer fast paths";
    report.note("kernel", verdict, found, remedy);
}

fn check_io_uring(report: &mut Report, facts: &Facts) {
    match &facts.io_uring {
        Ok(found) => report.note("io_uring", Verdict::Ok, found.clone(), ""),
        Err(error) => {
            report.note(
                "io_uring",
                Verdict::Fail,
                error.cause.clone(),
                &error.remedy,
            );
        },
    }
    let (verdict, found) = match facts.seccomp {
        0 => (Verdict::Ok, "no filter"),
        _ if facts.io_uring.is_ok() => (Verdict::Ok, "a filter that lets io_uring pass"),
        _ => (Verdict::Warn, "a filter is active"),
    };
    report.note(
        "seccomp",
        verdict,
        found,
        "let the filter pass io_uring, pidfd_open and memfd_create",
    );
}

fn check_limits(report: &mut Report, facts: &Facts, settings: &Resolved) {
    let shards = settings.node.shards.len() as u64;
    let text = facts
        .memlock
        .map_or_else(|| "unlimited".to_owned(), format_bytes);
    let free = facts.may_lock || facts.memlock.is_none();
    let verdict = match facts.memlock {
        _ if free => Verdict::Ok,
        Some(limit) if limit < MEMLOCK_PER_SHARD * shards => Verdict::Fail,
        Some(limit) if limit < settings.node.memory_bytes => Verdict::Warn,
        _ => Verdict::Ok,
    };
    let found = if facts.may_lock {
        format!("{text}, CAP_IPC_LOCK held")
    } else {
        text
    };
    let remedy = "raise it (systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1); below \
                  --memory no buffers are registered, which costs up to a tenth of I/O speed";
    report.note("memlock", verdict, found, remedy);

    // Per session: its socket, its pidfd, and a bell for each shard.
    let needed = u64::from(settings.node.sessions_max) * (2 + shards) + 64 * shards + 256;
    let verdict = if facts.open_files >= needed {
        Verdict::Ok
    } else {
        Verdict::Warn
    };
    let found = format!(
        "{} descriptors, {needed} for every session",
        facts.open_files
    );
    let remedy = "raise it (systemd: LimitNOFILE=1048576), or lower --max-sessions";
    report.note("open files", verdict, found, remedy);
}

fn check_memory(report: &mut Report, facts: &Facts, settings: &Resolved) {
    let (memory, metadata) = (settings.node.memory_bytes, settings.node.metadata_bytes);
    // Huge pages are taken from their own pool, which is not part of what is available.
    let needed = if settings.node.hugepages {
        metadata
    } else {
        memory + metadata
    };
    let available = facts
        .memory_available
        .min(facts.cgroup_available.unwrap_or(u64::MAX));
    let from = match facts.cgroup_available {
        Some(limit) if limit < facts.memory_available => "in this container (cgroup)",
        _ => "on this machine",
    };
    let verdict = match needed {
        _ if needed > available => Verdict::Fail,
        _ if needed > available / 10 * 9 => Verdict::Warn,
        _ => Verdict::Ok,
    };
    let mib = |bytes: u64| format_bytes(bytes >> 20 << 20);
    let found = format!(
        "{} needed, {} available {from}",
        mib(needed),
        mib(available)
    );
    let remedy = "lower --memory, or give the machine or container more";
    report.note("memory", verdict, found, remedy);

    let verdict = if facts.overcommit == 2 {
        Verdict::Warn
    } else {
        Verdict::Ok
    };
    let found = format!("vm.overcommit_memory={}", facts.overcommit);
    let remedy = "with 2 the sparse arena counts in full: set vm.overcommit_memory to 0 or 1";
    report.note("overcommit", verdict, found, remedy);
}

fn check_pages(report: &mut Report, facts: &Facts, settings: &Resolved) {
    let pool = facts.hugepages_free * facts.hugepage_bytes;
    if settings.node.hugepages {
        let enough = pool >= settings.node.memory_bytes;
        let verdict = if enough { Verdict::Ok } else { Verdict::Fail };
        let page = facts.hugepage_bytes.max(1);
        let pages = settings.node.memory_bytes.div_ceil(page);
        let found = format!(
            "{} of {} free, {pages} needed",
            facts.hugepages_free,
            format_bytes(facts.hugepage_bytes)
        );
        let remedy = format!("set sysctl vm.nr_hugepages={pages}, or leave --hugepages out");
        report.note("huge pages", verdict, found, &remedy);
        return;
    }
    report.note(
        "huge pages",
        Verdict::Ok,
        format!("not asked for; {} free", format_bytes(pool)),
        "",
    );
    let mode = facts.shmem_huge.as_str();
    let verdict = match mode {
        "always" | "within_size" | "advise" | "force" => Verdict::Ok,
        _ => Verdict::Warn,
    };
    let remedy = "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled: 2 MiB pages \
                  under the arena make large copies and I/O cheaper";
    report.note("huge shmem pages", verdict, mode, remedy);
}

fn check_cores(report: &mut Report, facts: &Facts, settings: &Resolved) {
    let mut cores: Vec<usize> = settings.node.shards.iter().map(|shard| shard.cpu).collect();
    cores.sort_unstable();
    cores.dedup();
    let absent: Vec<usize> = cores
        .iter()
        .copied()
        .filter(|core| !facts.affinity.contains(core))
        .collect();
    let list = crate::settings::value::format_list;
    if absent.is_empty() {
        let found = format!("{} of {}", list(&cores), list(&facts.affinity));
        report.note("cores", Verdict::Ok, found, "");
    } else {
        let found = format!("this process may not run on {}", list(&absent));
        let remedy = format!("choose --cores from {}", list(&facts.affinity));
        report.note("cores", Verdict::Fail, found, &remedy);
    }
    match facts.cpu_quota {
        Some(quota) if quota + 0.01 < cores.len() as f64 => {
            let found = format!("{quota:.2} CPUs for {} cores", cores.len());
            let remedy = "raise the container's CPU limit or name fewer cores: a throttled shard \
                          stands still for up to 100 ms";
            report.note("cpu quota", Verdict::Warn, found, remedy);
        },
        Some(quota) => report.note("cpu quota", Verdict::Ok, format!("{quota:.2} CPUs"), ""),
        None => report.note("cpu quota", Verdict::Ok, "none", ""),
    }
    let nodes: Vec<usize> = facts
        .numa_nodes
        .iter()
        .filter(|(_, held)| held.iter().any(|core| cores.contains(core)))
        .map(|(node, _)| *node)
        .collect();
    let verdict = if nodes.len() > 1 {
        Verdict::Warn
    } else {
        Verdict::Ok
    };
    let found = format!(
        "cores on {} of {} NUMA nodes",
        nodes.len().max(1),
        facts.numa_nodes.len().max(1)
    );
    let remedy = "run one daemon per NUMA node with the cores of that node";
    report.note("NUMA", verdict, found, remedy);
}

fn check_clients(report: &mut Report, facts: &Facts) {
    let across = facts
        .kernel
        .is_some_and(|version| version >= KERNEL_PEER_PIDFD);
    let nested = facts.pid_namespace_depth > 1;
    let (verdict, found) = match (across, nested) {
        (true, _) => (Verdict::Ok, "pidfd of the peer, across namespaces"),
        (false, false) => (Verdict::Ok, "pidfd by number, in this namespace"),
        (false, true) => (Verdict::Warn, "nested namespace and no SO_PEERPIDFD"),
    };
    let remedy = "use kernel 6.5 or newer, or share the pid namespace with the clients; others are \
                  served over TCP";
    report.note("pid namespace", verdict, found, remedy);
    report.note("page size", Verdict::Ok, format_bytes(facts.page_bytes), "");
}

#[cfg(test)]
mod tests;
