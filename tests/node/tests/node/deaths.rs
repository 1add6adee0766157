//! Clients that die, stop, or come in thousands: what they held comes back, nobody waits for them.

use std::time::{Duration, Instant};

use chariot_client::{Client, GetOptions, SetOptions, Status};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, status_of};
use chariot_tests_node::probe::Probe;
use chariot_tests_node::{pattern, wait};

const PROBE: &str = env!("CARGO_BIN_EXE_chariot-probe");
const MIB: usize = 1 << 20;

/// What a dead session's memory may take to come back: a second of grace for leases, one to notice,
/// and what a busy machine adds.
const COMES_BACK: Duration = Duration::from_secs(5);

/// What a dead session may take to go.
const A_SECOND: Duration = Duration::from_secs(1);

fn set(client: &Client, key: &str, len: usize, seed: u64) {
    let options = SetOptions {
        deadline: Some(wait::PATIENCE),
        ..SetOptions::default()
    };
    client
        .set(key.as_bytes(), &pattern::value(len, seed), &options)
        .unwrap();
}

/// Writes to every shard, so that each looks at what waits in quarantine.
fn stir(client: &Client) {
    for index in 0..8 {
        let key = format!("stir/{index}");
        set(client, &key, 10, 0);
        client.delete(key.as_bytes()).unwrap();
    }
}

#[test]
fn a_killed_client_gives_back_its_leases_views_and_session() {
    let daemon = Daemon::start();
    let other = daemon.local();
    let mut victim = Probe::start(PROBE, &daemon.socket());
    for index in 0..8_u64 {
        let key = format!("key/{index}");
        assert_eq!(victim.ask(&format!("set {key} {} {index}", 4 * MIB)), "ok");
        assert_eq!(victim.ask(&format!("hold {key} {index}")), "ok");
        other.delete(key.as_bytes()).unwrap();
    }
    for index in 0..4 {
        assert_eq!(
            victim.ask(&format!("create new/{index} {}", 10 * MIB)),
            "ok"
        );
    }
    let held = || {
        let metrics = daemon.metrics();
        let quarantined = metrics.total("chariot_quarantine_bytes");
        (quarantined, metrics.total("chariot_lease_bytes"))
    };
    wait::until("deleted values wait for the victim's views", || {
        stir(&other);
        held().0 >= 32.0 * MIB as f64
    });
    assert!(held().1 >= 40.0 * MIB as f64, "leases are out");
    assert_eq!(victim.ask("check"), "ok");
    let pid = victim.pid();
    victim.kill();
    let killed = Instant::now();
    // Its session goes first, its pins with it, its leases a second later.
    wait::within(A_SECOND, "the session is gone", || {
        daemon.session_of(pid).is_none()
    });
    eprintln!("killed, and its session gone in {:?}", killed.elapsed());
    // By the time that its leases are still kept; nobody needs to do anything for it.
    wait::within(A_SECOND, "what its views held is free", || {
        let pinned = ["reason=\"pinned\""];
        daemon.metrics().sum("chariot_quarantine_bytes", &pinned) < MIB as f64
    });
    eprintln!("killed, and its pins gone in {:?}", killed.elapsed());
    wait::within(COMES_BACK, "everything comes back", || {
        stir(&other);
        let (quarantined, leased) = held();
        quarantined < MIB as f64 && leased < 8.0 * MIB as f64
    });
    assert!(daemon.metrics().total("chariot_sessions_local") < 2.0);
}

/// Nothing else happens here, so that the shards must look by themselves.
#[test]
fn memory_of_views_that_end_comes_back_by_itself() {
    let daemon = Daemon::start();
    let (reader, writer) = (daemon.local(), daemon.local());
    let mut views = Vec::new();
    for index in 0..8 {
        let key = format!("key/{index}");
        set(&writer, &key, 4 * MIB, index);
        views.push(reader.view(key.as_bytes()).unwrap().unwrap());
        writer.delete(key.as_bytes()).unwrap();
    }
    let pinned = || {
        let reason = ["reason=\"pinned\""];
        daemon.metrics().sum("chariot_quarantine_bytes", &reason)
    };
    wait::until("deleted values wait for their views", || {
        pinned() >= 32.0 * MIB as f64
    });
    views.clear();
    let ended = Instant::now();
    wait::within(A_SECOND, "what they held is free", || pinned() < MIB as f64);
    eprintln!("free {:?} after the views' end", ended.elapsed());
}

