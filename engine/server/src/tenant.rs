//! One tenant on one shard: entries, extents, leases, quarantine, and who waits for memory.
//!
//! Lives on: owner shard. This is where memory and store meet: a value gets room here
//! ([`TenantShard::reserve`]), becomes visible ([`TenantShard::publish`]), and gives its room back
//! after every pin is gone ([`TenantShard::sweep`]). The order of §6 of ARCHITECTURE.md is kept in
//! this file alone: unlink, fence, scan, reuse.
//!
//! Neighbours: `handlers/` call it, `granules.rs` feeds it granules.

use std::sync::Arc;

use chariot_base::limits::{GRANULE_BYTES, SLAB_LEN_MAX};
use chariot_base::{Extent, GranuleIndex, SessionId, TenantId};
use chariot_memory::{
    ArenaMemory, ExtentAllocator, IoPins, LeaseBook, OutOfMemoryQueue, Quarantine,
    QuarantineReason, SlotSet, SweepPass, eviction_price,
};
use chariot_proto::{KeyHash, KeySecret};
use chariot_shm::SubmissionFlags;
use chariot_store::{
    Blocked, Dropped, Effects, InsertError, Inserted, NewEntry, RetireReason, Store, TxId,
};

use crate::granules::{GranuleState, Vacating};
use crate::limits::{
    EVICTION_ROUNDS, GRANULE_AHEAD_BYTES, LEASE_SHARE_OF_EVICTABLE, MEMORY_WAITERS_MAX, SWEEP_BATCH,
};
use crate::metadata::MetadataPool;
use crate::objects::{Objects, Reserving};
use crate::request::Request;
use crate::session::{Place, Sessions};
use crate::tier::spill::Spills;
use crate::waiting::Waiter;

/// Extents judged in one sweep.
const SWEEP_BUDGET: usize = 4096;
/// How long a few retired extents wait for the next sweep, in nanoseconds: a scan reads up to
/// 16,640 pins of each session, so that one for every overwrite would be most of a shard's work.
const SWEEP_INTERVAL_NS: u64 = 1_000_000;
/// The same for what was pinned at the last scan: 25 looks a second cost an idle node nothing, and
/// the memory of a view is back soon after it ends.
const PINNED_INTERVAL_NS: u64 = 40_000_000;
/// That interval for each slot which the last scan read. A slot costs about a nanosecond, so that
/// looking again takes at most a twentieth of a shard however many views there are: 50 ms are kept
/// up to 2.5 million slots (150 sessions with all their views), and 1,024 of them are looked at
/// every 0.35 s.
const PINNED_INTERVAL_OF_SLOT_NS: u64 = 20;
/// How often leases of dead sessions are judged again after their grace, in nanoseconds.
const DEAD_RETRY_NS: u64 = 100_000_000;
/// Bytes evicted at least in one round, so that a pin scan serves many small writes.
const EVICT_BATCH_BYTES: u64 = 256 << 10;

/// Why nothing was lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotLent {
    /// No memory now: queue for it.
    NoMemory,
    /// The session holds as many idle slots as it may: memory would not help, so waiting for it
    /// must not begin.
    TooManySlots,
}

/// For what a lease is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseFor {
    /// Values to come: as much as the idle budget allows, and nothing beyond it.
    Later,
    /// A value that waits: one slot at least, as long as the session's leases stay within
    /// `most_bytes`, or it has no other.
    Now {
        /// The session's part of the arena.
        most_bytes: u64,
    },
}

