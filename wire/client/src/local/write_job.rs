//! Writes: inline when small, else copied into a leased extent (trusted) or into the staging memory
//! (strict), then published.
//!
//! ```text
//!   None ─ lease held ─▶ Placed ─ copy ─▶ Written ─ publish ─▶ Sent ─ completion ─▶ result
//!    │  ▲
//!    └──┴─ no lease: LeaseGrant, once per class and batch
//! ```
//! From its publish on a leased slot belongs to the shard, whatever the answer: a failed publish
//! frees it there, exactly once. A slot not yet published goes back to the cache.

use chariot_proto::limits::INLINE_MAX;
use chariot_proto::{Opcode, Status, WriteMode};
use chariot_shm::{SubmissionFlags, SubmissionWords};

use super::early_bell::EarlyBell;
use super::engine::{Deadline, Job, Next, Op, Step};
use super::jobs::words_for;
use super::lease_cache::slots_for;
use super::port::{Done, PortState, Ticket, status_of};
use super::{LocalSession, Place, ShardPort};
use crate::bytes;
use crate::error::Error;
use crate::options::Version;

/// Grants that one write asks for before it gives up: other threads take what is granted, or the
/// daemon's slots do not fit.
const GRANT_ATTEMPTS_MAX: u32 = 64;

/// How all items of a call are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WritePlan {
    pub ttl_ms: u64,
    pub if_absent: bool,
    pub mode: WriteMode,
    pub checksum: bool,
    pub deadline: Deadline,
    /// The transaction that the values are reserved for; `None` publishes them at once.
    pub reserve: Option<Reserve>,
}

/// How a write takes part in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserve {
    /// The session's number of it.
    pub number: u16,
    /// The shard that decides.
    pub coordinator: u16,
    /// Ask again for a key that another transaction holds, until the deadline.
    pub waits: bool,
}

/// How far one write is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Stage {
    #[default]
    None,
    /// Waits for a lease; so many slots are expected.
    Granting(u16),
    /// Has memory, not yet written.
    Placed(Place),
    /// Is written; its checksum if one was asked for.
    Written(Place, u64, Option<u32>),
    /// The shard has it.
    Sent,
}

/// Writes values.
pub(super) struct WriteJob<'a> {
    pub session: &'a LocalSession,
    pub items: &'a [(&'a [u8], &'a [u8])],
    pub plan: WritePlan,
    pub stages: &'a mut [Stage],
    pub out: &'a mut [Result<Version, Error>],
    /// Slots that grants in flight will bring.
    pub expected_slots: u32,
    /// The daemon had no memory for one of the items until the deadline: what has not got memory
    /// by then has waited for it too.
    pub out_of_memory: bool,
}

