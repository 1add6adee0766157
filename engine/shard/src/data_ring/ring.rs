//! One `io_uring` with its slots: submission, completion, sleep. The data ring is made of two.
//!
//! Lives on: owner shard. No code of others (wakers, owners' drops) runs under the borrow of the
//! state.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use io_uring::types::{TimeoutFlags, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::mode::{RingMode, build_ring};
use super::poll::ReadyEvent;
use super::slots::{Completed, Keep, SlotId, Slots, TakenReady};
use super::{RingError, RingStats};
use crate::bell::BellShared;
use crate::limits::{RING_IN_FLIGHT_MAX, RING_OPERATIONS_MAX};

/// Completions of cancel and update requests, whose results say nothing that is not known.
const USER_DATA_CONTROL: u64 = u64::MAX;
/// Completion of the one timeout that wakes a sleeping shard.
const USER_DATA_WAKE: u64 = u64::MAX - 1;

/// One ring; clones are the same ring.
#[derive(Clone)]
pub(super) struct Ring {
    inner: Rc<RefCell<Inner>>,
    mode: RingMode,
}

struct Inner {
    // Drop order: the ring goes first, then what its operations own (see `Drop`).
    uring: IoUring,
    mode: RingMode,
    slots: Slots,
    /// Slots that wait for their submission, oldest first.
    backlog: VecDeque<SlotId>,
    /// Cancels and updates, which need no slot and go before the backlog.
    control: VecDeque<squeue::Entry>,
    /// Entries in the submission queue that the kernel has not taken yet.
    unsubmitted: usize,
    /// Operations (not control requests) that the kernel holds.
    in_kernel: usize,
    ready: VecDeque<(SlotId, ReadyEvent)>,
    wake: WakeTimer,
    /// Filled under the borrow, emptied after it: wakers and owners run code of others.
    woken: Vec<Waker>,
    released: Vec<Keep>,
    stats: RingStats,
    bell: Arc<BellShared>,
}

/// The timeout that the kernel holds for a sleeping shard.
struct WakeTimer {
    armed_ns: Option<u64>,
    /// Read by the kernel during the submission; boxed so that it stays where it is until then.
    time: Box<Timespec>,
}

impl Ring {
    /// Makes a ring of the calling thread, which alone may use it, with `bell` as its eventfd.
    pub(super) fn new(best: RingMode, bell: &Arc<BellShared>) -> io::Result<Self> {
        let (uring, mode) = build_ring(best)?;
        uring.submitter().register_eventfd(bell.bell_fd())?;
        let mut inner = Inner {
            uring,
            mode,
            slots: Slots::new(),
            backlog: VecDeque::new(),
            control: VecDeque::new(),
            unsubmitted: 0,
            in_kernel: 0,
            ready: VecDeque::new(),
            wake: WakeTimer {
                armed_ns: None,
                time: Box::new(Timespec::new()),
            },
            woken: Vec::new(),
            released: Vec::new(),
            stats: RingStats::default(),
            bell: Arc::clone(bell),
        };
        inner.uring.completion().disable_eventfd();
        Ok(Self {
            inner: Rc::new(RefCell::new(inner)),
            mode,
        })
    }

    pub(super) fn mode(&self) -> RingMode {
        self.mode
    }

    pub(super) fn stats(&self) -> RingStats {
        self.inner.borrow().stats
    }

    /// Returns how many operations are not finished: in the kernel, waiting, or orphaned.
    pub(super) fn in_flight(&self) -> usize {
        let inner = self.inner.borrow();
        inner.in_kernel + inner.backlog.len()
    }

    /// Takes the next descriptor that a multishot poll found ready, each at most once at a time.
    pub(super) fn take_ready(&self) -> Option<ReadyEvent> {
        let mut inner = self.inner.borrow_mut();
        while let Some((slot, event)) = inner.ready.pop_front() {
            match inner.slots.take_ready(slot) {
                TakenReady::Gone => {},
                TakenReady::Going => return Some(event),
                TakenReady::Rearm => {
                    inner.backlog.push_back(slot);
                    return Some(event);
                },
            }
        }
        None
    }

    /// Submits everything that waits and reaps everything that is done; returns how many
    /// completions came. Without either it is a few loads.
    pub(super) fn turn(&self) -> io::Result<usize> {
        let mut inner = self.inner.borrow_mut();
        let before = inner.stats.completions;
        inner.fill_submissions();
        if inner.must_enter() {
            inner.enter()?;
        }
        inner.reap();
        // A backlog longer than the submission queue needs further rounds; each makes progress.
        while inner.can_submit_more() {
            let submitted = inner.stats.submitted;
            inner.fill_submissions();
            inner.enter()?;
            inner.reap();
            if inner.stats.submitted == submitted && inner.control.is_empty() {
                // The kernel takes nothing for the moment; the next turn tries again.
                break;
            }
        }
        let completions = inner.stats.completions - before;
        let (woken, released) = inner.take_scratch();
        drop(inner);
        self.run_scratch(woken, released);
        Ok(usize::try_from(completions).expect("a turn reaps less than 2^32 completions"))
    }

