//! The shard's side of the index: insert, update, remove, each visible to readers at once.
//!
//! Lives on: the owner shard. One writer per memory. Chains are packed: only the last bucket of a
//! chain that has overflow buckets may have empty slots, so that one removal moves at most one
//! entry.
//!
//! Neighbours: `grow` splits buckets, `reader` is the other side.

use super::bucket::{Bucket, Slot};
use super::layout::{
    COUNT_LEN, COUNT_OVERFLOW, COUNT_RECORDS, Geometry, HEADER_LINES, IndexOptions, LINE_BYTES,
    SLOTS, bucket_of, tag_of,
};
use super::memory::{IndexMemory, IndexMemoryError, Lines};
use super::record::{Record, RecordId, RecordWords};
use super::table::{Table, TableWord};

/// The index holds as many records as it was made for, or its overflow buckets are used up; evict,
/// then try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the index is full")]
pub struct IndexFull;

/// How much of the memory is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexUsage {
    /// Keys present.
    pub len: u32,
    /// Buckets in the table.
    pub buckets: u32,
    /// Overflow buckets linked at present.
    pub overflow: u32,
    /// Records ever used (they stay populated).
    pub records_high: u32,
    /// Overflow buckets ever used.
    pub overflow_high: u32,
}

/// The one writer of an index. Lives on: owner shard.
#[derive(Debug)]
pub struct IndexWriter {
    pub(super) table: Table,
    pub(super) word: TableWord,
    pub(super) usage: IndexUsage,
    free_record: u32,
    free_overflow: u32,
    /// Entries of the chain that is being rewritten; kept for its capacity.
    pub(super) scratch: Vec<Slot>,
}

/// Where a slot is: the chain's first bucket, the line that holds the slot, and the slot.
#[derive(Clone, Copy)]
struct Place<'a> {
    first: Bucket<'a>,
    bucket: Bucket<'a>,
    slot: usize,
}

impl IndexWriter {
    /// Makes an empty index in `memory`, which is all zero.
    ///
    /// # Errors
    /// [`IndexMemoryError::TooSmall`]: `memory` has fewer bytes than
    /// [`IndexOptions::memory_size_bytes`].
    pub fn new(memory: IndexMemory, options: &IndexOptions) -> Result<Self, IndexMemoryError> {
        let geometry = Geometry::of(options);
        let lines = memory.lines;
        if lines.count() < geometry.lines() {
            return Err(IndexMemoryError::TooSmall {
                have: lines.count() as u64 * LINE_BYTES,
                need: options.memory_size_bytes(),
            });
        }
        let table = Table { lines, geometry };
        let word = TableWord::new(options.initial_buckets, 1);
        table.set_word(word);
        geometry.store_identity(&table.lines, options);
        let usage = IndexUsage {
            len: 0,
            buckets: options.initial_buckets,
            overflow: 0,
            records_high: 0,
            overflow_high: 0,
        };
        Ok(Self {
            table,
            word,
            usage,
            free_record: 0,
            free_overflow: 0,
            scratch: Vec::new(),
        })
    }

    pub(super) fn lines(&self) -> Lines {
        self.table.lines.clone()
    }

    /// The record of a key.
    #[inline]
    pub fn find(&self, hi: u64, lo: u64) -> Option<RecordId> {
        let tag = tag_of(hi);
        let mut bucket = self.first_bucket(hi);
        loop {
            for slot in bucket.matches(tag) {
                let number = bucket.record(slot);
                if let Some(id) = RecordId::new(number)
                    && self.record(id).hash() == (hi, lo)
                {
                    return Some(id);
                }
            }
            bucket = self.next_bucket(bucket)?;
        }
    }

    /// What a record says.
    ///
    /// # Panics
    /// When the id is beyond the capacity.
    pub fn read(&self, id: RecordId) -> RecordWords {
        self.record(id).words()
    }

    /// The hash (hi, lo) of the key a record belongs to; meaningless for a free one.
    pub fn hash(&self, id: RecordId) -> (u64, u64) {
        self.record(id).hash()
    }

    /// The record's generation, even.
    pub fn generation(&self, id: RecordId) -> u64 {
        self.record(id).generation()
    }

