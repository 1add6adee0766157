//! The daemon's own claims on extents: sends and receives under way.
//!
//! Lives on: owner shard. Counted apart from sessions' pins, because these always end by
//! themselves: with a completion on the data ring.

use chariot_base::Extent;
use hashbrown::HashMap;

/// Counts I/O under way per extent. Lives on: owner shard.
///
/// Bounded by the data ring's operations in flight: each holds at most one pin.
#[derive(Debug, Default)]
pub struct IoPins {
    counts: HashMap<u64, u32>,
    bytes: u64,
}

impl IoPins {
    /// Makes an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Claims an extent for one operation; every claim is released once.
    ///
    /// # Panics
    /// After 2^32 claims on one extent.
    pub fn pin(&mut self, extent: Extent) {
        let count = self.counts.entry(extent.offset).or_insert(0);
        if *count == 0 {
            self.bytes += extent.len;
        }
        *count = count.checked_add(1).expect("operations in flight are few");
    }

    /// Releases one claim; tells whether it was the extent's last.
    ///
    /// # Panics
    /// When there is none: an operation completed twice.
    pub fn unpin(&mut self, extent: Extent) -> bool {
        let count = self
            .counts
            .get_mut(&extent.offset)
            .expect("a claim is released once");
        *count -= 1;
        let last = *count == 0;
        if last {
            self.counts.remove(&extent.offset);
            self.bytes -= extent.len;
        }
        last
    }

    /// Tells whether an operation uses the extent.
    pub fn contains(&self, extent: Extent) -> bool {
        self.counts.contains_key(&extent.offset)
    }

    /// Returns how many extents are in use.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Tells whether no I/O is under way.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the bytes of the extents in use, each counted once.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extent_is_held_until_its_last_claim_goes() {
        let extent = Extent::new(4096, 100);
        let mut pins = IoPins::new();
        pins.pin(extent);
        pins.pin(extent);
        assert_eq!((pins.len(), pins.bytes()), (1, 100));
        assert!(!pins.unpin(extent));
        assert!(pins.contains(extent));
        assert!(pins.unpin(extent));
        assert!(pins.is_empty());
        assert_eq!(pins.bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "a claim is released once")]
    fn claim_released_twice_is_a_bug() {
        let extent = Extent::new(4096, 100);
        let mut pins = IoPins::new();
        pins.pin(extent);
        pins.unpin(extent);
        pins.unpin(extent);
    }
}
