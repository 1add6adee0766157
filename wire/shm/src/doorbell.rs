//! Waiting without losing a wake: the client's threads on the session's `doorbell`.
//!
//! ```text
//!   client                                   shard
//!   seen = doorbell                          cq_tail = n           (release)
//!   waiting += 1                             fence
//!   fence                                    waiting ≠ 0 ?
//!   cq_tail: anything new? ── yes: go on       doorbell += 1, futex wake all
//!   futex wait while doorbell = seen
//! ```
//!
//! Either the client's re-check sees the new tail, or the shard's load sees the waiter; and the
//! kernel compares `doorbell` with `seen` once more, so that a wake between re-check and wait
//! counts. A hostile client that always claims to wait buys one system call per flush, for itself.

use std::time::Duration;

use crate::futex::WaitOutcome;
use crate::layout::{ro, rw};
use crate::mapped::MappedMemory;
use crate::sync::{Memory, Step};

/// Memory whose 32-bit words threads can wait on.
pub trait Futex: Memory {
    /// Waits while the word is `expected`, at most `timeout` (for ever without one).
    fn wait(&self, offset: usize, expected: u32, timeout: Option<Duration>) -> WaitOutcome;
    /// Wakes all waiters of a word.
    fn wake_all(&self, offset: usize);
}

/// A thread that is about to wait, from [`crate::ClientSession::start_waiting`]. The caller looks
/// at its rings again and, when there is still nothing, calls [`Self::wait`]. Dropping it ends the
/// wait.
#[derive(Debug)]
pub struct Waiter<'session, M: Memory = MappedMemory> {
    rw: &'session M,
    ro: &'session M,
    seen: u32,
}

impl<'session, M: Memory> Waiter<'session, M> {
    pub(crate) fn start(rw: &'session M, ro: &'session M) -> Self {
        let seen = ro.load32(ro::DOORBELL);
        rw.add32(rw::WAITING, 1);
        rw.fence(Step::WaitFence);
        Self { rw, ro, seen }
    }
}

impl<M: Futex> Waiter<'_, M> {
    /// Sleeps until any shard has flushed completions since this waiter started, or for `timeout`.
    /// May return early for no reason: look at the rings again.
    pub fn wait(&self, timeout: Option<Duration>) -> WaitOutcome {
        let seen = if self.rw.keeps(Step::SeenBeforeRecheck) {
            self.seen
        } else {
            self.ro.load32(ro::DOORBELL)
        };
        self.ro.wait(ro::DOORBELL, seen, timeout)
    }
}

impl<M: Memory> Drop for Waiter<'_, M> {
    fn drop(&mut self) {
        self.rw.add32(rw::WAITING, u32::MAX);
    }
}

/// Wakes the session's waiting threads, if any, and says whether there were any. The shard's side:
/// call it after every flush that says so.
pub(crate) fn wake_if_waiting<M: Futex>(rw: &M, ro: &M) -> bool {
    rw.fence(Step::WakeFence);
    if rw.load32(rw::WAITING) == 0 {
        return false;
    }
    if rw.keeps(Step::RaiseDoorbell) {
        ro.add32(ro::DOORBELL, 1);
    }
    ro.wake_all(ro::DOORBELL);
    true
}