/// One tenant's share of a shard.
#[derive(Debug)]
pub(crate) struct TenantShard {
    /// The tenant.
    pub(crate) id: TenantId,
    /// Secret of its key hashes.
    pub(crate) secret: KeySecret,
    /// Its arena, mapped.
    pub(crate) arena: Arc<ArenaMemory>,
    /// Entries, eviction order, timers.
    pub(crate) store: Store,
    /// Granules of this shard, cut into extents.
    pub(crate) extents: ExtentAllocator,
    /// What local sessions hold for writing.
    pub(crate) leases: LeaseBook,
    /// What waits for pins.
    pub(crate) quarantine: Quarantine,
    /// What the daemon itself reads or writes.
    pub(crate) io_pins: IoPins,
    /// Who waits for memory.
    pub(crate) waiters: OutOfMemoryQueue<Waiter>,
    /// What this shard knows of the node's free granules.
    pub(crate) granules: GranuleState,
    /// Requests that had to wait for memory.
    pub(crate) waits: u64,
    /// Those answered out of memory.
    pub(crate) wait_timeouts: u64,
    /// Latches, references, nested keys, seals and transactions.
    pub(crate) objects: Objects,
    /// The shard's records that no tenant has yet.
    metadata: MetadataPool,
    /// What eviction took out and the SSD tier has not written yet.
    pub(crate) spills: Spills,
    /// Deleted without a request that waits: what the SSD tier holds of them must not come back.
    pub(crate) unburied: Vec<KeyHash>,
    effects: Effects,
    freed: Vec<Extent>,
    /// Retired since the last sweep.
    unswept: usize,
    /// When the last sweep was.
    swept_ns: u64,
    /// How long what it found pinned is left alone.
    pinned_interval_ns: u64,
    /// When leases of dead sessions are judged next.
    dead_due_ns: u64,
    /// Rises whenever memory came free: waiters are looked at again.
    pub(crate) freed_events: u64,
    /// Somebody works with this tenant on this shard: memory is asked for ahead.
    is_used: bool,
    /// Notes of reads through the index that were counted, and that were lost.
    pub(crate) noted: (u64, u64),
}

impl TenantShard {
    /// Makes an empty share.
    pub(crate) fn new(
        id: TenantId,
        secret: KeySecret,
        arena: Arc<ArenaMemory>,
        store: Store,
        metadata: MetadataPool,
    ) -> Self {
        Self {
            metadata,
            id,
            secret,
            arena,
            store,
            extents: ExtentAllocator::new(),
            leases: LeaseBook::new(),
            quarantine: Quarantine::new(),
            io_pins: IoPins::new(),
            waiters: OutOfMemoryQueue::new(MEMORY_WAITERS_MAX),
            granules: GranuleState::default(),
            waits: 0,
            wait_timeouts: 0,
            objects: Objects::default(),
            spills: Spills::default(),
            unburied: Vec::new(),
            effects: Effects::new(),
            freed: Vec::new(),
            unswept: 0,
            swept_ns: 0,
            pinned_interval_ns: PINNED_INTERVAL_NS,
            dead_due_ns: 0,
            freed_events: 0,
            is_used: false,
            noted: (0, 0),
        }
    }

    /// Finds room for `len` bytes: free memory first, then what waits for a scan only, then, once
    /// the home says that no granule is free, by eviction. `None`: nothing now; the caller queues,
    /// and `granules` knows what to ask for.
    pub(crate) fn reserve(
        &mut self,
        len: u64,
        sessions: &mut Sessions,
        now_ns: u64,
    ) -> Option<Extent> {
        assert!(len > 0);
        if let Some(extent) = self.extents.allocate(len) {
            return Some(extent);
        }
        if self.unswept > 0
            && self.sweep(sessions, now_ns) > 0
            && let Some(extent) = self.extents.allocate(len)
        {
            return Some(extent);
        }
        self.granules.want(len);
        if !self.granules.is_exhausted() {
            return None;
        }
        // Reads through the index left notes: who was read lately must not go first.
        self.hear_notes(sessions, None);
        for round in 0..EVICTION_ROUNDS {
            if self.spills.is_enough_for(len) {
                // Room comes when the device has written what is on its way.
                break;
            }
            if !self.evict_for(len, round, sessions, now_ns) {
                break;
            }
            if let Some(extent) = self.extents.allocate(len) {
                return Some(extent);
            }
        }
        if self.quarantine.is_empty() && !sessions.last_pins().is_empty() {
            // Nothing was swept, so nothing was scanned: without this look a pin that has fallen
            // would protect its entry from eviction for ever.
            sessions.scan_pins(self.id);
        }
        None
    }

