//! A full arena: who keeps, who goes, who waits, and that all of it can be reached by anyone.

use std::time::{Duration, Instant};

use chariot_client::{Client, Error, SetOptions, Status, Version, WriteMode};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, status_of};
use chariot_tests_node::{pattern, wait};

const MIB: usize = 1 << 20;

fn set_as(
    client: &Client,
    key: &str,
    value: &[u8],
    mode: WriteMode,
    deadline: Duration,
) -> Result<Version, Error> {
    let options = SetOptions {
        mode,
        deadline: Some(deadline),
        ..SetOptions::default()
    };
    client.set(key.as_bytes(), value, &options)
}

/// Out of memory at the deadline, never a timeout, if the time kept for the answer is long enough:
/// half a second where a second or more is given.
fn is_refused(status: Status) -> bool {
    status == Status::OutOfMemory
}

/// The same of a write with little time: on a busy machine the client's own clock may strike first.
fn is_refused_in_a_hurry(status: Status) -> bool {
    matches!(status, Status::OutOfMemory | Status::Timeout)
}

#[test]
fn kept_values_are_never_evicted_and_a_full_arena_says_so_at_the_deadline() {
    let daemon = Daemon::start();
    for (name, client) in daemon.both() {
        let value = pattern::value(MIB, 1);
        let mut kept = Vec::new();
        let error = loop {
            let key = format!("{name}/kept/{}", kept.len());
            let start = Instant::now();
            match set_as(
                &client,
                &key,
                &value,
                WriteMode::None,
                Duration::from_secs(2),
            ) {
                Ok(_) => kept.push(key),
                Err(error) => {
                    assert!(
                        start.elapsed() >= Duration::from_millis(1400),
                        "{name}: it waited"
                    );
                    break error;
                },
            }
            assert!(kept.len() <= 256, "{name}: more than the arena holds");
        };
        assert!(is_refused(error.status()), "{name}: {error}");
        assert!(
            kept.len() >= 200,
            "{name}: full after {} MiB of 256",
            kept.len()
        );
        // Nothing changed: all are there, and the one refused is not.
        let keys: Vec<&[u8]> = kept.iter().map(String::as_bytes).collect();
        assert!(
            client.mexist(&keys).into_iter().all(|found| found.unwrap()),
            "{name}"
        );
        assert!(
            !client
                .exist(format!("{name}/kept/{}", kept.len()).as_bytes())
                .unwrap()
        );
        // A failed overwrite leaves the old value.
        let over = set_as(
            &client,
            &kept[0],
            &pattern::value(100 * MIB, 2),
            WriteMode::None,
            Duration::from_secs(2),
        );
        // Over TCP all of it is sent and dropped before the answer comes.
        assert!(is_refused_in_a_hurry(status_of(over)), "{name}");
        let read = client.get(kept[0].as_bytes(), &chariot_client::GetOptions::default());
        assert!(read.unwrap().unwrap() == value, "{name}");
        a_waiting_write_is_served(&daemon, &client, &kept);
        client.delete(kept[0].as_bytes()).unwrap();
    }
}

/// One that waits is served as soon as there is room; deletes all but the first of `kept`.
fn a_waiting_write_is_served(daemon: &Daemon, client: &Client, kept: &[String]) {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let value = pattern::value(MIB, 3);
            set_as(client, &kept[0], &value, WriteMode::None, wait::PATIENCE)
        });
        wait::until("it waits for memory", || {
            daemon.metrics().total("chariot_out_of_memory_waiting") > 0.0 || waiting.is_finished()
        });
        for key in &kept[1..] {
            client.delete(key.as_bytes()).unwrap();
        }
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn evictable_values_make_room_for_new_ones() {
    let daemon = Daemon::start();
    for (name, client) in daemon.both() {
        let count = 400;
        for index in 0..count {
            let value = pattern::value(MIB, index);
            let key = format!("{name}/{index}");
            set_as(&client, &key, &value, WriteMode::NoneEvict, wait::PATIENCE)
                .unwrap_or_else(|error| panic!("{name}: value {index}: {error}"));
        }
        let mut found = 0;
        for index in 0..count {
            let key = format!("{name}/{index}");
            if let Some(view) = client.view(key.as_bytes()).unwrap() {
                assert!(pattern::matches(&view, index), "{name}: {index}");
                found += 1;
            }
        }
        assert!(
            (150..=256).contains(&found),
            "{name}: {found} of 256 MiB are in use"
        );
        let last = format!("{name}/{}", count - 1);
        assert!(
            client.exist(last.as_bytes()).unwrap(),
            "{name}: the newest is there"
        );
    }
    assert!(daemon.metrics().total("chariot_evictions_total") > 0.0);
}

