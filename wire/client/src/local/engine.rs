//! The pipeline of an operation over the rings of all its shards.
//!
//! An operation is one key or many. Each key is an [`Op`]; ops of one shard wait in a [`Lane`] in
//! the order of the call, and leave it in windows as large as the ring has room: one lock, one
//! release store and at most one bell per window and shard. Copies happen between the windows,
//! outside the lock, while the shard works on the window before.
//!
//! ```text
//!   queue ─ prepare ─▶ stage (copy into a lease) ─▶ queue front ─ prepare ─▶ submit ─▶ in flight
//!     ▲                                                                              │
//!     └──────────────── again (pin slots used up, wait for a key) ◀──── complete ◀───┘
//! ```
//!
//! The same engine runs blocking calls (spin, then sleep on the session's doorbell) and futures
//! (wakers in the slots). Dropping it abandons what is in flight.

use std::task::{Poll, Waker};
use std::time::Duration;

use chariot_proto::KeyHash;
use chariot_shm::{SubmissionWords, clock};

use super::early_bell::EarlyBell;
use super::port::{Done, PortState, Ticket};
use super::{LocalSession, ShardPort};
use crate::error::Error;

/// End of a lane's queue.
const NIL: u32 = u32::MAX;
/// Most ops that are staged or completed between two looks at a ring.
const CHUNK: usize = 16;
/// Longest sleep between two looks at the daemon's life word.
const LIFE_CHECK: Duration = Duration::from_millis(50);

/// Most time that is kept between the daemon's deadline and the caller's.
const ANSWER_MAX_NS: u64 = 20_000_000;
/// The same for a write: its answer may be that there is no memory, which a caller must not take
/// for a daemon that does not answer, also where the daemon's core is busy with something else.
pub(super) const WRITE_ANSWER_MAX_NS: u64 = 500_000_000;

/// One key of an operation, as the engine sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub hash: KeyHash,
    /// How often it was put back into its queue after an answer.
    pub attempt: u32,
    next: u32,
    /// Its result is there.
    finished: bool,
}

/// The ops of one shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    shard: u16,
    first: u32,
    last: u32,
    in_flight: u128,
}

impl Op {
    pub(super) fn new(hash: KeyHash) -> Self {
        Self {
            hash,
            attempt: 0,
            next: NIL,
            finished: false,
        }
    }

    /// Whether its result is there.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Notes that its result is there, before the engine has seen it.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// An op whose result is known before it starts (a key that is none).
    pub(super) fn finished() -> Self {
        Self {
            finished: true,
            ..Self::new(KeyHash { hi: 0, lo: 0 })
        }
    }
}

impl Lane {
    pub(super) fn new(shard: u16) -> Self {
        Self {
            shard,
            first: NIL,
            last: NIL,
            in_flight: 0,
        }
    }

    fn push(&mut self, ops: &mut [Op], index: u32) {
        ops[index as usize].next = NIL;
        if self.first == NIL {
            self.first = index;
        } else {
            ops[self.last as usize].next = index;
        }
        self.last = index;
    }

    fn push_front(&mut self, ops: &mut [Op], index: u32) {
        ops[index as usize].next = self.first;
        if self.first == NIL {
            self.last = index;
        }
        self.first = index;
    }

    fn pop(&mut self, ops: &[Op]) -> Option<u32> {
        if self.first == NIL {
            return None;
        }
        let index = self.first;
        self.first = ops[index as usize].next;
        if self.first == NIL {
            self.last = NIL;
        }
        Some(index)
    }
}

/// What is to be done with the op at the front of a lane.
#[derive(Debug)]
pub(super) enum Step {
    /// Submit these words; the payload is in the port's buffer.
    Submit(SubmissionWords, Ticket),
    /// Copy first, outside the lock ([`Job::stage`]); then it is prepared again.
    Stage,
    /// Nothing can be done before something else finishes.
    Blocked,
    /// The job has its result already.
    Finished,
    /// It failed.
    Failed(Error),
}

/// What is to be done with an op whose completion is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The job has its result.
    Finished,
    /// Prepare it again.
    Again,
}

/// One kind of operation: writes, reads, views, questions. It keeps the results.
pub(super) trait Job {
    /// Decides about op `index`, under the port's lock.
    fn prepare(&mut self, index: usize, op: &Op, port: &mut PortState) -> Step;

    /// How many bytes [`Self::stage`] will copy for op `index`.
    fn stage_len(&self, _index: usize) -> usize {
        unreachable!("only writes stage");
    }

    /// Copies what op `index` needs, outside the lock, and rings where `bell` says.
    fn stage(&mut self, _index: usize, _bell: &mut EarlyBell<'_>) {
        unreachable!("only writes stage");
    }

    /// Takes the answer of op `index`, outside the lock. Releases the pin or keeps it.
    ///
    /// # Errors
    ///
    /// The op's failure; the engine hands it to [`Self::fail`].
    fn complete(
        &mut self,
        index: usize,
        op: &Op,
        port: &ShardPort,
        done: Done,
    ) -> Result<Next, Error>;

