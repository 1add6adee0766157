//! One record: where the bytes of one key are, read and written under the record's generation.
//!
//! ```text
//! w0 generation (odd while written) | w1 hash hi | w2 hash lo
//! w3 extent/64 (40 bits), state (8), flags (16) | w4 len (48), owner (16)
//! w5 expiry ms (48), spare (16) | w6 crc (32), lease generation (32) | w7 version
//! ```
//!
//! A generation lock in the manner of a sequence lock (H. Boehm, "Can seqlocks get along with
//! programming language memory models?", 2012): the writer makes w0 odd, fences (release), stores
//! the words, makes w0 even (release); a reader loads w0 (acquire), the words, fences (acquire),
//! and compares w0. Only one thread ever writes.
//!
//! Neighbours: `bucket` leads here, `reader` and `writer` use it.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{RecordState, halves, high32, low16, low32};
use super::memory::Line;
use super::steps::{Step, fence, kept, order, spin};

/// Times a reader looks again at a record that is being written before it asks the daemon instead.
const READ_TRIES: u32 = if cfg!(loom) { 2 } else { 128 };
const MASK_40: u64 = (1 << 40) - 1;
const MASK_48: u64 = (1 << 48) - 1;

/// Number of a record: 1 to the index's capacity. Stable while the key is present.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct RecordId(NonZeroU32);

impl RecordId {
    /// The id with this number; `None` for 0.
    #[inline]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number, at least 1.
    #[inline]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({})", self.0)
    }
}

/// What a record says about its key's bytes (all words but generation and hash).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordWords {
    /// Byte offset of the extent in the arena: a multiple of 64 below 2^46.
    pub extent: u64,
    /// Bytes of the value, below 2^48.
    pub len: u64,
    /// Where the bytes are.
    pub state: RecordState,
    /// Checksum present, write mode, and so on; the store's affair.
    pub flags: u16,
    /// Index of the directory owner; 0 = this node alone.
    pub owner: u16,
    /// The 16 spare bits beside the expiry.
    pub spare: u16,
    /// Coarse monotonic milliseconds at which the entry expires, below 2^48; 0 = never.
    pub expiry_ms: u64,
    /// CRC32C of the value, when the flags say so.
    pub crc: u32,
    /// The owner's lease generation under which this copy is readable.
    pub lease_generation: u32,
    /// What users see as version.
    pub version: u64,
}

impl Default for RecordWords {
    fn default() -> Self {
        Self {
            extent: 0,
            len: 0,
            state: RecordState::Here,
            flags: 0,
            owner: 0,
            spare: 0,
            expiry_ms: 0,
            crc: 0,
            lease_generation: 0,
            version: 0,
        }
    }
}

impl RecordWords {
    fn encode(&self) -> [u64; 5] {
        assert_eq!(self.extent % 64, 0);
        assert!(self.extent < 1 << 46);
        assert!(self.len <= MASK_48);
        assert!(self.expiry_ms <= MASK_48);
        [
            (self.extent >> 6) | ((self.state as u64) << 40) | (u64::from(self.flags) << 48),
            self.len | (u64::from(self.owner) << 48),
            self.expiry_ms | (u64::from(self.spare) << 48),
            halves(self.crc, self.lease_generation),
            self.version,
        ]
    }

    /// Decodes words; an unknown state reads as a tombstone, which sends the reader to the daemon.
    #[inline]
    fn decode(words: [u64; 5]) -> Self {
        let state = (low16(words[0] >> 40) & 0xff) as u8;
        Self {
            extent: (words[0] & MASK_40) << 6,
            len: words[1] & MASK_48,
            state: RecordState::from_number(state).unwrap_or(RecordState::Tombstone),
            flags: low16(words[0] >> 48),
            owner: low16(words[1] >> 48),
            spare: low16(words[2] >> 48),
            expiry_ms: words[2] & MASK_48,
            crc: low32(words[3]),
            lease_generation: high32(words[3]),
            version: words[4],
        }
    }
}

/// What a reader learns from one record.
pub(crate) enum RecordRead {
    /// The record is another key's (or nobody's).
    Other,
    /// The record was being written each time it was looked at.
    Busy,
    /// The record is this key's, as of this generation.
    Found(u64, RecordWords),
}

