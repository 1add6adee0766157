//! Long random schedules of the index and its pins: one writer that inserts, overwrites, removes,
//! expires, lapses leases, grows and reuses, beside two readers (and three).
//!
//! What holds in each: bytes under a pin are those of the version that was found, for as long as
//! the pin stands; no version older than one whose completion was known before the look-up is read
//! (nor one that had expired, or whose lease had lapsed); no key that is present throughout a
//! look-up is absent. Each step that matters without weak memory is left out once, and a schedule
//! must fail. Seeds are fixed, so that a run is the same everywhere; `CHARIOT_SCHEDULE_SEED` begins
//! the long ones elsewhere, `CHARIOT_SCHEDULE_SECONDS` says for how long.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::schedule::{Schedule, mix, point};
use super::steps::{LEFT_OUT, Step, kept};
use super::{IndexMemory, IndexOptions, IndexReader, IndexWriter, Lookup, RecordId, RecordWords};

/// Keys: the first twelve share one bucket for as long as there are four, so that chains overflow.
const KEYS: usize = 24;
const EXTENTS: usize = 32;
/// What a writer and a reader do in one schedule.
const WRITES: u64 = 60;
const READS: u64 = 60;
/// Bytes that belong to no version.
const REUSED: u64 = u64::MAX;
/// An expiry that no schedule reaches by itself.
const FAR: u64 = 1 << 40;

/// What everybody knows of a key.
#[derive(Default)]
struct Known {
    /// The newest version whose write, removal, expiry or lapse is complete, times two; odd when
    /// its bytes are there.
    completed: AtomicU64,
    /// The newest version whose write (or other) has begun.
    begun: AtomicU64,
}

struct World {
    keys: [Known; KEYS],
    bytes: [AtomicU64; EXTENTS],
    pins: Vec<AtomicU64>,
    now_ms: AtomicU64,
    hits: AtomicU64,
}

impl World {
    fn new(readers: usize) -> Self {
        Self {
            keys: std::array::from_fn(|_| Known::default()),
            bytes: std::array::from_fn(|_| AtomicU64::new(REUSED)),
            pins: (0..readers).map(|_| AtomicU64::new(0)).collect(),
            now_ms: AtomicU64::new(1),
            hits: AtomicU64::new(0),
        }
    }
}

fn load(word: &AtomicU64) -> u64 {
    point();
    word.load(SeqCst)
}

fn store(word: &AtomicU64, value: u64) {
    point();
    word.store(value, SeqCst);
}

/// Hash of a key: low bits choose the bucket, bits from 16 on the tag, of which pairs are alike.
fn hash(key: usize) -> (u64, u64) {
    let low = if key < KEYS / 2 { key * 16 } else { key };
    let tag = 5 + key / 2;
    (((tag as u64) << 16) | low as u64, key as u64)
}

fn bytes_of(key: usize, version: u64) -> u64 {
    ((key as u64) << 32) | version
}

/// The one writer.
struct Writer {
    index: IndexWriter,
    world: Arc<World>,
    random: u64,
    present: [Option<(RecordId, u64)>; KEYS],
    free: Vec<u64>,
    retired: Vec<u64>,
    lease_generation: u32,
}

impl Writer {
    fn below(&mut self, bound: u64) -> u64 {
        self.random = mix(self.random);
        self.random % bound
    }

    fn run(mut self) {
        for _ in 0..WRITES {
            let key = usize::try_from(self.below(KEYS as u64)).expect("small");
            match (self.below(16), self.present[key]) {
                (0..9, _) => self.write(key),
                (9..13, Some((id, extent))) => self.remove(key, id, extent),
                (13, Some((id, extent))) => self.expire(key, id, extent),
                (14, _) => self.lapse(),
                _ => self.sweep(),
            }
        }
    }

    /// Begins another version of `key` and answers its number.
    fn begin(&self, key: usize) -> u64 {
        let known = &self.world.keys[key];
        let version = known.begun.load(SeqCst) + 1;
        store(&known.begun, version);
        version
    }

    fn complete(&self, key: usize, version: u64, is_there: bool) {
        let completed = version * 2 + u64::from(is_there);
        store(&self.world.keys[key].completed, completed);
    }