    /// Wakes the tasks and drops the owners outside of the borrow; gives the buffers back.
    fn run_scratch(&self, mut woken: Vec<Waker>, mut released: Vec<Keep>) {
        if woken.is_empty() && released.is_empty() {
            return;
        }
        woken.drain(..).for_each(Waker::wake);
        released.clear();
        let mut inner = self.inner.borrow_mut();
        if inner.woken.capacity() == 0 {
            inner.woken = woken;
        }
        if inner.released.capacity() == 0 {
            inner.released = released;
        }
    }

    /// Says whether the next turn would find anything: entries to submit, or completions.
    pub(super) fn has_work(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        !inner.ready.is_empty()
            || !inner.control.is_empty()
            || inner.can_submit_more()
            || inner.must_enter()
            || inner.has_completions()
    }

    /// Lets completions ring the bell. The caller fences and asks [`Self::has_work`] afterwards.
    pub(super) fn arm_eventfd(&self) {
        self.inner.borrow_mut().uring.completion().enable_eventfd();
    }

    /// Keeps completions from ringing the bell while the shard looks at them itself.
    pub(super) fn disarm_eventfd(&self) {
        self.inner.borrow_mut().uring.completion().disable_eventfd();
    }

    /// Sees to it that the bell rings by `deadline_ns` at the latest (`CLOCK_MONOTONIC`).
    ///
    /// An armed timeout that is due earlier stays: it costs one spurious wake, not a system call.
    pub(super) fn arm_wake(&self, deadline_ns: u64) -> io::Result<()> {
        {
            let mut inner = self.inner.borrow_mut();
            if inner
                .wake
                .armed_ns
                .is_some_and(|armed_ns| armed_ns <= deadline_ns)
            {
                return Ok(());
            }
            inner.push_wake(deadline_ns);
        }
        self.turn().map(drop)
    }

    /// Cancels everything and waits a bounded time for the kernel; what it still holds is leaked,
    /// so that no memory is reused under a running operation.
    pub(super) fn close(&self) {
        self.cancel_all();
        for _ in 0..CLOSE_TURNS {
            if self.in_flight() == 0 || self.turn().is_err() {
                break;
            }
            std::thread::yield_now();
        }
    }

    fn cancel_all(&self) {
        let mut inner = self.inner.borrow_mut();
        let held = inner.slots.in_kernel();
        for slot in held {
            inner.control.push_back(cancel_entry(slot));
        }
        while let Some(slot) = inner.backlog.pop_front() {
            inner.complete_backlogged(slot);
        }
        let (woken, released) = inner.take_scratch();
        drop(inner);
        self.run_scratch(woken, released);
    }

    /// Puts an operation into a slot and the backlog.
    ///
    /// The entry's pointers must lead into memory that `keep` owns, or that lives for ever.
    pub(super) fn start(
        &self,
        entry: squeue::Entry,
        keep: Keep,
    ) -> Result<SlotId, Box<(RingError, Keep)>> {
        let mut inner = self.inner.borrow_mut();
        if inner.slots.len() >= RING_OPERATIONS_MAX {
            return Err(Box::new((RingError::Full, keep)));
        }
        let slot = inner.slots.insert(entry, keep);
        inner.backlog.push_back(slot);
        inner.stats.backlog_high_water = inner.stats.backlog_high_water.max(inner.backlog.len());
        Ok(slot)
    }

    /// The future of `slot` is gone: its completion, if it is still to come, finds nobody.
    pub(super) fn orphan(&self, slot: SlotId) {
        let released = {
            let mut inner = self.inner.borrow_mut();
            if inner.slots.orphan(slot) {
                inner.stats.orphaned += 1;
                inner.control.push_back(cancel_entry(slot));
                None
            } else {
                inner.slots.reclaim(slot)
            }
        };
        drop(released);
    }

    pub(super) fn poll(&self, slot: SlotId, waker: &Waker) -> Option<(i32, Keep)> {
        self.inner.borrow_mut().slots.poll(slot, waker)
    }

    pub(super) fn set_multishot(&self, slot: SlotId, key: u64) {
        self.inner.borrow_mut().slots.set_multishot(slot, key);
    }
}

/// Turns that a closing ring waits for the kernel's last completions; cancels complete in
/// microseconds.
const CLOSE_TURNS: usize = 10_000;

fn cancel_entry(slot: SlotId) -> squeue::Entry {
    opcode::AsyncCancel::new(slot.user_data())
        .build()
        .user_data(USER_DATA_CONTROL)
}

impl Inner {
    fn can_submit_more(&self) -> bool {
        !self.control.is_empty()
            || (!self.backlog.is_empty() && self.in_kernel < RING_IN_FLIGHT_MAX)
    }

    fn must_enter(&mut self) -> bool {
        if self.unsubmitted > 0 {
            return true;
        }
        let queue = self.uring.submission();
        queue.cq_overflow() || (self.mode.flags_task_work() && queue.taskrun())
    }

