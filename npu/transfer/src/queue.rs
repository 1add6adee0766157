//! The queue of one direction: parts of objects, bounded, taken in batches.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::object::{FRAGMENTS_MAX, InFlight};

/// Most parts that wait in one direction: 10,000 keys of one call and as many again, or 256 GiB in
/// parts of 16 MiB.
pub(crate) const PARTS_MAX: usize = 16_384;
/// A batch that is shared among lanes is cut no smaller than this.
const SHARE_MIN: usize = 1 << 20;

/// Some fragments of one object.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) transfer: Arc<InFlight>,
    pub(crate) object: usize,
    /// Which fragments, of the object's list.
    pub(crate) fragments: std::ops::Range<usize>,
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    parts: VecDeque<Part>,
    bytes: usize,
    closed: bool,
}

/// Parts that wait for a lane.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    lanes: usize,
    batch_bytes: usize,
}

impl Queue {
    pub(crate) fn new(lanes: usize, batch_bytes: usize) -> Self {
        assert!(lanes > 0, "somebody takes");
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            lanes,
            batch_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all parts in, or none: they are given back when there is no room or the core stops.
    pub(crate) fn try_push(&self, parts: Vec<Part>) -> Result<(), Vec<Part>> {
        let mut waiting = self.lock();
        if waiting.closed || waiting.parts.len() + parts.len() > PARTS_MAX {
            return Err(parts);
        }
        waiting.bytes += parts.iter().map(|part| part.bytes).sum::<usize>();
        let several = parts.len() > 1;
        waiting.parts.extend(parts);
        if several {
            self.changed.notify_all();
        } else {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for parts and takes a batch: this lane's share, at most a batch's bytes and entries,
    /// at least one part. Empty when the core stops.
    pub(crate) fn take(&self) -> Vec<Part> {
        let mut waiting = self.lock();
        while waiting.parts.is_empty() && !waiting.closed {
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.closed {
            return Vec::new();
        }
        let share = (waiting.bytes / self.lanes)
            .max(SHARE_MIN)
            .min(self.batch_bytes);
        let (mut taken, mut bytes, mut entries) = (Vec::new(), 0, 0);
        while let Some(part) = waiting.parts.front() {
            let more = (bytes + part.bytes, entries + part.fragments.len());
            if !taken.is_empty() && (more.0 > share || more.1 > FRAGMENTS_MAX) {
                break;
            }
            (bytes, entries) = more;
            taken.extend(waiting.parts.pop_front());
        }
        waiting.bytes -= bytes;
        taken
    }

    /// Ends taking; gives back what waits.
    pub(crate) fn close(&self) -> Vec<Part> {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.bytes = 0;
        self.changed.notify_all();
        waiting.parts.drain(..).collect()
    }
}
