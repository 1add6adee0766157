//! The open sessions of the node, local and remote, for admission, `/sessions` and drain.
//!
//! Lives on: control thread; remote sessions are entered by messages of their shard. Bound:
//! `sessions_max`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use chariot_base::SessionId;

use crate::seam::SessionSummary;

/// One open session.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// What operators see; counters are added by the shards.
    pub(crate) summary: SessionSummary,
    /// When it was opened.
    pub(crate) opened: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<u64, Record>,
    opened: u64,
    refused: u64,
}

/// The table. The mutex is taken by the control thread and, once per connection, by the shard that
/// accepts it; nobody holds it across anything that waits.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions_max: usize,
    inner: Mutex<Inner>,
}

impl Registry {
    /// Makes an empty table.
    pub(crate) fn new(sessions_max: u16) -> Self {
        Self {
            sessions_max: usize::from(sessions_max),
            inner: Mutex::new(Inner::default()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Enters a session; `None` when the table is full.
    #[must_use]
    pub(crate) fn open(
        &self,
        summary: impl FnOnce(SessionId) -> SessionSummary,
    ) -> Option<SessionId> {
        let mut inner = self.lock();
        if inner.open.len() >= self.sessions_max {
            inner.refused += 1;
            return None;
        }
        inner.opened += 1;
        let id = SessionId(inner.opened);
        let record = Record {
            summary: summary(id),
            opened: Instant::now(),
        };
        inner.open.insert(id.0, record);
        Some(id)
    }

    /// Counts a session that was refused before it had a number.
    pub(crate) fn refuse(&self) {
        self.lock().refused += 1;
    }

    /// Forgets a session.
    pub(crate) fn close(&self, id: SessionId) {
        let gone = self.lock().open.remove(&id.0);
        assert!(gone.is_some(), "a session is closed once: {id:?}");
    }

    /// Returns all open sessions by id, and (local, remote, opened, refused) counts.
    pub(crate) fn snapshot(&self) -> (Vec<SessionSummary>, [u64; 4]) {
        let inner = self.lock();
        let mut remote = 0;
        let mut summaries = Vec::with_capacity(inner.open.len());
        for record in inner.open.values() {
            let mut summary = record.summary.clone();
            summary.age_s = record.opened.elapsed().as_secs();
            remote += u64::from(summary.transport == "tcp");
            summaries.push(summary);
        }
        let local = summaries.len() as u64 - remote;
        (summaries, [local, remote, inner.opened, inner.refused])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_refuses_and_a_close_makes_room() {
        let registry = Registry::new(1);
        let first = registry
            .open(|id| SessionSummary {
                id: id.0,
                ..Default::default()
            })
            .unwrap();
        assert_eq!(registry.open(|_| SessionSummary::default()), None);
        registry.close(first);
        let second = registry.open(|_| SessionSummary::default()).unwrap();
        assert_ne!(first, second, "numbers are never used twice");
        let (_, counts) = registry.snapshot();
        assert_eq!(counts, [1, 0, 2, 1]);
    }

    #[test]
    #[should_panic(expected = "closed once")]
    fn closing_twice_is_a_bug() {
        let registry = Registry::new(1);
        let id = registry.open(|_| SessionSummary::default()).unwrap();
        registry.close(id);
        registry.close(id);
    }
}
