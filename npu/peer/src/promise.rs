//! Calls between cards that run on a thread of their own, and their outcomes.
//!
//! One thread a call: it waits for another process, for up to a minute. Their number is bounded, so
//! that a program which begins more than that is told so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::PeerError;

/// Most calls of a process that are under way: a receiver takes objects in batches, a batch a call.
pub const CALLS_MAX: usize = 256;

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// What became of each key.
pub type Outcomes = Vec<Result<(), PeerError>>;

type Slot = Arc<(Mutex<Vec<Option<Result<(), PeerError>>>>, Condvar)>;

/// The outcomes of a call's keys, each when it is known. Lives on: any thread.
#[derive(Clone, Debug)]
pub struct Promise(Slot);

/// Counts a call, also when its thread panics.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        let before = CALLS.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "an end has a beginning");
    }
}

/// The call's end of a promise: answers for every key, at the latest when it is dropped.
pub(crate) struct Keeper(Slot);

impl Keeper {
    /// Answers for one key; the first answer stands.
    pub(crate) fn keep(&self, key: usize, outcome: Result<(), PeerError>) {
        let (slot, changed) = &*self.0;
        let mut kept = slot.lock().unwrap_or_else(PoisonError::into_inner);
        kept[key].get_or_insert(outcome);
        changed.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let (slot, changed) = &*self.0;
        let mut kept = slot.lock().unwrap_or_else(PoisonError::into_inner);
        for outcome in kept.iter_mut() {
            outcome.get_or_insert(Err(PeerError::Closed));
        }
        changed.notify_all();
    }
}

impl Promise {
    /// Runs a call about `keys` keys on a thread, which may answer for some of them before it is
    /// over; `None`: too many are under way, or the process can have no more threads.
    pub(crate) fn run(
        keys: usize,
        call: impl FnOnce(&Keeper) -> Outcomes + Send + 'static,
    ) -> Option<Self> {
        if CALLS.fetch_add(1, Ordering::AcqRel) >= CALLS_MAX {
            drop(Counted);
            return None;
        }
        let slot: Slot = Arc::new((Mutex::new(vec![None; keys]), Condvar::new()));
        let keeper = Keeper(Arc::clone(&slot));
        let counted = Counted;
        thread::Builder::new()
            .name("chariot-cards".to_owned())
            .spawn(move || {
                let _counted = counted;
                for (key, outcome) in call(&keeper).into_iter().enumerate() {
                    keeper.keep(key, outcome);
                }
            })
            .ok()?;
        Some(Self(slot))
    }

    /// Waits for at most `most`; `None` when the call is not over by then. May be asked again.
    #[must_use]
    pub fn wait(&self, most: Duration) -> Option<Outcomes> {
        let all = |known: &[Option<Result<(), PeerError>>]| known.iter().cloned().collect();
        self.until(most, all)
    }

    /// As [`Self::wait`], for the key of one place alone, which may be known before the others.
    ///
    /// # Panics
    /// When the call has no such key.
    #[must_use]
    pub fn wait_for(&self, key: usize, most: Duration) -> Option<Result<(), PeerError>> {
        self.until(most, |known| known[key].clone())
    }

    fn until<T>(
        &self,
        most: Duration,
        look: impl Fn(&[Option<Result<(), PeerError>>]) -> Option<T>,
    ) -> Option<T> {
        let (slot, changed) = &*self.0;
        let until = Instant::now() + most;
        let mut outcomes = slot.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = look(&outcomes);
            let left = until.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                return found;
            }
            let waited = changed.wait_timeout(outcomes, left);
            outcomes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
