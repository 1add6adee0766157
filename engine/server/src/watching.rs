//! Gets that wait for their key: the store's watchers plus their deadlines.
//!
//! Lives on: owner shard. A watcher ends exactly once: its key is published
//! ([`Watching::take_woken`]), its deadline passes ([`Watching::take_expired`]), its request is
//! cancelled, or its session ends. Connections of other shards watch under a session number of
//! their own kind ([`caller_session`]).

use std::collections::{BTreeMap, VecDeque};

use chariot_base::{SessionId, ShardId, TenantId};
use chariot_proto::KeyHash;
use chariot_store::{WatcherId, Watchers, WatchersFull, Woken};
use hashbrown::HashMap;

/// Bit that marks session numbers which stand for a shard's connections.
const CALLER_BIT: u64 = 1 << 63;

/// One waiting get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    /// Key space.
    pub(crate) tenant: TenantId,
    /// Key.
    pub(crate) hash: KeyHash,
    /// Whose request: a local session, or [`caller_session`].
    pub(crate) session: SessionId,
    /// The request's token or ticket.
    pub(crate) token: u64,
    /// Absolute monotonic nanoseconds.
    pub(crate) deadline_ns: u64,
    /// When the request was taken.
    pub(crate) taken_ns: u64,
}

/// All waiting gets of a shard.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    watchers: Watchers,
    by_request: HashMap<(SessionId, u64), (WatcherId, Watched, u64)>,
    by_deadline: BTreeMap<(u64, u64), (SessionId, u64)>,
    number: u64,
    woken: Vec<Woken>,
    /// Published keys whose watchers did not all have their turn yet. Bound: the watchers, since a
    /// key is in here once for a publish that found some of them.
    unwoken: VecDeque<(TenantId, KeyHash)>,
}

/// The session number under which connections of `shard` watch.
pub(crate) const fn caller_session(shard: ShardId) -> SessionId {
    SessionId(CALLER_BIT | shard.0 as u64)
}

/// The shard behind a [`caller_session`].
pub(crate) fn caller_shard(session: SessionId) -> Option<ShardId> {
    (session.0 & CALLER_BIT != 0)
        .then(|| ShardId(u16::try_from(session.0 & !CALLER_BIT).expect("made by caller_session")))
}

impl Watching {
    /// Registers a waiting get. A second one under the same token is refused like a full table.
    pub(crate) fn add(&mut self, watched: Watched) -> Result<(), WatchersFull> {
        let request = (watched.session, watched.token);
        if self.by_request.contains_key(&request) {
            return Err(WatchersFull {
                limit: self.watchers.len(),
            });
        }
        let id =
            self.watchers
                .register(watched.tenant, watched.hash, watched.session, watched.token)?;
        self.number += 1;
        self.by_deadline
            .insert((watched.deadline_ns, self.number), request);
        self.by_request.insert(request, (id, watched, self.number));
        Ok(())
    }

    fn forget(&mut self, request: (SessionId, u64)) -> Option<Watched> {
        let (_, watched, number) = self.by_request.remove(&request)?;
        let deadline = self.by_deadline.remove(&(watched.deadline_ns, number));
        assert!(deadline.is_some(), "every watcher has a deadline");
        Some(watched)
    }

    /// Notes a published key: those that wait for it have their turn with [`Self::take_woken`].
    pub(crate) fn note_published(&mut self, tenant: TenantId, hash: KeyHash) {
        if self.watchers.is_watched(tenant, hash) && !self.unwoken.contains(&(tenant, hash)) {
            self.unwoken.push_back((tenant, hash));
        }
    }

    /// The key published first of those whose watchers are not all told.
    pub(crate) fn next_published(&self) -> Option<(TenantId, KeyHash)> {
        self.unwoken.front().copied()
    }

    /// Leaves the watchers of that key waiting.
    pub(crate) fn pass_over(&mut self) {
        let passed = self.unwoken.pop_front();
        assert!(passed.is_some(), "the caller has looked at it");
    }

    /// Whether somebody who waits for a published key has not been told.
    pub(crate) fn has_unwoken(&self) -> bool {
        !self.unwoken.is_empty()
    }

    /// Takes out those who wait for the key published first, at most `limit` of them; `false` when
    /// nobody is to be told.
    pub(crate) fn take_woken(&mut self, limit: u32, out: &mut Vec<Watched>) -> bool {
        let Some(&(tenant, hash)) = self.unwoken.front() else {
            return false;
        };
        let mut woken = std::mem::take(&mut self.woken);
        woken.clear();
        let more = self.watchers.wake(tenant, hash, limit, &mut woken);
        for one in &woken {
            let watched = self
                .forget((one.session, one.token))
                .expect("registered in both");
            out.push(watched);
        }
        self.woken = woken;
        if !more {
            self.unwoken.pop_front();
        }
        true
    }