    /// Evicts once and sweeps; `false` when nothing more can be gained.
    ///
    /// The first rounds follow the policy. Where that frees scattered pieces only, the allocator
    /// names the cheapest neighbours, so that a large value gets a contiguous place without
    /// emptying the cache.
    fn evict_for(&mut self, len: u64, round: u32, sessions: &mut Sessions, now_ns: u64) -> bool {
        let pins = sessions.last_pins();
        let io_pins = &self.io_pins;
        let skip = |extent: Extent| pins.contains(extent.offset) || io_pins.contains(extent);
        let mut gained = 0;
        // Values above the slabs need neighbours: the policy's order would empty a fifth of the
        // cache for one.
        if round < 2 && len < SLAB_LEN_MAX {
            let want = len.max(EVICT_BATCH_BYTES.min(self.store.evictable_bytes() / 16));
            let evicted = self.store.evict(want, &skip, &mut self.effects);
            gained = evicted.entries;
            if evicted.entries == 0 && evicted.blocked == Some(Blocked::Empty) {
                // Nothing to evict, but what was unlinked earlier may have lost its pins silently.
                self.drain_effects();
                return self.sweep(sessions, now_ns) > 0;
            }
        } else {
            let store = &self.store;
            let victims = self.extents.victims_for(len, |record, bytes| {
                let (extent, age_eighths) = store.eviction_candidate(record)?;
                (!skip(extent)).then(|| eviction_price(bytes, age_eighths))
            });
            if let Some(victims) = victims {
                let evicted = self
                    .store
                    .evict_records(&victims.tags, &skip, &mut self.effects);
                gained = evicted.entries;
            }
        }
        self.drain_effects();
        let swept = self.sweep(sessions, now_ns);
        gained > 0 || swept > 0
    }

    /// Counts the reads that sessions noted as uses of their entries. A note that was lost, or is
    /// of an entry that has changed since, counts for nothing.
    pub(crate) fn hear_notes(&mut self, sessions: &mut Sessions, only: Option<Place>) {
        let Self { store, noted, .. } = self;
        let lost = sessions.drain_notes(self.id, only, |note| {
            if store.note_access(note.record, note.generation) {
                noted.0 += 1;
            }
        });
        noted.1 += lost;
    }

    /// Makes a value visible. On success the store owns the extent; on failure it is free again,
    /// exactly once.
    pub(crate) fn publish(
        &mut self,
        hash: KeyHash,
        entry: &NewEntry,
        now_ms: u64,
    ) -> Result<Inserted, InsertError> {
        self.allow_one_more();
        let outcome = match self.objects.refusal(&self.store, hash, entry, now_ms) {
            None => self.store.insert(hash, entry, now_ms, &mut self.effects),
            Some(refusal) => Err(refusal),
        };
        if outcome.is_ok() {
            self.objects.references.revive(hash);
        }
        self.stored(entry, outcome)
    }

    /// Takes records from the shard's pool when this tenant has used up its own.
    fn allow_one_more(&mut self) {
        if self.store.is_at_limit() {
            self.store.allow_more(self.metadata.take());
        }
    }

    /// Makes a value of a local session visible, or hides it for the transaction it is meant for.
    /// The extent as in [`Self::publish`].
    pub(crate) fn publish_or_reserve(
        &mut self,
        request: &Request<'_>,
        entry: &NewEntry,
    ) -> Result<Inserted, InsertError> {
        let (hash, now_ms) = (request.hash(), request.now_ms);
        if !request.has(SubmissionFlags::RESERVE) {
            return self.publish(hash, entry, now_ms);
        }
        self.hide(hash, entry, now_ms, &Reserving::of(request))
    }

    /// Stores a value hidden, for a transaction. The extent as in [`Self::publish`].
    pub(crate) fn hide(
        &mut self,
        hash: KeyHash,
        entry: &NewEntry,
        now_ms: u64,
        reserving: &Reserving,
    ) -> Result<Inserted, InsertError> {
        self.allow_one_more();
        let outcome = match self.objects.check_reserve(reserving.tx, hash) {
            Ok(()) => self.store.reserve(hash, entry, now_ms, &mut self.effects),
            Err(refusal) => Err(refusal),
        };
        if outcome.is_ok() {
            self.objects.note_reserved(hash, entry.expiry_ms, reserving);
        }
        self.stored(entry, outcome)
    }

    fn stored(
        &mut self,
        entry: &NewEntry,
        outcome: Result<Inserted, InsertError>,
    ) -> Result<Inserted, InsertError> {
        match outcome {
            Ok(inserted) => self
                .extents
                .set_tag(entry.extent.offset, Some(inserted.record)),
            Err(_) => self.free(entry.extent.offset),
        }
        self.drain_effects();
        outcome
    }

