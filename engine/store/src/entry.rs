//! One entry: what a key's record says, and what a write asks for.
//!
//! The record itself lies in the shared index, where clients read it; the flags that this crate
//! keeps there are [`RecordFlags`].

use thiserror::Error;

use chariot_base::{Extent, RecordId};
use chariot_proto::WriteMode;
use chariot_shm::CompletionFlags;
use chariot_shm::index::{RecordState, RecordWords};

/// The 16 flag bits of a record, as the store writes them and readers find them.
///
/// ```text
/// |15 .. 5|  4   |3 .. 1|  0  |
/// | zero  | held | mode | crc |     mode = number of the write mode
/// ```
/// Lives on: any shard, any process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFlags;

impl RecordFlags {
    /// The record's CRC32C word is the checksum of the value; the same bit as in completions.
    pub const CRC_PRESENT: u16 = CompletionFlags::CRC_PRESENT;
    /// No other tier takes the entry: it is not evicted for one.
    pub(crate) const HELD: u16 = 1 << 4;
    const MODE_SHIFT: u32 = 1;
    const MODE_MASK: u16 = 0b111;

    fn encode(crc: Option<u32>, mode: WriteMode) -> u16 {
        let crc_bit = if crc.is_some() { Self::CRC_PRESENT } else { 0 };
        crc_bit | (u16::from(mode.as_u8()) << Self::MODE_SHIFT)
    }

    /// Returns the write mode of a record's flags.
    ///
    /// # Panics
    /// When the bits name no mode: only this crate writes them, into memory that is its own.
    pub fn write_mode(flags: u16) -> WriteMode {
        let number = (flags >> Self::MODE_SHIFT) & Self::MODE_MASK;
        u8::try_from(number)
            .ok()
            .and_then(WriteMode::from_u8)
            .expect("the store wrote the number of a mode")
    }
}

const _: () = assert!(RecordFlags::CRC_PRESENT == 1);

/// What a lookup finds: a copy of the record at this moment.
///
/// Lives on: owner shard; plain values, valid until the entry changes (its generation rises).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryView {
    /// The record, stable while the key is present.
    pub record: RecordId,
    /// Where the value is; `extent.len` is the value's length in bytes.
    pub extent: Extent,
    /// CRC32C of the value, where the writer gave one.
    pub crc: Option<u32>,
    /// What users see as version: epoch (20 bits) and counter (44 bits).
    pub version: u64,
    /// Coarse monotonic milliseconds at which the entry expires; 0 = never.
    pub expiry_ms: u64,
    /// What the writer asked for.
    pub write_mode: WriteMode,
    /// What readers re-check; rises with every change of the record but its expiry.
    pub generation: u64,
}

impl EntryView {
    /// Returns the value's length in bytes.
    pub const fn len(&self) -> u64 {
        self.extent.len
    }

    /// Always false: a value has at least one byte.
    pub const fn is_empty(&self) -> bool {
        self.extent.len == 0
    }

    pub(crate) fn of(record: RecordId, words: &RecordWords, generation: u64) -> Self {
        Self {
            record,
            extent: extent_of(words),
            crc: (words.flags & RecordFlags::CRC_PRESENT != 0).then_some(words.crc),
            version: words.version,
            expiry_ms: words.expiry_ms,
            write_mode: RecordFlags::write_mode(words.flags),
            generation,
        }
    }
}

/// A write to insert. The extent holds the value already; the store takes it over on success.
///
/// Lives on: owner shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewEntry {
    /// Where the value is; offset a multiple of 64 below 2^46, length 1 to 2^48 - 1 bytes.
    pub extent: Extent,
    /// CRC32C of the value, if known.
    pub crc: Option<u32>,
    /// Coarse monotonic milliseconds at which the entry expires, below 2^48; 0 = never.
    pub expiry_ms: u64,
    /// Whether the entry may be evicted; other modes than `None` and `NoneEvict` are the handler's
    /// to refuse while there is no object store.
    pub write_mode: WriteMode,
    /// Refuse with [`InsertError::Exists`] when the key is present.
    pub set_if_absent: bool,
}

impl NewEntry {
    pub(crate) fn words(&self, version: u64) -> RecordWords {
        RecordWords {
            extent: self.extent.offset,
            len: self.extent.len,
            state: RecordState::Here,
            flags: RecordFlags::encode(self.crc, self.write_mode),
            expiry_ms: self.expiry_ms,
            crc: self.crc.unwrap_or(0),
            version,
            ..RecordWords::default()
        }
    }
}

/// What an insert did.
///
/// Lives on: owner shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted {
    /// The entry's record: tag the extent with it, so that the allocator can name victims.
    pub record: RecordId,
    /// The new version.
    pub version: u64,
    /// Whether the key was present (and not expired) before.
    pub replaced: bool,
}

/// Why an insert changed nothing; the new extent stays the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InsertError {
    /// The key is present and the write asked to set only if absent; the user decides.
    #[error("the key exists")]
    Exists,
    /// The key's version is sealed; the user takes another key, or deletes it first.
    #[error("the key is sealed")]
    Sealed,
    /// A transaction has reserved the key; the write is tried again when it is decided.
    #[error("the key is reserved by a transaction")]
    Reserved,
    /// Every record is taken by entries that are kept; the user deletes some, or the operator
    /// gives more `--metadata-memory`.
    #[error("all {entries} entries of the metadata memory are in use and kept")]
    MetadataFull {
        /// Entries that this store holds.
        entries: u32,
    },
}

pub(crate) fn extent_of(words: &RecordWords) -> Extent {
    Extent {
        offset: words.extent,
        len: words.len,
    }
}

pub(crate) const fn is_expired(expiry_ms: u64, now_ms: u64) -> bool {
    expiry_ms != 0 && expiry_ms <= now_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_keep_every_mode_and_the_crc_bit() {
        for mode in (0..=4).filter_map(WriteMode::from_u8) {
            for crc in [None, Some(0), Some(7)] {
                let flags = RecordFlags::encode(crc, mode);
                assert_eq!(RecordFlags::write_mode(flags), mode);
                assert_eq!(flags & RecordFlags::CRC_PRESENT != 0, crc.is_some());
            }
        }
    }

    #[test]
    #[should_panic(expected = "wrote the number of a mode")]
    fn flags_without_a_mode_are_a_bug() {
        let _mode = RecordFlags::write_mode(0b1110);
    }

    #[test]
    fn entry_expires_at_its_millisecond() {
        assert!(!is_expired(0, u64::MAX));
        assert!(!is_expired(10, 9));
        assert!(is_expired(10, 10));
    }
}
