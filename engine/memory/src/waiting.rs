//! The queue of those for whom there is no room now.
//!
//! Lives on: owner shard, one per tenant and shard. First in, first out, except that a small need
//! may pass a larger one that still does not fit, at most [`OVERTAKEN_MAX`] times in all; then
//! everybody behind waits for it. Each free pops who is ready; a deadline passes the waiter back.

use std::collections::VecDeque;

use chariot_base::Deadline;

/// Times that one waiter may be overtaken.
pub const OVERTAKEN_MAX: u32 = 64;

/// Waiters looked at in one search, so that a pop is constant: overtaking from farther back waits.
const LOOK_MAX: usize = 128;

#[derive(Debug)]
struct Waiter<T> {
    need: u64,
    deadline: Deadline,
    overtaken: u32,
    item: T,
}

/// Holds who waits for memory. Lives on: owner shard.
#[derive(Debug)]
pub struct OutOfMemoryQueue<T> {
    waiters: VecDeque<Waiter<T>>,
    capacity: usize,
    earliest_ns: u64,
}

impl<T> OutOfMemoryQueue<T> {
    /// Makes a queue for at most `capacity` waiters (sessions × requests that may wait).
    ///
    /// # Panics
    /// When `capacity` is 0.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0);
        Self {
            waiters: VecDeque::new(),
            capacity,
            earliest_ns: u64::MAX,
        }
    }

    /// Queues a need of bytes behind all others.
    ///
    /// # Errors
    /// Gives the item back when the queue is full: the caller answers `OutOfMemory` at once.
    pub fn push(&mut self, need: u64, deadline: Deadline, item: T) -> Result<(), T> {
        if self.waiters.len() >= self.capacity {
            return Err(item);
        }
        if deadline != Deadline::NONE {
            self.earliest_ns = self.earliest_ns.min(deadline.as_ns());
        }
        self.waiters.push_back(Waiter {
            need,
            deadline,
            overtaken: 0,
            item,
        });
        Ok(())
    }

    /// Takes out the first waiter whose need `fits`, within the bound on overtaking.
    ///
    /// The caller serves it before asking again: `fits` judges the memory of that moment.
    pub fn pop_ready(&mut self, mut fits: impl FnMut(u64) -> bool) -> Option<T> {
        let mut smallest_refused = u64::MAX;
        for index in 0..self.waiters.len().min(LOOK_MAX) {
            let Waiter {
                need, overtaken, ..
            } = self.waiters[index];
            if need < smallest_refused && fits(need) {
                for passed in self.waiters.range_mut(..index) {
                    passed.overtaken += 1;
                }
                return self.waiters.remove(index).map(|waiter| waiter.item);
            }
            smallest_refused = smallest_refused.min(need);
            if overtaken >= OVERTAKEN_MAX {
                return None;
            }
        }
        None
    }

    /// Takes out one waiter whose deadline has passed; call until `None`. O(1) when none has.
    pub fn pop_expired(&mut self, now_ns: u64) -> Option<T> {
        if now_ns < self.earliest_ns {
            return None;
        }
        let found = self
            .waiters
            .iter()
            .position(|waiter| waiter.deadline.has_passed(now_ns));
        if let Some(index) = found {
            return self.waiters.remove(index).map(|waiter| waiter.item);
        }
        let deadlines = self.waiters.iter().map(|waiter| waiter.deadline.as_ns());
        self.earliest_ns = deadlines.filter(|&ns| ns != 0).min().unwrap_or(u64::MAX);
        None
    }

    /// Takes out all waiters that `belongs` names, in order: those of a session that is gone.
    pub fn remove_all(&mut self, mut belongs: impl FnMut(&T) -> bool) -> Vec<T> {
        let all = std::mem::take(&mut self.waiters);
        let (gone, kept) = all.into_iter().partition(|waiter| belongs(&waiter.item));
        self.waiters = kept;
        let gone: VecDeque<Waiter<T>> = gone;
        gone.into_iter().map(|waiter| waiter.item).collect()
    }

    /// Returns the bytes that the first in line needs: what to evict for.
    pub fn head_need(&self) -> Option<u64> {
        self.waiters.front().map(|waiter| waiter.need)
    }

    /// Returns when [`Self::pop_expired`] is worth calling: absolute nanoseconds; never late.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        (self.earliest_ns != u64::MAX).then_some(self.earliest_ns)
    }

    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Tells whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_head_is_overtaken_a_bounded_number_of_times() {
        let mut queue = OutOfMemoryQueue::new(1000);
        queue.push(100, Deadline::NONE, 0).expect("room");
        for item in 1..=100 {
            queue.push(1, Deadline::NONE, item).expect("room");
        }
        let small_only = |need: u64| need < 100;
        let passed: Vec<i32> = std::iter::from_fn(|| queue.pop_ready(small_only)).collect();
        assert_eq!(passed, (1..=64).collect::<Vec<i32>>());
        assert_eq!(queue.pop_ready(|_| true), Some(0), "then the head is first");
        assert_eq!(queue.pop_ready(|_| true), Some(65));
    }

    #[test]
    fn equal_needs_leave_in_order() {
        let mut queue = OutOfMemoryQueue::new(10);
        for item in 0..5 {
            queue.push(10, Deadline::NONE, item).expect("room");
        }
        let mut asked = 0;
        assert_eq!(
            queue.pop_ready(|_| {
                asked += 1;
                false
            }),
            None
        );
        assert_eq!(
            asked, 1,
            "what does not fit is not asked again for equal needs"
        );
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop_ready(|_| true)).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn deadline_passes_the_waiter_back() {
        let mut queue = OutOfMemoryQueue::new(10);
        queue.push(1, Deadline::from_ns(50), 'a').expect("room");
        queue.push(1, Deadline::NONE, 'b').expect("room");
        queue.push(1, Deadline::from_ns(20), 'c').expect("room");
        assert_eq!(queue.next_deadline_ns(), Some(20));
        assert_eq!(queue.pop_expired(19), None);
        assert_eq!(queue.pop_expired(20), Some('c'));
        assert_eq!(queue.pop_expired(20), None);
        assert_eq!(queue.next_deadline_ns(), Some(50));
        assert_eq!(queue.pop_expired(1000), Some('a'));
        assert_eq!(queue.pop_expired(u64::MAX), None);
        assert_eq!(queue.next_deadline_ns(), None);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn full_queue_gives_the_item_back() {
        let mut queue = OutOfMemoryQueue::new(1);
        queue.push(1, Deadline::NONE, 'a').expect("room");
        assert_eq!(queue.push(1, Deadline::NONE, 'b'), Err('b'));
        assert_eq!(queue.head_need(), Some(1));
    }

    #[test]
    fn waiters_of_a_gone_session_leave_together() {
        let mut queue = OutOfMemoryQueue::new(10);
        for item in 0..6 {
            queue.push(1, Deadline::NONE, item).expect("room");
        }
        assert_eq!(queue.remove_all(|item| item % 2 == 0), [0, 2, 4]);
        assert_eq!(queue.pop_ready(|_| true), Some(1));
    }
}