    /// Ends what a transaction has reserved here; returns the keys that are visible from now on.
    pub(crate) fn decide(&mut self, tx: TxId, commits: bool) -> Vec<KeyHash> {
        let mut revealed = Vec::new();
        for reserved in self.objects.reservations.finish(tx) {
            if commits {
                self.store.reveal(reserved.hash, reserved.expiry_ms);
                revealed.push(reserved.hash);
            } else {
                self.store.unreserve(reserved.hash, &mut self.effects);
            }
        }
        self.drain_effects();
        revealed
    }

    /// Lets go of a key after a reference to it ended, and deletes it if that was the last.
    pub(crate) fn end_hold(&mut self, hash: KeyHash, dropped: Dropped) {
        match dropped {
            Dropped::Unknown | Dropped::Held => return,
            Dropped::Free => self.store.release(hash),
            Dropped::Delete => {
                self.store.release(hash);
                // Whether it has expired meanwhile makes no difference to what is left of it.
                self.store.remove(hash, 0, &mut self.effects);
                if self.spills.is_on() {
                    self.unburied.push(hash);
                }
            },
        }
        self.drain_effects();
    }

    /// Begins to release what a session that ended, or was expelled, held of objects.
    pub(crate) fn drop_objects(&mut self, session: SessionId) {
        self.objects.drop_session(session);
    }

    /// Deletes a key; says whether it was there. One that is referred to goes with the last
    /// reference.
    pub(crate) fn delete(&mut self, hash: KeyHash, now_ms: u64) -> bool {
        if self.objects.references.is_held(hash) {
            let was_there = self.store.exists(hash, now_ms);
            if was_there {
                self.objects.references.doom(hash);
            }
            return was_there;
        }
        let was_there = self.store.remove(hash, now_ms, &mut self.effects);
        self.drain_effects();
        was_there
    }

    /// Ends entries whose time is over; says how many, and whether more are due.
    pub(crate) fn expire(&mut self, now_ms: u64, budget: u32) -> (u32, bool) {
        let advanced = self.store.advance(now_ms, &mut self.effects, budget);
        self.drain_effects();
        (advanced.expired, advanced.has_more)
    }

    /// Frees an extent that was never visible to anyone but its writer.
    pub(crate) fn free(&mut self, offset: u64) {
        self.extents.free(offset);
        self.freed_events += 1;
    }

    /// Moves what the store retired into quarantine; returns how many.
    fn drain_effects(&mut self) -> usize {
        let count = self.effects.retired.len();
        for retired in self.effects.retired.drain(..) {
            // The tag named the record that is gone; victims are asked for by tag.
            let offset = retired.extent.offset;
            self.extents.set_tag(offset, None);
            if retired.reason == RetireReason::Evicted && self.spills.is_on() {
                // The object lives on: it ends when the tier forgets it.
                self.spills.take(&retired);
                continue;
            }
            self.objects.on_retired(retired.hash);
            let occupied = self
                .extents
                .block_len(offset)
                .expect("an entry's extent is live");
            self.quarantine
                .retire(Extent::new(offset, occupied), QuarantineReason::Unlinked);
        }
        self.unswept += count;
        count
    }

    /// An extent that no entry names leaves: it is free when nobody pins it any more.
    pub(crate) fn retire(&mut self, extent: Extent) {
        let occupied = self.extents.block_len(extent.offset);
        let occupied = occupied.expect("a value's extent is live");
        self.quarantine.retire(
            Extent::new(extent.offset, occupied),
            QuarantineReason::Unlinked,
        );
        self.unswept += 1;
        self.freed_events += 1;
    }

    /// Makes an entry of a value that came from the SSD tier, or was not taken by it, under the
    /// version it had. On `false` the extent stays the caller's.
    pub(crate) fn restore(
        &mut self,
        hash: KeyHash,
        entry: &NewEntry,
        version: (u64, bool),
        now_ms: u64,
    ) -> bool {
        self.allow_one_more();
        let outcome = self
            .store
            .restore(hash, entry, version, now_ms, &mut self.effects);
        if let Ok(inserted) = &outcome {
            self.extents
                .set_tag(entry.extent.offset, Some(inserted.record));
        }
        self.drain_effects();
        outcome.is_ok()
    }

