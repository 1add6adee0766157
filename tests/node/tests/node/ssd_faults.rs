//! A device that fails under a running node: errors are counted, set apart, and misses; never wrong
//! bytes, and never the end of the node.
//!
//! What is done to the files here: bits flipped anywhere, the end cut off, writes refused by a
//! limit on the size of files. Devices and file systems that fill up, fail or hang are those of
//! `ssd_volumes.rs`; single failed, short or unfinished I/Os those of the store's model
//! (`engine/ssd/src/model`).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use chariot_client::{Client, GetOptions, SetOptions};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, with_timeout};
use chariot_tests_node::ledger;
use chariot_tests_node::metrics::http_get;
use chariot_tests_node::random::Random;
use chariot_tests_node::wait;
use tempfile::TempDir;

const SHARDS: u16 = 2;
const MEMORY_MIB: u64 = 128;
/// 38 MB in all: packed with others, in blocks, and large.
const SIZES: [usize; 4] = [3_000, 72 << 10, 200_001, 1 << 20];
const KEYS: u64 = 120;
/// What is in front of the segments: rot there is another refusal (`FORMAT.md`).
const RESERVED_BYTES: u64 = 64 << 10;
const SSD_MIB: u64 = 512;
/// 205 MB in values that the policy makes room for, oldest first.
const FILLERS: u64 = 1_024;
const FILLER_BYTES: usize = 200_000;
/// What waits for room waits for the device, which others may keep busy.
pub(crate) const LONG: Duration = Duration::from_mins(1);

fn start(directory: &TempDir) -> Daemon {
    start_over(&directory.path().display().to_string())
}

/// Starts a daemon over what `path` names as `--ssd` takes it.
pub(crate) fn start_over(path: &str) -> Daemon {
    let size = format!("{SSD_MIB}MiB");
    let flags = ["--ssd", path, "--ssd-size", &size, "--ssd-segment", "4MiB"];
    Daemon::start_with(&DaemonOptions {
        memory_mib: MEMORY_MIB,
        shards_per_core: SHARDS,
        flags: flags.map(str::to_owned).to_vec(),
        ..DaemonOptions::default()
    })
}

pub(crate) fn local(daemon: &Daemon) -> Client {
    Client::connect(with_timeout(daemon.local_options(), LONG)).unwrap()
}

fn name(number: u64) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

/// The value of a key in one generation of them.
fn value(number: u64, generation: u64) -> Vec<u8> {
    let nth = usize::try_from(number).unwrap() % SIZES.len();
    ledger::value(SIZES[nth], generation * KEYS + number)
}

pub(crate) fn write(client: &Client, generation: u64) {
    for number in 0..KEYS {
        let value = value(number, generation);
        let set = client.set(&name(number), &value, &SetOptions::default());
        set.unwrap_or_else(|error| panic!("set of {number}: {error}"));
    }
}

fn filler(number: u64) -> Vec<u8> {
    format!("filler-{number}").into_bytes()
}

/// Writes what pushes everything else out of memory, and waits until it is written or given up.
pub(crate) fn push_out(daemon: &Daemon, client: &Client) {
    let value = ledger::value(FILLER_BYTES, u64::MAX);
    for number in 0..FILLERS {
        let set = client.set(&filler(number), &value, &SetOptions::default());
        set.unwrap_or_else(|error| panic!("filler {number}: {error}"));
    }
    wait::within(LONG, "everything evicted is written", || {
        daemon.metrics().total("chariot_ssd_spilling_bytes") == 0.0
    });
}

/// Which keys are there; one with bytes of another generation ends the test.
pub(crate) fn found(client: &Client, generation: u64) -> Vec<u64> {
    let there = |&number: &u64| {
        let read = client.get(&name(number), &GetOptions::default());
        let read = read.unwrap_or_else(|error| panic!("get of {number}: {error}"));
        read.is_some_and(|bytes| {
            assert!(bytes == value(number, generation), "{number}: wrong bytes");
            true
        })
    };
    (0..KEYS).filter(there).collect()
}

fn partitions(directory: &TempDir) -> [PathBuf; 2] {
    ["chariot-0000.ssd", "chariot-0001.ssd"].map(|name| directory.path().join(name))
}

fn open(path: &PathBuf) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

/// Flips one bit in every `stride` bytes of what was written.
fn rot(directory: &TempDir, stride: u64, random: &mut Random) {
    for path in partitions(directory) {
        let file = open(&path);
        let len = file.metadata().unwrap().len();
        for start in (RESERVED_BYTES..len).step_by(usize::try_from(stride).unwrap()) {
            let at = start + random.below(stride.min(len - start));
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << random.below(8))], at)
                .unwrap();
        }
        // The node reads past the page cache.
        file.sync_data().unwrap();
    }
}

/// What `/readyz` says: it answers 200 while the node serves.
pub(crate) fn ready(daemon: &Daemon) -> String {
    http_get(daemon.admin(), "/readyz").expect("the node is ready")
}

pub(crate) fn errors(daemon: &Daemon, kind: &str) -> f64 {
    let kind = format!("kind=\"{kind}\"");
    daemon.metrics().sum("chariot_ssd_errors_total", &[&kind])
}

