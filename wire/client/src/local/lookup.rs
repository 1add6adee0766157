//! Reads that cost no message: the shard's index, a pin, a fence, a second look.
//!
//! A batch is looked at in chunks. For each chunk: prefetch its buckets, then its records; find
//! every key and pin what is here; one fence for all pins; then check every record again, and the
//! daemon's life word once, after them. What holds may be read for as long as its pin stands. What
//! does not hold, or lies elsewhere, is left to the ring.
//!
//! The interleavings that this defends against, and the models of each, are in
//! `wire/SHARED-MEMORY.md` §8. One rule is of this file alone: a shard scans the pins of sessions
//! whose ring it has opened, so nothing is pinned before the ring is open.

use chariot_proto::KeyHash;
use chariot_shm::index::{Candidate, Lookup};
use chariot_shm::{PinSlot, PinTable, clock};

use super::engine::Op;
use super::port::PinKind;
use super::switches::{self, Switch};
use super::{LocalSession, ShardPort};
use crate::options::ReadPath;

/// Keys between two fences: two passes of prefetches fit the line-fill buffers many times over, and
/// the fence (some 20 ns) is shared by all.
const CHUNK: usize = 32;

/// What is known about a key without asking.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// Nothing that holds: the shard knows.
    AskShard,
    /// There is no such key.
    Absent,
    /// The value is here, under a pin that the receiver drops or keeps.
    Pinned(HeldPin<'a>, Candidate),
}

/// What is known about a key's length without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peeked {
    /// Nothing that holds: the shard knows.
    AskShard,
    /// There is no such key.
    Absent,
    /// The value has so many bytes.
    Len(u64),
}

/// A pin of a look-up; cleared when dropped, also by a panic.
#[derive(Debug)]
pub(super) struct HeldPin<'a> {
    pins: &'a PinTable,
    /// `None` only once it is kept.
    slot: Option<PinSlot>,
}

impl HeldPin<'_> {
    /// Hands the slot over: the receiver releases it.
    pub(super) fn keep(mut self) -> PinSlot {
        self.slot.take().expect("kept once")
    }
}

impl Drop for HeldPin<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.pins.release(slot);
        }
    }
}

impl LocalSession {
    /// Looks every unfinished op up and hands over what is certain; the receiver says whether
    /// that finishes the op. Costs no system call and no message.
    pub(super) fn look_up<'a>(
        &'a self,
        ops: &mut [Op],
        pin_kind: PinKind,
        mut answer: impl FnMut(usize, &ShardPort, Found<'a>) -> bool,
    ) {
        if self.terms.read_path == ReadPath::Ring {
            return;
        }
        if let [op] = ops {
            if !op.is_finished() {
                let (port, found) = self.look_up_one(op.hash, pin_kind);
                if !matches!(found, Found::AskShard) && answer(0, port, found) {
                    op.finish();
                }
            }
            return;
        }
        let mut first = 0;
        for chunk in ops.chunks_mut(CHUNK) {
            self.prefetch(chunk);
            self.look_up_chunk(first, chunk, pin_kind, &mut answer);
            first += chunk.len();
        }
    }

    /// Looks one key up: the steps of [`Self::look_up_chunk`], in the same order, without its
    /// tables.
    pub(super) fn look_up_one(&self, hash: KeyHash, pin_kind: PinKind) -> (&ShardPort, Found<'_>) {
        let port = self.port_of(hash);
        if self.terms.read_path == ReadPath::Ring {
            return (port, Found::AskShard);
        }
        match self.find(port, hash, pin_kind) {
            Found::Pinned(pin, candidate) => match self.settle(port, pin, &candidate) {
                Some(pin) => (port, Found::Pinned(pin, candidate)),
                None => (port, Found::AskShard),
            },
            found if self.is_alive() => (port, found),
            _ => (port, Found::AskShard),
        }
    }

