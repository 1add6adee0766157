//! What a call sets free, for the caller to act on.
//!
//! The store decides, others do: the shard hands each retired extent to the quarantine (pins and
//! I/O may still stand on it) and from there back to the allocator.

use chariot_base::Extent;
use chariot_proto::{KeyHash, WriteMode};
use chariot_shm::index::RecordWords;

use crate::entry::{RecordFlags, extent_of};

/// Why an extent left its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetireReason {
    /// A newer value took its key.
    Overwritten,
    /// Its key was deleted.
    Deleted,
    /// Its time was over.
    Expired,
    /// Room was needed.
    Evicted,
}

/// An extent that no entry names any more; its record's generation has risen already.
///
/// Lives on: owner shard. Whoever takes it out of [`Effects`] owns the extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// The bytes.
    pub extent: Extent,
    /// Why.
    pub reason: RetireReason,
    /// Whose value it was.
    pub hash: KeyHash,
    /// What its entry said: whoever spills it writes this along.
    pub last: LastWords,
}

/// What an entry said before it was taken out. Plain values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastWords {
    /// CRC32C of the value, where the writer gave one.
    pub crc: Option<u32>,
    /// Its version.
    pub version: u64,
    /// Coarse monotonic milliseconds at which it expires; 0 = never.
    pub expiry_ms: u64,
    /// What the writer asked for.
    pub write_mode: WriteMode,
}

/// What calls have set free since the caller last drained it.
///
/// Lives on: owner shard. A call adds at most as many extents as its bound says: one for an insert
/// or remove (a few more when metadata is full), its budget for `advance`,
/// [`crate::limits::EVICT_STEPS_MAX`] for `evict`.
#[derive(Debug, Default)]
pub struct Effects {
    /// Extents without an entry, in order.
    pub retired: Vec<Retired>,
}

impl Effects {
    /// Makes an empty list with room for what one call may add.
    pub fn new() -> Self {
        Self {
            retired: Vec::with_capacity(crate::limits::EVICT_STEPS_MAX as usize),
        }
    }

    /// Returns whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.retired.is_empty()
    }

    pub(crate) fn retire(&mut self, words: &RecordWords, reason: RetireReason, hash: KeyHash) {
        let last = LastWords {
            crc: (words.flags & RecordFlags::CRC_PRESENT != 0).then_some(words.crc),
            version: words.version,
            expiry_ms: words.expiry_ms,
            write_mode: RecordFlags::write_mode(words.flags),
        };
        self.retired.push(Retired {
            extent: extent_of(words),
            reason,
            hash,
            last,
        });
    }
}
