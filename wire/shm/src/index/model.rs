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
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::thread;

use super::steps::{LEFT_OUT, Step, death, fence, kept, order};
use super::{IndexMemory, IndexOptions, IndexReader, IndexWriter, Lookup, RecordId, RecordWords};

/// Extents of the modelled arena.
const EXTENTS: usize = 3;
/// Schedules of three threads tried at most (depth first, so the early part of the tree is
/// complete). Models of two threads end by themselves.
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
    /// Whether the shard knows of the session: it scans the pins of those whose ring it has opened.
    scans: bool,
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
        Self {
            index,
            arena,
            scans: true,
        }
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
        let mut pins = self.arena.pins.iter();
        !self.scans || pins.all(|slot| slot.load(order) != pin)
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
        self.look_up_if(|| true, reader, slot, key, now_ms)
    }

    /// Looks up, and pins what was found only if `may_pin` says so.
    fn look_up_if(
        &self,
        may_pin: impl FnOnce() -> bool,
        reader: &IndexReader,
        slot: usize,
        key: Key,
        now_ms: u64,
    ) -> Outcome {
        let candidate = match reader.find(key.0, key.1) {
            Lookup::Absent => return Outcome::Absent,
            Lookup::Elsewhere(_) | Lookup::Unsettled => return Outcome::Ask,
            Lookup::Here(candidate) => candidate,
        };
        if !may_pin() {
            return Outcome::Ask;
        }
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

/// A session is born (its ring opened, then the client told) before, amid or after an overwrite.
/// Until it is told the client finds but pins nothing: the shard would not see the pin.
fn birth(moment: u32) {
    let mut model = Model::new(4, 4);
    model.scans = false;
    let id = model.insert(STAYS, 0, 1);
    let told = Arc::new(AtomicU32::new(0));
    let (reader, arena) = (IndexReader::of(&model.index), Arc::clone(&model.arena));
    let (reader, hears) = (reader.expect("a live index"), Arc::clone(&told));
    let reader = thread::spawn(move || {
        let may_pin = || hears.load(Acquire) == 1 || !kept(Step::BirthBeforePin);
        arena.look_up_if(may_pin, &reader, 0, STAYS, 0)
    });
    let open = |model: &mut Model, at| {
        if at == moment {
            model.scans = kept(Step::BirthOrder);
            told.store(1, Release);
        }
    };
    open(&mut model, 0);
    model.fill(1, 2);
    model.index.update(id, &words(1, 2));
    open(&mut model, 1);
    model.retire(0);
    open(&mut model, 2);
    assert_ne!(reader.join().expect("no panic"), Outcome::Absent);
}

fn birth_before() {
    birth(0);
}

fn birth_amid() {
    birth(1);
}

fn birth_after() {
    birth(2);
}

/// A reader attaches to an index that is being made: it finds none, or a whole one.
fn identity() {
    let options = IndexOptions {
        initial_buckets: 4,
        boot_id: 7,
        ..IndexOptions::new(4)
    };
    let memory = IndexMemory::heap(&options).expect("modelled");
    let lines = memory.lines.clone();
    let reader = thread::spawn(move || {
        if let Ok(reader) = IndexReader::over(lines) {
            assert_eq!(reader.options().boot_id, 7);
            assert_eq!(reader.options().max_records, 4);
            assert_eq!(reader.find(STAYS.0, STAYS.1), Lookup::Absent);
        }
    });
    let index = IndexWriter::new(memory, &options).expect("sized by its options");
    reader.join().expect("no panic");
    drop(index);
}

/// A word of a living daemon: some thread's id.
const ALIVE: u32 = 1;
/// What a successor has written, and what everybody may know of then.
const SUCCESSORS: u64 = 3;

/// The daemon dies after `stores` stores of an operation on the index, wherever that is; the kernel
/// marks its word, its lock comes free, and a successor completes a newer version of every key. A
/// reader that knows of that one believes nothing older, and no reader waits for the dead.
fn die(mut model: Model, stores: u64, key: Key, operation: impl FnOnce(&mut Model)) {
    let life = Arc::new(AtomicU32::new(ALIVE));
    let completed = Arc::new(AtomicU64::new(0));
    let (reader, arena) = (IndexReader::of(&model.index), Arc::clone(&model.arena));
    let reader = reader.expect("a live index");
    let (word, news) = (Arc::clone(&life), Arc::clone(&completed));
    let reader = thread::spawn(move || {
        let known = news.load(Acquire);
        let outcome = arena.look_up(&reader, 0, key, 0);
        if kept(Step::LifeRecheck) && !crate::life::is_alive(word.load(Acquire)) {
            return;
        }
        assert_ne!(outcome, Outcome::Absent, "it is there until the end");
        if let Outcome::Read(version) = outcome {
            assert!(version >= known, "a dead daemon is believed");
        }
    });
    death::comes_after(stores);
    operation(&mut model);
    SURVIVED.set(!death::has_come());
    let mark = || life.store(libc::FUTEX_OWNER_DIED, Release);
    if kept(Step::DeathOrder) {
        mark();
    }
    completed.store(SUCCESSORS, Release);
    if !kept(Step::DeathOrder) {
        mark();
    }
    let outcome = reader.join();
    death::comes_after(u64::MAX);
    outcome.expect("no panic");
}

fn die_amid_overwrite(stores: u64) {
    death::comes_after(u64::MAX);
    let mut model = Model::new(4, 4);
    let id = model.insert(STAYS, 0, 1);
    die(model, stores, STAYS, |model| {
        model.fill(1, 2);
        model.index.update(id, &words(1, 2));
    });
}

fn die_amid_split(stores: u64) {
    death::comes_after(u64::MAX);
    let mut model = Model::new(1, 4);
    model.insert(MOVES, 0, 1);
    die(model, stores, MOVES, |model| {
        model.insert(FOURTH, 1, 2);
    });
}

fn death_before_an_overwrite() {
    die_amid_overwrite(0);
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
    /// Whether a writer that was to die had ended before that.
    static SURVIVED: Cell<bool> = const { Cell::new(false) };
}

/// How many preemptions a model is explored with (`None`: all there are): by hand
/// `CHARIOT_MODEL_PREEMPTIONS` says it (`all` or a number).
fn bound(preemptions: Option<usize>) -> Option<usize> {
    match std::env::var("CHARIOT_MODEL_PREEMPTIONS").as_deref() {
        Ok("all") => None,
        Ok(number) => Some(number.parse().expect("a number of preemptions")),
        Err(_) => preemptions,
    }
}

fn explore(scenario: impl Fn() + Send + Sync + 'static, preemptions: Option<usize>) {
    explore_at_most(scenario, preemptions, None);
}

fn explore_at_most(
    scenario: impl Fn() + Send + Sync + 'static,
    preemptions: Option<usize>,
    schedules: Option<usize>,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.max_permutations = schedules;
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
    let outcome = catch_unwind(AssertUnwindSafe(|| explore(scenario, Some(3))));
    LEFT_OUT.set(None);
    death::comes_after(u64::MAX);
    assert!(outcome.is_err(), "{step:?} can be left out unnoticed");
}

// `None` is every schedule there is. Where a writer's operation and its scan are longer (20 and
// more stores, each of which a reader may see or not), the number of schedules is beyond any
// patience: those are explored whole up to so many preemptions. The `deeper` models go on from
// there.
macro_rules! models {
    ($($name:ident: $scenario:ident, $preemptions:expr;)*) => {
        $(#[test]
        fn $name() {
            explore($scenario, bound($preemptions));
        })*
    };
}

models! {
    insert_beside_a_reader: insert, None;
    overwrite_beside_a_reader: overwrite, Some(2);
    remove_beside_a_reader: remove, Some(2);
    split_that_moves_the_key_beside_a_reader: grow_moving, None;
    split_that_keeps_the_key_beside_a_reader: grow_staying, None;
    reuse_of_a_record_beside_a_reader: reuse, Some(1);
    return_of_a_key_beside_a_reader: reinsert, Some(1);
    expiry_beside_a_reader: expire, Some(2);
    new_expiry_beside_a_reader: extend, None;
    compaction_beside_a_reader: compact, Some(2);
    lapse_of_a_lease_beside_a_reader: lease, None;
    birth_of_a_session_before_an_overwrite: birth_before, Some(1);
    birth_of_a_session_amid_an_overwrite: birth_amid, Some(1);
    birth_of_a_session_after_an_overwrite: birth_after, Some(1);
    birth_of_an_index_beside_a_reader: identity, None;
}

#[test]
fn overwrite_beside_two_readers() {
    explore_at_most(two_readers, Some(1), Some(SCHEDULES_MAX));
}

#[test]
fn split_beside_two_readers() {
    explore_at_most(two_readers_of_a_split, Some(1), Some(SCHEDULES_MAX));
}

/// Explores a daemon's death after each store of an operation, and after the last.
fn die_everywhere(scenario: fn(u64), preemptions: usize) {
    SURVIVED.set(false);
    for stores in 0.. {
        explore(move || scenario(stores), bound(Some(preemptions)));
        if SURVIVED.get() {
            assert!(stores > 8, "an operation of {stores} stores");
            return;
        }
    }
}

#[test]
fn death_amid_an_overwrite_beside_a_reader() {
    die_everywhere(die_amid_overwrite, 1);
}

#[test]
fn death_amid_a_split_beside_a_reader() {
    die_everywhere(die_amid_split, 1);
}

#[test]
#[ignore = "long: make test-long"]
fn death_deeper() {
    die_everywhere(die_amid_split, 2);
    die_everywhere(die_amid_overwrite, 2);
}

/// Longest exploration of one `deeper` model.
const DEEPER: std::time::Duration = std::time::Duration::from_mins(1);

/// Explores with one preemption more than in `make test`, whole or for a minute.
fn explore_deeper(scenario: fn(), preemptions: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound(Some(preemptions));
    builder.max_branches = 100_000;
    builder.max_duration = Some(DEEPER);
    builder.check(scenario);
}

macro_rules! deeper {
    ($($name:ident: $scenario:ident, $preemptions:literal;)*) => {
        $(#[test]
        #[ignore = "long: make test-long"]
        fn $name() {
            explore_deeper($scenario, $preemptions);
        })*
    };
}

deeper! {
    overwrite_deeper: overwrite, 3;
    remove_deeper: remove, 3;
    reuse_deeper: reuse, 2;
    return_deeper: reinsert, 2;
    expiry_deeper: expire, 3;
    compaction_deeper: compact, 3;
    birth_before_deeper: birth_before, 2;
    birth_amid_deeper: birth_amid, 2;
    birth_after_deeper: birth_after, 2;
    two_readers_deeper: two_readers, 2;
    two_readers_of_a_split_deeper: two_readers_of_a_split, 2;
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
    identity_publish_is_needed: IdentityPublish, identity;
    identity_see_is_needed: IdentitySee, identity;
    birth_order_is_needed: BirthOrder, birth_before;
    birth_before_pin_is_needed: BirthBeforePin, birth_after;
    death_order_is_needed: DeathOrder, death_before_an_overwrite;
    life_recheck_is_needed: LifeRecheck, death_before_an_overwrite;
}
