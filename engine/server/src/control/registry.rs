//! The open sessions of the node, local and remote, for admission, `/sessions` and drain.
//!
//! Lives on: control thread; remote sessions are entered by the shard that accepted them. Bounds:
//! `sessions_max`, and the bytes that all sessions together may make the node commit
//! (`session_memory_bytes`): what a client can touch is counted in full when the session opens,
//! because nothing could stop it from touching it later. Remote sessions count with their buffers,
//! and with the long bodies of requests while those are served.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chariot_base::SessionId;
use chariot_shm::{Mapping, ServerSession};
use tokio::io::unix::AsyncFd;

use crate::limits::{REMOTE_SESSION_BYTES, STAGING_BYTES, STAGING_MIN_BYTES};
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
    /// Bytes that it may touch.
    committed: u64,
    /// Its memories, for a local one: to be counted.
    memory: Option<SessionMemory>,
}

/// The memories of a local session. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct SessionMemory {
    /// Rings and pins.
    pub(crate) session: ServerSession,
    /// What a strict session writes into.
    pub(crate) staging: Option<Arc<Mapping>>,
}

impl SessionMemory {
    /// Bytes that have pages; what the kernel does not tell counts as none.
    fn resident_bytes(&self) -> u64 {
        let staging = self
            .staging
            .as_ref()
            .map(|staging| staging.resident_bytes());
        self.session.resident_bytes().unwrap_or(0) + staging.map_or(0, |bytes| bytes.unwrap_or(0))
    }
}

/// What a newcomer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Bytes of rings and pins, or of a remote session's buffers.
    pub(crate) session_bytes: u64,
    /// Whether it writes through staging memory.
    pub(crate) is_strict: bool,
}

impl Need {
    /// What a remote session needs: buffers of the daemon's own.
    pub(crate) const REMOTE: Self = Self {
        session_bytes: REMOTE_SESSION_BYTES,
        is_strict: false,
    };
}

/// A session that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entered {
    /// Its number.
    pub(crate) id: SessionId,
    /// Bytes of its staging memory; 0 for one that needs none.
    pub(crate) staging_bytes: u64,
}

/// Why a session was not let in: `Busy`, with this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// The table is full.
    #[error("this node serves {0} sessions already; close some")]
    Sessions(usize),
    /// The sessions' memory is.
    #[error(
        "the open sessions may fill the {max} bytes of --session-memory, {left} are left and this \
         one needs {need}; close some, or raise --session-memory"
    )]
    Memory {
        /// The setting.
        max: u64,
        /// What is left of it.
        left: u64,
        /// What the newcomer needs at least.
        need: u64,
    },
}

/// Bytes lent for one long request; given back on drop.
#[derive(Debug)]
pub(crate) struct Lent<'a> {
    registry: &'a Registry,
    bytes: u64,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        inner.committed -= self.bytes;
        inner.lent -= self.bytes;
    }
}

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<u64, Record>,
    committed: u64,
    /// Lent for the long bodies of remote sessions; part of `committed`.
    lent: u64,
    opened: u64,
    refused: u64,
}

/// The table. The mutex is taken by the control thread and, once per connection, by the shard that
/// accepts it; nobody holds it across anything that waits.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions_max: usize,
    memory_max: u64,
    inner: Mutex<Inner>,
}

impl Registry {
    /// Makes an empty table.
    pub(crate) fn new(sessions_max: u16, memory_max: u64) -> Self {
        Self {
            memory_max,
            sessions_max: usize::from(sessions_max),
            inner: Mutex::new(Inner::default()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Enters a session.
    ///
    /// Staging memory is what is left to give, halved twice, up to its maximum: the first strict
    /// session does not leave the next one without.
    pub(crate) fn open(
        &self,
        need: Need,
        summary: impl FnOnce(SessionId) -> SessionSummary,
    ) -> Result<Entered, Full> {
        let mut inner = self.lock();
        if inner.open.len() >= self.sessions_max {
            inner.refused += 1;
            return Err(Full::Sessions(self.sessions_max));
        }
        let left = self.memory_max - inner.committed;
        let staging_min = u64::from(need.is_strict) * STAGING_MIN_BYTES;
        let Some(spare) = left.checked_sub(need.session_bytes + staging_min) else {
            inner.refused += 1;
            return Err(Full::Memory {
                max: self.memory_max,
                left,
                need: need.session_bytes + staging_min,
            });
        };
        let staging_bytes = if need.is_strict {
            let share = spare / 4 / STAGING_MIN_BYTES * STAGING_MIN_BYTES;
            share.clamp(STAGING_MIN_BYTES, STAGING_BYTES)
        } else {
            0
        };
        let committed = need.session_bytes + staging_bytes;
        inner.committed += committed;
        inner.opened += 1;
        let id = SessionId(inner.opened);
        let record = Record {
            summary: summary(id),
            opened: Instant::now(),
            committed,
            memory: None,
            local: None,
        };
        inner.open.insert(id.0, record);
        Ok(Entered { id, staging_bytes })
    }

    /// Lends memory for a request with a long body, for as long as it is served; `None` when the
    /// sessions' memory is used up.
    pub(crate) fn lend(&self, bytes: u64) -> Option<Lent<'_>> {
        let mut inner = self.lock();
        if self.memory_max - inner.committed < bytes {
            return None;
        }
        inner.committed += bytes;
        inner.lent += bytes;
        drop(inner);
        Some(Lent {
            registry: self,
            bytes,
        })
    }

    /// Bytes that remote sessions may fill now.
    pub(crate) fn remote_bytes(&self) -> u64 {
        let inner = self.lock();
        let remote = inner.open.values();
        let remote = remote.filter(|record| record.summary.transport == "tcp");
        remote.map(|record| record.committed).sum::<u64>() + inner.lent
    }

    /// Notes a session's memories, so that they are counted until it is closed.
    pub(crate) fn count_memory(&self, id: SessionId, memory: SessionMemory) {
        if let Some(record) = self.lock().open.get_mut(&id.0) {
            record.memory = Some(memory);
        }
    }

    /// Bytes of all sessions' memories that have pages. O(pages): for the control thread.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let memories: Vec<SessionMemory> = {
            let inner = self.lock();
            let records = inner.open.values();
            records.filter_map(|record| record.memory.clone()).collect()
        };
        memories.iter().map(SessionMemory::resident_bytes).sum()
    }

