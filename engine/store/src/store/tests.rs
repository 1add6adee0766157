//! What the store promises, one promise a test.

use chariot_base::Extent;
use chariot_proto::{KeyHash, WriteMode};
use chariot_shm::index::{IndexMemory, IndexOptions, IndexReader, IndexWriter, Lookup};

use super::*;
use crate::entry::RecordFlags;
use crate::limits::{EVICT_STEPS_MAX, METADATA_STEPS_MAX};
use crate::wheel::EXPIRY_MS_MAX;

pub(super) const POLICIES: [Policy; 2] = [Policy::Lru, Policy::S3Fifo];

/// A hash with its bits spread like a real one's.
pub(super) fn key(number: u64) -> KeyHash {
    let mix = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    KeyHash {
        hi: mix(2 * number + 1),
        lo: mix(2 * number + 2),
    }
}

pub(super) fn store(policy: Policy, records: u32) -> Store {
    let options = IndexOptions::new(records);
    let index = IndexWriter::new(IndexMemory::heap(&options).unwrap(), &options).unwrap();
    Store::new(
        index,
        StoreOptions {
            policy,
            epoch: 3,
            entries_max: 0,
            spills: false,
        },
    )
}

/// An entry of `len` bytes that may be evicted; extents of different `place` never overlap.
pub(super) fn entry(place: u64, len: u64) -> NewEntry {
    NewEntry {
        extent: Extent::new(place << 20, len),
        crc: None,
        expiry_ms: 0,
        write_mode: WriteMode::NoneEvict,
        set_if_absent: false,
    }
}

fn kept(place: u64, len: u64) -> NewEntry {
    NewEntry {
        write_mode: WriteMode::None,
        ..entry(place, len)
    }
}

fn free(_: Extent) -> bool {
    false
}

fn use_thrice(store: &mut Store, place: u64) {
    assert!((0..3).all(|_| store.lookup(key(place), 0).is_some()));
}

fn reasons(effects: &Effects) -> Vec<(u64, RetireReason)> {
    let place = |extent: Extent| extent.offset >> 20;
    effects
        .retired
        .iter()
        .map(|retired| (place(retired.extent), retired.reason))
        .collect()
}

#[test]
fn lookup_returns_what_was_inserted() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 8), Effects::new());
        let new = NewEntry {
            crc: Some(7),
            expiry_ms: 500,
            ..kept(1, 4096)
        };
        let inserted = store.insert(key(1), &new, 0, &mut effects).unwrap();
        let view = store.lookup(key(1), 499).unwrap();
        assert_eq!(view.record, inserted.record);
        assert_eq!(view.version, inserted.version);
        assert_eq!(view.version, (3 << 44) | 1);
        assert_eq!((view.extent, view.crc), (new.extent, Some(7)));
        assert_eq!((view.expiry_ms, view.write_mode), (500, WriteMode::None));
        assert_eq!(store.size(key(1), 0), Some(4096));
        assert_eq!(
            (store.lookup(key(2), 0), store.exists(key(2), 0)),
            (None, false)
        );
        let stats = store.stats();
        assert_eq!((stats.hits, stats.misses, stats.inserts), (1, 1, 1));
        assert_eq!(
            (stats.entries, stats.kept_entries, stats.kept_bytes),
            (1, 1, 4096)
        );
        assert!(effects.is_empty());
        store.check_invariants();
    }
}

#[test]
fn overwrite_retires_the_old_extent_and_raises_version_and_generation() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 8), Effects::new());
        store
            .insert(key(1), &entry(1, 100), 0, &mut effects)
            .unwrap();
        let old = store.peek(key(1), 0).unwrap();
        let inserted = store
            .insert(key(1), &kept(2, 300), 0, &mut effects)
            .unwrap();
        assert!(inserted.replaced);
        assert_eq!(inserted.record, old.record);
        let new = store.peek(key(1), 0).unwrap();
        assert!(new.version > old.version);
        assert!(new.generation > old.generation);
        assert_eq!(reasons(&effects), [(1, RetireReason::Overwritten)]);
        assert_eq!((store.bytes(), store.evictable_bytes()), (300, 0));
        store
            .insert(key(1), &entry(3, 50), 0, &mut effects)
            .unwrap();
        assert_eq!((store.bytes(), store.evictable_bytes()), (50, 50));
        store.check_invariants();
    }
}

