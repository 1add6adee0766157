//! The SSD tier from outside: what is evicted comes back, what was overwritten or deleted does not.
//! `ssd_kills.rs` kills it under load.

use std::time::Duration;

use chariot_client::{Client, GetOptions, SetOptions, Status};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, status_of, with_timeout};
use chariot_tests_node::{pattern, wait};
use tempfile::TempDir;

/// A daemon with 1 GiB of SSD in `directory`, and 64 MiB of memory a shard (128 at least).
fn options(directory: &TempDir, shards: u16) -> DaemonOptions {
    DaemonOptions {
        memory_mib: 64 * u64::from(shards.max(2)),
        shards_per_core: shards,
        flags: vec![
            "--ssd".to_owned(),
            directory.path().display().to_string(),
            "--ssd-size".to_owned(),
            "1GiB".to_owned(),
        ],
        ..DaemonOptions::default()
    }
}

/// What waits for room waits for the device, which others may keep busy.
const LONG: Duration = Duration::from_mins(1);

fn local(daemon: &Daemon) -> Client {
    Client::connect(with_timeout(daemon.local_options(), LONG)).unwrap()
}

fn remote(daemon: &Daemon) -> Client {
    Client::connect(with_timeout(daemon.remote_options(), LONG)).unwrap()
}

fn len_of(number: u64) -> usize {
    SIZES[usize::try_from(number).unwrap() % SIZES.len()]
}

fn key(number: u64) -> Vec<u8> {
    format!("object-{number}").into_bytes()
}

fn set(client: &Client, number: u64, len: usize) {
    let value = pattern::value(len, number);
    let set = client.set(&key(number), &value, &SetOptions::default());
    set.unwrap_or_else(|error| panic!("set of {number}: {error}"));
}

fn get(client: &Client, number: u64) -> Option<Vec<u8>> {
    let get = client.get(&key(number), &GetOptions::default());
    get.unwrap_or_else(|error| panic!("get of {number}: {error}"))
}

fn settle(daemon: &Daemon) {
    wait::within(LONG, "everything evicted is written", || {
        daemon.metrics().total("chariot_ssd_spilling_bytes") == 0.0
    });
}

fn recovered(daemon: &Daemon, shards: u16) {
    wait::within(LONG, "the tier is recovered", || {
        let metrics = daemon.metrics();
        metrics.count("chariot_ssd_recovering") == usize::from(shards)
            && metrics.total("chariot_ssd_recovering") == 0.0
    });
}

const SIZES: [usize; 5] = [300, 5_000, 72 << 10, 1 << 20, 3_000_001];

#[test]
fn what_memory_cannot_hold_is_read_back_from_ssd() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(&options(&directory, 2));
    let mut on_ssd = 0;
    for (name, client) in [("local", local(&daemon)), ("remote", remote(&daemon))] {
        let first = if name == "local" { 0 } else { 1_000 };
        let numbers = first..first + 320;
        for number in numbers.clone() {
            set(&client, number, len_of(number));
        }
        for number in numbers {
            let len = len_of(number);
            assert!(client.exist(&key(number)).unwrap(), "{name} {number}");
            assert_eq!(client.size(&key(number)).unwrap(), Some(len as u64));
            let value = get(&client, number).unwrap_or_else(|| panic!("{name} {number} is gone"));
            assert_eq!(value.len(), len);
            assert!(pattern::matches(&value, number), "{name} {number}");
        }
        let stats = client.stats();
        assert!(stats.hits_ssd > 50, "{name}: {stats:?}");
        set(&client, first, 5_000);
        get(&client, first).unwrap();
        let again = client.stats();
        assert_eq!(again.hits_ssd, stats.hits_ssd, "{name}: from memory");
        on_ssd += again.hits_ssd;
    }
    let metrics = daemon.metrics();
    let hits = metrics.total("chariot_ssd_hits_total");
    assert!(hits > 100.0, "{hits}");
    assert!(
        (on_ssd as f64 - hits).abs() < 0.5,
        "{on_ssd} of {hits} told"
    );
    assert!(metrics.total("chariot_ssd_forgotten_total") < 0.5);
}

#[test]
fn kept_absent_deleted_and_expiring_keys_know_the_ssd() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start_with(&options(&directory, 2));
    let client = local(&daemon);
    for number in 0..300 {
        set(&client, number, 1 << 20);
    }
    settle(&daemon);
    let if_absent = SetOptions {
        if_absent: true,
        ..SetOptions::default()
    };
    for number in 0..50 {
        let again = client.set(&key(number), b"new", &if_absent);
        assert_eq!(status_of(again), Status::Exists, "{number} lies on SSD");
    }
    for number in 50..100 {
        assert!(client.delete(&key(number)).unwrap());
        assert!(!client.delete(&key(number)).unwrap(), "once");
        assert_eq!(get(&client, number), None);
    }
    let hour = Duration::from_hours(1);
    assert!(client.expire(&key(100), Some(hour)).unwrap());
    assert!(pattern::matches(&get(&client, 100).unwrap(), 100));
    client
        .set(&key(101), b"short now", &SetOptions::default())
        .unwrap();
    daemon.kill();
    daemon.restart();
    let client = local(&daemon);
    recovered(&daemon, 2);
    for number in 50..100 {
        assert_eq!(get(&client, number), None, "{number} was deleted");
    }
    assert_ne!(get(&client, 101).map(|value| value.len()), Some(1 << 20));
    assert!(pattern::matches(&get(&client, 0).unwrap(), 0));
}

#[test]
fn other_shard_counts_find_everything_that_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut written = 0.0;
    for (round, shards) in [1_u16, 2, 3, 1].into_iter().enumerate() {
        let daemon = Daemon::start_with(&options(&directory, shards));
        let client = local(&daemon);
        recovered(&daemon, shards);
        let objects = daemon.metrics().total("chariot_ssd_objects");
        assert!(objects >= written, "{objects} of {written} with {shards}");
        let mut found = 0_u32;
        for number in 0..80 * round as u64 {
            found += u32::from(get(&client, number).is_some_and(|value| {
                assert!(pattern::matches(&value, number));
                true
            }));
        }
        assert!(f64::from(found) >= written, "{found} of {written}");
        for number in 0..80 {
            set(&client, 80 * round as u64 + number, 1 << 20);
        }
        // As many MiB as there is memory, and half as much again: all of them are pushed out.
        for number in 0..options(&directory, shards).memory_mib * 3 / 2 {
            set(&client, 1_000_000 + number, 1 << 20);
        }
        settle(&daemon);
        written = f64::from(u32::try_from(80 * (round + 1)).unwrap());
    }
}
