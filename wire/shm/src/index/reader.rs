//! The client's side of the index: find, then (after the caller's pin and fence) re-check.
//!
//! ```text
//! reader                               shard
//! find: bucket, record, generation
//! store the extent in a pin slot       unlink, raise the generation
//! fence (SeqCst)                       fence (SeqCst)
//! recheck: generation, expiry, lease   scan pin slots
//! read the bytes                       reuse the extent if no pin names it
//! ```
//!
//! Either the re-check sees the raised generation or the scan sees the pin. The memory is written
//! by the daemon only; whatever it holds, a reader stays inside its mapping and inside bounded
//! time.
//!
//! Neighbours: `session` holds the pin slots, `record` and `bucket` the lines read here.

use std::sync::atomic::Ordering::Acquire;

use super::bucket::Bucket;
use super::layout::{Geometry, IndexOptions, RecordState, bucket_of, tag_of};
use super::memory::{IndexMemoryError, Lines};
use super::record::{RecordId, RecordRead, RecordWords};
use super::steps::{Step, fence, kept, spin};
use super::table::Table;
use super::writer::IndexWriter;
#[cfg(not(loom))]
use crate::Mapping;

/// Times a probe is repeated because the table moved under it, after the first look.
const FIND_TRIES: u32 = if cfg!(loom) { 2 } else { 64 };
/// Longest chain a reader follows; a keyed hash makes chains of two or three.
const CHAIN_MAX: u32 = 4096;

/// What a reader found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The key was absent at some moment during the call.
    Absent,
    /// The key is known but its bytes are not in this arena: ask the shard.
    Elsewhere(RecordState),
    /// The key's bytes are here, as of the candidate's generation.
    Here(Candidate),
    /// The index changed at each try: ask the shard.
    Unsettled,
}

/// A record as a reader found it: valid only after a pin, a fence and [`IndexReader::recheck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The record.
    pub record: RecordId,
    /// Its generation.
    pub generation: u64,
    /// Byte offset in the arena, a multiple of 64; compare with the arena's size before use.
    pub extent: u64,
    /// Bytes of the value; compare with the arena's size before use.
    pub len: u64,
    /// Coarse monotonic milliseconds at which the entry expires, 0 = never.
    pub expiry_ms: u64,
    /// CRC32C of the value if the flags say so.
    pub crc: u32,
    /// The version users see.
    pub version: u64,
    /// Directory owner, 0 = this node alone.
    pub owner: u16,
    /// Lease generation under which the copy is readable.
    pub lease_generation: u32,
    /// The store's flags.
    pub flags: u16,
}

impl Candidate {
    fn new(record: RecordId, generation: u64, words: &RecordWords) -> Self {
        Self {
            record,
            generation,
            extent: words.extent,
            len: words.len,
            expiry_ms: words.expiry_ms,
            crc: words.crc,
            version: words.version,
            owner: words.owner,
            lease_generation: words.lease_generation,
            flags: words.flags,
        }
    }

    /// Whether the entry had expired at `now_ms` by what the candidate says.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expiry_ms != 0 && self.expiry_ms <= now_ms
    }
}

/// One probe's outcome.
enum Probe {
    Absent,
    Found(Lookup),
    Again,
}

/// A client's view of one index. Lives on: any thread of any process.
#[derive(Debug, Clone)]
pub struct IndexReader {
    table: Table,
    options: IndexOptions,
}

impl IndexReader {
    /// A reader in the writer's own process, over the same memory.
    ///
    /// # Errors
    /// [`IndexMemoryError::NotAnIndex`] never happens for a live writer.
    pub fn of(writer: &IndexWriter) -> Result<Self, IndexMemoryError> {
        Self::over(writer.lines())
    }

    /// A reader over a (read-only) mapping of the whole index memory.
    ///
    /// # Errors
    /// [`IndexMemoryError::NotAnIndex`]: another layout version, or a mapping too small for what
    /// the header says.
    #[cfg(not(loom))]
    pub fn new(mapping: Mapping) -> Result<Self, IndexMemoryError> {
        Self::over(Lines::of_mapping(mapping))
    }

    pub(super) fn over(lines: Lines) -> Result<Self, IndexMemoryError> {
        let (geometry, options) =
            Geometry::load_identity(&lines).ok_or(IndexMemoryError::NotAnIndex)?;
        Ok(Self {
            table: Table { lines, geometry },
            options,
        })
    }

    /// What the index says it was made for (`initial_buckets` is not recorded and reads 1).
    pub fn options(&self) -> &IndexOptions {
        &self.options
    }

    /// Looks a key up: one bucket line, one record line, in bounded time.
    #[inline]
    pub fn find(&self, hi: u64, lo: u64) -> Lookup {
        match self.find_here(hi, lo) {
            Some(candidate) => Lookup::Here(candidate),
            None => self.find_otherwise(hi, lo),
        }
    }

