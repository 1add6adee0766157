//! The birth of a session: what a client accepts, and who takes what once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::futex::WaitOutcome;
use crate::layout::{LAYOUT_VERSION, PAGE_MAX, SESSION_RO_MAGIC, SESSION_RW_MAGIC};
use crate::{CompletionWords, MappedMemory, Mapping, Memfd, MemfdOptions, Memory, SubmissionWords};

fn session(shards: u16) -> (ServerSession, ClientSession) {
    let (daemon, descriptors) = ServerSession::create(SessionGeometry::new(shards), 42).unwrap();
    let client = ClientSession::attach(descriptors.read_write(), descriptors.read_only()).unwrap();
    (daemon, client)
}

fn memory(size: usize) -> (Memfd, MappedMemory) {
    let file = Memfd::create("forged", size as u64, MemfdOptions::default()).unwrap();
    let mapped = MappedMemory::new(Mapping::read_write(file.fd(), 0, size).unwrap());
    (file, mapped)
}

#[test]
fn areas_of_all_shards_lie_apart_and_inside() {
    for shards in [1, 2, 64] {
        let geometry = SessionGeometry::new(shards);
        let last = shards - 1;
        assert_eq!(
            geometry.rw_size(),
            crate::layout::rw_area(last) + rw::STRIDE
        );
        assert!(geometry.ro_size() >= crate::layout::ro_area(last) + ro::STRIDE);
        assert!(geometry.rw_size().is_multiple_of(PAGE_MAX));
        assert!(geometry.ro_size().is_multiple_of(PAGE_MAX));
    }
}

#[test]
fn both_sides_agree_and_take_each_part_once() {
    let (daemon, client) = session(3);
    assert_eq!(client.geometry(), daemon.geometry());
    assert_eq!(client.session_id(), 42);
    for shard in 0..3 {
        assert!(daemon.ring(shard).is_some() && daemon.ring(shard).is_none());
        assert!(client.ring(shard).is_some() && client.ring(shard).is_none());
        assert!(client.pins(shard).is_some() && client.pins(shard).is_none());
    }
}

#[test]
fn ring_that_no_shard_polls_asks_for_the_bell() {
    let (daemon, client) = session(1);
    let mut ring = client.ring(0).unwrap();
    ring.try_submit(&SubmissionWords::default(), &[]).unwrap();
    ring.publish();
    assert!(ring.must_ring_bell());
    let mut server = daemon.ring(0).unwrap();
    server.set_sleeping(false);
    assert!(!ring.must_ring_bell());
    assert!(!server.try_sleep(), "something is pending");
    assert!(server.take().unwrap().is_some());
    assert!(server.try_sleep());
    assert!(ring.must_ring_bell());
}

#[test]
fn forged_memories_are_refused() {
    let (size, ro_size) = (
        SessionGeometry::new(2).rw_size(),
        SessionGeometry::new(2).ro_size(),
    );
    let (rw_file, rw_memory) = memory(size);
    let (ro_file, ro_memory) = memory(ro_size);
    let attach = || ClientSession::attach(rw_file.fd(), ro_file.fd()).map(|_| ());
    assert!(matches!(attach(), Err(AttachError::Magic { found: 0, .. })));
    rw_memory.store64(rw::MAGIC, SESSION_RW_MAGIC);
    assert!(matches!(
        attach(),
        Err(AttachError::Version { found: 0, .. })
    ));
    rw_memory.store32(rw::LAYOUT, LAYOUT_VERSION);
    for shards in [0, 1, 3, 65, 65_538, u32::MAX] {
        rw_memory.store32(rw::SHARD_COUNT, shards);
        assert!(
            matches!(attach(), Err(AttachError::Geometry { .. })),
            "{shards}"
        );
    }
    rw_memory.store32(rw::SHARD_COUNT, 2);
    ro_memory.store64(ro::MAGIC, SESSION_RO_MAGIC);
    ro_memory.store32(ro::LAYOUT, LAYOUT_VERSION);
    ro_memory.store32(ro::SHARD_COUNT, 2);
    attach().unwrap();
}

#[test]
fn memories_of_different_nodes_or_no_size_are_refused() {
    let (_one, one) = ServerSession::create(SessionGeometry::new(1), 1).unwrap();
    let (_two, two) = ServerSession::create(SessionGeometry::new(2), 1).unwrap();
    let mixed = ClientSession::attach(one.read_write(), two.read_only());
    assert!(matches!(mixed, Err(AttachError::Geometry { .. })));
    let swapped = ClientSession::attach(one.read_only(), one.read_write());
    assert!(matches!(
        swapped,
        Err(AttachError::Geometry { .. } | AttachError::Kernel(_))
    ));
    let (small, _) = memory(4096);
    let short = ClientSession::attach(small.fd(), one.read_only());
    assert!(matches!(
        short,
        Err(AttachError::Geometry { size: 4096, .. })
    ));
    let unmappable = ClientSession::attach(two.read_only(), two.read_only());
    assert!(matches!(
        unmappable,
        Err(AttachError::Geometry { .. } | AttachError::Kernel(_))
    ));
}

#[test]
fn expelled_session_is_told() {
    let (daemon, client) = session(1);
    assert!(!client.is_expelled());
    daemon.expel();
    assert!(client.is_expelled());
}

#[test]
fn wait_ends_by_time_when_nothing_comes() {
    let (daemon, client) = session(1);
    let waiter = client.start_waiting();
    assert_eq!(
        waiter.wait(Some(Duration::from_millis(1))),
        WaitOutcome::TimedOut
    );
    drop(waiter);
    assert!(!daemon.wake_if_waiting(), "nobody waits any more");
}

/// Requests and answers between two threads that sleep whenever they can; a lost wake hangs.
#[test]
fn threads_that_sleep_whenever_they_can_lose_no_wake() {
    const ROUNDS: u32 = 2_000;
    let (daemon, client) = session(1);
    // Stands for the session's bell, an eventfd in the product.
    let bell = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut server = daemon.ring(0).unwrap();
            let mut answered = 0;
            while answered < ROUNDS {
                let rung = bell.load(Ordering::Acquire);
                while let Some(submission) = server.take().unwrap() {
                    let token = submission.words.token;
                    server.post(&CompletionWords {
                        token,
                        ..CompletionWords::default()
                    });
                    answered += 1;
                }
                if server.flush() {
                    server.wake_if_waiting();
                }
                if answered < ROUNDS && server.try_sleep() {
                    crate::futex::wait(&bell, rung, Some(Duration::from_secs(20)));
                    server.set_sleeping(false);
                }
            }
        });
        let mut ring = client.ring(0).unwrap();
        for token in 0..ROUNDS {
            ring.try_submit(
                &SubmissionWords {
                    token,
                    ..Default::default()
                },
                &[],
            )
            .unwrap();
            ring.publish();
            if ring.must_ring_bell() {
                bell.fetch_add(1, Ordering::Release);
                crate::futex::wake(&bell, 1);
            }
            let completion = loop {
                if let Some(completion) = ring.pop().unwrap() {
                    break completion;
                }
                let waiter = client.start_waiting();
                if let Some(completion) = ring.pop().unwrap() {
                    break completion;
                }
                let outcome = waiter.wait(Some(Duration::from_secs(20)));
                assert_ne!(outcome, WaitOutcome::TimedOut, "lost wake");
            };
            assert_eq!(completion.token, token);
            ring.consume();
        }
    });
}
