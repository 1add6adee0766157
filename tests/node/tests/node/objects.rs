//! Objects between processes: latches, references, nested keys, seals, and what becomes of them
//! when their holders die.

use std::future::Future as _;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use chariot_client::{AsyncClient, Client, GetOptions, LatchKind, SetOptions, Status};
use chariot_proto::{KeyHash, KeySecret, Opcode};
use chariot_shm::{SubmissionFlags, SubmissionWords};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, status_of};
use chariot_tests_node::probe::Probe;
use chariot_tests_node::raw::{RawSession, ask};
use chariot_tests_node::{pattern, signals, wait};

const PROBE: &str = env!("CARGO_BIN_EXE_chariot-probe");
/// What a holder's death may take to be noticed: a second, and one more in which this test, the
/// client that it asks and the daemon may each be off the CPU of a busy machine.
pub(crate) const NOTICED: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(20);

fn put(client: &Client, key: &str, nested: &[&[u8]]) {
    client
        .objects()
        .put(key.as_bytes(), b"value", nested, &SetOptions::default())
        .unwrap();
}

fn exists(client: &Client, key: &str) -> bool {
    client.exist(key.as_bytes()).unwrap()
}

#[test]
fn the_latch_of_a_killed_holder_falls_to_the_next_one() {
    let daemon = Daemon::start();
    let client = daemon.local();
    let mut victim = Probe::start(PROBE, &daemon.socket());
    assert_eq!(victim.ask("latch key exclusive 1000"), "ok");
    let (sender, receiver) = std::sync::mpsc::channel();
    let objects = client.objects();
    let waiter = std::thread::spawn(move || {
        let taken = objects.latch(b"key", LatchKind::Exclusive, LONG);
        sender.send(taken.map(|_latch| Instant::now())).unwrap();
    });
    let mut third = Probe::start(PROBE, &daemon.socket());
    assert_eq!(
        third.ask("latch key shared 200"),
        "Timeout",
        "held by the victim"
    );
    receiver.try_recv().unwrap_err();
    victim.kill();
    let killed = Instant::now();
    let taken = receiver.recv_timeout(LONG).unwrap().unwrap();
    assert!(taken - killed < NOTICED, "{:?}", taken - killed);
    waiter.join().unwrap();
}

#[test]
fn a_latch_is_shared_or_exclusive_and_ends_with_its_farewell() {
    let daemon = Daemon::start();
    let (one, two) = (daemon.local(), daemon.local());
    let short = Duration::from_millis(100);
    let mut buffer = one
        .objects()
        .create(b"key", 4, &SetOptions::default())
        .unwrap();
    buffer.latch(LatchKind::Shared, LONG).unwrap();
    let other = two.objects();
    let latch = other.latch(b"key", LatchKind::Shared, short).unwrap();
    let refused = other.latch(b"key", LatchKind::Exclusive, short);
    assert_eq!(status_of(refused), Status::Timeout);
    assert!(other.unlatch(b"key", latch).unwrap());
    assert!(!other.unlatch(b"key", latch).unwrap(), "once");
    let refused = other.latch(b"key", LatchKind::Exclusive, short);
    assert_eq!(status_of(refused), Status::Timeout);
    buffer.unlatch(LatchKind::Shared).unwrap();
    assert_eq!(
        status_of(buffer.unlatch(LatchKind::Shared)),
        Status::NotFound
    );
    buffer.latch(LatchKind::Exclusive, LONG).unwrap();
    drop((buffer, one));
    other.latch(b"key", LatchKind::Exclusive, LONG).unwrap();
}

#[test]
fn what_an_expelled_session_held_is_released() {
    let daemon = Daemon::start();
    let client = daemon.local();
    let mut victim = Probe::start(PROBE, &daemon.socket());
    // On either shard.
    let keys = ["a", "b", "c", "d", "e", "f"];
    for key in keys {
        assert_eq!(victim.ask(&format!("latch {key} exclusive 1000")), "ok");
        assert_eq!(victim.ask(&format!("refer {key}")), "ok");
    }
    let session = daemon.session_of(victim.pid()).unwrap();
    let (done, text) = daemon.expel(session["id"].as_u64().unwrap(), false);
    assert!(done, "{text}");
    for key in keys {
        let objects = client.objects();
        objects
            .latch(key.as_bytes(), LatchKind::Exclusive, LONG)
            .unwrap();
        assert_eq!(objects.global_refs(key.as_bytes()).unwrap(), 0);
    }
}