    /// The first half of [`Self::find`], for callers to whom a hit's instructions matter: one look
    /// at the first line of the key's chain. `None` says nothing; [`Self::find_otherwise`] knows.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "the answer is nine words, which its caller would copy twice"
    )]
    pub fn find_here(&self, hi: u64, lo: u64) -> Option<Candidate> {
        let word = self.table.word();
        if word.buckets() == 0 {
            return None;
        }
        let bucket = self.table.bucket(bucket_of(hi, word.buckets()))?;
        for slot in bucket.matches(tag_of(hi)) {
            let id = RecordId::new(bucket.record(slot))?;
            // A candidate is good by its record alone, whatever the table does meanwhile.
            if let RecordRead::Found(generation, words) =
                self.table.record(id.get())?.try_read_if(hi, lo)
            {
                let candidate = Candidate::new(id, generation, &words);
                return (words.state == RecordState::Here).then_some(candidate);
            }
        }
        None
    }

    /// The second half of [`Self::find`]: everything.
    #[inline(never)]
    pub fn find_otherwise(&self, hi: u64, lo: u64) -> Lookup {
        for _ in 0..FIND_TRIES {
            match self.probe(hi, lo) {
                Probe::Found(lookup) => return lookup,
                Probe::Absent => return Lookup::Absent,
                Probe::Again => spin(),
            }
        }
        Lookup::Unsettled
    }

    /// Whether the candidate still holds at `now_ms` (coarse monotonic): generation, expiry,
    /// owner's lease.
    ///
    /// The caller has stored the pin and executed a `SeqCst` fence before the call, else the answer
    /// means nothing for the bytes. The daemon's life word is the caller's affair.
    #[inline]
    pub fn recheck(&self, candidate: &Candidate, now_ms: u64) -> bool {
        self.recheck_by(candidate, || now_ms)
    }

    /// The same with a clock that is asked only when the time matters: most entries neither expire
    /// nor lie under another node's lease.
    #[inline]
    pub fn recheck_by(&self, candidate: &Candidate, mut now_ms: impl FnMut() -> u64) -> bool {
        let Some(record) = self.table.record(candidate.record.get()) else {
            return false;
        };
        // The expiry first: after the generation it could be that of a later entry in this record.
        let expiry_ms = record.expiry_ms();
        if record.generation() != candidate.generation && kept(Step::PinRecheck) {
            return false;
        }
        if expiry_ms != 0 && expiry_ms <= now_ms() && kept(Step::ExpiryRecheck) {
            return false;
        }
        candidate.owner == 0
            || self
                .table
                .owner_lease_holds(candidate.owner, candidate.lease_generation, now_ms())
    }

    /// Asks the processor to fetch the key's bucket; first pass of a batch.
    #[inline]
    pub fn prefetch(&self, hi: u64) {
        let count = self.table.word().buckets();
        if count != 0 {
            self.table.prefetch_bucket(bucket_of(hi, count));
        }
    }

    /// Asks the processor to fetch the key's record (as far as the first bucket tells); second pass
    /// of a batch.
    #[inline]
    pub fn prefetch_record(&self, hi: u64) {
        let count = self.table.word().buckets();
        if count == 0 {
            return;
        }
        if let Some(bucket) = self.table.bucket(bucket_of(hi, count)) {
            for slot in bucket.matches(tag_of(hi)) {
                self.table.prefetch_record(bucket.record(slot));
            }
        }
    }

    #[inline]
    fn probe(&self, hi: u64, lo: u64) -> Probe {
        let word = self.table.word();
        if word.buckets() == 0 {
            return Probe::Again;
        }
        let Some(first) = self.table.bucket(bucket_of(hi, word.buckets())) else {
            return Probe::Again;
        };
        let head = first.head();
        let tag = tag_of(hi);
        match self.probe_line(first, tag, hi, lo) {
            Probe::Absent => {},
            other => return other,
        }
        match self.probe_overflow(first.link(), tag, hi, lo) {
            Probe::Absent => {},
            other => return other,
        }
        fence(Step::ProbeFence, Acquire);
        let moved = !head.is_multiple_of(2) || first.head_again() != head;
        if moved && kept(Step::SequenceRecheck) {
            return Probe::Again;
        }
        if self.table.word_again() != word && kept(Step::TableRecheck) {
            return Probe::Again;
        }
        Probe::Absent
    }

    /// Looks through the overflow buckets from `link` on (0 = there are none); `Absent` = in none
    /// of them.
    #[inline(never)]
    fn probe_overflow(&self, mut link: u32, tag: u16, hi: u64, lo: u64) -> Probe {
        for _ in 1..CHAIN_MAX {
            if link == 0 {
                break;
            }
            let Some(bucket) = self.table.overflow(link) else {
                return Probe::Again;
            };
            match self.probe_line(bucket, tag, hi, lo) {
                Probe::Absent => link = bucket.link(),
                other => return other,
            }
        }
        Probe::Absent
    }

    /// Looks at the matching slots of one line; `Absent` = not in this line.
    #[inline]
    fn probe_line(&self, bucket: Bucket<'_>, tag: u16, hi: u64, lo: u64) -> Probe {
        for slot in bucket.matches(tag) {
            let number = bucket.record(slot);
            let Some(id) = RecordId::new(number) else {
                continue;
            };
            let Some(record) = self.table.record(number) else {
                return Probe::Again;
            };
            match record.read_if(hi, lo) {
                RecordRead::Other => {},
                RecordRead::Busy => return Probe::Again,
                RecordRead::Found(generation, words) => match words.state {
                    RecordState::Free => {},
                    RecordState::Here => {
                        let candidate = Candidate::new(id, generation, &words);
                        return Probe::Found(Lookup::Here(candidate));
                    },
                    state => return Probe::Found(Lookup::Elsewhere(state)),
                },
            }
        }
        Probe::Absent
    }
}
