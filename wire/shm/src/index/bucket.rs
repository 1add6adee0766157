//! One bucket line: nine slots of tag and record id, a sequence word, a link to an overflow bucket.
//!
//! ```text
//! w0 sequence (32), overflow (32) | w1 tags 0-3 | w2 tags 4-7
//! w3 tag 8 (16), spare (16), record 0 (32)
//! w4 records 1, 2 | w5 records 3, 4 | w6 records 5, 6 | w7 records 7, 8
//! ```
//!
//! The sequence of a chain's first line is odd while entries move inside the chain; overflow lines
//! use only their link. Stores into slots are releases: whoever sees a slot cleared or reused also
//! sees what was published before (the table word of a split, the sequence of a rewrite).

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{SLOTS, halves, high32, low16, low32};
use super::memory::Line;
use super::steps::{Step, kept};

/// One slot's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) tag: u16,
    pub(crate) record: u32,
}

/// A bucket's line, first or overflow.
#[derive(Clone, Copy)]
pub(crate) struct Bucket<'a>(pub(crate) &'a Line);

impl Bucket<'_> {
    /// Sequence and link in one load.
    #[inline]
    pub(crate) fn head(self) -> u64 {
        self.0.load(0, Acquire)
    }

    /// The head again, after a fence.
    #[inline]
    pub(crate) fn head_again(self) -> u64 {
        self.0.load(0, Relaxed)
    }

    /// The slots whose tag is `tag`.
    #[inline]
    pub(crate) fn matches(self, tag: u16) -> Matches {
        const LANES: u64 = 0x0001_0001_0001_0001;
        let wanted = u64::from(tag) * LANES;
        let first = zero_lanes(self.0.load(1, Relaxed) ^ wanted);
        let second = zero_lanes(self.0.load(2, Relaxed) ^ wanted);
        let third = zero_lanes(self.0.load(3, Relaxed) ^ wanted) & 0x8000;
        // Bit 16 × lane + word: word 0 to 2, lane 0 to 3; slot = 4 × word + lane.
        Matches((first >> 15) | (second >> 14) | (third >> 13))
    }

    /// The record id in a slot, 0 when there is none.
    #[inline]
    pub(crate) fn record(self, slot: usize) -> u32 {
        let (word, shift) = record_place(slot);
        low32(self.0.load(word, Acquire) >> shift)
    }

    /// The tag in a slot; the writer's view.
    pub(crate) fn tag(self, slot: usize) -> u16 {
        low16(self.0.load(1 + slot / 4, Relaxed) >> (slot % 4 * 16))
    }

    /// A slot's contents, if any; the writer's view.
    pub(crate) fn slot(self, slot: usize) -> Option<Slot> {
        let record = self.record(slot);
        (record != 0).then(|| Slot {
            tag: self.tag(slot),
            record,
        })
    }

    /// The lowest empty slot.
    pub(crate) fn empty_slot(self) -> Option<usize> {
        (0..SLOTS).find(|&slot| self.record(slot) == 0)
    }

    /// Fills an empty slot: id first, so that a tag that is seen leads to an id.
    pub(crate) fn fill(self, slot: usize, contents: Slot) {
        debug_assert_eq!(self.record(slot), 0);
        debug_assert!(contents.record != 0);
        debug_assert!(contents.tag != 0);
        self.store_record(slot, contents.record);
        self.store_tag(slot, contents.tag);
    }

    /// Empties a slot.
    pub(crate) fn clear(self, slot: usize) {
        self.store_tag(slot, 0);
        self.store_record(slot, 0);
    }

    fn store_record(self, slot: usize, record: u32) {
        let (word, shift) = record_place(slot);
        let others = self.0.load(word, Relaxed) & !(u64::from(u32::MAX) << shift);
        self.0
            .store(word, others | (u64::from(record) << shift), Release);
    }

    fn store_tag(self, slot: usize, tag: u16) {
        let (word, shift) = (1 + slot / 4, slot % 4 * 16);
        let others = self.0.load(word, Relaxed) & !(u64::from(u16::MAX) << shift);
        self.0
            .store(word, others | (u64::from(tag) << shift), Release);
    }

    /// The overflow bucket behind this one, 0 = none.
    #[inline]
    pub(crate) fn link(self) -> u32 {
        high32(self.head())
    }

    /// Links an overflow bucket (0 = none).
    pub(crate) fn set_link(self, overflow: u32) {
        let sequence = low32(self.0.load(0, Relaxed));
        self.0.store(0, halves(sequence, overflow), Release);
    }

    /// Makes the sequence odd: entries are about to move inside the chain that starts here. Needs
    /// no fence: each store into a slot is a release.
    pub(crate) fn begin_rewrite(self) {
        let head = self.0.load(0, Relaxed);
        debug_assert!(head.is_multiple_of(2));
        if kept(Step::SequenceOdd) {
            self.0.store(0, step_sequence(head), Relaxed);
        }
    }

    /// Makes the sequence even again.
    pub(crate) fn end_rewrite(self) {
        let head = self.0.load(0, Relaxed);
        if kept(Step::SequenceOdd) {
            debug_assert!(!head.is_multiple_of(2));
            self.0.store(0, step_sequence(head), Release);
        }
    }

    /// Empties an overflow bucket that nothing leads to any more and chains it to the next free
    /// one.
    ///
    /// The chain of free buckets runs through the last record id, not through the link: a late
    /// reader finds neither a tag nor a link here, ends its probe and sees that the sequence has
    /// changed.
    pub(crate) fn free(self, next_free: u32) {
        for slot in 0..SLOTS {
            if self.record(slot) != 0 {
                self.clear(slot);
            }
        }
        self.0.store(0, 0, Release);
        self.store_record(SLOTS - 1, next_free);
    }

    /// Takes a free overflow bucket out of the chain of free ones; returns the next.
    pub(crate) fn unfree(self) -> u32 {
        let next_free = self.record(SLOTS - 1);
        self.store_record(SLOTS - 1, 0);
        next_free
    }
}

/// The head with the sequence one higher and the link unchanged.
fn step_sequence(head: u64) -> u64 {
    halves(low32(head).wrapping_add(1), high32(head))
}

/// Word and shift of a slot's record id: ids are 32-bit halves from the upper half of word 3 on.
#[inline]
fn record_place(slot: usize) -> (usize, usize) {
    let half = slot + 7;
    (half / 2, half % 2 * 32)
}

/// The top bit of each 16-bit lane that is zero (exact: no carries between lanes).
#[inline]
fn zero_lanes(word: u64) -> u64 {
    const LOW: u64 = 0x7fff_7fff_7fff_7fff;
    !(((word & LOW) + LOW) | word | LOW)
}

/// Slots whose tags matched, in the order of the lanes.
pub(crate) struct Matches(u64);

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit % 16 * 4 + bit / 16)
    }
}
