//! The index under a model checker: the writer beside readers, every interleaving within bounds.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p chariot-shm --release --lib index::model`
//!
//! What every model asserts: a pinned and re-checked extent holds the bytes of the version that the
//! reader found (the extent is a race-checked cell, so that a reuse beside a read fails at once);
//! no lookup of a key that is present throughout says "absent"; no reader takes another key's
//! extent for its own. Each step is then left out once, and a model must fail.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::steps::{LEFT_OUT, Step, fence, order};
use super::{IndexMemory, IndexOptions, IndexReader, IndexWriter, Lookup, RecordId, RecordWords};

/// Extents of the modelled arena.
const EXTENTS: usize = 3;
/// Schedules tried at most: the models of two threads end by themselves, except where a key
/// returns; those of three threads are cut here (depth first, so the early part of the tree is
/// complete).
const SCHEDULES_MAX: usize = 20_000;
/// What an extent holds once it was reused for something outside the index.
const REUSED: u64 = 999;

/// The arena and the pin slots of two readers.
struct Arena {
    bytes: [UnsafeCell<u64>; EXTENTS],
    pins: [AtomicU64; 2],
}

// SAFETY: the cells are loom's, which report any unsynchronised access.
unsafe impl Sync for Arena {}

/// A model's shared parts.
struct Model {
    index: IndexWriter,
    arena: Arc<Arena>,
}

/// A key: bucket bits and identity.
type Key = (u64, u64);

fn words(extent: usize, version: u64) -> RecordWords {
    RecordWords {
        extent: extent as u64 * 64,
        len: 8 + version,
        version,
        ..RecordWords::default()
    }
}

impl Model {
    fn new(initial_buckets: u32, max_records: u32) -> Self {
        let options = IndexOptions {
            initial_buckets,
            ..IndexOptions::new(max_records)
        };
        let memory = IndexMemory::heap(&options).expect("modelled");
        let index = IndexWriter::new(memory, &options).expect("sized by its options");
        let arena = Arc::new(Arena {
            bytes: std::array::from_fn(|_| UnsafeCell::new(0)),
            pins: std::array::from_fn(|_| AtomicU64::new(0)),
        });
        Self { index, arena }
    }

    /// Starts a reader that looks `key` up at `now_ms`.
    fn reader(&self, slot: usize, key: Key, now_ms: u64) -> thread::JoinHandle<Outcome> {
        let reader = IndexReader::of(&self.index).expect("a live index");
        let arena = Arc::clone(&self.arena);
        thread::spawn(move || arena.look_up(&reader, slot, key, now_ms))
    }

    /// Writes an extent's bytes, as a client with a lease does before it publishes.
    fn fill(&self, extent: usize, version: u64) {
        // SAFETY: loom reports any unsynchronised access.
        self.arena.bytes[extent].with_mut(|bytes| unsafe { *bytes = version });
    }

    fn insert(&mut self, key: Key, extent: usize, version: u64) -> RecordId {
        self.fill(extent, version);
        let words = words(extent, version);
        self.index.insert(key.0, key.1, &words).expect("room")
    }

    /// Fences, scans the pins, and says whether the extent may be reused.
    fn reusable(&self, extent: usize) -> bool {
        fence(Step::ScanFence, SeqCst);
        let pin = extent as u64 + 1;
        let order = order(Step::PinSee, Acquire);
        self.arena.pins.iter().all(|slot| slot.load(order) != pin)
    }

    fn retire(&self, extent: usize) {
        if self.reusable(extent) {
            self.fill(extent, REUSED);
        }
    }
}

/// What a reader ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Absent,
    /// Read, and found this version.
    Read(u64),
    /// Found but failed its re-check, or unsettled: the ring answers.
    Ask,
}

impl Arena {
    fn look_up(&self, reader: &IndexReader, slot: usize, key: Key, now_ms: u64) -> Outcome {
        let candidate = match reader.find(key.0, key.1) {
            Lookup::Absent => return Outcome::Absent,
            Lookup::Elsewhere(_) | Lookup::Unsettled => return Outcome::Ask,
            Lookup::Here(candidate) => candidate,
        };
        assert_eq!(
            candidate.len,
            8 + candidate.version,
            "words of two versions"
        );
        let pin = &self.pins[slot];
        pin.store((candidate.extent >> 6) + 1, Relaxed);
        fence(Step::PinFence, SeqCst);
        let mut outcome = Outcome::Ask;
        if reader.recheck(&candidate, now_ms) {
            let bytes = &self.bytes[usize::try_from(candidate.extent / 64).expect("small")];
            // SAFETY: loom reports any unsynchronised access.
            let version = bytes.with(|bytes| unsafe { *bytes });
            assert_eq!(
                version, candidate.version,
                "bytes of another version or key"
            );
            outcome = Outcome::Read(version);
        }
        pin.store(0, order(Step::PinRelease, Release));
        outcome
    }
}

