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
use chariot_shm::{PinSlot, clock};

use super::engine::Op;
use super::port::PinKind;
use super::{LocalSession, ShardPort};

/// Keys between two fences: two passes of prefetches fit the line-fill buffers many times over, and
/// the fence (some 20 ns) is shared by all.
const CHUNK: usize = 32;

/// What is known about a key without asking.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing that holds: the shard knows.
    AskShard,
    /// There is no such key.
    Absent,
    /// The value is here, under a pin that the receiver releases or keeps.
    Pinned(PinSlot, Candidate),
}

impl LocalSession {
    /// Looks every unfinished op up and hands over what is certain; the receiver says whether
    /// that finishes the op. Costs no system call and no message.
    pub(super) fn look_up(
        &self,
        ops: &mut [Op],
        pin_kind: PinKind,
        mut answer: impl FnMut(usize, &ShardPort, Found) -> bool,
    ) {
        let count = ops.len();
        for first in (0..count).step_by(CHUNK) {
            let last = (first + CHUNK).min(count);
            self.look_up_chunk(ops, first..last, pin_kind, &mut answer);
        }
    }

    fn look_up_chunk(
        &self,
        ops: &mut [Op],
        chunk: std::ops::Range<usize>,
        pin_kind: PinKind,
        answer: &mut impl FnMut(usize, &ShardPort, Found) -> bool,
    ) {
        if chunk.len() > 1 {
            self.prefetch(&ops[chunk.clone()]);
        }
        let mut found = [const { Found::AskShard }; CHUNK];
        let mut pinned = None;
        for index in chunk.clone() {
            if ops[index].is_finished() {
                continue;
            }
            let port = self.port_of(ops[index].hash);
            let one = self.find(port, ops[index].hash, pin_kind);
            if matches!(one, Found::Pinned(..)) {
                pinned = Some(port);
            }
            found[index - chunk.start] = one;
        }
        if let Some(port) = pinned {
            // One fence for all pins of the chunk, whichever table they are in.
            port.pins().fence();
        }
        let now_ms = clock::coarse_ms();
        for index in chunk.clone() {
            if let Found::Pinned(_, candidate) = &found[index - chunk.start] {
                let port = self.port_of(ops[index].hash);
                if !port.index.recheck(candidate, now_ms) {
                    release(port, std::mem::replace(&mut found[index - chunk.start], Found::AskShard));
                }
            }
        }
        // Last: what was valid while the daemon lived stays readable under its pin, and a daemon
        // that is dead by now is not believed about anything.
        let is_alive = self.is_alive();
        for index in chunk.clone() {
            let port = self.port_of(ops[index].hash);
            let one = std::mem::replace(&mut found[index - chunk.start], Found::AskShard);
            if !is_alive {
                release(port, one);
                continue;
            }
            if let Found::Pinned(_, candidate) = &one {
                port.notes.note(candidate.record.get(), candidate.generation);
            }
            if !matches!(one, Found::AskShard) && answer(index, port, one) {
                ops[index].finish();
            }
        }
    }

    /// Says how long a key's value is, `Some(None)` that there is none, `None` that only the
    /// shard knows. Nothing is pinned: the answer was true at some moment during the call.
    pub(super) fn peek(&self, hash: KeyHash) -> Option<Option<u64>> {
        let port = self.port_of(hash);
        let known = match port.index.find(hash.hi, hash.lo) {
            Lookup::Absent => None,
            Lookup::Here(candidate) => {
                let now_ms = clock::coarse_ms();
                let holds = !candidate.is_expired(now_ms) && port.index.recheck(&candidate, now_ms);
                Some(holds.then_some(candidate.len)?)
            },
            Lookup::Elsewhere(_) | Lookup::Unsettled => return None,
        };
        self.is_alive().then_some(known)
    }

    fn find(&self, port: &ShardPort, hash: KeyHash, pin_kind: PinKind) -> Found {
        match port.index.find(hash.hi, hash.lo) {
            Lookup::Absent => Found::Absent,
            Lookup::Here(candidate) => {
                let inside = candidate
                    .extent
                    .checked_add(candidate.len)
                    .is_some_and(|end| end <= self.arena().len());
                // Before its ring is open, the shard does not look at this session's pins.
                if !inside || port.bell.get().is_none() {
                    return Found::AskShard;
                }
                let slot = match pin_kind {
                    PinKind::View => port.pins().acquire(candidate.extent),
                    PinKind::Transient => port.pins().acquire_transient(candidate.extent),
                    PinKind::None => None,
                };
                slot.map_or(Found::AskShard, |slot| Found::Pinned(slot, candidate))
            },
            Lookup::Elsewhere(_) | Lookup::Unsettled => Found::AskShard,
        }
    }

    fn prefetch(&self, ops: &[Op]) {
        for op in ops {
            self.port_of(op.hash).index.prefetch(op.hash.hi);
        }
        for op in ops {
            self.port_of(op.hash).index.prefetch_record(op.hash.hi);
        }
    }

    fn port_of(&self, hash: KeyHash) -> &ShardPort {
        self.port(hash.shard(self.shard_count()))
    }
}

fn release(port: &ShardPort, found: Found) {
    if let Found::Pinned(slot, _) = found {
        port.pins().release(slot);
    }
}
