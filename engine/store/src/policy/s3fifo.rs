//! `s3fifo`: a small queue on probation, a main queue with second chances, a ghost queue.
//!
//! ```text
//!  new key ──► small (a tenth of the bytes) ──used twice──► main ◄─┐ used: once more round,
//!                │ not used                                 │ └────┘ one use less
//!                ▼                                          ▼ not used
//!              ghost (fingerprints) ──written again──► main         gone
//! ```
//! After Yang, Zhang, Qiu, Yue, Vinayak, "FIFO queues are all you need for cache eviction",
//! SOSP 2023, with two changes for objects of unequal size: the queues are measured in bytes, and
//! the hand leaves the small queue alone while it holds only the newest object, which may by
//! itself be more than a tenth (new objects never enter at the hand).
//!
//! A hit counts to three in two bits and moves nothing. An entry in main is moved at most once per
//! counted use, so eviction is O(1) amortised over hits; each step is O(1).
//!
//! Lives on: owner shard. State bits of the link word: queue 2 | uses 2.

use super::Verdict;
use super::ghost::Ghost;
use crate::links::{Links, List};

const QUEUE_MASK: u8 = 0b11;
const SMALL: u8 = 1;
const MAIN: u8 = 2;
const USES_SHIFT: u32 = 2;
const USES_MAX: u8 = 3;
/// The small queue's share of the evictable bytes is one in this many.
const SMALL_SHARE: u64 = 10;
/// Uses on probation from which an entry goes to main.
const PROMOTE_USES: u8 = 2;

/// The three queues.
pub(super) struct S3Fifo {
    small: List,
    main: List,
    ghost: Ghost,
}

impl S3Fifo {
    pub(super) fn new(records_max: u32) -> Self {
        Self {
            small: List::default(),
            main: List::default(),
            ghost: Ghost::new(records_max),
        }
    }

    pub(super) fn insert(&mut self, links: &mut Links, id: u32, bytes: u64, fingerprint: u64) {
        if self.ghost.take(fingerprint) {
            self.main.push_head(links, id, bytes);
            links.set_state(id, MAIN);
        } else {
            self.small.push_head(links, id, bytes);
            links.set_state(id, SMALL);
        }
    }

    pub(super) fn touch(links: &mut Links, id: u32) {
        let state = links.state(id);
        assert!(state & QUEUE_MASK != 0);
        if state >> USES_SHIFT < USES_MAX {
            links.set_state(id, state + (1 << USES_SHIFT));
        }
    }

    pub(super) fn resize(&mut self, links: &Links, id: u32, old_bytes: u64, new_bytes: u64) {
        self.queue(links.state(id)).resize(old_bytes, new_bytes);
    }

    pub(super) fn remove(&mut self, links: &mut Links, id: u32, bytes: u64) {
        self.queue(links.state(id)).unlink(links, id, bytes);
        links.set_state(id, 0);
    }

    pub(super) const fn hand(&self, pinned_run: u32) -> u32 {
        let small_is_full = self.small.bytes() >= self.bytes().div_ceil(SMALL_SHARE);
        let main_is_pinned = pinned_run >= self.main.len();
        if main_is_pinned && self.small.len() > 0 || small_is_full && self.small.len() > 1 {
            self.small.tail()
        } else {
            self.main.tail()
        }
    }

    /// What came into main last; without one, what came last at all.
    pub(super) const fn hottest(&self) -> u32 {
        if self.main.len() > 0 {
            self.main.head()
        } else {
            self.small.head()
        }
    }

    pub(super) fn judge(&mut self, links: &mut Links, id: u32, bytes: u64) -> Verdict {
        let state = links.state(id);
        let uses = state >> USES_SHIFT;
        if state & QUEUE_MASK == SMALL {
            if uses < PROMOTE_USES {
                return Verdict::Evict;
            }
            self.promote(links, id, bytes);
            return Verdict::Spare;
        }
        if uses == 0 {
            return Verdict::Evict;
        }
        self.main.move_to_head(links, id);
        links.set_state(id, MAIN | ((uses - 1) << USES_SHIFT));
        Verdict::Spare
    }

    /// A pinned entry of main goes round; one on probation is promoted, because it is in use at
    /// the end of its probation, and because a small queue full of pins must not hide main.
    pub(super) fn pass_over(&mut self, links: &mut Links, id: u32, bytes: u64) {
        if links.state(id) & QUEUE_MASK == SMALL {
            self.promote(links, id, bytes);
        } else {
            self.main.move_to_head(links, id);
        }
    }

