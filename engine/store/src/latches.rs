//! Latches of objects: shared or exclusive, first come first served, with deadlines.
//!
//! ```text
//!   take ─ free and nobody before ─▶ held ─ release, end of the session ─▶ gone
//!     └── else ─▶ waiting ─ its turn ─▶ held
//!                    └── deadline, release, end of the session ─▶ gone
//! ```
//! A latch has the number that its session gave it: the same number releases it or ends its wait.
//! A wait is answered exactly once: by [`Latches::take_granted`], by [`Latches::take_expired`], or
//! by whoever released it. A shared request behind a waiting exclusive one waits too, so that
//! writers do not starve; a session that holds a latch and asks for it again waits like everybody.
//!
//! Bounds: [`LATCHES_MAX`] held and waiting, of one tenant on one shard, of which a session has at
//! most as many as are free, and [`LATCHES_PER_KEY_MAX`] of one key, because a key's are looked
//! through one by one. Lives on: owner shard. Pure: time is passed in.

use std::collections::{BTreeMap, VecDeque};

use chariot_base::SessionId;
use chariot_proto::KeyHash;
use hashbrown::HashMap;

use crate::limits::{LATCHES_MAX, LATCHES_PER_KEY_MAX};
use crate::share::may_take;

/// Who else may hold the latch of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LatchKind {
    /// Others that hold it shared.
    Shared,
    /// Nobody.
    Exclusive,
}

/// One latch, held or asked for.
///
/// Lives on: owner shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latch {
    /// The key.
    pub hash: KeyHash,
    /// Whose it is.
    pub session: SessionId,
    /// The session's number of it.
    pub number: u64,
    /// Shared or exclusive.
    pub kind: LatchKind,
    /// Monotonic nanoseconds until which it waits.
    pub deadline_ns: u64,
    /// What the caller needs to answer the request.
    pub token: u64,
    /// When it was asked for, monotonic nanoseconds; for the caller.
    pub taken_ns: u64,
}

/// What became of a request for a latch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is held.
    Held,
    /// It waits; the answer comes later.
    Waiting,
    /// The table is full, or the key's part of it.
    Full,
    /// The session has a latch of that number on the key already.
    Known,
}

/// What a session's latch of a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Held.
    Held,
    /// Waiting; the token that it had.
    Waiting(u64),
    /// There is none.
    No,
}

/// What a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// A latch that was held.
    Held,
    /// A wait, to be answered by the caller.
    Waiting(Latch),
    /// The session has no such latch.
    Unknown,
}

#[derive(Debug, Default)]
struct KeyLatches {
    held: Vec<Latch>,
    waiting: VecDeque<(u64, Latch)>,
}

impl KeyLatches {
    fn admits(&self, kind: LatchKind) -> bool {
        match kind {
            LatchKind::Exclusive => self.held.is_empty(),
            LatchKind::Shared => self.held.iter().all(|held| held.kind == LatchKind::Shared),
        }
    }
}

/// A session's latches: on which keys how many, and all of them.
#[derive(Debug, Default)]
struct OfSession {
    /// In order, because the first one is taken out again and again when the session ends.
    keys: BTreeMap<KeyHash, u32>,
    count: u32,
}

/// The latches of one tenant on one shard.
///
/// Lives on: owner shard.
#[derive(Debug, Default)]
pub struct Latches {
    by_key: HashMap<KeyHash, KeyLatches>,
    by_session: HashMap<SessionId, OfSession>,
    by_deadline: BTreeMap<(u64, u64), KeyHash>,
    granted: Vec<Latch>,
    count: u32,
    order: u64,
}

