//! One shard as seen by this session: its ring, who waits for what, its pins and leases.
//!
//! ```text
//!   caller ─ submit ─▶ slot 17: Waiting ─ token ─▶ ring ─▶ shard
//!   any caller ─ reap ◀─ completions: slot 17 := Done, its extent pinned, then the ring advances
//!   caller ─ take ◀── slot 17: Free
//! ```
//! Any thread that waits reaps for all. A completion that names an extent is itself a pin until the
//! ring is advanced, so the extent is moved to a pin slot first, with one fence per reaping. A call
//! that gives up leaves its slot `Abandoned`: whatever was submitted stays the shard's until its
//! completion is seen, and nobody else gets the slot before that.
//!
//! Lives in a lock; held for a few hundred nanoseconds at a time, never while a value is copied.

use std::task::Waker;

use chariot_proto::limits::RING_ENTRIES;
use chariot_proto::{Opcode, Status};
use chariot_shm::layout::PAYLOAD_MAX;
use chariot_shm::{
    ClientRing, CompletionFlags, CompletionWords, PinSlot, PinTable, SubmissionWords,
};

use super::lease_cache::{LeaseCache, LeaseSlot};
use crate::error::Error;

/// Bytes of leases that may lie idle on one shard; the daemon's own bound is 32 MiB a session.
const IDLE_MAX_BYTES: u64 = 16 << 20;
/// Room that returned leases leave to requests.
const RESERVED_ROOM: u32 = 64;
const SLOTS: usize = RING_ENTRIES as usize;
const INDEX_BITS: u32 = RING_ENTRIES.trailing_zeros();
const _: () = assert!(SLOTS == u128::BITS as usize, "one bit per slot");

/// Which pin a completion's extent is moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PinKind {
    /// The answer names no extent, or nobody wants it.
    None,
    /// For the time of a copy.
    Transient,
    /// For a view; a transient one where no view slot is left.
    View,
}

/// What a caller takes out of a slot.
#[derive(Debug)]
pub(super) struct Done {
    /// The index that the caller gave at submission.
    pub op: u32,
    pub completion: CompletionWords,
    /// The pin on the completion's extent, and whether it is a view's.
    pub pin: Option<(PinSlot, PinKind)>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum SlotState {
    Free,
    Waiting,
    Abandoned,
    Done,
}

#[derive(Debug)]
struct Slot {
    state: SlotState,
    token: u32,
    op: u32,
    pin_kind: PinKind,
    /// The lease class for which this submission asked for more, in bytes of a slot; 0 for none.
    refill: u64,
    /// The staging memory that this submission reads: offset and length.
    staging: Option<(u64, u64)>,
    /// It returns a lease.
    is_return: bool,
    completion: CompletionWords,
    pin: Option<(PinSlot, PinKind)>,
    waker: Option<Waker>,
}

/// How to submit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// The submitter's index; comes back in [`Done`]. The engine sets it.
    pub op: u32,
    pub pin_kind: PinKind,
    /// The slot length for which more is asked along, 0 for none.
    pub refill: u64,
    /// Staging memory to free when the completion is seen.
    pub staging: Option<(u64, u64)>,
}

impl Ticket {
    /// A submission that names no extent and asks for nothing along.
    pub(super) const PLAIN: Self = Self {
        op: 0,
        pin_kind: PinKind::None,
        refill: 0,
        staging: None,
    };
}

/// Hears what a completion brings besides its answer.
pub(super) trait ReapSink {
    /// A lease was granted.
    fn on_lease(&mut self, leases: &mut LeaseCache, lease: NewLease);
    /// The shard has read this staging memory.
    fn on_staging_free(&mut self, offset: u64, len: u64);
}

/// A lease that came with a completion, validated against the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewLease {
    pub offset: u64,
    pub slot_len: u64,
    /// Bit `i`: the slot at `offset + i * slot_len`.
    pub slots: u64,
    pub class: u8,
}

/// What is behind the lock of a port.
#[derive(Debug)]
pub(super) struct PortState {
    pub ring: Option<ClientRing>,
    pub leases: LeaseCache,
    slots: Box<[Slot]>,
    free: u128,
    done: u128,
    payload: Vec<u8>,
    /// A lease came since the last look for surplus.
    surplus_possible: bool,
    /// Bytes of leases that the shard wants back.
    recalled_bytes: u64,
    /// Returned leases whose completion was not seen: what the shard recalls meanwhile may be them.
    returning: u32,
    /// Slots that were returned (offset, length), for the session to close their windows.
    pub left_slots: Vec<(u64, u64)>,
}

impl PortState {
    /// No ring is open, nothing is in flight.
    pub(super) fn new() -> Self {
        let slot = || Slot {
            state: SlotState::Free,
            token: 0,
            op: 0,
            pin_kind: PinKind::None,
            refill: 0,
            staging: None,
            is_return: false,
            completion: CompletionWords::default(),
            pin: None,
            waker: None,
        };
        Self {
            ring: None,
            leases: LeaseCache::default(),
            slots: std::iter::repeat_with(slot).take(SLOTS).collect(),
            free: u128::MAX,
            done: 0,
            payload: Vec::with_capacity(PAYLOAD_MAX as usize),
            surplus_possible: false,
            recalled_bytes: 0,
            returning: 0,
            left_slots: Vec::new(),
        }
    }