// Keys whose low bits choose the bucket; tags differ.
const STAYS: Key = (0x11_0000, 1);
const MOVES: Key = (0x12_0001, 2);
const OTHER: Key = (0x13_0002, 3);
const FOURTH: Key = (0x14_0004, 4);

fn insert() {
    let mut model = Model::new(4, 4);
    let reader = model.reader(0, STAYS, 0);
    model.insert(STAYS, 0, 1);
    let outcome = reader.join().expect("no panic");
    assert!(matches!(
        outcome,
        Outcome::Absent | Outcome::Read(1) | Outcome::Ask
    ));
}

fn overwrite() {
    let mut model = Model::new(4, 4);
    let id = model.insert(STAYS, 0, 1);
    let reader = model.reader(0, STAYS, 0);
    model.fill(1, 2);
    model.index.update(id, &words(1, 2));
    model.retire(0);
    assert_ne!(reader.join().expect("no panic"), Outcome::Absent);
}

fn remove() {
    let mut model = Model::new(4, 4);
    let id = model.insert(STAYS, 0, 1);
    let reader = model.reader(0, STAYS, 0);
    model.index.remove(id);
    model.retire(0);
    reader.join().expect("no panic");
}

fn grow(key: Key) {
    let mut model = Model::new(1, 4);
    model.insert(key, 0, 1);
    let reader = model.reader(0, key, 0);
    // The second key makes the load two: bucket 0 is split.
    model.insert(FOURTH, 1, 2);
    assert_eq!(model.index.usage().buckets, 2);
    assert_eq!(reader.join().expect("no panic"), Outcome::Read(1));
}

fn grow_moving() {
    grow(MOVES);
}

fn grow_staying() {
    grow(STAYS);
}

/// A record freed and given to another key, with the same extent when nobody has pinned it.
fn reuse() {
    let mut model = Model::new(4, 4);
    let id = model.insert(STAYS, 0, 1);
    let reader = model.reader(0, STAYS, 0);
    model.index.remove(id);
    let extent = if model.reusable(0) { 0 } else { 1 };
    let again = model.insert(FOURTH, extent, 2);
    assert_eq!(again, id);
    assert_ne!(reader.join().expect("no panic"), Outcome::Read(2));
}

/// The key goes away and comes back with other bytes in the same record.
fn reinsert() {
    let mut model = Model::new(4, 4);
    let id = model.insert(STAYS, 0, 1);
    let reader = model.reader(0, STAYS, 0);
    model.index.remove(id);
    let extent = if model.reusable(0) { 0 } else { 1 };
    model.insert(STAYS, extent, 2);
    reader.join().expect("no panic");
}

/// An entry whose time has passed is removed and its extent reused beside a reader.
fn expire() {
    let mut model = Model::new(4, 4);
    let id = model.insert(STAYS, 0, 1);
    model.index.set_expiry(id, 10);
    let reader = model.reader(0, STAYS, 20);
    model.index.remove(id);
    model.retire(0);
    let outcome = reader.join().expect("no panic");
    assert!(
        !matches!(outcome, Outcome::Read(_)),
        "expired bytes were read"
    );
}

/// A changed expiry alone disturbs no reader.
fn extend() {
    let mut model = Model::new(4, 4);
    let id = model.insert(STAYS, 0, 1);
    model.index.set_expiry(id, 30);
    let reader = model.reader(0, STAYS, 20);
    model.index.set_expiry(id, 40);
    assert_eq!(reader.join().expect("no panic"), Outcome::Read(1));
}

/// Bucket 0 overflows; a removal moves the last entry into the hole and frees the overflow bucket.
fn compact() {
    let mut model = Model::new(4, 4);
    let first = model.insert(STAYS, 0, 1);
    model.insert(FOURTH, 1, 2);
    let moved: Key = (0x15_0008, 5);
    model.insert(moved, 2, 3);
    assert_eq!(model.index.usage().overflow, 1);
    let reader = model.reader(0, moved, 0);
    model.index.remove(first);
    assert_eq!(model.index.usage().overflow, 0);
    assert_ne!(reader.join().expect("no panic"), Outcome::Absent);
}

/// An owner's lease lapsed at 100; its next one, of generation 2, is entered beside a reader at
/// 150.
fn lease() {
    let mut model = Model::new(4, 4);
    model.fill(0, 1);
    let words = RecordWords {
        owner: 1,
        lease_generation: 1,
        ..words(0, 1)
    };
    model.index.set_owner_lease(1, 1, 100);
    model.index.insert(STAYS.0, STAYS.1, &words).expect("room");
    let reader = model.reader(0, STAYS, 150);
    model.index.set_owner_lease(1, 2, 300);
    assert_eq!(reader.join().expect("no panic"), Outcome::Ask);
}

