//! The kinds of operation that the engine runs, but for writes (`write_job.rs`).

use std::sync::Arc;
use std::time::Duration;

use chariot_proto::{Opcode, Status};
use chariot_shm::{CompletionFlags, CompletionWords, PinSlot, SubmissionWords, clock};

use super::engine::{Deadline, Job, Next, Op, Step};
use super::port::{Done, PinKind, PortState, Ticket, status_of};
use super::{LocalSession, PinnedBytes, ShardPort};
use crate::bytes;
use crate::core::Question;
use crate::error::Error;
use crate::options::Version;
use crate::ranges::Range;
use crate::sink::Sink;
use crate::view::View;

/// What a request of any kind says first.
pub(super) fn words_for(opcode: Opcode, op: &Op, key: &[u8], deadline_ns: u64) -> SubmissionWords {
    SubmissionWords {
        opcode: opcode.as_u8(),
        key_len: u16::try_from(key.len()).expect("keys are checked before"),
        hash_hi: op.hash.hi,
        hash_lo: op.hash.lo,
        deadline_ns,
        ..SubmissionWords::default()
    }
}

/// What reads and views have in common: which bytes, and how long to wait for a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadPlan {
    pub range: Range,
    pub wait: Option<Duration>,
    pub deadline: Deadline,
}

impl ReadPlan {
    /// Submits a get: at the first attempt one that answers at once, then one that waits.
    fn submit(&self, op: &Op, key: &[u8], port: &mut PortState, pin_kind: PinKind) -> Step {
        let waits = self.wait.is_some() && op.attempt > 0;
        let opcode = match (waits, pin_kind) {
            (true, _) => Opcode::Wait,
            (false, PinKind::View) => Opcode::View,
            (false, PinKind::None | PinKind::Transient) => Opcode::Get,
        };
        // The hash says all that this node needs to find the key; who waits names it in full, since
        // it may yet be asked for elsewhere.
        let key = if waits { key } else { &[] };
        port.set_payload(key, &[]);
        let words = words_for(opcode, op, key, self.deadline.remote_ns);
        Step::Submit(
            words,
            Ticket {
                pin_kind,
                ..Ticket::PLAIN
            },
        )
    }

    /// Judges an answer that is no hit: a miss, something to repeat, or an error.
    fn judge_miss(&self, status: Status, attempt: u32) -> Result<Next, Error> {
        match status {
            Status::NotFound if self.wait.is_some() && attempt == 0 => Ok(Next::Again),
            Status::NotFound => Ok(Next::Finished),
            // The wait is over without the key.
            Status::Timeout if self.wait.is_some() => Ok(Next::Finished),
            Status::Again => Ok(Next::Again),
            other => Err(Error::from_status(other)),
        }
    }
}

/// Counts a value that was handed out, by the tier that it came from.
fn count_tier(session: &LocalSession, completion: &CompletionWords) {
    if completion.flags & CompletionFlags::FROM_SSD != 0 {
        session.counters.add_hit_ssd();
    }
}

/// Copies values to the caller.
pub(super) struct ReadJob<'a> {
    pub session: &'a LocalSession,
    pub keys: &'a [&'a [u8]],
    pub plan: ReadPlan,
    pub sink: &'a mut dyn Sink,
    pub out: &'a mut [Result<Option<usize>, Error>],
}

/// Copies a range of a pinned value to the caller and says how long it is.
///
/// # Errors
/// `RangeInvalid`, or what the caller's memory answers.
pub(super) fn copy_out(
    session: &LocalSession,
    sink: &mut dyn Sink,
    index: usize,
    range: Range,
    value: (u64, u64),
) -> Result<usize, Error> {
    let (extent, value_len) = value;
    let (offset, len) = range.within(value_len)?;
    let size = usize::try_from(len).expect("a mapped value fits the address space");
    sink.begin(index, size)?;
    let source = session.arena().read_ptr(extent + offset, len);
    let mut at = 0;
    while at < size {
        let piece = sink.piece(index, at, size);
        assert!(!piece.is_empty(), "a piece makes progress");
        // SAFETY: `at` is within the `len` bytes that `read_ptr` answered for.
        let from = unsafe { source.add(at) };
        // SAFETY: the source is mapped for `size - at` bytes and pinned, the piece is the
        // caller's own memory, at most as long as what is left; they cannot overlap.
        unsafe { bytes::copy(piece.as_mut_ptr().cast(), from.as_ptr(), piece.len()) };
        at += piece.len();
    }
    // SAFETY: the loop above wrote all `size` bytes.
    unsafe { sink.commit(index, size) };
    Ok(size)
}