/// What the kernel says of a process's memory, in bytes.
fn rollup(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("no {name} in\n{text}")) * 1024
}

#[test]
fn metrics_add_up_to_the_memory_of_the_process() {
    const ARENA: u64 = 512 << 20;
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib: ARENA >> 20,
        ..DaemonOptions::default()
    });
    wait::until("the arena is populated", || {
        daemon.metrics().total("chariot_populated_bytes") >= ARENA as f64
    });
    // Small values make records and links, large ones fill the arena, views pin.
    let clients: Vec<Client> = (0..8).map(|_| daemon.local()).collect();
    let small = [7_u8; 512];
    let keys: Vec<String> = (0..100_000).map(|index| format!("small/{index}")).collect();
    for batch in keys.chunks(1000) {
        let items: Vec<(&[u8], &[u8])> = batch
            .iter()
            .map(|key| (key.as_bytes(), &small[..]))
            .collect();
        for result in clients[0].mset(&items, &SetOptions::default()) {
            result.unwrap();
        }
    }
    let mut views = Vec::new();
    for (index, client) in clients.iter().cycle().take(400).enumerate() {
        let key = format!("large/{index}");
        let value = pattern::value(2 * MIB, index as u64);
        set_as(client, &key, &value, WriteMode::NoneEvict, wait::PATIENCE).unwrap();
        if index % 40 == 0 {
            views.extend(client.view(key.as_bytes()).unwrap());
        }
    }
    let metrics = daemon.metrics();
    let accounted = metrics.total("chariot_accounted_bytes");
    let resident = rollup(daemon.pid(), "Rss:") as f64;
    let off = (accounted - resident).abs() / resident;
    assert!(
        off <= 0.02,
        "named {accounted}, resident {resident}: {:.1} % off",
        off * 100.0
    );
    // Nobody but the daemon has its private memory: no part hides behind what clients map.
    let private = rollup(daemon.pid(), "Pss_Anon:") as f64;
    let named = metrics.total("chariot_metadata_bytes") + metrics.total("chariot_base_bytes");
    assert!(private <= named * 1.02, "{private} private of {named}");
    // The arena's own division, down to the byte.
    let parts: f64 = [
        "chariot_payload_bytes",
        "chariot_lease_bytes",
        "chariot_slack_bytes",
        "chariot_free_bytes",
        "chariot_granules_free_bytes",
    ]
    .iter()
    .map(|name| metrics.total(name))
    .sum();
    // What waits for I/O is still payload.
    let quarantine = metrics.total("chariot_quarantine_bytes")
        - metrics.sum("chariot_quarantine_bytes", &["reason=\"io\""]);
    assert!(
        (parts + quarantine - ARENA as f64).abs() < 1.0,
        "{parts} + {quarantine}"
    );
    // Eight sessions, each with rings, pins and what it touched of them.
    let sessions = metrics.total("chariot_session_memory_bytes");
    assert!(sessions >= 8.0 * 65_536.0, "{sessions}");
    assert!(sessions <= metrics.total("chariot_session_committed_bytes"));
    drop(views);
    drop(clients);
    wait::until("the sessions are gone", || {
        let metrics = daemon.metrics();
        let names = [
            "chariot_session_memory_bytes",
            "chariot_session_committed_bytes",
        ];
        names.iter().all(|name| metrics.total(name) < 1.0)
    });
}

