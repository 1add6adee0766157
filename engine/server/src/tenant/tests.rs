use chariot_memory::ArenaOptions;
use chariot_proto::WriteMode;
use chariot_shm::index::{IndexMemory, IndexOptions, IndexWriter};
use chariot_shm::{ClientSession, PinTable, ServerSession, SessionGeometry};
use chariot_store::StoreOptions;

use super::*;
use crate::limits::SCAN_SLOTS_PER_PASS;
use crate::message::SessionParts;

const SESSION: SessionId = SessionId(7);
const KEY: KeyHash = KeyHash { hi: 1, lo: 2 };

/// A share with one granule and a home that has no other.
fn share() -> TenantShard {
    share_of(&MetadataPool::new(64, 1))
}

fn share_of(pool: &MetadataPool) -> TenantShard {
    let options = ArenaOptions {
        virtual_granules: 2,
        hugetlb: false,
    };
    let arena = ArenaMemory::create("test-arena", options).unwrap();
    let options = IndexOptions::new(64);
    let memory = IndexMemory::heap(&options).unwrap();
    let index = IndexWriter::new(memory, &options).unwrap();
    let mut share = TenantShard::new(
        TenantId(0),
        KeySecret([0; 16]),
        Arc::new(arena),
        Store::new(
            index,
            StoreOptions {
                entries_max: pool.promised(),
                ..StoreOptions::default()
            },
        ),
        pool.clone(),
    );
    share.extents.add_granules(GranuleIndex(0), 1);
    share.granules.on_exhausted();
    share
}

fn publish(share: &mut TenantShard, len: u64) -> Extent {
    publish_as(share, KEY, len)
}

fn publish_as(share: &mut TenantShard, key: KeyHash, len: u64) -> Extent {
    let extent = share.reserve(len, &mut Sessions::default(), 0).unwrap();
    let entry = NewEntry {
        extent,
        crc: None,
        expiry_ms: 0,
        write_mode: WriteMode::NoneEvict,
        set_if_absent: false,
    };
    share.publish(key, &entry, 0).unwrap();
    extent
}

#[test]
fn tenants_of_a_shard_share_one_metadata_budget() {
    let pool = MetadataPool::new(64, 2);
    let (mut first, mut second) = (share_of(&pool), share_of(&pool));
    for (count, share) in [(200, &mut first), (200, &mut second)] {
        for hi in 0..count {
            publish_as(share, KeyHash { hi, lo: 9 }, 64);
        }
        share.store.check_invariants();
    }
    assert_eq!(first.store.len(), 48, "its part and the common half");
    assert_eq!(second.store.len(), 16, "its part, however late it comes");
    assert!(first.store.stats().metadata_evictions > 0);
}

#[test]
fn a_write_finds_memory_whose_pin_fell_silently() {
    let (mut share, mut sessions) = (share(), Sessions::default());
    let extent = publish(&mut share, GRANULE_BYTES);
    share.io_pins.pin(extent);
    assert!(share.delete(KEY, 0));
    assert_eq!(share.sweep(&mut sessions, 1), 0);
    assert_eq!(share.reserve(4096, &mut sessions, 2), None);
    assert!(share.io_pins.unpin(extent));
    assert!(share.reserve(4096, &mut sessions, 3).is_some());
}

#[test]
fn leases_of_a_dead_session_come_back_by_time_alone() {
    let (mut share, mut sessions) = (share(), Sessions::default());
    let lent = share.lend(SESSION, (4096, 1), LeaseFor::Later, &mut sessions, 0);
    lent.unwrap();
    share.drop_session(SESSION, Some(1_000_000_000));
    assert_eq!(share.sweep(&mut sessions, 1), 0);
    assert!(!share.wants_sweep(999_999_999));
    assert_eq!(share.next_sweep_ns(), Some(1_000_000_000));
    assert!(share.wants_sweep(1_000_000_000));
    assert_eq!(share.sweep(&mut sessions, 1_000_000_000), 1);
    assert_eq!(share.next_sweep_ns(), None);
}

#[test]
fn too_many_slots_are_refused_and_not_queued_for() {
    let (mut share, mut sessions) = (share(), Sessions::default());
    let refused = loop {
        let lent = share.lend(SESSION, (64, 64), LeaseFor::Later, &mut sessions, 0);
        if let Err(refused) = lent {
            break refused;
        }
    };
    assert_eq!(refused, NotLent::TooManySlots);
    let free = share.extents.stats().free;
    let again = share.lend(SESSION, (64, 64), LeaseFor::Later, &mut sessions, 0);
    again.unwrap_err();
    assert_eq!(
        share.extents.stats().free,
        free,
        "what was not lent is free"
    );
}

#[test]
fn slots_ahead_stay_within_the_budget_and_the_excess_is_asked_back() {
    let (mut share, mut sessions) = (share(), Sessions::default());
    let mut lent = 0;
    // One granule, one session: half of what is left free, each time anew.
    while let Ok(run) = share.lend(SESSION, (1 << 20, 4), LeaseFor::Later, &mut sessions, 0) {
        lent += run.bytes();
    }
    assert!(lent >= 16 << 20, "{lent}");
    assert!(lent <= GRANULE_BYTES / 3 + (1 << 20), "{lent}");
    assert_eq!(share.lease_excess(SESSION, 1), 0);
    let excess = share.lease_excess(SESSION, 64);
    assert!(excess > lent / 2, "{excess} of {lent}");
    assert_eq!(share.lease_excess(SessionId(8), 64), 0, "it holds nothing");
}