    /// Gives back what op `index` holds: it will neither finish nor fail.
    fn forget(&mut self, _index: usize, _op: &Op) {}

    /// Stores a failure as the result of op `index`.
    fn fail(&mut self, index: usize, error: Error);
}

/// When a call must have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    /// For the caller: absolute nanoseconds of the monotonic clock.
    pub local_ns: u64,
    /// For the daemon: a little earlier, so that its answer (why it could not) arrives in time.
    pub remote_ns: u64,
}

impl Deadline {
    /// A deadline `budget` from now.
    pub(super) fn after(budget: Duration) -> Self {
        Self::with_answer(budget, ANSWER_MAX_NS)
    }

    /// The same for a write, which may have to wait for memory.
    pub(super) fn for_write(budget: Duration) -> Self {
        Self::with_answer(budget, WRITE_ANSWER_MAX_NS)
    }

    fn with_answer(budget: Duration, answer_max_ns: u64) -> Self {
        let now = clock::monotonic_ns();
        let budget = u64::try_from(budget.as_nanos())
            .unwrap_or(u64::MAX)
            .clamp(1, u64::MAX / 4);
        let answer = (budget / 4).min(answer_max_ns);
        let local_ns = now.saturating_add(budget);
        Self {
            local_ns,
            remote_ns: local_ns - answer,
        }
    }
}

/// What one look at a lane found, to be dealt with outside the lock.
struct Harvest {
    done: [Option<Done>; CHUNK],
    staged: [u32; CHUNK],
    staged_count: usize,
    failed: Option<(u32, Error)>,
    must_ring_bell: bool,
    moved: bool,
}

/// Runs one operation.
pub(super) struct Engine<'a, J: Job> {
    session: &'a LocalSession,
    job: J,
    ops: &'a mut [Op],
    lanes: &'a mut [Lane],
    left: usize,
    deadline: Deadline,
}

impl<'a, J: Job> Engine<'a, J> {
    /// Queues the ops that have no result yet. There is a lane for each shard, or one lane for the
    /// only op.
    pub(super) fn new(
        session: &'a LocalSession,
        job: J,
        ops: &'a mut [Op],
        lanes: &'a mut [Lane],
        deadline: Deadline,
    ) -> Self {
        let mut engine = Self {
            session,
            job,
            ops,
            lanes,
            left: 0,
            deadline,
        };
        for index in 0..engine.ops.len() {
            if !engine.ops[index].finished {
                engine.queue(index);
            }
        }
        engine
    }

    /// Runs to the end, blocking: all results are there when it returns.
    pub(super) fn run(&mut self) {
        if let Err(error) = self.run_to_end() {
            self.fail_rest(&error);
        }
        assert!(self.left == 0, "every op has its result");
    }