    fn has_completions(&mut self) -> bool {
        let mut queue = self.uring.completion();
        queue.sync();
        !queue.is_empty()
    }

    /// Moves control requests and backlog into the submission queue as far as there is room.
    fn fill_submissions(&mut self) {
        if !self.can_submit_more() {
            return;
        }
        let mut queue = self.uring.submission();
        while !queue.is_full() {
            let entry = if let Some(entry) = self.control.pop_front() {
                entry
            } else if self.in_kernel < RING_IN_FLIGHT_MAX {
                let Some(slot) = self.backlog.pop_front() else {
                    break;
                };
                let Some(entry) = self.slots.submit(slot) else {
                    continue;
                };
                self.in_kernel += 1;
                self.stats.submitted += 1;
                entry
            } else {
                break;
            };
            // SAFETY: the entry's descriptor and memory are owned by its slot's `Keep` until the
            // completion (`Slots::complete`), or it is a control request whose memory is
            // `self.wake`.
            let pushed = unsafe { queue.push(&entry) };
            pushed.expect("the queue was not full");
            self.unsubmitted += 1;
        }
    }

    /// Submits, runs the kernel's deferred work, waits for nothing.
    fn enter(&mut self) -> io::Result<()> {
        self.stats.enters += 1;
        let count =
            u32::try_from(self.unsubmitted).expect("no more than the submission queue holds");
        // SAFETY: no signal mask is passed; the entries were checked when they were pushed.
        let entered = unsafe {
            self.uring.submitter().enter::<libc::sigset_t>(
                count,
                0,
                EnterFlags::GETEVENTS.bits(),
                None,
            )
        };
        match entered {
            Ok(taken) => {
                assert!(
                    taken <= self.unsubmitted,
                    "the kernel takes what it was given"
                );
                self.unsubmitted -= taken;
                Ok(())
            },
            // Interrupted, short of memory for the moment, or completions must be reaped first: the
            // entries stay in the queue and go with the next turn.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
                ) =>
            {
                Ok(())
            },
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self) {
        loop {
            let Some(completion) = self.uring.completion().next() else {
                return;
            };
            self.stats.completions += 1;
            match completion.user_data() {
                USER_DATA_CONTROL => {},
                USER_DATA_WAKE => self.wake.armed_ns = None,
                user_data => self.complete(SlotId::from_user_data(user_data), &completion),
            }
        }
    }

    fn complete(&mut self, slot: SlotId, completion: &cqueue::Entry) {
        let more = cqueue::more(completion.flags());
        if !more {
            assert!(
                self.in_kernel > 0,
                "a completion belongs to an operation in the kernel"
            );
            self.in_kernel -= 1;
        }
        match self.slots.complete(slot, completion.result(), more) {
            Completed::Waiting(waker) => self.woken.extend(waker),
            Completed::Released(keep) => self.released.push(keep),
            Completed::Ready(event) => self.ready.push_back((slot, event)),
            Completed::Nothing => {},
        }
    }

    /// Ends an operation that the kernel has never seen, as if it had been cancelled.
    fn complete_backlogged(&mut self, slot: SlotId) {
        if self.slots.submit(slot).is_none() {
            return;
        }
        match self.slots.complete(slot, -libc::ECANCELED, false) {
            Completed::Waiting(waker) => self.woken.extend(waker),
            Completed::Released(keep) => self.released.push(keep),
            Completed::Ready(event) => self.ready.push_back((slot, event)),
            Completed::Nothing => {},
        }
    }

    fn push_wake(&mut self, deadline_ns: u64) {
        let nanoseconds = u32::try_from(deadline_ns % 1_000_000_000).expect("below 10^9");
        *self.wake.time = Timespec::new()
            .sec(deadline_ns / 1_000_000_000)
            .nsec(nanoseconds);
        let time: *const Timespec = &raw const *self.wake.time;
        let entry = if self.wake.armed_ns.is_some() {
            // The completion of an update that came too late is ignored: then the timeout has
            // fired, and its own completion wakes the shard.
            opcode::TimeoutUpdate::new(USER_DATA_WAKE, time)
                .flags(TimeoutFlags::ABS)
                .build()
                .user_data(USER_DATA_CONTROL)
        } else {
            opcode::Timeout::new(time)
                .flags(TimeoutFlags::ABS)
                .build()
                .user_data(USER_DATA_WAKE)
        };
        self.control.push_back(entry);
        self.wake.armed_ns = Some(deadline_ns);
    }

    fn take_scratch(&mut self) -> (Vec<Waker>, Vec<Keep>) {
        if self.woken.is_empty() && self.released.is_empty() {
            return (Vec::new(), Vec::new());
        }
        (
            std::mem::take(&mut self.woken),
            std::mem::take(&mut self.released),
        )
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The kernel may still write into what these own: closing the ring cancels asynchronously.
        self.slots.leak_in_kernel();
        self.bell.wake_up();
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
