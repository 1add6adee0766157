//! An extent is reused only when nobody reads it: pins against scans.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::memory::{GENERATION, ModelMemory};
use super::{every_mutation_fails, explore};
use crate::pins::{PinScan, PinSet, PinTable};
use crate::ring::{ClientRing, CompletionFlags, CompletionWords, ServerRing, SubmissionWords};
use crate::sync::{Memory, Step};

/// Where the extent under test starts in the arena.
const EXTENT: u64 = 640;

/// The bytes of one extent: loom reports a reader and a writer that nothing orders.
#[derive(Clone)]
pub(super) struct ExtentBytes(Arc<UnsafeCell<u64>>);

// SAFETY: loom runs one thread at a time and reports unordered access itself.
unsafe impl Send for ExtentBytes {}

impl ExtentBytes {
    #[expect(
        clippy::arc_with_non_send_sync,
        reason = "loom runs one thread at a time"
    )]
    pub(super) fn new() -> Self {
        Self(Arc::new(UnsafeCell::new(1)))
    }

    /// What a reader sees: the value that it looked up, or the pin did not hold.
    fn read(&self) {
        assert_eq!(self.value(), 1, "the extent was reused under a pin");
    }

    pub(super) fn value(&self) -> u64 {
        // SAFETY: loom reports any write that this read is not ordered with.
        self.0.with(|bytes| unsafe { *bytes })
    }

    pub(super) fn reuse(&self) {
        // SAFETY: loom reports any access that this write is not ordered with.
        self.0.with_mut(|bytes| unsafe { *bytes = 2 });
    }
}

fn scan_and_reuse(server: &mut ServerRing<ModelMemory>, extent: &ExtentBytes) {
    let mut set = PinSet::new();
    let mut scan = PinScan::start(&mut set, server);
    scan.add(server).expect("the client is not hostile");
    scan.finish();
    if !set.contains(EXTENT) {
        extent.reuse();
    }
}

/// A completion names an extent; the client hands it over to a pin of its own while the shard,
/// which has unlinked the record, looks for pins.
pub(super) fn hand_over(removed: Option<Step>) {
    explore(None, move || {
        let (rw, ro) = (
            ModelMemory::read_write(removed),
            ModelMemory::read_only(removed),
        );
        let mut client = ClientRing::new(rw.clone(), ro.clone(), 0);
        let mut server = ServerRing::new(rw.clone(), ro, 0);
        let pins = PinTable::new(rw.clone(), 0);
        let extent = ExtentBytes::new();
        client.try_submit(&SubmissionWords::default(), &[]).unwrap();
        client.publish();
        assert!(server.take().unwrap().is_some());
        let flags = CompletionFlags::NAMES_EXTENT;
        server.post(&CompletionWords {
            flags,
            extent: EXTENT,
            ..CompletionWords::default()
        });
        assert!(server.flush());

        let theirs = extent.clone();
        let shard = thread::spawn(move || scan_and_reuse(&mut server, &theirs));
        let completion = client.pop().unwrap().expect("it was flushed before");
        assert_eq!(completion.extent, EXTENT);
        if !rw.keeps(Step::PinBeforeConsume) {
            client.consume();
        }
        let pin = pins
            .acquire_transient(completion.extent)
            .expect("all slots are free");
        client.consume();
        extent.read();
        pins.release(pin);
        shard.join().unwrap();
    });
}

/// A reader without a completion: it pins what an index record names and looks at the record's
/// generation again, while the shard unlinks the record and looks for pins.
pub(super) fn read_against_retire(removed: Option<Step>) {
    explore(None, move || {
        let (rw, ro) = (
            ModelMemory::read_write(removed),
            ModelMemory::read_only(removed),
        );
        let index = ModelMemory::index(removed);
        let mut server = ServerRing::new(rw.clone(), ro, 0);
        let pins = PinTable::new(rw, 0);
        let extent = ExtentBytes::new();

        let (theirs, record) = (extent.clone(), index.clone());
        let shard = thread::spawn(move || {
            record.store64(GENERATION, 1);
            scan_and_reuse(&mut server, &theirs);
        });
        read_through(&index, &pins, &extent);
        shard.join().unwrap();
    });
}

fn read_through(index: &ModelMemory, pins: &PinTable<ModelMemory>, extent: &ExtentBytes) {
    if index.load64(GENERATION) != 0 {
        return;
    }
    let pin = pins.acquire_transient(EXTENT).expect("all slots are free");
    pins.fence();
    if !index.keeps(Step::PinRecheck) || index.load64(GENERATION) == 0 {
        extent.read();
    }
    pins.release(pin);
}

/// Two readers of one session against one shard, with at most three preemptions.
pub(super) fn two_readers(removed: Option<Step>) {
    explore(Some(3), move || {
        let (rw, ro) = (
            ModelMemory::read_write(removed),
            ModelMemory::read_only(removed),
        );
        let index = ModelMemory::index(removed);
        let mut server = ServerRing::new(rw.clone(), ro, 0);
        let pins = Arc::new(PinTable::new(rw, 0));
        let extent = ExtentBytes::new();
        let (record, theirs, table) = (index.clone(), extent.clone(), Arc::clone(&pins));
        let reader = thread::spawn(move || read_through(&record, &table, &theirs));
        let (theirs, record) = (extent.clone(), index.clone());
        let shard = thread::spawn(move || {
            record.store64(GENERATION, 1);
            scan_and_reuse(&mut server, &theirs);
        });
        read_through(&index, &pins, &extent);
        reader.join().unwrap();
        shard.join().unwrap();
    });
}

#[test]
fn completion_holds_its_extent_until_the_client_has_pinned_it() {
    hand_over(None);
}

#[test]
fn hand_over_needs_every_step() {
    every_mutation_fails(hand_over);
}

#[test]
fn pinned_extent_is_not_reused() {
    read_against_retire(None);
}

#[test]
fn pinned_extent_needs_every_step() {
    every_mutation_fails(read_against_retire);
}

#[test]
fn extent_pinned_by_two_threads_is_not_reused() {
    two_readers(None);
}

#[test]
fn slots_between_threads_need_every_step() {
    every_mutation_fails(two_readers);
}
