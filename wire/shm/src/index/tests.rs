//! The index against a std map, over private memory.

use std::collections::HashMap;

use super::{IndexMemory, IndexOptions, IndexReader, IndexWriter, Lookup, RecordWords};

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
