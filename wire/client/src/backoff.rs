//! When to try to connect again: doubling, bounded, jittered.

/// First pause after a failure, in nanoseconds.
const FIRST_NS: u64 = 5_000_000;
/// Longest pause, in nanoseconds; a daemon that is back is noticed within it.
const LONGEST_NS: u64 = 500_000_000;

/// The state of reconnecting. Pure: time and randomness come in as numbers.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause_ns: u64,
    not_before_ns: u64,
    /// State of a xorshift generator, so that clients of one daemon do not come back in step.
    random: u64,
}

impl Backoff {
    /// No failure yet; `seed` differs between clients.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            pause_ns: FIRST_NS,
            not_before_ns: 0,
            random: seed | 1,
        }
    }

    /// Whether it is time to try.
    pub(crate) fn may_try(&self, now_ns: u64) -> bool {
        now_ns >= self.not_before_ns
    }

    /// Connected: the next failure begins with the shortest pause.
    pub(crate) fn succeeded(&mut self) {
        self.pause_ns = FIRST_NS;
        self.not_before_ns = 0;
    }

    /// Not connected: half a pause to a whole one from `now_ns`, the next one twice as long.
    pub(crate) fn failed(&mut self, now_ns: u64) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = self.pause_ns / 2;
        self.not_before_ns = now_ns + half + self.random % half;
        self.pause_ns = (self.pause_ns * 2).min(LONGEST_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(42);
        assert!(backoff.may_try(0));
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.failed(now);
            assert!(!backoff.may_try(now));
            pauses.push(backoff.not_before_ns - now);
            now = backoff.not_before_ns;
            assert!(backoff.may_try(now));
        }
        assert!(pauses[0] < FIRST_NS && pauses[0] >= FIRST_NS / 2);
        assert!(pauses.iter().all(|&pause| pause < LONGEST_NS));
        assert!(pauses[11] >= LONGEST_NS / 2);
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::new(7);
        for _ in 0..10 {
            backoff.failed(0);
        }
        backoff.succeeded();
        assert!(backoff.may_try(0));
        backoff.failed(0);
        assert!(backoff.not_before_ns < FIRST_NS);
    }
}