    /// Goes as far as it can without waiting. When something is still in flight, `waker` will be
    /// woken.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<()> {
        match self.try_poll(waker) {
            Ok(poll) => poll,
            Err(error) => {
                self.fail_rest(&error);
                Poll::Ready(())
            },
        }
    }

    fn queue(&mut self, index: usize) {
        let shard = self.ops[index].hash.shard(self.session.shard_count());
        let lane = if self.lanes.len() == 1 {
            0
        } else {
            usize::from(shard)
        };
        assert!(
            self.lanes[lane].shard == shard,
            "lanes are in the order of the shards"
        );
        let index = u32::try_from(index).expect("batches are bounded");
        self.lanes[lane].push(self.ops, index);
        self.left += 1;
    }

    fn run_to_end(&mut self) -> Result<(), Error> {
        // Nothing is asked of a daemon that is known to be dead, even if it could still answer.
        self.session.check_alive()?;
        let spin_ns = self.session.spin_ns();
        let mut spin_until = 0;
        while self.left > 0 {
            if self.pump()? {
                spin_until = 0;
                continue;
            }
            let now = clock::monotonic_ns();
            if now >= self.deadline.local_ns {
                return Err(Error::timeout());
            }
            if spin_until == 0 {
                spin_until = now + spin_ns;
            }
            if now < spin_until {
                std::hint::spin_loop();
                continue;
            }
            self.sleep(now)?;
        }
        Ok(())
    }

    /// Sleeps until the doorbell rings, the deadline passes, or it is time to look at the life
    /// word.
    fn sleep(&mut self, now: u64) -> Result<(), Error> {
        self.session.check_alive()?;
        let waiter = self.session.start_waiting();
        if !self.pump()? {
            let left = Duration::from_nanos(self.deadline.local_ns - now);
            waiter.wait(Some(left.min(LIFE_CHECK)));
        }
        Ok(())
    }

    fn try_poll(&mut self, waker: &Waker) -> Result<Poll<()>, Error> {
        while self.left > 0 {
            if self.pump()? {
                continue;
            }
            if clock::monotonic_ns() >= self.deadline.local_ns {
                return Err(Error::timeout());
            }
            self.session.check_alive()?;
            for lane in &*self.lanes {
                if lane.in_flight != 0 {
                    self.session
                        .port(lane.shard)
                        .lock()
                        .set_wakers(lane.in_flight, waker);
                }
            }
            if self.lanes.iter().all(|lane| lane.in_flight == 0) {
                self.session.wake_at_tick(waker);
            }
            // What finished before its waker was set is seen now.
            if !self.pump()? {
                return Ok(Poll::Pending);
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Looks at every lane that has work, and says whether anything moved.
    fn pump(&mut self) -> Result<bool, Error> {
        let mut moved = false;
        for lane in 0..self.lanes.len() {
            let lane_state = &self.lanes[lane];
            if lane_state.first != NIL || lane_state.in_flight != 0 {
                moved |= self.pump_lane(lane)?;
            }
        }
        Ok(moved)
    }

    /// One look at a lane: takes what has finished, submits what finds room, rings the bell once,
    /// and then, outside the lock, copies.
    fn pump_lane(&mut self, at: usize) -> Result<bool, Error> {
        let port = self.session.port(self.lanes[at].shard);
        let mut harvest = Harvest {
            done: [const { None }; CHUNK],
            staged: [0; CHUNK],
            staged_count: 0,
            failed: None,
            must_ring_bell: false,
            moved: false,
        };
        self.work_locked(at, port, &mut harvest)?;
        if harvest.must_ring_bell {
            port.ring_bell()?;
        }
        for done in harvest.done.into_iter().map_while(|done| done) {
            let index = done.op;
            let op = self.ops[index as usize];
            match self.job.complete(index as usize, &op, port, done) {
                Ok(Next::Finished) => self.finish(index),
                Ok(Next::Again) => {
                    self.ops[index as usize].attempt += 1;
                    self.lanes[at].push(self.ops, index);
                },
                Err(error) => {
                    self.job.fail(index as usize, error);
                    self.finish(index);
                },
            }
        }
        let staged = &harvest.staged[..harvest.staged_count];
        let lens = staged.iter().map(|&at| self.job.stage_len(at as usize));
        let mut bell = EarlyBell::new(port, lens.sum());
        for &index in staged {
            self.job.stage(index as usize, &mut bell);
        }
        // Backwards, so that the first one ends up in front.
        for &index in harvest.staged[..harvest.staged_count].iter().rev() {
            self.lanes[at].push_front(self.ops, index);
        }
        if let Some((index, error)) = harvest.failed {
            self.job.fail(index as usize, error);
            self.finish(index);
        }
        Ok(harvest.moved)
    }

    fn work_locked(
        &mut self,
        at: usize,
        port: &ShardPort,
        harvest: &mut Harvest,
    ) -> Result<(), Error> {
        let mut state = self.session.lock_open(port)?;
        self.session.reap(port, &mut state)?;
        for place in &mut harvest.done {
            *place = state.take_done(&mut self.lanes[at].in_flight);
            if place.is_none() {
                break;
            }
            harvest.moved = true;
        }
        let mut submitted = false;
        while harvest.staged_count < CHUNK && state.room() > 0 && harvest.failed.is_none() {
            let Some(index) = self.lanes[at].pop(self.ops) else {
                break;
            };
            match self
                .job
                .prepare(index as usize, &self.ops[index as usize], &mut state)
            {
                Step::Submit(words, ticket) => {
                    self.lanes[at].in_flight |= state.submit(
                        &words,
                        Ticket {
                            op: index,
                            ..ticket
                        },
                    );
                    submitted = true;
                },
                Step::Stage => {
                    harvest.staged[harvest.staged_count] = index;
                    harvest.staged_count += 1;
                    harvest.moved = true;
                },
                Step::Blocked => {
                    self.lanes[at].push_front(self.ops, index);
                    break;
                },
                Step::Finished => {
                    self.finish(index);
                    harvest.moved = true;
                },
                Step::Failed(error) => {
                    harvest.failed = Some((index, error));
                    harvest.moved = true;
                },
            }
        }
        submitted |= state.return_surplus();
        if submitted {
            harvest.must_ring_bell = state.publish();
            harvest.moved = true;
        }
        Ok(())
    }

    fn finish(&mut self, index: u32) {
        let op = &mut self.ops[index as usize];
        assert!(!op.finished, "an op finishes once");
        op.finished = true;
        self.left -= 1;
    }

    /// Gives up: whatever has no result gets this error.
    pub(super) fn fail_rest(&mut self, error: &Error) {
        for index in 0..self.ops.len() {
            if !self.ops[index].finished {
                self.job.fail(index, error.clone());
            }
        }
        self.abandon();
        self.left = 0;
    }

    fn abandon(&mut self) {
        for (index, op) in self.ops.iter_mut().enumerate() {
            if !op.finished {
                op.finished = true;
                self.job.forget(index, op);
            }
        }
        for lane in &mut *self.lanes {
            let in_flight = std::mem::take(&mut lane.in_flight);
            if in_flight != 0 {
                let port = self.session.port(lane.shard);
                port.lock().abandon(in_flight, port.pins());
            }
        }
    }
}

impl<J: Job> Drop for Engine<'_, J> {
    fn drop(&mut self) {
        if self.session.is_same_process() {
            self.abandon();
        }
    }
}