    fn write(&mut self, key: usize) {
        let Some(extent) = self.free.pop() else {
            return self.sweep();
        };
        let version = self.begin(key);
        store(
            &self.world.bytes[usize::try_from(extent).expect("small")],
            bytes_of(key, version),
        );
        let owner = u16::from(key.is_multiple_of(5));
        let words = RecordWords {
            extent: extent * 64,
            len: 8 + version,
            version,
            expiry_ms: if key.is_multiple_of(3) { FAR } else { 0 },
            owner,
            lease_generation: u32::from(owner) * self.lease_generation,
            ..RecordWords::default()
        };
        let (hi, lo) = hash(key);
        let id = if let Some((id, old)) = self.present[key] {
            self.index.update(id, &words);
            self.retired.push(old);
            id
        } else {
            self.index.insert(hi, lo, &words).expect("room for all")
        };
        self.present[key] = Some((id, extent));
        self.complete(key, version, true);
    }

    fn remove(&mut self, key: usize, id: RecordId, extent: u64) {
        let version = self.begin(key);
        self.index.remove(id);
        self.retired.push(extent);
        self.present[key] = None;
        self.complete(key, version, false);
    }

    /// The time of a version comes; its record goes later.
    fn expire(&mut self, key: usize, id: RecordId, extent: u64) {
        let version = self.begin(key);
        let now = self.world.now_ms.load(SeqCst);
        self.index.set_expiry(id, now + 1);
        store(&self.world.now_ms, now + 2);
        self.complete(key, version, false);
        self.remove(key, id, extent);
    }

    /// The owner's lease lapses: what was read under it is not readable any more.
    fn lapse(&mut self) {
        let lapsed: Vec<usize> = (0..KEYS).step_by(5).collect();
        let versions: Vec<u64> = lapsed.iter().map(|&key| self.begin(key)).collect();
        self.lease_generation += 1;
        self.index.set_owner_lease(
            1,
            self.lease_generation,
            FAR + u64::from(self.lease_generation),
        );
        for (key, version) in lapsed.into_iter().zip(versions) {
            self.complete(key, version, false);
        }
    }

    /// Scans the pins and reuses what nobody has pinned.
    fn sweep(&mut self) {
        let pinned: Vec<u64> = self.world.pins.iter().map(load).collect();
        for extent in std::mem::take(&mut self.retired) {
            if pinned.contains(&(extent + 1)) {
                self.retired.push(extent);
            } else {
                let bytes = &self.world.bytes[usize::try_from(extent).expect("small")];
                store(bytes, REUSED);
                self.free.push(extent);
            }
        }
    }
}

fn read(world: &World, reader: &IndexReader, place: usize, mut random: u64) {
    let mut seen = [0; KEYS];
    for _ in 0..READS {
        random = mix(random);
        let key = usize::try_from(random % KEYS as u64).expect("small");
        // Both halves of a find: a first look hides most of what the second one guards against.
        let (hi, lo) = hash(key);
        let find = if (random >> 32).is_multiple_of(4) {
            IndexReader::find
        } else {
            IndexReader::find_otherwise
        };
        let look = || find(reader, hi, lo);
        if let Some(version) = read_once(world, (reader, look), place, key, seen[key]) {
            seen[key] = version;
            world.hits.fetch_add(1, SeqCst);
        }
    }
}

/// Looks a key up as a client does, and answers the version read.
fn read_once(
    world: &World,
    (reader, look): (&IndexReader, impl FnOnce() -> Lookup),
    place: usize,
    key: usize,
    seen: u64,
) -> Option<u64> {
    let known = &world.keys[key];
    let completed = load(&known.completed);
    let now_ms = load(&world.now_ms);
    let candidate = match look() {
        Lookup::Here(candidate) => candidate,
        Lookup::Absent => {
            let is_undisturbed = load(&known.begun) == completed / 2;
            assert!(
                completed.is_multiple_of(2) || !is_undisturbed,
                "key {key} is absent though it is there throughout"
            );
            return None;
        },
        Lookup::Elsewhere(_) | Lookup::Unsettled => return None,
    };
    store(&world.pins[place], (candidate.extent >> 6) + 1);
    let holds = reader.recheck(&candidate, now_ms);
    if holds {
        let bytes = &world.bytes[usize::try_from(candidate.extent / 64).expect("small")];
        for _ in 0..3 {
            assert_eq!(
                load(bytes),
                bytes_of(key, candidate.version),
                "bytes of another version or key"
            );
        }
        assert_eq!(candidate.len, 8 + candidate.version, "two versions' words");
        let floor = seen.max(completed / 2);
        assert!(candidate.version >= floor, "an old version of key {key}");
    }
    store(&world.pins[place], 0);
    holds.then_some(candidate.version)
}

