use super::*;
use crate::ExtentAllocator;

const T: TenantId = TenantId(0);

fn ledger(granule_count: u32, shard_count: u16) -> GranuleLedger {
    let mut ledger = GranuleLedger::new(LedgerOptions {
        granule_count,
        shard_count,
    });
    ledger.add_tenant(T);
    ledger
}

fn work_off(ledger: &mut GranuleLedger) -> usize {
    let mut done = 0;
    while let Some(work) = ledger.next_work() {
        ledger.work_done(work);
        ledger.check_invariants();
        done += 1;
    }
    done
}

fn granted(outcome: TakeOutcome) -> Grant {
    match outcome {
        TakeOutcome::Granted(grant) => grant,
        other => panic!("expected a grant, got {other:?}"),
    }
}

fn waiting(outcome: TakeOutcome) -> TakeTicket {
    match outcome {
        TakeOutcome::Waiting(ticket) => ticket,
        other => panic!("expected to wait, got {other:?}"),
    }
}

#[test]
fn memory_populated_ahead_is_granted_populated_and_side_by_side() {
    let mut ledger = ledger(32, 16);
    ledger.populate_ahead(T);
    assert_eq!(work_off(&mut ledger), 32);
    for shard in 0..16 {
        let first = granted(ledger.take(T, ShardId(shard), 1));
        let second = granted(ledger.take(T, ShardId(shard), 1));
        assert!(first.populated && second.populated);
        assert_eq!(second.first.0, first.first.0 + 1);
    }
    waiting(ledger.take(T, ShardId(0), 1));
    assert_eq!(ledger.stats().populated_bytes, 2 << 30);
}

#[test]
fn one_shard_may_hold_the_whole_node() {
    let mut ledger = ledger(32, 16);
    ledger.populate_ahead(T);
    work_off(&mut ledger);
    for _ in 0..32 {
        granted(ledger.take(T, ShardId(7), 1));
        ledger.check_invariants();
    }
    assert_eq!(ledger.held_count(T, ShardId(7)), 32);
    waiting(ledger.take(T, ShardId(7), 1));
}

#[test]
fn object_of_half_the_arena_gets_adjacent_granules_of_two_shards() {
    // 4 GiB on two shards; a 2 GiB object needs 32 adjacent granules plus none to spare.
    let mut ledger = ledger(64, 2);
    ledger.populate_ahead(T);
    work_off(&mut ledger);
    for shard in [0, 1, 0, 1] {
        granted(ledger.take(T, ShardId(shard), 1));
    }
    let ticket = waiting(ledger.take(T, ShardId(0), 33));
    assert!(
        ledger.vacate_plan().is_none(),
        "there is room: punches will do"
    );
    work_off(&mut ledger);
    let (served, grant) = ledger.poll_grant().expect("punched");
    assert_eq!((served, grant.count), (ticket, 33));
    let mut allocator = ExtentAllocator::new();
    allocator.add_granules(grant.first, grant.count);
    let extent = allocator.allocate(2 << 30).expect("33 granules hold 2 GiB");
    assert_eq!(extent.len, 2 << 30);
    allocator.check_invariants();
}

#[test]
fn run_in_a_full_node_asks_for_no_more_than_it_costs() {
    // All memory is held, scattered by turns between two shards.
    let mut ledger = ledger(64, 2);
    for turn in 0..64 {
        granted(ledger.take(T, ShardId(turn % 2), 1));
    }
    work_off(&mut ledger);
    let ticket = waiting(ledger.take(T, ShardId(0), 32));
    let (named, plan) = ledger.vacate_plan().expect("somebody must give");
    assert_eq!(named, ticket);
    let any: u32 = plan.any.iter().map(|&(_, _, count)| count).sum();
    assert_eq!(plan.granules.len() + any as usize, 32);
    let (again, same) = ledger.vacate_plan().expect("still waiting");
    assert_eq!((again, &same), (ticket, &plan), "a plan is kept");
    for (shard, granule) in plan.granules {
        ledger.give_back(T, shard, granule);
    }
    for (tenant, shard, count) in plan.any {
        for _ in 0..count {
            let cells = &ledger.tenants[&tenant];
            let run = ledger.waiters[0].reserved.map(|first| first..first + 32);
            let outside = |index: u32| !run.as_ref().is_some_and(|run| run.contains(&index));
            let held = (0..)
                .zip(cells)
                .filter(|(_, cell)| cell.holder() == Some(shard));
            let (index, _) = held
                .filter(|&(index, _)| outside(index))
                .last()
                .expect("some");
            ledger.give_back(tenant, shard, GranuleIndex(index));
        }
    }
    while ledger.poll_grant().is_none() {
        assert!(work_off(&mut ledger) > 0, "a grant or work, until served");
    }
    assert_eq!(
        ledger.held_count(T, ShardId(0)) + ledger.held_count(T, ShardId(1)),
        64
    );
    ledger.check_invariants();
}

