//! Single events that random schedules meet too seldom.

use chariot_base::{SplitMix64, TenantId};
use chariot_proto::{KeyHash, WriteMode};

use super::node::Node;
use crate::limits::RESERVED_BYTES;
use crate::{Append, AppendError, IoFault, Lookup, NewRecord, Source};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn hash(lo: u64) -> KeyHash {
    KeyHash { hi: lo << 40, lo }
}

/// Writes a packed value of 300 bytes on shard 0.
fn put(node: &mut Node, lo: u64) -> Result<Append, AppendError> {
    let value = [u8::try_from(lo % 251).unwrap(); 300];
    let record = NewRecord {
        hash: hash(lo),
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
    let appended = node.shards[0].append(&record, Source::Fill(&mut fill), node.now);
    node.poll(0);
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