/// One schedule; the first thread writes, the others read. Answers the hits.
fn run(seed: u64, readers: usize) -> Result<u64, Box<dyn std::any::Any + Send>> {
    let options = IndexOptions {
        initial_buckets: 1,
        ..IndexOptions::new(u32::try_from(KEYS).expect("small"))
    };
    let memory = IndexMemory::heap(&options).expect("small");
    let mut index = IndexWriter::new(memory, &options).expect("sized by its options");
    index.set_owner_lease(1, 1, FAR);
    let world = Arc::new(World::new(readers));
    let left_out = LEFT_OUT.get();
    let mut bodies: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    let views: Vec<IndexReader> = (0..readers)
        .map(|_| IndexReader::of(&index).expect("a live index"))
        .collect();
    let writer = Writer {
        index,
        world: Arc::clone(&world),
        random: mix(seed),
        present: [None; KEYS],
        free: (0..EXTENTS as u64).collect(),
        retired: Vec::new(),
        lease_generation: 1,
    };
    bodies.push(Box::new(move || {
        LEFT_OUT.set(left_out);
        writer.run();
    }));
    for (place, reader) in views.into_iter().enumerate() {
        let world = Arc::clone(&world);
        let random = mix(seed ^ ((place as u64 + 1) << 40));
        bodies.push(Box::new(move || {
            LEFT_OUT.set(left_out);
            read(&world, &reader, place, random);
        }));
    }
    Schedule::run(seed, bodies)?;
    Ok(world.hits.load(SeqCst))
}

#[test]
fn one_writer_and_two_readers_in_random_schedules() {
    let hits: u64 = (1..=200).map(|seed| run(seed, 2).expect("holds")).sum();
    assert!(hits > 200 * READS / 4, "something is read: {hits}");
}

#[test]
#[ignore = "long: make test-long"]
fn one_writer_and_up_to_three_readers_in_long_random_schedules() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = number("CHARIOT_SCHEDULE_SEED").unwrap_or(1_000_000);
    let seconds = number("CHARIOT_SCHEDULE_SECONDS").unwrap_or(120);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut hits) = (first, 0);
    while Instant::now() < end {
        let readers = 1 + usize::try_from(seed % 3).expect("small");
        match run(seed, readers) {
            Ok(some) => hits += some,
            Err(panic) => {
                eprintln!("seed {seed}, {readers} readers");
                std::panic::resume_unwind(panic);
            },
        }
        seed += 1;
    }
    eprintln!("{} schedules, {hits} hits", seed - first);
    assert!(hits > 0);
}

/// Some schedule must fail once the step is left out.
fn fails_without(step: Step) {
    LEFT_OUT.set(Some(step));
    assert!(!kept(step));
    let found = (1..=2_000).find(|&seed| run(seed, 2).is_err());
    LEFT_OUT.set(None);
    let seed = found.unwrap_or_else(|| panic!("{step:?} can be left out unnoticed"));
    eprintln!("without {step:?}, schedule {seed} fails");
}

macro_rules! mutations {
    ($($name:ident: $step:ident;)*) => {
        $(#[test]
        fn $name() {
            fails_without(Step::$step);
        })*
    };
}

mutations! {
    pin_recheck_is_needed: PinRecheck;
    record_recheck_is_needed: RecordRecheck;
    generation_odd_is_needed: GenerationOdd;
    generation_rises_is_needed: GenerationRises;
    sequence_recheck_is_needed: SequenceRecheck;
    sequence_odd_is_needed: SequenceOdd;
    table_recheck_is_needed: TableRecheck;
    split_order_is_needed: SplitOrder;
    expiry_recheck_is_needed: ExpiryRecheck;
    lease_recheck_is_needed: LeaseRecheck;
}