#[test]
fn the_last_reference_of_all_clients_deletes_the_object() {
    let daemon = Daemon::start();
    let (client, objects) = (daemon.local(), daemon.local().objects());
    let keys: [&[u8]; 2] = [b"one", b"two"];
    for key in ["one", "two"] {
        put(&client, key, &[]);
    }
    for result in objects.increase_refs(&keys) {
        result.unwrap();
    }
    let mut other = Probe::start(PROBE, &daemon.socket());
    assert_eq!(other.ask("refer one"), "ok");
    assert_eq!(objects.global_refs(b"one").unwrap(), 2);
    assert_eq!(objects.global_refs(b"two").unwrap(), 1);
    assert!(client.delete(b"two").unwrap());
    assert!(exists(&client, "two"), "referred to");
    for result in objects.decrease_refs(&[b"one", b"two", b"unknown"]) {
        result.unwrap();
    }
    assert!(!exists(&client, "two"));
    assert!(exists(&client, "one"), "the other client refers to it");
    other.kill();
    wait::within(NOTICED, "a dead client's reference is gone", || {
        !exists(&client, "one")
    });
    assert_eq!(objects.global_refs(b"one").unwrap(), 0);
}

#[test]
fn nested_keys_survive_deletion_and_eviction_while_their_parent_lives() {
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib: 256,
        ..DaemonOptions::default()
    });
    let client = daemon.local();
    let names: Vec<String> = (0..100).map(|child| format!("child/{child}")).collect();
    let children: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    put(&client, "bystander", &[]);
    let mut parent = client
        .objects()
        .create(b"parent", 6, &SetOptions::default())
        .unwrap();
    parent.write(0, b"parent").unwrap();
    parent.publish(&children).unwrap();
    // Held before they exist: nobody promises that they stay in the cache until then, and a shard
    // that has no granule yet may get that of another, emptied.
    for name in &names {
        put(&client, name, &[]);
    }
    client
        .objects()
        .increase_refs(&[b"parent"])
        .remove(0)
        .unwrap();
    assert!(client.delete(names[0].as_bytes()).unwrap());
    // More for each shard than all of the arena but one granule.
    let value = pattern::value(200_000, 1);
    for index in 0..2_500 {
        let key = format!("pressure/{index}");
        client
            .set(key.as_bytes(), &value, &SetOptions::default())
            .unwrap();
    }
    assert!(!exists(&client, "bystander"), "there was pressure");
    for name in &names {
        assert!(exists(&client, name), "{name} is nested");
    }
    // The next version holds half of them, and the first version's end lets the others go.
    parent.publish(&children[50..]).unwrap();
    wait::until("the first version's children are gone", || {
        names[..50].iter().all(|name| !exists(&client, name))
    });
    assert!(names[50..].iter().all(|name| exists(&client, name)));
    client
        .objects()
        .decrease_refs(&[b"parent"])
        .remove(0)
        .unwrap();
    wait::until("the parent's end is the children's", || {
        names.iter().all(|name| !exists(&client, name))
    });
}

