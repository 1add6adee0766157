//! Gets that wait for a key: who is to be told when it is inserted.
//!
//! One table a shard, for all tenants: at most 65,536 watchers, each found by its key (to wake
//! it), by its session (to free it) and by its id (to cancel it). An id names a place and that
//! place's generation, so a late cancel never hits a stranger. Deadlines are the caller's timers:
//! when one passes, it cancels the id.
//!
//! Order: watchers of one key are woken in the order in which they came.
//!
//! Lives on: owner shard. Pure: no clock, no I/O. Neighbours: the server's wait handler registers,
//! and calls [`Watchers::wake`] after each insert.

use hashbrown::HashMap;
use thiserror::Error;

use chariot_base::{SessionId, TenantId};
use chariot_proto::KeyHash;

use crate::limits::WATCHERS_MAX;

/// The table is full; the request is answered `Busy`, and whoever waits elsewhere is not hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{limit} gets are waiting on this shard already")]
pub struct WatchersFull {
    /// The most watchers of this table.
    pub limit: u32,
}

/// Names one watcher until it is woken, cancelled or freed; never used again.
///
/// Lives on: owner shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WatcherId {
    place: u32,
    generation: u32,
}

/// A watcher that was woken, for its session to answer.
///
/// Lives on: owner shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken {
    /// Whose request it is.
    pub session: SessionId,
    /// What the caller gave at registration.
    pub token: u64,
    /// The id it had, for the caller's timer.
    pub id: WatcherId,
}

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct WatchedKey {
    tenant: TenantId,
    hash: KeyHash,
}

/// First and last place of a doubly linked list.
#[derive(Debug, Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

#[derive(Debug, Clone, Copy)]
struct Hooks {
    prev: u32,
    next: u32,
}

/// Which of a watcher's two lists is meant.
#[derive(Debug, Clone, Copy)]
enum Chain {
    Key,
    Session,
}

#[derive(Debug, Clone, Copy)]
struct Watcher {
    key: WatchedKey,
    session: SessionId,
    token: u64,
    generation: u32,
    is_waiting: bool,
    /// `[by key, by session]`; of a free place, `[0].next` is the next free one.
    hooks: [Hooks; 2],
}

/// The waiting gets of one shard.
///
/// Lives on: owner shard.
#[derive(Debug)]
pub struct Watchers {
    limit: u32,
    places: Vec<Watcher>,
    free: u32,
    count: u32,
    by_key: HashMap<WatchedKey, Ends>,
    by_session: HashMap<SessionId, Ends>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self::new(WATCHERS_MAX)
    }
}

impl Watchers {
    /// Makes an empty table for at most `limit` watchers.
    ///
    /// # Panics
    /// When `limit` is above [`WATCHERS_MAX`].
    pub fn new(limit: u32) -> Self {
        assert!(limit <= WATCHERS_MAX);
        Self {
            limit,
            // Reserved at once, so that nothing is copied while requests wait; the pages are
            // untouched until used. Keys and sessions grow with the waiting.
            places: Vec::with_capacity(limit as usize),
            free: NONE,
            count: 0,
            by_key: HashMap::new(),
            by_session: HashMap::new(),
        }
    }

    /// Registers a get of `session` that waits for a key; `token` is given back when it is woken.
    ///
    /// # Errors
    /// [`WatchersFull`] when the table holds its limit: answer `Busy`.
    ///
    /// # Panics
    /// When a free place is in use, which is a bug of this table.
    pub fn register(
        &mut self,
        tenant: TenantId,
        hash: KeyHash,
        session: SessionId,
        token: u64,
    ) -> Result<WatcherId, WatchersFull> {
        if self.count == self.limit {
            return Err(WatchersFull { limit: self.limit });
        }
        let key = WatchedKey { tenant, hash };
        let place = self.take_place();
        let watcher = &mut self.places[place as usize];
        assert!(!watcher.is_waiting);
        watcher.key = key;
        watcher.session = session;
        watcher.token = token;
        watcher.is_waiting = true;
        let id = WatcherId {
            place,
            generation: watcher.generation,
        };
        self.append(place, Chain::Key);
        self.append(place, Chain::Session);
        self.count += 1;
        Ok(id)
    }

    /// Returns whether anybody waits for a key.
    pub fn is_watched(&self, tenant: TenantId, hash: KeyHash) -> bool {
        self.count > 0 && self.by_key.contains_key(&WatchedKey { tenant, hash })
    }

    /// Wakes watchers of a key, oldest first, at most `limit` of them, into `woken`; returns
    /// whether more are waiting for that key (call again after a yield).
    pub fn wake(
        &mut self,
        tenant: TenantId,
        hash: KeyHash,
        limit: u32,
        woken: &mut Vec<Woken>,
    ) -> bool {
        if self.count == 0 {
            return false;
        }
        let key = WatchedKey { tenant, hash };
        for _ in 0..limit {
            let Some(ends) = self.by_key.get(&key) else {
                return false;
            };
            let place = ends.head;
            let watcher = self.places[place as usize];
            let id = WatcherId {
                place,
                generation: watcher.generation,
            };
            woken.push(Woken {
                session: watcher.session,
                token: watcher.token,
                id,
            });
            self.free_place(place);
        }
        self.by_key.contains_key(&key)
    }