#[test]
fn clients_killed_in_the_middle_of_anything_disturb_nobody() {
    let mut daemon = Daemon::start();
    let other = daemon.local();
    set(&other, "mine", 100_000, 7);
    for _ in 0..6 {
        let mut victims: Vec<Probe> = (0..2)
            .map(|_| Probe::start(PROBE, &daemon.socket()))
            .collect();
        for victim in &mut victims {
            victim.tell("storm");
        }
        for victim in &mut victims {
            assert_eq!(victim.answer(), "ok", "it is in the middle of it");
            victim.kill();
        }
        let read = other.get(b"mine", &GetOptions::default()).unwrap();
        assert!(read.is_none_or(|read| pattern::matches(&read, 7)));
        set(&other, "mine", 100_000, 7);
    }
    wait::within(COMES_BACK, "nothing is left of them", || {
        stir(&other);
        let metrics = daemon.metrics();
        metrics.total("chariot_sessions_local") < 2.0
            && metrics.total("chariot_quarantine_bytes") < MIB as f64
            && metrics.total("chariot_lease_bytes") < 24.0 * MIB as f64
            && metrics.total("chariot_ring_depth") < 1.0
    });
    // The whole arena can be used again.
    for index in 0..300 {
        set(&other, &format!("after/{index}"), MIB, index);
    }
    daemon.assert_alive();
}

#[test]
fn nobody_waits_for_a_stopped_client_that_holds_pins() {
    let daemon = Daemon::start();
    let other = daemon.local();
    let mut stopped = Probe::start(PROBE, &daemon.socket());
    for index in 0..4_u64 {
        let key = format!("key/{index}");
        assert_eq!(stopped.ask(&format!("set {key} {MIB} {index}")), "ok");
        assert_eq!(stopped.ask(&format!("hold {key} {index}")), "ok");
    }
    assert_eq!(stopped.ask(&format!("create new {MIB}")), "ok");
    stopped.stop();
    let mut slowest = Duration::ZERO;
    for index in 0..400_u64 {
        let start = Instant::now();
        set(&other, &format!("key/{}", index % 300), MIB, 1_000 + index);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(3), "a write took {slowest:?}");
    assert!(other.delete(b"key/0").unwrap());
    stopped.go_on();
    assert_eq!(stopped.ask("check"), "ok", "a live client is never robbed");
    assert_eq!(stopped.ask("place"), "shared", "nor is it expelled");
}

#[test]
fn what_a_stopped_client_holds_is_shown_and_stays_when_it_is_expelled() {
    let daemon = Daemon::start();
    let other = daemon.local();
    let mut stopped = Probe::start(PROBE, &daemon.socket());
    for index in 0..4_u64 {
        let key = format!("key/{index}");
        assert_eq!(stopped.ask(&format!("set {key} {MIB} {index}")), "ok");
        assert_eq!(stopped.ask(&format!("hold {key} {index}")), "ok");
    }
    assert_eq!(stopped.ask(&format!("create new {MIB}")), "ok");
    stopped.stop();
    for index in 0..4_u64 {
        set(&other, &format!("key/{index}"), MIB, 100 + index);
    }
    let shown = daemon.session_of(stopped.pid()).unwrap();
    let number = |name: &str, of: &serde_json::Value| of[name].as_u64().unwrap();
    assert_eq!(number("pins", &shown), 4, "{shown}");
    assert!(
        number("quarantine_bytes", &shown) >= 4 * MIB as u64,
        "{shown}"
    );
    let (slots, lent) = (number("leases", &shown), number("lease_bytes", &shown));
    assert!(slots >= 1 && lent >= MIB as u64, "{shown}");
    assert_eq!(shown["expelled"], false);

    let id = number("id", &shown);
    let (done, said) = daemon.expel(id, false);
    assert!(done && said.contains("\"killed\":false"), "{said}");
    let shown = daemon.session_of(stopped.pid()).unwrap();
    assert_eq!(shown["expelled"], true);
    let held = number("quarantine_bytes", &shown);
    assert!(held >= 4 * MIB as u64 + lent, "leases as well: {shown}");
    let reason = ["reason=\"expelled\""];
    let waiting = daemon.metrics().sum("chariot_quarantine_bytes", &reason);
    assert!(waiting >= lent as f64, "{waiting}");
    // Nobody waits for it: the arena is written twice over.
    for index in 0..500_u64 {
        set(&other, &format!("pressure/{}", index % 400), MIB, index);
    }

    stopped.go_on();
    for request in ["get key/0 0", "set key/9 10 1", "hold key/1 1"] {
        assert_eq!(stopped.ask(request), "Expelled", "{request}");
    }
    assert_eq!(stopped.ask("check"), "ok", "a live client is never robbed");
    assert_eq!(stopped.ask("place"), "away");
}

