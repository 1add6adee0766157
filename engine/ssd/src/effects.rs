//! What the store asks of its caller, and the words of both sides.
//!
//! Every effect with an [`IoId`] is answered by exactly one call: `Write` by `on_written`, `Read`
//! by `on_read`, `Flush` by `on_flushed`. Answers may come in any order.

use chariot_base::{Extent, TenantId};

use crate::record::Ticket;
use crate::stats::RecoveryProgress;

/// The time, as the caller's clock port says. Lives on: any shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of the monotonic clock; never goes back.
    pub ns: u64,
    /// Milliseconds since 1970 by the wall clock; the base of expiry on disk.
    pub unix_ms: u64,
}

/// Names one I/O of the store; never reused. Lives on: owner shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IoId(pub u64);

/// Why an I/O did not do what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IoFault {
    /// The device said so (`EIO` and whatever has no name of its own here).
    Io,
    /// Fewer bytes than asked for, and no more to come.
    Short,
    /// `ENOSPC`, `EDQUOT`: a sparse file on a full file system.
    NoSpace,
    /// The file is smaller than it was.
    Shrunk,
    /// The caller gave up, or the store's own deadline passed.
    TimedOut,
}

/// A run of bytes of a group write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes of the store's own: a whole number of blocks. Not aligned in memory.
    Own(Vec<u8>),
    /// A value in the arena, to be written from where it lies.
    Extent {
        /// Whose arena.
        tenant: TenantId,
        /// The value.
        extent: Extent,
        /// Bytes that this part takes on the device: `extent.len` rounded up to whole blocks. What
        /// stands between is of no meaning, but should be zero or the same tenant's.
        padded_bytes: u64,
    },
}

impl Part {
    /// Returns the bytes that this part takes on the device; a whole number of blocks.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Own(bytes) => bytes.len() as u64,
            Self::Extent { padded_bytes, .. } => *padded_bytes,
        }
    }
}

/// One write: the parts one after the other at `offset`. Larger than one system call takes when an
/// object is; the caller splits. All of it or a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteIo {
    /// Answer to `on_written` with it.
    pub id: IoId,
    /// Which partition.
    pub partition: u16,
    /// Where; a whole number of blocks.
    pub offset: u64,
    /// What.
    pub parts: Vec<Part>,
}

/// One read of recovery or cleaning into memory of the caller's, at most
/// [`crate::limits::CLEAN_IO_BYTES_MAX`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadIo {
    /// Answer to `on_read` with it.
    pub id: IoId,
    /// Which partition.
    pub partition: u16,
    /// Where; a whole number of blocks.
    pub offset: u64,
    /// How many bytes; a whole number of blocks.
    pub len: u32,
}

/// Why an append or a delete came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpillFault {
    /// The write failed; the store writes its tombstone again elsewhere where one is needed.
    Write(IoFault),
    /// The device was given up (too many errors, or it hangs).
    Retired,
    /// Deleted or overwritten before it was written.
    Superseded,
}

/// How an append or a delete ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Which one.
    pub ticket: Ticket,
    /// `Ok`: in a completed write, so it survives `kill -9`; a power cut once a flush completed.
    /// The extent of an append is the caller's again either way.
    pub result: Result<(), SpillFault>,
}

/// Something for the caller to do. Order matters between effects of one partition only where the
/// text says so; the store never relies on two I/Os being executed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write, then `on_written`.
    Write(WriteIo),
    /// Read, then `on_read`.
    Read(ReadIo),
    /// `fdatasync`, then `on_flushed`.
    Flush {
        /// Answer with it.
        id: IoId,
        /// Which partition.
        partition: u16,
    },
    /// An append or delete has ended.
    Done(Done),
    /// Room came back: appends that were answered `Busy` may be tried again.
    Room,
    /// Recovery went on; once per segment at most.
    Progress(RecoveryProgress),
    /// Recovery is over: no lookup says `Unknown` any more.
    Recovered,
    /// The own device was given up: everything is a miss from now on, `/readyz` says degraded.
    Retired(IoFault),
    /// This shard needs nothing of that segment any more (written under another shard count).
    /// Bring it to `on_released` of shard `partition % shard_count`, this one included.
    Released {
        /// Where the segment lies.
        partition: u16,
        /// Which one.
        segment: u32,
        /// Which life of it.
        sequence: u64,
    },
    /// That segment (written under another shard count) is erased for good. Bring it to
    /// `on_erased` of every shard, this one included.
    Erased {
        /// Where the segment lies.
        partition: u16,
        /// Which one.
        segment: u32,
        /// Which life of it.
        sequence: u64,
    },
    /// Nothing of any shard is left in that partition, whose number is beyond the shard count: the
    /// file may be removed once no shard has an I/O on it.
    Drained {
        /// Which partition.
        partition: u16,
    },
    /// Everything is written, flushed and marked clean; the answer to `close`.
    Closed,
}
