//! Threads and their memory on the card's NUMA node, where it is known.

/// Memory on the named node while it has some.
const PREFERRED: libc::c_long = 1;

/// The CPUs of a node, as the kernel lists them (`0-3,8`).
fn parse_cpus(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last.min(first + 4096));
        }
    }
    cpus
}

/// Where the threads of a card belong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Its node, where it is known.
    pub(crate) node: Option<u32>,
    /// The node's CPUs, in place of the kernel's list.
    pub(crate) cpus: Option<&'static [usize]>,
}

/// The CPUs of a node, as the kernel says; none for a node that it does not know.
fn cpus_of(node: u32) -> Vec<usize> {
    let path = format!("/sys/devices/system/node/node{node}/cpulist");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    parse_cpus(&list)
}

/// Puts the calling thread on a node's CPUs, and its memory there by preference. What the kernel
/// refuses stays as it was: this is about speed alone.
pub(crate) fn settle_on(place: Place) {
    let Some(node) = place.node else {
        return;
    };
    let cpus = place.cpus.map_or_else(|| cpus_of(node), <[usize]>::to_vec);
    // SAFETY: a set of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let most = 8 * size_of::<libc::cpu_set_t>();
    for cpu in cpus.iter().filter(|cpu| **cpu < most) {
        // SAFETY: the CPU is inside the set, as just filtered.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    if cpus.is_empty() {
        return;
    }
    // SAFETY: 0 is the calling thread; the set is a local of the size that is said.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    let bits = libc::c_ulong::BITS;
    if node >= bits {
        return;
    }
    let mask: libc::c_ulong = 1 << node;
    // SAFETY: one word of nodes, and its number of bits; it speaks for this thread alone.
    unsafe {
        libc::syscall(
            libc::SYS_set_mempolicy,
            PREFERRED,
            &raw const mask,
            libc::c_ulong::from(bits),
        )
    };
}

/// CPU time of the calling thread in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock is every thread's own, the answer goes to a local.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert!(code == 0, "a thread has a clock");
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(parse_cpus("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(parse_cpus(""), [0_usize; 0]);
        assert_eq!(parse_cpus("x,3"), [3]);
    }

    #[test]
    fn an_unknown_node_changes_nothing() {
        settle_on(Place::default());
        settle_on(Place {
            node: Some(9999),
            cpus: None,
        });
    }
}
