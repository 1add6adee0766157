//! Memory lent to sessions for writing, and the rule that each slot comes back exactly once.
//!
//! Lives on: owner shard, one per tenant and shard. A session holds sets of slots it may write into
//! (idle); naming a slot in a submission moves it to the shard ([`LeaseBook::take`]), from then on
//! it belongs to that submission until its completion is seen. What a session says is hostile: an
//! offset it does not hold, or names a second time, is an error value and changes nothing.
//!
//! Neighbours: `extent` makes the sets; the server frees what [`LeaseBook::give_back`] and
//! [`LeaseBook::drop_session`] return (after a grace period in `quarantine` when the session died).

use std::collections::BTreeMap;

use hashbrown::HashMap;

use chariot_base::limits::IDLE_LEASE_BYTES_MAX;
use chariot_base::{Extent, SessionId};

use crate::extent::SlotSet;

/// Most idle slots of one session on one shard: 32 MiB of leases in 4 KiB slots are 8,192, and a
/// client keeps 32 classes at most; eight times that is a client which hoards fragments.
pub const SLOTS_PER_SESSION_MAX: usize = 65_536;

/// Says why a session's word about a lease was refused; nothing has changed. The session mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The session holds no idle slot that begins there: foreign, unknown, or named before.
    #[error("no idle slot of this session begins at offset {offset}")]
    NotLeased {
        /// The offset the session named.
        offset: u64,
    },
    /// The value is empty or longer than the slot.
    #[error("length {len} does not fit the slot of {slot_len} bytes at offset {offset}")]
    WrongLen {
        /// The offset the session named.
        offset: u64,
        /// The length the session named.
        len: u64,
        /// What the slot holds.
        slot_len: u64,
    },
    /// The session's idle slots are at their limit; it must use or return some first.
    #[error("the session holds {SLOTS_PER_SESSION_MAX} idle slots already")]
    TooManySlots,
}

/// Each slot by itself, not its run: slots of a run that were published and freed may be lent
/// again, in another run, while their old neighbours are still idle.
#[derive(Debug, Default)]
struct SessionLeases {
    /// Length of each idle slot by its offset.
    idle: HashMap<u64, u64>,
    idle_bytes: u64,
}

/// Records which session may write where. Lives on: owner shard.
#[derive(Debug, Default)]
pub struct LeaseBook {
    sessions: BTreeMap<SessionId, SessionLeases>,
    idle_bytes: u64,
}

impl LeaseBook {
    /// Makes an empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many idle bytes one session may hold: min(32 MiB, free / (2 × sessions)).
    ///
    /// `free_bytes` is what the shard could still give out; with no session yet, it counts as one.
    pub fn budget(free_bytes: u64, session_count: usize) -> u64 {
        let sessions = session_count.max(1) as u64;
        IDLE_LEASE_BYTES_MAX.min(free_bytes / (2 * sessions))
    }

    /// Lends a run to a session.
    ///
    /// # Errors
    /// [`LeaseError::TooManySlots`]: the caller frees the run and the session writes with a copy.
    ///
    /// # Panics
    /// When the run is empty, too long for the book, or holds a slot that the session has already.
    pub fn grant(&mut self, session: SessionId, run: SlotSet) -> Result<(), LeaseError> {
        assert!(run.count() > 0);
        assert!(run.slot_len > 0);
        let leases = self.sessions.entry(session).or_default();
        if leases.idle.len() + run.count() as usize > SLOTS_PER_SESSION_MAX {
            return Err(LeaseError::TooManySlots);
        }
        for offset in run.offsets() {
            let before = leases.idle.insert(offset, run.slot_len);
            assert!(before.is_none(), "a slot is lent once");
        }
        leases.idle_bytes += run.bytes();
        self.idle_bytes += run.bytes();
        Ok(())
    }

    /// Moves a slot from the session to one submission: the extent to publish.
    ///
    /// # Errors
    /// [`LeaseError::NotLeased`] and [`LeaseError::WrongLen`]: the submission is answered with an
    /// error, and the slot, if there is one, stays with the session.
    pub fn take(
        &mut self,
        session: SessionId,
        offset: u64,
        len: u64,
    ) -> Result<Extent, LeaseError> {
        let slot_len = self
            .find(session, offset)
            .ok_or(LeaseError::NotLeased { offset })?;
        if len == 0 || len > slot_len {
            return Err(LeaseError::WrongLen {
                offset,
                len,
                slot_len,
            });
        }
        self.remove(session, offset);
        Ok(Extent::new(offset, len))
    }

    /// Takes an idle slot back; the caller frees it. Its length is the whole slot's.
    ///
    /// # Errors
    /// [`LeaseError::NotLeased`]: the second return of a slot, or one never lent.
    pub fn give_back(&mut self, session: SessionId, offset: u64) -> Result<Extent, LeaseError> {
        let slot_len = self
            .find(session, offset)
            .ok_or(LeaseError::NotLeased { offset })?;
        self.remove(session, offset);
        Ok(Extent::new(offset, slot_len))
    }