impl Latches {
    /// Asks for a latch.
    pub fn take(&mut self, latch: Latch) -> Taken {
        let own = self.by_session.get(&latch.session);
        let own = own.map_or(0, |of_session| of_session.count as usize);
        if !may_take(own, self.count as usize, LATCHES_MAX as usize) {
            return Taken::Full;
        }
        let key = self.by_key.entry(latch.hash).or_default();
        let is_same =
            |other: &Latch| other.session == latch.session && other.number == latch.number;
        if key.held.iter().any(is_same) || key.waiting.iter().any(|(_, other)| is_same(other)) {
            return Taken::Known;
        }
        if key.held.len() + key.waiting.len() >= LATCHES_PER_KEY_MAX {
            return Taken::Full;
        }
        let taken = if key.waiting.is_empty() && key.admits(latch.kind) {
            key.held.push(latch);
            Taken::Held
        } else {
            self.order += 1;
            key.waiting.push_back((self.order, latch));
            self.by_deadline
                .insert((latch.deadline_ns, self.order), latch.hash);
            Taken::Waiting
        };
        self.count += 1;
        let of_session = self.by_session.entry(latch.session).or_default();
        of_session.count += 1;
        *of_session.keys.entry(latch.hash).or_default() += 1;
        taken
    }

    /// Gives a session's waiting latch another token, and says what it is.
    pub fn set_token(
        &mut self,
        hash: KeyHash,
        session: SessionId,
        number: u64,
        token: u64,
    ) -> Known {
        let Some(key) = self.by_key.get_mut(&hash) else {
            return Known::No;
        };
        let is_same = |other: &Latch| other.session == session && other.number == number;
        if key.held.iter().any(is_same) {
            return Known::Held;
        }
        let waiting = key.waiting.iter_mut().find(|(_, other)| is_same(other));
        match waiting {
            Some((_, latch)) => Known::Waiting(std::mem::replace(&mut latch.token, token)),
            None => Known::No,
        }
    }

    /// Returns how many wait.
    pub fn waiting(&self) -> usize {
        self.by_deadline.len()
    }

    /// Returns whether a request for a latch would have it without waiting.
    pub fn is_free(&self, hash: KeyHash, kind: LatchKind) -> bool {
        self.by_key
            .get(&hash)
            .is_none_or(|key| key.waiting.is_empty() && key.admits(kind))
    }