/// Makes the view of a pinned value, or lets the pin go.
///
/// # Errors
/// `RangeInvalid`.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a view is seven words, which its caller would copy"
)]
pub(super) fn make_view(
    session: &Arc<LocalSession>,
    port: &ShardPort,
    range: Range,
    pin: (PinSlot, PinKind),
    value: (u64, u64, u64),
) -> Result<View, Error> {
    let (pin, kind) = pin;
    let (extent, value_len, version) = value;
    let (offset, len) = match range.within(value_len) {
        Ok(range) => range,
        Err(error) => {
            port.pins().release(pin);
            return Err(error);
        },
    };
    let pinned = PinnedBytes::new(Arc::clone(session), port.shard(), pin, extent + offset, len);
    let version = Version::from_raw(version);
    Ok(if kind == PinKind::View {
        View::pinned(pinned, version)
    } else {
        // All view slots are held: copy, and let the transient slot go.
        session.counters.add_view_copied();
        View::owned(pinned.as_slice().into(), version)
    })
}

impl Job for ReadJob<'_> {
    fn prepare(&mut self, index: usize, op: &Op, port: &mut PortState) -> Step {
        self.plan
            .submit(op, self.keys[index], port, PinKind::Transient)
    }

    fn complete(
        &mut self,
        index: usize,
        op: &Op,
        port: &ShardPort,
        done: Done,
    ) -> Result<Next, Error> {
        match (status_of(&done.completion), done.pin) {
            (Status::Ok, Some((pin, _))) => {
                let value = (done.completion.extent, done.completion.len);
                let copied = copy_out(self.session, self.sink, index, self.plan.range, value);
                port.pins().release(pin);
                self.out[index] = Ok(Some(copied?));
                count_tier(self.session, &done.completion);
                Ok(Next::Finished)
            },
            // More copies run at this moment than there are pin slots for them.
            (Status::Ok, None) => Ok(Next::Again),
            (status, _) => {
                self.out[index] = Ok(None);
                self.plan.judge_miss(status, op.attempt)
            },
        }
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.out[index] = Err(error);
    }
}

/// Lends values in place.
pub(super) struct ViewJob<'a> {
    pub session: &'a Arc<LocalSession>,
    pub keys: &'a [&'a [u8]],
    pub plan: ReadPlan,
    pub out: &'a mut [Result<Option<View>, Error>],
}

impl Job for ViewJob<'_> {
    fn prepare(&mut self, index: usize, op: &Op, port: &mut PortState) -> Step {
        self.plan.submit(op, self.keys[index], port, PinKind::View)
    }

    fn complete(
        &mut self,
        index: usize,
        op: &Op,
        port: &ShardPort,
        done: Done,
    ) -> Result<Next, Error> {
        let completion = &done.completion;
        let (pin, kind) = match (status_of(completion), done.pin) {
            (Status::Ok, Some(pin)) => pin,
            (Status::Ok, None) => return Ok(Next::Again),
            (status, _) => {
                self.out[index] = Ok(None);
                return self.plan.judge_miss(status, op.attempt);
            },
        };
        let value = (completion.extent, completion.len, completion.version);
        let view = make_view(self.session, port, self.plan.range, (pin, kind), value)?;
        self.out[index] = Ok(Some(view));
        count_tier(self.session, &done.completion);
        Ok(Next::Finished)
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.out[index] = Err(error);
    }
}

/// Asks about keys, or changes them without a value.
pub(super) struct AskJob<'a> {
    pub question: Question,
    pub keys: &'a [&'a [u8]],
    pub deadline: Deadline,
    pub out: &'a mut [Result<Option<u64>, Error>],
}

impl Job for AskJob<'_> {
    fn prepare(&mut self, index: usize, op: &Op, port: &mut PortState) -> Step {
        let key = if self.question.is_write() {
            self.keys[index]
        } else {
            &[]
        };
        port.set_payload(key, &[]);
        let words = words_for(self.question.opcode(), op, key, self.deadline.remote_ns);
        let words = match self.question {
            Question::Expire(ttl_ms) => super::write_job::with_ttl(words, ttl_ms),
            Question::Exist | Question::Size | Question::Delete => words,
        };
        Step::Submit(words, Ticket::PLAIN)
    }

    fn complete(
        &mut self,
        index: usize,
        _op: &Op,
        _port: &ShardPort,
        done: Done,
    ) -> Result<Next, Error> {
        self.out[index] = match status_of(&done.completion) {
            Status::Ok => Ok(Some(done.completion.len)),
            Status::NotFound => Ok(None),
            Status::Again => return Ok(Next::Again),
            other => return Err(Error::from_status(other)),
        };
        Ok(Next::Finished)
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.out[index] = Err(error);
    }
}

/// The absolute end of a call that may first wait for its keys.
pub(super) fn read_deadline(budget: Duration, wait: Option<Duration>) -> Deadline {
    let longest = Duration::from_millis(chariot_proto::limits::WAIT_MS_MAX);
    let Some(wait) = wait.map(|wait| wait.min(longest)) else {
        return Deadline::after(budget);
    };
    let local = Deadline::after(budget + wait);
    let wait_ns = u64::try_from(wait.as_nanos()).expect("a day fits");
    Deadline {
        remote_ns: clock::monotonic_ns() + wait_ns,
        ..local
    }
}