/// One record's line.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a>(pub(crate) &'a Line);

impl Record<'_> {
    /// Reads the record if it belongs to the key; for readers beside the writer.
    ///
    /// A hash that differs needs no check of the generation: while a key is present its record's
    /// hash words do not change, so a difference means that this record is not (or no longer, or
    /// not yet) the key's.
    #[inline]
    pub(crate) fn read_if(self, hi: u64, lo: u64) -> RecordRead {
        match self.try_read_if(hi, lo) {
            RecordRead::Busy => self.read_again_if(hi, lo),
            read => read,
        }
    }

    /// The tries after the first.
    #[cold]
    fn read_again_if(self, hi: u64, lo: u64) -> RecordRead {
        for _ in 1..READ_TRIES {
            spin();
            match self.try_read_if(hi, lo) {
                RecordRead::Busy => {},
                read => return read,
            }
        }
        RecordRead::Busy
    }

    /// One try of [`Self::read_if`].
    #[inline]
    pub(super) fn try_read_if(self, hi: u64, lo: u64) -> RecordRead {
        let generation = self.0.load(0, order(Step::RecordSee, Acquire));
        if self.0.load(1, Relaxed) != hi || self.0.load(2, Relaxed) != lo {
            return RecordRead::Other;
        }
        let words = std::array::from_fn(|at| self.0.load(3 + at, Relaxed));
        fence(Step::RecordReadFence, Acquire);
        let after = self.0.load(0, Relaxed);
        let unchanged = after == generation && generation.is_multiple_of(2);
        if unchanged || !kept(Step::RecordRecheck) {
            RecordRead::Found(generation, RecordWords::decode(words))
        } else {
            RecordRead::Busy
        }
    }

    /// The generation as another thread may see it at this moment.
    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0.load(0, Acquire)
    }

    /// The expiry as it is at this moment; it may change without the generation. It belongs to the
    /// generation that is loaded after it: seen with acquire, for the writer fences before the
    /// words.
    #[inline]
    pub(crate) fn expiry_ms(self) -> u64 {
        self.0.load(5, order(Step::ExpirySee, Acquire)) & MASK_48
    }

    /// The writer's own view.
    pub(crate) fn hash(self) -> (u64, u64) {
        (self.0.load(1, Relaxed), self.0.load(2, Relaxed))
    }

    /// The writer's own view.
    pub(crate) fn words(self) -> RecordWords {
        RecordWords::decode(std::array::from_fn(|at| self.0.load(3 + at, Relaxed)))
    }

    /// Stores hash and words; the generation rises by two.
    pub(crate) fn write(self, (hi, lo): (u64, u64), words: &RecordWords) {
        let generation = self.0.load(0, Relaxed);
        assert!(generation.is_multiple_of(2));
        if kept(Step::GenerationOdd) {
            self.0.store(0, generation + 1, Relaxed);
        }
        fence(Step::RecordWriteFence, Release);
        self.0.store(1, hi, Relaxed);
        self.0.store(2, lo, Relaxed);
        for (at, word) in words.encode().into_iter().enumerate() {
            self.0.store(3 + at, word, Relaxed);
        }
        if kept(Step::GenerationRises) {
            self.0
                .store(0, generation + 2, order(Step::RecordPublish, Release));
        } else {
            self.0.store(0, generation, Release);
        }
    }

    /// Stores the expiry alone, as one word: pins that stand are not disturbed.
    pub(crate) fn set_expiry(self, expiry_ms: u64) {
        assert!(expiry_ms <= MASK_48);
        let spare = self.0.load(5, Relaxed) & !MASK_48;
        self.0.store(5, spare | expiry_ms, Release);
    }

    /// Empties the record and links it to the next free one; the generation rises by two.
    pub(crate) fn free(self, next_free: u32) {
        let words = RecordWords {
            state: RecordState::Free,
            ..RecordWords::default()
        };
        self.write((0, u64::from(next_free)), &words);
    }

    /// The next free record behind a free one.
    pub(crate) fn next_free(self) -> u32 {
        low32(self.0.load(2, Relaxed))
    }
}
