//! The operations of a local session: each makes a job and runs the engine on it.
//!
//! One key runs on the stack; a batch allocates its ops and a lane for every shard. All are written
//! once, as futures: a blocking call's future is ready when it is polled first.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use chariot_proto::{KeyError, KeyHash, Status, check_key};

use super::engine::{Deadline, Engine, Job, Lane, Op};
use super::jobs::{AskJob, ReadJob, ReadPlan, ViewJob, copy_out, make_view, read_deadline};
use super::lookup::{Found, Peeked};
use super::port::PinKind;
use super::write_job::{LeaseJob, Reserve, Stage, WriteJob, WritePlan};
use super::{LeasedBytes, LocalSession, Place};
use crate::core::Question;
use crate::error::Error;
use crate::mode::Mode;
use crate::options::{GetOptions, SetOptions, Version, whole_ms};
use crate::ranges::Range;
use crate::sink::Sink;
use crate::view::View;

/// Keys that a prefix question asks about at a time: it stops at the first miss.
const PREFIX_WINDOW: usize = 256;

impl LocalSession {
    /// Writes values; see [`crate::Client::mset`].
    pub(crate) async fn write(
        &self,
        mode: Mode,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
        out: &mut [Result<Version, Error>],
    ) {
        self.write_planned(mode, items, self.write_plan(options), out)
            .await;
    }

    /// Stores values hidden, for a transaction that another request decides.
    pub(crate) async fn reserve(
        &self,
        mode: Mode,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
        reserve: Reserve,
        out: &mut [Result<Version, Error>],
    ) {
        let plan = WritePlan {
            reserve: Some(reserve),
            ..self.write_plan(options)
        };
        self.write_planned(mode, items, plan, out).await;
    }

    async fn write_planned(
        &self,
        mode: Mode,
        items: &[(&[u8], &[u8])],
        plan: WritePlan,
        out: &mut [Result<Version, Error>],
    ) {
        let op = |index: usize, out: &mut [Result<Version, Error>]| {
            let (key, value) = items[index];
            match self
                .check_value(value.len() as u64)
                .and_then(|()| self.op(key))
            {
                Ok(op) => op,
                Err(error) => {
                    out[index] = Err(error);
                    Op::finished()
                },
            }
        };
        let deadline = plan.deadline;
        if items.len() == 1 {
            let mut ops = [op(0, out)];
            let mut stages = [Stage::None];
            let job = WriteJob {
                session: self,
                items,
                plan,
                stages: &mut stages,
                out,
                expected_slots: 0,
                out_of_memory: false,
            };
            self.run(mode, job, &mut ops, deadline).await;
            return;
        }
        let mut ops: Vec<Op> = (0..items.len()).map(|index| op(index, out)).collect();
        let duplicates = finish_duplicates(&mut ops);
        let mut stages = vec![Stage::None; items.len()];
        let job = WriteJob {
            session: self,
            items,
            plan,
            stages: &mut stages,
            out,
            expected_slots: 0,
            out_of_memory: false,
        };
        self.run(mode, job, &mut ops, deadline).await;
        for (later, first) in duplicates {
            let result = out[first].clone();
            out[later] = result;
        }
    }

    /// Lends memory for a value; see [`crate::Client::create`].
    pub(crate) async fn create(
        self: &Arc<Self>,
        mode: Mode,
        key: &[u8],
        len: u64,
        options: &SetOptions,
    ) -> Result<LeasedBytes, Error> {
        self.check_value(len)?;
        let op = self.op(key)?;
        let deadline = self.write_plan(options).deadline;
        let mut out = Ok(None);
        self.run(
            mode,
            LeaseJob {
                session: self,
                len,
                deadline,
                out: &mut out,
            },
            &mut [op],
            deadline,
        )
        .await;
        let place = out?.expect("an op that did not fail has its place");
        Ok(LeasedBytes::new(Arc::clone(self), op.hash, place, len))
    }