/// The node works: what it is given now it has, whatever became of the device.
pub(crate) fn serves(client: &Client) {
    for number in 0..16 {
        let (name, value) = (format!("new-{number}"), ledger::value(50_000, number));
        let set = client.set(name.as_bytes(), &value, &SetOptions::default());
        set.unwrap();
        let read = client.get(name.as_bytes(), &GetOptions::default()).unwrap();
        assert!(read.unwrap() == value, "{number}");
        assert!(client.delete(name.as_bytes()).unwrap());
        assert!(!client.exist(name.as_bytes()).unwrap());
    }
}

#[test]
fn rot_under_a_running_node_is_counted_misses_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(&directory);
    let client = local(&daemon);
    write(&client, 1);
    push_out(&daemon, &client);
    rot(&directory, 256 << 10, &mut Random::new(1));
    let there = found(&client, 1).len() as u64;
    let corrupt = errors(&daemon, "corrupt-value");
    println!("{there} of {KEYS} are whole, {corrupt} reads were not");
    assert!(there < KEYS, "a bit in each 256 KiB damages some of them");
    assert!(corrupt >= (KEYS - there) as f64, "each one is counted");
    assert!(there > 0, "and spares some");
    serves(&client);
    daemon.assert_alive();
}

#[test]
fn rot_found_by_a_restart_costs_what_it_hit_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(&directory);
    write(&local(&daemon), 1);
    push_out(&daemon, &local(&daemon));
    for round in 0..3 {
        daemon.kill();
        // A bit in each half megabyte: heads of segments and groups, records, values, tables.
        rot(&directory, 512 << 10, &mut Random::new(round));
        daemon.restart();
        let client = local(&daemon);
        let there = found(&client, 1).len();
        println!("round {round}: {there} of {KEYS} are whole");
        assert!(round > 0 || there > 0, "a restart finds what was not hit");
        serves(&client);
    }
    let client = local(&daemon);
    write(&client, 2);
    push_out(&daemon, &client);
    let there = found(&client, 2).len();
    assert!(there > 0, "what is spilled now comes back: {there}");
    daemon.assert_alive();
}

#[test]
fn a_file_that_shrinks_is_given_up_and_the_other_shard_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(&directory);
    let client = local(&daemon);
    write(&client, 1);
    push_out(&daemon, &client);
    let all = found(&client, 1).len();
    push_out(&daemon, &client);
    open(&partitions(&directory)[0]).set_len(2 << 20).unwrap();
    let there = found(&client, 1).len();
    println!("{there} of {all} are left");
    assert!(there < all, "half of them lay behind the end");
    assert!(there > 0, "and those of the other shard did not");
    // A hole reads as zeros: what is written behind the new end makes holes in front of itself.
    let counted = errors(&daemon, "read") + errors(&daemon, "corrupt-value");
    assert!(counted >= (all - there) as f64, "each one is counted");
    let is_given_up = || ready(&daemon).contains("degraded: 1 SSD partitions are given up");
    let mut fillers = 0..FILLERS;
    while !is_given_up() {
        open(&partitions(&directory)[0]).set_len(2 << 20).unwrap();
        let number = fillers.next().expect("sixteen errors are the end");
        let read = client.get(&filler(number), &GetOptions::default());
        let is_whole = |bytes: Vec<u8>| bytes == ledger::value(FILLER_BYTES, u64::MAX);
        assert!(read.unwrap().is_none_or(is_whole), "filler {number}");
    }
    assert!(errors(&daemon, "read") + errors(&daemon, "write") > 0.5);
    assert!(daemon.metrics().total("chariot_ssd_retired") > 0.5);
    serves(&client);
    write(&client, 2);
    push_out(&daemon, &client);
    let there = found(&client, 2).len();
    assert!(there > 0, "the other shard spills and reads: {there}");
    daemon.assert_alive();
}

/// Limits the size of files for a running process.
fn limit_files(daemon: &Daemon, bytes: u64) {
    let status = Command::new("prlimit")
        .args(["--pid", &daemon.pid().to_string()])
        .arg(format!("--fsize={bytes}:"))
        .status()
        .expect("prlimit is part of util-linux");
    assert!(status.success());
}

#[test]
fn writes_that_fail_give_the_device_up_and_what_was_deleted_stays_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(&directory);
    let client = local(&daemon);
    write(&client, 1);
    push_out(&daemon, &client);
    assert!(!ready(&daemon).contains("degraded"));
    // Beyond the superblock nothing can be written any more; all of it can be read.
    limit_files(&daemon, RESERVED_BYTES);
    push_out(&daemon, &client);
    wait::within(LONG, "both partitions are given up", || {
        // Errors come with writes: as long as there are too few of them, more is pushed out.
        push_out(&daemon, &client);
        ready(&daemon).contains("degraded: 2 SSD partitions are given up")
    });
    assert!(errors(&daemon, "write") >= 32.0, "each one is counted");
    assert!(daemon.metrics().total("chariot_ssd_forgotten_total") > 0.5);
    serves(&client);
    for number in 0..KEYS / 2 {
        client.delete(&name(number)).unwrap();
    }
    for number in KEYS / 2..KEYS {
        let value = value(number, 2);
        client
            .set(&name(number), &value, &SetOptions::default())
            .unwrap();
    }
    daemon.assert_alive();
    daemon.kill();
    daemon.restart();
    // No tombstone could be written: nothing of before may count.
    let client = local(&daemon);
    assert!(
        found(&client, 2).is_empty(),
        "old versions would have shown"
    );
    assert!(!ready(&daemon).contains("degraded"));
    write(&client, 3);
    push_out(&daemon, &client);
    assert!(!found(&client, 3).is_empty(), "it is a tier again");
}
