//! Who refers to a key: clients by count, parents by nesting, and publishes under way.
//!
//! A key with any of them is held: neither evicted nor deleted. A delete meanwhile is noted, and
//! done when the last hold ends; the end of the last reference of a client or parent is a delete by
//! itself. A publish that was given up lets go without a delete.
//!
//! Bound: [`REFERENCES_MAX`] references of clients of one tenant on one shard, of which a session
//! has at most as many as are free, and what the shards of the parents may nest. Lives on: owner
//! shard. Pure.

use std::collections::BTreeSet;

use chariot_base::SessionId;
use chariot_proto::KeyHash;
use hashbrown::HashMap;

use crate::limits::REFERENCES_MAX;
use crate::share::may_take;

/// The table is full; the request is answered `Busy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the references of this shard are used up, or this session's share of them")]
pub struct ReferencesFull;

/// What the end of a reference means for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// There was no such reference.
    Unknown,
    /// Others are left.
    Held,
    /// Nobody holds it any more, and it stays.
    Free,
    /// Nobody refers to it any more: delete it.
    Delete,
}

#[derive(Debug, Default)]
struct Holds {
    /// Clients and how often each refers to it.
    clients: HashMap<SessionId, u32>,
    /// Versions of parents that it is nested in, and publishes under way.
    parents: u32,
    /// A delete waits for the end of the last hold.
    is_doomed: bool,
}

/// The references to the keys of one tenant on one shard.
///
/// Lives on: owner shard.
#[derive(Debug, Default)]
pub struct References {
    by_key: HashMap<KeyHash, Holds>,
    /// In order, because the first one is taken out again and again when the session ends.
    by_session: HashMap<SessionId, BTreeSet<KeyHash>>,
    clients: u32,
    parents: u64,
}

impl References {
    /// Adds a reference of a client; true when the key was not held before.
    ///
    /// # Errors
    /// [`ReferencesFull`]; nothing changed.
    pub fn add(&mut self, hash: KeyHash, session: SessionId) -> Result<bool, ReferencesFull> {
        let known = self.by_key.get_mut(&hash);
        if let Some(count) = known.and_then(|holds| holds.clients.get_mut(&session)) {
            *count = count.saturating_add(1);
            return Ok(false);
        }
        let own = self.by_session.get(&session).map_or(0, BTreeSet::len);
        if !may_take(own, self.clients as usize, REFERENCES_MAX as usize) {
            return Err(ReferencesFull);
        }
        let is_new = !self.by_key.contains_key(&hash);
        let holds = self.by_key.entry(hash).or_default();
        holds.clients.insert(session, 1);
        self.by_session.entry(session).or_default().insert(hash);
        self.clients += 1;
        Ok(is_new)
    }

