//! Random calls against a std map and a plain list: exact for `lru`, by rules for `s3fifo`.

use std::collections::{BTreeSet, HashMap, VecDeque};

use chariot_base::Extent;
use chariot_proto::WriteMode;
use proptest::prelude::*;

use super::tests::{entry, key, store};
use super::*;
use crate::limits::TICK_MS;

const KEYS: u64 = 24;
const RECORDS: u32 = 16;

#[derive(Debug, Clone)]
enum Op {
    Insert {
        key: u64,
        len: u64,
        is_kept: bool,
        ttl_ms: u64,
        if_absent: bool,
    },
    Lookup {
        key: u64,
    },
    Remove {
        key: u64,
    },
    SetExpiry {
        key: u64,
        ttl_ms: u64,
    },
    Advance {
        by_ms: u64,
    },
    Evict {
        want_bytes: u64,
    },
    EvictRecords {
        keys: Vec<u64>,
    },
    Note {
        key: u64,
        is_stale: bool,
    },
    Pin {
        key: u64,
    },
    UnpinAll,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..KEYS;
    let ttl_ms = prop_oneof![Just(0_u64), 1..3_000_u64, 1..1_000_000_u64];
    let op = prop_oneof![
        8 => (key.clone(), 1..500_u64, any::<bool>(), ttl_ms.clone(), any::<bool>()).prop_map(
            |(key, len, is_kept, ttl_ms, if_absent)| {
                let is_kept = is_kept && key % 2 == 0;
                Op::Insert { key, len, is_kept, ttl_ms, if_absent }
            }
        ),
        6 => key.clone().prop_map(|key| Op::Lookup { key }),
        2 => key.clone().prop_map(|key| Op::Remove { key }),
        2 => (key.clone(), ttl_ms).prop_map(|(key, ttl_ms)| Op::SetExpiry { key, ttl_ms }),
        1 => (0..50_000_u64).prop_map(|by_ms| Op::Advance { by_ms }),
        3 => (0..900_u64).prop_map(|want_bytes| Op::Evict { want_bytes }),
        1 => prop::collection::vec(key.clone(), 1..3).prop_map(|keys| Op::EvictRecords { keys }),
        2 => (key.clone(), any::<bool>()).prop_map(|(key, is_stale)| Op::Note { key, is_stale }),
        1 => key.prop_map(|key| Op::Pin { key }),
        1 => Just(Op::UnpinAll),
    ];
    prop::collection::vec(op, 1..150)
}

#[derive(Debug, Clone, Copy)]
struct ModelEntry {
    extent: Extent,
    version: u64,
    expiry_ms: u64,
    is_kept: bool,
}

/// Key, offset, reason.
type Gone = (u64, u64, RetireReason);

struct Pair {
    store: Store,
    policy: Policy,
    effects: Effects,
    entries: HashMap<u64, ModelEntry>,
    /// Evictable keys, used last in front. Maintained for `lru` only.
    order: VecDeque<u64>,
    pinned: BTreeSet<u64>,
    expected: Vec<Gone>,
    now_ms: u64,
    next_place: u64,
    last_version: u64,
}

impl Pair {
    fn new(policy: Policy) -> Self {
        Self {
            store: store(policy, RECORDS),
            policy,
            effects: Effects::new(),
            entries: HashMap::new(),
            order: VecDeque::new(),
            pinned: BTreeSet::new(),
            expected: Vec::new(),
            now_ms: 1_000,
            next_place: 0,
            last_version: 0,
        }
    }

    fn live(&self, key: u64) -> Option<ModelEntry> {
        let entry = self.entries.get(&key).copied()?;
        (!is_expired(entry.expiry_ms, self.now_ms)).then_some(entry)
    }

    fn touch(&mut self, key: u64) {
        if let Some(at) = self.order.iter().position(|&other| other == key) {
            self.order.remove(at);
            self.order.push_front(key);
        }
    }

