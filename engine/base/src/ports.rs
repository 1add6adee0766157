//! The ports through which time and randomness reach the pure crates.
//!
//! The daemon implements [`Clock`] over the kernel's clocks; tests and the simulator use
//! [`ManualClock`] and [`SplitMix64`], whose seed is printed by whoever draws it.

use std::cell::Cell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time. Implementations never go back on the two monotonic clocks.
///
/// Lives on: any shard (each holds its own).
pub trait Clock {
    /// Returns nanoseconds of the monotonic clock, the base of every [`Deadline`].
    fn now_ns(&self) -> u64;
    /// Returns milliseconds of the coarse monotonic clock, the base of expiry in memory.
    fn coarse_ms(&self) -> u64;
    /// Returns milliseconds since 1970 by the wall clock, for disk and TCP headers only.
    fn unix_ms(&self) -> u64;
}

/// Draws uniformly distributed words; not for secrets. Lives on: any shard.
pub trait Random {
    /// Returns the next 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// Returns a number below `bound`, with a bias below 2^-32 for bounds below 2^32.
    ///
    /// # Panics
    /// When `bound` is 0.
    fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0);
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a 128-bit product fits")
    }
}

/// Says until when an answer is worth having: absolute nanoseconds of the monotonic clock; 0 is
/// none.
///
/// Lives on: any shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// A deadline that never comes.
    pub const NONE: Self = Self(0);

    /// Makes a deadline of the protocol's word: absolute nanoseconds, 0 = none.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Makes a deadline `ns` nanoseconds after `now_ns`, saturating.
    pub const fn after(now_ns: u64, ns: u64) -> Self {
        Self(now_ns.saturating_add(ns))
    }

    /// Returns the protocol's word.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Tells whether the deadline has come at `now_ns`; never for [`Deadline::NONE`].
    pub const fn has_passed(self, now_ns: u64) -> bool {
        self.0 != 0 && now_ns >= self.0
    }

    /// Returns the nanoseconds left (0 once passed), or `None` without a deadline.
    pub const fn remaining_ns(self, now_ns: u64) -> Option<u64> {
        if self.0 == 0 {
            None
        } else {
            Some(self.0.saturating_sub(now_ns))
        }
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            f.write_str("none")
        } else {
            write!(f, "{} ns", self.0)
        }
    }
}

/// The kernel's clocks, the same as clients on this host read. Lives on: any thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ns(&self) -> u64 {
        chariot_shm::clock::monotonic_ns()
    }

    fn coarse_ms(&self) -> u64 {
        chariot_shm::clock::coarse_ms()
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that moves when told to; for tests and the simulator. Lives on: one thread.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ns: Cell<u64>,
}

impl ManualClock {
    /// Makes a clock that stands at `now_ns`.
    pub fn new(now_ns: u64) -> Self {
        Self {
            now_ns: Cell::new(now_ns),
        }
    }

    /// Moves the clock forward.
    ///
    /// # Panics
    /// When the clock would pass 2^64 ns.
    pub fn advance_ns(&self, ns: u64) {
        self.now_ns.set(
            self.now_ns
                .get()
                .checked_add(ns)
                .expect("584 years are enough"),
        );
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn coarse_ms(&self) -> u64 {
        self.now_ns.get() / 1_000_000
    }

    fn unix_ms(&self) -> u64 {
        self.now_ns.get() / 1_000_000
    }
}

/// A small seeded generator (Steele, Lea, Flood 2014); for tests, sampling and jitter.
///
/// Lives on: one thread.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Makes a generator whose whole sequence follows from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }
}

impl Random for SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_none_never_passes() {
        assert!(!Deadline::NONE.has_passed(u64::MAX));
        assert_eq!(Deadline::NONE.remaining_ns(5), None);
        let deadline = Deadline::after(10, 5);
        assert!(!deadline.has_passed(14));
        assert!(deadline.has_passed(15));
        assert_eq!(deadline.remaining_ns(12), Some(3));
        assert_eq!(deadline.remaining_ns(20), Some(0));
    }

    #[test]
    fn splitmix_gives_the_published_sequence_of_seed_zero() {
        let mut random = SplitMix64::new(0);
        assert_eq!(random.next_u64(), 0xE220_A839_7B1D_CDAF);
        assert!((0..1000).all(|_| random.below(7) < 7));
    }

    #[test]
    fn system_clock_does_not_go_back() {
        let (first, second) = (SystemClock.now_ns(), SystemClock.now_ns());
        assert!(0 < first && first <= second);
        assert!(SystemClock.coarse_ms() <= SystemClock.now_ns() / 1_000_000);
        assert!(SystemClock.unix_ms() > 1_600_000_000_000);
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(3_000_000);
        assert_eq!(clock.now_ns(), 3_000_000);
        clock.advance_ns(1_000_000);
        assert_eq!(clock.coarse_ms(), 4);
        assert_eq!(clock.unix_ms(), 4);
    }
}