#[test]
fn a_sealed_object_is_sealed_until_it_is_deleted() {
    let daemon = Daemon::start();
    let client = daemon.local();
    let options = SetOptions::default();
    let mut buffer = client.objects().create(b"key", 5, &options).unwrap();
    buffer.data_mut().unwrap().copy_from_slice(b"first");
    buffer.publish(&[]).unwrap();
    buffer.write(0, b"secon").unwrap();
    buffer.seal(&[]).unwrap();
    assert_eq!(buffer.data().unwrap(), b"secon");
    for _ in 0..2 {
        let sealed = daemon.local().objects().put(b"key", b"x", &[], &options);
        assert_eq!(status_of(sealed), Status::Sealed);
        let large = vec![1; 100_000];
        for (_, other) in daemon.both() {
            assert_eq!(
                status_of(other.set(b"key", &large, &options)),
                Status::Sealed
            );
        }
    }
    let mut again = client
        .objects()
        .get(&[b"key"], None)
        .remove(0)
        .unwrap()
        .unwrap();
    assert_eq!(again.data().unwrap(), b"secon");
    assert_eq!(status_of(again.seal(&[])), Status::Sealed);
    assert!(client.delete(b"key").unwrap());
    put(&client, "key", &[]);
}

#[test]
fn readers_race_publishes_and_see_whole_versions() {
    let daemon = Daemon::start();
    let writer = daemon.local();
    let mut buffer = writer
        .objects()
        .create(b"key", 60_000, &SetOptions::default())
        .unwrap();
    pattern::fill(buffer.data_mut().unwrap(), 0);
    buffer.publish(&[]).unwrap();
    std::thread::scope(|scope| {
        let reader = daemon.local();
        let reading = scope.spawn(move || {
            let mut last = 0;
            while last < 200 {
                let read = reader.get(b"key", &GetOptions::default()).unwrap().unwrap();
                let seed = (last..=200).find(|&seed| pattern::matches(&read, seed));
                last = seed.expect("a whole version, none older than the last");
            }
        });
        for seed in 1..=200 {
            pattern::fill(buffer.data_mut().unwrap(), seed);
            buffer.publish(&[]).unwrap();
        }
        reading.join().unwrap();
    });
}

#[test]
fn buffers_are_created_and_published_in_batches() {
    let daemon = Daemon::start();
    for (_, client) in daemon.both() {
        let keys: Vec<String> = (0..300).map(|key| format!("batch/{key}")).collect();
        let items: Vec<(&[u8], usize)> = keys.iter().map(|key| (key.as_bytes(), 5_000)).collect();
        let mut buffers = Vec::new();
        for (seed, buffer) in client
            .mcreate(&items, &SetOptions::default())
            .into_iter()
            .enumerate()
        {
            let mut buffer = buffer.unwrap();
            pattern::fill(&mut buffer, seed as u64);
            buffers.push(buffer);
        }
        assert!(!exists(&client, "batch/0"));
        for version in Client::mpublish(buffers) {
            version.unwrap();
        }
        for (seed, key) in keys.iter().enumerate() {
            let read = client.get(key.as_bytes(), &GetOptions::default()).unwrap();
            assert!(pattern::matches(&read.unwrap(), seed as u64), "{key}");
            client.delete(key.as_bytes()).unwrap();
        }
    }
}

#[test]
fn a_latch_without_a_wait_is_tried_once() {
    let daemon = Daemon::start();
    let (one, two) = (daemon.local().objects(), daemon.local().objects());
    let none = Duration::ZERO;
    for round in 0..100 {
        let key = format!("key/{round}");
        let key = key.as_bytes();
        let held = one.latch(key, LatchKind::Exclusive, none).unwrap();
        let refused = two.latch(key, LatchKind::Shared, none).unwrap_err();
        assert_eq!(refused.status(), Status::Timeout, "taken");
        assert!(one.unlatch(key, held).unwrap());
        let held = two.latch(key, LatchKind::Shared, none).unwrap();
        let refused = one.latch(key, LatchKind::Exclusive, none).unwrap_err();
        assert_eq!(refused.status(), Status::Timeout, "shared");
        one.latch(key, LatchKind::Shared, none).unwrap();
        assert!(two.unlatch(key, held).unwrap());
    }
}