    fn forget(&mut self, key: u64, reason: RetireReason) {
        let entry = self.entries.remove(&key).unwrap();
        self.order.retain(|&other| other != key);
        self.expected.push((key, entry.extent.offset, reason));
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Insert {
                key,
                len,
                is_kept,
                ttl_ms,
                if_absent,
            } => {
                let new = NewEntry {
                    expiry_ms: self.until(ttl_ms),
                    write_mode: if is_kept {
                        WriteMode::None
                    } else {
                        WriteMode::NoneEvict
                    },
                    set_if_absent: if_absent,
                    ..entry(self.next_place, len)
                };
                self.next_place += 1;
                self.insert(key, &new);
            },
            Op::Lookup { key } => self.lookup(key),
            Op::Remove { key } => self.remove(key),
            Op::SetExpiry { key, ttl_ms } => self.set_expiry(key, ttl_ms),
            Op::Advance { by_ms } => self.advance(by_ms),
            Op::Evict { want_bytes } => self.evict(want_bytes),
            Op::EvictRecords { ref keys } => self.evict_records(keys),
            Op::Note { key, is_stale } => self.note(key, is_stale),
            Op::Pin { key } => {
                let entry = self.entries.get(&key);
                self.pinned.extend(entry.map(|entry| entry.extent.offset));
            },
            Op::UnpinAll => self.pinned.clear(),
        }
        self.settle(op);
    }

    fn until(&self, ttl_ms: u64) -> u64 {
        if ttl_ms == 0 { 0 } else { self.now_ms + ttl_ms }
    }

    fn lookup(&mut self, number: u64) {
        let found = self.store.lookup(key(number), self.now_ms);
        let live = self.live(number);
        assert_eq!(
            found.map(|view| view.extent),
            live.map(|entry| entry.extent)
        );
        assert_eq!(
            found.map(|view| view.version),
            live.map(|entry| entry.version)
        );
        if live.is_some() {
            self.touch(number);
        }
    }

    fn remove(&mut self, number: u64) {
        let removed = self
            .store
            .remove(key(number), self.now_ms, &mut self.effects);
        assert_eq!(removed, self.live(number).is_some());
        if self.entries.contains_key(&number) {
            let deleted = RetireReason::Deleted;
            self.forget(
                number,
                if removed {
                    deleted
                } else {
                    RetireReason::Expired
                },
            );
        }
    }

    fn set_expiry(&mut self, number: u64, ttl_ms: u64) {
        let expiry_ms = self.until(ttl_ms);
        let was_set = self.store.set_expiry(key(number), expiry_ms, self.now_ms);
        assert_eq!(was_set, self.live(number).is_some());
        if was_set {
            self.entries.get_mut(&number).unwrap().expiry_ms = expiry_ms;
        }
    }

    fn note(&mut self, number: u64, is_stale: bool) {
        let Some(view) = self.store.peek(key(number), self.now_ms) else {
            return;
        };
        let generation = u32::try_from(view.generation).unwrap() + u32::from(is_stale);
        assert_eq!(
            self.store.note_access(view.record.get(), generation),
            !is_stale
        );
        if !is_stale {
            self.touch(number);
        }
    }

    fn insert(&mut self, number: u64, new: &NewEntry) {
        let live = self.live(number);
        let known = self.entries.get(&number).copied();
        let result = self
            .store
            .insert(key(number), new, self.now_ms, &mut self.effects);
        if live.is_some() && new.set_if_absent {
            assert_eq!(result, Err(InsertError::Exists));
            return;
        }
        if known.is_none() && self.entries.len() == RECORDS as usize {
            if self.entries.values().all(|entry| entry.is_kept) {
                assert_eq!(result, Err(InsertError::MetadataFull { entries: RECORDS }));
                return;
            }
            self.learn_metadata_victim();
        }
        let inserted = result.unwrap();
        assert_eq!(inserted.replaced, live.is_some());
        assert!(inserted.version > self.last_version);
        self.last_version = inserted.version;
        if known.is_some() {
            let was_live = live.is_some();
            let overwritten = RetireReason::Overwritten;
            self.forget(
                number,
                if was_live {
                    overwritten
                } else {
                    RetireReason::Expired
                },
            );
        }
        let is_kept = new.write_mode == WriteMode::None;
        self.entries.insert(
            number,
            ModelEntry {
                extent: new.extent,
                version: inserted.version,
                expiry_ms: new.expiry_ms,
                is_kept,
            },
        );
        if !is_kept && self.policy == Policy::Lru {
            self.order.push_front(number);
        }
    }

    /// Under `lru` the victim is known beforehand; else it is any entry that may go.
    fn learn_metadata_victim(&mut self) {
        let victim = match self.policy {
            Policy::Lru => *self.order.back().unwrap(),
            Policy::S3Fifo => self.evictable_of(&self.effects.retired[0]),
        };
        self.forget(victim, RetireReason::Evicted);
    }

    fn evictable_of(&self, retired: &crate::Retired) -> u64 {
        let (&number, entry) = self
            .entries
            .iter()
            .find(|(_, entry)| entry.extent == retired.extent)
            .unwrap();
        assert!(!entry.is_kept, "a kept entry was evicted");
        number
    }

    fn advance(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        let advanced = self.store.advance(self.now_ms, &mut self.effects, u32::MAX);
        assert!(!advanced.has_more);
        let tick = self.now_ms / TICK_MS;
        let is_due =
            |entry: &ModelEntry| entry.expiry_ms != 0 && entry.expiry_ms.div_ceil(TICK_MS) <= tick;
        let due: BTreeSet<u64> = self
            .entries
            .iter()
            .filter_map(|(&number, entry)| is_due(entry).then_some(number))
            .collect();
        assert_eq!(advanced.expired as usize, due.len());
        // The order within a call is the wheel's own affair.
        let order: Vec<u64> = self
            .effects
            .retired
            .iter()
            .map(|retired| {
                (0..KEYS)
                    .find(|&number| key(number) == retired.hash)
                    .unwrap()
            })
            .collect();
        assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), due);
        for number in order {
            self.forget(number, RetireReason::Expired);
        }
    }

    fn evict(&mut self, want_bytes: u64) {
        let pinned = self.pinned.clone();
        let skip = |extent: Extent| pinned.contains(&extent.offset);
        let evicted = self.store.evict(want_bytes, &skip, &mut self.effects);
        let (bytes, blocked) = match self.policy {
            Policy::Lru => self.evict_lru(want_bytes),
            Policy::S3Fifo => self.evict_any(want_bytes),
        };
        assert_eq!((evicted.bytes, evicted.blocked), (bytes, blocked));
    }

    fn evict_lru(&mut self, want_bytes: u64) -> (u64, Option<Blocked>) {
        let (mut bytes, mut pinned_run) = (0, 0);
        while bytes < want_bytes {
            let Some(&victim) = self.order.back() else {
                let is_empty = self.entries.is_empty();
                return (
                    bytes,
                    Some(if is_empty {
                        Blocked::Empty
                    } else {
                        Blocked::Kept
                    }),
                );
            };
            let extent = self.entries[&victim].extent;
            if self.pinned.contains(&extent.offset) {
                if pinned_run == self.order.len() {
                    return (bytes, Some(Blocked::Pinned));
                }
                self.order.rotate_right(1);
                pinned_run += 1;
            } else {
                pinned_run = 0;
                bytes += extent.len;
                self.forget(victim, RetireReason::Evicted);
            }
        }
        (bytes, None)
    }

    /// The rules for any policy: only unpinned, evictable entries, in full, no more than needed.
    fn evict_any(&mut self, want_bytes: u64) -> (u64, Option<Blocked>) {
        let (mut bytes, mut last) = (0, 0);
        for retired in std::mem::take(&mut self.effects.retired) {
            let victim = self.evictable_of(&retired);
            assert!(
                !self.pinned.contains(&retired.extent.offset),
                "a pinned entry was evicted"
            );
            last = retired.extent.len;
            bytes += last;
            self.forget(victim, RetireReason::Evicted);
            self.effects.retired.push(retired);
        }
        if bytes >= want_bytes {
            assert!(
                want_bytes == 0 || bytes - last < want_bytes,
                "more than was asked for"
            );
            return (bytes, None);
        }
        let mut left = self
            .entries
            .values()
            .filter(|entry| !entry.is_kept)
            .peekable();
        let blocked = match (left.peek().is_some(), self.entries.is_empty()) {
            (true, _) => Blocked::Pinned,
            (false, true) => Blocked::Empty,
            (false, false) => Blocked::Kept,
        };
        assert!(
            left.all(|entry| self.pinned.contains(&entry.extent.offset)),
            "one was left"
        );
        (bytes, Some(blocked))
    }

    fn evict_records(&mut self, keys: &[u64]) {
        let known: Vec<u64> = keys
            .iter()
            .copied()
            .filter(|number| self.live(*number).is_some())
            .collect();
        let records: Vec<RecordId> = known
            .iter()
            .map(|&number| self.store.peek(key(number), self.now_ms).unwrap().record)
            .collect();
        let pinned = self.pinned.clone();
        let skip = |extent: Extent| pinned.contains(&extent.offset);
        let evicted = self.store.evict_records(&records, &skip, &mut self.effects);
        let is_blocked = known.iter().any(|number| {
            let entry = self.entries[number];
            entry.is_kept || self.pinned.contains(&entry.extent.offset)
        });
        assert_eq!(evicted.blocked.is_some(), is_blocked);
        if !is_blocked {
            for number in known {
                if self.entries.contains_key(&number) {
                    self.forget(number, RetireReason::Evicted);
                }
            }
        }
    }

    /// Compares effects and contents after a call.
    fn settle(&mut self, op: &Op) {
        let retired = std::mem::take(&mut self.effects.retired);
        assert_eq!(retired.len(), self.expected.len(), "{op:?}");
        for (retired, expected) in retired.iter().zip(self.expected.drain(..)) {
            let (number, offset, reason) = expected;
            assert_eq!(
                (retired.hash, retired.extent.offset),
                (key(number), offset),
                "{op:?}"
            );
            assert_eq!(retired.reason, reason, "{op:?}");
        }
        for number in 0..KEYS {
            let view = self.store.peek(key(number), self.now_ms);
            let live = self.live(number);
            assert_eq!(
                view.map(|view| view.extent),
                live.map(|entry| entry.extent),
                "{op:?}"
            );
            assert_eq!(
                view.map(|view| view.expiry_ms),
                live.map(|entry| entry.expiry_ms)
            );
        }
        assert_eq!(self.store.len() as usize, self.entries.len());
        self.store.check_invariants();
    }
}

