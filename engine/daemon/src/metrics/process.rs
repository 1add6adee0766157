//! What the kernel says of this process, from `/proc/self`.

use std::path::Path;

/// One reading. Fields that cannot be read are 0: a metric is no reason to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// Resident bytes, shared memory included.
    pub resident_bytes: u64,
    /// Resident bytes of its own: heap, stacks.
    pub private_bytes: u64,
    /// Resident bytes of files: the program itself.
    pub file_bytes: u64,
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Start of the daemon in seconds since 1970; set by the caller.
    pub start_unix_s: u64,
}

impl ProcessFacts {
    /// Reads `directory` (`/proc/self`). CPU time comes from `sched`-independent `stat` in clock
    /// ticks, which Linux fixes at 100 a second for user space on every supported architecture.
    pub fn read(directory: &Path, start_unix_s: u64) -> Self {
        let text = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
        let status = text("status");
        let bytes_of = |name: &str| {
            let kib = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            kib.unwrap_or(0) * 1_024
        };
        let open_fds = std::fs::read_dir(directory.join("fd")).map_or(0, Iterator::count);
        ProcessFacts {
            resident_bytes: bytes_of("VmRSS:"),
            private_bytes: bytes_of("RssAnon:"),
            file_bytes: bytes_of("RssFile:"),
            cpu_seconds: cpu_ticks(&text("stat")).unwrap_or(0) as f64 / 100.0,
            open_fds: open_fds as u64,
            start_unix_s,
        }
    }
}

/// Fields 14 and 15 of `stat`; the second field is a name in parentheses that may hold spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let facts = ProcessFacts::read(Path::new("/proc/self"), 7);
        assert!(facts.resident_bytes > 100 << 10);
        assert!(facts.open_fds >= 3);
        assert_eq!(facts.start_unix_s, 7);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 70 30 0 0 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn an_absent_directory_reads_as_zero() {
        let facts = ProcessFacts::read(Path::new("/nonexistent"), 0);
        assert_eq!(facts, ProcessFacts::default());
    }
}