    /// Takes back all idle slots of a session that said farewell or died; the caller frees them.
    pub fn drop_session(&mut self, session: SessionId) -> Vec<Extent> {
        let Some(leases) = self.sessions.remove(&session) else {
            return Vec::new();
        };
        self.idle_bytes -= leases.idle_bytes;
        let slots = leases.idle.into_iter();
        let mut slots: Vec<Extent> = slots.map(|(at, len)| Extent::new(at, len)).collect();
        // The allocator joins neighbours as they come back: in order that costs least.
        slots.sort_unstable_by_key(|slot| slot.offset);
        slots
    }

    /// Returns how many idle slots are lent. O(sessions).
    pub fn idle_count(&self) -> u64 {
        self.sessions
            .values()
            .map(|leases| leases.idle.len() as u64)
            .sum()
    }

    /// Returns how many idle slots one session holds.
    pub fn idle_count_of(&self, session: SessionId) -> u64 {
        self.sessions
            .get(&session)
            .map_or(0, |leases| leases.idle.len() as u64)
    }

    /// Returns the idle bytes that one session holds.
    pub fn idle_bytes(&self, session: SessionId) -> u64 {
        self.sessions
            .get(&session)
            .map_or(0, |leases| leases.idle_bytes)
    }

    /// Returns the idle bytes of all sessions together, for the accounting.
    pub const fn total_idle_bytes(&self) -> u64 {
        self.idle_bytes
    }

    /// Returns by how many bytes a session exceeds its budget: what to recall when it next calls.
    pub fn excess_bytes(&self, session: SessionId, budget: u64) -> u64 {
        self.idle_bytes(session).saturating_sub(budget)
    }

    fn find(&self, session: SessionId, offset: u64) -> Option<u64> {
        self.sessions.get(&session)?.idle.get(&offset).copied()
    }

    fn remove(&mut self, session: SessionId, offset: u64) {
        let leases = self.sessions.get_mut(&session).expect("found before");
        let slot_len = leases.idle.remove(&offset).expect("found before");
        leases.idle_bytes -= slot_len;
        self.idle_bytes -= slot_len;
    }