    /// Takes about `want_bytes` out for the SSD tier, the hottest first, for a node that stops.
    pub(crate) fn evict_to_tier(&mut self, want_bytes: u64) -> u32 {
        let evicted = self.store.evict_hottest(want_bytes, &mut self.effects);
        self.drain_effects();
        evicted.entries
    }

    /// Whether a pin scan pays: enough was retired, or what was retired has waited for a while, or
    /// the grace of a dead session's leases has ended. Whoever needs memory sweeps without asking.
    pub(crate) fn wants_sweep(&self, now_ns: u64) -> bool {
        self.unswept >= SWEEP_BATCH || self.next_sweep_ns().is_some_and(|due_ns| due_ns <= now_ns)
    }

    /// When the next sweep is due by time alone.
    pub(crate) fn next_sweep_ns(&self) -> Option<u64> {
        // Pins end silently: what waits for one is looked at now and then even if nothing happens.
        let is_pinned = self.quarantine.stats().unlinked_count > 0;
        let unswept = match (self.unswept > 0, is_pinned) {
            (true, _) => Some(self.swept_ns + SWEEP_INTERVAL_NS),
            (false, true) => Some(self.swept_ns + self.pinned_interval_ns),
            (false, false) => None,
        };
        let dead = self.has_dead_leases().then_some(self.dead_due_ns);
        match (unswept, dead) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Scans the pins and frees what nobody holds; returns how many extents came free.
    pub(crate) fn sweep(&mut self, sessions: &mut Sessions, now_ns: u64) -> usize {
        let ticket = self.quarantine.ticket();
        self.unswept = 0;
        self.swept_ns = now_ns;
        if self.quarantine.is_empty() {
            return 0;
        }
        let (pins, slots) = sessions.scan_pins(self.id);
        self.pinned_interval_ns = PINNED_INTERVAL_NS.max(slots * PINNED_INTERVAL_OF_SLOT_NS);
        let is_pinned = |extent: Extent| pins.contains(extent.offset);
        self.freed.clear();
        let pass = SweepPass {
            ticket,
            now_ns,
            budget: SWEEP_BUDGET,
        };
        self.quarantine
            .sweep(pass, &self.io_pins, is_pinned, &mut self.freed);
        for extent in &self.freed {
            self.extents.free(extent.offset);
        }
        self.freed_events += self.freed.len() as u64;
        if self.dead_due_ns <= now_ns {
            // What is left of dead sessions is pinned or beyond this sweep's budget: look again
            // later.
            self.dead_due_ns = now_ns + DEAD_RETRY_NS;
        }
        self.freed.len()
    }

    /// How many idle bytes each of `session_count` sessions may hold.
    fn lease_budget(&self, session_count: usize) -> u64 {
        let stats = self.extents.stats();
        // Free slots of this class or another: what is lent comes out of chunks, mostly.
        let free =
            stats.free + stats.slack + self.store.evictable_bytes() / LEASE_SHARE_OF_EVICTABLE;
        LeaseBook::budget(free, session_count)
    }

    /// By how many bytes a session's idle leases exceed its budget: what it is asked to return.
    pub(crate) fn lease_excess(&self, session: SessionId, session_count: usize) -> u64 {
        // Most completions are for sessions that hold nothing.
        if self.leases.idle_bytes(session) == 0 {
            return 0;
        }
        self.leases
            .excess_bytes(session, self.lease_budget(session_count))
    }

    /// Lends a run of slots to a session: at most `count` of `len` bytes, as many as its idle
    /// budget allows.
    ///
    /// A slot for a value that waits is lent beyond that budget too; what is over its part of the
    /// arena is answered like memory that is not there, so that no session has it all.
    pub(crate) fn lend(
        &mut self,
        session: SessionId,
        (len, count): (u64, u32),
        purpose: LeaseFor,
        sessions: &mut Sessions,
        now_ns: u64,
    ) -> Result<SlotSet, NotLent> {
        let idle = self.leases.idle_bytes(session);
        let budget = self.lease_budget(sessions.len());
        let fitting = u32::try_from(budget.saturating_sub(idle) / len).unwrap_or(u32::MAX);
        let is_asked = match purpose {
            LeaseFor::Later => false,
            LeaseFor::Now { most_bytes } => idle == 0 || idle.saturating_add(len) <= most_bytes,
        };
        let slots = fitting.min(count).max(u32::from(is_asked));
        if slots == 0 {
            return Err(NotLent::NoMemory);
        }
        let run = if let Some(run) = self.extents.allocate_set(len, slots) {
            run
        } else {
            let extent = self
                .reserve(len, sessions, now_ns)
                .ok_or(NotLent::NoMemory)?;
            let slot_len = self
                .extents
                .block_len(extent.offset)
                .expect("just reserved");
            SlotSet::one(extent.offset, slot_len)
        };
        if self.leases.grant(session, run).is_err() {
            for offset in run.offsets() {
                self.free(offset);
            }
            return Err(NotLent::TooManySlots);
        }
        Ok(run)
    }

    /// Takes back all leases of a session that ended.
    pub(crate) fn drop_session(&mut self, session: SessionId, dead_until_ns: Option<u64>) {
        self.drop_objects(session);
        for extent in self.leases.drop_session(session) {
            match dead_until_ns {
                None => self.free(extent.offset),
                Some(until_ns) => {
                    if !self.has_dead_leases() {
                        self.dead_due_ns = until_ns;
                    }
                    self.quarantine
                        .retire(extent, QuarantineReason::LeaseOfDead { until_ns });
                },
            }
        }
        self.quarantine.session_gone(session);
        // Its pins are gone with it: what they held can be judged again.
        self.unswept = self.unswept.max(usize::from(!self.quarantine.is_empty()));
    }

    /// An I/O pin has fallen: what waits in quarantine can be judged again.
    pub(crate) fn note_release(&mut self) {
        self.unswept = self.unswept.max(usize::from(!self.quarantine.is_empty()));
    }

    /// Whether memory of dead sessions waits for its grace to end.
    pub(crate) fn has_dead_leases(&self) -> bool {
        self.quarantine.stats().dead_count > 0
    }

    /// Asks for a granule before one is needed, while the home may have some.
    pub(crate) fn want_ahead(&mut self) {
        if self.is_used && self.extents.stats().free < GRANULE_AHEAD_BYTES {
            self.granules.want_ahead();
        }
    }

    /// Takes out a waiter whose need fits now. What was found for it is free again, and nobody
    /// comes in between.
    pub(crate) fn pop_served(&mut self, sessions: &mut Sessions, now_ns: u64) -> Option<Waiter> {
        let mut waiters = std::mem::replace(&mut self.waiters, OutOfMemoryQueue::new(1));
        let served = waiters.pop_ready(|need| match self.reserve(need, sessions, now_ns) {
            Some(extent) => {
                self.extents.free(extent.offset);
                true
            },
            None => false,
        });
        self.waiters = waiters;
        served
    }

    /// Closes a granule that others need; `None` when this shard holds none that can be emptied.
    pub(crate) fn begin_vacate(&mut self, granule: Option<GranuleIndex>) -> Option<GranuleIndex> {
        let granule = match granule {
            // The home repeats its plans: what it names may be given back already, or be closing.
            Some(granule) => {
                let is_held = self.extents.granules().any(|(held, _)| held == granule);
                (is_held && !self.extents.is_closing(granule)).then_some(granule)?
            },
            None => self.extents.vacate_candidate()?,
        };
        self.extents.begin_vacate(granule);
        Some(granule)
    }

    /// Evicts up to `budget` entries of a granule that is being emptied; `true` when it is empty.
    pub(crate) fn vacate_step(
        &mut self,
        vacating: &mut Vacating,
        budget: usize,
        sessions: &mut Sessions,
        now_ns: u64,
    ) -> bool {
        let granule = vacating.granule;
        if vacating.tags.is_empty() {
            // Once for many steps: a granule of small values holds a million.
            self.extents.tags_in(granule, &mut vacating.tags);
        }
        let (start, end) = (granule.offset(), granule.offset() + GRANULE_BYTES);
        let from = vacating.tags.len().saturating_sub(budget);
        for tag in vacating.tags.drain(from..) {
            // A record may have changed hands since it was listed: only who lives here has to go.
            let lives_here = self
                .store
                .eviction_candidate(tag)
                .is_some_and(|(extent, _)| extent.offset < end && extent.end() > start);
            if lives_here {
                // One by one: a kept one in between must not save the others.
                self.store
                    .evict_records(&[tag], &|_| false, &mut self.effects);
            }
        }
        self.drain_effects();
        self.sweep(sessions, now_ns);
        self.extents.empty_granules().any(|empty| empty == granule)
    }

    /// A new session or connection works with this tenant: have room ready.
    pub(crate) fn note_use(&mut self) {
        self.is_used = true;
    }
}

#[cfg(test)]
mod tests {
    use chariot_memory::ArenaOptions;
    use chariot_proto::WriteMode;
    use chariot_shm::index::{IndexMemory, IndexOptions, IndexWriter};
    use chariot_store::StoreOptions;