impl WriteJob<'_> {
    /// Names the cause of a failure: an item of a batch whose turn never came, because those before
    /// it waited for memory, has waited for memory.
    fn cause(&mut self, index: usize, error: Error) -> Error {
        let has_none = matches!(self.stages[index], Stage::None | Stage::Granting(_));
        match error.status() {
            Status::OutOfMemory => self.out_of_memory = true,
            Status::Timeout if self.out_of_memory && has_none => {
                return Error::from_status(Status::OutOfMemory);
            },
            _ => {},
        }
        error
    }

    fn flags(&self, crc: Option<u32>) -> u8 {
        let crc_flag = if crc.is_some() {
            SubmissionFlags::CRC_PRESENT
        } else {
            0
        };
        let absent_flag = if self.plan.if_absent {
            SubmissionFlags::SET_IF_ABSENT
        } else {
            0
        };
        let reserve_flag = if self.plan.reserve.is_some() {
            SubmissionFlags::RESERVE
        } else {
            0
        };
        crc_flag | absent_flag | reserve_flag
    }

    fn words(&self, opcode: Opcode, op: &Op, key: &[u8], crc: Option<u32>) -> SubmissionWords {
        let mut words = SubmissionWords {
            flags: self.flags(crc),
            crc: crc.unwrap_or(0),
            mode: self.plan.mode.as_u8(),
            ..words_for(opcode, op, key, self.plan.deadline.remote_ns)
        };
        if let Some(reserve) = self.plan.reserve {
            words.lease_count = reserve.number;
            words.lease_class = u8::try_from(reserve.coordinator).expect("at most 64 shards");
        }
        with_ttl(words, self.plan.ttl_ms)
    }

    fn submit_inline(&self, op: &Op, index: usize, port: &mut PortState) -> Step {
        let (key, value) = self.items[index];
        port.set_payload(key, value);
        let crc = self.plan.checksum.then(|| bytes::crc32c(value));
        let mut words = self.words(Opcode::Set, op, key, crc);
        words.flags |= SubmissionFlags::VALUE_INLINE;
        words.len = value.len() as u64;
        Step::Submit(words, Ticket::PLAIN)
    }

    fn place(&mut self, op: &Op, index: usize, port: &mut PortState) -> Step {
        let len = self.items[index].1.len() as u64;
        match place(
            self.session,
            port,
            len,
            self.expected_slots,
            &self.plan.deadline,
            op,
        ) {
            Placing::Placed(place) => {
                self.stages[index] = Stage::Placed(place);
                Step::Stage
            },
            Placing::Blocked => Step::Blocked,
            Placing::Grant(words, count) => {
                port.set_payload(&[], &[]);
                self.stages[index] = Stage::Granting(count);
                self.expected_slots += u32::from(count);
                Step::Submit(words, Ticket::PLAIN)
            },
            Placing::Failed(error) => Step::Failed(error),
        }
    }

    /// Copies `from` to byte `at` of a place, and continues the checksum if there is one.
    fn copy(&self, place: Place, at: usize, from: &[u8], crc: &mut Option<u32>) {
        let offset = place.offset() + at as u64;
        let len = from.len() as u64;
        let target = self.session.arena().write_ptr(offset, len).as_ptr();
        if let Some(crc) = crc {
            // SAFETY: `write_ptr` answered for `len` bytes, which this session alone may write
            // until they are published, through a window that is open; `from` is a live slice.
            *crc = unsafe { bytes::copy_with_crc_append(*crc, target, from.as_ptr(), from.len()) };
        } else {
            // SAFETY: as above.
            unsafe { bytes::copy(target, from.as_ptr(), from.len()) };
        }
    }

    fn publish(
        &mut self,
        op: &Op,
        index: usize,
        port: &mut PortState,
        written: (Place, u64, Option<u32>),
    ) -> Step {
        let (place, len, crc) = written;
        let key = self.items[index].0;
        port.set_payload(key, &[]);
        let mut ticket = Ticket::PLAIN;
        let words = match place {
            Place::Lease(slot) => {
                self.session
                    .arena()
                    .leave_window(slot.offset, slot.slot_len);
                let mut words = self.words(Opcode::Publish, op, key, crc);
                words.extent = slot.offset;
                // The words of a lease name the transaction where there is one.
                if self.plan.reserve.is_none() {
                    words.lease_class = slot.class;
                    if let Some(refill) = port.leases.refill_for(&slot) {
                        words.flags |= SubmissionFlags::WANT_LEASE;
                        words.lease_class = refill.class;
                        words.lease_count = refill.count;
                        ticket.refill = refill.slot_len;
                    }
                }
                words
            },
            Place::Staging { offset, .. } => {
                let mut words = self.words(Opcode::StagedPublish, op, key, crc);
                words.extent = offset;
                ticket.staging = Some((offset, len));
                words
            },
        };
        self.stages[index] = Stage::Sent;
        Step::Submit(SubmissionWords { len, ..words }, ticket)
    }
}

/// Sets the life of a value: milliseconds, or seconds beyond what 32 bits of them can say.
pub(super) fn with_ttl(mut words: SubmissionWords, ttl_ms: u64) -> SubmissionWords {
    if let Ok(ttl) = u32::try_from(ttl_ms) {
        words.ttl = ttl;
    } else {
        words.ttl = u32::try_from(ttl_ms.div_ceil(1000)).unwrap_or(u32::MAX);
        words.flags |= SubmissionFlags::TTL_SECONDS;
    }
    words
}

/// What came of looking for memory to write into.
pub(super) enum Placing {
    Placed(Place),
    Blocked,
    /// Ask for a lease of so many slots.
    Grant(SubmissionWords, u16),
    Failed(Error),
}

/// Looks for memory for a value of `len` bytes: a leased slot, or staging memory.
pub(super) fn place(
    session: &LocalSession,
    port: &mut PortState,
    len: u64,
    expected_slots: u32,
    deadline: &Deadline,
    op: &Op,
) -> Placing {
    if let Some(staging) = session.staging() {
        let mut staging = staging
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        return match staging.take(len) {
            Some(offset) => Placing::Placed(Place::Staging { offset, len }),
            None if len > staging.size() => Placing::Failed(Error::new(
                Status::TooLarge,
                format!(
                    "value has {len} bytes, this session can stage {}",
                    staging.size()
                ),
            )),
            None => Placing::Blocked,
        };
    }
    if let Some(slot) = port.leases.take(len) {
        return Placing::Placed(Place::Lease(slot));
    }
    if op.attempt >= GRANT_ATTEMPTS_MAX {
        return Placing::Failed(Error::new(
            Status::Busy,
            "every lease that was granted had been taken or did not fit",
        ));
    }
    let count = slots_for(len);
    if count > 1 && expected_slots > 0 {
        return Placing::Blocked;
    }
    let words = SubmissionWords {
        len,
        lease_count: count,
        ..words_for(Opcode::LeaseGrant, op, &[], deadline.remote_ns)
    };
    Placing::Grant(words, count)
}

