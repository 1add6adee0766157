//! Timers of a shard: a heap of deadlines that the driver fires; one kernel timeout for the
//! earliest.
//!
//! Lives on: owner shard. glommio's own timers are not used: they fire only when its queue runs
//! empty, and each park would arm and cancel one in the kernel.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::clock::monotonic_ns;
use crate::limits::TIMERS_MAX;

/// The deadlines of one shard's sleeping tasks.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    state: RefCell<TimersState>,
}

#[derive(Debug, Default)]
struct TimersState {
    /// Earliest first: (deadline, number). Numbers of dropped sleeps are skipped.
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    sleepers: BTreeMap<u64, Waker>,
    next_number: u64,
}

impl Timers {
    /// Wakes every task whose deadline has come; returns how many.
    pub(crate) fn fire(&self, now_ns: u64) -> usize {
        let mut fired = 0;
        while let Some(waker) = self.pop_due(now_ns) {
            waker.wake();
            fired += 1;
        }
        fired
    }

    /// Returns the earliest deadline of a task that still waits.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let mut state = self.state.borrow_mut();
        while let Some(&Reverse((deadline_ns, number))) = state.heap.peek() {
            if state.sleepers.contains_key(&number) {
                return Some(deadline_ns);
            }
            state.heap.pop();
        }
        None
    }

    fn pop_due(&self, now_ns: u64) -> Option<Waker> {
        let mut state = self.state.borrow_mut();
        while let Some(&Reverse((deadline_ns, number))) = state.heap.peek() {
            if deadline_ns > now_ns {
                return None;
            }
            state.heap.pop();
            if let Some(waker) = state.sleepers.remove(&number) {
                return Some(waker);
            }
        }
        None
    }

    fn insert(&self, deadline_ns: u64, waker: &Waker) -> u64 {
        let mut state = self.state.borrow_mut();
        assert!(
            state.sleepers.len() < TIMERS_MAX,
            "more timers than operations may be awaited"
        );
        let number = state.next_number;
        state.next_number += 1;
        state.heap.push(Reverse((deadline_ns, number)));
        state.sleepers.insert(number, waker.clone());
        // Dropped sleeps leave their heap entries behind; more dead than living ones are swept.
        if state.heap.len() > 2 * state.sleepers.len() + 64 {
            let TimersState { heap, sleepers, .. } = &mut *state;
            heap.retain(|Reverse((_, number))| sleepers.contains_key(number));
        }
        number
    }

    fn replace_waker(&self, number: u64, waker: &Waker) {
        if let Some(held) = self.state.borrow_mut().sleepers.get_mut(&number)
            && !held.will_wake(waker)
        {
            held.clone_from(waker);
        }
    }

    fn remove(&self, number: u64) {
        let removed = self.state.borrow_mut().sleepers.remove(&number);
        drop(removed);
    }
}

/// A wait for a point in time; cancelled by dropping it. Lives on: owner shard.
pub struct Sleep {
    timers: Rc<Timers>,
    deadline_ns: u64,
    number: Option<u64>,
}

impl Sleep {
    pub(crate) fn new(timers: Rc<Timers>, deadline_ns: u64) -> Self {
        Self {
            timers,
            deadline_ns,
            number: None,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if monotonic_ns() >= self.deadline_ns {
            if let Some(number) = self.number.take() {
                self.timers.remove(number);
            }
            return Poll::Ready(());
        }
        match self.number {
            Some(number) => self.timers.replace_waker(number, cx.waker()),
            None => self.number = Some(self.timers.insert(self.deadline_ns, cx.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.timers.remove(number);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline_ns", &self.deadline_ns)
            .finish_non_exhaustive()
    }
}

/// The deadline came before the awaited future had finished; what it did meanwhile is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct Elapsed;

/// A future with a deadline.
pub(crate) struct Timeout<F> {
    sleep: Sleep,
    future: Pin<Box<F>>,
}

impl<F: Future> Timeout<F> {
    pub(crate) fn new(sleep: Sleep, future: F) -> Self {
        Self {
            sleep,
            future: Box::pin(future),
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fire_wakes_due_sleepers_in_order_and_skips_dropped_ones() {
        let timers = Rc::new(Timers::default());
        let waker = Waker::noop();
        let _first = timers.insert(10, waker);
        let dropped = timers.insert(5, waker);
        let _last = timers.insert(20, waker);
        timers.remove(dropped);
        assert_eq!(timers.next_ns(), Some(10));
        assert_eq!(timers.fire(9), 0);
        assert_eq!(timers.fire(10), 1);
        assert_eq!(timers.next_ns(), Some(20));
        assert_eq!(timers.fire(100), 1);
        assert_eq!(timers.next_ns(), None);
    }

    #[test]
    fn dropped_sleeps_do_not_fill_the_heap() {
        let timers = Timers::default();
        for deadline in 0..100_000 {
            let number = timers.insert(1_000_000 + deadline, Waker::noop());
            timers.remove(number);
        }
        assert!(
            timers.state.borrow().heap.len() <= 65 + 64,
            "dead entries are swept"
        );
    }
}
