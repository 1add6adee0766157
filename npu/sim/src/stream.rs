//! Streams: queues of tasks, each with a thread of its own, and the events between them.
//!
//! Rule 1 of the device facts, 5.2: a task runs some time after its submission, in order. Under
//! `eager` a random delay from the seed comes first; under `late` a task rests until somebody waits
//! for it, so that a missing wait is found every time.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::time::{Duration, Instant};

use chariot_ascend_rt_sys::sys;

use crate::config::config;
use crate::fault::{TaskFault, Works};
use crate::hccl::pairs::{self, Posted};
use crate::transfer::Copy;
use crate::{Code, clock, fault, state, transfer};

/// Most tasks in the queue of one stream.
const TASKS_MAX: usize = 65_536;
/// How long a task rests under `late` when nobody asks: two processes may each wait for the
/// other's.
const REST: Duration = Duration::from_millis(20);
/// How often a waiting thread looks up although nothing was said.
const LOOK: Duration = Duration::from_millis(50);

/// A function that runs on the host in the order of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostCall {
    pub(crate) function: unsafe extern "C" fn(*mut c_void),
    pub(crate) argument: usize,
}

/// What a stream can do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Copies; as one task for the engine, or one each.
    Copy {
        copies: Vec<Copy>,
        batch: bool,
    },
    Set {
        address: u64,
        value: u8,
        len: u64,
    },
    Record {
        event: u64,
        generation: u64,
    },
    Wait {
        event: u64,
        generation: u64,
    },
    Call(HostCall),
    /// Sends and receives.
    Pairs(Posted),
}

#[derive(Debug)]
struct Queued {
    task: Task,
    submitted_at: u64,
}

/// A queue of tasks.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) context: u64,
    pub(crate) device: u32,
    pub(crate) is_default: bool,
    queue: VecDeque<Queued>,
    pub(crate) submitted: u64,
    pub(crate) done: u64,
    /// Tasks that somebody waits for.
    pub(crate) demand: u64,
    error: Option<Code>,
    pub(crate) stop_on_failure: bool,
    /// Counts aborts: who waits across one is told so.
    pub(crate) aborts: u64,
    running: bool,
    started: bool,
    ready_at: u64,
}

/// A mark in a stream.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) device: u32,
    pub(crate) flags: u32,
    /// Made by the newer call: may be recorded again and again.
    pub(crate) again: bool,
    pub(crate) recorded: u64,
    pub(crate) completed: u64,
    pub(crate) stream: u64,
    /// The count of the stream's tasks that includes the last record.
    pub(crate) position: u64,
    pub(crate) time: u64,
}

impl Stream {
    pub(crate) fn new(context: u64, device: u32, is_default: bool) -> Self {
        Self {
            context,
            device,
            is_default,
            queue: VecDeque::new(),
            submitted: 0,
            done: 0,
            demand: 0,
            error: None,
            stop_on_failure: false,
            aborts: 0,
            running: false,
            started: false,
            ready_at: 0,
        }
    }

    /// Drops what waits; what runs is told to stop.
    pub(crate) fn abort(&mut self) {
        self.aborts += 1;
        self.done += self.queue.len() as u64;
        self.queue.clear();
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.done == self.submitted
    }
}

impl Event {
    /// Has the last record been reached?
    pub(crate) fn is_complete(&self) -> bool {
        self.completed == self.recorded && (self.recorded > 0 || self.again)
    }
}

/// Puts a task at the end of a stream's queue. The caller's thread has paid for the call.
pub(crate) fn submit(state: &mut state::State, id: u64, task: Task) -> Result<(), Code> {
    let stream = state
        .streams
        .get_mut(&id)
        .ok_or(sys::ACL_ERROR_RT_STREAM_CONTEXT)?;
    if stream.queue.len() >= TASKS_MAX {
        return Err(sys::ACL_ERROR_RT_STREAM_TASK_FULL);
    }
    stream.submitted += 1;
    let submitted_at = clock::now();
    stream.queue.push_back(Queued { task, submitted_at });
    if !stream.started {
        stream.started = true;
        let spawned = std::thread::Builder::new()
            .name("asim-stream".to_owned())
            .stack_size(256 << 10)
            .spawn(move || run(id));
        if spawned.is_err() {
            return Err(sys::ACL_ERROR_RT_RESOURCE_ALLOC_FAIL);
        }
    }
    state::changed();
    Ok(())
}

