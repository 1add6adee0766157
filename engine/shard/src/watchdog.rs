//! The watchdog: wakes a shard that stands still although it should not.
//!
//! Lives on: control thread. Every 20 ms it compares each shard's rounds with those of the last
//! tick. A shard that has not moved for 20 ms, and is awake, or has requests in flight, or has not
//! seen a ring of its bell, gets one write to its rescue eventfd, on which glommio always has reads
//! in flight: the executor comes out of its park and runs what it had forgotten. A shard that is
//! merely busy with a long round takes no harm from it.

use std::sync::Arc;

use crate::bell::BellShared;
use crate::clock::monotonic_ns;
use crate::executor::ShardSeat;
use crate::limits::WATCHDOG_STALL_NS;

/// What the watchdog has seen; plain numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchdogStats {
    /// Ticks so far.
    pub ticks: u64,
    /// Rescues written, over all shards.
    pub kicks: u64,
}

#[derive(Debug)]
struct Watched {
    shared: Arc<BellShared>,
    passes: u64,
    still_since_ns: u64,
}

/// Watches the shards of a node.
#[derive(Debug)]
pub struct Watchdog {
    watched: Vec<Watched>,
    stats: WatchdogStats,
}

impl Watchdog {
    /// Watches the shards of `seats`; make it before the seats are spawned.
    pub fn new<'seat>(seats: impl IntoIterator<Item = &'seat ShardSeat>) -> Self {
        let watched = seats
            .into_iter()
            .map(|seat| Watched {
                shared: seat.shared(),
                passes: 0,
                still_since_ns: monotonic_ns(),
            })
            .collect();
        Self {
            watched,
            stats: WatchdogStats::default(),
        }
    }

    /// Looks at every shard once; call it every 20 ms. Returns how many were kicked.
    pub fn tick(&mut self) -> u64 {
        self.tick_at(monotonic_ns())
    }

    fn tick_at(&mut self, now_ns: u64) -> u64 {
        self.stats.ticks += 1;
        let kicks: u64 = self
            .watched
            .iter_mut()
            .map(|watched| u64::from(watched.look(now_ns)))
            .sum();
        self.stats.kicks += kicks;
        kicks
    }

    /// Returns what was counted.
    pub fn stats(&self) -> WatchdogStats {
        self.stats
    }
}

impl Watched {
    fn look(&mut self, now_ns: u64) -> bool {
        let sample = self.shared.sample();
        if !sample.suspicious || sample.passes != self.passes {
            self.passes = sample.passes;
            self.still_since_ns = now_ns;
            return false;
        }
        if now_ns.saturating_sub(self.still_since_ns) < WATCHDOG_STALL_NS {
            return false;
        }
        self.still_since_ns = now_ns;
        self.shared.write_rescue();
        true
    }
}

#[cfg(test)]
mod tests {
    use chariot_base::ShardId;

    use super::*;
    use crate::executor::ShardSpec;

    const MS: u64 = 1_000_000;

    fn watched() -> (Arc<BellShared>, Watchdog) {
        let seat = ShardSeat::new(ShardSpec::new(ShardId(0))).unwrap();
        let shared = seat.shared();
        shared.set_running(true);
        let mut watchdog = Watchdog::new([&seat]);
        watchdog.watched[0].still_since_ns = 0;
        (shared, watchdog)
    }

    #[test]
    fn tick_kicks_an_awake_shard_that_stands_still_and_spares_one_that_moves() {
        let (shared, mut watchdog) = watched();
        shared.begin_pass();
        assert_eq!(
            watchdog.tick_at(100 * MS),
            0,
            "it has moved since the start"
        );
        shared.begin_pass();
        assert_eq!(
            watchdog.tick_at(120 * MS),
            0,
            "it has moved since the last tick"
        );
        assert_eq!(watchdog.tick_at(130 * MS), 0, "not for long enough");
        assert_eq!(watchdog.tick_at(141 * MS), 1);
        assert_eq!(watchdog.tick_at(142 * MS), 0, "one kick each 20 ms");
        assert_eq!(watchdog.tick_at(170 * MS), 1);
        assert_eq!(watchdog.stats().kicks, 2);
    }

    #[test]
    fn tick_lets_an_idle_shard_sleep_and_kicks_one_that_sleeps_over_a_ring_or_requests() {
        let (shared, mut watchdog) = watched();
        shared.begin_pass();
        shared.fall_asleep(false);
        assert_eq!(watchdog.tick_at(100 * MS), 0);
        assert_eq!(
            watchdog.tick_at(10_000 * MS),
            0,
            "nothing to do is no reason to wake"
        );
        shared.ring();
        assert_eq!(watchdog.tick_at(10_021 * MS), 1, "rung and not seen");
        shared.begin_pass();
        shared.fall_asleep(true);
        assert_eq!(watchdog.tick_at(10_030 * MS), 0);
        assert_eq!(
            watchdog.tick_at(10_051 * MS),
            1,
            "requests in flight and nobody moves"
        );
    }
}
