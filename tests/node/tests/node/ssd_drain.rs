//! `--drain-to-ssd`: a stop writes what is in memory to SSD, the hottest first, and the next start
//! has it.

use chariot_client::{Client, ConnectOptions, GetOptions, ReadPath, SetOptions};
use chariot_tests_node::daemon::{Daemon, DaemonOptions};
use chariot_tests_node::{pattern, wait};
use tempfile::TempDir;

const KEYS: u64 = 200;
const VALUE_BYTES: usize = 200_001;

fn start(directory: &TempDir, flags: &[&str]) -> Daemon {
    let path = directory.path().display().to_string();
    let tier = ["--ssd", &path, "--ssd-size", "256MiB"];
    Daemon::start_with(&DaemonOptions {
        memory_mib: 128,
        shards_per_core: 1,
        flags: [&tier, flags]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..DaemonOptions::default()
    })
}

/// A client whose reads the shard hears of at once.
fn client(daemon: &Daemon) -> Client {
    Client::connect(ConnectOptions {
        read_path: ReadPath::Ring,
        request_timeout: wait::PATIENCE,
        ..daemon.local_options()
    })
    .unwrap()
}

fn key(number: u64) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

/// Writes 40 MB, which memory holds, with `hot` read last; stops, starts again, and tells which
/// keys are there.
fn over_a_stop(flags: &[&str], hot: impl Iterator<Item = u64>) -> Vec<u64> {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(&directory, flags);
    let before = client(&daemon);
    for number in 0..KEYS {
        let value = pattern::value(VALUE_BYTES, number);
        before
            .set(&key(number), &value, &SetOptions::default())
            .unwrap();
    }
    for number in hot {
        assert!(
            before
                .get(&key(number), &GetOptions::default())
                .unwrap()
                .is_some()
        );
    }
    assert!(
        daemon.metrics().total("chariot_ssd_spills_total") < 0.5,
        "all of it is in memory"
    );
    assert!(daemon.terminate(), "the drain ends well");
    daemon.restart();
    let after = client(&daemon);
    let there = |&number: &u64| {
        let read = after.get(&key(number), &GetOptions::default()).unwrap();
        read.is_some_and(|value| {
            assert!(pattern::matches(&value, number), "{number}");
            true
        })
    };
    let found: Vec<u64> = (0..KEYS).filter(there).collect();
    assert_eq!(
        after.stats().hits_ssd,
        found.len() as u64,
        "memory was empty"
    );
    found
}

#[test]
fn a_drain_keeps_what_is_in_memory() {
    let found = over_a_stop(&["--drain-to-ssd", "60"], 0..0);
    assert_eq!(found.len() as u64, KEYS);
}

#[test]
fn a_stop_without_a_drain_keeps_nothing_that_only_memory_had() {
    assert!(over_a_stop(&["--drain-to-ssd", "0"], 0..0).is_empty());
}

#[test]
fn a_drain_that_cannot_write_all_writes_the_hottest() {
    // The budget of a day ends the drain before its time does: 10 MB of 40.
    let flags = ["--drain-to-ssd", "60", "--ssd-bytes-per-day", "10MiB"];
    let hot: Vec<u64> = (0..KEYS).step_by(10).collect();
    let found = over_a_stop(&flags, hot.iter().copied());
    assert!(
        (found.len() as u64) < KEYS / 2,
        "{} were written",
        found.len()
    );
    let missing: Vec<&u64> = hot
        .iter()
        .filter(|number| !found.contains(number))
        .collect();
    assert!(missing.is_empty(), "hot and not written: {missing:?}");
}
