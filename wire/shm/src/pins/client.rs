//! The client's pin table: which slots are free is private, what they hold is shared.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::layout::{PIN_SLOTS, PIN_SLOTS_TRANSIENT, pin_word, rw, rw_area};
use crate::mapped::MappedMemory;
use crate::sync::{Memory, Step};

const WORDS: usize = PIN_SLOTS as usize / 64;
const WORDS_TRANSIENT: usize = PIN_SLOTS_TRANSIENT as usize / 64;
const _: () = assert!(PIN_SLOTS.is_multiple_of(64));
const _: () = assert!(PIN_SLOTS_TRANSIENT.is_multiple_of(64));

/// One slot of a [`PinTable`], held until it is released there.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is never released keeps its extent for the session's life"]
pub struct PinSlot(u32);

/// The client's pins of one session and shard: 256 slots for copies, 16,384 for views.
///
/// Lives on: any threads of the client process, all at once; no lock. One compare-and-swap to take a
/// slot, one to give it back.
#[derive(Debug)]
pub struct PinTable<M: Memory = MappedMemory> {
    rw: M,
    area: usize,
    /// One bit per slot, set while it is held.
    held: Box<[AtomicU64]>,
    /// Where the search for a free transient and a free view slot starts: words of `held`.
    hints: [AtomicU32; 2],
}

impl<M: Memory> PinTable<M> {
    pub(crate) fn new(rw: M, shard: u16) -> Self {
        let held = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self {
            rw,
            area: rw_area(shard),
            held,
            hints: [AtomicU32::new(0), AtomicU32::new(0)],
        }
    }

    /// Pins the extent that starts at byte `extent` of the arena for a view. The caller then either
    /// fences ([`Self::fence`]) and re-checks the record, or consumes the completion that named it.
    /// `None`: all view slots are held.
    pub fn acquire(&self, extent: u64) -> Option<PinSlot> {
        self.acquire_in(1, extent)
    }

    /// Pins like [`Self::acquire`], for the microseconds of a copy.
    pub fn acquire_transient(&self, extent: u64) -> Option<PinSlot> {
        self.acquire_in(0, extent)
    }

    /// Fences between the storing of any number of pins and the re-check of their records.
    pub fn fence(&self) {
        self.rw.fence(Step::PinFence);
    }

    /// Clears a pin: nothing of the extent may be read afterwards.
    pub fn release(&self, slot: PinSlot) {
        self.clear(slot.0);
        let word = slot.0 as usize / 64;
        let bit = 1 << (slot.0 % 64);
        let held = self.held[word].fetch_and(!bit, Ordering::Release);
        assert!(held & bit != 0, "a slot is released once");
        let class = usize::from(word >= WORDS_TRANSIENT);
        self.hints[class].fetch_min(narrow(word - class * WORDS_TRANSIENT), Ordering::Relaxed);
    }

    /// Answers how many slots are held now. Reads the whole table.
    pub fn held(&self) -> u32 {
        self.held
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum()
    }

    fn acquire_in(&self, class: usize, extent: u64) -> Option<PinSlot> {
        let slot = self.take_free(class)?;
        self.store(slot, extent);
        Some(PinSlot(slot))
    }

    fn store(&self, slot: u32, extent: u64) {
        let high_water = self.area + rw::PIN_HIGH_WATER;
        if self.rw.load32(high_water) <= slot && self.rw.keeps(Step::RaiseHighWater) {
            self.rw.max32(high_water, slot + 1);
        }
        self.rw
            .store64(self.area + rw::PINS + slot as usize * 8, pin_word(extent));
    }

    fn clear(&self, slot: u32) {
        let offset = self.area + rw::PINS + slot as usize * 8;
        self.rw.store64_release(offset, 0, Step::ReleasePin);
    }

    /// Takes the lowest free slot that the hint leads to: low slots keep the high water, and with it
    /// the shard's scan, small.
    fn take_free(&self, class: usize) -> Option<u32> {
        let words = match class {
            0 => &self.held[..WORDS_TRANSIENT],
            _ => &self.held[WORDS_TRANSIENT..],
        };
        let hint = self.hints[class].load(Ordering::Relaxed) as usize;
        let (before, after) = words.split_at(hint.min(words.len()));
        let found = take_bit(after)
            .map(|(word, bit)| (word + before.len(), bit))
            .or_else(|| take_bit(before));
        let (word, bit) = found?;
        if word > hint {
            self.hints[class].store(narrow(word), Ordering::Relaxed);
        }
        Some(narrow((word + class * WORDS_TRANSIENT) * 64) + bit)
    }
}

fn take_bit(words: &[AtomicU64]) -> Option<(usize, u32)> {
    for (index, word) in words.iter().enumerate() {
        let mut held = word.load(Ordering::Relaxed);
        while held != u64::MAX {
            let bit = held.trailing_ones();
            let with = held | 1 << bit;
            match word.compare_exchange_weak(held, with, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some((index, bit)),
                Err(now) => held = now,
            }
        }
    }
    None
}

fn narrow(index: usize) -> u32 {
    u32::try_from(index).expect("a pin table has thousands of slots")
}
