//! The store: what the caller sees.

use std::collections::VecDeque;

use chariot_proto::KeyHash;

use crate::effects::{Effect, IoFault, IoId, Now};
use crate::error::{AppendError, OpenError};
use crate::options::{PartitionShape, SsdOptions};
use crate::record::{
    Append, Delete, Lookup, NewRecord, ReadId, ReadOutcome, ReadPlan, ReadResult, Source, SsdHit,
};
use crate::stats::SsdStats;

/// What one shard keeps on its SSD partition.
///
/// Lives on: owner shard.
#[derive(Debug)]
pub struct SsdStore {
    effects: VecDeque<Effect>,
}

#[expect(
    clippy::unused_self,
    clippy::needless_pass_by_value,
    clippy::missing_const_for_fn,
    unused_variables,
    reason = "the surface comes first, its body with the next commit"
)]
impl SsdStore {
    /// Opens the store of a shard over its own partition and those of other shard counts.
    ///
    /// Give every partition of the node whose segments may have been written under another shard
    /// count: all of them, unless every superblock says `shard_count` shards. Recovery begins at
    /// once, by effects.
    ///
    /// # Errors
    /// [`OpenError`]: a bug of the wiring, nothing was written.
    pub fn open(
        options: SsdOptions,
        partitions: &[PartitionShape],
        now: Now,
    ) -> Result<Self, OpenError> {
        unreachable!("built with the next commit")
    }

    /// Takes the next thing to do. Call until `None` after every call of anything else.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when `on_tick` wants to be called, monotonic nanoseconds; `None` = not before
    /// something else happens.
    pub fn next_wake_ns(&self) -> Option<u64> {
        unreachable!("built with the next commit")
    }

    /// Does what is due at `now`: group writes, flushes, cleaning, deadlines of I/Os.
    pub fn on_tick(&mut self, now: Now) {
        unreachable!("built with the next commit")
    }

    /// Returns whether a value of `len` bytes is packed among others: `append` then wants
    /// [`Source::Fill`], and a read gives [`crate::ReadLayout::Packed`].
    pub fn is_packed(&self, len: u32) -> bool {
        unreachable!("built with the next commit")
    }

    /// Writes an object. Its older versions on the device are dead from here on.
    ///
    /// # Errors
    /// [`AppendError`]: nothing has changed. An object whose older version was there must be
    /// deleted first, by `delete`, when memory overwrote it.
    ///
    /// # Panics
    /// When the record is outside the ranges of [`NewRecord`], or the source is of the wrong kind.
    pub fn append(
        &mut self,
        record: &NewRecord<'_>,
        source: Source<'_>,
        now: Now,
    ) -> Result<Append, AppendError> {
        unreachable!("built with the next commit")
    }

    /// Makes sure that what the device holds of a key never comes back: for deletes, and for
    /// overwrites in memory. The user's answer waits for `Done`.
    pub fn delete(&mut self, hash: KeyHash, now: Now) -> Delete {
        unreachable!("built with the next commit")
    }

    /// Finds an object; what expired is absent. Counts a hit or a miss.
    pub fn lookup(&mut self, hash: KeyHash, now: Now) -> Lookup {
        unreachable!("built with the next commit")
    }

    /// Finds an object without any trace.
    pub fn peek(&self, hash: KeyHash, now: Now) -> Lookup {
        unreachable!("built with the next commit")
    }

    /// Plans the read of a hit; `None` when the object has changed since, or too many reads are
    /// under way. End it with [`Self::finish_read`].
    pub fn start_read(&mut self, hit: &SsdHit, now: Now) -> Option<ReadPlan> {
        unreachable!("built with the next commit")
    }

    /// Ends a read and says whether its value may be served.
    ///
    /// # Panics
    /// When no such read is under way.
    pub fn finish_read(&mut self, id: ReadId, outcome: ReadOutcome<'_>, now: Now) -> ReadResult {
        unreachable!("built with the next commit")
    }

    /// Answers a [`Effect::Write`].
    pub fn on_written(&mut self, id: IoId, result: Result<(), IoFault>, now: Now) {
        unreachable!("built with the next commit")
    }

    /// Answers a [`Effect::Read`]; on success with exactly the bytes asked for.
    pub fn on_read(&mut self, id: IoId, result: Result<&[u8], IoFault>, now: Now) {
        unreachable!("built with the next commit")
    }

    /// Answers a [`Effect::Flush`].
    pub fn on_flushed(&mut self, id: IoId, result: Result<(), IoFault>, now: Now) {
        unreachable!("built with the next commit")
    }

    /// Hears that shard `from` has released a segment of a partition that this shard erases
    /// (`partition % shard_count` is this shard).
    pub fn on_released(
        &mut self,
        partition: u16,
        segment: u32,
        sequence: u64,
        from: u16,
        now: Now,
    ) {
        unreachable!("built with the next commit")
    }

    /// Hears that a segment written under another shard count is gone.
    pub fn on_erased(&mut self, partition: u16, segment: u32, sequence: u64, now: Now) {
        unreachable!("built with the next commit")
    }

    /// Begins a clean stop: writes what is gathered, closes the segment, flushes, marks the
    /// superblock clean, then [`Effect::Closed`]. Nothing is taken from here on.
    pub fn close(&mut self, now: Now) {
        unreachable!("built with the next commit")
    }

    /// Returns whether recovery is still under way.
    pub fn is_recovering(&self) -> bool {
        unreachable!("built with the next commit")
    }

    /// Returns what the store tells about itself.
    pub fn stats(&self) -> SsdStats {
        unreachable!("built with the next commit")
    }
}
