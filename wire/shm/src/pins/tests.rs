//! Pin tables and scans on real shared memory.

use crate::layout::{PIN_SLOTS, PIN_SLOTS_TRANSIENT, PIN_SLOTS_VIEW, rw, rw_area};
use crate::session::{ClientSession, ServerSession, SessionGeometry};
use crate::{MappedMemory, Mapping, Memory, PinScan, PinSet, PinTable, ServerRing};

struct Pair {
    pins: PinTable,
    server: ServerRing,
    hostile: MappedMemory,
}

fn pair() -> Pair {
    let geometry = SessionGeometry::new(1);
    let (daemon, descriptors) = ServerSession::create(geometry, 1).unwrap();
    let client = ClientSession::attach(descriptors.read_write(), descriptors.read_only()).unwrap();
    let mapping = Mapping::read_write(descriptors.read_write(), 0, geometry.rw_size()).unwrap();
    Pair {
        pins: client.pins(0).unwrap(),
        server: daemon.ring(0).unwrap(),
        hostile: MappedMemory::new(mapping),
    }
}

fn scan(server: &mut ServerRing) -> (PinSet, u32) {
    let mut set = PinSet::new();
    let mut scan = PinScan::start(&mut set, server);
    let slots = scan.add(server).unwrap();
    scan.finish();
    (set, slots)
}

#[test]
fn pinned_extents_are_found_until_released() {
    let Pair {
        pins, mut server, ..
    } = pair();
    let copy = pins.acquire_transient(0).unwrap();
    let view = pins.acquire(1 << 40).unwrap();
    let (set, slots) = scan(&mut server);
    assert!(set.contains(0) && set.contains(1 << 40));
    assert!(!set.contains(64));
    assert_eq!((set.len(), slots), (2, PIN_SLOTS_TRANSIENT + 1));
    pins.release(copy);
    assert!(!scan(&mut server).0.contains(0));
    pins.release(view);
    assert!(scan(&mut server).0.is_empty());
    assert_eq!(pins.held(), 0);
}

#[test]
fn copies_and_views_have_slots_of_their_own() {
    let Pair {
        pins, mut server, ..
    } = pair();
    let copies: Vec<_> = (0..PIN_SLOTS_TRANSIENT)
        .map(|_| pins.acquire_transient(64).unwrap())
        .collect();
    assert_eq!(pins.acquire_transient(64), None);
    let views: Vec<_> = (0..PIN_SLOTS_VIEW)
        .map(|_| pins.acquire(128).unwrap())
        .collect();
    assert_eq!(pins.acquire(128), None);
    assert_eq!(pins.held(), PIN_SLOTS);
    let (set, slots) = scan(&mut server);
    assert_eq!((set.len(), slots), (2, PIN_SLOTS));
    copies
        .into_iter()
        .chain(views)
        .for_each(|slot| pins.release(slot));
    assert_eq!(pins.held(), 0);
    assert!(pins.acquire(0).is_some() && pins.acquire_transient(0).is_some());
}

#[test]
fn scan_reads_only_as_far_as_slots_were_used() {
    let Pair {
        pins, mut server, ..
    } = pair();
    assert_eq!(scan(&mut server).1, 0);
    for _ in 0..1_000 {
        let slot = pins.acquire_transient(64).unwrap();
        pins.release(slot);
    }
    assert_eq!(
        scan(&mut server).1,
        1,
        "the lowest free slot is taken again"
    );
}

#[test]
fn released_low_slots_are_taken_before_high_ones() {
    let Pair {
        pins, mut server, ..
    } = pair();
    let mut views: Vec<_> = (0..200).map(|_| pins.acquire(64).unwrap()).collect();
    pins.release(views.remove(0));
    let high = scan(&mut server).1;
    let again = pins.acquire(64).unwrap();
    assert_eq!(scan(&mut server).1, high);
    pins.release(again);
    for slot in views {
        pins.release(slot);
    }
}

#[test]
fn hostile_high_water_is_cut_to_the_table() {
    let Pair {
        mut server,
        hostile,
        ..
    } = pair();
    for high_water in [u32::MAX, PIN_SLOTS + 1, 1 << 31] {
        hostile.store32(rw_area(0) + rw::PIN_HIGH_WATER, high_water);
        assert_eq!(scan(&mut server).1, PIN_SLOTS);
    }
}

#[test]
fn hostile_pins_of_nonsense_only_hold_nonsense() {
    let Pair {
        mut server,
        hostile,
        ..
    } = pair();
    hostile.store32(rw_area(0) + rw::PIN_HIGH_WATER, 3);
    for (slot, word) in [u64::MAX, 1, 77].into_iter().enumerate() {
        hostile.store64(rw_area(0) + rw::PINS + slot * 8, word);
    }
    let (set, _) = scan(&mut server);
    assert_eq!(set.len(), 3);
    assert!(set.contains(0) && set.contains(76 * 64) && !set.contains(64));
}

#[test]
#[should_panic(expected = "a slot is released once")]
fn slot_of_another_table_is_a_bug() {
    let (one, other) = (pair(), pair());
    let slot = one.pins.acquire(64).unwrap();
    other.pins.release(slot);
}

#[test]
#[should_panic(expected = "a scan is finished before it is asked")]
fn unfinished_scan_is_a_bug() {
    let Pair {
        pins, mut server, ..
    } = pair();
    let _slot = pins.acquire(64).unwrap();
    let mut set = PinSet::new();
    PinScan::start(&mut set, &server).add(&mut server).unwrap();
    set.contains(64);
}

#[test]
fn threads_take_and_give_back_slots_without_losing_any() {
    let Pair {
        pins, mut server, ..
    } = pair();
    std::thread::scope(|scope| {
        for thread in 1..=4_u64 {
            let pins = &pins;
            scope.spawn(move || {
                for _ in 0..2_000 {
                    let one = pins.acquire(thread * 64).unwrap();
                    let two = pins.acquire_transient(thread * 64).unwrap();
                    pins.release(one);
                    pins.release(two);
                }
            });
        }
    });
    assert_eq!(pins.held(), 0);
    assert!(scan(&mut server).0.is_empty());
}

#[test]
fn what_is_asked_about_is_found_beyond_the_limit_and_over_many_turns() {
    let Pair {
        pins, mut server, ..
    } = pair();
    let mut other = pair();
    let _first = pins.acquire(64).unwrap();
    let _second = pins.acquire(128).unwrap();
    let _third = other.pins.acquire(1 << 40).unwrap();
    let mut set = PinSet::with_limit(1);
    set.ask([1 << 40, 128, 192]);
    let mut scan = PinScan::start(&mut set, &server);
    scan.add(&mut server).unwrap();
    let mut scan = PinScan::resume(&mut set);
    scan.add(&mut other.server).unwrap();
    scan.finish();
    assert_eq!(set.len(), 1, "the limit");
    assert!(set.was_pinned(128) && set.was_pinned(1 << 40));
    assert!(!set.was_pinned(192));
    assert!(set.was_pinned(64), "nobody asked");
    // The next scan begins anew.
    PinScan::start(&mut set, &server).finish();
    assert!(!set.was_pinned(128));
}
