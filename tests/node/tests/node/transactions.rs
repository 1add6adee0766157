//! Transactions over several keys and shards: all or nothing, whatever is killed when.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chariot_client::{Client, Error, GetOptions, SetOptions, Status};
use chariot_proto::{KeyHash, KeySecret, Opcode};
use chariot_shm::{SubmissionFlags, SubmissionWords, clock};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, status_of};
use chariot_tests_node::probe::Probe;
use chariot_tests_node::raw::{RawSession, ask};
use chariot_tests_node::{pattern, wait};

const PROBE: &str = env!("CARGO_BIN_EXE_chariot-probe");

fn keys(tag: &str, round: u64) -> Vec<String> {
    (0..8)
        .map(|key| format!("tx/{tag}/{round}/{key}"))
        .collect()
}

fn transact(client: &Client, keys: &[String], len: usize, seed: u64) -> Result<(), Error> {
    let value = pattern::value(len, seed);
    let items: Vec<(&[u8], &[u8])> = keys
        .iter()
        .map(|key| (key.as_bytes(), &value[..]))
        .collect();
    let options = SetOptions {
        deadline: Some(wait::PATIENCE),
        ..SetOptions::default()
    };
    client.multi_set_tx(&items, &options)
}

fn visible(client: &Client, keys: &[String]) -> usize {
    let asked: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let found = client.mexist(&asked);
    found
        .into_iter()
        .filter(|found| *found.as_ref().unwrap())
        .count()
}

#[test]
fn one_existing_key_refuses_all_eight() {
    let daemon = Daemon::start();
    let client = daemon.local();
    for (round, len) in [100, 5_000, 3_000_000].into_iter().enumerate() {
        let keys = keys("exists", round as u64);
        client
            .set(keys[5].as_bytes(), b"there", &SetOptions::default())
            .unwrap();
        assert_eq!(status_of(transact(&client, &keys, len, 1)), Status::Exists);
        assert_eq!(visible(&client, &keys), 1);
        client.delete(keys[5].as_bytes()).unwrap();
        transact(&client, &keys, len, 2).unwrap();
        assert_eq!(visible(&client, &keys), 8);
        let read = client
            .get(keys[7].as_bytes(), &GetOptions::default())
            .unwrap();
        assert!(pattern::matches(&read.unwrap(), 2));
    }
    let mut twice = keys("exists", 9);
    twice[3] = twice[4].clone();
    assert_eq!(
        status_of(transact(&client, &twice, 9, 1)),
        Status::InvalidArgument
    );
    assert_eq!(visible(&client, &twice), 0);
}

/// Looks at one transaction: whoever sees some of it sees all of it soon.
fn look(reader: &Client, keys: &[String]) {
    if (1..8).contains(&visible(reader, keys)) {
        wait::within(Duration::from_secs(5), "the others follow", || {
            visible(reader, keys) == 8
        });
    }
}

/// Wants the keys of many rounds, as others do.
fn compete(client: &Client, thread: u64) {
    for round in 0..60 {
        let mut keys = keys("same", round);
        keys.rotate_left(usize::try_from(thread * 3).unwrap());
        if let Err(error) = transact(client, &keys, 10, thread) {
            assert_eq!(error.status(), Status::Exists, "{error}");
        }
        assert_eq!(visible(client, &keys), 8);
        let writer = |key: &String| {
            let read = client.get(key.as_bytes(), &GetOptions::default());
            let read = read.unwrap().unwrap();
            (0..3).find(|&seed| pattern::matches(&read, seed))
        };
        let first = writer(&keys[0]);
        assert!(first.is_some());
        assert!(keys.iter().all(|key| writer(key) == first), "of one writer");
    }
}