    /// Makes all submissions visible to the shard, and says whether the bell must be rung.
    pub(super) fn publish(&mut self) -> bool {
        let ring = self.ring.as_mut().expect("something was submitted");
        ring.publish();
        ring.must_ring_bell()
    }

    /// Says whether the shard does not poll this ring, as far as can be told without a fence.
    pub(super) fn shard_sleeps(&self) -> bool {
        self.ring.as_ref().is_some_and(ClientRing::shard_sleeps)
    }

    /// How many more submissions find both a slot and room in the ring.
    pub(super) fn room(&self) -> u32 {
        let ring = self.ring.as_ref().map_or(0, ClientRing::room);
        ring.min(self.free.count_ones())
    }

    /// Sets the payload of the next submission: the key's bytes, then the inline value's.
    pub(super) fn set_payload(&mut self, key: &[u8], value: &[u8]) {
        self.payload.clear();
        self.payload.extend_from_slice(key);
        self.payload.extend_from_slice(value);
    }

    /// Writes a submission with the payload that was set, and answers the bit of its slot. Not
    /// visible to the shard before [`Self::publish`].
    ///
    /// # Panics
    ///
    /// Without [`Self::room`].
    pub(super) fn submit(&mut self, words: &SubmissionWords, ticket: Ticket) -> u128 {
        assert!(self.free != 0, "the caller asked for room");
        let index = self.free.trailing_zeros();
        let slot = &mut self.slots[index as usize];
        assert!(slot.state == SlotState::Free, "a free bit is a free slot");
        slot.token = (slot.token.wrapping_add(1 << INDEX_BITS) & !(RING_ENTRIES - 1)) | index;
        slot.state = SlotState::Waiting;
        slot.op = ticket.op;
        slot.pin_kind = ticket.pin_kind;
        slot.refill = ticket.refill;
        slot.staging = ticket.staging;
        let words = SubmissionWords {
            token: slot.token,
            ..*words
        };
        let ring = self.ring.as_mut().expect("a port with room has a ring");
        ring.try_submit(&words, &self.payload)
            .expect("the caller asked for room");
        let bit = 1 << index;
        self.free &= !bit;
        bit
    }

