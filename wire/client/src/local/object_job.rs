//! Requests about objects: latches, references, nested keys, the decisions of transactions.
//!
//! None of them carries a value, so that one job serves them all: it submits the words that
//! `objects/` made and hands back the completion's length and version.

use std::collections::{HashSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use chariot_proto::{Opcode, Status};
use chariot_shm::{SubmissionFlags, SubmissionWords};

use super::engine::{Deadline, Job, Next, Op, Step};
use super::jobs::words_for;
use super::port::{Done, PortState, Ticket, status_of};
use super::{LocalSession, ShardPort};
use crate::error::Error;
use crate::mode::{Mode, block};

/// The form of `ObjectLatch` that releases one.
pub(crate) const LATCH_RELEASE: u8 = 2;
/// Most transactions of a session that are under way, or whose end is not known: as many as one
/// shard decides at a time.
const TX_MAX: usize = 1024;
/// How long a number whose end is not known is kept back: twice what the daemon lets a transaction
/// take.
const TX_UNKNOWN_NS: u64 = 120_000_000_000;

/// The numbers of a session's transactions. They have 16 bits, so that one is met again soon: it
/// must be over by then.
#[derive(Debug, Default)]
pub(crate) struct TxNumbers {
    next: u16,
    /// Under way, or kept back.
    taken: HashSet<u16>,
    /// Kept back, until when.
    unknown: VecDeque<(u16, u64)>,
}

impl TxNumbers {
    /// Takes a number; `None` when too many are under way or kept back.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u16> {
        while let Some(&(number, until_ns)) = self.unknown.front()
            && until_ns <= now_ns
        {
            self.unknown.pop_front();
            self.taken.remove(&number);
        }
        if self.taken.len() >= TX_MAX {
            return None;
        }
        loop {
            self.next = self.next.wrapping_add(1);
            if self.taken.insert(self.next) {
                return Some(self.next);
            }
        }
    }

    /// Gives a number back; one whose end is not known is kept back.
    pub(crate) fn give_back(&mut self, number: u16, is_over: bool, now_ns: u64) {
        if is_over {
            self.taken.remove(&number);
        } else {
            self.unknown.push_back((number, now_ns + TX_UNKNOWN_NS));
        }
    }
}

/// One request about one key.
#[derive(Clone, Debug)]
pub(crate) struct ObjectAsk<'a> {
    /// What is asked.
    pub opcode: Opcode,
    /// Which form of it.
    pub form: u8,
    /// The key whose shard is asked.
    pub key: &'a [u8],
    /// A number that goes along: a latch's, a version, a set of shards.
    pub number: u64,
    /// Number of a transaction.
    pub tx: u16,
    /// Number of the publish that a bind ends.
    pub staged: u64,
    /// Bytes that go along, at most the longest inline value.
    pub payload: Vec<u8>,
}

impl<'a> ObjectAsk<'a> {
    /// A request with nothing but its form.
    pub(crate) fn new(opcode: Opcode, form: u8, key: &'a [u8]) -> Self {
        Self {
            opcode,
            form,
            key,
            number: 0,
            tx: 0,
            staged: 0,
            payload: Vec::new(),
        }
    }
}

/// Asks about objects; the results are the completions' lengths.
pub(super) struct ObjectJob<'a> {
    asks: &'a [ObjectAsk<'a>],
    deadline: Deadline,
    out: &'a mut [Result<u64, Error>],
}

impl Job for ObjectJob<'_> {
    fn prepare(&mut self, index: usize, op: &Op, port: &mut PortState) -> Step {
        let ask = &self.asks[index];
        port.set_payload(&[], &ask.payload);
        let words = SubmissionWords {
            mode: ask.form,
            extent: ask.number,
            lease_count: ask.tx,
            len: if ask.payload.is_empty() {
                ask.staged
            } else {
                ask.payload.len() as u64
            },
            flags: if ask.payload.is_empty() {
                0
            } else {
                SubmissionFlags::VALUE_INLINE
            },
            ..words_for(ask.opcode, op, &[], self.deadline.remote_ns)
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
        match status_of(&done.completion) {
            Status::Ok => {
                self.out[index] = Ok(done.completion.len);
                Ok(Next::Finished)
            },
            other => Err(Error::from_status(other)),
        }
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.out[index] = Err(error);
    }
}

