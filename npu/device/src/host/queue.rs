//! Streams of the host backend: a queue and a thread each, and the events between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::Socket;
use super::memory;
use crate::driver::{Answer, Entry, EventHandle, StreamHandle, Way};
use crate::error::DeviceError;

/// Most tasks in the queue of one stream.
const TASKS_MAX: usize = 65_536;
/// Most streams and events of one card, as on the cards that this stands in for.
const STREAMS_MAX: usize = 1984;
const EVENTS_MAX: usize = 65_536;
/// Bytes that are copied between two looks at whether the stream was aborted.
const SLICE: usize = 4 << 20;
/// How often a waiting task looks at whether its stream was aborted.
const LOOK: Duration = Duration::from_millis(20);

/// What a stream can do.
#[derive(Debug)]
pub(super) enum Task {
    Copy(Vec<Entry>),
    Fill {
        address: usize,
        len: usize,
        value: u8,
    },
    Record {
        event: Arc<Mark>,
        generation: u64,
    },
    WaitFor {
        event: Arc<Mark>,
        generation: u64,
    },
    Pair {
        socket: Arc<Socket>,
        way: Way,
        address: usize,
        len: usize,
    },
}

#[derive(Debug, Default)]
struct Work {
    tasks: VecDeque<Task>,
    submitted: u64,
    done: u64,
    aborts: u64,
    running: bool,
    ended: bool,
    error: Option<DeviceError>,
}

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Queue {
    work: Mutex<Work>,
    changed: Condvar,
    /// Told to what runs: it stops at the next look.
    stop: AtomicBool,
}

/// One event.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// Records so far, and the last that was reached.
    counts: Mutex<(u64, u64)>,
    changed: Condvar,
}

