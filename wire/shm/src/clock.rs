//! The clocks that both sides of a session share: monotonic, read without a system call (vDSO).

/// Answers `CLOCK_MONOTONIC` in nanoseconds: the clock of local deadlines.
pub fn monotonic_ns() -> u64 {
    let now = read(libc::CLOCK_MONOTONIC);
    seconds(&now) * 1_000_000_000 + nanoseconds(&now)
}

/// Answers `CLOCK_MONOTONIC_COARSE` in milliseconds: the clock of expiry in memory. Runs behind
/// [`monotonic_ns`] by at most one tick of the kernel (1 to 10 ms).
pub fn coarse_ms() -> u64 {
    let now = read(libc::CLOCK_MONOTONIC_COARSE);
    seconds(&now) * 1_000 + nanoseconds(&now) / 1_000_000
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a live timespec that the call fills.
    let result = unsafe { libc::clock_gettime(clock, &raw mut now) };
    assert!(result == 0, "every supported kernel has both clocks");
    now
}

fn seconds(time: &libc::timespec) -> u64 {
    u64::try_from(time.tv_sec).expect("monotonic clocks start at zero")
}

fn nanoseconds(time: &libc::timespec) -> u64 {
    u64::try_from(time.tv_nsec).expect("nanoseconds are not negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_within_a_second_and_do_not_go_back() {
        let fine = monotonic_ns();
        let coarse = coarse_ms();
        assert!(coarse.abs_diff(fine / 1_000_000) < 1_000);
        assert!(monotonic_ns() >= fine);
        assert!(coarse_ms() >= coarse);
    }
}