#[test]
fn an_expelled_client_that_is_killed_gives_back_everything() {
    let daemon = Daemon::start();
    let other = daemon.local();
    let mut victim = Probe::start(PROBE, &daemon.socket());
    for index in 0..8_u64 {
        let key = format!("key/{index}");
        assert_eq!(victim.ask(&format!("set {key} {} {index}", 4 * MIB)), "ok");
        assert_eq!(victim.ask(&format!("hold {key} {index}")), "ok");
        other.delete(key.as_bytes()).unwrap();
    }
    victim.stop();
    let shown = daemon.session_of(victim.pid()).unwrap();
    assert_eq!(shown["quarantine_bytes"].as_u64(), Some(32 * MIB as u64));
    let start = Instant::now();
    let (done, said) = daemon.expel(shown["id"].as_u64().unwrap(), true);
    assert!(done && said.contains("\"killed\":true"), "{said}");
    wait::within(COMES_BACK, "its views end with it", || {
        let pinned = ["reason=\"pinned\""];
        let waiting = daemon.metrics().sum("chariot_quarantine_bytes", &pinned);
        daemon.session_of(victim.pid()).is_none() && waiting < MIB as f64
    });
    eprintln!("killed and freed in {:?}", start.elapsed());
    let (done, said) = daemon.expel(shown["id"].as_u64().unwrap(), true);
    assert!(!done && said.contains("404"), "{said}");
}

#[test]
fn only_local_sessions_are_expelled_and_only_with_the_token() {
    let daemon = Daemon::start();
    let remote = daemon.remote();
    set(&remote, "key", 10, 1);
    let shown = daemon.session_of(0).unwrap();
    let (done, said) = daemon.expel(shown["id"].as_u64().unwrap(), true);
    assert!(!done && said.contains("409"), "{said}");
    let mut token = daemon.socket().into_os_string();
    token.push(".admin");
    std::fs::write(&token, "another").unwrap();
    let (done, said) = daemon.expel(1, true);
    assert!(!done && said.contains("401"), "{said}");
    std::fs::remove_file(&token).unwrap();
    let (done, said) = daemon.expel(1, true);
    assert!(!done && said.contains(".admin"), "{said}");
}

#[test]
fn a_thousand_sessions_opened_and_dropped_leave_nothing() {
    let daemon = Daemon::start();
    let other = daemon.local();
    set(&other, "mine", 5_000, 1);
    let opened = || daemon.metrics().total("chariot_sessions_opened_total");
    let before = daemon.metrics().total("chariot_process_open_fds");
    for index in 0..1_000 {
        let client = daemon.local();
        if index % 50 == 0 {
            set(&client, "touched", 5_000, 2);
        }
    }
    assert!(opened() >= 1_001.0);
    wait::until("all of them are gone", || {
        let metrics = daemon.metrics();
        metrics.total("chariot_sessions_local") < 2.0
            && metrics.total("chariot_process_open_fds") < before + 10.0
    });
    let read = other.get(b"mine", &GetOptions::default()).unwrap();
    assert!(pattern::matches(&read.unwrap(), 1));
}

#[test]
fn sessions_beyond_the_limit_are_busy_until_one_ends() {
    let daemon = Daemon::start_with(&DaemonOptions {
        flags: vec!["--max-sessions".to_owned(), "3".to_owned()],
        ..DaemonOptions::default()
    });
    let mut held = vec![daemon.local(), daemon.local(), daemon.remote()];
    for options in [daemon.local_options(), daemon.remote_options()] {
        let refused = Client::connect(options).map(drop);
        assert_eq!(status_of(refused), Status::Busy);
    }
    set(&held[0], "served", 5_000, 1);
    held.truncate(2);
    wait::until("there is room again", || {
        Client::connect(daemon.local_options()).is_ok()
    });
    assert!(daemon.metrics().total("chariot_sessions_refused_total") >= 2.0);
}