impl LocalSession {
    /// The numbers of this session's transactions.
    pub(crate) fn tx_numbers(&self) -> MutexGuard<'_, TxNumbers> {
        self.tx_numbers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the driver release a latch, without waiting for it.
    pub(crate) fn release_later(&self, key: &[u8], number: u64) {
        self.driver.note_unheard(key, number);
    }

    /// Releases latches that nobody heard of. On the driver's thread.
    pub(super) fn release_unheard(&self) {
        for (key, number) in self.driver.take_unheard() {
            let ask = ObjectAsk {
                number,
                ..ObjectAsk::new(Opcode::ObjectLatch, LATCH_RELEASE, &key)
            };
            // A daemon that cannot be asked releases it with the session.
            drop(block(self.ask_objects(Mode::Blocking, &[ask], None)));
        }
    }

    /// Asks about objects, in parallel; one result each.
    pub(crate) async fn ask_objects(
        &self,
        mode: Mode,
        asks: &[ObjectAsk<'_>],
        budget: Option<Duration>,
    ) -> Vec<Result<u64, Error>> {
        let mut out = vec![Ok(0); asks.len()];
        let op = |(ask, out): (&ObjectAsk<'_>, &mut Result<u64, Error>)| match self.op(ask.key) {
            Ok(op) => op,
            Err(error) => {
                *out = Err(error);
                Op::finished()
            },
        };
        let mut ops: Vec<Op> = asks.iter().zip(out.iter_mut()).map(op).collect();
        let deadline = Deadline::after(budget.unwrap_or(self.terms.request_timeout));
        let job = ObjectJob {
            asks,
            deadline,
            out: &mut out,
        };
        self.run(mode, job, &mut ops, deadline).await;
        out
    }

    /// The shard of a key.
    ///
    /// # Errors
    ///
    /// `KeyInvalid`.
    pub(crate) fn shard_of(&self, key: &[u8]) -> Result<u16, Error> {
        Ok(self.op(key)?.hash.shard(self.shard_count()))
    }

    /// The order in which transactions take keys one by one, and the bytes that name a key to a
    /// shard.
    ///
    /// # Errors
    ///
    /// `KeyInvalid`.
    pub(crate) fn hash_of(&self, key: &[u8]) -> Result<[u8; 16], Error> {
        let hash = self.op(key)?.hash;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&hash.hi.to_le_bytes());
        bytes[8..].copy_from_slice(&hash.lo.to_le_bytes());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_whose_end_is_unknown_is_kept_back_beyond_the_wrap() {
        let mut numbers = TxNumbers::default();
        let lost = numbers.take(0).unwrap();
        numbers.give_back(lost, false, 0);
        for _ in 0..200_000 {
            let number = numbers.take(1).unwrap();
            assert_ne!(number, lost);
            numbers.give_back(number, true, 1);
        }
        let again = (0..70_000).any(|_| {
            let number = numbers.take(TX_UNKNOWN_NS).unwrap();
            numbers.give_back(number, true, TX_UNKNOWN_NS);
            number == lost
        });
        assert!(again, "its time is over");
    }

    #[test]
    fn too_many_unknown_ends_are_refused() {
        let mut numbers = TxNumbers::default();
        for _ in 0..TX_MAX {
            let number = numbers.take(0).unwrap();
            numbers.give_back(number, false, 0);
        }
        assert_eq!(numbers.take(1), None);
        assert!(numbers.take(TX_UNKNOWN_NS).is_some());
    }
}
