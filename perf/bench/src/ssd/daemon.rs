//! What the daemon says about its tier, and what the kernel says about the daemon.

use std::fs;
use std::time::Instant;

use crate::evictions;
use crate::failure::Failure;

const REMEDY: &str = "give the daemon's --admin address as host:port";

/// A daemon whose counters and processor time are read.
#[derive(Debug)]
pub(super) struct Watched {
    admin: String,
    pid: u32,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    at: Instant,
    cpu_ns: u64,
    written: f64,
    read: f64,
    hits: f64,
    /// Objects on SSD.
    pub objects: u64,
    /// Bytes on their way to the SSD.
    pub spilling: f64,
    /// Bytes of the tier, all shards together.
    pub capacity: f64,
    /// Bytes of objects on it.
    pub live: f64,
    forgotten: f64,
    errors: f64,
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Between {
    pub seconds: f64,
    /// On the device, in the direction that was asked for.
    pub bytes: f64,
    pub cpu_ns: f64,
    pub hits: f64,
    pub forgotten: f64,
    pub errors: f64,
}

impl Watched {
    pub(super) fn new(admin: &str, pid: Option<u32>) -> Result<Self, Failure> {
        let pid = match pid {
            Some(pid) => pid,
            None => only_daemon()?,
        };
        let watched = Self {
            admin: admin.to_owned(),
            pid,
        };
        watched.look()?;
        Ok(watched)
    }

    /// Reads all counters.
    pub(super) fn look(&self) -> Result<Look, Failure> {
        let text = evictions::metrics(&self.admin, REMEDY)?;
        let cpu_ns = cpu_ns(self.pid)?;
        look(&text, cpu_ns).ok_or_else(|| {
            Failure::new(
                format!("the daemon at {} has no SSD tier", self.admin),
                "start it with --ssd DIR --ssd-size SIZE",
            )
        })
    }
}

impl Look {
    /// What happened since `before`: `what` is `written` or `read`.
    pub(super) fn since(&self, before: &Self, what: &str) -> Between {
        let bytes = match what {
            "written" => self.written - before.written,
            _ => self.read - before.read,
        };
        Between {
            seconds: (self.at - before.at).as_secs_f64(),
            bytes,
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns) as f64,
            hits: self.hits - before.hits,
            forgotten: self.forgotten - before.forgotten,
            errors: self.errors - before.errors,
        }
    }
}

pub(super) fn look(text: &str, cpu_ns: u64) -> Option<Look> {
    let ssd = |name: &str| total(text, &format!("chariot_ssd_{name}"));
    Some(Look {
        at: Instant::now(),
        cpu_ns,
        written: ssd("written_bytes_total")?,
        read: ssd("read_bytes_total")?,
        hits: ssd("hits_total")?,
        objects: whole(ssd("objects")?),
        spilling: ssd("spilling_bytes")?,
        capacity: ssd("capacity_bytes")?,
        live: ssd("live_bytes")?,
        forgotten: ssd("forgotten_total")?,
        errors: ssd("errors_total")?,
    })
}

/// A count or a number of bytes as a whole number; what is below zero is zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and figures below one do not count"
)]
pub(super) fn whole(value: f64) -> u64 {
    value as u64
}

/// Adds up all series of a metric; `None` when there is none.
fn total(text: &str, name: &str) -> Option<f64> {
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    series.reduce(|sum, value| sum + value)
}

/// Processor time of all threads of a process.
fn cpu_ns(pid: u32) -> Result<u64, Failure> {
    let refuse = |error: &dyn std::fmt::Display| {
        let cause = format!("cannot read the processor time of process {pid} ({error})");
        Failure::new(cause, "give the daemon's process as --pid, on its own host")
    };
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| refuse(&error))? {
        let path = thread.map_err(|error| refuse(&error))?.path();
        // A thread that has just ended is not there any more.
        let Ok(text) = fs::read_to_string(path.join("schedstat")) else {
            continue;
        };
        let first = text.split_whitespace().next();
        let ns = first.and_then(|ns| ns.parse::<u64>().ok());
        sum += ns.ok_or_else(|| refuse(&"schedstat has no number"))?;
    }
    Ok(sum)
}

fn only_daemon() -> Result<u32, Failure> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let pid = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse::<u32>().ok());
        if name.trim() == "chariotd" {
            found.extend(pid);
        }
    }
    match found[..] {
        [pid] => Ok(pid),
        _ => Err(Failure::new(
            format!("{} processes named chariotd run here", found.len()),
            "name one with --pid",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_all_shards_are_added_and_longer_names_are_others() {
        let text = "chariot_ssd_objects{shard=\"0\"} 3\nchariot_ssd_objects{shard=\"1\"} 4\n\
                    chariot_ssd_objects_other 9\n";
        assert_eq!(total(text, "chariot_ssd_objects"), Some(7.0));
        assert_eq!(total(text, "chariot_ssd"), None);
    }

    #[test]
    fn daemon_without_a_tier_is_told_from_one_with() {
        assert!(look("chariot_entries 1\n", 0).is_none());
    }

    #[test]
    fn processor_time_of_this_process_grows_and_of_none_is_refused() {
        let own = std::process::id();
        let before = cpu_ns(own).unwrap();
        let mut word = 1_u64;
        while cpu_ns(own).unwrap() == before {
            word = std::hint::black_box(word.wrapping_mul(3));
        }
        let shown = cpu_ns(u32::MAX).unwrap_err().to_string();
        assert!(shown.contains("--pid"), "{shown}");
    }
}