    pub(super) async fn publish(
        &self,
        mode: Mode,
        key: &[u8],
        hash: KeyHash,
        written: (Place, u64, Option<u32>),
        options: &SetOptions,
    ) -> Result<Version, Error> {
        let (place, len, crc) = written;
        let plan = self.write_plan(options);
        let deadline = plan.deadline;
        let mut stages = [Stage::Written(place, len, crc)];
        let mut out = [Ok(Version::default())];
        let items: &[(&[u8], &[u8])] = &[(key, &[])];
        let job = WriteJob {
            session: self,
            items,
            plan,
            stages: &mut stages,
            out: &mut out,
            expected_slots: 0,
            out_of_memory: false,
        };
        self.run(mode, job, &mut [Op::new(hash)], deadline).await;
        let [result] = out;
        result
    }

    pub(super) async fn publish_many(
        &self,
        mode: Mode,
        keys: &[Box<[u8]>],
        written: &[(KeyHash, Place, u64, Option<u32>)],
        options: &SetOptions,
    ) -> Vec<Result<Version, Error>> {
        let plan = self.write_plan(options);
        let deadline = plan.deadline;
        let empty: &[u8] = &[];
        let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&**key, empty)).collect();
        let stage = |&(_, place, len, crc): &(KeyHash, Place, u64, Option<u32>)| {
            Stage::Written(place, len, crc)
        };
        let mut stages: Vec<Stage> = written.iter().map(stage).collect();
        let mut ops: Vec<Op> = written.iter().map(|one| Op::new(one.0)).collect();
        let mut out = vec![Ok(Version::default()); keys.len()];
        let job = WriteJob {
            session: self,
            items: &items,
            plan,
            stages: &mut stages,
            out: &mut out,
            expected_slots: 0,
            out_of_memory: false,
        };
        self.run(mode, job, &mut ops, deadline).await;
        out
    }

    /// Copies a value to the caller when the index has it; `None`: see [`LocalSession::read`].
    pub(crate) fn read_here(
        &self,
        key: &[u8],
        options: &GetOptions,
        sink: &mut dyn Sink,
    ) -> Option<Result<Option<usize>, Error>> {
        let hash = self.checked_hash(key).ok()?;
        let (range, port) = (Range::of(options), self.port_of(hash));
        let (pin, candidate) = match self.hit(port, hash, PinKind::Transient) {
            Some(hit) => hit,
            None => match self.look_up_one(hash, PinKind::Transient).1 {
                Found::Pinned(pin, candidate) => (pin, candidate),
                Found::Absent if options.wait.is_none() => return Some(Ok(None)),
                Found::Absent | Found::AskShard => return None,
            },
        };
        let copied = copy_out(self, sink, 0, range, (candidate.extent, candidate.len));
        drop(pin);
        Some(copied.map(Some))
    }

    /// Lends a value in place when the index has it; `None`: see [`LocalSession::view`].
    #[inline]
    pub(crate) fn view_here(
        self: &Arc<Self>,
        key: &[u8],
        options: &GetOptions,
    ) -> Option<Result<Option<View>, Error>> {
        let hash = self.checked_hash(key).ok()?;
        let (range, port) = (Range::of(options), self.port_of(hash));
        if let Some((pin, candidate)) = self.hit(port, hash, PinKind::View) {
            let value = (candidate.extent, candidate.len, candidate.version);
            let pin = (pin.keep(), PinKind::View);
            return Some(make_view(self, port, range, pin, value).map(Some));
        }
        self.view_no_hit(hash, options)
    }

    #[inline(never)]
    fn view_no_hit(
        self: &Arc<Self>,
        hash: KeyHash,
        options: &GetOptions,
    ) -> Option<Result<Option<View>, Error>> {
        match self.look_up_one(hash, PinKind::View) {
            (port, Found::Pinned(pin, candidate)) => {
                let value = (candidate.extent, candidate.len, candidate.version);
                let pin = (pin.keep(), PinKind::View);
                Some(make_view(self, port, Range::of(options), pin, value).map(Some))
            },
            (_, Found::Absent) if options.wait.is_none() => Some(Ok(None)),
            (_, Found::Absent | Found::AskShard) => None,
        }
    }

    /// Says how long a value is when the index knows; `None`: see [`LocalSession::ask`].
    #[inline]
    pub(crate) fn ask_here(&self, key: &[u8]) -> Option<Result<Option<u64>, Error>> {
        let hash = self.checked_hash(key).ok()?;
        if let Some(len) = self.peek_hit(hash) {
            return Some(Ok(Some(len)));
        }
        match self.peek(hash) {
            Peeked::AskShard => None,
            Peeked::Absent => Some(Ok(None)),
            Peeked::Len(len) => Some(Ok(Some(len))),
        }
    }

    /// Copies values to the caller; see [`crate::Client::get`].
    pub(crate) async fn read(
        &self,
        mode: Mode,
        keys: &[&[u8]],
        options: &GetOptions,
        sink: &mut dyn Sink,
        out: &mut [Result<Option<usize>, Error>],
    ) {
        let range = Range::of(options);
        let waits = options.wait.is_some();
        let mut ops = self.ops(keys, out);
        self.look_up(
            ops.as_mut(),
            PinKind::Transient,
            |index, _port, found| match found {
                Found::Pinned(pin, candidate) => {
                    let value = (candidate.extent, candidate.len);
                    out[index] = copy_out(self, sink, index, range, value).map(Some);
                    drop(pin);
                    true
                },
                Found::Absent => {
                    out[index] = Ok(None);
                    !waits
                },
                Found::AskShard => false,
            },
        );
        let asked = ops.unfinished();
        if asked == 0 {
            return;
        }
        self.counters.add_asked(asked);
        let plan = self.read_plan(options);
        let job = ReadJob {
            session: self,
            keys,
            plan,
            sink,
            out,
        };
        self.run(mode, job, ops.as_mut(), plan.deadline).await;
    }

    /// Lends values in place; see [`crate::Client::view`].
    pub(crate) async fn view(
        self: &Arc<Self>,
        mode: Mode,
        keys: &[&[u8]],
        options: &GetOptions,
        out: &mut [Result<Option<View>, Error>],
    ) {
        let range = Range::of(options);
        let waits = options.wait.is_some();
        let mut ops = self.ops(keys, out);
        self.look_up(
            ops.as_mut(),
            PinKind::View,
            |index, port, found| match found {
                Found::Pinned(pin, candidate) => {
                    let value = (candidate.extent, candidate.len, candidate.version);
                    let pin = (pin.keep(), PinKind::View);
                    out[index] = make_view(self, port, range, pin, value).map(Some);
                    true
                },
                Found::Absent => {
                    out[index] = Ok(None);
                    !waits
                },
                Found::AskShard => false,
            },
        );
        let asked = ops.unfinished();
        if asked == 0 {
            return;
        }
        self.counters.add_asked(asked);
        let plan = self.read_plan(options);
        let job = ViewJob {
            session: self,
            keys,
            plan,
            out,
        };
        self.run(mode, job, ops.as_mut(), plan.deadline).await;
    }

    /// Asks about keys; see [`Question`].
    pub(crate) async fn ask(
        &self,
        mode: Mode,
        question: Question,
        keys: &[&[u8]],
        out: &mut [Result<Option<u64>, Error>],
    ) {
        let mut ops = self.ops(keys, out);
        if matches!(question, Question::Exist | Question::Size) {
            self.peek_all(ops.as_mut(), |index, peeked| {
                out[index] = match peeked {
                    Peeked::AskShard => return false,
                    Peeked::Absent => Ok(None),
                    Peeked::Len(len) => Ok(Some(len)),
                };
                true
            });
            let asked = ops.unfinished();
            if asked == 0 {
                return;
            }
            self.counters.add_asked(asked);
        }
        let deadline = Deadline::after(self.terms.request_timeout);
        let job = AskJob {
            question,
            keys,
            deadline,
            out,
        };
        self.run(mode, job, ops.as_mut(), deadline).await;
    }

    /// Counts the leading keys that exist; see [`crate::Client::prefix`].
    pub(crate) async fn prefix(&self, mode: Mode, keys: &[&[u8]]) -> Result<usize, Error> {
        let mut count = 0;
        for window in keys.chunks(PREFIX_WINDOW) {
            let mut out = vec![Ok(None); window.len()];
            self.ask(mode, Question::Exist, window, &mut out).await;
            for answer in out {
                match answer {
                    Ok(Some(_)) => count += 1,
                    Ok(None) => return Ok(count),
                    // A key that is none exists nowhere.
                    Err(error) if error.status() == Status::KeyInvalid => return Ok(count),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(count)
    }

    #[inline]
    pub(super) fn op(&self, key: &[u8]) -> Result<Op, Error> {
        match self.checked_hash(key) {
            Ok(hash) => Ok(Op::new(hash)),
            Err(error) => Err(no_key(error)),
        }
    }

    /// The hash of what is a key.
    #[inline]
    fn checked_hash(&self, key: &[u8]) -> Result<KeyHash, KeyError> {
        check_key(key)?;
        Ok(self.hash(key))
    }

    fn check_value(&self, len: u64) -> Result<(), Error> {
        if len == 0 {
            return Err(Error::new(
                Status::InvalidArgument,
                "a value has at least one byte",
            ));
        }
        if len > self.terms.value_max {
            return Err(Error::new(
                Status::TooLarge,
                format!(
                    "value has {len} bytes, this node takes {}",
                    self.terms.value_max
                ),
            ));
        }
        Ok(())
    }

    fn write_plan(&self, options: &SetOptions) -> WritePlan {
        WritePlan {
            ttl_ms: options.ttl.map_or(0, whole_ms),
            if_absent: options.if_absent,
            mode: options.mode,
            checksum: self.terms.checksum,
            deadline: Deadline::for_write(self.budget(options.deadline)),
            reserve: None,
        }
    }

    fn read_plan(&self, options: &GetOptions) -> ReadPlan {
        let wait = options.wait.filter(|wait| !wait.is_zero());
        let deadline = read_deadline(self.budget(options.deadline), wait);
        ReadPlan {
            range: Range::of(options),
            wait,
            deadline,
        }
    }

    fn budget(&self, chosen: Option<Duration>) -> Duration {
        chosen.unwrap_or(self.terms.request_timeout)
    }

    /// The ops of a list of keys; a key that is none has its error and a finished op.
    fn ops<T>(&self, keys: &[&[u8]], out: &mut [Result<T, Error>]) -> Ops {
        let mut op = |index: usize| match self.op(keys[index]) {
            Ok(op) => op,
            Err(error) => {
                out[index] = Err(error);
                Op::finished()
            },
        };
        if keys.len() == 1 {
            Ops::One([op(0)])
        } else {
            Ops::Many((0..keys.len()).map(&mut op).collect())
        }
    }

    pub(super) async fn run<J: Job>(&self, mode: Mode, job: J, ops: &mut [Op], deadline: Deadline) {
        if let [op] = ops {
            let mut lanes = [Lane::new(op.hash.shard(self.shard_count()))];
            self.drive(mode, Engine::new(self, job, ops, &mut lanes, deadline))
                .await;
        } else {
            let mut lanes: Vec<Lane> = (0..self.shard_count()).map(Lane::new).collect();
            self.drive(mode, Engine::new(self, job, ops, &mut lanes, deadline))
                .await;
        }
    }

    async fn drive<J: Job>(&self, mode: Mode, mut engine: Engine<'_, J>) {
        if mode == Mode::Blocking {
            return engine.run();
        }
        match self.driver.enter(&self.weak) {
            Ok(_pending) => poll_fn(|context| engine.poll(context.waker())).await,
            Err(error) => engine.fail_rest(&error),
        }
    }
}

/// What the caller hears of a key that is none.
#[cold]
fn no_key(error: KeyError) -> Error {
    Error::new(error.status(), error.to_string())
}

/// The ops of a call: one lives on the stack.
enum Ops {
    One([Op; 1]),
    Many(Vec<Op>),
}

impl Ops {
    fn unfinished(&self) -> u64 {
        match self {
            Self::One([op]) => u64::from(!op.is_finished()),
            Self::Many(ops) => ops.iter().filter(|op| !op.is_finished()).count() as u64,
        }
    }

    fn as_mut(&mut self) -> &mut [Op] {
        match self {
            Self::One(ops) => ops,
            Self::Many(ops) => ops,
        }
    }
}

/// Takes the later ones of equal keys out of a batch of writes: the first wins. Answers pairs of
/// (later, first).
fn finish_duplicates(ops: &mut [Op]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..ops.len())
        .filter(|&index| !ops[index].is_finished())
        .collect();
    order.sort_unstable_by_key(|&index| (ops[index].hash, index));
    let mut duplicates = Vec::new();
    let mut first: Option<usize> = None;
    for index in order {
        match first {
            Some(known) if ops[index].hash == ops[known].hash => {
                duplicates.push((index, known));
                ops[index] = Op::finished();
            },
            _ => first = Some(index),
        }
    }
    duplicates
}
