//! Every byte of the index: header, buckets, overflow buckets, records.
//!
//! The memory is an array of 64-byte lines of eight little words each:
//!
//! ```text
//! line 0                identity: magic, layout, capacities, boot id
//! line 1                the table word (alone: every reader loads it)
//! line 2                counts, for tools
//! lines 64..320         owner table: 1,024 × { lease until ms, lease generation }
//! lines 1024..          buckets, then overflow buckets, then records
//! ```
//!
//! Neighbours: `memory` provides the lines, `bucket` and `record` interpret one line each.

use std::sync::atomic::Ordering;

use super::memory::Lines;
use super::steps::{Step, order};

/// First word of the header: "chariotx" as little-endian bytes.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"chariotx");
/// Version of this layout; readers refuse any other.
pub(crate) const LAYOUT: u32 = 1;
/// Words in a line.
pub(crate) const WORDS_PER_LINE: usize = 8;
/// Bytes in a line.
pub(crate) const LINE_BYTES: u64 = 64;
/// Slots in a bucket: what fits into a line beside the sequence and the link.
/// (The models make do with two, so that chains are short to build.)
pub(crate) const SLOTS: usize = if cfg!(loom) { 2 } else { 9 };
/// Records per bucket at which the next bucket is split. Five keep the bytes per object below 14
/// just after growth while one lookup in twelve at most walks into an overflow bucket (Poisson, at
/// the worst point of a round).
pub(crate) const LOAD: u32 = if cfg!(loom) { 1 } else { 5 };
/// Owners in the lease table. Owner 0 is this node alone and always valid.
pub const OWNER_COUNT: usize = if cfg!(loom) { 4 } else { 1024 };

const OWNERS_LINE: usize = if cfg!(loom) { 3 } else { 64 };
const OWNERS_PER_LINE: usize = 4;
/// Lines of the header: 64 KiB.
pub(crate) const HEADER_LINES: usize = if cfg!(loom) { 4 } else { 1024 };
const _: () = assert!(OWNERS_LINE + OWNER_COUNT / OWNERS_PER_LINE <= HEADER_LINES);

/// Line and word of the table word.
pub(crate) const TABLE: (usize, usize) = (1, 0);
/// Line and word of the count of records in use.
pub(crate) const COUNT_LEN: (usize, usize) = (2, 0);
/// Line and word of the count of records ever used.
pub(crate) const COUNT_RECORDS: (usize, usize) = (2, 1);
/// Line and word of the count of overflow buckets ever used.
pub(crate) const COUNT_OVERFLOW: (usize, usize) = (2, 2);

/// Where an object's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordState {
    /// The record is in the free list.
    Free = 0,
    /// In this node's arena.
    Here = 1,
    /// On this node's SSD.
    Ssd = 2,
    /// On another node.
    Elsewhere = 3,
    /// Deleted, remembered for a time.
    Tombstone = 4,
}

impl RecordState {
    /// The state with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Free),
            1 => Some(Self::Here),
            2 => Some(Self::Ssd),
            3 => Some(Self::Elsewhere),
            4 => Some(Self::Tombstone),
            _ => None,
        }
    }
}

/// What a new index is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexOptions {
    /// Most records the index can ever hold (1 to 2^31).
    pub max_records: u32,
    /// Buckets at the start: a power of two. The memory grows from here.
    pub initial_buckets: u32,
    /// The shard, for tools and for checks by the reader.
    pub shard: u16,
    /// The tenant, likewise.
    pub tenant: u16,
    /// The daemon's boot id, so that a reader never joins memory of two lives.
    pub boot_id: u64,
}

impl IndexOptions {
    /// Options for `max_records` records with defaults for the rest.
    pub fn new(max_records: u32) -> Self {
        Self {
            max_records,
            initial_buckets: 64,
            shard: 0,
            tenant: 0,
            boot_id: 0,
        }
    }

    /// Size of the (sparse) memory for these options, in bytes; a multiple of 64.
    ///
    /// # Panics
    /// When the options are out of range.
    pub fn memory_size_bytes(&self) -> u64 {
        Geometry::of(self).lines() as u64 * LINE_BYTES
    }
}

/// The capacities, which fix where everything lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) buckets: u32,
    pub(crate) overflow: u32,
    pub(crate) records: u32,
}

impl Geometry {
    pub(crate) fn of(options: &IndexOptions) -> Self {
        assert!(options.max_records >= 1);
        assert!(options.max_records <= 1 << 31);
        assert!(options.initial_buckets.is_power_of_two());
        assert!(options.initial_buckets <= 1 << 24);
        let buckets = (options.max_records / LOAD + 1).max(options.initial_buckets);
        // As many overflow buckets as buckets: a keyed hash uses a tenth of them, and unused ones
        // cost no memory.
        Self {
            buckets,
            overflow: buckets.max(4),
            records: options.max_records,
        }
    }

    pub(crate) fn lines(&self) -> usize {
        HEADER_LINES + self.buckets as usize + self.overflow as usize + self.records as usize
    }