    /// Moves all completions that are there into their slots. `sink` hears of leases.
    ///
    /// # Errors
    ///
    /// `Malformed`: the daemon wrote what no daemon writes; the session is given up.
    pub(super) fn reap(
        &mut self,
        pins: &PinTable,
        arena_len: u64,
        sink: &mut dyn ReapSink,
    ) -> Result<(), Error> {
        let Some(ring) = self.ring.as_mut() else {
            return Ok(());
        };
        let mut pinned = false;
        loop {
            let popped = ring
                .pop()
                .map_err(|_nonsense| Error::malformed(RING_NONSENSE))?;
            let Some(completion) = popped else { break };
            let index = completion.token & (RING_ENTRIES - 1);
            let slot = &mut self.slots[index as usize];
            let expected = matches!(slot.state, SlotState::Waiting | SlotState::Abandoned);
            if !expected || slot.token != completion.token {
                return Err(Error::malformed(
                    "a completion has a token that is not in flight",
                ));
            }
            if slot.refill != 0 {
                self.leases.refill_ended(slot.refill);
            }
            self.returning -= u32::from(std::mem::take(&mut slot.is_return));
            if completion.flags & CompletionFlags::RECALL != 0 && self.returning == 0 {
                self.recalled_bytes = completion.lease_len;
                self.leases.recall();
            }
            if let Some(lease) = lease_of(&completion, arena_len)? {
                sink.on_lease(&mut self.leases, lease);
                if slot.state == SlotState::Abandoned {
                    // Whoever asked for it has given up.
                    self.leases.note_unwanted(lease.slot_len);
                }
                self.surplus_possible = true;
            }
            if let Some((offset, len)) = slot.staging.take() {
                sink.on_staging_free(offset, len);
            }
            let bit = 1_u128 << index;
            if slot.state == SlotState::Abandoned {
                slot.state = SlotState::Free;
                self.free |= bit;
                continue;
            }
            slot.pin = pin_extent(pins, slot.pin_kind, &completion, arena_len)?;
            pinned |= slot.pin.is_some();
            slot.completion = completion;
            slot.state = SlotState::Done;
            self.done |= bit;
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
        if ring.unconsumed() > 0 {
            if pinned {
                pins.fence();
            }
            ring.consume();
        }
        Ok(())
    }

    /// Takes one finished submission out of those in `mine`, and clears its bit there.
    pub(super) fn take_done(&mut self, mine: &mut u128) -> Option<Done> {
        let ready = self.done & *mine;
        if ready == 0 {
            return None;
        }
        let index = ready.trailing_zeros();
        let bit = 1 << index;
        let slot = &mut self.slots[index as usize];
        assert!(slot.state == SlotState::Done, "a done bit is a done slot");
        slot.state = SlotState::Free;
        self.done &= !bit;
        self.free |= bit;
        *mine &= !bit;
        Some(Done {
            op: slot.op,
            completion: slot.completion,
            pin: slot.pin.take(),
        })
    }

    /// Leaves the submissions in `mine` to whoever reaps next; nobody hears of their answers.
    pub(super) fn abandon(&mut self, mine: u128, pins: &PinTable) {
        let mut left = mine;
        while let Some(done) = self.take_done(&mut left) {
            if let Some((pin, _)) = done.pin {
                pins.release(pin);
            }
        }
        while left != 0 {
            let index = left.trailing_zeros();
            let slot = &mut self.slots[index as usize];
            assert!(slot.state == SlotState::Waiting, "mine is in flight");
            slot.state = SlotState::Abandoned;
            slot.waker = None;
            left &= left - 1;
        }
    }

    /// Puts a slot back that was not published; it may be surplus now.
    pub(super) fn put_back(&mut self, slot: LeaseSlot) {
        self.leases.put_back(slot);
        self.surplus_possible = true;
    }

    fn next_to_return(&mut self) -> Option<LeaseSlot> {
        if self.recalled_bytes > 0 {
            if let Some(slot) = self.leases.take_recalled() {
                self.recalled_bytes = self.recalled_bytes.saturating_sub(slot.slot_len);
                return Some(slot);
            }
            self.recalled_bytes = 0;
        }
        if !self.surplus_possible {
            return None;
        }
        let surplus = self.leases.take_surplus(IDLE_MAX_BYTES);
        self.surplus_possible = surplus.is_some();
        surplus
    }

    /// Returns leased slots when too many lie idle or the shard recalls them; says whether
    /// something was submitted.
    pub(super) fn return_surplus(&mut self) -> bool {
        let mut submitted = false;
        while self.room() > RESERVED_ROOM {
            let Some(slot) = self.next_to_return() else {
                break;
            };
            let words = SubmissionWords {
                opcode: Opcode::LeaseReturn.as_u8(),
                extent: slot.offset,
                len: slot.slot_len,
                ..SubmissionWords::default()
            };
            self.set_payload(&[], &[]);
            let bit = self.submit(&words, Ticket::PLAIN);
            // Nobody waits for the answer.
            let returning = &mut self.slots[bit.trailing_zeros() as usize];
            returning.state = SlotState::Abandoned;
            returning.is_return = true;
            self.returning += 1;
            self.left_slots.push((slot.offset, slot.slot_len));
            submitted = true;
        }
        submitted
    }

    /// Has `waker` woken when any of `mine` finishes.
    pub(super) fn set_wakers(&mut self, mine: u128, waker: &Waker) {
        let mut left = mine & !self.done;
        while left != 0 {
            let slot = &mut self.slots[left.trailing_zeros() as usize];
            match &mut slot.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            left &= left - 1;
        }
    }

    /// Wakes every future that waits here: the session is given up.
    pub(super) fn wake_all(&mut self) {
        for slot in &mut self.slots {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// How many submissions have a completion that nobody has seen yet.
    pub(super) fn in_flight(&self) -> u32 {
        (!(self.free | self.done)).count_ones()
    }
}

const RING_NONSENSE: &str = "the daemon's ring positions make no sense";

fn pin_extent(
    pins: &PinTable,
    kind: PinKind,
    completion: &CompletionWords,
    arena_len: u64,
) -> Result<Option<(PinSlot, PinKind)>, Error> {
    if completion.flags & CompletionFlags::NAMES_EXTENT == 0 || kind == PinKind::None {
        return Ok(None);
    }
    let end = completion.extent.checked_add(completion.len);
    if end.is_none_or(|end| end > arena_len) {
        return Err(Error::malformed(
            "a completion names bytes outside the arena",
        ));
    }
    if kind == PinKind::View
        && let Some(pin) = pins.acquire(completion.extent)
    {
        return Ok(Some((pin, PinKind::View)));
    }
    Ok(pins
        .acquire_transient(completion.extent)
        .map(|pin| (pin, PinKind::Transient)))
}

fn lease_of(completion: &CompletionWords, arena_len: u64) -> Result<Option<NewLease>, Error> {
    if completion.flags & CompletionFlags::LEASE == 0 {
        return Ok(None);
    }
    let slots = completion.extent;
    let span = completion
        .lease_len
        .checked_mul(u64::from(u64::BITS - slots.leading_zeros()));
    let end = span.and_then(|span| completion.lease_extent.checked_add(span));
    let is_odd = slots & 1 == 0
        || completion.lease_len == 0
        || u32::from(completion.lease_count) != slots.count_ones();
    if is_odd || end.is_none_or(|end| end > arena_len) {
        return Err(Error::malformed("a lease that cannot be"));
    }
    let [class, _] = completion.lease_slot_class.to_le_bytes();
    Ok(Some(NewLease {
        offset: completion.lease_extent,
        slot_len: completion.lease_len,
        slots,
        class,
    }))
}

/// The status of a completion; numbers of a newer daemon keep their class.
pub(super) fn status_of(completion: &CompletionWords) -> Status {
    Status::from_peer(completion.status)
}