impl Job for WriteJob<'_> {
    fn prepare(&mut self, index: usize, op: &Op, port: &mut PortState) -> Step {
        match self.stages[index] {
            Stage::None if self.items[index].1.len() <= INLINE_MAX as usize => {
                self.submit_inline(op, index, port)
            },
            Stage::None => self.place(op, index, port),
            Stage::Written(place, len, crc) => self.publish(op, index, port, (place, len, crc)),
            Stage::Granting(_) | Stage::Placed(_) | Stage::Sent => {
                unreachable!("an op is queued before its lease, or when it is written")
            },
        }
    }

    fn stage_len(&self, index: usize) -> usize {
        self.items[index].1.len()
    }

    fn stage(&mut self, index: usize, bell: &mut EarlyBell<'_>) {
        let Stage::Placed(place) = self.stages[index] else {
            unreachable!("staging follows placing")
        };
        let value = self.items[index].1;
        let (first, rest) = value.split_at(bell.cut(value.len()).unwrap_or(value.len()));
        let mut crc = self.plan.checksum.then_some(0);
        self.copy(place, 0, first, &mut crc);
        if !rest.is_empty() {
            bell.ring();
            self.copy(place, first.len(), rest, &mut crc);
        }
        self.stages[index] = Stage::Written(place, value.len() as u64, crc);
    }

    fn complete(
        &mut self,
        index: usize,
        _op: &Op,
        _port: &ShardPort,
        done: Done,
    ) -> Result<Next, Error> {
        let status = status_of(&done.completion);
        let stage = std::mem::take(&mut self.stages[index]);
        if let Stage::Granting(count) = stage {
            self.expected_slots -= u32::from(count);
            return match status {
                Status::Ok | Status::Again => Ok(Next::Again),
                other => Err(Error::from_status(other)),
            };
        }
        match status {
            Status::Ok => {
                self.out[index] = Ok(Version::from_raw(done.completion.version));
                Ok(Next::Finished)
            },
            Status::Again
                if !self.items[index].1.is_empty()
                    && self.plan.reserve.is_none_or(|reserve| reserve.waits) =>
            {
                Ok(Next::Again)
            },
            other => {
                // What was sent had its memory: it did not fail for want of it.
                self.stages[index] = stage;
                Err(Error::from_status(other))
            },
        }
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.out[index] = Err(self.cause(index, error));
    }

    fn forget(&mut self, index: usize, op: &Op) {
        if let Stage::Placed(place) | Stage::Written(place, ..) =
            std::mem::take(&mut self.stages[index])
        {
            self.session.unplace(op.hash, place);
        }
    }
}

/// Borrows memory of one length, to be written by the caller.
pub(super) struct LeaseJob<'a> {
    pub session: &'a LocalSession,
    pub len: u64,
    pub deadline: Deadline,
    pub out: &'a mut Result<Option<Place>, Error>,
}

impl Job for LeaseJob<'_> {
    fn prepare(&mut self, _index: usize, op: &Op, port: &mut PortState) -> Step {
        match place(self.session, port, self.len, 0, &self.deadline, op) {
            Placing::Placed(place) => {
                *self.out = Ok(Some(place));
                Step::Finished
            },
            Placing::Blocked => Step::Blocked,
            Placing::Grant(mut words, _) => {
                // One buffer was asked for, not a stream of them.
                words.lease_count = 1;
                port.set_payload(&[], &[]);
                Step::Submit(words, Ticket::PLAIN)
            },
            Placing::Failed(error) => Step::Failed(error),
        }
    }

    fn complete(
        &mut self,
        _index: usize,
        _op: &Op,
        _port: &ShardPort,
        done: Done,
    ) -> Result<Next, Error> {
        match status_of(&done.completion) {
            Status::Ok | Status::Again => Ok(Next::Again),
            other => Err(Error::from_status(other)),
        }
    }

    fn fail(&mut self, _index: usize, error: Error) {
        *self.out = Err(error);
    }
}
