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
use std::time::Duration;

use chariot_shm::index::{
    IndexMemory, IndexOptions, IndexReader, IndexWriter, Lookup, RecordWords,
};
use chariot_shm::{Mapping, Memfd, MemfdOptions};

const BATCH: usize = 64;
const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn hash(key: u64) -> (u64, u64) {
    (mix(key), mix(!key))
}

/// Time this thread has spent on a processor: the machine may be busy with other things.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists, and `time` is one timespec to write to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

fn nanoseconds(started: Duration, count: u64) -> f64 {
    processor_time().saturating_sub(started).as_secs_f64() * 1e9 / count as f64
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
        for (hi, _) in batch {
            reader.prefetch_record(hi);
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
    // `index_speed KEYS FINDS KINDS` runs one row, to count instructions under valgrind. KINDS is a
    // sum: 1 finds one at a time, 2 in batches, 4 finds what is absent.
    let arguments: Vec<u64> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse().unwrap())
        .collect();
    let sizes = arguments.first().map_or(&SIZES[..], std::slice::from_ref);
    for &keys in sizes {
        let options = IndexOptions::new(u32::try_from(keys).unwrap());
        let size = options.memory_size_bytes();
        let memfd = Memfd::create("index-speed", size, MemfdOptions::default()).unwrap();
        let mut index = IndexWriter::new(IndexMemory::shared(&memfd).unwrap(), &options).unwrap();
        let started = processor_time();
        for key in 0..keys {
            let (hi, lo) = hash(key);
            index.insert(hi, lo, &RecordWords::default()).unwrap();
        }
        let insert = nanoseconds(started, keys);
        let len = usize::try_from(size).unwrap();
        let read_only = memfd.read_only().unwrap();
        let reader =
            IndexReader::new(Mapping::read_only(read_only.as_fd(), 0, len).unwrap()).unwrap();
        let finds = arguments.get(1).copied().unwrap_or(2_000_000);
        let kinds = arguments.get(2).copied().unwrap_or(7);
        let of_kind = |kind| if kinds & kind == 0 { 0 } else { finds };
        for key in 0..keys {
            black_box(find(&reader, key));
        }
        let started = processor_time();
        let mut odd = 0;
        for turn in 0..of_kind(1) {
            odd = find(&reader, (mix(turn) + odd) % keys);
        }
        black_box(odd);
        let find = nanoseconds(started, finds);
        let started = processor_time();
        find_batches(&reader, keys, of_kind(2));
        let batch = nanoseconds(started, finds);
        let started = processor_time();
        for turn in 0..of_kind(4) {
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