    /// Looks one key up that is likely here; `None` says nothing, [`Self::look_up_one`] knows.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "the answer is ten words, which its caller would copy twice"
    )]
    pub(super) fn hit<'a>(
        &self,
        port: &'a ShardPort,
        hash: KeyHash,
        pin_kind: PinKind,
    ) -> Option<(HeldPin<'a>, Candidate)> {
        if self.terms.read_path == ReadPath::Ring {
            return None;
        }
        let candidate = port.index.find_here(hash.hi, hash.lo)?;
        let pin = self.pin(port, &candidate, pin_kind)?;
        let pin = self.settle(port, pin, &candidate)?;
        Some((pin, candidate))
    }

    /// What follows on a pin: the fence, the second look, the life word; and a note.
    #[inline]
    fn settle<'a>(
        &self,
        port: &ShardPort,
        pin: HeldPin<'a>,
        candidate: &Candidate,
    ) -> Option<HeldPin<'a>> {
        switches::fence(port.pins());
        if !port.index.recheck_by(candidate, clock::coarse_ms) && switches::is_off(Switch::Recheck)
        {
            return None;
        }
        switches::between_recheck_and_life();
        if !self.is_alive() {
            return None;
        }
        port.notes
            .note(candidate.record.get(), candidate.generation);
        Some(pin)
    }

    /// One chunk of at most [`CHUNK`] ops, of which the first is op `first` of the call.
    fn look_up_chunk<'a>(
        &'a self,
        first: usize,
        ops: &mut [Op],
        pin_kind: PinKind,
        answer: &mut impl FnMut(usize, &ShardPort, Found<'a>) -> bool,
    ) {
        assert!(ops.len() <= CHUNK, "a chunk fits");
        let mut found = [const { Found::AskShard }; CHUNK];
        let mut shards = [0; CHUNK];
        let mut pinned = None;
        for (op, (found, shard)) in ops.iter().zip(found.iter_mut().zip(&mut shards)) {
            if op.is_finished() {
                continue;
            }
            *shard = op.hash.shard(self.shard_count());
            let port = self.port(*shard);
            *found = self.find(port, op.hash, pin_kind);
            if matches!(found, Found::Pinned(..)) {
                pinned = Some(port);
            }
        }
        if let Some(port) = pinned {
            // One fence for all pins of the chunk, whichever table they are in.
            switches::fence(port.pins());
        }
        // One moment for all, later than every pin, and asked for only where the time matters.
        let mut moment = None;
        let mut now_ms = || *moment.get_or_insert_with(clock::coarse_ms);
        for (found, shard) in found.iter_mut().zip(&shards) {
            if let Found::Pinned(_, candidate) = found
                && !self.port(*shard).index.recheck_by(candidate, &mut now_ms)
                && switches::is_off(Switch::Recheck)
            {
                *found = Found::AskShard;
            }
        }
        switches::between_recheck_and_life();
        // Last: what was valid while the daemon lived stays readable under its pin, and a daemon
        // that is dead by now is not believed about anything.
        if !self.is_alive() {
            return;
        }
        for (at, (op, (found, shard))) in ops
            .iter_mut()
            .zip(found.into_iter().zip(shards))
            .enumerate()
        {
            let port = self.port(shard);
            if let Found::Pinned(_, candidate) = &found {
                port.notes
                    .note(candidate.record.get(), candidate.generation);
            }
            if !matches!(found, Found::AskShard) && answer(first + at, port, found) {
                op.finish();
            }
        }
    }

    /// Says how long the values of unfinished ops are, chunk by chunk; see [`Self::peek`].
    pub(super) fn peek_all(&self, ops: &mut [Op], mut answer: impl FnMut(usize, Peeked) -> bool) {
        let is_batch = ops.len() > 1;
        let mut first = 0;
        for chunk in ops.chunks_mut(CHUNK) {
            if is_batch && self.terms.read_path != ReadPath::Ring {
                self.prefetch(chunk);
            }
            for (at, op) in chunk.iter_mut().enumerate() {
                if !op.is_finished() && answer(first + at, self.peek(op.hash)) {
                    op.finish();
                }
            }
            first += chunk.len();
        }
    }

    /// Says how long a key's value is. Nothing is pinned: the answer was true at some moment
    /// during the call.
    pub(super) fn peek(&self, hash: KeyHash) -> Peeked {
        if self.terms.read_path == ReadPath::Ring {
            return Peeked::AskShard;
        }
        let port = self.port_of(hash);
        let known = match port.index.find(hash.hi, hash.lo) {
            Lookup::Absent if self.terms.has_lower_tier => return Peeked::AskShard,
            Lookup::Absent => Peeked::Absent,
            Lookup::Here(candidate) if port.index.recheck_by(&candidate, clock::coarse_ms) => {
                Peeked::Len(candidate.len)
            },
            Lookup::Here(_) | Lookup::Elsewhere(_) | Lookup::Unsettled => return Peeked::AskShard,
        };
        if self.is_alive() {
            known
        } else {
            Peeked::AskShard
        }
    }

    /// Says how long the value of a key is that is likely here; `None` says nothing,
    /// [`Self::peek`] knows.
    #[inline]
    pub(super) fn peek_hit(&self, hash: KeyHash) -> Option<u64> {
        if self.terms.read_path == ReadPath::Ring {
            return None;
        }
        let index = &self.port_of(hash).index;
        let candidate = index.find_here(hash.hi, hash.lo)?;
        let holds = index.recheck_by(&candidate, clock::coarse_ms) && self.is_alive();
        holds.then_some(candidate.len)
    }

    #[inline]
    fn find<'a>(&self, port: &'a ShardPort, hash: KeyHash, pin_kind: PinKind) -> Found<'a> {
        match port.index.find(hash.hi, hash.lo) {
            Lookup::Absent if self.terms.has_lower_tier => Found::AskShard,
            Lookup::Absent => Found::Absent,
            Lookup::Here(candidate) => match self.pin(port, &candidate, pin_kind) {
                Some(pin) => Found::Pinned(pin, candidate),
                None => Found::AskShard,
            },
            Lookup::Elsewhere(_) | Lookup::Unsettled => Found::AskShard,
        }
    }

    /// Pins what was found, if that is worth anything and there is room.
    #[inline]
    fn pin<'a>(
        &self,
        port: &'a ShardPort,
        candidate: &Candidate,
        pin_kind: PinKind,
    ) -> Option<HeldPin<'a>> {
        let end = candidate.extent.checked_add(candidate.len);
        let inside = end.is_some_and(|end| end <= self.arena().len());
        // Before its ring is open, the shard does not look at this session's pins.
        if !inside || port.bell.get().is_none() {
            return None;
        }
        switches::between_find_and_pin();
        let slot = match pin_kind {
            PinKind::View => port.pins().acquire(candidate.extent),
            PinKind::Transient => port.pins().acquire_transient(candidate.extent),
            PinKind::None => None,
        };
        slot.map(|slot| HeldPin {
            pins: port.pins(),
            slot: Some(slot),
        })
    }

    #[inline]
    fn prefetch(&self, ops: &[Op]) {
        if let [port] = &*self.ports {
            // The index's own words stay in registers.
            for op in ops {
                port.index.prefetch(op.hash.hi);
            }
            for op in ops {
                port.index.prefetch_record(op.hash.hi);
            }
            return;
        }
        for op in ops {
            self.port_of(op.hash).index.prefetch(op.hash.hi);
        }
        for op in ops {
            self.port_of(op.hash).index.prefetch_record(op.hash.hi);
        }
    }

    #[inline]
    pub(super) fn port_of(&self, hash: KeyHash) -> &ShardPort {
        self.port(hash.shard(self.shard_count()))
    }
}
