//! The index against a std map, over private memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use super::bucket::Slot;
use super::layout::TABLE;
use super::{
    Candidate, IndexFull, IndexMemory, IndexMemoryError, IndexOptions, IndexReader, IndexWriter,
    Lookup, RecordId, RecordState, RecordWords,
};
use crate::{Mapping, Memfd, MemfdOptions};

fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn hash(key: u64) -> (u64, u64) {
    (mix(key), mix(!key))
}

fn writer(max_records: u32, initial_buckets: u32) -> IndexWriter {
    let options = IndexOptions {
        initial_buckets,
        ..IndexOptions::new(max_records)
    };
    IndexWriter::new(IndexMemory::heap(&options).unwrap(), &options).unwrap()
}

#[test]
fn every_key_is_found_after_growth() {
    let mut index = writer(20_000, 1);
    let reader = IndexReader::of(&index).unwrap();
    let mut ids = HashMap::new();
    for key in 0..20_000 {
        let (hi, lo) = hash(key);
        let words = RecordWords {
            extent: key * 64,
            len: key,
            ..RecordWords::default()
        };
        ids.insert(key, index.insert(hi, lo, &words).unwrap());
    }
    for key in 0..20_000 {
        let (hi, lo) = hash(key);
        assert_eq!(index.find(hi, lo), Some(ids[&key]));
        let Lookup::Here(candidate) = reader.find(hi, lo) else {
            panic!()
        };
        assert_eq!(candidate.extent, key * 64);
        assert!(reader.recheck(&candidate, 0));
        index.remove(ids[&key]);
        assert!(!reader.recheck(&candidate, 0));
        assert_eq!(reader.find(hi, lo), Lookup::Absent);
    }
    assert!(index.is_empty());
}

/// Bytes beyond the header per key: records ever used, buckets, overflow buckets ever used.
fn bytes_per_key(index: &IndexWriter) -> f64 {
    let usage = index.usage();
    let lines = usage.records_high + usage.buckets + usage.overflow_high;
    f64::from(lines) * 64.0 / f64::from(usage.len)
}

/// Fills an index to `max` keys; answers the most bytes per key seen at any time from half of it
/// on.
fn worst_bytes_per_key(max: u32) -> f64 {
    let mut index = writer(max, 64);
    let mut worst: f64 = 0.0;
    for key in 0..u64::from(max) {
        let (hi, lo) = hash(key);
        index.insert(hi, lo, &RecordWords::default()).unwrap();
        if key >= u64::from(max / 2) && key % 1000 == 0 {
            worst = worst.max(bytes_per_key(&index));
        }
    }
    println!("{max} keys: {worst:.2} bytes per key, {:?}", index.usage());
    worst
}

#[test]
fn a_million_keys_take_at_most_80_bytes_each() {
    let worst = worst_bytes_per_key(if cfg!(debug_assertions) {
        200_000
    } else {
        1_000_000
    });
    assert!(worst <= 80.0, "{worst}");
    assert!(worst > 64.0, "a record alone is 64 bytes: {worst}");
}

#[test]
#[ignore = "long: make test-long"]
fn ten_million_keys_take_at_most_80_bytes_each() {
    let worst = worst_bytes_per_key(10_000_000);
    assert!(worst <= 80.0, "{worst}");
}