    /// Bytes that the open sessions may touch, and the most that they may.
    pub(crate) fn committed_bytes(&self) -> (u64, u64) {
        (self.lock().committed, self.memory_max)
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
        let gone = {
            let mut inner = self.lock();
            let gone = inner.open.remove(&id.0);
            if let Some(gone) = &gone {
                inner.committed -= gone.committed;
            }
            gone
        };
        // Unmapped here, outside the lock.
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
        let registry = Registry::new(1, REMOTE_SESSION_BYTES);
        let first = open(&registry, Need::REMOTE).unwrap();
        assert_eq!(open(&registry, Need::REMOTE), Err(Full::Sessions(1)));
        registry.close(first.id);
        let second = open(&registry, Need::REMOTE).unwrap();
        assert_ne!(first.id, second.id, "numbers are never used twice");
        let (_, counts) = registry.snapshot();
        assert_eq!(counts, [1, 0, 2, 1]);
    }

    #[test]
    fn strict_sessions_share_what_is_left_and_never_more_than_the_limit() {
        const MIB: u64 = 1 << 20;
        let need = Need {
            session_bytes: MIB,
            is_strict: true,
        };
        let registry = Registry::new(1000, 3 << 30);
        let first = open(&registry, need).unwrap();
        assert_eq!(first.staging_bytes, STAGING_BYTES, "there is room for many");
        let mut smallest = first.staging_bytes;
        let refused = loop {
            match open(&registry, need) {
                Ok(entered) => smallest = smallest.min(entered.staging_bytes),
                Err(refused) => break refused,
            }
            let (committed, max) = registry.committed_bytes();
            assert!(committed <= max);
        };
        assert!(matches!(refused, Full::Memory { .. }), "{refused}");
        assert_eq!(smallest, STAGING_MIN_BYTES);
        registry.close(first.id);
        let after = open(&registry, need).unwrap();
        assert!(
            after.staging_bytes > STAGING_MIN_BYTES,
            "what was closed is free"
        );
    }

    fn open(registry: &Registry, need: Need) -> Result<Entered, Full> {
        registry.open(need, |id| SessionSummary {
            id: id.0,
            ..SessionSummary::default()
        })
    }

    #[test]
    fn remote_sessions_and_their_long_requests_count_like_any_other() {
        let registry = Registry::new(9, 2 * REMOTE_SESSION_BYTES);
        let first = registry.open(Need::REMOTE, |id| SessionSummary {
            id: id.0,
            transport: "tcp",
            ..SessionSummary::default()
        });
        let long = registry.lend(REMOTE_SESSION_BYTES).unwrap();
        assert_eq!(registry.remote_bytes(), 2 * REMOTE_SESSION_BYTES);
        assert!(registry.lend(1).is_none());
        let refused = open(&registry, Need::REMOTE).unwrap_err();
        assert!(matches!(refused, Full::Memory { left: 0, .. }), "{refused}");
        drop(long);
        let second = open(&registry, Need::REMOTE).unwrap();
        registry.close(first.unwrap().id);
        registry.close(second.id);
        assert_eq!(registry.committed_bytes().0, 0);
        assert_eq!(registry.remote_bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "closed once")]
    fn closing_twice_is_a_bug() {
        let registry = Registry::new(1, REMOTE_SESSION_BYTES);
        let Entered { id, .. } = open(&registry, Need::REMOTE).unwrap();
        registry.close(id);
        registry.close(id);
    }
}
