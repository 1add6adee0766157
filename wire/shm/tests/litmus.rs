//! The fence between pin and re-check, on this very machine: store, then load, on both sides.
//!
//! A reader pins and looks at the generation again, a shard raises the generation and looks for
//! pins, both at once, over and over, each a random moment later than the other. Never may the
//! reader find the old generation and the shard no pin: the extent would be reused under the
//! reader. With the fence that never happens; without it processors do it (x86 as well: a store
//! waits in its buffer while a later load is served), and the test must see it, or it proves
//! nothing. The models explore the same in theory; here the product's code runs on its mapping.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test, whose every line may fail it"
)]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chariot_shm::{
    ClientSession, PinScan, PinSet, PinTable, ServerRing, ServerSession, SessionGeometry,
};

const EXTENT: u64 = 640;
/// Longest difference between the two sides' starts, in turns of an empty loop.
const SKEW: u64 = 64;
/// Spins before a side gives its CPU away: the other one may need it.
const SPINS: u32 = 2_000;

/// Rounds after which it must have been seen; where both sides run at once, thousands do.
const ROUNDS_THAT_TELL: u64 = 2_000_000;
/// How long either half of the test may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Words that both sides write, each on a cache line of its own.
#[repr(align(128))]
struct Word(AtomicU64);

/// What the two sides share.
struct Arena {
    /// The round that the reader has begun.
    begun: Word,
    /// The round that the shard has finished.
    finished: Word,
    /// The record: it names the extent while it is even.
    generation: Word,
    /// Whether the shard found the pin in its last round.
    pinned: Word,
}

/// How often it was tried, and how often both sides were wrong about each other.
#[derive(Debug)]
struct Tried {
    rounds: u64,
    broken: u64,
}

fn wait_for(word: &Word, value: u64) {
    let mut spins = 0;
    while word.0.load(Ordering::Acquire) < value {
        spins += 1;
        if spins > SPINS {
            std::thread::yield_now();
        } else {
            spin_loop();
        }
    }
}

fn skew(random: &mut u64) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    for _ in 0..*random % SKEW {
        spin_loop();
    }
}

/// The shard: it unlinks the record and scans, once a round, until it is told `u64::MAX`.
fn shard(arena: &Arena, server: &mut ServerRing) {
    let (mut set, mut random) = (PinSet::new(), 0x9E37_79B9);
    for round in 1.. {
        wait_for(&arena.begun, round);
        if arena.begun.0.load(Ordering::Acquire) == u64::MAX {
            return;
        }
        skew(&mut random);
        arena.generation.0.store(round * 2 + 1, Ordering::Relaxed);
        let mut scan = PinScan::start(&mut set, server);
        scan.add(server).unwrap();
        scan.finish();
        let pinned = u64::from(set.contains(EXTENT));
        arena.pinned.0.store(pinned, Ordering::Relaxed);
        arena.finished.0.store(round, Ordering::Release);
    }
}

/// The reader, until `enough` says so; ends the shard.
fn read(
    arena: &Arena,
    pins: &PinTable,
    fence: bool,
    mut enough: impl FnMut(&Tried) -> bool,
) -> Tried {
    let mut tried = Tried {
        rounds: 0,
        broken: 0,
    };
    let mut random = 0x5DEE_CE66;
    while !enough(&tried) {
        tried.rounds += 1;
        let generation = tried.rounds * 2;
        arena.generation.0.store(generation, Ordering::Relaxed);
        arena.begun.0.store(tried.rounds, Ordering::Release);
        skew(&mut random);
        let slot = pins.acquire_transient(EXTENT).unwrap();
        if fence {
            pins.fence();
        }
        let found = arena.generation.0.load(Ordering::Relaxed) == generation;
        wait_for(&arena.finished, tried.rounds);
        let pinned = arena.pinned.0.load(Ordering::Relaxed) == 1;
        tried.broken += u64::from(found && !pinned);
        pins.release(slot);
    }
    arena.begun.0.store(u64::MAX, Ordering::Release);
    tried
}

fn run(fence: bool, enough: impl FnMut(&Tried) -> bool) -> Tried {
    let (daemon, descriptors) = ServerSession::create(SessionGeometry::new(1), 1).unwrap();
    let session = ClientSession::attach(descriptors.read_write(), descriptors.read_only()).unwrap();
    let (mut server, pins) = (daemon.ring(0).unwrap(), session.pins(0).unwrap());
    let word = || Word(AtomicU64::new(0));
    let arena = Arena {
        begun: word(),
        finished: word(),
        generation: word(),
        pinned: word(),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| shard(&arena, &mut server));
        read(&arena, &pins, fence, enough)
    })
}

#[test]
fn a_pin_is_seen_or_the_re_check_fails_with_the_fence_and_not_without_it() {
    let cores = std::thread::available_parallelism().unwrap().get();
    if cores < 2 {
        eprintln!("SKIPPED: one processor keeps its own order");
        return;
    }
    let start = Instant::now();
    let without = run(false, |tried| {
        tried.broken >= 3 || tried.rounds.is_multiple_of(256) && start.elapsed() > PATIENCE
    });
    let took = start.elapsed();
    eprintln!("litmus: without the fence {without:?} in {took:?}");
    if without.broken == 0 && without.rounds < ROUNDS_THAT_TELL {
        eprintln!("SKIPPED: the two sides hardly ever ran at once, this machine is busy");
        return;
    }
    assert!(without.broken > 0, "never seen in {without:?}, {took:?}");
    // Ten times as many as showed it, and a second at least.
    let start = Instant::now();
    let with = run(true, |tried| {
        tried.rounds.is_multiple_of(256)
            && start.elapsed() > Duration::from_secs(1)
            && (tried.rounds >= without.rounds * 10 || start.elapsed() > PATIENCE)
    });
    eprintln!("litmus: with the fence {with:?}");
    assert_eq!(with.broken, 0, "{with:?}");
}
