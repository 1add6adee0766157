//! The one thread behind futures of a local session: it waits so that they need not.
//!
//! Started at the first asynchronous call. While futures are pending it sleeps on the session's
//! doorbell, reaps, and thereby wakes whoever owns what has finished; every few milliseconds it
//! wakes all of them, to look at their deadlines and at the daemon's life. Without pending futures
//! it is parked. It holds the session weakly, and ends with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::thread::Thread;
use std::time::Duration;

use chariot_proto::Status;

use super::LocalSession;
use crate::error::Error;

/// How often pending futures look at their deadlines.
const TICK: Duration = Duration::from_millis(10);

/// The state that a session keeps for its driver.
#[derive(Debug, Default)]
pub(super) struct Driver {
    pending: AtomicUsize,
    thread: OnceLock<Thread>,
    /// Futures with nothing in flight: they wait for memory or for room in a ring.
    blocked: Mutex<Vec<Waker>>,
    /// Latches that dropped futures asked for: key and number. Bound: futures under way.
    unheard: Mutex<Vec<(Box<[u8]>, u64)>>,
}

/// A pending future: keeps the driver awake.
#[derive(Debug)]
pub(super) struct Pending<'a> {
    driver: &'a Driver,
}

impl Driver {
    /// Counts a future in, and starts or wakes the thread.
    ///
    /// # Errors
    ///
    /// `Internal` when the system has no thread left.
    pub(super) fn enter(&self, session: &Weak<LocalSession>) -> Result<Pending<'_>, Error> {
        if self.thread.get().is_none() {
            self.start(session)?;
        }
        let pending = Pending { driver: self };
        if self.pending.fetch_add(1, Ordering::SeqCst) == 0 {
            self.unpark();
        }
        Ok(pending)
    }

    /// Has the future woken at the next tick.
    pub(super) fn wake_at_tick(&self, waker: &Waker) {
        let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        if !blocked.iter().any(|known| known.will_wake(waker)) {
            blocked.push(waker.clone());
        }
    }

    /// Has the thread release a latch whose future was dropped.
    pub(super) fn note_unheard(&self, key: &[u8], number: u64) {
        let mut unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        unheard.push((key.into(), number));
        drop(unheard);
        self.unpark();
    }

    /// Takes what is to be released.
    pub(super) fn take_unheard(&self) -> Vec<(Box<[u8]>, u64)> {
        let mut unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *unheard)
    }

    /// Wakes the thread, to work or to end.
    pub(super) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    #[cold]
    fn start(&self, session: &Weak<LocalSession>) -> Result<(), Error> {
        let mut failed = None;
        self.thread.get_or_init(|| {
            let weak = Weak::clone(session);
            let name = String::from("chariot-driver");
            match std::thread::Builder::new()
                .name(name)
                .spawn(move || drive(&weak))
            {
                Ok(handle) => handle.thread().clone(),
                Err(error) => {
                    failed = Some(error);
                    std::thread::current()
                },
            }
        });
        match failed {
            None => Ok(()),
            Some(error) => {
                let cause = "no thread for asynchronous calls; synchronous ones work";
                Err(Error::new(Status::Internal, cause).with_source(error))
            },
        }
    }

    fn wake_blocked(&self) {
        let blocked = {
            let mut list = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *list)
        };
        blocked.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.driver.pending.fetch_sub(1, Ordering::SeqCst);
    }
}

fn drive(weak: &Weak<LocalSession>) {
    while let Some(session) = weak.upgrade() {
        session.release_unheard();
        if session.driver.pending.load(Ordering::SeqCst) == 0 {
            drop(session);
            // Nobody unparks between the load and here without leaving a token.
            std::thread::park();
            continue;
        }
        turn(&session);
    }
}

/// One wait, at most a tick long.
fn turn(session: &Arc<LocalSession>) {
    let waiter = session.start_waiting();
    if session.reap_all() {
        return;
    }
    waiter.wait(Some(TICK));
    drop(waiter);
    if !session.reap_all() {
        session.wake_all();
        session.driver.wake_blocked();
    }
}