/// One step of the model test.
#[derive(Debug, Clone)]
enum Step {
    Insert(u16),
    Update(u16),
    Expire(u16, u16),
    Remove(u16),
    Find(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Inserts outweigh removals, so that the table grows and its chains with it.
    let key = 0..600_u16;
    let step = prop_oneof![
        5 => key.clone().prop_map(Step::Insert),
        1 => key.clone().prop_map(Step::Update),
        1 => (key.clone(), any::<u16>()).prop_map(|(key, ms)| Step::Expire(key, ms)),
        2 => key.clone().prop_map(Step::Remove),
        1 => key.prop_map(Step::Find),
    ];
    prop::collection::vec(step, 0..1500)
}

/// Hashes of the model test: few distinct tags and buckets, so that everything collides.
fn crowded(key: u16) -> (u64, u64) {
    let key = u64::from(key);
    (mix(key) & 0x1ff, (key << 16) | (mix(key) & 0x3))
}

fn apply(index: &mut IndexWriter, model: &mut HashMap<u16, (RecordId, RecordWords)>, step: &Step) {
    let version = index.usage().len.into();
    match *step {
        Step::Insert(key) => {
            let (hi, lo) = crowded(key);
            let words = RecordWords {
                extent: u64::from(key) * 64,
                version,
                ..RecordWords::default()
            };
            assert_eq!(index.find(hi, lo), model.get(&key).map(|(id, _)| *id));
            if let Entry::Vacant(vacant) = model.entry(key)
                && let Ok(id) = index.insert(hi, lo, &words)
            {
                vacant.insert((id, words));
            }
        },
        Step::Update(key) => {
            if let Some((id, words)) = model.get_mut(&key) {
                let before = index.generation(*id);
                words.len += 1;
                index.update(*id, words);
                assert!(index.generation(*id) > before);
            }
        },
        Step::Expire(key, ms) => {
            if let Some((id, words)) = model.get_mut(&key) {
                words.expiry_ms = ms.into();
                index.set_expiry(*id, ms.into());
            }
        },
        Step::Remove(key) => {
            if let Some((id, words)) = model.remove(&key) {
                let before = index.generation(id);
                assert_eq!(index.remove(id), words);
                assert!(index.generation(id) > before);
            }
        },
        Step::Find(key) => {
            let (hi, lo) = crowded(key);
            assert_eq!(index.find(hi, lo), model.get(&key).map(|(id, _)| *id));
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_like_a_map_under_any_steps(steps in steps()) {
        let mut index = writer(400, 1);
        let reader = IndexReader::of(&index).unwrap();
        let mut model = HashMap::new();
        for (count, step) in steps.iter().enumerate() {
            apply(&mut index, &mut model, step);
            prop_assert_eq!(index.len() as usize, model.len());
            if count % 64 == 0 {
                index.check_invariants();
            }
        }
        index.check_invariants();
        for key in 0..600 {
            let (hi, lo) = crowded(key);
            match (reader.find(hi, lo), model.get(&key)) {
                (Lookup::Absent, None) => {},
                (Lookup::Here(candidate), Some((id, words))) => {
                    prop_assert_eq!(candidate.record, *id);
                    prop_assert_eq!(candidate.extent, words.extent);
                    prop_assert_eq!(candidate.len, words.len);
                    prop_assert_eq!(candidate.version, words.version);
                    let valid = words.expiry_ms == 0 || words.expiry_ms > 1000;
                    prop_assert_eq!(reader.recheck(&candidate, 1000), valid);
                    prop_assert_eq!(index.read(*id), *words);
                },
                (found, expected) => prop_assert!(false, "{:?} but {:?}", found, expected),
            }
        }
    }
}

#[test]
fn a_large_table_splits_by_tags_alone() {
    let mut index = writer(400_000, 1 << 16);
    for key in 0..400_000 {
        // Every third key has tag bits of zero, which the tag does not tell.
        let (hi, lo) = hash(key);
        let hi = if key % 3 == 0 {
            (hi & !0xffff_0000) | ((key & 1) << 16)
        } else {
            hi
        };
        index.insert(hi, lo, &RecordWords::default()).unwrap();
    }
    assert!(index.usage().buckets > 1 << 16);
    index.check_invariants();
}

/// Looks every key below `staying` up; answers how many were absent.
fn misses(reader: &IndexReader, staying: u64) -> u32 {
    let mut missed = 0;
    for key in 0..staying {
        let (hi, lo) = hash(key);
        match reader.find(hi, lo) {
            Lookup::Here(found) => assert_eq!(found.extent, found.version * 64),
            Lookup::Absent => missed += 1,
            Lookup::Elsewhere(_) | Lookup::Unsettled => {},
        }
    }
    missed
}

#[test]
fn keys_that_stay_are_never_missed_while_others_come_and_go() {
    let mut index = writer(20_000, 1);
    let staying = 200;
    for key in 0..staying {
        let (hi, lo) = hash(key);
        let words = RecordWords {
            extent: key * 64,
            version: key,
            ..RecordWords::default()
        };
        index.insert(hi, lo, &words).unwrap();
    }
    let done = AtomicBool::new(false);
    let reader = IndexReader::of(&index).unwrap();
    let missed = thread::scope(|scope| {
        let readers = [0, 1].map(|_| {
            scope.spawn(|| {
                let mut missed = 0;
                while !done.load(Ordering::Relaxed) {
                    missed += misses(&reader, staying);
                }
                missed
            })
        });
        for key in staying..20_000 {
            let (hi, lo) = hash(key);
            index.insert(hi, lo, &RecordWords::default()).unwrap();
            if key % 3 != 0 {
                let (hi, lo) = hash(key - key % 7);
                if key - key % 7 >= staying
                    && let Some(id) = index.find(hi, lo)
                {
                    index.remove(id);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        readers.map(|reader| reader.join().unwrap())
    });
    assert_eq!(missed, [0, 0]);
    index.check_invariants();
}

#[test]
#[should_panic(expected = "its key's bucket")]
fn invariants_notice_an_entry_in_the_wrong_bucket() {
    let mut index = writer(100, 4);
    let id = index.insert(0, 1, &RecordWords::default()).unwrap();
    index.bucket(0).clear(0);
    index.bucket(1).fill(
        0,
        Slot {
            tag: 1,
            record: id.get(),
        },
    );
    index.check_invariants();
}

#[test]
#[should_panic(expected = "counted")]
fn invariants_notice_a_lost_entry() {
    let mut index = writer(100, 4);
    index.insert(0, 1, &RecordWords::default()).unwrap();
    index.bucket(0).clear(0);
    index.check_invariants();
}

#[test]
fn full_index_refuses_and_stays_whole() {
    let mut index = writer(3, 1);
    for key in 0..3 {
        index.insert(key, key + 1, &RecordWords::default()).unwrap();
    }
    assert_eq!(index.insert(9, 9, &RecordWords::default()), Err(IndexFull));
    index.check_invariants();
    let id = index.find(1, 2).unwrap();
    index.remove(id);
    assert_eq!(index.insert(9, 9, &RecordWords::default()), Ok(id));
}

#[test]
fn one_bucket_takes_keys_until_overflow_is_used_up() {
    let mut index = writer(1000, 1);
    let mut key = 0;
    let full = loop {
        // Equal low 50 bits: linear hashing can never part these keys.
        match index.insert(7, (1 << 16) | (key << 17) | 5, &RecordWords::default()) {
            Ok(_) => key += 1,
            Err(full) => break full,
        }
    };
    assert_eq!(full, IndexFull);
    index.check_invariants();
    for key in 0..key {
        assert!(index.find(7, (1 << 16) | (key << 17) | 5).is_some());
    }
}

#[test]
fn owner_lease_gates_recheck() {
    let mut index = writer(10, 1);
    let reader = IndexReader::of(&index).unwrap();
    let words = RecordWords {
        owner: 3,
        lease_generation: 2,
        ..RecordWords::default()
    };
    index.insert(1, 1, &words).unwrap();
    let Lookup::Here(candidate) = reader.find(1, 1) else {
        panic!()
    };
    assert!(!reader.recheck(&candidate, 50), "no lease yet");
    index.set_owner_lease(3, 2, 100);
    assert!(reader.recheck(&candidate, 99));
    assert!(!reader.recheck(&candidate, 100), "lapsed");
    index.set_owner_lease(3, 3, 200);
    assert!(!reader.recheck(&candidate, 150), "another generation");
    let beyond = Candidate {
        owner: u16::MAX,
        ..candidate
    };
    assert!(!reader.recheck(&beyond, 0));
}

#[test]
fn states_other_than_here_send_to_the_shard() {
    let mut index = writer(10, 1);
    let reader = IndexReader::of(&index).unwrap();
    let states = [
        RecordState::Ssd,
        RecordState::Elsewhere,
        RecordState::Tombstone,
    ];
    for (key, state) in (1..).zip(states) {
        let words = RecordWords {
            state,
            ..RecordWords::default()
        };
        index.insert(key, key, &words).unwrap();
        assert_eq!(reader.find(key, key), Lookup::Elsewhere(state));
    }
}

#[test]
fn reader_of_a_shared_memory_file_sees_the_writer_and_survives_nonsense() {
    let options = IndexOptions {
        shard: 2,
        tenant: 7,
        boot_id: 9,
        ..IndexOptions::new(5000)
    };
    let size = options.memory_size_bytes();
    let memfd = Memfd::create("index-test", size, MemfdOptions::default()).unwrap();
    let len = usize::try_from(size).unwrap();
    let empty = Mapping::read_only(memfd.read_only().unwrap().as_fd(), 0, len).unwrap();
    assert!(matches!(
        IndexReader::new(empty),
        Err(IndexMemoryError::NotAnIndex)
    ));
    let mut index = IndexWriter::new(IndexMemory::shared(&memfd).unwrap(), &options).unwrap();
    let mapping = Mapping::read_only(memfd.read_only().unwrap().as_fd(), 0, len).unwrap();
    let reader = IndexReader::new(mapping).unwrap();
    assert_eq!((reader.options().shard, reader.options().tenant), (2, 7));
    assert_eq!(reader.options().boot_id, 9);
    for key in 0..5000 {
        let (hi, lo) = hash(key);
        index.insert(hi, lo, &RecordWords::default()).unwrap();
        assert!(matches!(reader.find(hi, lo), Lookup::Here(_)));
    }
    let short = Mapping::read_only(memfd.read_only().unwrap().as_fd(), 0, len / 2).unwrap();
    assert!(matches!(
        IndexReader::new(short),
        Err(IndexMemoryError::NotAnIndex)
    ));
    // Noise everywhere behind the header's first line: readers stay inside and come back.
    let lines = index.lines();
    for line in 1..lines.count() {
        for word in 0..8 {
            let noise = mix((line * 8 + word) as u64);
            lines.line(line).store(word, noise, Ordering::Relaxed);
        }
    }
    lines.line(TABLE.0).store(TABLE.1, 900, Ordering::Relaxed);
    for key in 0..5000 {
        let (hi, lo) = hash(key);
        let found = reader.find(hi, lo);
        assert!(
            !matches!(found, Lookup::Here(_)),
            "a 128-bit hash was hit by chance"
        );
    }
    let small = IndexOptions::new(1_000_000);
    let refused = IndexWriter::new(IndexMemory::shared(&memfd).unwrap(), &small);
    assert!(matches!(refused, Err(IndexMemoryError::TooSmall { .. })));
}
