//! The client's pin table: which slots are free is private, what they hold is shared.

use crate::layout::{pin_word, rw, rw_area};
use crate::mapped::MappedMemory;
use crate::sync::private::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Memory, Step};

/// One slot of a [`PinTable`], held until it is released there.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is never released keeps its extent for the session's life"]
pub struct PinSlot(u32);

/// The client's pins of one session and shard: 256 slots for copies, 16,384 for views.
///
/// Lives on: any threads of the client process, all at once; no lock. One compare-and-swap to take
/// a slot, one to give it back.
#[derive(Debug)]
pub struct PinTable<M: Memory = MappedMemory> {
    rw: M,
    area: usize,
    /// One bit per slot, set while it is held.
    held: Box<[AtomicU64]>,
    /// Where the search for a free transient and a free view slot starts: words of `held`.
    hints: [AtomicU32; 2],
}

/// Which slots: those for copies come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Transient,
    View,
}

impl<M: Memory> PinTable<M> {
    pub(crate) fn new(rw: M, shard: u16) -> Self {
        let words = M::PIN_SLOTS / 64;
        let held = (0..words).map(|_| AtomicU64::new(0)).collect();
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
    #[inline]
    pub fn acquire(&self, extent: u64) -> Option<PinSlot> {
        self.acquire_in(Range::View, extent)
    }

    /// Pins like [`Self::acquire`], for the microseconds of a copy.
    #[inline]
    pub fn acquire_transient(&self, extent: u64) -> Option<PinSlot> {
        self.acquire_in(Range::Transient, extent)
    }

    /// Fences between the storing of any number of pins and the re-check of their records.
    #[inline]
    pub fn fence(&self) {
        self.rw.fence(Step::PinFence);
    }

    /// Clears a pin: nothing of the extent may be read afterwards.
    ///
    /// # Panics
    ///
    /// When the slot is another table's.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a slot is given up by its release"
    )]
    #[inline]
    pub fn release(&self, slot: PinSlot) {
        let slot = slot.0;
        assert!(slot < M::PIN_SLOTS);
        let offset = self.area + rw::PINS + slot as usize * 8;
        self.rw.store64_release(offset, 0, Step::ReleasePin);
        let bit = 1 << (slot % 64);
        // Whoever takes this slot next clears it after us, and a shard that sees its zero has then
        // also seen the end of our reads.
        let order = self.order(Step::GiveSlotBack, Ordering::Release);
        let held = self.held[slot as usize / 64].fetch_and(!bit, order);
        assert!(held & bit != 0, "a slot is released once");
        let range = if slot < M::PIN_SLOTS_TRANSIENT {
            Range::Transient
        } else {
            Range::View
        };
        let word = slot / 64 - Self::first_word(range);
        let hint = self.hint(range);
        if hint.load(Ordering::Relaxed) > word {
            hint.fetch_min(word, Ordering::Relaxed);
        }
    }

    /// Answers how many slots are held now. Reads the whole table.
    pub fn held(&self) -> u32 {
        self.held
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum()
    }

    #[inline]
    fn acquire_in(&self, range: Range, extent: u64) -> Option<PinSlot> {
        let slot = self.take_free(range)?;
        Some(self.store_pin(slot, extent))
    }

    #[inline]
    fn store_pin(&self, slot: u32, extent: u64) -> PinSlot {
        let high_water = self.area + rw::PIN_HIGH_WATER;
        if self.rw.load32(high_water) <= slot && self.rw.keeps(Step::RaiseHighWater) {
            self.rw.max32(high_water, slot + 1);
        }
        self.rw
            .store64(self.area + rw::PINS + slot as usize * 8, pin_word(extent));
        PinSlot(slot)
    }

    /// Takes the lowest free slot that the hint leads to: low slots keep the high water, and with
    /// it the shard's scan, small. The hint is only a hint: a search that finds nothing behind it
    /// looks before it.
    #[inline]
    fn take_free(&self, range: Range) -> Option<u32> {
        let first = Self::first_word(range);
        let hint = self.hint(range).load(Ordering::Relaxed);
        if hint < Self::words(range)
            && let Some(bit) = self.take_bit(first + hint)
        {
            return Some((first + hint) * 64 + bit);
        }
        self.search(range)
    }

    #[cold]
    fn search(&self, range: Range) -> Option<u32> {
        let (first, count) = (Self::first_word(range), Self::words(range));
        let hint = self.hint(range).load(Ordering::Relaxed).min(count);
        for word in (hint..count).chain(0..hint) {
            if let Some(bit) = self.take_bit(first + word) {
                if word > hint {
                    self.hint(range).store(word, Ordering::Relaxed);
                }
                return Some((first + word) * 64 + bit);
            }
        }
        None
    }

    #[inline]
    fn take_bit(&self, word: u32) -> Option<u32> {
        let order = self.order(Step::TakeSlot, Ordering::Acquire);
        let word = &self.held[word as usize];
        let mut held = word.load(Ordering::Relaxed);
        while held != u64::MAX {
            let bit = held.trailing_ones();
            let with = held | (1 << bit);
            match word.compare_exchange_weak(held, with, order, Ordering::Relaxed) {
                Ok(_) => return Some(bit),
                Err(now) => held = now,
            }
        }
        None
    }

    /// Words of `held` that a range has.
    #[inline]
    fn words(range: Range) -> u32 {
        match range {
            Range::Transient => M::PIN_SLOTS_TRANSIENT / 64,
            Range::View => (M::PIN_SLOTS - M::PIN_SLOTS_TRANSIENT) / 64,
        }
    }

    #[inline]
    fn first_word(range: Range) -> u32 {
        match range {
            Range::Transient => 0,
            Range::View => M::PIN_SLOTS_TRANSIENT / 64,
        }
    }

    #[inline]
    fn hint(&self, range: Range) -> &AtomicU32 {
        match range {
            Range::Transient => &self.hints[0],
            Range::View => &self.hints[1],
        }
    }

    #[inline]
    fn order(&self, step: Step, order: Ordering) -> Ordering {
        if self.rw.keeps(step) {
            order
        } else {
            Ordering::Relaxed
        }
    }
}