    /// Line of a bucket, if the number is in range.
    #[inline]
    pub(crate) fn bucket_line(&self, bucket: u32) -> Option<usize> {
        (bucket < self.buckets).then(|| HEADER_LINES + bucket as usize)
    }

    /// Line of an overflow bucket (numbers start at 1).
    #[inline]
    pub(crate) fn overflow_line(&self, number: u32) -> Option<usize> {
        let position = number.wrapping_sub(1);
        (position < self.overflow).then(|| HEADER_LINES + self.buckets as usize + position as usize)
    }

    /// Line of a record (ids start at 1).
    #[inline]
    pub(crate) fn record_line(&self, id: u32) -> Option<usize> {
        let position = id.wrapping_sub(1);
        (position < self.records).then(|| {
            HEADER_LINES + self.buckets as usize + self.overflow as usize + position as usize
        })
    }

    /// Writes the identity lines of a fresh memory; the magic last.
    pub(crate) fn store_identity(&self, lines: &Lines, options: &IndexOptions) {
        let line = lines.line(0);
        let identity = u64::from(LAYOUT)
            | (u64::from(options.shard) << 32)
            | (u64::from(options.tenant) << 48);
        line.store(1, identity, Ordering::Relaxed);
        line.store(2, halves(self.records, self.buckets), Ordering::Relaxed);
        line.store(3, u64::from(self.overflow), Ordering::Relaxed);
        line.store(4, options.boot_id, Ordering::Relaxed);
        line.store(0, MAGIC, order(Step::IdentityPublish, Ordering::Release));
    }

    /// Reads the identity of a memory once and checks that it fits into `lines`.
    pub(crate) fn load_identity(lines: &Lines) -> Option<(Self, IndexOptions)> {
        if lines.count() < HEADER_LINES {
            return None;
        }
        let line = lines.line(0);
        if line.load(0, order(Step::IdentitySee, Ordering::Acquire)) != MAGIC {
            return None;
        }
        let identity = line.load(1, Ordering::Relaxed);
        if low32(identity) != LAYOUT {
            return None;
        }
        let capacities = line.load(2, Ordering::Relaxed);
        let geometry = Self {
            buckets: high32(capacities),
            overflow: low32(line.load(3, Ordering::Relaxed)),
            records: low32(capacities),
        };
        if geometry.buckets == 0 || geometry.records == 0 || geometry.lines() > lines.count() {
            return None;
        }
        let options = IndexOptions {
            max_records: geometry.records,
            initial_buckets: 1,
            shard: low16(identity >> 32),
            tenant: low16(identity >> 48),
            boot_id: line.load(4, Ordering::Relaxed),
        };
        Some((geometry, options))
    }
}

/// Line of an owner's lease and the word of its "until"; the generation is the word after it.
#[inline]
pub(crate) fn owner_place(owner: u16) -> Option<(usize, usize)> {
    let owner = usize::from(owner);
    (owner < OWNER_COUNT).then(|| {
        (
            OWNERS_LINE + owner / OWNERS_PER_LINE,
            owner % OWNERS_PER_LINE * 2,
        )
    })
}

/// Lowest bit of `hi` that is part of the tag.
const TAG_SHIFT: u32 = 16;

/// The tag of a key: bits 16 to 31 of `hi`, 0 mapped to 1 (0 marks an empty slot).
///
/// These are the bits that decide where entries go when a table of 2^16 buckets or more splits, so
/// that a split reads no record. In exchange the lowest of them are the same for all entries of a
/// bucket: at ten million keys eleven bits still tell nine entries apart.
#[inline]
pub(crate) fn tag_of(hi: u64) -> u16 {
    low16(hi >> TAG_SHIFT).max(1)
}

/// Bit `bit` of the `hi` of a key with this tag, if the tag tells.
pub(crate) fn bit_by_tag(tag: u16, bit: u32) -> Option<bool> {
    let known = tag != 1 && (TAG_SHIFT..TAG_SHIFT + u16::BITS).contains(&bit);
    known.then(|| (tag >> (bit - TAG_SHIFT)) & 1 == 1)
}

/// The bucket of a key when there are `count` buckets: linear hashing over the low bits of `hi`.
///
/// `count` is `2^level + split`; buckets below `split` have been split already and use one bit
/// more.
#[inline]
pub(crate) fn bucket_of(hi: u64, count: u32) -> u32 {
    debug_assert!(count >= 1);
    let mask = u32::MAX >> count.leading_zeros();
    let wide = low32(hi) & mask;
    if wide < count {
        wide
    } else {
        wide & (mask >> 1)
    }
}

/// The low 32 bits.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "taking the low half is the purpose"
)]
pub(crate) const fn low32(word: u64) -> u32 {
    word as u32
}

/// The high 32 bits.
#[inline]
pub(crate) const fn high32(word: u64) -> u32 {
    low32(word >> 32)
}

/// A word of two halves.
#[inline]
pub(crate) const fn halves(low: u32, high: u32) -> u64 {
    low as u64 | ((high as u64) << 32)
}

/// The low 16 bits.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "taking the low quarter is the purpose"
)]
pub(crate) const fn low16(word: u64) -> u16 {
    word as u16
}