    /// Adds a key that is not present (the caller has looked). Amortised cost includes growth by
    /// single splits.
    ///
    /// # Errors
    /// [`IndexFull`]: nothing has changed.
    pub fn insert(&mut self, hi: u64, lo: u64, words: &RecordWords) -> Result<RecordId, IndexFull> {
        debug_assert!(self.find(hi, lo).is_none());
        let id = self.take_record()?;
        self.record(id).write((hi, lo), words);
        let bucket = bucket_of(hi, self.word.buckets());
        if self
            .link_into(
                bucket,
                Slot {
                    tag: tag_of(hi),
                    record: id.get(),
                },
            )
            .is_err()
        {
            self.free_record(id);
            return Err(IndexFull);
        }
        self.usage.len += 1;
        self.table.set_count(COUNT_LEN, self.usage.len);
        self.grow();
        Ok(id)
    }

    /// Replaces what a record says; its generation rises, so every earlier candidate fails its
    /// re-check.
    pub fn update(&mut self, id: RecordId, words: &RecordWords) {
        let record = self.record(id);
        record.write(record.hash(), words);
    }

    /// Changes the expiry alone (milliseconds, 0 = never); pins that stand are not disturbed.
    pub fn set_expiry(&mut self, id: RecordId, expiry_ms: u64) {
        self.record(id).set_expiry(expiry_ms);
    }

    /// Unlinks a record, raises its generation and frees it; returns what it said.
    ///
    /// # Panics
    /// When the record is not in the index.
    pub fn remove(&mut self, id: RecordId) -> RecordWords {
        let words = self.read(id);
        self.unlink(id);
        self.free_record(id);
        self.usage.len -= 1;
        self.table.set_count(COUNT_LEN, self.usage.len);
        words
    }

    /// Sets an owner's lease: its generation (only rises) and the coarse monotonic milliseconds it
    /// lasts until.
    ///
    /// # Panics
    /// For owner 0, an owner beyond [`OWNER_COUNT`](super::OWNER_COUNT), or a generation that
    /// falls.
    pub fn set_owner_lease(&mut self, owner: u16, lease_generation: u32, until_ms: u64) {
        self.table
            .set_owner_lease(owner, lease_generation, until_ms);
    }

    /// Keys present.
    pub fn len(&self) -> u32 {
        self.usage.len
    }

    /// Whether no key is present.
    pub fn is_empty(&self) -> bool {
        self.usage.len == 0
    }

    /// Most keys that can be present.
    pub fn capacity(&self) -> u32 {
        self.table.geometry.records
    }

    /// Counts of lines in use.
    pub fn usage(&self) -> IndexUsage {
        self.usage
    }

    /// Bytes of memory that have been touched: header, buckets, overflow buckets, records.
    pub fn populated_bytes(&self) -> u64 {
        let lines = HEADER_LINES as u64
            + u64::from(self.usage.buckets)
            + u64::from(self.usage.overflow_high)
            + u64::from(self.usage.records_high);
        lines * LINE_BYTES
    }

    /// Asks the processor to fetch a key's bucket, for batches.
    #[inline]
    pub fn prefetch(&self, hi: u64) {
        self.table
            .prefetch_bucket(bucket_of(hi, self.word.buckets()));
    }