/// The thread of one stream.
fn run(id: u64) {
    let mut random = seed_of(config().seed, id);
    while let Some((queued, device, aborts, ready_at)) = next(id) {
        delay(&mut random);
        let start = ready_at.max(queued.submitted_at);
        let (finish, outcome) = perform(id, device, queued.task, start, aborts);
        clock::wait_until(finish);
        let mut state = state::lock();
        if let Some(stream) = state.streams.get_mut(&id) {
            stream.running = false;
            stream.done += 1;
            stream.ready_at = finish;
            // A task that an abort ended has no error of its own: its waiters were told.
            if let Err(code) = outcome
                && stream.aborts == aborts
            {
                stream.error.get_or_insert(code);
                if stream.stop_on_failure {
                    stream.done += stream.queue.len() as u64;
                    stream.queue.clear();
                }
            }
        }
        drop(state);
        state::changed();
    }
}

/// The next task, when it is due. Nothing when the stream is gone.
fn next(id: u64) -> Option<(Queued, u32, u64, u64)> {
    let mut state = state::lock();
    let mut rested: Option<Instant> = None;
    loop {
        let stream = state.streams.get_mut(&id)?;
        if !stream.queue.is_empty() {
            let rest = *rested.get_or_insert_with(Instant::now);
            if !config().late || stream.demand > stream.done || rest.elapsed() >= REST {
                stream.running = true;
                let queued = stream.queue.pop_front()?;
                return Some((queued, stream.device, stream.aborts, stream.ready_at));
            }
        }
        let most = if rested.is_some() {
            REST
        } else {
            Duration::from_mins(1)
        };
        state = state::wait(state, most);
    }
}

fn delay(random: &mut u64) {
    let most = config().jitter_us;
    if config().late || most == 0 {
        return;
    }
    let random = draw(random);
    if config().real {
        clock::pause(random % (most * 1000));
    } else {
        for _ in 0..random % 8 {
            std::thread::yield_now();
        }
    }
}