#[test]
#[should_panic(expected = "the new value lies where the old one is")]
fn overwrite_with_the_same_extent_is_a_bug() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    store
        .insert(key(1), &entry(1, 100), 0, &mut effects)
        .unwrap();
    let _inserted = store.insert(key(1), &entry(1, 90), 0, &mut effects);
}

#[test]
fn versions_rise_across_keys_and_removal() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    let mut last = 0;
    for place in 0..20 {
        let inserted = store
            .insert(key(place % 3), &entry(place, 1), 0, &mut effects)
            .unwrap();
        assert!(inserted.version > last);
        last = inserted.version;
        store.remove(key(place % 2), 0, &mut effects);
    }
}

#[test]
fn set_if_absent_refuses_a_live_key_and_takes_an_expired_one() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    let absent = |place, expiry_ms| NewEntry {
        set_if_absent: true,
        expiry_ms,
        ..entry(place, 9)
    };
    store
        .insert(key(1), &absent(1, 100), 0, &mut effects)
        .unwrap();
    let refused = store.insert(key(1), &absent(2, 0), 99, &mut effects);
    assert_eq!(refused, Err(InsertError::Exists));
    assert!(effects.is_empty(), "the new extent stays the caller's");
    let inserted = store
        .insert(key(1), &absent(3, 0), 100, &mut effects)
        .unwrap();
    assert!(!inserted.replaced);
    assert_eq!(reasons(&effects), [(1, RetireReason::Expired)]);
    assert_eq!(
        (store.stats().refused_exists, store.stats().expirations),
        (1, 1)
    );
}

#[test]
fn remove_retires_once_and_is_false_for_absent_and_expired() {
    let (mut store, mut effects) = (store(Policy::S3Fifo, 8), Effects::new());
    store.insert(key(1), &entry(1, 9), 0, &mut effects).unwrap();
    let expiring = NewEntry {
        expiry_ms: 50,
        ..entry(2, 9)
    };
    store.insert(key(2), &expiring, 0, &mut effects).unwrap();
    assert!(store.remove(key(1), 0, &mut effects));
    assert!(!store.remove(key(1), 0, &mut effects));
    assert!(!store.remove(key(2), 50, &mut effects));
    assert_eq!(
        reasons(&effects),
        [(1, RetireReason::Deleted), (2, RetireReason::Expired)]
    );
    assert!(store.is_empty());
    store.check_invariants();
}

#[test]
fn expired_entry_is_a_miss_at_once_and_retired_within_a_tick() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    store
        .insert(
            key(1),
            &NewEntry {
                expiry_ms: 150,
                ..entry(1, 9)
            },
            0,
            &mut effects,
        )
        .unwrap();
    assert!(store.lookup(key(1), 149).is_some());
    assert!(store.lookup(key(1), 150).is_none());
    assert_eq!(store.next_expiry_ms(), Some(200));
    assert_eq!(store.advance(199, &mut effects, 100), Advanced::default());
    let advanced = store.advance(200, &mut effects, 100);
    assert_eq!(
        advanced,
        Advanced {
            expired: 1,
            has_more: false
        }
    );
    assert_eq!(reasons(&effects), [(1, RetireReason::Expired)]);
    assert_eq!((store.next_expiry_ms(), store.len()), (None, 0));
    store.check_invariants();
}

