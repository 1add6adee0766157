//! Transactions over several keys: who has reserved which key, and who decides.
//!
//! ```text
//!   coordinator          participants (the shards of the keys)
//!   begin: open  ◀────── client
//!                        reserve: the value is stored, hidden   ◀── client, each key
//!   commit ─────────────▶ reveal ─── acknowledge ─▶ answered
//!   abort  ─────────────▶ remove
//!   inquire ◀──────────── deadline over, or the client is gone
//! ```
//! Only the coordinator decides. A participant whose time is over, or whose client died, asks it
//! and never undoes by itself: a transaction that is open is aborted by the question, one that is
//! being committed is not. So all participants do the same, whatever dies between two messages.
//!
//! Bounds: [`RESERVED_MAX`] keys, [`OPEN_MAX`] transactions, of one tenant on one shard; of either
//! a session has at most as many as are free. Lives on: owner shard. Pure: time is passed in.

use std::collections::BTreeSet;

use chariot_base::{SessionId, ShardId};
use chariot_proto::KeyHash;
use hashbrown::HashMap;

use crate::limits::{OPEN_MAX, RESERVED_MAX};
use crate::share::may_take;

/// Names a transaction while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TxId {
    /// Number of the client's session.
    pub session: u64,
    /// The session's number of it.
    pub number: u16,
}

/// Why a key was not reserved, or a transaction not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxRefused {
    /// The same transaction has it, or its number is in use.
    Own,
    /// Another transaction has the key.
    Other,
    /// The table is full.
    Full,
}

/// A key that is reserved, and when its value is to expire (coarse milliseconds, 0 = never).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// The key.
    pub hash: KeyHash,
    /// When its value expires once it is revealed.
    pub expiry_ms: u64,
}

#[derive(Debug)]
struct Part {
    coordinator: ShardId,
    deadline_ns: u64,
    keys: Vec<Reserved>,
}

/// The keys that transactions have reserved: the participant's side.
///
/// Lives on: owner shard.
#[derive(Debug, Default)]
pub struct Reservations {
    by_key: HashMap<KeyHash, TxId>,
    /// Keys that each session has reserved.
    by_session: HashMap<u64, usize>,
    parts: HashMap<TxId, Part>,
    /// Those that have not been asked about yet.
    by_deadline: BTreeSet<(u64, TxId)>,
}

impl Reservations {
    /// Returns whether a key may be reserved by `tx`.
    ///
    /// # Errors
    /// [`TxRefused`].
    pub fn check(&self, tx: TxId, hash: KeyHash) -> Result<(), TxRefused> {
        match self.by_key.get(&hash) {
            Some(owner) if *owner == tx => Err(TxRefused::Own),
            Some(_) => Err(TxRefused::Other),
            None => {
                let own = self.by_session.get(&tx.session).copied().unwrap_or(0);
                if may_take(own, self.by_key.len(), RESERVED_MAX) {
                    Ok(())
                } else {
                    Err(TxRefused::Full)
                }
            },
        }
    }

    /// Reserves a key. Coordinator and deadline are those of the transaction's first key here.
    ///
    /// # Panics
    /// When [`Self::check`] refuses it.
    pub fn reserve(&mut self, tx: TxId, coordinator: ShardId, deadline_ns: u64, key: Reserved) {
        assert_eq!(self.check(tx, key.hash), Ok(()));
        self.by_key.insert(key.hash, tx);
        *self.by_session.entry(tx.session).or_default() += 1;
        let by_deadline = &mut self.by_deadline;
        let part = self.parts.entry(tx).or_insert_with(|| {
            by_deadline.insert((deadline_ns, tx));
            Part {
                coordinator,
                deadline_ns,
                keys: Vec::new(),
            }
        });
        part.keys.push(key);
    }

    /// Returns whether a key is reserved.
    pub fn is_reserved(&self, hash: KeyHash) -> bool {
        self.by_key.contains_key(&hash)
    }

    /// Returns which shard decides a transaction that has keys here.
    pub fn coordinator(&self, tx: TxId) -> Option<ShardId> {
        self.parts.get(&tx).map(|part| part.coordinator)
    }