/// What a reader sees: nothing before the decision; after one key of a transaction is visible, all
/// of them without anything more being done by the writer; and everything after its end.
#[test]
fn readers_see_none_and_then_all() {
    let daemon = Daemon::start();
    let (writer, reader) = (daemon.local(), daemon.local());
    let (begun, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                look(&reader, &keys("seen", begun.load(Ordering::Relaxed)));
            }
        });
        for round in 1..400 {
            begun.store(round, Ordering::Relaxed);
            let keys = keys("seen", round);
            transact(&writer, &keys, 64, round).unwrap();
            assert_eq!(visible(&writer, &keys), 8, "after its end");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_client_killed_in_the_middle_leaves_all_or_nothing() {
    let daemon = Daemon::start();
    let client = daemon.local();
    for (tag, len) in [
        ("a", 100),
        ("b", 100),
        ("c", 5_000),
        ("d", 100),
        ("e", 5_000),
    ] {
        let mut victim = Probe::start(PROBE, &daemon.socket());
        victim.tell(&format!("transactions {tag} {len}"));
        assert_eq!(victim.answer(), "ok");
        victim.kill();
        let mut round = 0;
        loop {
            let keys = keys(tag, round);
            // Its death is noticed within a second; what was in doubt is decided then.
            match transact(&client, &keys, 10, 1) {
                Ok(()) => break,
                Err(error) => assert_eq!(error.status(), Status::Exists, "{error}"),
            }
            assert_eq!(visible(&client, &keys), 8, "round {round} of {tag}");
            round += 1;
        }
        assert!(round >= 20);
        assert_eq!(visible(&client, &keys(tag, round)), 8);
        assert_eq!(visible(&client, &keys(tag, round + 1)), 0);
    }
}

#[test]
fn transactions_that_want_the_same_keys_do_not_wait_in_a_circle() {
    let daemon = Daemon::start();
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let client = daemon.local();
            scope.spawn(move || compete(&client, thread));
        }
    });
}

#[test]
fn a_reservation_that_nobody_decides_ends_at_its_deadline() {
    let mut daemon = Daemon::start_with(&DaemonOptions {
        shards_per_core: 1,
        ..DaemonOptions::default()
    });
    let client = daemon.local();
    let mut session = RawSession::open(&daemon.socket());
    let (mut ring, mut bell) = session.ring();
    let secret = KeySecret(session.welcome.key_secret);
    // The second names a shard that is none as the one that decides.
    for (key, coordinator) in [(b"key/0", 0), (b"key/1", 63)] {
        let hash = KeyHash::of(&secret, key);
        let words = SubmissionWords {
            opcode: Opcode::Set.as_u8(),
            flags: SubmissionFlags::VALUE_INLINE | SubmissionFlags::RESERVE,
            key_len: 5,
            hash_hi: hash.hi,
            hash_lo: hash.lo,
            len: 5,
            mode: 3,
            lease_class: coordinator,
            lease_count: 9,
            deadline_ns: clock::monotonic_ns() + 500_000_000,
            ..SubmissionWords::default()
        };
        let payload = [&key[..], b"value"].concat();
        let answer = ask(&session, &mut ring, &mut bell, &words, &payload).unwrap();
        assert_eq!(answer.status, Status::Ok.as_u16());
        assert!(!client.exist(key).unwrap(), "hidden");
        assert!(!client.delete(key).unwrap(), "hidden");
        let options = SetOptions {
            deadline: Some(wait::PATIENCE),
            ..SetOptions::default()
        };
        client.set(key, b"after it", &options).unwrap();
        let read = client.get(key, &GetOptions::default()).unwrap().unwrap();
        assert_eq!(read, b"after it");
    }
    daemon.assert_alive();
}

/// Stores one transaction after the other; says which one failed and how.
fn write_until_it_fails(writer: &Client, tag: &str, begun: &AtomicU64) -> (u64, Status) {
    let mut round = 0;
    loop {
        begun.fetch_add(1, Ordering::Relaxed);
        match transact(writer, &keys(tag, round), 5_000, round) {
            Ok(()) => round += 1,
            Err(error) => return (round, error.status()),
        }
    }
}

#[test]
fn a_daemon_killed_in_the_middle_leaves_nothing_half_and_its_clients_recover() {
    let mut daemon = Daemon::start();
    let begun = AtomicU64::new(0);
    let writer = daemon.local();
    for turn in 0..3_u64 {
        let tag = format!("kill/{turn}");
        let last = begun.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| write_until_it_fails(&writer, &tag, &begun));
            wait::until("it is in the middle", || {
                begun.load(Ordering::Relaxed) > last + 20
            });
            daemon.kill();
            let (round, status) = writing.join().unwrap();
            assert!(round >= 20);
            let unknown = [Status::Restarting, Status::Timeout];
            assert!(unknown.contains(&status), "{status:?}");
        });
        daemon.restart();
        let reader = daemon.local();
        for round in 0..begun.load(Ordering::Relaxed) - last {
            let seen = visible(&reader, &keys(&tag, round));
            assert!(seen == 0 || seen == 8, "round {round}: {seen}");
        }
        wait::until("the client recovers", || {
            transact(&writer, &keys(&tag, 1 << 40), 10, 1).is_ok()
        });
        assert_eq!(visible(&reader, &keys(&tag, 1 << 40)), 8);
    }
}