    /// Releases a latch, or ends its wait.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn release(&mut self, hash: KeyHash, session: SessionId, number: u64) -> Released {
        let Some(key) = self.by_key.get_mut(&hash) else {
            return Released::Unknown;
        };
        let is_same = |other: &Latch| other.session == session && other.number == number;
        if let Some(index) = key.held.iter().position(is_same) {
            let latch = key.held.swap_remove(index);
            self.forget(&latch);
            self.advance(hash);
            return Released::Held;
        }
        let Some(index) = key.waiting.iter().position(|(_, other)| is_same(other)) else {
            return Released::Unknown;
        };
        let (order, latch) = key.waiting.remove(index).expect("just found");
        self.by_deadline.remove(&(latch.deadline_ns, order));
        self.forget(&latch);
        self.advance(hash);
        Released::Waiting(latch)
    }

    /// Releases what a session that ended has on one key, and says how many latches that were; its
    /// waits need no answer. `None`: it has nothing more.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn drop_next(&mut self, session: SessionId) -> Option<u32> {
        let of_session = self.by_session.get_mut(&session)?;
        let first = of_session.keys.pop_first();
        let (hash, of_key) = first.expect("it has a latch");
        of_session.count -= of_key;
        if of_session.keys.is_empty() {
            self.by_session.remove(&session);
        }
        let key = self.by_key.get_mut(&hash).expect("counted by session");
        let before = key.held.len() + key.waiting.len();
        key.held.retain(|held| held.session != session);
        let by_deadline = &mut self.by_deadline;
        key.waiting.retain(|(order, latch)| {
            let stays = latch.session != session;
            if !stays {
                by_deadline.remove(&(latch.deadline_ns, *order));
            }
            stays
        });
        let gone = before - key.held.len() - key.waiting.len();
        assert_eq!(gone, of_key as usize, "latches of a session and key");
        self.count -= of_key;
        self.advance(hash);
        Some(of_key)
    }

    /// Releases everything of a session that ended.
    #[cfg(test)]
    fn drop_session(&mut self, session: SessionId) {
        while self.drop_next(session).is_some() {}
        self.granted.retain(|latch| latch.session != session);
    }

    /// Takes out one that is held since its turn came: answer it.
    pub fn take_granted(&mut self) -> Option<Latch> {
        self.granted.pop()
    }

    /// Takes out one whose wait is over without the latch.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn take_expired(&mut self, now_ns: u64) -> Option<Latch> {
        let (&(deadline_ns, order), &hash) = self.by_deadline.first_key_value()?;
        if deadline_ns > now_ns {
            return None;
        }
        self.by_deadline.remove(&(deadline_ns, order));
        let key = self.by_key.get_mut(&hash).expect("a waiting latch");
        let index = key.waiting.iter().position(|waiter| waiter.0 == order);
        let (_, latch) = key
            .waiting
            .remove(index.expect("waits until its deadline"))
            .expect("just found");
        self.forget(&latch);
        // Whoever stood behind it may be next.
        self.advance(hash);
        Some(latch)
    }

    /// Returns when the next wait ends.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.by_deadline.first_key_value().map(|(key, _)| key.0)
    }

    /// Returns how many are held and waiting.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Returns whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes a latch that left the table out of the counts.
    fn forget(&mut self, latch: &Latch) {
        self.count -= 1;
        let of_session = self
            .by_session
            .get_mut(&latch.session)
            .expect("it has a latch");
        of_session.count -= 1;
        let of_key = of_session.keys.get_mut(&latch.hash);
        let of_key = of_key.expect("of this key");
        *of_key -= 1;
        if *of_key == 0 {
            of_session.keys.remove(&latch.hash);
        }
        if of_session.keys.is_empty() {
            self.by_session.remove(&latch.session);
        }
    }

    /// Lets those have the latch whose turn it is.
    fn advance(&mut self, hash: KeyHash) {
        let Some(key) = self.by_key.get_mut(&hash) else {
            return;
        };
        while let Some(&(order, latch)) = key.waiting.front()
            && key.admits(latch.kind)
        {
            key.waiting.pop_front();
            key.held.push(latch);
            self.by_deadline.remove(&(latch.deadline_ns, order));
            self.granted.push(latch);
        }
        if key.held.is_empty() && key.waiting.is_empty() {
            self.by_key.remove(&hash);
        }
    }

    /// Checks that the tables agree; O(n). For tests.
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let (mut count, mut waiting) = (0, 0);
        for key in self.by_key.values() {
            assert!(!key.held.is_empty(), "somebody holds what others wait for");
            let exclusive = key
                .held
                .iter()
                .any(|held| held.kind == LatchKind::Exclusive);
            assert!(!exclusive || key.held.len() == 1, "exclusive means alone");
            if let Some((_, next)) = key.waiting.front() {
                assert!(!key.admits(next.kind), "the next one could have it");
            }
            count += key.held.len() + key.waiting.len();
            waiting += key.waiting.len();
        }
        assert_eq!(count, self.count as usize);
        assert_eq!(waiting, self.by_deadline.len());
        let by_session: u32 = self.by_session.values().map(|one| one.count).sum();
        assert_eq!(by_session, self.count);
        for one in self.by_session.values() {
            assert_eq!(one.keys.values().sum::<u32>(), one.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use chariot_base::{Random as _, SplitMix64};

    use super::*;

    const KEY: KeyHash = KeyHash { hi: 1, lo: 2 };

    fn latch(session: u64, number: u64, kind: LatchKind) -> Latch {
        Latch {
            hash: KEY,
            session: SessionId(session),
            number,
            kind,
            deadline_ns: 100 + number,
            token: number,
            taken_ns: 0,
        }
    }

    #[test]
    fn readers_share_and_a_waiting_writer_goes_before_later_readers() {
        let mut latches = Latches::default();
        assert_eq!(latches.take(latch(1, 1, LatchKind::Shared)), Taken::Held);
        assert_eq!(latches.take(latch(2, 2, LatchKind::Shared)), Taken::Held);
        assert_eq!(latches.take(latch(2, 2, LatchKind::Shared)), Taken::Known);
        assert_eq!(
            latches.take(latch(3, 3, LatchKind::Exclusive)),
            Taken::Waiting
        );
        assert_eq!(latches.take(latch(4, 4, LatchKind::Shared)), Taken::Waiting);
        latches.drop_session(SessionId(1));
        assert_eq!(latches.take_granted(), None);
        assert_eq!(latches.release(KEY, SessionId(2), 2), Released::Held);
        assert_eq!(latches.take_granted().unwrap().number, 3);
        assert_eq!(latches.take_granted(), None);
        latches.drop_session(SessionId(3));
        assert_eq!(latches.take_granted().unwrap().number, 4);
        assert_eq!(latches.release(KEY, SessionId(9), 4), Released::Unknown);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_lets_others_pass() {
        let mut latches = Latches::default();
        latches.take(latch(1, 1, LatchKind::Shared));
        latches.take(latch(2, 2, LatchKind::Exclusive));
        latches.take(latch(3, 3, LatchKind::Shared));
        assert_eq!(latches.take_expired(101), None);
        assert_eq!(latches.take_expired(102).unwrap().number, 2);
        assert_eq!(latches.take_granted().unwrap().number, 3);
        assert_eq!(latches.next_deadline_ns(), None);
        latches.check_invariants();
    }

    #[test]
    fn a_full_key_refuses_and_others_do_not() {
        let mut latches = Latches::default();
        let of_key = u64::try_from(LATCHES_PER_KEY_MAX).unwrap();
        for number in 0..of_key {
            let taken = latches.take(latch(1, number, LatchKind::Shared));
            assert_eq!(taken, Taken::Held);
        }
        let late = latch(2, of_key, LatchKind::Shared);
        assert_eq!(latches.take(late), Taken::Full);
        latches.check_invariants();
        let hash = KeyHash { hi: 9, lo: 9 };
        assert_eq!(latches.take(Latch { hash, ..late }), Taken::Held);
        assert_eq!(latches.release(KEY, SessionId(1), 0), Released::Held);
        assert_eq!(latches.take(late), Taken::Held);
        latches.check_invariants();
    }

    #[test]
    fn one_session_has_half_of_the_table_and_another_finds_room() {
        let mut latches = Latches::default();
        let mut fill = |session: u64| {
            let mut number = 0;
            loop {
                let hash = KeyHash {
                    hi: session,
                    lo: number,
                };
                let one = latch(session, number, LatchKind::Exclusive);
                match latches.take(Latch { hash, ..one }) {
                    Taken::Held => number += 1,
                    Taken::Full => break number,
                    other => panic!("{other:?}"),
                }
            }
        };
        assert_eq!(fill(1), u64::from(LATCHES_MAX) / 2);
        assert_eq!(fill(2), u64::from(LATCHES_MAX) / 4);
        latches.check_invariants();
        latches.drop_session(SessionId(1));
        latches.drop_session(SessionId(2));
        assert!(latches.is_empty());
    }

    #[test]
    fn a_wait_keeps_its_turn_under_another_token() {
        let mut latches = Latches::default();
        latches.take(latch(1, 1, LatchKind::Exclusive));
        latches.take(latch(2, 2, LatchKind::Exclusive));
        latches.take(latch(3, 3, LatchKind::Exclusive));
        let (one, two) = (SessionId(1), SessionId(2));
        assert_eq!(latches.set_token(KEY, one, 1, 9), Known::Held);
        assert_eq!(latches.set_token(KEY, two, 2, 77), Known::Waiting(2));
        assert_eq!(latches.set_token(KEY, two, 3, 77), Known::No);
        assert_eq!(latches.waiting(), 2);
        latches.release(KEY, one, 1);
        assert_eq!(latches.take_granted().unwrap().token, 77);
        latches.check_invariants();
    }

    #[test]
    fn a_latch_is_free_when_it_would_be_held_at_once() {
        let mut latches = Latches::default();
        assert!(latches.is_free(KEY, LatchKind::Exclusive));
        latches.take(latch(1, 1, LatchKind::Shared));
        assert!(latches.is_free(KEY, LatchKind::Shared));
        assert!(!latches.is_free(KEY, LatchKind::Exclusive));
        latches.take(latch(2, 2, LatchKind::Exclusive));
        assert!(!latches.is_free(KEY, LatchKind::Shared), "a writer waits");
        latches.drop_session(SessionId(1));
        assert!(!latches.is_free(KEY, LatchKind::Shared), "a writer holds");
        latches.drop_session(SessionId(2));
        assert!(latches.is_free(KEY, LatchKind::Exclusive));
    }

    /// The model's rule: those in front that agree with each other hold it. Says how many are new.
    fn hold_in_front(list: &mut [(Latch, bool)]) -> u32 {
        let mut granted = 0;
        for index in 0..list.len() {
            let (one, held) = list[index];
            if held {
                continue;
            }
            let mut holders = list.iter().filter(|other| other.1);
            let fits = match one.kind {
                LatchKind::Shared => holders.all(|(other, _)| other.kind == LatchKind::Shared),
                LatchKind::Exclusive => holders.next().is_none(),
            };
            if !fits {
                break;
            }
            list[index].1 = true;
            granted += 1;
        }
        granted
    }

    #[test]
    fn random_use_agrees_with_a_plain_list() {
        let mut random = SplitMix64::new(41);
        let mut latches = Latches::default();
        // The model: per key, everybody in the order of arrival, with whether it is held.
        let mut model: BTreeMap<u64, Vec<(Latch, bool)>> = BTreeMap::new();
        for number in 0..20_000 {
            let hash = KeyHash {
                hi: 0,
                lo: random.next_u64() % 3,
            };
            let session = SessionId(random.next_u64() % 4);
            let list = model.entry(hash.lo).or_default();
            match random.next_u64() % 8 {
                0..=2 if latches.len() < 64 => {
                    let kind = if random.next_u64().is_multiple_of(3) {
                        LatchKind::Exclusive
                    } else {
                        LatchKind::Shared
                    };
                    let one = Latch {
                        hash,
                        session,
                        number,
                        kind,
                        deadline_ns: number + 50,
                        token: number,
                        taken_ns: 0,
                    };
                    latches.take(one);
                    list.push((one, false));
                },
                3..=6 if !list.is_empty() => {
                    let index = usize::try_from(random.next_u64()).unwrap() % list.len();
                    let (one, held) = list.remove(index);
                    let released = latches.release(one.hash, one.session, one.number);
                    let expected = if held {
                        Released::Held
                    } else {
                        Released::Waiting(one)
                    };
                    assert_eq!(released, expected);
                },
                7 if number % 97 == 0 => {
                    latches.drop_session(session);
                    for list in model.values_mut() {
                        list.retain(|(one, _)| one.session != session);
                    }
                },
                _ => {
                    while let Some(late) = latches.take_expired(number) {
                        let list = model.get_mut(&late.hash.lo).unwrap();
                        let index = list.iter().position(|(one, _)| *one == late).unwrap();
                        assert!(!list.remove(index).1, "held latches do not expire");
                    }
                },
            }
            let mut granted: u32 = model.values_mut().map(|list| hold_in_front(list)).sum();
            while latches.take_granted().is_some() {
                granted -= 1;
            }
            assert!(
                granted == 0 || granted == 1,
                "at most the one just taken is held at once"
            );
            latches.check_invariants();
        }
    }
}