#[test]
fn a_bind_that_comes_late_lets_go_of_its_children() {
    let mut daemon = Daemon::start_with(&DaemonOptions {
        shards_per_core: 1,
        ..DaemonOptions::default()
    });
    let client = daemon.local();
    put(&client, "child", &[]);
    let mut session = RawSession::open(&daemon.socket());
    let (mut ring, mut bell) = session.ring();
    let secret = KeySecret(session.welcome.key_secret);
    let parent = KeyHash::of(&secret, b"parent");
    let child = KeyHash::of(&secret, b"child");
    let nest = SubmissionWords {
        opcode: Opcode::ObjectNest.as_u8(),
        flags: SubmissionFlags::VALUE_INLINE,
        hash_hi: parent.hi,
        hash_lo: parent.lo,
        len: 16,
        ..SubmissionWords::default()
    };
    let name = [child.hi.to_le_bytes(), child.lo.to_le_bytes()].concat();
    let answer = ask(&session, &mut ring, &mut bell, &nest, &name).unwrap();
    assert_eq!(answer.status, Status::Ok.as_u16());
    client.delete(b"child").unwrap();
    assert!(exists(&client, "child"), "held for the parent");
    let bind = SubmissionWords {
        opcode: Opcode::ObjectBind.as_u8(),
        flags: 0,
        len: 0,
        extent: 1,
        deadline_ns: 1,
        ..nest
    };
    let answer = ask(&session, &mut ring, &mut bell, &bind, &[]).unwrap();
    assert_eq!(answer.status, Status::Timeout.as_u16());
    wait::until("the child's delete", || !exists(&client, "child"));
    daemon.assert_alive();
}

#[test]
fn object_words_without_sense_are_answered() {
    let mut daemon = Daemon::start_with(&DaemonOptions {
        shards_per_core: 1,
        ..DaemonOptions::default()
    });
    let mut session = RawSession::open(&daemon.socket());
    let (mut ring, mut bell) = session.ring();
    let secret = KeySecret(session.welcome.key_secret);
    let hash = KeyHash::of(&secret, b"key");
    let opcodes = [
        Opcode::ObjectLatch,
        Opcode::ObjectRef,
        Opcode::ObjectNest,
        Opcode::ObjectBind,
        Opcode::MultiSetTx,
    ];
    for opcode in opcodes {
        for mode in [0, 1, 2, 3, 4, 5, 255] {
            for (number, payload) in [(0, 0), (u64::MAX, 0), (1, 15), (7, 1024), (1, 16)] {
                let words = SubmissionWords {
                    opcode: opcode.as_u8(),
                    flags: SubmissionFlags::VALUE_INLINE,
                    hash_hi: hash.hi,
                    hash_lo: hash.lo,
                    extent: number,
                    len: payload,
                    mode,
                    deadline_ns: 0,
                    ..SubmissionWords::default()
                };
                let payload = vec![0xa5; usize::try_from(payload).unwrap()];
                let answer = ask(&session, &mut ring, &mut bell, &words, &payload);
                assert!(
                    answer.is_some(),
                    "{opcode:?} {mode}: answered, not expelled"
                );
            }
        }
    }
    daemon.assert_alive();
    put(&daemon.local(), "key", &[]);
}

#[test]
fn a_dropped_future_of_a_latch_waits_for_nobody_and_leaves_none() {
    let daemon = Daemon::start();
    let (holder, dropper) = (daemon.local().objects(), AsyncClient::from(daemon.local()));
    let objects = dropper.objects();
    let held = holder
        .latch(b"key", LatchKind::Exclusive, Duration::ZERO)
        .unwrap();
    let mut future = Box::pin(objects.latch(b"key", LatchKind::Exclusive, LONG));
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    wait::until("it stands in line", || {
        daemon.metrics().total("chariot_latches_waiting") > 0.0
    });
    signals::send(daemon.pid(), "STOP");
    wait::until("the daemon stands still", || {
        signals::state(daemon.pid()) == Some('T')
    });
    let start = Instant::now();
    drop(future);
    assert!(start.elapsed() < NOTICED, "an executor's thread goes on");
    signals::send(daemon.pid(), "CONT");
    wait::until("it has left the line", || {
        daemon.metrics().total("chariot_latches_waiting") == 0.0
    });
    assert!(holder.unlatch(b"key", held).unwrap());
    holder
        .latch(b"key", LatchKind::Exclusive, Duration::ZERO)
        .unwrap();
}