    /// Takes out a transaction's keys: it is decided.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn finish(&mut self, tx: TxId) -> Vec<Reserved> {
        let Some(part) = self.parts.remove(&tx) else {
            return Vec::new();
        };
        self.by_deadline.remove(&(part.deadline_ns, tx));
        for key in &part.keys {
            let owner = self.by_key.remove(&key.hash);
            assert_eq!(owner, Some(tx), "reserved by it");
        }
        let own = self.by_session.get_mut(&tx.session);
        let own = own.expect("it has reserved keys");
        *own -= part.keys.len();
        if *own == 0 {
            self.by_session.remove(&tx.session);
        }
        part.keys
    }

    /// Takes one whose time is over, once: ask its coordinator.
    pub fn take_overdue(&mut self, now_ns: u64) -> Option<(TxId, ShardId)> {
        let &(deadline_ns, tx) = self.by_deadline.first()?;
        if deadline_ns > now_ns {
            return None;
        }
        self.by_deadline.remove(&(deadline_ns, tx));
        Some((tx, self.parts[&tx].coordinator))
    }

    /// Makes all of a session's transactions overdue: its client is gone.
    pub fn drop_session(&mut self, session: SessionId) {
        let by_deadline = &mut self.by_deadline;
        for (tx, part) in &mut self.parts {
            if tx.session == session.0 && by_deadline.remove(&(part.deadline_ns, *tx)) {
                part.deadline_ns = 0;
                by_deadline.insert((0, *tx));
            }
        }
    }

    /// Returns when the next one is overdue.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.by_deadline.first().map(|one| one.0)
    }

    /// Returns how many keys are reserved.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns whether no key is reserved.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Checks that the tables agree; O(n). For tests.
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let keys: usize = self.parts.values().map(|part| part.keys.len()).sum();
        assert_eq!(keys, self.by_key.len());
        assert_eq!(keys, self.by_session.values().sum::<usize>());
        for (deadline_ns, tx) in &self.by_deadline {
            assert_eq!(self.parts[tx].deadline_ns, *deadline_ns);
        }
    }
}

#[derive(Debug)]
enum Decision {
    Open {
        deadline_ns: u64,
    },
    Committing {
        unheard: u64,
        token: u64,
        taken_ns: u64,
    },
}

/// The transactions that this shard decides: the coordinator's side.
///
/// Lives on: owner shard.
#[derive(Debug, Default)]
pub struct Decisions {
    by_tx: HashMap<TxId, Decision>,
}

impl Decisions {
    /// Opens a transaction. One that nobody decided by its deadline makes room for another.
    ///
    /// # Errors
    /// [`TxRefused`]; nothing changed.
    pub fn begin(&mut self, tx: TxId, deadline_ns: u64, now_ns: u64) -> Result<(), TxRefused> {
        if self.by_tx.contains_key(&tx) {
            return Err(TxRefused::Own);
        }
        if self.by_tx.len() >= OPEN_MAX {
            self.by_tx.retain(|_, decision| match decision {
                Decision::Open { deadline_ns } => *deadline_ns > now_ns,
                Decision::Committing { .. } => true,
            });
        }
        // At most 1,024 steps for a request that no other is as rare as: no table of its own.
        let own = self
            .by_tx
            .keys()
            .filter(|other| other.session == tx.session);
        if !may_take(own.count(), self.by_tx.len(), OPEN_MAX) {
            return Err(TxRefused::Full);
        }
        self.by_tx.insert(tx, Decision::Open { deadline_ns });
        Ok(())
    }

    /// Decides to commit, to be told to the shards of a set (one bit each); false when it is not
    /// open: nothing is to be told. Token and time are the caller's, for its answer.
    pub fn commit(&mut self, tx: TxId, shards: u64, token: u64, taken_ns: u64) -> bool {
        match self.by_tx.get_mut(&tx) {
            Some(decision @ Decision::Open { .. }) => {
                *decision = Decision::Committing {
                    unheard: shards,
                    token,
                    taken_ns,
                };
                true
            },
            Some(Decision::Committing { .. }) | None => false,
        }
    }

    /// A shard has revealed its keys; returns token and time of the commit when it was the last
    /// one.
    pub fn acknowledge(&mut self, tx: TxId, shard: ShardId) -> Option<(u64, u64)> {
        let Some(Decision::Committing {
            unheard,
            token,
            taken_ns,
        }) = self.by_tx.get_mut(&tx)
        else {
            return None;
        };
        *unheard &= !(1 << shard.0);
        if *unheard != 0 {
            return None;
        }
        let answer = (*token, *taken_ns);
        self.by_tx.remove(&tx);
        Some(answer)
    }