impl Mark {
    fn lock(&self) -> MutexGuard<'_, (u64, u64)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self) -> u64 {
        let mut counts = self.lock();
        counts.0 += 1;
        counts.0
    }

    pub(super) fn recorded(&self) -> u64 {
        self.lock().0
    }

    pub(super) fn is_reached(&self) -> bool {
        let counts = self.lock();
        counts.0 == counts.1
    }

    fn reach(&self, generation: u64) {
        let mut counts = self.lock();
        counts.1 = counts.1.max(generation);
        self.changed.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn submit(&self, task: Task) -> Answer<()> {
        let mut work = self.lock();
        if work.tasks.len() >= TASKS_MAX {
            return Err(DeviceError::Full {
                what: "tasks of a stream",
            });
        }
        work.submitted += 1;
        work.tasks.push_back(task);
        self.changed.notify_all();
        Ok(())
    }

    pub(super) fn is_idle(&self) -> bool {
        let work = self.lock();
        work.done == work.submitted && !work.running
    }

    pub(super) fn wait(&self, most: Option<Duration>) -> Answer<()> {
        let until = most.map(|most| Instant::now() + most);
        let mut work = self.lock();
        let (target, aborts) = (work.submitted, work.aborts);
        loop {
            if work.aborts != aborts {
                return Err(DeviceError::Aborted);
            }
            if work.done >= target && (!work.running || work.done > target) {
                return work.error.take().map_or(Ok(()), Err);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(DeviceError::Timeout { what: "a stream" });
            }
            let waited = self.changed.wait_timeout(work, left.unwrap_or(LOOK));
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Drops what is queued and waits for what runs.
    pub(super) fn abort(&self) {
        let mut work = self.lock();
        work.aborts += 1;
        work.done += work.tasks.len() as u64;
        let dropped = std::mem::take(&mut work.tasks);
        self.stop.store(true, Ordering::Release);
        self.changed.notify_all();
        while work.running {
            let waited = self.changed.wait_timeout(work, LOOK);
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.stop.store(false, Ordering::Release);
        work.error = None;
        drop(work);
        drop(dropped);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The stream's thread.
    fn run(&self) {
        loop {
            let mut work = self.lock();
            let task = loop {
                if let Some(task) = work.tasks.pop_front() {
                    break task;
                }
                if work.ended {
                    return;
                }
                work = self
                    .changed
                    .wait(work)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            work.running = true;
            drop(work);
            let outcome = self.perform(&task);
            drop(task);
            let mut work = self.lock();
            work.running = false;
            work.done += 1;
            if let Err(error) = outcome
                && !self.is_stopped()
            {
                work.error.get_or_insert(error);
            }
            self.changed.notify_all();
        }
    }

    fn perform(&self, task: &Task) -> Answer<()> {
        match task {
            Task::Copy(entries) => {
                for entry in entries {
                    self.copy(entry)?;
                }
            },
            Task::Fill {
                address,
                len,
                value,
            } => {
                // SAFETY: the submitter keeps the range until this stream is past the task.
                unsafe { memory::fill(*address, *len, *value) };
            },
            Task::Record { event, generation } => event.reach(*generation),
            Task::WaitFor { event, generation } => self.wait_for(event, *generation)?,
            Task::Pair {
                socket,
                way,
                address,
                len,
            } => {
                // SAFETY: likewise; a pair touches nothing but its own range.
                unsafe { socket.run(*way, *address, *len, &|| self.is_stopped()) }?;
            },
        }
        Ok(())
    }

    fn copy(&self, entry: &Entry) -> Answer<()> {
        let mut at = 0;
        while at < entry.len {
            if self.is_stopped() {
                return Err(DeviceError::Aborted);
            }
            let len = SLICE.min(entry.len - at);
            let slice = Entry {
                dst: entry.dst + at,
                src: entry.src + at,
                len,
            };
            // SAFETY: a part of a copy whose both sides the submitter keeps until it is over.
            unsafe { memory::copy(&slice) };
            at += len;
        }
        Ok(())
    }

    fn wait_for(&self, event: &Mark, generation: u64) -> Answer<()> {
        let mut counts = event.lock();
        while counts.1 < generation {
            if self.is_stopped() {
                return Err(DeviceError::Aborted);
            }
            let waited = event.changed.wait_timeout(counts, LOOK);
            counts = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

#[derive(Debug, Default)]
struct Handles {
    last: usize,
    streams: BTreeMap<usize, Arc<Queue>>,
    events: BTreeMap<usize, Arc<Mark>>,
}

/// What handles mean.
#[derive(Debug, Default)]
pub(super) struct Tables(Mutex<Handles>);

impl Tables {
    fn lock(&self) -> MutexGuard<'_, Handles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stream_create(&self) -> Answer<StreamHandle> {
        let full = DeviceError::Full { what: "streams" };
        let mut handles = self.lock();
        if handles.streams.len() >= STREAMS_MAX {
            return Err(full);
        }
        let queue = Arc::new(Queue::default());
        let of_thread = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("chariot-stream".to_owned());
        if thread.spawn(move || of_thread.run()).is_err() {
            return Err(full);
        }
        handles.last += 1;
        let id = handles.last;
        handles.streams.insert(id, queue);
        Ok(StreamHandle::new(id))
    }

    pub(super) fn stream_destroy(&self, stream: &StreamHandle) {
        let queue = self.lock().streams.remove(&stream.raw());
        if let Some(queue) = queue {
            queue.abort();
            queue.end();
        }
    }

    pub(super) fn stream(&self, stream: &StreamHandle) -> Answer<Arc<Queue>> {
        let found = self.lock().streams.get(&stream.raw()).cloned();
        found.ok_or_else(|| DeviceError::misuse("a stream that is not there"))
    }

    pub(super) fn event_create(&self) -> Answer<EventHandle> {
        let mut handles = self.lock();
        if handles.events.len() >= EVENTS_MAX {
            return Err(DeviceError::Full { what: "events" });
        }
        handles.last += 1;
        let id = handles.last;
        handles.events.insert(id, Arc::default());
        Ok(EventHandle::new(id))
    }

    pub(super) fn event_destroy(&self, event: &EventHandle) {
        self.lock().events.remove(&event.raw());
    }

    pub(super) fn event(&self, event: &EventHandle) -> Answer<Arc<Mark>> {
        let found = self.lock().events.get(&event.raw()).cloned();
        found.ok_or_else(|| DeviceError::misuse("an event that is not there"))
    }
}