#[test]
fn a_session_that_asks_slot_by_slot_gets_its_part_and_no_more() {
    let (mut share, mut sessions) = (share(), Sessions::default());
    let purpose = LeaseFor::Now {
        most_bytes: GRANULE_BYTES / 2,
    };
    let mut lent = 0;
    while let Ok(run) = share.lend(SESSION, (4 << 20, 1), purpose, &mut sessions, 0) {
        lent += run.bytes();
    }
    assert_eq!(lent, GRANULE_BYTES / 2);
    // Another one is served all the same, also with more than its part: it holds nothing else.
    let other = SessionId(8);
    let large = share.lend(other, (20 << 20, 1), purpose, &mut sessions, 0);
    assert_eq!(large.unwrap().bytes(), 20 << 20);
}

#[test]
fn a_granule_is_closed_once_however_often_the_home_asks() {
    let mut share = share();
    let granule = GranuleIndex(0);
    assert_eq!(share.begin_vacate(Some(granule)), Some(granule));
    assert_eq!(share.begin_vacate(Some(granule)), None);
    assert_eq!(share.begin_vacate(None), None);
    assert_eq!(share.begin_vacate(Some(GranuleIndex(1))), None, "not held");
}

#[test]
fn a_granule_is_emptied_in_bounded_steps() {
    let (mut share, mut sessions) = (share(), Sessions::default());
    for hi in 0..3 {
        publish_as(&mut share, KeyHash { hi, lo: 9 }, 4096);
    }
    let granule = share.begin_vacate(None).unwrap();
    let mut vacating = Vacating::new(granule, 0);
    assert!(!share.vacate_step(&mut vacating, 2, &mut sessions, 1));
    assert_eq!(share.store.len(), 1, "no more than the budget");
    assert!(share.vacate_step(&mut vacating, 2, &mut sessions, 2));
}

/// Local sessions that each say that they have used all of their pin slots.
fn sessions_with_full_tables(count: u64) -> (Sessions, Vec<PinTable>) {
    let mut sessions = Sessions::default();
    let mut tables = Vec::new();
    for number in 1..=count {
        let (memory, descriptors) = ServerSession::create(SessionGeometry::new(1), number).unwrap();
        let client = ClientSession::attach(descriptors.read_write(), descriptors.read_only());
        let pins = client.unwrap().pins(0).unwrap();
        // All slots at once: the mark never falls again.
        let views: Vec<_> = std::iter::from_fn(|| pins.acquire(1 << 30)).collect();
        for view in views {
            pins.release(view);
        }
        tables.push(pins);
        sessions.open_with_ring(SessionParts {
            session: SessionId(number),
            memory,
            tenant: TenantId(0),
            trusted: true,
            staging: None,
        });
    }
    (sessions, tables)
}

#[test]
fn a_scan_of_full_pin_tables_is_spread_over_rounds() {
    let mut share = share();
    let (mut sessions, tables) = sessions_with_full_tables(5);
    let extent = publish(&mut share, 4096);
    let pin = tables[4].acquire(extent.offset).unwrap();
    assert!(share.delete(KEY, 0));
    let rounds = |share: &mut TenantShard, sessions: &mut Sessions, now_ns| {
        for round in 1..100 {
            sessions.begin_round();
            let freed = share.sweep(sessions, now_ns);
            assert!(
                sessions.slots_read() <= 2 * SCAN_SLOTS_PER_PASS,
                "a session beyond the budget at most"
            );
            if !share.is_sweeping() {
                return (round, freed);
            }
            assert!(share.wants_sweep(now_ns), "the next round goes on");
        }
        unreachable!("five tables are read in three rounds");
    };
    assert_eq!(rounds(&mut share, &mut sessions, 1), (3, 0), "pinned");
    tables[4].release(pin);
    assert_eq!(rounds(&mut share, &mut sessions, 2), (3, 1));
}

#[test]
fn nothing_more_is_evicted_while_a_scan_goes_on() {
    let mut share = share();
    let (mut sessions, _tables) = sessions_with_full_tables(5);
    let mut count = 0;
    while let Some(extent) = share.extents.allocate(1 << 20) {
        share.extents.free(extent.offset);
        publish_as(&mut share, KeyHash { hi: count, lo: 9 }, 1 << 20);
        count += 1;
    }
    sessions.begin_round();
    assert_eq!(share.reserve(4096, &mut sessions, 1), None, "not yet");
    let left = u64::from(share.store.len());
    assert!(left < count && left + 4 > count, "{left} of {count}");
    sessions.begin_round();
    assert_eq!(share.reserve(4096, &mut sessions, 2), None, "not yet");
    assert_eq!(u64::from(share.store.len()), left);
    sessions.begin_round();
    assert!(share.reserve(4096, &mut sessions, 3).is_some());
    assert_eq!(u64::from(share.store.len()), left);
}

#[test]
fn what_a_pin_holds_is_looked_at_again_within_50_ms() {
    let (mut share, mut sessions) = (share(), Sessions::default());
    let extent = publish(&mut share, 4096);
    share.io_pins.pin(extent);
    assert!(share.delete(KEY, 0));
    let swept_ns = 1_000_000_000;
    assert_eq!(share.sweep(&mut sessions, swept_ns), 0);
    let due_ns = share.next_sweep_ns().unwrap();
    assert!((1..=50_000_000).contains(&(due_ns - swept_ns)));
    assert!(!share.wants_sweep(due_ns - 1) && share.wants_sweep(due_ns));
}
