//! What an object costs beyond its payload, at the worst point of its table's growth.
//!
//! Values fill their size class exactly and have a time to live, so that all parts are there:
//! record, bucket, links of the policy, timer, tag of the allocator. The process's own memory is
//! compared, not only what the daemon says of itself.

use std::time::Duration;

use chariot_client::SetOptions;
use chariot_tests_node::daemon::{Daemon, DaemonOptions};
use chariot_tests_node::wait;

/// What is promised, in bytes an object.
const PROMISED: f64 = 128.0;
const VALUE: [u8; 64] = [7; 64];
/// Looks at the memory while the table grows. The table grows bucket by bucket, so that no look is
/// far from the worst point.
const LOOKS: u64 = 40;
/// Objects from which on what a node has anyway (pools of records, first pages) weighs little.
const FROM_LOOK: u64 = LOOKS / 2;
const BATCH: u64 = 1_000;

fn resident(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap() * 1024.0
}

/// Writes so many objects and answers the most bytes an object seen on the way: of the process, and
/// as the daemon says.
fn worst(objects: u64, memory_mib: u64, metadata: &str) -> (f64, f64) {
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib,
        flags: vec!["--metadata-memory".to_owned(), metadata.to_owned()],
        ..DaemonOptions::default()
    });
    let arena = (memory_mib << 20) as f64;
    wait::until("the arena is populated", || {
        daemon.metrics().total("chariot_populated_bytes") >= arena
    });
    let client = daemon.local();
    // The session's own memory and the first page of everything are there before the count begins.
    client
        .set(b"first", &VALUE, &SetOptions::default())
        .unwrap();
    let named = || daemon.metrics().total("chariot_metadata_bytes");
    let (resident_before, named_before) = (resident(daemon.pid()), named());
    let options = SetOptions {
        ttl: Some(Duration::from_hours(10)),
        ..SetOptions::default()
    };
    let mut worst = (0.0_f64, 0.0_f64);
    let look_every = objects / LOOKS / BATCH;
    for batch in 0..objects / BATCH {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let keys: Vec<String> = numbers.map(|number| format!("object/{number}")).collect();
        let item =
            |key: &'_ String| -> (Vec<u8>, &'static [u8]) { (key.clone().into_bytes(), &VALUE) };
        let items: Vec<(Vec<u8>, &[u8])> = keys.iter().map(item).collect();
        let items: Vec<(&[u8], &[u8])> = items
            .iter()
            .map(|(key, value)| (&key[..], *value))
            .collect();
        for result in client.mset(&items, &options) {
            result.unwrap();
        }
        if (batch + 1).is_multiple_of(look_every) && batch >= look_every * FROM_LOOK {
            let count = ((batch + 1) * BATCH) as f64;
            let of_process = (resident(daemon.pid()) - resident_before) / count;
            let of_daemon = (named() - named_before) / count;
            worst = (worst.0.max(of_process), worst.1.max(of_daemon));
        }
    }
    let entries = daemon.metrics().total("chariot_entries");
    assert!(entries >= objects as f64, "{entries}: nothing was evicted");
    eprintln!(
        "{objects} objects: {:.1} bytes each in the process, {:.1} named",
        worst.0, worst.1
    );
    worst
}

#[test]
fn an_object_costs_at_most_128_bytes_beyond_its_payload() {
    let (of_process, of_daemon) = worst(200_000, 128, "64MiB");
    assert!(of_process <= PROMISED, "{of_process} bytes an object");
    assert!((60.0..=PROMISED).contains(&of_daemon), "{of_daemon} named");
}

#[test]
#[ignore = "long: make test-long"]
fn an_object_among_ten_million_costs_at_most_128_bytes_beyond_its_payload() {
    let (of_process, of_daemon) = worst(10_000_000, 1_024, "1536MiB");
    assert!(of_process <= PROMISED, "{of_process} bytes an object");
    assert!((60.0..=PROMISED).contains(&of_daemon), "{of_daemon} named");
}
