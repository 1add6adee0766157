//! Hit ratios under workloads, and the cost of a call at growing sizes.
//!
//! `CHARIOT_TRACE=FILE cargo test -p chariot-store --release trace -- --nocapture` prints the hit
//! ratio of both policies on a trace of JSON lines (`hash_ids`: one block of 64 KiB each).

use std::time::Instant;

use chariot_base::{Extent, Random, SplitMix64};

use super::tests::{POLICIES, entry, key, store};
use super::*;

/// A cache of `bytes_max` payload bytes over one store, which keeps to them by evicting.
struct Cache {
    store: Store,
    effects: Effects,
    bytes_max: u64,
    next_place: u64,
    hits: u64,
    lookups: u64,
}

impl Cache {
    fn new(policy: Policy, records: u32, bytes_max: u64) -> Self {
        let effects = Effects::new();
        Self {
            store: store(policy, records),
            effects,
            bytes_max,
            next_place: 0,
            hits: 0,
            lookups: 0,
        }
    }

    fn put(&mut self, number: u64, len: u64) {
        while self.store.bytes() + len > self.bytes_max {
            let want_bytes = self.store.bytes() + len - self.bytes_max;
            let evicted = self
                .store
                .evict(want_bytes, &|_: Extent| false, &mut self.effects);
            assert!(evicted.entries > 0 || evicted.blocked == Some(Blocked::Steps));
        }
        // Places come round after 2^20 writes; no entry lives that long here.
        let new = entry(self.next_place % (1 << 20), len);
        self.next_place += 1;
        self.store
            .insert(key(number), &new, self.next_place, &mut self.effects)
            .unwrap();
        self.effects.retired.clear();
    }

    fn get_or_put(&mut self, number: u64, len: u64) {
        self.lookups += 1;
        if self.store.lookup(key(number), 0).is_some() {
            self.hits += 1;
        } else {
            self.put(number, len);
        }
    }

    fn hit_ratio(&self) -> f64 {
        self.hits as f64 / self.lookups as f64
    }
}

/// Ranks drawn with probability proportional to 1 / (rank + 1)^0.9.
struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    fn new(ranks: u32) -> Self {
        let mut sum = 0.0;
        let cumulated = (0..ranks)
            .map(|rank| {
                sum += f64::from(rank + 1).powf(-0.9);
                sum
            })
            .collect();
        Self { cumulated }
    }

    fn draw(&self, random: &mut SplitMix64) -> u64 {
        let total = self.cumulated.last().unwrap();
        let point = random.below(1 << 32) as f64 / f64::from(u32::MAX) * total;
        self.cumulated.partition_point(|&sum| sum < point) as u64
    }
}

/// Sizes from 4 KiB to 64 KiB that belong to the key.
fn len_of(number: u64) -> u64 {
    4096 << ((key(number).lo >> 3) & 0b111).min(4)
}

fn zipf_and_scans(policy: Policy, seed: u64, zipf: &Zipf) -> f64 {
    let mut random = SplitMix64::new(seed);
    let mut cache = Cache::new(policy, 8_192, 32 << 20);
    let mut next_scan = 1_000_000;
    for request in 0..120_000 {
        let number = zipf.draw(&mut random);
        cache.get_or_put(number, len_of(number));
        let scan_len = if request % 20_000 == 10_000 { 3_000 } else { 0 };
        for number in next_scan..next_scan + scan_len {
            cache.get_or_put(number, len_of(number));
        }
        next_scan += scan_len;
    }
    cache.store.check_invariants();
    cache.hit_ratio()
}

#[test]
fn s3fifo_is_no_worse_than_lru_under_zipf_and_scans() {
    let zipf = Zipf::new(20_000);
    for seed in [1, 2] {
        let [lru, s3fifo] = POLICIES.map(|policy| zipf_and_scans(policy, seed, &zipf));
        println!("zipf and scans, seed {seed}: lru {lru:.4}, s3fifo {s3fifo:.4}");
        assert!(
            s3fifo >= lru - 0.01,
            "seed {seed}: lru {lru:.4}, s3fifo {s3fifo:.4}"
        );
        assert!(lru > 0.3 && s3fifo < 0.99, "the workload says something");
    }
}

/// The blocks of one request of a trace: the numbers in the brackets behind `"hash_ids"`.
fn blocks_of(line: &str) -> Option<Vec<u64>> {
    let (_, list) = line.split_once("\"hash_ids\"")?;
    let (_, list) = list.split_once('[')?;
    let (list, _) = list.split_once(']')?;
    list.split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(|id| id.parse().ok())
        .collect()
}

