//! Extents that nobody finds any more and somebody may still read.
//!
//! Lives on: owner shard, one per tenant and shard. An extent enters when its record is unlinked
//! (or its lease ended) and leaves for the allocator once no pin, no I/O and no living session
//! stands on it.
//!
//! ```text
//! unlink record -> retire() -> ticket() -> fence, collect pins -> sweep(ticket, pins) -> free()
//!                                ^ only what was retired before this point may be judged by
//!                                  the pins collected after it
//! ```
//!
//! The ticket makes that order a matter of types: a reader that found the record before the unlink
//! has stored its pin before the collection's fence, or will fail its re-check.

use std::collections::VecDeque;

use chariot_base::{Extent, SessionId};

use crate::io_pins::IoPins;

/// Says why an extent waits. Lives on: owner shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineReason {
    /// A record was overwritten, deleted, expired or evicted; pins decide.
    Unlinked,
    /// Leased to a session that died: device transfers under way may go on until this time on the
    /// monotonic clock, in nanoseconds.
    LeaseOfDead {
        /// When nothing can write there any more.
        until_ns: u64,
    },
    /// Leased to or pinned by a session that was expelled and lives: waits for its farewell or
    /// death, told by [`Quarantine::session_gone`].
    HeldByExpelled {
        /// The session.
        session: SessionId,
    },
}

/// Names a moment: what was retired before it may be judged by pins collected after it.
///
/// Lives on: owner shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SweepTicket(u64);

/// One pass over what waits. Lives on: owner shard.
#[derive(Clone, Copy, Debug)]
pub struct SweepPass {
    /// Drawn before the pins were collected.
    pub ticket: SweepTicket,
    /// The monotonic clock, in nanoseconds.
    pub now_ns: u64,
    /// Most extents to judge.
    pub budget: usize,
}

/// Counts of what waits, for the metrics: extents and bytes by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuarantineStats {
    /// Extents of unlinked records.
    pub unlinked_count: u64,
    /// Extents leased to the dead.
    pub dead_count: u64,
    /// Extents held by the expelled.
    pub expelled_count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes among them that were leased to the dead.
    pub dead_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    extent: Extent,
    reason: QuarantineReason,
    number: u64,
}

/// Holds retired extents until their reuse is safe. Lives on: owner shard.
///
/// Bounded by the arena: every entry names live bytes of it.
#[derive(Debug, Default)]
pub struct Quarantine {
    waiting: VecDeque<Waiting>,
    next_number: u64,
    stats: QuarantineStats,
}

impl Quarantine {
    /// Makes an empty quarantine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in an extent whose record is unlinked already. `len` is what it occupies.
    pub fn retire(&mut self, extent: Extent, reason: QuarantineReason) {
        self.waiting.push_back(Waiting {
            extent,
            reason,
            number: self.next_number,
        });
        self.next_number += 1;
        *self.count_of(reason) += 1;
        self.stats.bytes += extent.len;
        if matches!(reason, QuarantineReason::LeaseOfDead { .. }) {
            self.stats.dead_bytes += extent.len;
        }
    }

    fn count_of(&mut self, reason: QuarantineReason) -> &mut u64 {
        match reason {
            QuarantineReason::Unlinked => &mut self.stats.unlinked_count,
            QuarantineReason::LeaseOfDead { .. } => &mut self.stats.dead_count,
            QuarantineReason::HeldByExpelled { .. } => &mut self.stats.expelled_count,
        }
    }

    /// Marks the moment before pins are collected.
    pub const fn ticket(&self) -> SweepTicket {
        SweepTicket(self.next_number)
    }

    /// Judges up to `pass.budget` extents, longest untouched first; those without a claim are
    /// appended to `freed` for the allocator. Returns how many were judged.
    ///
    /// `is_pinned` answers from pins collected after the ticket was drawn.
    pub fn sweep(
        &mut self,
        pass: SweepPass,
        io_pins: &IoPins,
        mut is_pinned: impl FnMut(Extent) -> bool,
        freed: &mut Vec<Extent>,
    ) -> usize {
        let turns = pass.budget.min(self.waiting.len());
        for _ in 0..turns {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            let elapsed = match waiting.reason {
                QuarantineReason::Unlinked => true,
                QuarantineReason::LeaseOfDead { until_ns } => pass.now_ns >= until_ns,
                QuarantineReason::HeldByExpelled { .. } => false,
            };
            let judged = elapsed && waiting.number < pass.ticket.0;
            if !judged || io_pins.contains(waiting.extent) || is_pinned(waiting.extent) {
                self.waiting.push_back(waiting);
                continue;
            }
            *self.count_of(waiting.reason) -= 1;
            self.stats.bytes -= waiting.extent.len;
            if matches!(waiting.reason, QuarantineReason::LeaseOfDead { .. }) {
                self.stats.dead_bytes -= waiting.extent.len;
            }
            freed.push(waiting.extent);
        }
        turns
    }

    /// Notes that an expelled session is gone: what it held waits for others' pins only.
    /// O(entries).
    pub fn session_gone(&mut self, session: SessionId) {
        let held = QuarantineReason::HeldByExpelled { session };
        for waiting in self
            .waiting
            .iter_mut()
            .filter(|waiting| waiting.reason == held)
        {
            waiting.reason = QuarantineReason::Unlinked;
            self.stats.expelled_count -= 1;
            self.stats.unlinked_count += 1;
        }
    }