    /// Decides to abort; false when it is being committed.
    pub fn abort(&mut self, tx: TxId) -> bool {
        match self.by_tx.get(&tx) {
            Some(Decision::Committing { .. }) => false,
            Some(Decision::Open { .. }) | None => {
                self.by_tx.remove(&tx);
                true
            },
        }
    }

    /// Answers a participant: whether it commits. One that is open is aborted by the question.
    pub fn inquire(&mut self, tx: TxId) -> bool {
        !self.abort(tx)
    }

    /// Forgets what a session that ended has not decided.
    pub fn drop_session(&mut self, session: SessionId) {
        self.by_tx.retain(|tx, decision| {
            tx.session != session.0 || matches!(decision, Decision::Committing { .. })
        });
    }

    /// Returns how many are under way.
    pub fn len(&self) -> usize {
        self.by_tx.len()
    }

    /// Returns whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.by_tx.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use chariot_base::{Random as _, SplitMix64};

    use super::*;

    const TX: TxId = TxId {
        session: 7,
        number: 1,
    };

    fn key(lo: u64) -> Reserved {
        Reserved {
            hash: KeyHash { hi: 0, lo },
            expiry_ms: 0,
        }
    }

    #[test]
    fn a_key_has_one_transaction_until_it_is_decided() {
        let mut reservations = Reservations::default();
        let other = TxId { number: 2, ..TX };
        reservations.reserve(TX, ShardId(0), 10, key(1));
        reservations.reserve(TX, ShardId(0), 10, key(2));
        assert_eq!(reservations.check(TX, key(1).hash), Err(TxRefused::Own));
        assert_eq!(
            reservations.check(other, key(1).hash),
            Err(TxRefused::Other)
        );
        assert_eq!(reservations.take_overdue(9), None);
        assert_eq!(reservations.take_overdue(10), Some((TX, ShardId(0))));
        assert_eq!(reservations.take_overdue(99), None, "asked about once");
        assert_eq!(reservations.finish(TX), [key(1), key(2)]);
        assert!(reservations.is_empty());
        assert_eq!(reservations.finish(TX), []);
        reservations.check_invariants();
    }

    #[test]
    fn a_session_that_ends_is_asked_about_at_once() {
        let mut reservations = Reservations::default();
        reservations.reserve(TX, ShardId(3), 1 << 60, key(1));
        reservations.drop_session(SessionId(8));
        assert_eq!(reservations.take_overdue(1), None);
        reservations.drop_session(SessionId(7));
        assert_eq!(reservations.take_overdue(1), Some((TX, ShardId(3))));
        reservations.check_invariants();
    }

    #[test]
    fn a_question_aborts_what_is_open_and_not_what_is_committed() {
        let mut decisions = Decisions::default();
        assert!(!decisions.inquire(TX), "unknown");
        decisions.begin(TX, 10, 0).unwrap();
        assert_eq!(decisions.begin(TX, 10, 0), Err(TxRefused::Own));
        assert!(!decisions.inquire(TX));
        assert!(!decisions.commit(TX, 1, 5, 8), "the question aborted it");
        decisions.begin(TX, 10, 0).unwrap();
        assert!(decisions.commit(TX, 0b101, 5, 8));
        assert!(!decisions.commit(TX, 0b101, 6, 8), "decided once");
        decisions.drop_session(SessionId(7));
        assert!(decisions.inquire(TX), "committed, whoever died");
        assert!(!decisions.abort(TX));
        assert_eq!(decisions.acknowledge(TX, ShardId(0)), None);
        assert_eq!(decisions.acknowledge(TX, ShardId(0)), None);
        assert_eq!(decisions.acknowledge(TX, ShardId(2)), Some((5, 8)));
        assert!(decisions.is_empty());
    }

    #[test]
    fn a_full_table_refuses_until_deadlines_pass() {
        let mut decisions = Decisions::default();
        let mut begun = 0;
        for session in 0..u64::try_from(OPEN_MAX).unwrap() {
            for number in 0..2 {
                let tx = TxId { session, number };
                begun += usize::from(decisions.begin(tx, 10, 0).is_ok());
            }
        }
        assert_eq!(begun, OPEN_MAX);
        let late = TxId {
            session: u64::MAX,
            number: 1,
        };
        assert_eq!(decisions.begin(late, 99, 9), Err(TxRefused::Full));
        assert_eq!(decisions.begin(late, 99, 10), Ok(()));
        assert_eq!(decisions.len(), 1);
    }