#[test]
fn an_arena_full_of_pinned_values_refuses_and_recovers() {
    let daemon = Daemon::start();
    let holder = daemon.local();
    let mut views = Vec::new();
    // Fill and pin everything. A refusal says that one shard is full; a dozen in a row, of keys
    // that fall on either, that both are (one chance in 4,096 that they are not).
    let mut refusals = 0;
    for index in 0..600_u64 {
        let key = format!("pinned/{index}");
        let value = pattern::value(MIB, index);
        match set_as(
            &holder,
            &key,
            &value,
            WriteMode::NoneEvict,
            Duration::from_millis(300),
        ) {
            // With everything else pinned, memory lent ahead does not come from this very value.
            Ok(_) => {
                refusals = 0;
                let view = holder.view(key.as_bytes()).unwrap();
                views.push((view.expect("it was just published"), index));
            },
            Err(error) => {
                assert!(is_refused_in_a_hurry(error.status()), "{error}");
                refusals += 1;
                if refusals == 12 {
                    break;
                }
            },
        }
    }
    assert!(views.len() >= 200, "{} MiB of 256 pinned", views.len());
    assert!(views.len() <= 256);
    for (name, client) in daemon.both() {
        let refused = set_as(
            &client,
            "no-room",
            &pattern::value(MIB, 1),
            WriteMode::NoneEvict,
            Duration::from_millis(300),
        );
        assert!(is_refused_in_a_hurry(status_of(refused)), "{name}");
        // Others are not disturbed: reads and small questions go on.
        let start = Instant::now();
        assert!(!client.exist(b"no-room").unwrap());
        assert!(start.elapsed() < Duration::from_secs(5), "{name}");
    }
    for (view, seed) in &views {
        assert!(pattern::matches(view, *seed), "pinned bytes changed");
    }
    drop(views);
    for (name, client) in daemon.both() {
        set_as(
            &client,
            name,
            &pattern::value(MIB, 1),
            WriteMode::NoneEvict,
            wait::PATIENCE,
        )
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_writer_alone_reaches_nearly_all_of_it_after_another_filled_it_and_idles() {
    let daemon = Daemon::start();
    let (idle, writer) = (daemon.local(), daemon.local());
    let fill = |client: &Client, who: &str, count: u64| {
        for index in 0..count {
            let key = format!("{who}/{index}");
            let value = pattern::value(256 * 1024, index);
            set_as(client, &key, &value, WriteMode::NoneEvict, wait::PATIENCE)
                .unwrap_or_else(|error| panic!("{who}: value {index}: {error}"));
        }
    };
    // 256 MiB are 1,024 values.
    fill(&idle, "idle", 1_200);
    fill(&writer, "writer", 2_000);
    let keys: Vec<String> = (0..2_000).map(|index| format!("writer/{index}")).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let found = writer
        .mexist(&keys)
        .into_iter()
        .filter(|found| *found.as_ref().unwrap())
        .count();
    assert!(found * 10 >= 1_024 * 9, "{found} of 1,024 values fit");
}

#[test]
fn idle_leases_are_recalled_when_the_session_next_calls() {
    let daemon = Daemon::start();
    let writer = daemon.local();
    // A class of slots for each length, each with some of them idle.
    for doubled in 6..23 {
        for (step, len) in [4_u64 << doubled, 6 << doubled].into_iter().enumerate() {
            let value = pattern::value(usize::try_from(len / 4).unwrap() + 4096, len);
            for count in 0..6 {
                let key = format!("class/{doubled}/{step}/{count}");
                set_as(&writer, &key, &value, WriteMode::NoneEvict, wait::PATIENCE).unwrap();
            }
        }
    }
    let leased = || daemon.metrics().total("chariot_lease_bytes");
    let before = leased();
    assert!(before >= 8.0 * MIB as f64, "{before} bytes lie idle");
    // Sixty more sessions: each may hold less.
    let others: Vec<Client> = (0..60).map(|_| daemon.local()).collect();
    for other in &others {
        assert!(!other.delete(b"absent").unwrap(), "it opens its rings");
    }
    // Free memory by the sessions: what is left to each of 61 is below 2 MiB on both shards.
    wait::until("the excess is back", || {
        // So many that both shards are called.
        for index in 0..32 {
            writer.delete(format!("absent/{index}").as_bytes()).unwrap();
        }
        leased() <= 2.0 * 2.0 * MIB as f64
    });
}

#[test]
fn a_failed_batch_of_large_values_leaves_no_lease_behind() {
    let daemon = Daemon::start();
    let client = daemon.local();
    let value = pattern::value(12 * MIB, 1);
    let keys: Vec<String> = (0..60).map(|index| format!("batch/{index}")).collect();
    let items: Vec<(&[u8], &[u8])> = keys
        .iter()
        .map(|key| (key.as_bytes(), &value[..]))
        .collect();
    // 720 MiB of kept values do not fit 256.
    let options = SetOptions {
        mode: WriteMode::None,
        // Long enough for the copies of what fits, also on a busy machine.
        deadline: Some(Duration::from_secs(6)),
        ..SetOptions::default()
    };
    let results = client.mset(&items, &options);
    let failed = results.iter().filter_map(|result| result.as_ref().err());
    let causes: Vec<Status> = failed.map(Error::status).collect();
    assert!(causes.len() >= 60 - 22, "{} failed", causes.len());
    // Also those whose turn never came.
    assert!(causes.iter().all(|&cause| is_refused(cause)), "{causes:?}");
    wait::until("nothing lies leased", || {
        // Answers that came after the batch had ended are heard with the next call.
        for key in &keys {
            client.size(key.as_bytes()).unwrap();
            client.delete(b"absent").unwrap();
        }
        daemon.metrics().total("chariot_lease_bytes") < MIB as f64
    });
}

/// Keys that all hash to the shard of the first one. The client cannot be asked for the secret of
/// the hash, so the daemon's counters tell.
fn keys_of_one_shard(daemon: &Daemon, client: &Client, count: usize) -> Vec<String> {
    let entries = |shard: u16| {
        let label = format!("shard=\"{shard}\"");
        daemon.metrics().sum("chariot_entries", &[&label])
    };
    let mut keys = Vec::new();
    let mut before = entries(0);
    for index in 0.. {
        if keys.len() == count {
            break;
        }
        let key = format!("one-shard/{index}");
        client
            .set(key.as_bytes(), b"x", &SetOptions::default())
            .unwrap();
        let now = entries(0);
        if now > before {
            keys.push(key);
        } else {
            client.delete(key.as_bytes()).unwrap();
        }
        before = now;
    }
    keys
}

#[test]
fn all_keys_on_one_shard_use_the_whole_node() {
    let daemon = Daemon::start();
    let client = daemon.local();
    let keys = keys_of_one_shard(&daemon, &client, 28);
    // 28 × 8 MiB = 224 of 256 MiB, kept, all on one shard of two.
    for (index, key) in keys.iter().enumerate() {
        let value = pattern::value(8 * MIB, index as u64);
        set_as(&client, key, &value, WriteMode::None, wait::PATIENCE)
            .unwrap_or_else(|error| panic!("value {index}: {error}"));
    }
    for (index, key) in keys.iter().enumerate() {
        let view = client.view(key.as_bytes()).unwrap().unwrap();
        assert!(pattern::matches(&view, index as u64), "{key}");
    }
    assert!(daemon.metrics().total("chariot_evictions_total") < 1.0);
}

#[test]
#[ignore = "long: make test-long"]
fn an_object_of_two_gigabytes_on_two_shards() {
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib: 6 << 10,
        ..DaemonOptions::default()
    });
    let client = daemon.local();
    let options = SetOptions {
        deadline: Some(Duration::from_mins(2)),
        ..SetOptions::default()
    };
    let mut buffer = client.create(b"two-gigabytes", 2 << 30, &options).unwrap();
    pattern::fill(&mut buffer, 1);
    buffer.publish().unwrap();
    let view = client.view(b"two-gigabytes").unwrap().unwrap();
    assert_eq!(view.len(), 2 << 30);
    assert!(pattern::matches(&view, 1));
    let mut remote = daemon.remote_options();
    remote.request_timeout = Duration::from_mins(2);
    let read = Client::connect(remote).unwrap();
    let read = read
        .get(b"two-gigabytes", &chariot_client::GetOptions::default())
        .unwrap();
    assert!(pattern::matches(&read.unwrap(), 1));
}
