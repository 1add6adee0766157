//! Whether polling makes sense: on which CPUs this process may run, and where the daemon runs.

use std::time::Duration;

use chariot_proto::message::Welcome;

/// How long to poll: as long as both the caller and the daemon allow, and not at all where the
/// daemon needs the CPU that the polling would burn: when this process may use one CPU only, or
/// only CPUs that the daemon's shards own.
pub(crate) fn spin(wanted: Duration, advised_us: u32, shard_cpus: &[u32]) -> Duration {
    let ours = allowed_cpus();
    if is_crowded(&ours, shard_cpus) {
        return Duration::ZERO;
    }
    wanted.min(Duration::from_micros(advised_us.into()))
}

fn is_crowded(ours: &[u32], shard_cpus: &[u32]) -> bool {
    let shards = shard_cpus
        .iter()
        .filter(|&&cpu| cpu != Welcome::CPU_NONE)
        .count();
    ours.len() < 2 && shards == 0 || ours.iter().all(|cpu| shard_cpus.contains(cpu))
}

/// The CPUs that the calling thread may run on; empty when the kernel does not tell.
fn allowed_cpus() -> Vec<u32> {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: `set` is live and `size` bytes long; the kernel fills at most that.
    let result = unsafe { libc::sched_getaffinity(0, size, set.as_mut_ptr()) };
    if result != 0 {
        return Vec::new();
    }
    // SAFETY: zeroed at first, which is a valid set, and filled by the kernel.
    let set = unsafe { set.assume_init() };
    let cpu_max = libc::CPU_SETSIZE.cast_unsigned();
    (0..cpu_max).filter(|&cpu| contains(&set, cpu)).collect()
}

fn contains(set: &libc::cpu_set_t, cpu: u32) -> bool {
    // SAFETY: `cpu` is below CPU_SETSIZE.
    unsafe { libc::CPU_ISSET(cpu as usize, set) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_is_off_where_the_daemon_needs_the_cpu() {
        assert!(is_crowded(&[0], &[0]), "one CPU, shared");
        assert!(is_crowded(&[0, 1], &[0, 1]), "all CPUs belong to shards");
        assert!(!is_crowded(&[0, 1], &[0]), "one CPU is left to us");
        assert!(!is_crowded(&[1], &[0]), "one CPU, not the daemon's");
        assert!(
            is_crowded(&[1], &[Welcome::CPU_NONE]),
            "one CPU, the daemon may be there"
        );
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed_cpus().is_empty());
    }
}