    pub(super) fn evicted(&mut self, links: &mut Links, id: u32, bytes: u64, fingerprint: u64) {
        if links.state(id) & QUEUE_MASK == SMALL {
            self.ghost.insert(fingerprint, self.main.len());
        }
        self.remove(links, id, bytes);
    }

    pub(super) const fn len(&self) -> u32 {
        self.small.len() + self.main.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.small.bytes() + self.main.bytes()
    }

    pub(super) fn ghost_bytes(&self) -> u64 {
        self.ghost.bytes()
    }

    pub(super) fn check_invariants(&self, links: &Links, bytes_of: &dyn Fn(u32) -> u64) {
        for (list, queue) in [(&self.small, SMALL), (&self.main, MAIN)] {
            list.check_invariants(links, &|id| {
                assert_eq!(links.state(id) & QUEUE_MASK, queue);
                bytes_of(id)
            });
        }
    }

    fn promote(&mut self, links: &mut Links, id: u32, bytes: u64) {
        self.small.unlink(links, id, bytes);
        self.main.push_head(links, id, bytes);
        links.set_state(id, MAIN);
    }

    fn queue(&mut self, state: u8) -> &mut List {
        match state & QUEUE_MASK {
            SMALL => &mut self.small,
            MAIN => &mut self.main,
            other => panic!("an entry in queue {other} is not linked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Queues {
        links: Links,
        s3fifo: S3Fifo,
    }

    impl Queues {
        fn new() -> Self {
            Self {
                links: Links::new(1000),
                s3fifo: S3Fifo::new(1000),
            }
        }

        fn insert(&mut self, id: u32, bytes: u64) {
            self.s3fifo.insert(
                &mut self.links,
                id,
                bytes,
                (u64::from(id) << 32) | u64::from(id),
            );
        }

        fn evict(&mut self, bytes_of: &dyn Fn(u32) -> u64) -> u32 {
            loop {
                let id = self.s3fifo.hand(0);
                assert!(id != 0);
                let bytes = bytes_of(id);
                if self.s3fifo.judge(&mut self.links, id, bytes) == Verdict::Evict {
                    let fingerprint = (u64::from(id) << 32) | u64::from(id);
                    self.s3fifo.evicted(&mut self.links, id, bytes, fingerprint);
                    return id;
                }
            }
        }
    }

    #[test]
    fn small_goes_first_and_comes_back_into_main() {
        let mut queues = Queues::new();
        (1..=10).for_each(|id| queues.insert(id, 1));
        assert_eq!(queues.evict(&|_| 1), 1);
        assert_eq!(queues.evict(&|_| 1), 2);
        queues.insert(1, 1);
        assert_eq!(
            (queues.s3fifo.small.len(), queues.s3fifo.main.len()),
            (8, 1)
        );
    }

    #[test]
    fn entry_used_twice_survives_its_probation() {
        let mut queues = Queues::new();
        (1..=10).for_each(|id| queues.insert(id, 1));
        S3Fifo::touch(&mut queues.links, 1);
        S3Fifo::touch(&mut queues.links, 1);
        S3Fifo::touch(&mut queues.links, 2);
        assert_eq!(queues.evict(&|_| 1), 2);
        assert_eq!(queues.s3fifo.main.tail(), 1);
    }

    #[test]
    fn used_entry_of_main_goes_round_once_per_use() {
        let mut queues = Queues::new();
        for id in 1..=2 {
            queues.s3fifo.main.push_head(&mut queues.links, id, 1);
            queues.links.set_state(id, MAIN);
        }
        for _ in 0..7 {
            S3Fifo::touch(&mut queues.links, 1);
        }
        assert_eq!(queues.links.state(1) >> USES_SHIFT, USES_MAX);
        assert_eq!(queues.evict(&|_| 1), 2);
        assert_eq!(queues.links.state(1) >> USES_SHIFT, USES_MAX - 1);
        assert_eq!(queues.evict(&|_| 1), 1);
        assert_eq!(queues.s3fifo.hand(0), 0);
    }

    #[test]
    fn large_new_object_is_not_at_the_hand() {
        let mut queues = Queues::new();
        let bytes_of = |id| if id == 3 { 500 } else { 1 };
        for id in 1..=2 {
            queues.s3fifo.main.push_head(&mut queues.links, id, 1);
            queues.links.set_state(id, MAIN);
        }
        queues.insert(3, 500);
        assert_eq!(queues.evict(&bytes_of), 1);
        queues.insert(4, 1);
        assert_eq!(queues.evict(&bytes_of), 3);
        assert_eq!(queues.evict(&bytes_of), 2);
        assert_eq!(queues.evict(&bytes_of), 4);
    }
}