    /// Frees one watcher (its deadline passed, or its request was cancelled); returns its token,
    /// or `None` when it is gone already.
    pub fn cancel(&mut self, id: WatcherId) -> Option<u64> {
        let watcher = self.places.get(id.place as usize)?;
        if !watcher.is_waiting || watcher.generation != id.generation {
            return None;
        }
        let token = watcher.token;
        self.free_place(id.place);
        Some(token)
    }

    /// Frees watchers of a session that is gone, at most `limit` of them; returns whether more are
    /// left (call again after a yield).
    pub fn drop_session(&mut self, session: SessionId, limit: u32) -> bool {
        for _ in 0..limit {
            let Some(ends) = self.by_session.get(&session) else {
                return false;
            };
            self.free_place(ends.head);
        }
        self.by_session.contains_key(&session)
    }

    /// Returns the number of watchers.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Returns whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn take_place(&mut self) -> u32 {
        if self.free != NONE {
            let place = self.free;
            self.free = self.places[place as usize].hooks[0].next;
            return place;
        }
        let place = u32::try_from(self.places.len()).expect("there are at most 65,536 places");
        assert!(place < self.limit);
        self.places.push(Watcher {
            key: WatchedKey {
                tenant: TenantId(0),
                hash: KeyHash { hi: 0, lo: 0 },
            },
            session: SessionId(0),
            token: 0,
            generation: 0,
            is_waiting: false,
            hooks: [Hooks {
                prev: NONE,
                next: NONE,
            }; 2],
        });
        place
    }

    fn free_place(&mut self, place: u32) {
        self.unlink(place, Chain::Key);
        self.unlink(place, Chain::Session);
        let watcher = &mut self.places[place as usize];
        assert!(watcher.is_waiting);
        watcher.is_waiting = false;
        watcher.generation = watcher.generation.wrapping_add(1);
        watcher.hooks[0].next = self.free;
        self.free = place;
        self.count -= 1;
    }

    fn append(&mut self, place: u32, chain: Chain) {
        let watcher = self.places[place as usize];
        let lone = Ends {
            head: place,
            tail: place,
        };
        let ends = match chain {
            Chain::Key => self.by_key.entry(watcher.key).or_insert(lone),
            Chain::Session => self.by_session.entry(watcher.session).or_insert(lone),
        };
        let prev = if ends.tail == place { NONE } else { ends.tail };
        ends.tail = place;
        self.places[place as usize].hooks[chain as usize] = Hooks { prev, next: NONE };
        if prev != NONE {
            self.places[prev as usize].hooks[chain as usize].next = place;
        }
    }

    fn unlink(&mut self, place: u32, chain: Chain) {
        let watcher = self.places[place as usize];
        let Hooks { prev, next } = watcher.hooks[chain as usize];
        if prev != NONE {
            self.places[prev as usize].hooks[chain as usize].next = next;
        }
        if next != NONE {
            self.places[next as usize].hooks[chain as usize].prev = prev;
        }
        if prev != NONE && next != NONE {
            return;
        }
        let (key, session) = (watcher.key, watcher.session);
        if prev == NONE && next == NONE {
            let removed = match chain {
                Chain::Key => self.by_key.remove(&key),
                Chain::Session => self.by_session.remove(&session),
            };
            assert!(removed.is_some_and(|ends| ends.head == place && ends.tail == place));
            return;
        }
        let ends = match chain {
            Chain::Key => self.by_key.get_mut(&key),
            Chain::Session => self.by_session.get_mut(&session),
        }
        .expect("a watcher's lists exist while it waits");
        if prev == NONE {
            ends.head = next;
        } else {
            ends.tail = prev;
        }
    }

    /// Checks that every watcher is on both of its lists and counted once; O(n).
    ///
    /// # Panics
    /// When one is not.
    pub fn check_invariants(&self) {
        for (chain, lists) in [
            (
                Chain::Key,
                self.by_key.values().copied().collect::<Vec<_>>(),
            ),
            (Chain::Session, self.by_session.values().copied().collect()),
        ] {
            let mut count = 0;
            for ends in lists {
                let (mut at, mut prev) = (ends.head, NONE);
                while at != NONE {
                    let watcher = &self.places[at as usize];
                    assert!(watcher.is_waiting, "a free place is on a list");
                    assert_eq!(watcher.hooks[chain as usize].prev, prev);
                    count += 1;
                    assert!(count <= self.count, "more watchers on lists than counted");
                    (prev, at) = (at, watcher.hooks[chain as usize].next);
                }
                assert_eq!(ends.tail, prev);
            }
            assert_eq!(count, self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chariot_base::{Random, SplitMix64};

    use super::*;

    const TENANT: TenantId = TenantId(0);

    fn key(number: u64) -> KeyHash {
        KeyHash {
            hi: number,
            lo: !number,
        }
    }

    fn tokens(watchers: &mut Watchers, tenant: TenantId, hash: KeyHash) -> Vec<u64> {
        let mut woken = Vec::new();
        assert!(!watchers.wake(tenant, hash, u32::MAX, &mut woken));
        woken.iter().map(|woken| woken.token).collect()
    }

    #[test]
    fn insert_wakes_watchers_of_that_key_and_tenant_in_order() {
        let mut watchers = Watchers::new(8);
        for token in 1..=3 {
            watchers
                .register(TENANT, key(1), SessionId(token), token)
                .unwrap();
        }
        watchers.register(TENANT, key(2), SessionId(1), 4).unwrap();
        watchers
            .register(TenantId(1), key(1), SessionId(9), 5)
            .unwrap();
        assert_eq!(tokens(&mut watchers, TENANT, key(1)), [1, 2, 3]);
        assert_eq!(tokens(&mut watchers, TENANT, key(1)), [0_u64; 0]);
        assert_eq!(watchers.len(), 2);
        assert_eq!(tokens(&mut watchers, TenantId(1), key(1)), [5]);
        watchers.check_invariants();
    }

    #[test]
    fn wake_and_drop_session_stop_at_their_limit_and_go_on() {
        let mut watchers = Watchers::new(64);
        for token in 0..10 {
            watchers
                .register(TENANT, key(1), SessionId(1), token)
                .unwrap();
            watchers
                .register(TENANT, key(token + 10), SessionId(2), token)
                .unwrap();
        }
        let mut woken = Vec::new();
        assert!(watchers.wake(TENANT, key(1), 4, &mut woken));
        assert!(!watchers.wake(TENANT, key(1), 6, &mut woken));
        assert!(woken.iter().map(|woken| woken.token).eq(0..10));
        assert!(watchers.drop_session(SessionId(2), 9));
        assert!(!watchers.drop_session(SessionId(2), 9));
        assert!(watchers.is_empty());
        watchers.check_invariants();
    }

    #[test]
    fn full_table_refuses_and_takes_again_after_a_cancel() {
        let mut watchers = Watchers::default();
        let ids: Vec<_> = (0..u64::from(WATCHERS_MAX))
            .map(|n| {
                watchers
                    .register(TENANT, key(n % 1000), SessionId(n % 7), n)
                    .unwrap()
            })
            .collect();
        let full = watchers
            .register(TENANT, key(1), SessionId(1), 0)
            .unwrap_err();
        assert_eq!(full, WatchersFull { limit: 65_536 });
        assert_eq!(watchers.cancel(ids[77]), Some(77));
        assert_eq!(watchers.cancel(ids[77]), None);
        let again = watchers.register(TENANT, key(1), SessionId(1), 5).unwrap();
        assert_eq!(again.place, ids[77].place);
        assert_eq!(
            watchers.cancel(ids[77]),
            None,
            "a late cancel never hits a stranger"
        );
        watchers.check_invariants();
    }

    #[test]
    fn cancel_of_an_unknown_id_is_nothing() {
        let mut watchers = Watchers::new(1);
        assert_eq!(
            watchers.cancel(WatcherId {
                place: 0,
                generation: 0
            }),
            None
        );
        assert_eq!(
            watchers.cancel(WatcherId {
                place: 99,
                generation: 0
            }),
            None
        );
    }

    #[test]
    fn watchers_agree_with_plain_list() {
        for seed in 0..10 {
            let mut random = SplitMix64::new(seed);
            let mut watchers = Watchers::new(40);
            let mut model: BTreeMap<u64, (u64, u64, WatcherId)> = BTreeMap::new();
            for token in 0..3_000 {
                let (hash, session) = (random.below(8), random.below(5));
                match random.below(12) {
                    0 => {
                        watchers.drop_session(SessionId(session), u32::MAX);
                        model.retain(|_, (_, of, _)| *of != session);
                    },
                    1 | 2 => {
                        let woken = tokens(&mut watchers, TENANT, key(hash));
                        let waiting = model.iter().filter(|(_, (of, ..))| *of == hash);
                        assert!(
                            woken.iter().eq(waiting.map(|(token, _)| token)),
                            "seed {seed}"
                        );
                        model.retain(|_, (of, ..)| *of != hash);
                    },
                    3 => {
                        let first = model.pop_first();
                        let cancelled = first.and_then(|(_, (.., id))| watchers.cancel(id));
                        assert_eq!(cancelled, first.map(|(token, _)| token));
                    },
                    _ => match watchers.register(TENANT, key(hash), SessionId(session), token) {
                        Ok(id) => drop(model.insert(token, (hash, session, id))),
                        Err(full) => assert_eq!((full.limit as usize, model.len()), (40, 40)),
                    },
                }
                assert_eq!(watchers.len() as usize, model.len());
                watchers.check_invariants();
            }
        }
    }

    #[test]
    #[should_panic(expected = "a free place is on a list")]
    fn checker_finds_a_free_place_on_a_list() {
        let mut watchers = Watchers::new(2);
        let id = watchers.register(TENANT, key(1), SessionId(1), 1).unwrap();
        watchers.places[id.place as usize].is_waiting = false;
        watchers.check_invariants();
    }
}