/// Where the delays of a stream begin.
fn seed_of(seed: u64, stream: u64) -> u64 {
    seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

fn draw(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// Was the stream aborted since, or taken away?
pub(crate) fn is_aborted(state: &state::State, id: u64, aborts: u64) -> bool {
    state
        .streams
        .get(&id)
        .is_none_or(|stream| stream.aborts != aborts)
}

fn perform(id: u64, device: u32, task: Task, start: u64, aborts: u64) -> (u64, Result<(), Code>) {
    let fault = match &task {
        Task::Record { .. } | Task::Wait { .. } => None,
        Task::Copy { .. } => fault::on_task(device, Works::Copy),
        Task::Set { .. } | Task::Call(_) | Task::Pairs(_) => fault::on_task(device, Works::Other),
    };
    crate::count("tasks");
    match fault {
        Some(TaskFault::Fail(code)) => return (start, Err(code)),
        Some(TaskFault::Hang) => return (start, hang(id, aborts)),
        Some(TaskFault::Lost) => {
            if let Some(device) = state::lock().devices.get_mut(&device) {
                device.lost = true;
            }
        },
        Some(TaskFault::Flip | TaskFault::Remote | TaskFault::Kill | TaskFault::KillPair)
        | None => {},
    }
    if state::lock()
        .devices
        .get(&device)
        .is_none_or(|device| device.lost)
    {
        return (start, Err(sys::ACL_ERROR_RT_LOST_HEARTBEAT));
    }
    match task {
        Task::Copy { copies, batch } => {
            transfer::run(&copies, batch, fault == Some(TaskFault::Flip), start)
        },
        Task::Set {
            address,
            value,
            len,
        } => transfer::run_set(device, address, value, len, start),
        Task::Record { event, generation } => {
            if let Some(event) = state::lock().events.get_mut(&event) {
                event.completed = event.completed.max(generation);
                event.time = start;
            }
            (start, Ok(()))
        },
        Task::Wait { event, generation } => {
            let outcome = wait_event(id, event, generation, start, aborts);
            pairs::unblock(id);
            outcome
        },
        Task::Pairs(posted) => pairs::run(id, device, &posted, start, aborts),
        Task::Call(call) => {
            // SAFETY: the caller of aclrtLaunchHostFunc promised a function that takes the argument
            // and may run on another thread.
            unsafe { (call.function)(call.argument as *mut c_void) };
            (start, Ok(()))
        },
    }
}

fn hang(id: u64, aborts: u64) -> Result<(), Code> {
    let mut state = state::lock();
    while !is_aborted(&state, id, aborts) {
        state = state::wait(state, LOOK);
    }
    Err(sys::ACL_ERROR_RT_STREAM_ABORT)
}

/// Waits on a stream for another stream's event. An event that was destroyed holds nobody up.
fn wait_event(
    id: u64,
    event: u64,
    generation: u64,
    start: u64,
    aborts: u64,
) -> (u64, Result<(), Code>) {
    let mut state = state::lock();
    loop {
        let Some(found) = state.events.get(&event) else {
            return (start, Ok(()));
        };
        if found.completed >= generation {
            return (start.max(found.time), Ok(()));
        }
        let (other, position) = (found.stream, found.position);
        if let Some(stream) = state.streams.get_mut(&other) {
            stream.demand = stream.demand.max(position);
            state::changed();
        }
        if is_aborted(&state, id, aborts) {
            return (start, Err(sys::ACL_ERROR_RT_STREAM_ABORT));
        }
        pairs::block(id, other);
        state = state::wait(state, LOOK);
    }
}

/// Waits on the host until a stream's tasks of now are done. `timeout` of none is for ever.
pub(crate) fn synchronize(id: u64, timeout: Option<Duration>) -> Result<(), Code> {
    let begun = Instant::now();
    let mut state = state::lock();
    let stream = state
        .streams
        .get_mut(&id)
        .ok_or(sys::ACL_ERROR_RT_STREAM_CONTEXT)?;
    let (target, aborts, device) = (stream.submitted, stream.aborts, stream.device);
    stream.demand = stream.demand.max(target);
    state::changed();
    crate::count("waiters");
    loop {
        let Some(stream) = state.streams.get_mut(&id) else {
            return Err(sys::ACL_ERROR_RT_STREAM_ABORT);
        };
        if stream.aborts != aborts {
            return Err(sys::ACL_ERROR_RT_STREAM_ABORT);
        }
        if stream.done >= target && !stream.running {
            clock::reach(stream.ready_at);
            let sticky = stream.stop_on_failure;
            let error = if sticky {
                stream.error
            } else {
                stream.error.take()
            };
            if state.devices.get(&device).is_some_and(|device| device.lost) {
                return Err(sys::ACL_ERROR_RT_LOST_HEARTBEAT);
            }
            return error.map_or(Ok(()), Err);
        }
        let left = timeout.map_or(LOOK, |most| most.saturating_sub(begun.elapsed()));
        if left.is_zero() {
            return Err(sys::ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
        }
        state = state::wait(state, left.min(LOOK));
    }
}

/// Aborts a stream and waits until what ran has stopped: its buffers are the caller's again.
pub(crate) fn abort(id: u64) {
    let mut state = state::lock();
    if let Some(stream) = state.streams.get_mut(&id) {
        stream.abort();
    }
    state::changed();
    while state.streams.get(&id).is_some_and(|stream| stream.running) {
        state = state::wait(state, LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_come_from_the_seed_and_the_stream_alone() {
        let delays = |seed, stream| {
            let mut random = seed_of(seed, stream);
            [(); 32].map(|()| draw(&mut random) % 20_000)
        };
        assert_eq!(delays(1, 5), delays(1, 5));
        assert_ne!(delays(1, 5), delays(2, 5));
        assert_ne!(delays(1, 5), delays(1, 6));
        let several: std::collections::BTreeSet<_> = delays(1, 5).into_iter().collect();
        assert!(several.len() > 16, "{several:?}");
    }
}