/// Longest existing prefix, then the rest is written: what `chariot-bench replay` does.
fn replay(policy: Policy, requests: &[Vec<u64>], bytes_max: u64) -> f64 {
    const BLOCK: u64 = 64 << 10;
    let records = u32::try_from(bytes_max / BLOCK).unwrap() + 1;
    let mut cache = Cache::new(policy, records, bytes_max);
    for blocks in requests {
        let is_hit = |cache: &mut Cache, &number: &u64| {
            cache.store.lookup(key(number), cache.next_place).is_some()
        };
        let prefix = blocks
            .iter()
            .take_while(|number| is_hit(&mut cache, number))
            .count();
        cache.hits += prefix as u64;
        cache.lookups += blocks.len() as u64;
        blocks[prefix..]
            .iter()
            .for_each(|&number| cache.put(number, BLOCK));
    }
    cache.store.check_invariants();
    cache.hit_ratio()
}

#[test]
fn trace_hit_ratio_of_both_policies() {
    let Some(path) = std::env::var_os("CHARIOT_TRACE") else {
        println!("set CHARIOT_TRACE to a file of JSON lines");
        return;
    };
    let text = std::fs::read_to_string(path).expect("CHARIOT_TRACE names a readable file");
    let requests: Vec<Vec<u64>> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| blocks_of(line).expect("each line has hash_ids"))
        .collect();
    for gib in [1, 2, 4, 64] {
        let [lru, s3fifo] = POLICIES.map(|policy| replay(policy, &requests, gib << 30));
        println!(
            "{} requests, {gib} GiB: lru {lru:.4}, s3fifo {s3fifo:.4}",
            requests.len()
        );
        assert!(lru > 0.0 && s3fifo > 0.0);
    }
}

#[test]
fn trace_line_gives_its_blocks_and_nonsense_none() {
    let line = r#"{"timestamp": 3, "input_length": 9, "output_length": 1, "hash_ids": [0, 14,15]}"#;
    assert_eq!(blocks_of(line), Some(vec![0, 14, 15]));
    assert_eq!(blocks_of(r#"{"hash_ids": []}"#), Some(vec![]));
    assert_eq!(blocks_of(r#"{"hash_ids": [x]}"#), None);
    assert_eq!(blocks_of("{}"), None);
}

const CALLS: u64 = 100_000;

fn filled(policy: Policy, entries: u64) -> Store {
    let (mut store, mut effects) = (
        store(policy, u32::try_from(entries).unwrap()),
        Effects::new(),
    );
    for number in 0..entries {
        let new = NewEntry {
            expiry_ms: 1 + number * 7,
            ..entry(number % (1 << 20), 4096)
        };
        store.insert(key(number), &new, 0, &mut effects).unwrap();
    }
    store
}

#[inline(never)]
fn bench_lookups(store: &mut Store, entries: u64, calls: u64) -> u64 {
    let mut random = SplitMix64::new(7);
    (0..calls)
        .filter(|_| store.lookup(key(random.below(entries)), 0).is_some())
        .count() as u64
}

/// Each of these evicts one entry first: the index is full.
#[inline(never)]
fn bench_inserts(store: &mut Store, entries: u64, calls: u64) -> usize {
    let (mut effects, mut retired) = (Effects::new(), 0);
    for number in 0..calls {
        let place = (entries + number) % (1 << 20);
        let new = NewEntry {
            expiry_ms: 1 + number * 7,
            ..entry(place, 4096)
        };
        store
            .insert(key(entries + number), &new, 0, &mut effects)
            .unwrap();
        retired += effects.retired.len();
        effects.retired.clear();
    }
    retired
}

#[test]
fn bench_bodies_run_at_smoke_size() {
    for policy in POLICIES {
        let mut store = filled(policy, 500);
        assert_eq!(bench_lookups(&mut store, 500, 100), 100);
        assert_eq!(bench_inserts(&mut store, 500, 1_000), 1_000);
        store.check_invariants();
    }
}

/// Prints nanoseconds a call. For instructions, callgrind counts 100,000 calls of each policy:
/// `CHARIOT_ENTRIES=1000000 valgrind --tool=callgrind --toggle-collect='*bench_lookups*'
/// target/release/deps/chariot_store-HASH store_cost --ignored` (or `*bench_inserts*`).
///
/// On x86-64, key generation included, from 10^4 to 10^6 entries: a lookup 285 to 289, an insert
/// that evicts 1,361 to 1,374 instructions.
#[test]
#[ignore = "long: make test-long"]
fn store_cost_per_call_at_growing_sizes() {
    let only: Option<u64> = std::env::var("CHARIOT_ENTRIES")
        .ok()
        .map(|text| text.parse().unwrap());
    for policy in POLICIES {
        for entries in
            only.map_or_else(|| vec![10_000, 100_000, 1_000_000], |entries| vec![entries])
        {
            let mut store = filled(policy, entries);
            let time = |call: &mut dyn FnMut()| {
                let start = Instant::now();
                call();
                start.elapsed().as_secs_f64() * 1e9 / CALLS as f64
            };
            let lookup_ns = time(&mut || {
                assert_eq!(bench_lookups(&mut store, entries, CALLS), CALLS);
            });
            let insert_ns = time(&mut || {
                assert!(bench_inserts(&mut store, entries, CALLS) > 0);
            });
            println!(
                "store/{policy:?}/{entries}: lookup {lookup_ns:.0} ns, insert {insert_ns:.0} ns"
            );
        }
    }
}
