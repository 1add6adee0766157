//! Values that are ready to be written and can be told from any other.
//!
//! ```text
//! slot s of the pool:  [ stamp: 8 bytes ][ body: bytes of seed s ]
//! key index i  ->  slot i % slots, stamp = the word that names the key
//! ```
//! Making 4 KiB of fresh bytes costs more than writing them, so the bodies are made once, per
//! thread, and a write only stamps. A read is checked against stamp and body. All threads have
//! equal pools. The keys of a batch take consecutive slots, so they never share a buffer.

use super::keys::seed_of;
use crate::content;
use crate::random::Random;

/// Bytes of a pool aimed at.
const POOL_BYTES: usize = 64 << 20;
/// Most slots; beyond this the bodies tell nothing more.
const SLOTS_MAX: usize = 64;
/// Bytes of the stamp.
const STAMP: usize = 8;

/// Prefilled values of one thread.
#[derive(Debug)]
pub(crate) struct Values {
    bytes: Vec<u8>,
    size: usize,
    slots: u64,
}

impl Values {
    /// Makes a pool for values of `size` bytes, with at least `batch` slots and at most `keys`.
    pub(crate) fn new(size: usize, batch: usize, keys: u64) -> Self {
        assert!(
            size > 0 && batch > 0 && batch as u64 <= keys,
            "checked by the plan"
        );
        let slots = (POOL_BYTES / size).clamp(1, SLOTS_MAX).max(batch);
        let slots = slots.min(usize::try_from(keys).unwrap_or(usize::MAX));
        let mut bytes = vec![0; slots * size];
        for (slot, value) in bytes.chunks_exact_mut(size).enumerate() {
            content::fill(slot as u64, value);
        }
        Self {
            bytes,
            size,
            slots: slots as u64,
        }
    }

    pub(crate) fn slots(&self) -> u64 {
        self.slots
    }

    fn offset(&self, index: u64) -> usize {
        let slot = usize::try_from(index % self.slots).expect("slots are in memory");
        slot * self.size
    }

    /// Makes the value of key `index` ready.
    pub(crate) fn stamp(&mut self, index: u64) {
        let stamp = self.size.min(STAMP);
        let at = self.offset(index);
        self.bytes[at..at + stamp].copy_from_slice(&seed_of(index).to_le_bytes()[..stamp]);
    }

    /// The value of key `index`, stamped before.
    pub(crate) fn value(&self, index: u64) -> &[u8] {
        &self.bytes[self.offset(index)..][..self.size]
    }

    /// Counts the bytes of `found` that are not those of key `index`.
    pub(crate) fn wrong_bytes(&self, index: u64, found: &[u8]) -> u64 {
        let stamp = self.size.min(STAMP);
        let wanted_stamp = &seed_of(index).to_le_bytes()[..stamp];
        let wanted_body = &self.value(index)[stamp..];
        let (found_stamp, found_body) = found.split_at(stamp.min(found.len()));
        if found_stamp == wanted_stamp && found_body == wanted_body {
            return 0;
        }
        let differ = |left: &[u8], right: &[u8]| {
            let pairs = left
                .iter()
                .zip(right)
                .filter(|(left, right)| left != right)
                .count();
            (pairs + left.len().abs_diff(right.len())) as u64
        };
        differ(found_stamp, wanted_stamp) + differ(found_body, wanted_body)
    }
}

/// Chooses random keys so that the keys of a batch take consecutive slots of the pool.
#[derive(Debug)]
pub(crate) struct Chooser {
    random: Random,
    keys: u64,
    slots: u64,
    cursor: u64,
}

impl Chooser {
    pub(crate) fn new(seed: u64, keys: u64, slots: u64) -> Self {
        assert!(slots > 0 && slots <= keys, "every slot has a key");
        Self {
            random: Random::new(seed),
            keys,
            slots,
            cursor: 0,
        }
    }

    /// The next key: a random row of the keys, at the slot whose turn it is.
    pub(crate) fn next(&mut self) -> u64 {
        let slot = self.cursor;
        self.cursor = (self.cursor + 1) % self.slots;
        // Rows that have this slot: the last row may be short.
        let rows = (self.keys - slot).div_ceil(self.slots);
        self.random.below(rows) * self.slots + slot
    }

    /// True for `percent` of a hundred draws.
    pub(crate) fn percent_of_draws(&mut self, percent: u8) -> bool {
        self.random.below(100) < u64::from(percent)
    }

    /// True for one of `of` draws.
    pub(crate) fn one_of(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn flipped_byte_of_stamp_or_body_is_noticed() {
        for size in [1, 7, 8, 9, 4096] {
            let mut values = Values::new(size, 1, 1000);
            values.stamp(500);
            let good = values.value(500).to_vec();
            assert_eq!(values.wrong_bytes(500, &good), 0);
            for at in [0, size / 2, size - 1] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert_eq!(values.wrong_bytes(500, &bad), 1, "byte {at} of {size}");
            }
            assert_eq!(values.wrong_bytes(500, &good[..size - 1]), 1);
        }
    }

    #[test]
    fn value_of_another_key_is_wrong_also_in_the_same_slot() {
        let mut values = Values::new(4096, 1, 100_000);
        values.stamp(3);
        let other = values.value(3).to_vec();
        assert!(values.wrong_bytes(3 + values.slots(), &other) > 0);
        assert!(values.wrong_bytes(4, &other) > 4000);
    }

    #[test]
    fn keys_of_a_batch_take_different_slots() {
        let (keys, batch) = (1003, 100);
        let values = Values::new(16, batch, keys);
        let mut chooser = Chooser::new(1, keys, values.slots());
        for _ in 0..50 {
            let slots: HashSet<u64> = (0..batch)
                .map(|_| chooser.next() % values.slots())
                .collect();
            assert_eq!(slots.len(), batch);
        }
    }

    #[test]
    fn every_key_is_chosen_and_the_seed_decides_the_order() {
        let draw = |seed| {
            let mut chooser = Chooser::new(seed, 103, 10);
            (0..5000).map(|_| chooser.next()).collect::<Vec<_>>()
        };
        let drawn: HashSet<u64> = draw(1).into_iter().collect();
        assert_eq!(drawn.len(), 103);
        assert!(drawn.iter().all(|index| *index < 103));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn pool_is_bounded_for_large_values() {
        assert_eq!(Values::new(8 << 20, 1, 100).slots(), 8);
        assert_eq!(Values::new(1, 1, 100_000).slots(), 64);
        assert_eq!(Values::new(1, 1, 5).slots(), 5);
    }
}
