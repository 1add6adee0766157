//! A shard that sleeps is woken while the copy that it will be asked about is still under way.
//!
//! ```text
//! without:  copy ─────────────▶ publish ─▶ bell ─ wake ─▶ shard ─▶ answer
//! with:     copy ──▶ bell ─ the rest ─▶ publish ─▶ shard ─▶ answer
//!                      └── wake ───────────┘
//! ```
//! A hint alone: the publish that follows asks again, behind its fence, whether the shard sleeps,
//! and a bell for nothing costs the shard one look at its rings before it polls for as long as
//! after any work.
//!
//! Neighbours: `engine.rs` makes one for what it copies between two looks, `write_job.rs` copies.

use super::ShardPort;

/// Bytes from which a copy is long enough to hide a part of a wake: some 25 us.
const COPY_MIN: usize = 256 << 10;
/// Bytes that are left to copy when the bell is rung: about 100 us, what a cold wake of a virtual
/// CPU takes. Hardware wakes faster, and then polls for the rest.
const LEAD: usize = 1 << 20;
/// Copies are cut at multiples of so many bytes, a cache line.
const CUT: usize = 64;

/// Where to ring within the copies of one look at a lane.
#[derive(Debug)]
struct Cuts {
    /// Bytes still to be copied before the publish.
    left: usize,
    is_due: bool,
}

impl Cuts {
    const fn new(total: usize) -> Self {
        Self {
            left: total,
            is_due: total >= COPY_MIN,
        }
    }

    fn cut(&mut self, len: usize) -> Option<usize> {
        assert!(len <= self.left, "no more is copied than was said");
        let before = self.left;
        self.left -= len;
        if !self.is_due || self.left >= LEAD {
            return None;
        }
        self.is_due = false;
        Some(before.saturating_sub(LEAD) / CUT * CUT)
    }
}

/// When to ring, over the copies of one look at a lane.
pub(super) struct EarlyBell<'a> {
    port: &'a ShardPort,
    cuts: Cuts,
}

impl<'a> EarlyBell<'a> {
    /// For copies of `total` bytes, whose publish goes to the shard of `port`.
    pub(super) const fn new(port: &'a ShardPort, total: usize) -> Self {
        let cuts = Cuts::new(total);
        Self { port, cuts }
    }

    /// Says after how many of the next `len` bytes to call [`Self::ring`]; `None`: not in these.
    pub(super) fn cut(&mut self, len: usize) -> Option<usize> {
        self.cuts.cut(len)
    }

    /// Rings, if the shard sleeps. A daemon that is gone is found by the publish.
    pub(super) fn ring(&self) {
        if self.port.lock().shard_sleeps() {
            drop(self.port.ring_bell());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    /// Where the bell falls in copies of these lengths: the copy, and the byte in it.
    fn fall(lens: &[usize]) -> Vec<(usize, usize)> {
        let mut cuts = Cuts::new(lens.iter().sum());
        let found = lens.iter().map(|&len| cuts.cut(len)).enumerate();
        found.filter_map(|(at, cut)| Some((at, cut?))).collect()
    }

    #[test]
    fn the_bell_falls_once_and_a_mebibyte_before_the_end() {
        assert_eq!(fall(&[256 * KIB - 1]), [], "over before anybody woke");
        assert_eq!(fall(&[256 * KIB]), [(0, 0)]);
        assert_eq!(fall(&[MIB]), [(0, 0)]);
        assert_eq!(fall(&[MIB + 100]), [(0, 64)]);
        assert_eq!(fall(&[8 * MIB]), [(0, 7 * MIB)]);
        assert_eq!(fall(&[4 * MIB, 4 * MIB]), [(1, 3 * MIB)]);
        assert_eq!(fall(&[4 * MIB, 512 * KIB, 4 * KIB]), [(0, 3588 * KIB)]);
        assert_eq!(fall(&[4 * KIB; 64]), [(0, 0)]);
    }
}
