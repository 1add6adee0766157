//! Requests about objects of accelerators: the words that `devices.rs` made, and the completion's.

use std::time::Duration;

use chariot_proto::{KeyHash, Opcode, Status};
use chariot_shm::{CompletionWords, SubmissionFlags, SubmissionWords};

use super::engine::{Deadline, Job, Next, Op, Step};
use super::jobs::words_for;
use super::port::{Done, PortState, Ticket, status_of};
use super::{LocalSession, ShardPort};
use crate::error::Error;
use crate::mode::Mode;

/// One request to the daemon's directory of device objects, or to its links.
#[derive(Clone, Debug)]
pub(crate) struct DeviceAsk {
    /// Which of the two.
    pub opcode: Opcode,
    /// Which form of it.
    pub form: u8,
    /// The key, or what names the shard.
    pub hash: KeyHash,
    /// The card, in the `ttl` word.
    pub device: u32,
    /// The `extent` word.
    pub number: u64,
    /// The `len` word, of a request without payload.
    pub second: u64,
    /// The `crc` word.
    pub first: u32,
    /// The `lease_count` word.
    pub count: u16,
    /// The `lease_class` word.
    pub class: u8,
    /// Bytes that go along, at most the longest inline value.
    pub payload: Vec<u8>,
}

impl DeviceAsk {
    /// A request with nothing but its form.
    pub(crate) fn new(opcode: Opcode, form: u8, hash: KeyHash, device: u32) -> Self {
        Self {
            opcode,
            form,
            hash,
            device,
            number: 0,
            second: 0,
            first: 0,
            count: 0,
            class: 0,
            payload: Vec::new(),
        }
    }
}

/// A completion, whatever it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceReply {
    /// How it ended.
    pub status: Status,
    /// Its words.
    pub words: CompletionWords,
}

struct DeviceJob<'a> {
    asks: &'a [DeviceAsk],
    deadline: Deadline,
    out: &'a mut [Result<DeviceReply, Error>],
}

impl Job for DeviceJob<'_> {
    fn prepare(&mut self, index: usize, op: &Op, port: &mut PortState) -> Step {
        let ask = &self.asks[index];
        port.set_payload(&[], &ask.payload);
        let (flags, len) = if ask.payload.is_empty() {
            (0, ask.second)
        } else {
            (SubmissionFlags::VALUE_INLINE, ask.payload.len() as u64)
        };
        let words = SubmissionWords {
            mode: ask.form,
            extent: ask.number,
            len,
            crc: ask.first,
            ttl: ask.device,
            lease_class: ask.class,
            lease_count: ask.count,
            flags,
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
        self.out[index] = Ok(DeviceReply {
            status: status_of(&done.completion),
            words: done.completion,
        });
        Ok(Next::Finished)
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.out[index] = Err(error);
    }
}

impl LocalSession {
    /// Asks about device objects, in parallel; one reply each.
    pub(crate) async fn ask_devices(
        &self,
        mode: Mode,
        asks: &[DeviceAsk],
        budget: Option<Duration>,
    ) -> Vec<Result<DeviceReply, Error>> {
        let unanswered = DeviceReply {
            status: Status::Internal,
            words: CompletionWords::default(),
        };
        let mut out = vec![Ok(unanswered); asks.len()];
        let mut ops: Vec<Op> = asks.iter().map(|ask| Op::new(ask.hash)).collect();
        let deadline = Deadline::after(budget.unwrap_or(self.terms.request_timeout));
        let job = DeviceJob {
            asks,
            deadline,
            out: &mut out,
        };
        self.run(mode, job, &mut ops, deadline).await;
        out
    }

    /// The identity of a key.
    ///
    /// # Errors
    ///
    /// `KeyInvalid`.
    pub(crate) fn key_hash(&self, key: &[u8]) -> Result<KeyHash, Error> {
        Ok(self.op(key)?.hash)
    }
}
