//! The entries of one tenant on one shard.
//!
//! ```text
//!            insert, remove, set_expiry           lookup, note_access
//!                  │                                     │
//!   index (shared, 64 B a record) ── record id ──┬── policy links (8 B): who goes next
//!                                                └── timer links  (8 B): who expires next
//! ```
//! The record id is the only name of an entry in here; the parallel arrays are indexed by it. Every
//! change of a record goes through [`Store::put_words`] or [`Store::take_out`], so that index,
//! policy, wheel and byte counts cannot drift apart ([`Store::check_invariants`]).
//!
//! An entry whose time is over is a miss at once, here and for readers of the index; its memory
//! comes back when the wheel reaches it (`advance`), or when its key is written or deleted.
//!
//! Lives on: owner shard. Neighbours: `store/evict.rs` makes room.

mod evict;
mod hidden;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod workload;

use chariot_base::RecordId;
use chariot_proto::KeyHash;
use chariot_shm::index::{self, IndexWriter, RecordWords};
use hashbrown::HashMap;

use crate::ages::Ages;
use crate::effects::{Effects, RetireReason};
use crate::entry::{EntryView, InsertError, Inserted, NewEntry, RecordFlags, is_expired};
use crate::limits::{
    GHOST_BYTES_PER_ENTRY, METADATA_VICTIMS_MAX, PRIVATE_BYTES_PER_ENTRY, RECORDS_MAX,
};
use crate::policy::{Policy, PolicyState};
use crate::stats::StoreStats;
use crate::wheel::Wheel;

pub use evict::{Blocked, Evicted};

const COUNTER_BITS: u32 = 44;

/// What a store is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreOptions {
    /// Who goes when room is needed.
    pub policy: Policy,
    /// The upper 20 bits of every version: a number that rises with each start of the node.
    pub epoch: u32,
    /// Most entries; 0 or more than the index's capacity means the index's capacity.
    pub entries_max: u32,
    /// Evicted entries go to another tier, also those of mode `None`, which may then be evicted.
    pub spills: bool,
}

/// What a turn of the timer wheel did.
///
/// Lives on: owner shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advanced {
    /// Entries that expired.
    pub expired: u32,
    /// Whether the budget ran out before the wheel caught up: call again after a yield.
    pub has_more: bool,
}

/// Returns how many entries `metadata_bytes` of metadata memory hold, for the index's capacity.
///
/// An entry costs its record (64), its share of buckets (16 at the worst point), links (16) and,
/// with `s3fifo`, the ghost queue (2). The allocator's share is counted with the arena.
pub fn entries_for(metadata_bytes: u64, policy: Policy) -> u32 {
    let ghost = match policy {
        Policy::Lru => 0,
        Policy::S3Fifo => GHOST_BYTES_PER_ENTRY,
    };
    let entries = metadata_bytes / (64 + 16 + PRIVATE_BYTES_PER_ENTRY + ghost);
    u32::try_from(entries)
        .unwrap_or(RECORDS_MAX)
        .clamp(1, RECORDS_MAX)
}

