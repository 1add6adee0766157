//! Making room: by the policy's hand, for a record, or by the allocator's choice.
//!
//! Nothing here frees memory: evicted extents are retired into the effects, and what is pinned is
//! not evicted at all, because that would cost a key and bring no byte back.

use chariot_base::{Extent, RecordId};

use super::{Store, index_id};
use crate::effects::{Effects, RetireReason};
use crate::entry::extent_of;
use crate::limits::{EVICT_STEPS_MAX, METADATA_STEPS_MAX};
use crate::policy::Verdict;

/// Why less than the wanted bytes were evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blocked {
    /// This call's steps are used up: call again after a yield.
    Steps,
    /// All entries that may be evicted are pinned: wait for the readers.
    Pinned,
    /// All entries left are kept (write mode `None`): the write is answered `OutOfMemory`.
    Kept,
    /// There is no entry left.
    Empty,
}

/// What an eviction brought.
///
/// Lives on: owner shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evicted {
    /// Payload bytes retired (what the allocator gets back is at least that).
    pub bytes: u64,
    /// Entries evicted.
    pub entries: u32,
    /// Why it stopped short; `None` when the wish is fulfilled.
    pub blocked: Option<Blocked>,
}

impl Store {
    /// Returns where a record's value lies and how old it is, if it may be evicted: what the
    /// allocator's search for victims asks for.
    ///
    /// The age is in eighths of a turnover: eight means that as many versions were given since this
    /// one as there are entries. It counts from the write, not from the last use, which costs no
    /// word per entry.
    pub fn eviction_candidate(&self, record: RecordId) -> Option<(Extent, u64)> {
        if !self.may_evict(record) {
            return None;
        }
        let words = self.index.read(index_id(record.get()));
        let counter_mask = (1 << super::COUNTER_BITS) - 1;
        let since = self.counter.saturating_sub(words.version & counter_mask);
        let age_eighths = since.saturating_mul(8) / u64::from(self.index.len().max(1));
        Some((extent_of(&words), age_eighths))
    }

    /// Evicts entries in the policy's order until `want_bytes` of payload are retired.
    ///
    /// `skip` tells whether an extent is pinned (or in I/O): such an entry is passed over and
    /// counts as used. Looks at no more than [`EVICT_STEPS_MAX`] entries; a run of pinned ones is
    /// counted across calls, so that calling again on [`Blocked::Steps`] comes to an end.
    pub fn evict(
        &mut self,
        want_bytes: u64,
        skip: &dyn Fn(Extent) -> bool,
        effects: &mut Effects,
    ) -> Evicted {
        let mut evicted = Evicted::default();
        for _ in 0..EVICT_STEPS_MAX {
            if evicted.bytes >= want_bytes {
                return evicted;
            }
            let Some(id) = self.policy.hand(self.pinned_run) else {
                evicted.blocked = Some(self.left_over());
                return evicted;
            };
            if self.pinned_run >= self.policy.len() {
                self.pinned_run = 0;
                evicted.blocked = Some(Blocked::Pinned);
                return evicted;
            }
            let words = self.index.read(index_id(id));
            if skip(extent_of(&words)) {
                self.policy.pass_over(id, words.len);
                self.pinned_run += 1;
                self.stats.pinned_passes += 1;
                continue;
            }
            self.pinned_run = 0;
            if self.policy.judge(id, words.len) == Verdict::Evict {
                self.take_out(index_id(id), RetireReason::Evicted, effects);
                evicted.bytes += words.len;
                evicted.entries += 1;
            }
        }
        if evicted.bytes < want_bytes {
            evicted.blocked = Some(Blocked::Steps);
        }
        evicted
    }

    /// Takes out entries from the far end of the policy's order, the hottest first, until
    /// `want_bytes` of payload are retired: for a node that stops and has time for a part only.
    ///
    /// Takes no more than [`EVICT_STEPS_MAX`] entries, pinned ones too: their extents live on in
    /// quarantine.
    pub fn evict_hottest(&mut self, want_bytes: u64, effects: &mut Effects) -> Evicted {
        let mut evicted = Evicted::default();
        for _ in 0..EVICT_STEPS_MAX {
            if evicted.bytes >= want_bytes {
                break;
            }
            let Some(id) = self.policy.hottest() else {
                evicted.blocked = Some(self.left_over());
                break;
            };
            evicted.bytes += self.index.read(index_id(id)).len;
            evicted.entries += 1;
            self.take_out(index_id(id), RetireReason::Evicted, effects);
        }
        evicted
    }

    /// Evicts exactly these entries, or none: the allocator asks for a run of neighbours, and half
    /// of a run makes no room.
    ///
    /// Nothing is evicted, and `blocked` says why, when one of them is pinned or may not be evicted
    /// (kept, or not in use). Cost is linear in `records`, which the caller bounds.
    pub fn evict_records(
        &mut self,
        records: &[RecordId],
        skip: &dyn Fn(Extent) -> bool,
        effects: &mut Effects,
    ) -> Evicted {
        let mut evicted = Evicted::default();
        for &record in records {
            if !self.may_evict(record) {
                evicted.blocked = Some(Blocked::Kept);
                return evicted;
            }
            if skip(extent_of(&self.index.read(index_id(record.get())))) {
                evicted.blocked = Some(Blocked::Pinned);
                return evicted;
            }
        }
        for &record in records {
            // A record that is named twice is gone the second time.
            if self.may_evict(record) {
                let id = index_id(record.get());
                evicted.bytes += self.index.read(id).len;
                evicted.entries += 1;
                self.take_out(id, RetireReason::Evicted, effects);
            }
        }
        evicted
    }

    /// Returns whether a record is in use by an entry that may be evicted, pinned or not.
    pub fn may_evict(&self, record: RecordId) -> bool {
        record.get() <= self.index.capacity() && self.policy.is_linked(record.get())
    }

    /// Evicts one entry because its record is needed; false when none may be evicted.
    pub(super) fn evict_for_record(&mut self, effects: &mut Effects) -> bool {
        for step in 1..=METADATA_STEPS_MAX {
            let Some(id) = self.policy.hand(0) else {
                return false;
            };
            let len = self.index.read(index_id(id)).len;
            if step == METADATA_STEPS_MAX || self.policy.judge(id, len) == Verdict::Evict {
                self.take_out(index_id(id), RetireReason::Evicted, effects);
                self.stats.metadata_evictions += 1;
                return true;
            }
        }
        unreachable!("the last step always evicts");
    }

    fn left_over(&self) -> Blocked {
        if self.is_empty() {
            Blocked::Empty
        } else {
            Blocked::Kept
        }
    }
}
