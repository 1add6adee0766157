//! Requests about objects: latches, references, nested keys, the decisions of transactions.
//!
//! None of them carries a value, so that one job serves them all: it submits the words that
//! `objects/` made and hands back the completion's length and version.

use std::time::Duration;

use chariot_proto::{Opcode, Status};
use chariot_shm::{SubmissionFlags, SubmissionWords};

use super::engine::{Deadline, Job, Next, Op, Step};
use super::jobs::words_for;
use super::port::{Done, PortState, Ticket, status_of};
use super::{LocalSession, ShardPort};
use crate::error::Error;
use crate::mode::Mode;

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
            len: ask.payload.len() as u64,
            flags: SubmissionFlags::VALUE_INLINE,
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