    fn record(&self, id: RecordId) -> Record<'_> {
        self.table
            .record(id.get())
            .expect("a record id is at most the capacity")
    }

    fn first_bucket(&self, hi: u64) -> Bucket<'_> {
        self.bucket(bucket_of(hi, self.word.buckets()))
    }

    pub(super) fn bucket(&self, number: u32) -> Bucket<'_> {
        self.table
            .bucket(number)
            .expect("the table has no more buckets than its capacity")
    }

    pub(super) fn overflow(&self, number: u32) -> Bucket<'_> {
        self.table
            .overflow(number)
            .expect("links hold numbers of overflow buckets")
    }

    pub(super) fn next_bucket(&self, bucket: Bucket<'_>) -> Option<Bucket<'_>> {
        let link = bucket.link();
        (link != 0).then(|| self.overflow(link))
    }

    fn take_record(&mut self) -> Result<RecordId, IndexFull> {
        if let Some(id) = RecordId::new(self.free_record) {
            self.free_record = self.record(id).next_free();
            return Ok(id);
        }
        if self.usage.records_high == self.table.geometry.records {
            return Err(IndexFull);
        }
        self.usage.records_high += 1;
        self.table.set_count(COUNT_RECORDS, self.usage.records_high);
        RecordId::new(self.usage.records_high).ok_or(IndexFull)
    }

    fn free_record(&mut self, id: RecordId) {
        self.record(id).free(self.free_record);
        self.free_record = id.get();
    }

    /// Length of the chain of free records.
    pub(super) fn free_records(&self) -> u32 {
        let mut count = 0;
        let mut free = RecordId::new(self.free_record);
        while let Some(id) = free {
            count += 1;
            free = RecordId::new(self.record(id).next_free());
        }
        count
    }

    pub(super) fn take_overflow(&mut self) -> Result<u32, IndexFull> {
        let number = if self.free_overflow != 0 {
            let number = self.free_overflow;
            self.free_overflow = self.overflow(number).unfree();
            number
        } else if self.usage.overflow_high < self.table.geometry.overflow {
            self.usage.overflow_high += 1;
            self.table
                .set_count(COUNT_OVERFLOW, self.usage.overflow_high);
            self.usage.overflow_high
        } else {
            return Err(IndexFull);
        };
        self.usage.overflow += 1;
        Ok(number)
    }

    /// Frees an overflow bucket that no chain leads to any more.
    pub(super) fn free_overflow(&mut self, number: u32) {
        self.overflow(number).free(self.free_overflow);
        self.free_overflow = number;
        self.usage.overflow -= 1;
    }

    /// Whether `count` overflow buckets can be taken.
    pub(super) fn overflow_left(&self, count: u32) -> bool {
        self.table.geometry.overflow - self.usage.overflow >= count
    }

    /// Puts a slot's contents at the end of a bucket's chain.
    pub(super) fn link_into(&mut self, number: u32, contents: Slot) -> Result<(), IndexFull> {
        let mut last = self.bucket(number);
        while let Some(next) = self.next_bucket(last) {
            last = next;
        }
        if let Some(slot) = last.empty_slot() {
            last.fill(slot, contents);
            return Ok(());
        }
        let added = self.take_overflow()?;
        self.overflow(added).fill(0, contents);
        let mut last = self.bucket(number);
        while let Some(next) = self.next_bucket(last) {
            last = next;
        }
        last.set_link(added);
        Ok(())
    }

    fn place_of(&self, id: RecordId) -> Place<'_> {
        let (hi, _) = self.record(id).hash();
        let tag = tag_of(hi);
        let first = self.first_bucket(hi);
        let mut bucket = first;
        loop {
            for slot in bucket.matches(tag) {
                if bucket.record(slot) == id.get() {
                    return Place {
                        first,
                        bucket,
                        slot,
                    };
                }
            }
            bucket = self
                .next_bucket(bucket)
                .expect("a record in use is linked in its bucket");
        }
    }

    /// Takes a record out of its chain and keeps the chain packed.
    fn unlink(&mut self, id: RecordId) {
        let place = self.place_of(id);
        if place.first.link() == 0 {
            place.bucket.clear(place.slot);
            return;
        }
        let mut before = place.first;
        let mut last = place.first;
        while let Some(next) = self.next_bucket(last) {
            before = last;
            last = next;
        }
        let (filler_slot, filler) = (0..SLOTS)
            .rev()
            .find_map(|slot| last.slot(slot).map(|contents| (slot, contents)))
            .expect("the last bucket of a chain is not empty");
        place.first.begin_rewrite();
        place.bucket.clear(place.slot);
        if filler.record != id.get() {
            place.bucket.fill(place.slot, filler);
            last.clear(filler_slot);
        }
        let emptied = if filler_slot == 0 { before.link() } else { 0 };
        if emptied != 0 {
            before.set_link(0);
        }
        place.first.end_rewrite();
        if emptied != 0 {
            self.free_overflow(emptied);
        }
    }
}