    /// Takes out one whose deadline has passed.
    pub(crate) fn take_expired(&mut self, now_ns: u64) -> Option<Watched> {
        let (&(deadline_ns, _), &request) = self.by_deadline.first_key_value()?;
        if deadline_ns > now_ns {
            return None;
        }
        let (id, ..) = *self.by_request.get(&request).expect("registered in both");
        let token = self.watchers.cancel(id);
        assert_eq!(token, Some(request.1), "the watcher was waiting");
        self.forget(request)
    }

    /// Takes out one by its request.
    pub(crate) fn cancel(&mut self, session: SessionId, token: u64) -> Option<Watched> {
        let (id, ..) = *self.by_request.get(&(session, token))?;
        let cancelled = self.watchers.cancel(id);
        assert_eq!(cancelled, Some(token), "the watcher was waiting");
        self.forget((session, token))
    }

    /// Drops all of a session that ended.
    pub(crate) fn drop_session(&mut self, session: SessionId) {
        while self.watchers.drop_session(session, u32::MAX) {}
        let requests: Vec<_> = self
            .by_request
            .keys()
            .filter(|request| request.0 == session)
            .copied()
            .collect();
        for request in requests {
            let watched = self.forget(request);
            assert!(watched.is_some());
        }
    }

    /// When the next deadline is.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        self.by_deadline
            .first_key_value()
            .map(|(&(deadline_ns, _), _)| deadline_ns)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.by_request.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(token: u64, deadline_ns: u64) -> Watched {
        Watched {
            tenant: TenantId(0),
            hash: KeyHash { hi: 1, lo: 2 },
            session: SessionId(7),
            token,
            deadline_ns,
            taken_ns: 0,
        }
    }

    #[test]
    fn every_watcher_ends_exactly_once() {
        let mut watching = Watching::default();
        for token in 0..4 {
            watching.add(watched(token, 100 + token)).unwrap();
        }
        assert!(
            watching.add(watched(0, 5)).is_err(),
            "one watcher per request"
        );
        assert!(watching.take_expired(99).is_none());
        assert_eq!(watching.take_expired(100).unwrap().token, 0);
        assert_eq!(watching.cancel(SessionId(7), 1).unwrap().token, 1);
        assert!(watching.cancel(SessionId(7), 1).is_none());
        let mut woken = Vec::new();
        watching.note_published(TenantId(0), KeyHash { hi: 1, lo: 2 });
        assert!(watching.take_woken(8, &mut woken));
        assert!(!watching.take_woken(8, &mut woken), "told once");
        assert_eq!(
            woken.iter().map(|one| one.token).collect::<Vec<_>>(),
            [2, 3]
        );
        assert_eq!(watching.len(), 0);
        assert_eq!(watching.next_deadline_ns(), None);
    }

    #[test]
    fn a_key_with_many_watchers_is_served_in_bounded_rounds_and_in_order() {
        let mut watching = Watching::default();
        for token in 0..1000 {
            watching.add(watched(token, 100)).unwrap();
        }
        let key = (TenantId(0), KeyHash { hi: 1, lo: 2 });
        for _ in 0..3 {
            // Published again and again: still in line once.
            watching.note_published(key.0, key.1);
        }
        let mut told = Vec::new();
        let mut rounds = 0;
        while watching.has_unwoken() {
            let before = told.len();
            assert!(watching.take_woken(256, &mut told));
            assert!(told.len() - before <= 256);
            rounds += 1;
        }
        assert_eq!(rounds, 4);
        assert!(told.iter().map(|one| one.token).eq(0..1000));
        watching.note_published(key.0, key.1);
        assert!(!watching.has_unwoken(), "nobody waits any more");
    }

    #[test]
    fn a_session_that_ends_leaves_nothing() {
        let mut watching = Watching::default();
        watching.add(watched(1, 10)).unwrap();
        watching.drop_session(SessionId(7));
        assert!(watching.take_expired(u64::MAX).is_none());
        assert_eq!(watching.len(), 0);
    }

    #[test]
    fn callers_are_told_from_sessions() {
        assert_eq!(caller_shard(caller_session(ShardId(5))), Some(ShardId(5)));
        assert_eq!(caller_shard(SessionId(5)), None);
    }
}
