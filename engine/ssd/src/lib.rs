//! The log-structured SSD store of one shard, as a pure state machine.
//!
//! Role: what one shard keeps on its SSD partition. [`SsdStore`] lays objects into large segments,
//! finds them again by their 128-bit hash, cleans segments, and rebuilds itself after a restart.
//! It does no I/O: events come in as calls (`on_written`, `on_read`, `on_flushed`, `on_tick`),
//! effects go out ([`Effect`]), and time is passed in ([`Now`]).
//!
//! ```text
//!  spill ──append──►┌──────────┐──Write──► device        get ──lookup, start_read──► device
//!  delete ─delete──►│ SsdStore │◄─on_written             bytes ──finish_read──► value or miss
//!  Done(ticket) ◄───└──────────┘──Flush──► device
//! ```
//!
//! Lives on: owner shard. Invariants:
//! 1. A segment is erased only when every record in it is dead, moved and flushed, or (bounded
//!    room) given up; erasing is flushed before anything relies on it.
//! 2. Of two records of a hash the higher version counts; a tombstone counts for every version up
//!    to its own, and stays until no older record of its hash is left on any device.
//! 3. A record is served only after its write completed, and only if its CRC32C agrees.
//! 4. At most one I/O of the cleaner is under way, of at most [`limits::CLEAN_IO_BYTES_MAX`].
//!
//! The bytes on the device are drawn in `FORMAT.md`. Neighbours: `engine/shard` (the data ring that
//! performs the effects), `engine/server` (spills, reads, deletes).

#![forbid(unsafe_code)]

pub mod limits;

mod cursor;
mod device;
mod effects;
mod error;
mod format;
mod gather;
mod ghost;
mod index;
mod load;
mod mutate;
mod options;
mod record;
mod stats;
mod store;
mod superblock;

pub use effects::{Done, Effect, IoFault, IoId, Now, Part, ReadIo, SpillFault, WriteIo};
pub use error::{AppendError, FormatError, OpenError};
pub use options::{Admission, PartitionShape, SsdOptions};
pub use record::{
    Append, Delete, Lookup, NewRecord, ReadId, ReadLayout, ReadOutcome, ReadPlan, ReadResult,
    Source, SsdHit, Ticket,
};
pub use stats::{RecoveryProgress, SsdStats};
pub use store::SsdStore;
pub use superblock::{Found, Identity, LastStop, SUPERBLOCK_READ_BYTES, Superblock, reconcile};

#[cfg(test)]
mod measure;
#[cfg(test)]
mod model;
