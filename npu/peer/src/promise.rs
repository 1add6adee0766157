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

type Slot = Arc<(Mutex<Option<Outcomes>>, Condvar)>;

/// The outcomes of a call, when it is over. Lives on: any thread.
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

/// Answers in any case, at the latest when it is dropped.
struct Keeper {
    slot: Slot,
    keys: usize,
}

impl Keeper {
    fn keep(&self, outcomes: Outcomes) {
        let (slot, changed) = &*self.slot;
        let mut kept = slot.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert(outcomes);
        changed.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.keep(vec![Err(PeerError::Closed); self.keys]);
    }
}

impl Promise {
    /// Runs a call about `keys` keys on a thread; `None`: too many are under way, or the process
    /// can have no more threads.
    pub(crate) fn run(
        keys: usize,
        call: impl FnOnce() -> Outcomes + Send + 'static,
    ) -> Option<Self> {
        if CALLS.fetch_add(1, Ordering::AcqRel) >= CALLS_MAX {
            drop(Counted);
            return None;
        }
        let slot: Slot = Arc::default();
        let keeper = Keeper {
            slot: Arc::clone(&slot),
            keys,
        };
        let counted = Counted;
        thread::Builder::new()
            .name("chariot-cards".to_owned())
            .spawn(move || {
                let _counted = counted;
                keeper.keep(call());
            })
            .ok()?;
        Some(Self(slot))
    }

    /// Waits for at most `most`; `None` when the call is not over by then. May be asked again.
    #[must_use]
    pub fn wait(&self, most: Duration) -> Option<Outcomes> {
        let (slot, changed) = &*self.0;
        let until = Instant::now() + most;
        let mut outcomes = slot.lock().unwrap_or_else(PoisonError::into_inner);
        while outcomes.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = changed.wait_timeout(outcomes, left);
            outcomes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        outcomes.clone()
    }
}