/// The entries of one tenant on one shard, with their eviction order and their timers.
///
/// Lives on: owner shard.
pub struct Store {
    index: IndexWriter,
    policy: PolicyState,
    wheel: Wheel,
    ages: Ages,
    options: StoreOptions,
    entries_max: u32,
    /// Counter of the last version given.
    counter: u64,
    /// The latest time that any call brought.
    now_ms: u64,
    bytes: u64,
    /// Pinned entries that the hand has passed since it last did anything else.
    pinned_run: u32,
    /// Keys that no eviction may take, by how often they are held; see `store/hidden.rs`.
    held: HashMap<KeyHash, u32>,
    stats: StoreStats,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("options", &self.options)
            .field("entries", &self.index.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Makes an empty store over an empty index.
    ///
    /// # Panics
    /// When the index holds entries or more than 2^29 - 1 records, or the epoch has more than 20
    /// bits.
    pub fn new(index: IndexWriter, options: StoreOptions) -> Self {
        assert!(index.is_empty());
        assert!(index.capacity() <= RECORDS_MAX);
        assert!(options.epoch < 1 << (u64::BITS - COUNTER_BITS));
        let records_max = index.capacity();
        let entries_max = match options.entries_max {
            0 => records_max,
            limit => limit.min(records_max),
        };
        Self {
            index,
            policy: PolicyState::new(options.policy, records_max),
            wheel: Wheel::new(records_max),
            ages: Ages::new(),
            options,
            entries_max,
            counter: 0,
            now_ms: 0,
            bytes: 0,
            pinned_run: 0,
            held: HashMap::new(),
            stats: StoreStats::default(),
        }
    }

    /// Finds a key and counts that as a use; an entry whose time is over is a miss.
    pub fn lookup(&mut self, hash: KeyHash, now_ms: u64) -> Option<EntryView> {
        let view = self.peek(hash, now_ms);
        if let Some(view) = view {
            self.policy.touch(view.record.get());
            self.stats.hits += 1;
        } else {
            self.stats.misses += 1;
        }
        view
    }

    /// Finds a key without any trace; an entry whose time is over is a miss.
    pub fn peek(&self, hash: KeyHash, now_ms: u64) -> Option<EntryView> {
        let id = self.index.find(hash.hi, hash.lo)?;
        let words = self.index.read(id);
        if is_expired(words.expiry_ms, now_ms) {
            return None;
        }
        Some(EntryView::of(
            base_id(id),
            &words,
            self.index.generation(id),
        ))
    }

    /// Returns whether a key is present and its time is not over; no use is counted.
    pub fn exists(&self, hash: KeyHash, now_ms: u64) -> bool {
        self.peek(hash, now_ms).is_some()
    }

    /// Returns the length of a key's value in bytes; no use is counted.
    pub fn size(&self, hash: KeyHash, now_ms: u64) -> Option<u64> {
        self.peek(hash, now_ms).map(|view| view.extent.len)
    }

    /// Asks the processor to fetch a key's bucket; for batches, some keys ahead.
    pub fn prefetch(&self, hash: KeyHash) {
        self.index.prefetch(hash.hi);
    }

    /// Inserts or overwrites a key; the store owns the extent from then on. The expiry of an
    /// overwritten entry goes with it.
    ///
    /// When no record is free, entries that may be evicted make room (retired as `Evicted`, pinned
    /// or not: a pin keeps the extent from reuse, not the record).
    ///
    /// # Errors
    /// [`InsertError::Exists`], [`InsertError::MetadataFull`]: the new extent stays the caller's,
    /// to give back. Entries that were evicted in vain stay evicted.
    ///
    /// # Panics
    /// When the extent or expiry is outside the ranges of [`NewEntry`].
    pub fn insert(
        &mut self,
        hash: KeyHash,
        entry: &NewEntry,
        now_ms: u64,
        effects: &mut Effects,
    ) -> Result<Inserted, InsertError> {
        assert!(entry.extent.len > 0);
        self.see(now_ms);
        let found = self.index.find(hash.hi, hash.lo);
        let live = found.is_some_and(|id| !is_expired(self.index.read(id).expiry_ms, now_ms));
        if live && entry.set_if_absent {
            self.stats.refused_exists += 1;
            return Err(InsertError::Exists);
        }
        let words = entry.words(self.next_version());
        let id = match found {
            Some(id) => self.overwrite(id, &words, live, hash, effects),
            None => self.create(hash, &words, effects)?,
        };
        self.counter += 1;
        self.ages.note(self.counter, self.now_ms);
        Ok(Inserted {
            record: base_id(id),
            version: words.version,
            replaced: live,
        })
    }

    /// Puts an entry back that another tier gave, or did not take, under the version it had. With
    /// `is_held` it stays whatever its write mode: no other tier takes it.
    ///
    /// # Errors
    /// [`InsertError::Exists`] when the key is present, [`InsertError::MetadataFull`]: the extent
    /// stays the caller's.
    ///
    /// # Panics
    /// When the extent or expiry is outside the ranges of [`NewEntry`].
    pub fn restore(
        &mut self,
        hash: KeyHash,
        entry: &NewEntry,
        (version, is_held): (u64, bool),
        now_ms: u64,
        effects: &mut Effects,
    ) -> Result<Inserted, InsertError> {
        assert!(entry.extent.len > 0);
        self.see(now_ms);
        let found = self.index.find(hash.hi, hash.lo);
        match found.map(|id| self.index.read(id).expiry_ms) {
            Some(HIDDEN_MS) => return Err(InsertError::Reserved),
            Some(expiry_ms) if !is_expired(expiry_ms, now_ms) => return Err(InsertError::Exists),
            _ => {},
        }
        let mut words = entry.words(version);
        if is_held {
            words.flags |= RecordFlags::HELD;
        }
        let id = match found {
            Some(id) => self.overwrite(id, &words, false, hash, effects),
            None => self.create(hash, &words, effects)?,
        };
        Ok(Inserted {
            record: base_id(id),
            version,
            replaced: false,
        })
    }

    /// Sets when a key expires, and gives it a new version: what another tier holds of the old one
    /// is then told from it. Returns the version; `None` when the key is absent or its time over.
    ///
    /// # Panics
    /// When `expiry_ms` has more than 48 bits.
    pub fn renew(&mut self, hash: KeyHash, expiry_ms: u64, now_ms: u64) -> Option<u64> {
        self.see(now_ms);
        let view = self.peek(hash, now_ms)?;
        let id = index_id(view.record.get());
        let mut words = self.index.read(id);
        words.version = self.next_version();
        words.expiry_ms = expiry_ms;
        self.index.update(id, &words);
        self.wheel.set(id.get(), expiry_ms);
        self.counter += 1;
        self.ages.note(self.counter, self.now_ms);
        Some(words.version)
    }

    /// Deletes a key; returns whether it was present and its time not over.
    pub fn remove(&mut self, hash: KeyHash, now_ms: u64, effects: &mut Effects) -> bool {
        self.see(now_ms);
        let Some(id) = self.index.find(hash.hi, hash.lo) else {
            return false;
        };
        let expiry_ms = self.index.read(id).expiry_ms;
        if expiry_ms == HIDDEN_MS {
            // Its transaction decides what becomes of it; until then there is no such key.
            return false;
        }
        if is_expired(expiry_ms, now_ms) {
            self.take_out(id, RetireReason::Expired, effects);
            return false;
        }
        self.take_out(id, RetireReason::Deleted, effects);
        true
    }

    /// Sets when a key expires (`expiry_ms`, 0 = never); returns whether it was present and its
    /// time not over. Version and generation stay: pins that stand are not disturbed.
    ///
    /// # Panics
    /// When `expiry_ms` has more than 48 bits.
    pub fn set_expiry(&mut self, hash: KeyHash, expiry_ms: u64, now_ms: u64) -> bool {
        self.see(now_ms);
        let Some(view) = self.peek(hash, now_ms) else {
            return false;
        };
        let id = index_id(view.record.get());
        self.index.set_expiry(id, expiry_ms);
        self.wheel.set(id.get(), expiry_ms);
        true
    }

    /// Turns the timer wheel to `now_ms` and removes entries whose time is over.
    ///
    /// Each entry looked at takes one from `budget` (an entry is looked at once per level it moves
    /// down, seven times at most).
    ///
    /// # Panics
    /// When an entry is handed out before its time, which is a bug of the wheel.
    pub fn advance(&mut self, now_ms: u64, effects: &mut Effects, budget: u32) -> Advanced {
        self.see(now_ms);
        let mut steps = budget;
        let mut advanced = Advanced::default();
        loop {
            let index = &self.index;
            let expiry_of = |id| index.read(index_id(id)).expiry_ms;
            let Some(id) = self.wheel.pop_due(now_ms, &mut steps, &expiry_of) else {
                break;
            };
            assert!(is_expired(self.index.read(index_id(id)).expiry_ms, now_ms));
            self.take_out(index_id(id), RetireReason::Expired, effects);
            advanced.expired += 1;
        }
        advanced.has_more = steps == 0
            && self
                .wheel
                .next_due_ms()
                .is_some_and(|due_ms| due_ms <= now_ms);
        advanced
    }

    /// Returns a time before which `advance` has nothing to do; `None` when nothing expires.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.wheel.next_due_ms()
    }