    #[test]
    fn one_session_has_half_of_either_table() {
        let (mut decisions, mut reservations) = (Decisions::default(), Reservations::default());
        let mut begun = 0;
        while decisions
            .begin(
                TxId {
                    number: begun,
                    ..TX
                },
                10,
                0,
            )
            .is_ok()
        {
            begun += 1;
        }
        assert_eq!(usize::from(begun), OPEN_MAX / 2);
        let mut reserved = 0;
        while reservations.check(TX, key(reserved).hash).is_ok() {
            reservations.reserve(TX, ShardId(0), 10, key(reserved));
            reserved += 1;
        }
        assert_eq!(usize::try_from(reserved).unwrap(), RESERVED_MAX / 2);
        let other = TxId { session: 8, ..TX };
        assert_eq!(reservations.check(other, key(reserved).hash), Ok(()));
        assert_eq!(decisions.begin(other, 10, 0), Ok(()));
        reservations.check_invariants();
        reservations.finish(TX);
        reservations.check_invariants();
    }

    /// Three shards, messages in any order across pairs, a client that may die at any step and
    /// deadlines that may pass at any step: every key of a transaction ends alike.
    #[test]
    fn all_keys_end_alike_in_every_order_of_messages() {
        for seed in 0..4000 {
            assert!(run(seed, Fault::None), "seed {seed}");
        }
        let broken = (0..4000).any(|seed| !run(seed, Fault::UndoesAlone));
        assert!(
            broken,
            "a participant that undoes by itself must be found out"
        );
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// Participants abort by themselves at the deadline.
        UndoesAlone,
    }

    #[derive(Clone, Copy)]
    enum Message {
        Decide(usize, bool),
        Acknowledge(usize),
        Inquire(usize),
        ClientCommit,
        ClientDeath(usize),
    }

    fn run(seed: u64, fault: Fault) -> bool {
        let mut random = SplitMix64::new(seed);
        let mut decisions = Decisions::default();
        let mut parts: [Reservations; 3] = Default::default();
        let mut outcome: [Option<bool>; 3] = [None; 3];
        decisions.begin(TX, 50, 0).unwrap();
        for part in &mut parts {
            part.reserve(TX, ShardId(0), 50, key(1));
        }
        let mut flying = vec![Message::ClientCommit];
        flying.extend((0..3).map(Message::ClientDeath));
        let mut now_ns = 0;
        while !flying.is_empty() {
            let at = usize::try_from(random.below(flying.len() as u64)).unwrap();
            match flying.swap_remove(at) {
                Message::ClientCommit => {
                    if decisions.commit(TX, 0b111, 1, 1) {
                        flying.extend((0..3).map(|shard| Message::Decide(shard, true)));
                    }
                },
                Message::ClientDeath(shard) => {
                    parts[shard].drop_session(SessionId(7));
                    if shard == 0 {
                        decisions.drop_session(SessionId(7));
                    }
                },
                Message::Decide(shard, commits) => {
                    if !parts[shard].finish(TX).is_empty() {
                        outcome[shard] = Some(commits);
                    }
                    if commits {
                        flying.push(Message::Acknowledge(shard));
                    }
                },
                Message::Acknowledge(shard) => {
                    let shard = ShardId(u16::try_from(shard).unwrap());
                    decisions.acknowledge(TX, shard);
                },
                Message::Inquire(shard) => {
                    let commits = decisions.inquire(TX);
                    flying.push(Message::Decide(shard, commits));
                },
            }
            now_ns += random.below(20);
            for (shard, part) in parts.iter_mut().enumerate() {
                part.check_invariants();
                if part.take_overdue(now_ns).is_none() {
                    continue;
                }
                if fault == Fault::None {
                    flying.push(Message::Inquire(shard));
                    continue;
                }
                part.finish(TX);
                outcome[shard] = Some(false);
            }
        }
        outcome
            .iter()
            .all(|one| one.is_some() && *one == outcome[0])
            && decisions.is_empty()
    }
}