    /// Checks that all counts agree; O(slots).
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let mut total = 0;
        for leases in self.sessions.values() {
            assert!(leases.idle.len() <= SLOTS_PER_SESSION_MAX);
            assert_eq!(leases.idle_bytes, leases.idle.values().sum::<u64>());
            total += leases.idle_bytes;
        }
        assert_eq!(total, self.idle_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plainest model: a map from offset to who holds the slot. Each slot leaves
        /// the book exactly once, whatever two sessions say.
        #[test]
        fn every_slot_leaves_exactly_once(
            steps in prop::collection::vec((0..5_u8, 1..3_u64, 0..40_u64, 0..9000_u64), 1..200)
        ) {
            let mut book = LeaseBook::new();
            let mut model: BTreeMap<u64, (SessionId, u64)> = BTreeMap::new();
            let mut fresh = 1 << 30;
            for (what, session, slot, len) in steps {
                let session = SessionId(session);
                let offset = model.keys().nth(usize::try_from(slot).expect("few")).copied();
                let offset = offset.unwrap_or(slot * 64);
                let owned = model.get(&offset).filter(|&&(owner, _)| owner == session).copied();
                match what {
                    0 => {
                        let count = u32::try_from(slot).expect("few") + 1;
                        let slots = (len << 13) | (u64::MAX >> (64 - count));
                        let run = SlotSet { offset: fresh, slot_len: 4096, slots };
                        book.grant(session, run).expect("fewer slots than the limit");
                        for offset in run.offsets() {
                            model.insert(offset, (session, 4096));
                        }
                        fresh += 64 * 4096;
                    },
                    1 | 2 => {
                        let taken = book.take(session, offset, len);
                        let fits = owned.filter(|&(_, slot_len)| len > 0 && len <= slot_len);
                        prop_assert_eq!(taken.is_ok(), fits.is_some());
                        if taken.is_ok() {
                            model.remove(&offset);
                        }
                    },
                    3 => {
                        let given = book.give_back(session, offset);
                        prop_assert_eq!(given.ok().map(|e| e.len), owned.map(|(_, len)| len));
                        if owned.is_some() {
                            model.remove(&offset);
                        }
                    },
                    _ if len > 8000 => {
                        let dropped = book.drop_session(session);
                        let held = model.iter().filter(|(_, held)| held.0 == session);
                        let held: Vec<u64> = held.map(|(&offset, _)| offset).collect();
                        prop_assert!(dropped.iter().map(|e| e.offset).eq(held.iter().copied()));
                        model.retain(|_, held| held.0 != session);
                    },
                    _ => {},
                }
                book.check_invariants();
                let bytes = model.values().map(|&(_, len)| len).sum::<u64>();
                prop_assert_eq!(book.total_idle_bytes(), bytes);
            }
        }
    }

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);
    const RUN: SlotSet = SlotSet {
        offset: 8192,
        slot_len: 4096,
        slots: 0b111,
    };

    fn book() -> LeaseBook {
        let mut book = LeaseBook::new();
        book.grant(A, RUN).expect("an empty book has room");
        book
    }

    #[test]
    fn slot_is_published_exactly_once() {
        let mut book = book();
        assert_eq!(book.take(A, 12288, 100), Ok(Extent::new(12288, 100)));
        assert_eq!(
            book.take(A, 12288, 100),
            Err(LeaseError::NotLeased { offset: 12288 })
        );
        assert_eq!(
            book.give_back(A, 12288),
            Err(LeaseError::NotLeased { offset: 12288 })
        );
        assert_eq!(book.idle_bytes(A), 8192);
        book.check_invariants();
    }

    #[test]
    fn foreign_unknown_and_crooked_offsets_are_refused_and_change_nothing() {
        let mut book = book();
        for (session, offset) in [(B, 8192), (A, 8193), (A, 4096), (A, 20480), (A, u64::MAX)] {
            assert_eq!(
                book.take(session, offset, 1),
                Err(LeaseError::NotLeased { offset })
            );
            assert_eq!(
                book.give_back(session, offset),
                Err(LeaseError::NotLeased { offset })
            );
        }
        assert_eq!(book.idle_bytes(A), RUN.bytes());
    }

    #[test]
    fn wrong_length_leaves_the_slot_with_its_session() {
        let mut book = book();
        for len in [0, 4097, u64::MAX] {
            let refused = LeaseError::WrongLen {
                offset: 8192,
                len,
                slot_len: 4096,
            };
            assert_eq!(book.take(A, 8192, len), Err(refused));
        }
        assert_eq!(book.take(A, 8192, 4096), Ok(Extent::new(8192, 4096)));
    }

    #[test]
    fn slot_is_given_back_exactly_once() {
        let mut book = book();
        assert_eq!(book.give_back(A, 8192), Ok(Extent::new(8192, 4096)));
        assert_eq!(
            book.give_back(A, 8192),
            Err(LeaseError::NotLeased { offset: 8192 })
        );
        assert_eq!(
            book.take(A, 8192, 1),
            Err(LeaseError::NotLeased { offset: 8192 })
        );
    }

    #[test]
    fn dead_session_returns_only_what_was_idle() {
        let mut book = book();
        book.take(A, 8192, 1).expect("held");
        let idle = book.drop_session(A);
        assert_eq!(idle, [Extent::new(12288, 4096), Extent::new(16384, 4096)]);
        assert_eq!(book.drop_session(A), []);
        assert_eq!(book.total_idle_bytes(), 0);
        assert_eq!(
            book.take(A, 12288, 1),
            Err(LeaseError::NotLeased { offset: 12288 })
        );
    }

    #[test]
    fn idle_slots_of_one_session_are_bounded() {
        let mut book = LeaseBook::new();
        let run = |offset, slots| SlotSet {
            offset,
            slot_len: 64,
            slots,
        };
        for index in 0..SLOTS_PER_SESSION_MAX as u64 / 64 {
            book.grant(A, run(index * 4096, u64::MAX))
                .expect("below the limit");
        }
        assert_eq!(
            book.grant(A, run(1 << 40, 1)),
            Err(LeaseError::TooManySlots)
        );
        book.grant(B, run(1 << 40, 1))
            .expect("another session has its own limit");
        book.check_invariants();
    }

    /// Slots of a run that were published and freed are lent again while others of it are idle.
    #[test]
    fn freed_slots_inside_an_old_run_are_lent_again() {
        let mut book = book();
        book.take(A, 8192, 1).expect("held");
        book.take(A, 12288, 1).expect("held");
        let again = SlotSet { slots: 0b11, ..RUN };
        book.grant(A, again).expect("they are free again");
        assert_eq!(book.take(A, 16384, 1), Ok(Extent::new(16384, 1)));
        assert_eq!(book.take(A, 12288, 1), Ok(Extent::new(12288, 1)));
        assert_eq!(book.idle_bytes(A), 4096);
        book.check_invariants();
    }

    #[test]
    fn budget_is_half_a_fair_share_and_at_most_the_limit() {
        assert_eq!(LeaseBook::budget(1 << 40, 1), IDLE_LEASE_BYTES_MAX);
        assert_eq!(LeaseBook::budget(4 << 20, 4), 512 << 10);
        assert_eq!(LeaseBook::budget(4096, 0), 2048);
        assert_eq!(book().excess_bytes(A, 4096), 8192);
    }
}
