//! The path of a request allocates nothing, on either side: counted by the allocator itself.
#![expect(
    clippy::tests_outside_test_module,
    reason = "an integration test is one"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use chariot_shm::{
    ClientSession, CompletionFlags, CompletionWords, PinScan, PinSet, ServerSession,
    SessionGeometry, SubmissionFlags, SubmissionWords,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands every request to the system's allocator as it came, and counts in a thread-local
// that needs no allocation itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps `alloc`'s contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above, which is the system allocator's.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(body: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    body();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn request_path_does_not_allocate() {
    let (daemon, descriptors) = ServerSession::create(SessionGeometry::new(1), 1).unwrap();
    let session = ClientSession::attach(descriptors.read_write(), descriptors.read_only()).unwrap();
    let (mut client, mut server) = (session.ring(0).unwrap(), daemon.ring(0).unwrap());
    let (pins, notes) = (session.pins(0).unwrap(), session.notes(0));
    let mut scratch = Vec::with_capacity(2048);
    let mut set = PinSet::new();
    let request = SubmissionWords {
        flags: SubmissionFlags::VALUE_INLINE,
        key_len: 4,
        len: 4,
        ..SubmissionWords::default()
    };
    let answer = CompletionWords {
        flags: CompletionFlags::NAMES_EXTENT,
        ..CompletionWords::default()
    };
    let mut cycle = || {
        client.try_submit(&request, b"key_data").unwrap();
        client.publish();
        client.must_ring_bell();
        let submission = server.take().unwrap().unwrap();
        server.payload(&submission, &mut scratch);
        server.post(&answer);
        server.flush();
        server.wake_if_waiting();
        let completion = client.pop().unwrap().unwrap();
        let pin = pins.acquire_transient(completion.extent).unwrap();
        client.consume();
        notes.note(1, 2);
        server.drain_notes(|_| ());
        let mut scan = PinScan::start(&mut set, &server);
        scan.add(&mut server).unwrap();
        scan.finish();
        pins.release(pin);
    };
    // The set keeps the room of its first scan.
    cycle();
    assert_eq!(allocations(|| (0..1_000).for_each(|_| cycle())), 0);
}

#[test]
fn allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}
