//! Asynchronous calls: one thread a direction, started at the first of them, and their outcomes.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chariot_client::{Error, Status};

/// Most calls of a direction that wait: each may name 10,000 keys.
const CALLS_MAX: usize = 256;

/// What an asynchronous call comes to: an answer for the whole, or an outcome for each key.
type Answer<T> = Result<Vec<T>, Error>;

type Slot<T> = Arc<(Mutex<Option<Answer<T>>>, Condvar)>;

/// An asynchronous call. Dropping it lets the call go on. Lives on: any thread.
#[derive(Debug)]
pub struct Pending<T> {
    slot: Slot<T>,
}

impl<T> Clone for Pending<T> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
        }
    }
}

impl<T: Clone> Pending<T> {
    /// Waits for at most `most`, and answers as the blocking call does; `None` when it is not over
    /// by then. May be asked again.
    #[must_use]
    pub fn wait(&self, most: Duration) -> Option<Answer<T>> {
        let (slot, changed) = &*self.slot;
        let until = Instant::now().checked_add(most);
        let mut answer = slot.lock().unwrap_or_else(PoisonError::into_inner);
        while answer.is_none() {
            let left = until.map_or(Duration::from_hours(1), |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return None;
            }
            let waited = changed.wait_timeout(answer, left);
            answer = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        answer.clone()
    }
}

/// The other end of a [`Pending`]: answers in any case, at the latest when it is dropped.
struct Promise<T> {
    slot: Slot<T>,
}

impl<T> Promise<T> {
    fn keep(&self, outcome: Answer<T>) {
        let (slot, changed) = &*self.slot;
        let mut answer = slot.lock().unwrap_or_else(PoisonError::into_inner);
        answer.get_or_insert(outcome);
        changed.notify_all();
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let cause = "the client was closed before the call was begun";
        self.keep(Err(Error::new(Status::ShuttingDown, cause)));
    }
}

type Call = Box<dyn FnOnce() + Send>;

/// The threads of one client.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// Sets, and gets.
    lines: [Mutex<Option<Line>>; 2],
}

#[derive(Debug)]
struct Line {
    sender: SyncSender<Call>,
    thread: JoinHandle<()>,
}

/// Which thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Set,
    Get,
}

impl Background {
    /// Puts a call behind those that wait.
    ///
    /// # Errors
    ///
    /// [`Status::Busy`]: 256 calls wait, or the process has no thread left.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        way: Way,
        call: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Result<Pending<T>, Error> {
        let slot: Slot<T> = Arc::new((Mutex::new(None), Condvar::new()));
        let pending = Pending {
            slot: Arc::clone(&slot),
        };
        let promise = Promise { slot };
        let task: Call = Box::new(move || promise.keep(call()));
        let line = &self.lines[way as usize];
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match &mut *line {
            Some(running) => running,
            none => none.insert(start()?),
        };
        match running.sender.try_send(task) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(_)) => {
                let cause = format!("{CALLS_MAX} asynchronous calls wait already");
                Err(Error::new(Status::Busy, cause))
            },
            Err(TrySendError::Disconnected(_)) => {
                let cause = "the thread of asynchronous calls is gone";
                Err(Error::new(Status::Internal, cause))
            },
        }
    }

    /// Ends the threads: the call under way is waited for, those behind it are answered.
    pub(crate) fn stop(&mut self) {
        for line in &mut self.lines {
            let line = line.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(Line { sender, thread }) = line.take() {
                drop(sender);
                // A panic of it was answered by the promise.
                drop(thread.join());
            }
        }
    }

    /// Forgets the threads: in a forked child there are none.
    pub(crate) fn forget(&mut self) {
        for line in &mut self.lines {
            *line.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

fn start() -> Result<Line, Error> {
    let (sender, receiver) = sync_channel(CALLS_MAX);
    let thread = std::thread::Builder::new()
        .name("chariot-hetero".to_owned())
        .spawn(move || work(&receiver))
        .map_err(|_error| Error::new(Status::Busy, "the process has no thread left"))?;
    Ok(Line { sender, thread })
}

fn work(calls: &Receiver<Call>) {
    while let Ok(call) = calls.recv() {
        // A call that panics is answered by its promise; the thread goes on for the others.
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)));
    }
}
