use std::collections::BTreeMap;

use chariot_base::{Random, SplitMix64};

use super::*;

/// Inserts and removes keys of few tables, so that probes are long and gaps are closed; `lows` low
/// halves of hashes there are, of which tags are made.
fn agree_with_a_map(
    index: &mut Index,
    model: &mut BTreeMap<KeyHash, u64>,
    random: &mut SplitMix64,
    lows: u64,
) {
    for step in 0..60_000_u64 {
        let hash = KeyHash {
            hi: (random.below(3000 / lows) << 12) | random.below(2),
            lo: random.below(lows),
        };
        if random.below(5) < 3 {
            if index.get(hash).is_none() {
                assert!(index.insert(Entry::dead(hash, step)));
                model.insert(hash, step);
            }
        } else if model.remove(&hash).is_some() {
            index.remove(hash);
        }
        assert_eq!(
            index.get(hash).map(|entry| entry.version()),
            model.get(&hash).copied()
        );
    }
    assert_eq!(index.len(), model.len() as u64);
    for (&hash, &version) in &*model {
        assert_eq!(index.get(hash).unwrap().version(), version);
    }
    assert_eq!(index.iter().count(), model.len());
    index.warm(model.keys().copied());
}

#[test]
fn index_agrees_with_a_map_through_inserts_and_removes() {
    let (mut index, mut model) = (Index::new(0), BTreeMap::new());
    let mut random = SplitMix64::new(11);
    agree_with_a_map(&mut index, &mut model, &mut random, 1);
}

#[test]
fn index_agrees_with_a_map_in_bulk_and_after_it() {
    // One tag for all, two, and all there are (0 and 1 share theirs).
    for lows in [1, 3, 1000] {
        let (mut index, mut model) = (Index::new(0), BTreeMap::new());
        let mut random = SplitMix64::new(lows);
        index.begin_bulk();
        agree_with_a_map(&mut index, &mut model, &mut random, lows);
        assert!(index.tables.iter().any(|table| !table.tags.is_empty()));
        index.expect(9_000_000);
        agree_with_a_map(&mut index, &mut model, &mut random, lows);
        // Slow growth has begun, but no table has been trimmed: both kinds are there.
        index.growth = Growth::Slow;
        agree_with_a_map(&mut index, &mut model, &mut random, lows);
        assert_eq!(index.trim(0), None);
        assert!(index.tables.iter().all(|table| table.tags.is_empty()));
        agree_with_a_map(&mut index, &mut model, &mut random, lows);
    }
}

#[test]
fn an_expected_table_grows_at_most_to_its_double_and_no_further_than_expected() {
    assert_eq!(Growth::Slow.room(6400), 100);
    assert_eq!(Growth::Slow.room(10), 8);
    assert_eq!(Growth::Bulk { expected: 0 }.room(6400), 400);
    assert_eq!(Growth::Bulk { expected: 6500 }.room(6400), 400);
    assert_eq!(Growth::Bulk { expected: 9000 }.room(6400), 2600);
    assert_eq!(Growth::Bulk { expected: 60_000 }.room(6400), 6400);
    assert_eq!(Growth::Bulk { expected: 60_000 }.room(0), 8);
    let mut index = Index::new(0);
    index.expect(1 << 40);
    assert!(matches!(index.growth, Growth::Slow), "only in bulk");
    index.begin_bulk();
    index.expect(u64::MAX);
    let Growth::Bulk { expected } = index.growth else {
        panic!("in bulk");
    };
    assert!((65_535..70_000).contains(&expected), "{expected}");
}

#[test]
fn fields_of_an_entry_do_not_touch_each_other() {
    let mut entry = Entry::dead(KeyHash { hi: 1, lo: 2 }, 3);
    assert_eq!(entry.place(), None);
    let place = Place {
        segment: (1 << 20) - 2,
        at: (1 << 30) - 8,
    };
    entry.set_place(Some(place));
    entry.set_kind(Kind::Payload);
    entry.set_hits(9);
    entry.set_queued(true);
    entry.set_value(&Value {
        len: (1 << 30) - 1,
        crc: 77,
        expiry_unix_ms: EXPIRY_BASE_MS + 6400,
        has_checksum: true,
        mode: WriteMode::WriteBackEvict,
    });
    for _ in 0..300 {
        entry.add_record();
    }
    entry.drop_record();
    assert_eq!(entry.records(), 255, "many stay many");
    assert_eq!(entry.place(), Some(place));
    assert_eq!(entry.kind(), Kind::Payload);
    assert_eq!((entry.hits(), entry.is_queued()), (3, true));
    assert_eq!(entry.mode(), WriteMode::WriteBackEvict);
    assert_eq!((entry.len(), entry.crc()), ((1 << 30) - 1, 77));
    assert_eq!(entry.expiry_unix_ms(), EXPIRY_BASE_MS + 6400);
    assert!(entry.is_expired(EXPIRY_BASE_MS + 6400));
    assert!(!entry.is_expired(EXPIRY_BASE_MS + 6399));
    entry.set_place(None);
    assert_eq!(entry.place(), None);
    assert_eq!(entry.kind(), Kind::Payload);
}

#[test]
fn memory_of_bulk_is_given_back_by_trimming() {
    let mut random = SplitMix64::new(6);
    let mut index = Index::new(0);
    index.begin_bulk();
    // Just past a step of most tables, where the slack is largest.
    for count in 1..=1_100_000_u64 {
        let hash = KeyHash {
            hi: random.next_u64(),
            lo: count,
        };
        assert!(index.insert(Entry::dead(hash, count)));
    }
    let before = index.size_bytes();
    assert!(before <= 53 * 1_100_000, "{before}");
    let mut turns = 1;
    let mut from = 0;
    while let Some(next) = index.trim(from) {
        from = next;
        turns += 1;
    }
    assert!(
        (8..=9).contains(&turns),
        "{turns} turns of 131,072 and a table"
    );
    let after = index.size_bytes();
    assert!(after < before, "{after} of {before}");
    assert!(after <= 48 * 1_100_000, "{after}");
    let mut random = SplitMix64::new(6);
    for count in 1..=1_100_000_u64 {
        let hash = KeyHash {
            hi: random.next_u64(),
            lo: count,
        };
        assert_eq!(index.get(hash).unwrap().version(), count);
    }
}

#[test]
fn full_index_refuses_and_stays_as_it_was() {
    let mut index = Index::new(2);
    for hi in 0..2 {
        assert!(index.insert(Entry::dead(KeyHash { hi, lo: 0 }, 1)));
    }
    assert!(!index.insert(Entry::dead(KeyHash { hi: 9, lo: 0 }, 1)));
    assert_eq!(index.len(), 2);
    index.clear();
    assert_eq!(index.len(), 0);
}

#[test]
fn memory_stays_below_48_bytes_at_the_worst_point() {
    let mut random = SplitMix64::new(5);
    let mut index = Index::new(0);
    for count in 1..=2_000_000_u64 {
        let hash = KeyHash {
            hi: random.next_u64(),
            lo: count,
        };
        assert!(index.insert(Entry::dead(hash, 1)));
        if count >= 1_000_000 && count.is_multiple_of(5000) {
            let each = index.size_bytes() as f64 / count as f64;
            assert!(each <= 48.0, "{each} bytes at {count}");
        }
    }
}
