//! What a client has counted of its own reads: exactly, while the daemon knows of reads through the
//! index only what their lossy notes tell.
//!
//! Counters lie in stripes of a cache line pair each; a thread keeps to one, so that threads that
//! share a client do not hand a line to and fro. One addition a call, not one a key.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Enough for the threads that read at the same time on most machines; more share.
const STRIPES: usize = 16;

/// What a client, all of its clones together, has counted since it connected; also across the
/// restarts of its daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Keys that get, view, exist, size and prefix found.
    pub hits: u64,
    /// Values among those that the node read from its SSD; the others came from its memory.
    pub hits_ssd: u64,
    /// Keys that they did not find, also while the daemon was away.
    pub misses: u64,
    /// Keys of those for which the shard was asked by a message: what the index could not tell,
    /// and reads that wait. Over TCP always 0: everything is asked there.
    pub asked: u64,
    /// Views that are copies because the session held every view slot of its shard.
    pub views_copied: u64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    hits: AtomicU64,
    hits_ssd: AtomicU64,
    misses: AtomicU64,
    asked: AtomicU64,
    views_copied: AtomicU64,
}

/// The counters behind [`ClientStats`]. Lives on: any thread.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    stripes: [Stripe; STRIPES],
}

thread_local! {
    static STRIPE: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Counters {
    /// This thread's stripe: they are dealt in turn.
    fn mine(&self) -> &Stripe {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let index = STRIPE.get().unwrap_or_else(|| {
            let dealt = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
            STRIPE.set(Some(dealt));
            dealt
        });
        &self.stripes[index]
    }

    /// Counts the outcomes of a reading call; errors are neither hits nor misses.
    pub(crate) fn count<T, E>(&self, out: &[Result<Option<T>, E>]) {
        let (mut hits, mut misses) = (0, 0);
        for result in out {
            match result {
                Ok(Some(_)) => hits += 1,
                Ok(None) => misses += 1,
                Err(_) => {},
            }
        }
        self.add(hits, misses);
    }

    /// Counts keys found and not found.
    pub(crate) fn add(&self, hits: u64, misses: u64) {
        let stripe = self.mine();
        if hits > 0 {
            stripe.hits.fetch_add(hits, Ordering::Relaxed);
        }
        if misses > 0 {
            stripe.misses.fetch_add(misses, Ordering::Relaxed);
        }
    }

    /// Counts a value among the hits that came from the SSD.
    pub(crate) fn add_hit_ssd(&self) {
        self.mine().hits_ssd.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts keys for which the shard is asked.
    pub(crate) fn add_asked(&self, keys: u64) {
        self.mine().asked.fetch_add(keys, Ordering::Relaxed);
    }

    /// Counts a view that had to be a copy.
    pub(crate) fn add_view_copied(&self) {
        self.mine().views_copied.fetch_add(1, Ordering::Relaxed);
    }

    /// Sums up. What other threads count at this moment may be in or not.
    pub(crate) fn sum(&self) -> ClientStats {
        let mut sum = ClientStats::default();
        for stripe in &self.stripes {
            sum.hits += stripe.hits.load(Ordering::Relaxed);
            sum.hits_ssd += stripe.hits_ssd.load(Ordering::Relaxed);
            sum.misses += stripe.misses.load(Ordering::Relaxed);
            sum.asked += stripe.asked.load(Ordering::Relaxed);
            sum.views_copied += stripe.views_copied.load(Ordering::Relaxed);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads() {
        let counters = Counters::default();
        let count = || {
            for _ in 0..1_000 {
                counters.count(&[Ok(Some(1)), Ok(None), Err(()), Ok(None)]);
                counters.add_asked(3);
                counters.add_view_copied();
                counters.add_hit_ssd();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..STRIPES + 3 {
                scope.spawn(count);
            }
        });
        let calls = (STRIPES as u64 + 3) * 1_000;
        let sum = ClientStats {
            hits: calls,
            hits_ssd: calls,
            misses: 2 * calls,
            asked: 3 * calls,
            views_copied: calls,
        };
        assert_eq!(counters.sum(), sum);
    }
}