    use super::*;

    const SESSION: SessionId = SessionId(7);
    const KEY: KeyHash = KeyHash { hi: 1, lo: 2 };

    /// A share with one granule and a home that has no other.
    fn share() -> TenantShard {
        share_of(&MetadataPool::new(64, 1))
    }

    fn share_of(pool: &MetadataPool) -> TenantShard {
        let options = ArenaOptions {
            virtual_granules: 2,
            hugetlb: false,
        };
        let arena = ArenaMemory::create("test-arena", options).unwrap();
        let options = IndexOptions::new(64);
        let memory = IndexMemory::heap(&options).unwrap();
        let index = IndexWriter::new(memory, &options).unwrap();
        let mut share = TenantShard::new(
            TenantId(0),
            KeySecret([0; 16]),
            Arc::new(arena),
            Store::new(
                index,
                StoreOptions {
                    entries_max: pool.promised(),
                    ..StoreOptions::default()
                },
            ),
            pool.clone(),
        );
        share.extents.add_granules(GranuleIndex(0), 1);
        share.granules.on_exhausted();
        share
    }

    fn publish(share: &mut TenantShard, len: u64) -> Extent {
        publish_as(share, KEY, len)
    }

    fn publish_as(share: &mut TenantShard, key: KeyHash, len: u64) -> Extent {
        let extent = share.reserve(len, &mut Sessions::default(), 0).unwrap();
        let entry = NewEntry {
            extent,
            crc: None,
            expiry_ms: 0,
            write_mode: WriteMode::NoneEvict,
            set_if_absent: false,
        };
        share.publish(key, &entry, 0).unwrap();
        extent
    }