    /// Returns the counts.
    pub const fn stats(&self) -> QuarantineStats {
        self.stats
    }

    /// Lists what waits, in no order.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + '_ {
        self.waiting.iter().map(|waiting| waiting.extent)
    }

    /// Returns how many extents wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Tells whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Checks that the counts agree with the queue; O(entries).
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let mut stats = Self::default();
        for waiting in &self.waiting {
            assert!(waiting.number < self.next_number);
            stats.retire(waiting.extent, waiting.reason);
        }
        assert_eq!(stats.stats, self.stats);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(ticket: SweepTicket, now_ns: u64) -> SweepPass {
        SweepPass {
            ticket,
            now_ns,
            budget: 16,
        }
    }

    fn swept(quarantine: &mut Quarantine, pinned: &[u64], now_ns: u64) -> Vec<u64> {
        let ticket = quarantine.ticket();
        let mut freed = Vec::new();
        let is_pinned = |extent: Extent| pinned.contains(&extent.offset);
        quarantine.sweep(pass(ticket, now_ns), &IoPins::new(), is_pinned, &mut freed);
        quarantine.check_invariants();
        freed.iter().map(|extent| extent.offset).collect()
    }

    #[test]
    fn pinned_extent_is_reused_only_after_its_pin_is_gone() {
        let mut quarantine = Quarantine::new();
        quarantine.retire(Extent::new(0, 64), QuarantineReason::Unlinked);
        quarantine.retire(Extent::new(64, 64), QuarantineReason::Unlinked);
        assert_eq!(swept(&mut quarantine, &[0], 0), [64]);
        assert_eq!(swept(&mut quarantine, &[0], 0), [0_u64; 0]);
        assert_eq!(swept(&mut quarantine, &[], 0), [0]);
        assert!(quarantine.is_empty());
    }

    #[test]
    fn extent_retired_after_the_ticket_is_not_judged_by_older_pins() {
        let mut quarantine = Quarantine::new();
        let ticket = quarantine.ticket();
        quarantine.retire(Extent::new(0, 64), QuarantineReason::Unlinked);
        let mut freed = Vec::new();
        quarantine.sweep(pass(ticket, 0), &IoPins::new(), |_| false, &mut freed);
        assert_eq!(freed, []);
        assert_eq!(swept(&mut quarantine, &[], 0), [0]);
    }

    #[test]
    fn extent_under_io_waits_for_its_completion() {
        let extent = Extent::new(0, 64);
        let mut quarantine = Quarantine::new();
        let mut io_pins = IoPins::new();
        quarantine.retire(extent, QuarantineReason::Unlinked);
        io_pins.pin(extent);
        let mut freed = Vec::new();
        quarantine.sweep(
            pass(quarantine.ticket(), 0),
            &io_pins,
            |_| false,
            &mut freed,
        );
        assert_eq!(freed, []);
        io_pins.unpin(extent);
        quarantine.sweep(
            pass(quarantine.ticket(), 0),
            &io_pins,
            |_| false,
            &mut freed,
        );
        assert_eq!(freed, [extent]);
    }

    #[test]
    fn leases_of_the_dead_wait_for_their_time_and_the_expelled_for_their_end() {
        let session = SessionId(9);
        let mut quarantine = Quarantine::new();
        let dead = QuarantineReason::LeaseOfDead { until_ns: 100 };
        quarantine.retire(Extent::new(0, 64), dead);
        quarantine.retire(
            Extent::new(64, 64),
            QuarantineReason::HeldByExpelled { session },
        );
        assert_eq!(swept(&mut quarantine, &[], 99), [0_u64; 0]);
        assert_eq!(quarantine.stats().dead_bytes, 64);
        assert_eq!(quarantine.stats().bytes, 128);
        assert_eq!(swept(&mut quarantine, &[], 100), [0]);
        assert_eq!(quarantine.stats().dead_bytes, 0);
        quarantine.session_gone(SessionId(8));
        assert_eq!(swept(&mut quarantine, &[], u64::MAX), [0_u64; 0]);
        quarantine.session_gone(session);
        assert_eq!(swept(&mut quarantine, &[], 0), [64]);
    }

    #[test]
    fn sweep_keeps_to_its_budget_and_goes_on_where_it_stopped() {
        let mut quarantine = Quarantine::new();
        for index in 0..4 {
            quarantine.retire(Extent::new(index * 64, 64), QuarantineReason::Unlinked);
        }
        let mut freed = Vec::new();
        let ticket = quarantine.ticket();
        let pins = IoPins::new();
        let two = SweepPass {
            budget: 2,
            ..pass(ticket, 0)
        };
        assert_eq!(
            quarantine.sweep(two, &pins, |e| e.offset == 0, &mut freed),
            2
        );
        assert_eq!(
            quarantine.sweep(two, &pins, |e| e.offset == 0, &mut freed),
            2
        );
        assert_eq!(freed.len(), 3);
        assert_eq!(quarantine.stats().bytes, 64);
    }
}
