//! Single events that random schedules meet too seldom.

use chariot_base::{SplitMix64, TenantId};
use chariot_proto::{KeyHash, WriteMode};

use super::node::{Event, Node};
use crate::limits::RESERVED_BYTES;
use crate::mutate::{Mutation, with};
use crate::{
    Append, AppendError, Delete, IoFault, Lookup, NewRecord, ReadOutcome, ReadResult, Source,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn hash(lo: u64) -> KeyHash {
    KeyHash { hi: lo << 40, lo }
}

/// A key of one of two shards: the highest bit chooses.
fn hash_on(shard: u64, lo: u64) -> KeyHash {
    let hash = KeyHash {
        lo: lo | (shard << 63),
        ..hash(lo)
    };
    assert_eq!(u64::from(hash.shard(2)), shard);
    hash
}

/// Writes a packed value of 300 bytes on shard 0.
fn put(node: &mut Node, lo: u64) -> Result<Append, AppendError> {
    put_on(node, 0, lo)
}

fn put_on(node: &mut Node, shard: u64, lo: u64) -> Result<Append, AppendError> {
    let value = [u8::try_from(lo % 251).unwrap(); 300];
    let record = NewRecord {
        hash: hash_on(shard, lo),
        tenant: TenantId(0),
        key: b"key",
        version: (u64::from(node.epoch) << 44) | (lo + 1),
        expiry_unix_ms: 0,
        len: 300,
        crc: crc32c::crc32c(&value),
        has_checksum: true,
        mode: WriteMode::NoneEvict,
    };
    let mut fill = |target: &mut [u8]| target.copy_from_slice(&value);
    let shard = usize::try_from(shard).unwrap();
    let appended = node.shards[shard].append(&record, Source::Fill(&mut fill), node.now);
    node.poll(shard);
    appended
}

#[test]
fn day_budget_comes_back_after_a_clock_that_was_ahead() {
    let mut random = SplitMix64::new(1);
    let mut node = Node::new(1, 8, |options| options.day_budget_bytes = 100_000);
    node.settle(&mut random, 50);
    let right = node.now.unix_ms;
    node.now.unix_ms = right + 400 * DAY_MS;
    let mut lo = 0;
    while put(&mut node, lo) != Err(AppendError::NotAdmitted) {
        while node.has_work() {
            node.complete_one(&mut random, None);
        }
        lo += 1;
        assert!(lo < 1000, "a budget ends");
    }
    node.now.unix_ms = right;
    assert!(put(&mut node, lo).is_ok(), "it is another day");
    node.now.unix_ms = right - DAY_MS;
    let today = node.shards[0].stats().day_bytes;
    put(&mut node, lo + 1).unwrap();
    assert!(
        node.shards[0].stats().day_bytes >= today,
        "a step back over midnight begins no day"
    );
}

#[test]
fn superblock_that_failed_is_written_again_to_the_same_place() {
    let mut random = SplitMix64::new(2);
    let mut node = Node::new(1, 8, |_options| {});
    let first = node.writes();
    assert_eq!(first.len(), 1);
    node.complete_one(&mut random, Some(IoFault::Io));
    assert_eq!(node.writes(), first, "the other copy may be the only one");
    node.settle(&mut random, 50);
    assert!(matches!(put(&mut node, 1), Ok(Append::Queued(_))));
}

/// A node of one shard that had one object and was given up after errors.
fn given_up(random: &mut SplitMix64) -> Node {
    let mut node = Node::new(1, 8, |options| options.errors_max = 4);
    put(&mut node, 1).unwrap();
    node.settle(random, 50);
    let mut lo = 2;
    while !node.shards[0].stats().is_retired {
        // Room may be short: errors isolate segments.
        let _taken_or_not = put(&mut node, lo);
        node.advance(1_000_000);
        node.complete_one(random, Some(IoFault::NoSpace));
        lo += 1;
        assert!(lo < 1000, "four errors are the end");
    }
    // What is deleted from now on leaves no tombstone.
    assert_eq!(node.shards[0].delete(hash(1), node.now), Delete::Refused);
    node.poll(0);
    node.settle(random, 50);
    node.stop();
    node
}

#[test]
fn what_lay_on_a_given_up_partition_is_not_found_again() {
    let mut random = SplitMix64::new(6);
    let mut node = given_up(&mut random);
    node.start(1);
    node.settle(&mut random, 50);
    assert_eq!(node.shards[0].lookup(hash(1), node.now), Lookup::Absent);
    assert!(matches!(put(&mut node, 1), Ok(Append::Queued(_))));
    node.settle(&mut random, 50);
    node.stop();
    node.start(1);
    node.settle(&mut random, 50);
    let found = node.shards[0].lookup(hash(1), node.now);
    assert!(matches!(found, Lookup::Hit(_)), "it is a partition again");
}

#[test]
fn mutant_given_up_partition_without_its_mark_is_seen() {
    let mut random = SplitMix64::new(6);
    let mut node = with(Mutation::GivenUpUnmarked, || given_up(&mut random));
    node.start(1);
    node.settle(&mut random, 50);
    let found = node.shards[0].lookup(hash(1), node.now);
    assert!(matches!(found, Lookup::Hit(_)), "deleted, and back");
}

#[test]
fn own_partition_that_hangs_is_given_up_and_everything_is_a_miss() {
    let mut random = SplitMix64::new(7);
    let mut node = Node::new(1, 8, |_options| {});
    put(&mut node, 1).unwrap();
    node.settle(&mut random, 50);
    put(&mut node, 2).unwrap();
    node.advance(1_000_000);
    assert!(!node.writes().is_empty(), "a group is under way");
    node.hang(0);
    node.advance(7_200_000_000_000);
    let stats = node.shards[0].stats();
    assert!(stats.is_retired);
    assert_eq!(stats.hung, 1);
    assert_eq!(node.shards[0].lookup(hash(1), node.now), Lookup::Absent);
    assert_eq!(put(&mut node, 3), Err(AppendError::Retired));
    let failed = |event: &Event| matches!(event, Event::Done(0, done) if done.result.is_err());
    assert_eq!(node.events.iter().filter(|event| failed(event)).count(), 1);
}

#[test]
fn a_read_that_hangs_gives_the_partition_up_at_once() {
    let mut random = SplitMix64::new(8);
    let mut node = Node::new(1, 8, |_options| {});
    for lo in 1..3 {
        put(&mut node, lo).unwrap();
        node.settle(&mut random, 50);
    }
    let mut plans = Vec::new();
    for lo in 1..3 {
        let Lookup::Hit(hit) = node.shards[0].lookup(hash(lo), node.now) else {
            panic!("{lo} was written");
        };
        plans.push(node.shards[0].start_read(&hit, node.now).unwrap());
    }
    for plan in plans {
        let hung = ReadOutcome::Failed(IoFault::TimedOut);
        let result = node.shards[0].finish_read(plan.id, hung, node.now);
        assert_eq!(result, ReadResult::Failed);
    }
    node.poll(0);
    let stats = node.shards[0].stats();
    assert!(stats.is_retired);
    assert_eq!((stats.hung, stats.read_errors), (2, 0));
    for lo in 1..3 {
        assert_eq!(node.shards[0].lookup(hash(lo), node.now), Lookup::Absent);
    }
    assert_eq!(put(&mut node, 3), Err(AppendError::Retired));
}

#[test]
fn another_partition_that_hangs_holds_up_nobody() {
    let mut random = SplitMix64::new(3);
    let mut node = Node::new(2, 8, |_options| {});
    put(&mut node, 1).unwrap();
    node.settle(&mut random, 50);
    node.stop();
    node.start(1);
    for _ in 0..40 {
        node.hang(1);
        while node.has_work() {
            node.complete_one(&mut random, None);
            node.hang(1);
        }
        node.advance(7_200_000_000_000);
    }
    assert!(!node.shards[0].is_recovering());
    let found = node.shards[0].lookup(hash(1), node.now);
    assert!(matches!(found, Lookup::Hit(_)), "{found:?}");
}

#[test]
fn what_lies_on_a_given_up_partition_of_another_shard_is_missing_not_busy() {
    let mut random = SplitMix64::new(5);
    let mut node = Node::new(2, 8, |_options| {});
    for lo in 0..64 {
        put_on(&mut node, 1, lo).unwrap();
        node.settle(&mut random, 50);
    }
    node.stop();
    node.start(1);
    // No longer: cleaning would bring the keys over.
    for _ in 0..10_000 {
        if !node.shards[0].is_recovering() {
            break;
        }
        node.settle(&mut random, 1);
    }
    assert!(!node.shards[0].is_recovering());
    let (mut failed, mut missing) = (0, 0);
    for lo in 0..64 {
        match node.shards[0].lookup(hash_on(1, lo), node.now) {
            Lookup::Hit(hit) => {
                let plan = node.shards[0].start_read(&hit, node.now);
                let plan = plan.expect("what is found can be read");
                let is_other = plan.partition == 1;
                let outcome = if is_other {
                    ReadOutcome::Failed(IoFault::Io)
                } else {
                    ReadOutcome::Cancelled
                };
                let result = node.shards[0].finish_read(plan.id, outcome, node.now);
                assert_eq!(result, ReadResult::Failed);
                failed += u32::from(is_other);
            },
            Lookup::Absent => missing += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(
        failed > 0 && missing > 0,
        "{failed} failed, {missing} missing"
    );
    assert!(
        !node.shards[0].stats().is_retired,
        "its own partition is well"
    );
}

#[test]
fn segment_in_which_damage_hides_records_is_not_erased() {
    let mut random = SplitMix64::new(4);
    let mut node = Node::new(1, 8, |_options| {});
    node.settle(&mut random, 50);
    for lo in 0..14 {
        put(&mut node, lo).unwrap();
        node.settle(&mut random, 50);
    }
    // The last row of the table of segment 0, and a record in the head of its first group.
    node.disks[0].flip(RESERVED_BYTES + (32 << 10) - 128 - 20);
    node.disks[0].flip(RESERVED_BYTES + 4096 + 200);
    for lo in 14..300 {
        let _taken_or_not = put(&mut node, lo);
        node.settle(&mut random, 50);
    }
    let stats = node.shards[0].stats();
    assert!(stats.segments_erased > 0, "there was something to clean");
    assert!(stats.segments_isolated > 0, "the damaged one stays");
}