#[test]
fn overwrite_replaces_the_expiry_and_expire_resets_it() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    let until = |place, expiry_ms| NewEntry {
        expiry_ms,
        ..entry(place, 9)
    };
    store
        .insert(key(1), &until(1, 1_000), 0, &mut effects)
        .unwrap();
    store.insert(key(1), &until(2, 0), 0, &mut effects).unwrap();
    store.insert(key(2), &until(3, 0), 0, &mut effects).unwrap();
    store
        .insert(key(2), &until(4, 2_000), 0, &mut effects)
        .unwrap();
    assert_eq!(store.advance(1_500, &mut effects, 100).expired, 0);
    let before = store.peek(key(2), 0).unwrap();
    assert!(store.set_expiry(key(2), 9_000, 1_500));
    let after = store.peek(key(2), 0).unwrap();
    assert_eq!(
        (after.version, after.generation),
        (before.version, before.generation)
    );
    assert!(store.set_expiry(key(1), 1_600, 1_500));
    assert_eq!(store.advance(2_500, &mut effects, 100).expired, 1);
    assert!(store.exists(key(2), 8_999));
    assert!(store.set_expiry(key(2), 0, 2_500));
    assert_eq!(store.advance(EXPIRY_MS_MAX, &mut effects, 100).expired, 0);
    assert!(
        !store.set_expiry(key(1), 0, 2_500),
        "an absent key has no expiry"
    );
    store.check_invariants();
}

#[test]
fn set_expiry_is_false_for_an_expired_key() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    store
        .insert(
            key(1),
            &NewEntry {
                expiry_ms: 10,
                ..entry(1, 9)
            },
            0,
            &mut effects,
        )
        .unwrap();
    assert!(
        !store.set_expiry(key(1), 0, 10),
        "nothing returns from the dead"
    );
    assert_eq!(store.advance(100, &mut effects, 100).expired, 1);
}

#[test]
fn advance_is_bounded_and_says_that_more_is_due() {
    let (mut store, mut effects) = (store(Policy::Lru, 200), Effects::new());
    for place in 0..200 {
        let new = NewEntry {
            expiry_ms: 1_000,
            ..entry(place, 9)
        };
        store.insert(key(place), &new, 0, &mut effects).unwrap();
    }
    let (mut expired, mut calls) = (0, 0);
    loop {
        let advanced = store.advance(5_000, &mut effects, 10);
        assert!(advanced.expired <= 10);
        expired += advanced.expired;
        calls += 1;
        store.check_invariants();
        if !advanced.has_more {
            break;
        }
    }
    assert_eq!((expired, store.len()), (200, 0));
    assert!(calls >= 20);
}

#[test]
fn evict_takes_the_least_recently_used_first() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    for place in 1..=4 {
        store
            .insert(key(place), &entry(place, 100), 0, &mut effects)
            .unwrap();
    }
    store.lookup(key(1), 0);
    let _untouched = store.peek(key(2), 0);
    let evicted = store.evict(150, &free, &mut effects);
    assert_eq!(
        evicted,
        Evicted {
            bytes: 200,
            entries: 2,
            blocked: None
        }
    );
    assert_eq!(
        reasons(&effects),
        [(2, RetireReason::Evicted), (3, RetireReason::Evicted)]
    );
    store.check_invariants();
}

#[test]
fn evict_skips_kept_entries_and_says_so() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 8), Effects::new());
        assert_eq!(
            store.evict(1, &free, &mut effects).blocked,
            Some(Blocked::Empty)
        );
        store
            .insert(key(1), &kept(1, 100), 0, &mut effects)
            .unwrap();
        store
            .insert(key(2), &entry(2, 100), 0, &mut effects)
            .unwrap();
        let evicted = store.evict(101, &free, &mut effects);
        let expected = Evicted {
            bytes: 100,
            entries: 1,
            blocked: Some(Blocked::Kept),
        };
        assert_eq!(evicted, expected);
        assert!(store.exists(key(1), 0));
        store.check_invariants();
    }
}

#[test]
fn evict_skips_pinned_entry_and_takes_the_next() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 8), Effects::new());
        for place in 1..=4 {
            store
                .insert(key(place), &entry(place, 100), 0, &mut effects)
                .unwrap();
        }
        let pinned = |extent: Extent| extent.offset >> 20 == 1;
        assert_eq!(store.evict(1, &pinned, &mut effects).entries, 1);
        assert_eq!(reasons(&effects), [(2, RetireReason::Evicted)]);
        assert_eq!(store.stats().pinned_passes, 1);
        assert_eq!(
            store.evict(300, &pinned, &mut effects).blocked,
            Some(Blocked::Pinned)
        );
        assert_eq!((store.len(), store.exists(key(1), 0)), (1, true));
        store.check_invariants();
    }
}

