//! Objects as the caller hands them over, and as it finds them again.

use chariot_base::{Extent, TenantId};
use chariot_proto::{KeyHash, WriteMode};

/// Names an append or a delete until its [`crate::Effect::Done`]; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// An object to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Its identity.
    pub hash: KeyHash,
    /// Whose it is; a note for operators, the hash says it already.
    pub tenant: TenantId,
    /// The key itself, 1 to 1,024 bytes.
    pub key: &'a [u8],
    /// Its version, 20 bits of epoch and 44 of counter; above every older one of its key.
    pub version: u64,
    /// When it expires, milliseconds since 1970 by the wall clock; 0 = never.
    pub expiry_unix_ms: u64,
    /// Length of the value in bytes, 1 or more.
    pub len: u32,
    /// CRC32C of the value. Always needed here: the caller computes it when the entry has none.
    pub crc: u32,
    /// Whether the entry had the checksum before; told again with a hit, nothing else.
    pub has_checksum: bool,
    /// What its write promised.
    pub mode: WriteMode,
}

/// Where the bytes of a value come from.
pub enum Source<'a> {
    /// The value lies in the arena and is written from there; the extent stays as it is until
    /// `Done`. Wanted where `SsdStore::is_packed` says no.
    Extent(Extent),
    /// Fills exactly `len` bytes; called once, during the append. Wanted where
    /// `SsdStore::is_packed` says yes.
    Fill(&'a mut dyn FnMut(&mut [u8])),
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Extent(extent) => f.debug_tuple("Extent").field(extent).finish(),
            Self::Fill(_) => f.write_str("Fill(..)"),
        }
    }
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// It is on its way; `Done` with this ticket ends it.
    Queued(Ticket),
    /// This version is on the device already (promoted and evicted unchanged): nothing to wait for.
    Present,
}

/// What a delete, or an overwrite in memory, needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delete {
    /// The device holds nothing of that key: nothing to wait for.
    Absent,
    /// A tombstone is on its way; the user's answer waits for its `Done`.
    Queued(Ticket),
    /// No tombstone can be written (device given up, index full); the old value may come back
    /// after a restart.
    Refused,
}

/// What the index knows about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It is here.
    Hit(SsdHit),
    /// It is not here.
    Absent,
    /// Recovery may still find it.
    Unknown,
    /// It is being written; the caller still has it in memory (or gave it up).
    Writing,
}

/// An object that can be read. A plain value; stale at once when the store changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SsdHit {
    /// Its identity.
    pub hash: KeyHash,
    /// Its version.
    pub version: u64,
    /// Length of its value in bytes.
    pub len: u32,
    /// When it expires, milliseconds since 1970; 0 = never. Rounded down to 64 ms.
    pub expiry_unix_ms: u64,
    /// CRC32C of its value.
    pub crc: u32,
    /// Whether its entry had the checksum before it was spilled.
    pub has_checksum: bool,
    /// What its write promised.
    pub mode: WriteMode,
    /// Whether policy wants it in memory again.
    pub promote: bool,
}

/// Names a read of a hit until `finish_read`; its segment is not reused before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// How the value lies in what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadLayout {
    /// The value begins with the first byte: read straight into an extent that has room for
    /// `len` of the plan.
    Payload,
    /// The value lies somewhere inside, behind its header: read into a buffer, give it to
    /// `finish_read`, copy from where that says.
    Packed,
}

/// One I/O that brings a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPlan {
    /// End it with `finish_read`, whatever happens.
    pub id: ReadId,
    /// Which partition.
    pub partition: u16,
    /// Where; a whole number of blocks.
    pub offset: u64,
    /// How many bytes; a whole number of blocks.
    pub len: u32,
    /// How the value lies in them.
    pub layout: ReadLayout,
    /// What is being read.
    pub hit: SsdHit,
}

/// What came of the I/O of a [`ReadPlan`].
#[derive(Debug, Clone, Copy)]
pub enum ReadOutcome<'a> {
    /// For [`ReadLayout::Payload`]: CRC32C of the first `hit.len` bytes that were read.
    Checksum(u32),
    /// All bytes that were read, for either layout.
    Bytes(&'a [u8]),
    /// No bytes.
    Failed(crate::IoFault),
    /// The caller lost interest; nothing is counted.
    Cancelled,
}

/// Whether the value may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadResult {
    /// Serve it: `hit.len` bytes from `at` of what was read.
    Value {
        /// First byte of the value in what was read; 0 for [`ReadLayout::Payload`].
        at: u32,
    },
    /// A counted miss: the bytes are not what was written. The entry is gone.
    Corrupt,
    /// A miss: the read failed or was cancelled.
    Failed,
}