    #[test]
    fn tenants_of_a_shard_share_one_metadata_budget() {
        let pool = MetadataPool::new(64, 2);
        let (mut first, mut second) = (share_of(&pool), share_of(&pool));
        for (count, share) in [(200, &mut first), (200, &mut second)] {
            for hi in 0..count {
                publish_as(share, KeyHash { hi, lo: 9 }, 64);
            }
            share.store.check_invariants();
        }
        assert_eq!(first.store.len(), 48, "its part and the common half");
        assert_eq!(second.store.len(), 16, "its part, however late it comes");
        assert!(first.store.stats().metadata_evictions > 0);
    }

    #[test]
    fn a_write_finds_memory_whose_pin_fell_silently() {
        let (mut share, mut sessions) = (share(), Sessions::default());
        let extent = publish(&mut share, GRANULE_BYTES);
        share.io_pins.pin(extent);
        assert!(share.delete(KEY, 0));
        assert_eq!(share.sweep(&mut sessions, 1), 0);
        assert_eq!(share.reserve(4096, &mut sessions, 2), None);
        assert!(share.io_pins.unpin(extent));
        assert!(share.reserve(4096, &mut sessions, 3).is_some());
    }

    #[test]
    fn what_a_pin_holds_is_looked_at_again_within_50_ms() {
        let (mut share, mut sessions) = (share(), Sessions::default());
        let extent = publish(&mut share, 4096);
        share.io_pins.pin(extent);
        assert!(share.delete(KEY, 0));
        let swept_ns = 1_000_000_000;
        assert_eq!(share.sweep(&mut sessions, swept_ns), 0);
        let due_ns = share.next_sweep_ns().unwrap();
        assert!((1..=50_000_000).contains(&(due_ns - swept_ns)));
        assert!(!share.wants_sweep(due_ns - 1) && share.wants_sweep(due_ns));
    }