/// One entry free among many pinned ones is found, wherever it is, in steps that are bounded.
#[test]
fn evict_finds_the_only_unpinned_entry_across_calls() {
    for policy in POLICIES {
        for unpinned in [1, 499, 501, 998, 999] {
            let (mut store, mut effects) = (store(policy, 1_000), Effects::new());
            for place in 0..1_000 {
                store
                    .insert(key(place), &entry(place, 100), 0, &mut effects)
                    .unwrap();
                if place < 500 {
                    use_thrice(&mut store, place);
                }
            }
            // Half of them get through their probation, where there is one.
            while store.evict(1, &free, &mut effects).entries == 0 {}
            effects.retired.clear();
            let pinned = |extent: Extent| extent.offset >> 20 != unpinned;
            let mut calls = 0;
            loop {
                let evicted = store.evict(1, &pinned, &mut effects);
                calls += 1;
                if evicted.blocked.is_none() {
                    break;
                }
                assert_eq!(
                    evicted.blocked,
                    Some(Blocked::Steps),
                    "{policy:?} {unpinned}"
                );
                assert!(calls < 100);
            }
            assert_eq!(reasons(&effects), [(unpinned, RetireReason::Evicted)]);
            store.check_invariants();
        }
    }
}

#[test]
fn evict_with_all_pinned_ends_with_pinned_after_bounded_calls() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 1_000), Effects::new());
        for place in 0..1_000 {
            store
                .insert(key(place), &entry(place, 100), 0, &mut effects)
                .unwrap();
        }
        let blocked: Vec<_> =
            std::iter::repeat_with(|| store.evict(1, &|_| true, &mut effects).blocked.unwrap())
                .take(1_000usize.div_ceil(EVICT_STEPS_MAX as usize))
                .collect();
        assert_eq!(blocked.last(), Some(&Blocked::Pinned), "{policy:?}");
        assert!(
            blocked[..blocked.len() - 1]
                .iter()
                .all(|&why| why == Blocked::Steps)
        );
        assert!(effects.is_empty());
        assert_eq!(store.evict(1, &free, &mut effects).entries, 1);
    }
}

#[test]
fn evict_stops_at_its_steps_and_goes_on() {
    let (mut store, mut effects) = (store(Policy::Lru, 1_000), Effects::new());
    for place in 0..1_000 {
        store
            .insert(key(place), &entry(place, 1), 0, &mut effects)
            .unwrap();
    }
    let evicted = store.evict(1_000, &free, &mut effects);
    assert_eq!(
        (evicted.entries, evicted.blocked),
        (EVICT_STEPS_MAX, Some(Blocked::Steps))
    );
    while !store.is_empty() {
        store.evict(1_000, &free, &mut effects);
    }
    assert_eq!(effects.retired.len(), 1_000);
}

#[test]
fn new_entries_never_enter_at_the_eviction_hand() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 64), Effects::new());
        for place in 0..64 {
            store
                .insert(key(place), &entry(place, 100), 0, &mut effects)
                .unwrap();
        }
        for place in 64..1_000 {
            store.evict(1, &free, &mut effects);
            store
                .insert(
                    key(place),
                    &entry(place, 100 * (place % 17 + 1)),
                    0,
                    &mut effects,
                )
                .unwrap();
            store.evict(1, &free, &mut effects);
            assert!(store.exists(key(place), 0), "{policy:?} {place}");
            store
                .insert(key(place + 10_000), &entry(place, 1), 0, &mut effects)
                .unwrap();
        }
    }
}

