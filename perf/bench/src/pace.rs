//! Waiting for the moment at which something should start.

use std::time::{Duration, Instant};

/// The end of a wait is polled: waking from a sleep is late by about this much.
const POLLED: Duration = Duration::from_micros(80);

/// Returns at `moment`, or at once when it has passed.
pub(crate) fn wait_until(moment: Instant) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(POLLED) {
            // Nobody unparks this thread; if anyone did, the loop looks again.
            Some(parked) if !parked.is_zero() => std::thread::park_timeout(parked),
            _ => std::hint::spin_loop(),
        }
    }
}

/// The starts of calls at a fixed rate.
///
/// After a call that took longer than the interval the next starts at once and the plan moves: the
/// starts that were missed are what the correction for coordinated omission accounts for.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub(crate) fn new(interval: Duration, start: Instant) -> Self {
        Self {
            interval,
            next: start,
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Waits for the next start.
    pub(crate) fn wait(&mut self) {
        wait_until(self.next);
        self.advance(Instant::now());
    }

    fn advance(&mut self, now: Instant) {
        self.next = (self.next + self.interval).max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_does_not_return_early() {
        let moment = Instant::now() + Duration::from_millis(3);
        wait_until(moment);
        assert!(Instant::now() >= moment);
    }

    #[test]
    fn plan_keeps_its_grid_and_moves_after_a_stall() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, start);
        pace.advance(start);
        assert_eq!(pace.next, start + second);
        pace.advance(start + second);
        assert_eq!(pace.next, start + 2 * second);
        pace.advance(start + 60 * second);
        assert_eq!(pace.next, start + 60 * second);
    }
}
