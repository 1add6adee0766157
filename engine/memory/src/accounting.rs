//! Where the bytes of `--memory` are: the sum that `/metrics` shows must be the sum that was given.

use crate::extent::ExtentStats;

/// Divides one shard's granules among their uses, in bytes; the parts add up to `capacity`.
///
/// Lives on: any shard (a snapshot).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Bytes of the granules held.
    pub capacity: u64,
    /// Payload of live entries, exactly as long as their values.
    pub payload: u64,
    /// Leased to sessions, not yet written.
    pub idle_leases: u64,
    /// Retired and waiting for pins, I/O or sessions.
    pub quarantine: u64,
    /// Lost to rounding, to free slots of chunks, and taken by submissions under way.
    pub slack: u64,
    /// Free for any length, parked granules included.
    pub free: u64,
}

impl MemoryReport {
    /// Makes the report of one shard from its allocator, store, lease book and quarantine.
    ///
    /// # Panics
    /// When the parts exceed the whole: somebody counts a byte twice.
    pub fn new(stats: &ExtentStats, payload: u64, idle_leases: u64, quarantine: u64) -> Self {
        let free = stats.free + stats.parked;
        let named = payload + idle_leases + quarantine + free;
        let slack = stats
            .capacity
            .checked_sub(named)
            .expect("no byte is counted twice");
        Self {
            capacity: stats.capacity,
            payload,
            idle_leases,
            quarantine,
            slack,
            free,
        }
    }

    /// Returns the sum of two shards' reports.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = Self {
            capacity: self.capacity + other.capacity,
            payload: self.payload + other.payload,
            idle_leases: self.idle_leases + other.idle_leases,
            quarantine: self.quarantine + other.quarantine,
            slack: self.slack + other.slack,
            free: self.free + other.free,
        };
        sum.check_invariants();
        sum
    }

    /// Checks that the parts add up.
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let sum = self.payload + self.idle_leases + self.quarantine + self.slack + self.free;
        assert_eq!(self.capacity, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_two_shards_add_up() {
        let stats = ExtentStats {
            capacity: 1000,
            free: 500,
            parked: 100,
            ..Default::default()
        };
        let report = MemoryReport::new(&stats, 200, 50, 25);
        assert_eq!(report.slack, 125);
        assert_eq!(report.plus(report).capacity, 2000);
    }

    #[test]
    #[should_panic(expected = "no byte is counted twice")]
    fn byte_counted_twice_is_a_bug() {
        let stats = ExtentStats {
            capacity: 100,
            free: 90,
            ..Default::default()
        };
        let _report = MemoryReport::new(&stats, 20, 0, 0);
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn report_that_does_not_add_up_is_caught() {
        MemoryReport {
            capacity: 1,
            ..Default::default()
        }
        .check_invariants();
    }
}