#[test]
fn evict_records_takes_all_or_nothing() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 8), Effects::new());
        let insert = |store: &mut Store, new: &NewEntry, effects: &mut Effects| {
            store
                .insert(key(new.extent.offset), new, 0, effects)
                .unwrap()
                .record
        };
        let first = insert(&mut store, &entry(1, 10), &mut effects);
        let second = insert(&mut store, &entry(2, 20), &mut effects);
        let keeper = insert(&mut store, &kept(3, 30), &mut effects);
        let blocked = |why| Evicted {
            bytes: 0,
            entries: 0,
            blocked: Some(why),
        };
        let evicted = store.evict_records(&[first, keeper], &free, &mut effects);
        assert_eq!(evicted, blocked(Blocked::Kept));
        let pinned = |extent: Extent| extent.offset >> 20 == 2;
        let evicted = store.evict_records(&[first, second], &pinned, &mut effects);
        assert_eq!(evicted, blocked(Blocked::Pinned));
        for unknown in [4, 8, 9, u32::MAX] {
            let unknown = RecordId::new(unknown).unwrap();
            let evicted = store.evict_records(&[first, unknown], &free, &mut effects);
            assert_eq!(evicted, blocked(Blocked::Kept));
        }
        assert_eq!((store.len(), effects.is_empty()), (3, true));
        let evicted = store.evict_records(&[first, second, first], &free, &mut effects);
        assert_eq!(
            evicted,
            Evicted {
                bytes: 30,
                entries: 2,
                blocked: None
            }
        );
        assert_eq!((store.len(), store.bytes()), (1, 30));
        store.check_invariants();
    }
}

#[test]
fn full_metadata_evicts_one_entry_and_only_kept_ones_refuse() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 16), Effects::new());
        for place in 0..16 {
            let new = if place < 10 {
                kept(place, 9)
            } else {
                entry(place, 9)
            };
            store.insert(key(place), &new, 0, &mut effects).unwrap();
        }
        for place in 16..22 {
            store
                .insert(key(place), &kept(place, 9), 0, &mut effects)
                .unwrap();
        }
        assert_eq!(effects.retired.len(), 6);
        let full = store.insert(key(99), &entry(99, 9), 0, &mut effects);
        assert_eq!(full, Err(InsertError::MetadataFull { entries: 16 }));
        assert_eq!(effects.retired.len(), 6);
        store
            .insert(key(0), &entry(100, 9), 0, &mut effects)
            .unwrap();
        store
            .insert(key(99), &entry(99, 9), 0, &mut effects)
            .unwrap();
        assert!(!store.exists(key(0), 0));
        let stats = store.stats();
        assert_eq!((stats.metadata_evictions, stats.refused_metadata), (7, 1));
        store.check_invariants();
    }
}

/// Entries that all have uses left do not make an insert search for ever.
#[test]
fn full_metadata_takes_bounded_steps_among_hot_entries() {
    let (mut store, mut effects) = (store(Policy::S3Fifo, 500), Effects::new());
    for place in 0..500 {
        store
            .insert(key(place), &entry(place, 9), 0, &mut effects)
            .unwrap();
        use_thrice(&mut store, place);
    }
    store
        .insert(key(500), &entry(500, 9), 0, &mut effects)
        .unwrap();
    // Each step but the last gave one entry its second chance.
    let evicted = METADATA_STEPS_MAX - 1;
    assert_eq!(
        reasons(&effects),
        [(u64::from(evicted), RetireReason::Evicted)]
    );
    store.check_invariants();
}

#[test]
fn entries_max_below_the_capacity_holds() {
    let options = IndexOptions::new(100);
    let index = IndexWriter::new(IndexMemory::heap(&options).unwrap(), &options).unwrap();
    let options = StoreOptions {
        entries_max: 5,
        ..StoreOptions::default()
    };
    let (mut store, mut effects) = (Store::new(index, options), Effects::new());
    for place in 0..50 {
        store
            .insert(key(place), &entry(place, 9), 0, &mut effects)
            .unwrap();
        store.check_invariants();
    }
    assert_eq!((store.len(), effects.retired.len()), (5, 45));
}