fn run(policy: Policy, ops: &[Op]) {
    let mut pair = Pair::new(policy);
    for op in ops {
        pair.apply(op);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn lru_store_agrees_with_map_and_list(ops in ops()) {
        run(Policy::Lru, &ops);
    }

    #[test]
    fn s3fifo_store_agrees_with_map_and_rules(ops in ops()) {
        run(Policy::S3Fifo, &ops);
    }
}

/// The model itself can fail: a use that the store does not hear of changes who goes.
#[test]
#[should_panic(expected = "assertion")]
fn model_finds_a_missed_use() {
    let mut pair = Pair::new(Policy::Lru);
    let insert = |key| Op::Insert {
        key,
        len: 9,
        is_kept: false,
        ttl_ms: 0,
        if_absent: false,
    };
    pair.apply(&insert(1));
    pair.apply(&insert(3));
    pair.touch(1);
    pair.apply(&Op::Evict { want_bytes: 1 });
}

/// And so does an extent that is never retired.
#[test]
#[should_panic(expected = "assertion")]
fn model_finds_a_lost_extent() {
    let mut pair = Pair::new(Policy::S3Fifo);
    let insert = Op::Insert {
        key: 1,
        len: 9,
        is_kept: false,
        ttl_ms: 0,
        if_absent: false,
    };
    pair.apply(&insert);
    pair.apply(&insert);
    pair.effects.retired.clear();
    pair.entries.get_mut(&1).unwrap().extent = Extent::new(1 << 30, 9);
    pair.apply(&Op::Remove { key: 1 });
}
