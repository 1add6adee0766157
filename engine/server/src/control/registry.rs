//! The open sessions of the node, local and remote, for admission, `/sessions` and drain.
//!
//! Lives on: control thread; remote sessions are entered by messages of their shard. Bound:
//! `sessions_max`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chariot_base::SessionId;
use chariot_shm::ServerSession;
use tokio::io::unix::AsyncFd;

use crate::seam::SessionSummary;

/// What it takes to turn on a local session.
#[derive(Debug, Clone)]
pub(crate) struct LocalHandle {
    /// Its memory, where it is told that it is expelled.
    pub(crate) memory: ServerSession,
    /// Its process.
    pub(crate) pidfd: Arc<AsyncFd<OwnedFd>>,
}

/// Whom a number names.
#[derive(Debug)]
pub(crate) enum Named {
    /// Nobody: it has ended, or never was.
    Nobody,
    /// A session over TCP, or a local one in the middle of its birth.
    Beyond,
    /// A local session.
    Local(LocalHandle),
}

/// One open session.
#[derive(Debug)]
struct Record {
    /// What operators see; counters are added by the shards.
    summary: SessionSummary,
    /// When it was opened.
    opened: Instant,
    /// Known once a local session was welcomed.
    local: Option<LocalHandle>,
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
            local: None,
        };
        inner.open.insert(id.0, record);
        Some(id)
    }

    /// Counts a session that was refused before it had a number.
    pub(crate) fn refuse(&self) {
        self.lock().refused += 1;
    }

    /// Notes by what a local session can be reached.
    pub(crate) fn welcomed(&self, id: SessionId, handle: LocalHandle) {
        let mut inner = self.lock();
        let record = inner.open.get_mut(&id.0);
        record.expect("welcomed while it is open").local = Some(handle);
    }

    /// Finds the session that a number names.
    pub(crate) fn find(&self, id: SessionId) -> Named {
        match self.lock().open.get(&id.0) {
            None => Named::Nobody,
            Some(record) => record.local.clone().map_or(Named::Beyond, Named::Local),
        }
    }

    /// The process of a local session; 0 when it has ended.
    pub(crate) fn pid_of(&self, id: SessionId) -> u32 {
        self.lock()
            .open
            .get(&id.0)
            .map_or(0, |record| record.summary.pid)
    }

    /// Notes that a session is served no more; one that has ended meanwhile is none to note.
    pub(crate) fn expelled(&self, id: SessionId) {
        if let Some(record) = self.lock().open.get_mut(&id.0) {
            record.summary.expelled = true;
        }
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