fn two_readers() {
    let mut model = Model::new(4, 4);
    let id = model.insert(STAYS, 0, 1);
    let readers = [model.reader(0, STAYS, 0), model.reader(1, STAYS, 0)];
    model.fill(1, 2);
    model.index.update(id, &words(1, 2));
    model.retire(0);
    for reader in readers {
        assert_ne!(reader.join().expect("no panic"), Outcome::Absent);
    }
}

fn two_readers_of_a_split() {
    let mut model = Model::new(1, 4);
    model.insert(MOVES, 0, 1);
    let readers = [model.reader(0, MOVES, 0), model.reader(1, OTHER, 0)];
    model.insert(OTHER, 1, 2);
    let [moving, inserted] = readers.map(|reader| reader.join().expect("no panic"));
    assert_eq!(moving, Outcome::Read(1));
    assert_ne!(inserted, Outcome::Read(1));
}

thread_local! {
    /// Schedules tried by the model at hand.
    static SCHEDULES: Cell<u64> = const { Cell::new(0) };
}

fn explore(scenario: fn(), preemptions: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.max_permutations = Some(SCHEDULES_MAX);
    SCHEDULES.set(0);
    builder.check(move || {
        SCHEDULES.set(SCHEDULES.get() + 1);
        scenario();
    });
    println!("{} schedules", SCHEDULES.get());
}

/// Some scenario must fail once the step is left out.
fn fails_without(step: Step, scenario: fn()) {
    LEFT_OUT.set(Some(step));
    let outcome = catch_unwind(AssertUnwindSafe(|| explore(scenario, 3)));
    LEFT_OUT.set(None);
    assert!(outcome.is_err(), "{step:?} can be left out unnoticed");
}

macro_rules! models {
    ($($name:ident: $scenario:ident, $preemptions:literal;)*) => {
        $(#[test]
        fn $name() {
            explore($scenario, $preemptions);
        })*
    };
}

models! {
    insert_beside_a_reader: insert, 3;
    overwrite_beside_a_reader: overwrite, 2;
    remove_beside_a_reader: remove, 2;
    split_that_moves_the_key_beside_a_reader: grow_moving, 3;
    split_that_keeps_the_key_beside_a_reader: grow_staying, 3;
    reuse_of_a_record_beside_a_reader: reuse, 2;
    return_of_a_key_beside_a_reader: reinsert, 2;
    expiry_beside_a_reader: expire, 2;
    new_expiry_beside_a_reader: extend, 3;
    compaction_beside_a_reader: compact, 2;
    lapse_of_a_lease_beside_a_reader: lease, 3;
    overwrite_beside_two_readers: two_readers, 1;
    split_beside_two_readers: two_readers_of_a_split, 1;
}

macro_rules! mutations {
    ($($name:ident: $step:ident, $scenario:ident;)*) => {
        $(#[test]
        fn $name() {
            fails_without(Step::$step, $scenario);
        })*
    };
}

mutations! {
    record_publish_is_needed: RecordPublish, overwrite;
    record_see_is_needed: RecordSee, overwrite;
    record_read_fence_is_needed: RecordReadFence, overwrite;
    record_recheck_is_needed: RecordRecheck, overwrite;
    generation_odd_is_needed: GenerationOdd, overwrite;
    record_write_fence_is_needed: RecordWriteFence, overwrite;
    generation_rises_is_needed: GenerationRises, overwrite;
    probe_fence_is_needed: ProbeFence, compact;
    sequence_recheck_is_needed: SequenceRecheck, compact;
    sequence_odd_is_needed: SequenceOdd, compact;
    table_recheck_is_needed: TableRecheck, grow_moving;
    table_publish_is_needed: TablePublish, grow_moving;
    table_see_is_needed: TableSee, grow_moving;
    split_order_is_needed: SplitOrder, grow_moving;
    pin_fence_is_needed: PinFence, overwrite;
    scan_fence_is_needed: ScanFence, overwrite;
    pin_recheck_is_needed: PinRecheck, overwrite;
    pin_release_is_needed: PinRelease, overwrite;
    pin_see_is_needed: PinSee, overwrite;
    expiry_see_is_needed: ExpirySee, expire;
    expiry_recheck_is_needed: ExpiryRecheck, expire;
    lease_recheck_is_needed: LeaseRecheck, lease;
    lease_order_is_needed: LeaseOrder, lease;
    lease_publish_is_needed: LeasePublish, lease;
    lease_see_is_needed: LeaseSee, lease;
}