    /// Counts a use that a client noted in its lossy ring; both numbers are hostile.
    ///
    /// `generation` is the low half of the generation that the client saw. Returns whether it was
    /// taken: a note of a record that has changed since, or never existed, is ignored.
    pub fn note_access(&mut self, record: u32, generation: u32) -> bool {
        self.stats.notes += 1;
        let id = index::RecordId::new(record).filter(|id| id.get() <= self.index.capacity());
        let is_current = id.is_some_and(|id| {
            self.index.generation(id) & u64::from(u32::MAX) == u64::from(generation)
        });
        if is_current {
            self.policy.touch(record);
        } else {
            self.stats.stale_notes += 1;
        }
        is_current
    }

    /// Returns whether the next new key costs an old one, because no more entries are allowed.
    pub fn is_at_limit(&self) -> bool {
        self.index.len() >= self.entries_max
    }

    /// Allows `more` entries beside those allowed now, at most the index's capacity in all.
    ///
    /// There is no way back: the records of an index stay populated.
    pub fn allow_more(&mut self, more: u32) {
        self.entries_max = self
            .entries_max
            .saturating_add(more)
            .min(self.index.capacity());
    }

    /// Returns the number of entries, expired ones that wait for their tick included.
    pub fn len(&self) -> u32 {
        self.index.len()
    }