#[test]
fn note_is_a_use_and_stale_or_hostile_notes_are_nothing() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    for place in 1..=3 {
        store
            .insert(key(place), &entry(place, 9), 0, &mut effects)
            .unwrap();
    }
    let view = store.peek(key(1), 0).unwrap();
    let (record, generation) = (view.record.get(), u32::try_from(view.generation).unwrap());
    assert!(!store.note_access(record, generation + 1));
    for hostile in [0, 9, u32::MAX] {
        assert!(!store.note_access(hostile, generation));
    }
    assert!(store.note_access(record, generation));
    store.evict(1, &free, &mut effects);
    assert_eq!(reasons(&effects), [(2, RetireReason::Evicted)]);
    store.remove(key(1), 0, &mut effects);
    assert!(
        !store.note_access(record, generation),
        "the record is free now"
    );
    store.insert(key(4), &entry(4, 9), 0, &mut effects).unwrap();
    assert!(
        !store.note_access(record, generation),
        "the record is another key's now"
    );
    assert_eq!((store.stats().notes, store.stats().stale_notes), (7, 6));
    store.check_invariants();
}

#[test]
fn eviction_age_counts_from_the_last_write() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    store
        .insert(key(1), &entry(1, 9), 1_000, &mut effects)
        .unwrap();
    store
        .insert(key(2), &entry(2, 9), 5_000, &mut effects)
        .unwrap();
    store.advance(9_000, &mut effects, 1);
    store.evict(18, &free, &mut effects);
    let ages = store.stats().eviction_ages;
    assert_eq!(
        (ages.count, ages.last_ms, ages.mean_ms()),
        (2, 4_000, 6_000)
    );
}

/// Readers of the shared index see what the store says: value, expiry, flags, removal.
#[test]
fn index_readers_see_every_change() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    let reader = IndexReader::of(&store.index).unwrap();
    let find = || match reader.find(key(1).hi, key(1).lo) {
        Lookup::Here(candidate) => Some(candidate),
        _ => None,
    };
    assert!(find().is_none());
    let new = NewEntry {
        crc: Some(5),
        expiry_ms: 70,
        ..entry(1, 9)
    };
    store.insert(key(1), &new, 0, &mut effects).unwrap();
    let candidate = find().unwrap();
    assert_eq!(
        (candidate.extent, candidate.len, candidate.expiry_ms),
        (1 << 20, 9, 70)
    );
    assert_eq!(
        candidate.flags & RecordFlags::CRC_PRESENT,
        RecordFlags::CRC_PRESENT
    );
    assert!(reader.recheck(&candidate, 69) && !reader.recheck(&candidate, 70));
    assert!(store.set_expiry(key(1), 90, 0));
    assert!(reader.recheck(&candidate, 89));
    store.evict(1, &free, &mut effects);
    assert!(!reader.recheck(&candidate, 0) && find().is_none());
}

/// Design §5: at most 128 bytes an object beyond payload, of which the allocator has 16.
#[test]
fn metadata_per_entry_stays_inside_its_budget() {
    for (policy, private_max) in [(Policy::Lru, 16.0), (Policy::S3Fifo, 18.0)] {
        let (mut store, mut effects) = (store(policy, 60_000), Effects::new());
        let mut worst: f64 = 0.0;
        for place in 0..60_000 {
            let new = NewEntry {
                expiry_ms: place + 1,
                ..entry(place, 4096)
            };
            store.insert(key(place), &new, 0, &mut effects).unwrap();
            if place > 15_000 {
                worst = worst.max(store.metadata_bytes() as f64 / f64::from(store.len()));
            }
        }
        // Evictions fill the ghost queue to its bound.
        for place in 0..60_000_u64 {
            use_thrice(&mut store, place);
        }
        for place in 60_000..200_000 {
            store
                .insert(key(place), &entry(place, 4096), 0, &mut effects)
                .unwrap();
            effects.retired.clear();
        }
        let private = store.private_bytes() as f64 / f64::from(store.len());
        assert!(
            private <= private_max,
            "{policy:?}: {private} private bytes an entry"
        );
        let all = store.metadata_bytes() as f64 / f64::from(store.len());
        worst = worst.max(all);
        assert!(
            worst <= 112.0,
            "{policy:?}: {worst} bytes of metadata an entry"
        );
        println!("{policy:?}: private {private:.1}, worst {worst:.1} bytes an entry");
    }
}