#[test]
fn granule_changes_shard_without_a_punch_and_tenant_only_through_one() {
    let mut ledger = ledger(2, 2);
    let other = TenantId(1);
    ledger.add_tenant(other);
    let mine = granted(ledger.take(T, ShardId(0), 1));
    granted(ledger.take(T, ShardId(1), 1));
    work_off(&mut ledger);
    ledger.give_back(T, ShardId(0), mine.first);
    let same = granted(ledger.take(T, ShardId(1), 1));
    assert_eq!(same.first, mine.first);
    assert!(same.populated, "within a tenant the pages stay");
    ledger.give_back(T, ShardId(1), mine.first);
    let ticket = waiting(ledger.take(other, ShardId(0), 1));
    let punch = GranuleWork::Punch {
        tenant: T,
        granule: mine.first,
    };
    assert_eq!(ledger.next_work(), Some(punch));
    assert_eq!(ledger.poll_grant(), None, "not before the hole is punched");
    ledger.work_done(punch);
    let (served, grant) = ledger.poll_grant().expect("punched");
    assert_eq!(
        (served, grant.tenant, grant.populated),
        (ticket, other, false)
    );
}

#[test]
fn writer_alone_reaches_nine_tenths_after_another_filled_the_node() {
    let mut ledger = ledger(32, 2);
    for _ in 0..32 {
        granted(ledger.take(T, ShardId(0), 1));
    }
    ledger.set_coldness(T, ShardId(0), 1000);
    for step in 0..29 {
        ledger.set_coldness(T, ShardId(1), 2000 + step);
        assert_eq!(ledger.donor_for(T, ShardId(1)), Some((T, ShardId(0))));
        assert_eq!(
            ledger.donor_for(T, ShardId(0)),
            None,
            "the idle one is the coldest"
        );
        let ticket = waiting(ledger.take(T, ShardId(1), 1));
        let (_, plan) = ledger.vacate_plan().expect("the node is full");
        assert_eq!(plan.any, [(T, ShardId(0), 1)]);
        let cells = &ledger.tenants[&T];
        let held = cells
            .iter()
            .rposition(|cell| cell.holder() == Some(ShardId(0)));
        let granule = GranuleIndex(u32::try_from(held.expect("it holds some")).expect("few"));
        ledger.give_back(T, ShardId(0), granule);
        let grant = loop {
            if let Some((served, grant)) = ledger.poll_grant() {
                assert_eq!(served, ticket);
                break grant;
            }
            assert!(work_off(&mut ledger) > 0);
        };
        assert_eq!(grant.shard, ShardId(1));
    }
    // 29 of 32 are more than nine tenths.
    assert_eq!(ledger.held_count(T, ShardId(1)), 29);
}

#[test]
fn waiters_are_served_in_order_and_may_give_up() {
    let mut ledger = ledger(2, 2);
    let first = granted(ledger.take(T, ShardId(0), 1));
    let second = granted(ledger.take(T, ShardId(0), 1));
    let large = waiting(ledger.take(T, ShardId(1), 2));
    let small = waiting(ledger.take(T, ShardId(1), 1));
    work_off(&mut ledger);
    ledger.give_back(T, ShardId(0), first.first);
    assert_eq!(ledger.poll_grant(), None, "the first in line needs two");
    assert!(ledger.cancel(large));
    assert!(!ledger.cancel(large));
    assert_eq!(ledger.poll_grant().map(|(ticket, _)| ticket), Some(small));
    ledger.give_back(T, ShardId(0), second.first);
    assert_eq!(ledger.take(T, ShardId(0), 3), TakeOutcome::TooLarge);
}

#[test]
fn unstarted_population_gives_its_credit_back_at_once() {
    let mut ledger = ledger(4, 1);
    ledger.populate_ahead(T);
    let other = TenantId(1);
    ledger.add_tenant(other);
    let grant = granted(ledger.take(other, ShardId(0), 4));
    assert_eq!((grant.count, grant.populated), (4, false));
    assert_eq!(work_off(&mut ledger), 4);
    assert_eq!(ledger.stats().populated_bytes, 4 * GRANULE_BYTES);
}

#[test]
#[should_panic(expected = "gives back")]
fn granule_given_back_by_a_stranger_is_a_bug() {
    let mut ledger = ledger(2, 2);
    let grant = granted(ledger.take(T, ShardId(0), 1));
    ledger.give_back(T, ShardId(1), grant.first);
}

#[test]
#[should_panic(expected = "not under work")]
fn work_reported_twice_is_a_bug() {
    let mut ledger = ledger(1, 1);
    granted(ledger.take(T, ShardId(0), 1));
    let work = ledger.next_work().expect("unbacked memory is populated");
    ledger.work_done(work);
    ledger.work_done(work);
}
