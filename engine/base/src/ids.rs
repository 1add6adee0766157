//! Newtypes for everything that is counted, and the one address type of the arena.
//!
//! A bare integer that means a shard and one that means a session must not compile in each other's
//! place; these types cost nothing at run time. Lives on: any shard.

use std::fmt;
use std::num::NonZeroU32;

use crate::limits::{EXTENT_ALIGN_BYTES, GRANULE_BYTES};

/// Names one shard (one core) of this node; 0-based, below [`crate::limits::SHARDS_MAX`].
///
/// Lives on: any shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Names one tenant of this node; 0 is the default tenant. Lives on: any shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u16);

/// Names one connected client for the life of the daemon; never reused. Lives on: any shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Names one record of a tenant's index on one shard; starts at 1, so `Option<RecordId>` is 4
/// bytes.
///
/// Lives on: owner shard of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(NonZeroU32);

impl RecordId {
    /// Makes an id of a raw index word; `None` for 0, which means "no record" everywhere.
    pub const fn new(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// Returns the raw word, 1 or more.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// Names one 64 MiB granule of a tenant's virtual arena; 0-based. Lives on: any shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GranuleIndex(pub u32);

impl GranuleIndex {
    /// Returns the byte offset of the granule's first byte inside the arena.
    pub const fn offset(self) -> u64 {
        self.0 as u64 * GRANULE_BYTES
    }

    /// Returns the granule that holds the arena's byte at `offset`.
    ///
    /// # Panics
    /// When the offset lies beyond 2^32 granules, which no arena reaches.
    pub fn of_offset(offset: u64) -> Self {
        Self(u32::try_from(offset / GRANULE_BYTES).expect("an arena has fewer than 2^32 granules"))
    }
}

/// Names a contiguous run of bytes inside one tenant's arena: `offset..offset + len`.
///
/// `offset` is a multiple of 64; `len` is the payload length in bytes as asked for, not rounded.
/// A plain value: owning it is a matter of who was told (lease book, entry, quarantine).
/// Lives on: any shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// First byte, from the start of the arena; a multiple of 64.
    pub offset: u64,
    /// Payload length in bytes, 1 or more.
    pub len: u64,
}

impl Extent {
    /// Makes an extent.
    ///
    /// # Panics
    /// When `offset` is not a multiple of 64, `len` is 0, or the end overflows.
    pub fn new(offset: u64, len: u64) -> Self {
        assert!(offset.is_multiple_of(EXTENT_ALIGN_BYTES));
        assert!(len > 0);
        assert!(offset.checked_add(len).is_some());
        Self { offset, len }
    }

    /// Returns the offset of the first byte behind the payload.
    pub const fn end(self) -> u64 {
        self.offset + self.len
    }

    /// Tells whether the two runs share a byte.
    pub const fn overlaps(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}

macro_rules! display_as {
    ($($name:ident $prefix:literal),+ $(,)?) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )+};
}
display_as!(ShardId "shard ", TenantId "tenant ", SessionId "session ", RecordId "record ",
    GranuleIndex "granule ");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_id_zero_is_no_record() {
        assert_eq!(RecordId::new(0), None);
        assert_eq!(RecordId::new(7).map(RecordId::get), Some(7));
        assert_eq!(size_of::<Option<RecordId>>(), 4);
    }

    #[test]
    fn granule_of_its_own_bytes_is_itself() {
        let granule = GranuleIndex(3);
        assert_eq!(GranuleIndex::of_offset(granule.offset()), granule);
        assert_eq!(
            GranuleIndex::of_offset(granule.offset() + GRANULE_BYTES - 1),
            granule
        );
        assert_eq!(
            GranuleIndex::of_offset(granule.offset() + GRANULE_BYTES),
            GranuleIndex(4)
        );
    }

    #[test]
    fn extents_that_touch_do_not_overlap() {
        let left = Extent::new(0, 64);
        assert!(!left.overlaps(Extent::new(64, 1)));
        assert!(left.overlaps(Extent::new(0, 1)));
    }

    #[test]
    #[should_panic(expected = "is_multiple_of")]
    fn extent_off_its_alignment_is_refused() {
        let _extent = Extent::new(8, 1);
    }
}