#[test]
fn entries_for_fits_the_metadata_memory() {
    assert_eq!(entries_for(96 << 20, Policy::Lru), 1 << 20);
    assert!(entries_for(96 << 20, Policy::S3Fifo) < 1 << 20);
    assert_eq!(entries_for(0, Policy::Lru), 1);
    assert_eq!(entries_for(u64::MAX, Policy::Lru), RECORDS_MAX);
}

#[test]
#[should_panic(expected = "options.epoch")]
fn epoch_beyond_20_bits_is_refused() {
    let options = IndexOptions::new(4);
    let index = IndexWriter::new(IndexMemory::heap(&options).unwrap(), &options).unwrap();
    let _store = Store::new(
        index,
        StoreOptions {
            epoch: 1 << 20,
            ..StoreOptions::default()
        },
    );
}

#[test]
#[should_panic(expected = "and the policy disagree")]
fn checker_finds_an_entry_that_the_policy_lost() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    store.insert(key(1), &entry(1, 9), 0, &mut effects).unwrap();
    store.policy.remove(1, 9);
    store.check_invariants();
}

#[test]
#[should_panic(expected = "records with an expiry and timers")]
fn checker_finds_an_entry_without_its_timer() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    store
        .insert(
            key(1),
            &NewEntry {
                expiry_ms: 5,
                ..entry(1, 9)
            },
            0,
            &mut effects,
        )
        .unwrap();
    store.wheel.clear(1);
    store.check_invariants();
}

#[test]
fn kept_entries_are_evicted_for_another_tier_unless_it_refused_them() {
    for policy in POLICIES {
        let options = IndexOptions::new(8);
        let index = IndexWriter::new(IndexMemory::heap(&options).unwrap(), &options).unwrap();
        let options = StoreOptions {
            policy,
            spills: true,
            ..StoreOptions::default()
        };
        let (mut store, mut effects) = (Store::new(index, options), Effects::new());
        store.insert(key(1), &kept(1, 64), 0, &mut effects).unwrap();
        store.check_invariants();
        assert_eq!(store.evict(64, &free, &mut effects).entries, 1);
        let last = effects.retired[0].last;
        assert_eq!(last.write_mode, WriteMode::None);
        let back = store
            .restore(key(1), &kept(1, 64), (last.version, true), 0, &mut effects)
            .unwrap();
        assert_eq!(back.version, last.version);
        store.check_invariants();
        assert_eq!(store.evict(64, &free, &mut effects).entries, 0);
        let again = store.restore(key(1), &kept(2, 64), (9, false), 0, &mut effects);
        assert_eq!(again, Err(InsertError::Exists));
    }
}

#[test]
fn a_stop_takes_the_hottest_first() {
    for policy in POLICIES {
        let (mut store, mut effects) = (store(policy, 8), Effects::new());
        for number in 1..=4 {
            store
                .insert(key(number), &entry(number, 64), 0, &mut effects)
                .unwrap();
        }
        assert_eq!(store.evict_hottest(100, &mut effects).entries, 2);
        let taken: Vec<_> = effects.retired.iter().map(|one| one.hash).collect();
        assert_eq!(taken, [key(4), key(3)], "{policy:?}");
        assert_eq!(store.evict_hottest(1000, &mut effects).entries, 2);
        let rest = store.evict_hottest(1, &mut effects);
        assert!(rest.entries == 0 && rest.blocked.is_some());
        store.check_invariants();
    }
}

#[test]
fn renewing_gives_a_new_version_and_expiry() {
    let (mut store, mut effects) = (store(Policy::Lru, 8), Effects::new());
    let first = store
        .insert(key(1), &entry(1, 64), 0, &mut effects)
        .unwrap();
    let renewed = store.renew(key(1), 500, 10).unwrap();
    assert!(renewed > first.version);
    let view = store.peek(key(1), 499).unwrap();
    assert_eq!((view.version, view.expiry_ms), (renewed, 500));
    assert!(store.renew(key(1), 0, 500).is_none(), "its time is over");
    store.check_invariants();
}