    #[test]
    fn leases_of_a_dead_session_come_back_by_time_alone() {
        let (mut share, mut sessions) = (share(), Sessions::default());
        let lent = share.lend(SESSION, (4096, 1), LeaseFor::Later, &mut sessions, 0);
        lent.unwrap();
        share.drop_session(SESSION, Some(1_000_000_000));
        assert_eq!(share.sweep(&mut sessions, 1), 0);
        assert!(!share.wants_sweep(999_999_999));
        assert_eq!(share.next_sweep_ns(), Some(1_000_000_000));
        assert!(share.wants_sweep(1_000_000_000));
        assert_eq!(share.sweep(&mut sessions, 1_000_000_000), 1);
        assert_eq!(share.next_sweep_ns(), None);
    }

    #[test]
    fn too_many_slots_are_refused_and_not_queued_for() {
        let (mut share, mut sessions) = (share(), Sessions::default());
        let refused = loop {
            let lent = share.lend(SESSION, (64, 64), LeaseFor::Later, &mut sessions, 0);
            if let Err(refused) = lent {
                break refused;
            }
        };
        assert_eq!(refused, NotLent::TooManySlots);
        let free = share.extents.stats().free;
        let again = share.lend(SESSION, (64, 64), LeaseFor::Later, &mut sessions, 0);
        again.unwrap_err();
        assert_eq!(
            share.extents.stats().free,
            free,
            "what was not lent is free"
        );
    }

    #[test]
    fn slots_ahead_stay_within_the_budget_and_the_excess_is_asked_back() {
        let (mut share, mut sessions) = (share(), Sessions::default());
        let mut lent = 0;
        // One granule, one session: half of what is left free, each time anew.
        while let Ok(run) = share.lend(SESSION, (1 << 20, 4), LeaseFor::Later, &mut sessions, 0) {
            lent += run.bytes();
        }
        assert!(lent >= 16 << 20, "{lent}");
        assert!(lent <= GRANULE_BYTES / 3 + (1 << 20), "{lent}");
        assert_eq!(share.lease_excess(SESSION, 1), 0);
        let excess = share.lease_excess(SESSION, 64);
        assert!(excess > lent / 2, "{excess} of {lent}");
        assert_eq!(share.lease_excess(SessionId(8), 64), 0, "it holds nothing");
    }

    #[test]
    fn a_session_that_asks_slot_by_slot_gets_its_part_and_no_more() {
        let (mut share, mut sessions) = (share(), Sessions::default());
        let purpose = LeaseFor::Now {
            most_bytes: GRANULE_BYTES / 2,
        };
        let mut lent = 0;
        while let Ok(run) = share.lend(SESSION, (4 << 20, 1), purpose, &mut sessions, 0) {
            lent += run.bytes();
        }
        assert_eq!(lent, GRANULE_BYTES / 2);
        // Another one is served all the same, also with more than its part: it holds nothing else.
        let other = SessionId(8);
        let large = share.lend(other, (20 << 20, 1), purpose, &mut sessions, 0);
        assert_eq!(large.unwrap().bytes(), 20 << 20);
    }

    #[test]
    fn a_granule_is_closed_once_however_often_the_home_asks() {
        let mut share = share();
        let granule = GranuleIndex(0);
        assert_eq!(share.begin_vacate(Some(granule)), Some(granule));
        assert_eq!(share.begin_vacate(Some(granule)), None);
        assert_eq!(share.begin_vacate(None), None);
        assert_eq!(share.begin_vacate(Some(GranuleIndex(1))), None, "not held");
    }

    #[test]
    fn a_granule_is_emptied_in_bounded_steps() {
        let (mut share, mut sessions) = (share(), Sessions::default());
        for hi in 0..3 {
            publish_as(&mut share, KeyHash { hi, lo: 9 }, 4096);
        }
        let granule = share.begin_vacate(None).unwrap();
        let mut vacating = Vacating::new(granule, 0);
        assert!(!share.vacate_step(&mut vacating, 2, &mut sessions, 1));
        assert_eq!(share.store.len(), 1, "no more than the budget");
        assert!(share.vacate_step(&mut vacating, 2, &mut sessions, 2));
    }
}