    /// Returns whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns the bytes of all values.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes of values that could be evicted, pinned ones included.
    pub fn evictable_bytes(&self) -> u64 {
        self.policy.bytes()
    }

    /// Returns a snapshot of all counters.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            entries: u64::from(self.len()),
            kept_entries: u64::from(self.len() - self.policy.len()),
            expiring_entries: u64::from(self.wheel.len()),
            bytes: self.bytes,
            kept_bytes: self.bytes - self.policy.bytes(),
            metadata_bytes: self.metadata_bytes(),
            ..self.stats
        }
    }

    /// Returns the bytes of metadata in use: populated index, links and timers up to the highest
    /// record ever used, ghost queue.
    pub fn metadata_bytes(&self) -> u64 {
        self.index.populated_bytes() + self.private_bytes()
    }

    fn private_bytes(&self) -> u64 {
        u64::from(self.index.usage().records_high) * PRIVATE_BYTES_PER_ENTRY
            + self.policy.extra_bytes()
    }

    /// Replaces what the record of a present key says.
    fn overwrite(
        &mut self,
        id: index::RecordId,
        words: &RecordWords,
        was_live: bool,
        hash: KeyHash,
        effects: &mut Effects,
    ) -> index::RecordId {
        let old = self.index.read(id);
        assert!(
            old.extent != words.extent,
            "the new value lies where the old one is"
        );
        self.index.update(id, words);
        let reason = if was_live {
            RetireReason::Overwritten
        } else {
            RetireReason::Expired
        };
        effects.retire(&old, reason, hash);
        let is_evictable = self.is_evictable(hash, words);
        match (self.policy.is_linked(id.get()), is_evictable) {
            (true, true) => self.policy.overwrite(id.get(), old.len, words.len),
            (true, false) => self.policy.remove(id.get(), old.len),
            (false, true) => self.policy.insert(id.get(), words.len, fingerprint(hash)),
            (false, false) => {},
        }
        self.wheel.set(id.get(), words.expiry_ms);
        self.bytes = self.bytes - old.len + words.len;
        if was_live {
            self.stats.overwrites += 1;
        } else {
            self.stats.expirations += 1;
            self.stats.inserts += 1;
        }
        id
    }

    /// Adds a key that is not present, at the price of others when no record is free.
    fn create(
        &mut self,
        hash: KeyHash,
        words: &RecordWords,
        effects: &mut Effects,
    ) -> Result<index::RecordId, InsertError> {
        for _ in 0..=METADATA_VICTIMS_MAX {
            if self.index.len() < self.entries_max
                && let Ok(id) = self.index.insert(hash.hi, hash.lo, words)
            {
                if self.is_evictable(hash, words) {
                    self.policy.insert(id.get(), words.len, fingerprint(hash));
                }
                self.wheel.set(id.get(), words.expiry_ms);
                self.bytes += words.len;
                self.stats.inserts += 1;
                return Ok(id);
            }
            if !self.evict_for_record(effects) {
                break;
            }
        }
        self.stats.refused_metadata += 1;
        Err(InsertError::MetadataFull {
            entries: self.index.len(),
        })
    }

    /// Removes an entry from everywhere and retires its extent.
    fn take_out(&mut self, id: index::RecordId, reason: RetireReason, effects: &mut Effects) {
        let (hi, lo) = self.index.hash(id);
        let hash = KeyHash { hi, lo };
        let words = self.index.remove(id);
        let number = id.get();
        match reason {
            RetireReason::Evicted => {
                self.policy.evicted(number, words.len, fingerprint(hash));
                let counter = words.version & ((1 << COUNTER_BITS) - 1);
                self.stats
                    .eviction_ages
                    .note(self.ages.age_ms(counter, self.now_ms));
                self.stats.evictions += 1;
                self.stats.evicted_bytes += words.len;
            },
            RetireReason::Expired => {
                self.policy.remove(number, words.len);
                self.stats.expirations += 1;
            },
            RetireReason::Deleted => {
                self.policy.remove(number, words.len);
                self.stats.removes += 1;
            },
            RetireReason::Overwritten => unreachable!("an overwritten entry keeps its record"),
        }
        self.wheel.clear(number);
        self.bytes -= words.len;
        effects.retire(&words, reason, hash);
    }

    /// Whether an entry may go when nobody holds its key.
    fn evictable(&self, words: &RecordWords) -> bool {
        let is_held = words.flags & RecordFlags::HELD != 0;
        (self.options.spills && !is_held) || RecordFlags::write_mode(words.flags).is_evictable()
    }

    fn next_version(&self) -> u64 {
        let counter = self.counter + 1;
        assert!(
            counter < 1 << COUNTER_BITS,
            "17 trillion versions in one epoch"
        );
        (u64::from(self.options.epoch) << COUNTER_BITS) | counter
    }

    fn see(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Checks that index, policy, wheel and counts agree; O(n). For tests and the simulator.
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let words = |id| self.index.read(index_id(id));
        let (mut entries, mut linked, mut timed, mut bytes) = (0, 0, 0, 0);
        for id in 1..=self.index.usage().records_high {
            let record = words(id);
            let is_used = record.state != index::RecordState::Free;
            assert!(self.index.generation(index_id(id)).is_multiple_of(2));
            assert_eq!(
                self.policy.is_linked(id),
                is_used && self.is_evictable(self.hash_of(index_id(id)), &record),
                "record {id} and the policy disagree"
            );
            assert!(is_used || record.expiry_ms == 0);
            entries += u32::from(is_used);
            linked += u32::from(self.policy.is_linked(id));
            let is_timed = record.expiry_ms != 0 && record.expiry_ms != HIDDEN_MS;
            timed += u32::from(is_used && is_timed);
            bytes += if is_used { record.len } else { 0 };
        }
        assert_eq!(entries, self.index.len());
        assert!(entries <= self.entries_max);
        assert_eq!(linked, self.policy.len());
        assert_eq!(timed, self.wheel.len(), "records with an expiry and timers");
        assert_eq!(bytes, self.bytes);
        self.policy.check_invariants(&|id| words(id).len);
        self.wheel.check_invariants(&|id| words(id).expiry_ms);
    }
}

/// Expiry of an entry that is reserved: long over, so that nobody finds it.
const HIDDEN_MS: u64 = 1;

/// 64 bits of a hash for the ghost queue: the tag's bits choose the lane, others the bucket.
fn fingerprint(hash: KeyHash) -> u64 {
    hash.hi.rotate_left(16) ^ hash.lo
}

fn base_id(id: index::RecordId) -> RecordId {
    RecordId::new(id.get()).expect("a record id is never 0")
}

fn index_id(id: u32) -> index::RecordId {
    index::RecordId::new(id).expect("a record id is never 0")
}
