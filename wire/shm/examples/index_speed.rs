//! Prints what the index costs: nanoseconds per insert and per find, bytes per key.
//!
//! `cargo run --release -p chariot-shm --example index_speed`: 10^4 to 10^7 keys in a shared memory
//! file, looked up in random order through a read-only mapping: one at a time (each address depends
//! on the answer before it), and in batches of 64 with the prefetching passes.

#![expect(clippy::print_stdout, reason = "a table is what it is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a tool for us; a failure may as well end it"
)]

use std::hint::black_box;
use std::os::fd::AsFd;
use std::time::Instant;

use chariot_shm::index::{
    IndexMemory, IndexOptions, IndexReader, IndexWriter, Lookup, RecordWords,
};
use chariot_shm::{Mapping, Memfd, MemfdOptions};

const BATCH: usize = 64;

fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn hash(key: u64) -> (u64, u64) {
    (mix(key), mix(!key))
}

fn nanoseconds(started: Instant, count: u64) -> f64 {
    started.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// Finds and re-checks; answers what the next key depends on.
fn find(reader: &IndexReader, key: u64) -> u64 {
    let (hi, lo) = hash(key);
    match reader.find(hi, lo) {
        Lookup::Here(candidate) if reader.recheck(&candidate, 1) => candidate.extent & 1,
        found => panic!("key {key} is {found:?}"),
    }
}

fn find_batches(reader: &IndexReader, keys: u64, finds: u64) {
    let mut batch = [(0, 0); BATCH];
    for turn in 0..finds / BATCH as u64 {
        for (index, place) in batch.iter_mut().enumerate() {
            *place = hash(mix(turn * BATCH as u64 + index as u64) % keys);
            reader.prefetch(place.0);
        }
        for (hi, lo) in batch {
            reader.prefetch_record(hi, lo);
        }
        for (hi, lo) in batch {
            black_box(reader.find(hi, lo));
        }
    }
}

fn main() {
    println!(
        "{:>9} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "keys", "insert ns", "find ns", "batch ns", "absent ns", "bytes/key"
    );
    for keys in [10_000_u64, 100_000, 1_000_000, 10_000_000] {
        let options = IndexOptions::new(u32::try_from(keys).unwrap());
        let size = options.memory_size_bytes();
        let memfd = Memfd::create("index-speed", size, MemfdOptions::default()).unwrap();
        let mut index = IndexWriter::new(IndexMemory::shared(&memfd).unwrap(), &options).unwrap();
        let started = Instant::now();
        for key in 0..keys {
            let (hi, lo) = hash(key);
            index.insert(hi, lo, &RecordWords::default()).unwrap();
        }
        let insert = nanoseconds(started, keys);
        let len = usize::try_from(size).unwrap();
        let read_only = memfd.read_only().unwrap();
        let reader =
            IndexReader::new(Mapping::read_only(read_only.as_fd(), 0, len).unwrap()).unwrap();
        let finds = 2_000_000;
        (0..keys).for_each(|key| drop(black_box(find(&reader, key))));
        let started = Instant::now();
        let mut odd = 0;
        for turn in 0..finds {
            odd = find(&reader, (mix(turn) + odd) % keys);
        }
        black_box(odd);
        let find = nanoseconds(started, finds);
        let started = Instant::now();
        find_batches(&reader, keys, finds);
        let batch = nanoseconds(started, finds);
        let started = Instant::now();
        for turn in 0..finds {
            let (hi, lo) = hash(turn + keys);
            assert_eq!(reader.find(hi, lo), Lookup::Absent);
        }
        let absent = nanoseconds(started, finds);
        let usage = index.usage();
        let lines = usage.buckets + usage.overflow_high + usage.records_high;
        let bytes = f64::from(lines) * 64.0 / keys as f64;
        println!(
            "{keys:>9} {insert:>10.1} {find:>10.1} {batch:>10.1} {absent:>10.1} {bytes:>10.2}"
        );
    }
}