    /// Drops a reference of a client.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn remove(&mut self, hash: KeyHash, session: SessionId) -> Dropped {
        let Some(holds) = self.by_key.get_mut(&hash) else {
            return Dropped::Unknown;
        };
        let Some(count) = holds.clients.get_mut(&session) else {
            return Dropped::Unknown;
        };
        *count -= 1;
        if *count > 0 {
            return Dropped::Held;
        }
        holds.clients.remove(&session);
        self.clients -= 1;
        let keys = self.by_session.get_mut(&session).expect("it has this one");
        keys.remove(&hash);
        if keys.is_empty() {
            self.by_session.remove(&session);
        }
        self.settle(hash, true)
    }

    /// Adds a hold of a parent; true when the key was not held before. Never full: the shards of
    /// the parents bound it, each to [`crate::limits::NESTED_MAX`].
    pub fn nest(&mut self, hash: KeyHash) -> bool {
        let is_new = !self.by_key.contains_key(&hash);
        self.by_key.entry(hash).or_default().parents += 1;
        self.parents += 1;
        is_new
    }

    /// Ends a hold of a parent. `deletes`: the parent's life is over, rather than its publish given
    /// up.
    pub fn unnest(&mut self, hash: KeyHash, deletes: bool) -> Dropped {
        let Some(holds) = self.by_key.get_mut(&hash) else {
            return Dropped::Unknown;
        };
        if holds.parents == 0 {
            return Dropped::Unknown;
        }
        holds.parents -= 1;
        self.parents -= 1;
        self.settle(hash, deletes)
    }

    /// Notes a delete of a held key, to be done later; false when nobody holds it.
    pub fn doom(&mut self, hash: KeyHash) -> bool {
        let Some(holds) = self.by_key.get_mut(&hash) else {
            return false;
        };
        holds.is_doomed = true;
        true
    }

    /// Forgets a noted delete: the key was written anew.
    pub fn revive(&mut self, hash: KeyHash) {
        if let Some(holds) = self.by_key.get_mut(&hash) {
            holds.is_doomed = false;
        }
    }

    /// Drops the references of a session that ended to one key, and says which and what that means
    /// for it. `None`: it has nothing more.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn drop_next(&mut self, session: SessionId) -> Option<(KeyHash, Dropped)> {
        let keys = self.by_session.get_mut(&session)?;
        let hash = keys.pop_first().expect("it has one");
        if keys.is_empty() {
            self.by_session.remove(&session);
        }
        let holds = self.by_key.get_mut(&hash).expect("listed by session");
        let count = holds.clients.remove(&session);
        assert!(count.is_some(), "listed by session");
        self.clients -= 1;
        Some((hash, self.settle(hash, true)))
    }

    /// Returns how many references of clients there are, each client and key once.
    pub const fn len(&self) -> u32 {
        self.clients
    }

    /// Returns how many clients refer to a key.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn count(&self, hash: KeyHash) -> u32 {
        let holds = self.by_key.get(&hash);
        holds.map_or(0, |holds| {
            u32::try_from(holds.clients.len()).expect("bounded by REFERENCES_MAX")
        })
    }

    /// Returns whether anybody holds a key.
    pub fn is_held(&self, hash: KeyHash) -> bool {
        self.by_key.contains_key(&hash)
    }

    /// Returns whether nobody holds anything.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn settle(&mut self, hash: KeyHash, deletes: bool) -> Dropped {
        let holds = self.by_key.get(&hash).expect("just used");
        if !holds.clients.is_empty() || holds.parents > 0 {
            return Dropped::Held;
        }
        let is_doomed = holds.is_doomed;
        self.by_key.remove(&hash);
        if deletes || is_doomed {
            Dropped::Delete
        } else {
            Dropped::Free
        }
    }

    /// Checks that the tables agree; O(n). For tests.
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let (mut clients, mut parents) = (0, 0);
        for (hash, holds) in &self.by_key {
            assert!(
                !holds.clients.is_empty() || holds.parents > 0,
                "held by somebody"
            );
            for (session, count) in &holds.clients {
                assert!(*count > 0);
                assert!(self.by_session[session].contains(hash));
            }
            clients += holds.clients.len();
            parents += u64::from(holds.parents);
        }
        assert_eq!(clients, self.clients as usize);
        assert_eq!(parents, self.parents);
        let listed: usize = self.by_session.values().map(BTreeSet::len).sum();
        assert_eq!(listed, clients);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chariot_base::{Random as _, SplitMix64};

    use super::*;

    const KEY: KeyHash = KeyHash { hi: 1, lo: 2 };
    const ONE: SessionId = SessionId(1);
    const TWO: SessionId = SessionId(2);

    #[test]
    fn the_last_reference_deletes_and_a_delete_waits_for_it() {
        let mut references = References::default();
        assert!(!references.doom(KEY), "nobody holds it");
        assert_eq!(references.add(KEY, ONE), Ok(true));
        assert_eq!(references.add(KEY, ONE), Ok(false));
        assert!(!references.nest(KEY));
        assert_eq!(references.count(KEY), 1, "clients, not references");
        assert!(references.doom(KEY));
        assert_eq!(references.remove(KEY, TWO), Dropped::Unknown);
        assert_eq!(references.remove(KEY, ONE), Dropped::Held);
        assert_eq!(references.remove(KEY, ONE), Dropped::Held);
        assert_eq!(
            references.unnest(KEY, false),
            Dropped::Delete,
            "it was deleted"
        );
        assert_eq!(references.unnest(KEY, true), Dropped::Unknown);
    }

    #[test]
    fn a_publish_that_was_given_up_deletes_nothing() {
        let mut references = References::default();
        references.nest(KEY);
        references.doom(KEY);
        references.revive(KEY);
        assert_eq!(references.unnest(KEY, false), Dropped::Free);
        references.nest(KEY);
        assert_eq!(references.unnest(KEY, true), Dropped::Delete);
    }

    #[test]
    fn a_full_table_refuses_and_stays_as_it_is() {
        let mut references = References {
            clients: REFERENCES_MAX,
            ..References::default()
        };
        assert_eq!(references.add(KEY, ONE), Err(ReferencesFull));
        assert!(!references.is_held(KEY));
    }

    #[test]
    fn a_session_has_at_most_as_many_as_are_free() {
        let mut references = References {
            clients: REFERENCES_MAX - 3,
            ..References::default()
        };
        let key = |lo| KeyHash { hi: 0, lo };
        assert_eq!(references.add(key(1), ONE), Ok(true));
        assert_eq!(references.add(key(2), ONE), Ok(true));
        assert_eq!(references.add(key(3), ONE), Err(ReferencesFull));
        assert_eq!(references.add(key(1), ONE), Ok(false), "counted, not added");
        assert_eq!(references.add(key(3), TWO), Ok(true), "another finds room");
    }

    #[test]
    fn random_use_agrees_with_counts() {
        let mut random = SplitMix64::new(42);
        let mut references = References::default();
        let mut clients: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        let mut parents: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..20_000 {
            let (key, session) = (random.next_u64() % 5, random.next_u64() % 4);
            let hash = KeyHash { hi: 0, lo: key };
            match random.next_u64() % 16 {
                0..=4 => {
                    references.add(hash, SessionId(session)).unwrap();
                    *clients.entry((key, session)).or_default() += 1;
                },
                5..=9 => {
                    let dropped = references.remove(hash, SessionId(session));
                    let known = clients.get_mut(&(key, session));
                    assert_eq!(dropped == Dropped::Unknown, known.is_none());
                    if let Some(count) = known {
                        *count -= 1;
                    }
                },
                10..=11 => {
                    references.nest(hash);
                    *parents.entry(key).or_default() += 1;
                },
                12..=14 => {
                    let dropped = references.unnest(hash, true);
                    let count = parents.entry(key).or_default();
                    assert_eq!(dropped == Dropped::Unknown, *count == 0);
                    *count = count.saturating_sub(1);
                },
                _ => {
                    while let Some((_, dropped)) = references.drop_next(SessionId(session)) {
                        assert_ne!(dropped, Dropped::Unknown);
                    }
                    clients.retain(|one, _| one.1 != session);
                },
            }
            clients.retain(|_, count| *count > 0);
            let of_key = clients.keys().filter(|one| one.0 == key).count();
            assert_eq!(references.count(hash) as usize, of_key);
            let held = of_key > 0 || parents.get(&key).is_some_and(|&count| count > 0);
            assert_eq!(references.is_held(hash), held);
            references.check_invariants();
        }
    }
}
