//! Objects over TCP: the same latches, references, nested keys, seals and transactions, beside
//! local clients; what a connection held ends with it.

use std::time::{Duration, Instant};

use chariot_client::{Client, GetOptions, LatchKind, SetOptions, Status};
use chariot_proto::message::{
    KeyBatch, ObjectRequest, ObjectResponse, SetItem, SetRequest, SetResponse,
};
use chariot_proto::{Opcode, WriteMode};
use chariot_tests_node::daemon::{Daemon, status_of};
use chariot_tests_node::{pattern, wait};

use crate::frames::{Raw, frame};
use crate::objects::NOTICED;

const LONG: Duration = Duration::from_secs(20);
const NONE: Duration = Duration::ZERO;

fn put(client: &Client, key: &str, nested: &[&[u8]]) {
    let options = SetOptions::default();
    let objects = client.objects();
    objects
        .put(key.as_bytes(), b"value", nested, &options)
        .unwrap();
}

fn exists(client: &Client, key: &str) -> bool {
    client.exist(key.as_bytes()).unwrap()
}

fn visible(client: &Client, keys: &[&str]) -> usize {
    keys.iter().filter(|key| exists(client, key)).count()
}

/// On either shard, some of them.
const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[test]
fn latches_over_tcp_and_over_shared_memory_are_the_same() {
    let daemon = Daemon::start();
    let (local, remote) = (daemon.local().objects(), daemon.remote().objects());
    for key in KEYS {
        let key = key.as_bytes();
        let held = remote.latch(key, LatchKind::Exclusive, NONE).unwrap();
        let refused = local.latch(key, LatchKind::Shared, NONE);
        assert_eq!(status_of(refused), Status::Timeout);
        let short = Duration::from_millis(30);
        let refused = remote.latch(key, LatchKind::Shared, short);
        assert_eq!(status_of(refused), Status::Timeout, "its own as well");
        assert!(remote.unlatch(key, held).unwrap());
        assert!(!remote.unlatch(key, held).unwrap(), "once");
        let shared = local.latch(key, LatchKind::Shared, NONE).unwrap();
        let too = remote.latch(key, LatchKind::Shared, NONE).unwrap();
        assert!(local.unlatch(key, shared).unwrap());
        assert!(remote.unlatch(key, too).unwrap());
    }
}

#[test]
fn a_wait_for_a_latch_over_tcp_keeps_its_turn_and_lets_others_talk() {
    let daemon = Daemon::start();
    let holder = daemon.local().objects();
    let held = holder.latch(b"key", LatchKind::Exclusive, NONE).unwrap();
    let remote = daemon.remote().objects();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let taken = remote.latch(b"key", LatchKind::Exclusive, LONG).unwrap();
            sender.send(taken).unwrap();
        });
        wait::until("it waits", || {
            daemon.metrics().total("chariot_latches_waiting") > 0.0
        });
        // The same client, on the same connection.
        let other = remote.latch(b"other", LatchKind::Shared, NONE).unwrap();
        assert!(remote.unlatch(b"other", other).unwrap());
        // Behind it: whoever comes later does not overtake.
        let late = daemon.remote().objects();
        assert_eq!(
            status_of(late.latch(b"key", LatchKind::Shared, NONE)),
            Status::Timeout
        );
        receiver.try_recv().unwrap_err();
        assert!(holder.unlatch(b"key", held).unwrap());
        let taken = receiver.recv_timeout(LONG).unwrap();
        assert!(remote.unlatch(b"key", taken).unwrap());
    });
}

#[test]
fn what_a_connection_held_ends_with_it() {
    let daemon = Daemon::start();
    let (local, objects) = (daemon.local(), daemon.local().objects());
    let remote = daemon.remote();
    for key in KEYS {
        put(&local, key, &[]);
        let held = remote
            .objects()
            .latch(key.as_bytes(), LatchKind::Exclusive, NONE);
        held.unwrap();
    }
    let keys: Vec<&[u8]> = KEYS.iter().map(|key| key.as_bytes()).collect();
    for done in remote.objects().increase_refs(&keys) {
        done.unwrap();
    }
    assert_eq!(objects.global_refs(b"a").unwrap(), 1);
    assert!(daemon.metrics().total("chariot_latches_held") >= 8.0);
    assert!(daemon.metrics().total("chariot_references") >= 8.0);
    drop(remote);
    let start = Instant::now();
    for key in KEYS {
        let taken = objects.latch(key.as_bytes(), LatchKind::Exclusive, LONG);
        taken.unwrap();
    }
    assert!(start.elapsed() < NOTICED, "{:?}", start.elapsed());
    wait::within(NOTICED, "the last references were deletes", || {
        visible(&local, &KEYS) == 0
    });
    let metrics = daemon.metrics();
    let latched = metrics.sum("chariot_operations_total", &["operation=\"latch\""]);
    assert!(latched >= 16.0, "{latched}");
}

#[test]
fn nested_keys_and_seals_work_over_tcp() {
    let daemon = Daemon::start();
    let remote = daemon.remote();
    for key in &KEYS[1..] {
        put(&remote, key, &[]);
    }
    let nested: Vec<&[u8]> = KEYS[1..].iter().map(|key| key.as_bytes()).collect();
    let options = SetOptions::default();
    let mut parent = remote.objects().create(b"a", 6, &options).unwrap();
    parent.write(0, b"parent").unwrap();
    parent.publish(&nested).unwrap();
    for key in &KEYS[1..] {
        remote.delete(key.as_bytes()).unwrap();
    }
    assert_eq!(visible(&remote, &KEYS), 8, "held by the parent");
    // The next version holds one of them, and nothing else may come after it.
    parent.seal(&nested[..1]).unwrap();
    wait::until("the first version's children are gone", || {
        visible(&remote, &KEYS) == 2
    });
    let refused = remote.objects().put(b"a", b"x", &[], &options);
    assert_eq!(status_of(refused), Status::Sealed);
    // Refused publishes let go of what they held.
    let refused = remote.objects().put(b"a", b"x", &[b"b"], &options);
    assert_eq!(status_of(refused), Status::Sealed);
    assert!(remote.delete(b"a").unwrap());
    wait::until("the parent's end is the child's", || {
        visible(&remote, &KEYS) == 0
    });
}

#[test]
fn an_object_is_not_nested_in_itself() {
    let daemon = Daemon::start();
    for (_, client) in daemon.both() {
        let options = SetOptions::default();
        let put = client
            .objects()
            .put(b"key", b"value", &[b"other", b"key"], &options);
        assert_eq!(status_of(put), Status::InvalidArgument);
        assert!(!exists(&client, "key"));
    }
    let mut raw = Raw::session(&daemon);
    let request = ObjectRequest {
        number: 1,
        keys: KeyBatch::from_keys(&["key", "other", "key"]).unwrap(),
        ..ObjectRequest::default()
    };
    raw.send(&frame(Opcode::ObjectNest, &request));
    let answer = raw.receive::<ObjectResponse>().unwrap().unwrap();
    assert_eq!(answer.statuses, [Status::InvalidArgument.as_u16()]);
}

#[test]
fn transactions_over_tcp_store_all_or_none() {
    let daemon = Daemon::start();
    let (local, remote) = (daemon.local(), daemon.remote());
    for len in [100, 5_000, 300_000] {
        let value = pattern::value(len, len as u64);
        let items: Vec<(&[u8], &[u8])> = KEYS
            .iter()
            .map(|key| (key.as_bytes(), &value[..]))
            .collect();
        let options = SetOptions::default();
        local.set(b"f", b"there", &options).unwrap();
        let refused = remote.multi_set_tx(&items, &options);
        assert_eq!(status_of(refused), Status::Exists);
        assert_eq!(visible(&local, &KEYS), 1);
        assert!(local.delete(b"f").unwrap());
        remote.multi_set_tx(&items, &options).unwrap();
        for reader in [&local, &remote] {
            for key in KEYS {
                let read = reader.get(key.as_bytes(), &GetOptions::default());
                assert!(read.unwrap().unwrap() == value);
            }
        }
        for key in KEYS {
            assert!(local.delete(key.as_bytes()).unwrap());
        }
    }
    wait::until("none is undecided", || {
        let metrics = daemon.metrics();
        metrics.total("chariot_transactions_undecided") + metrics.total("chariot_transaction_keys")
            == 0.0
    });
}

fn transaction(values: &[(&str, u64)]) -> SetRequest {
    let keys: Vec<&str> = values.iter().map(|value| value.0).collect();
    let item = |value: &(&str, u64)| SetItem {
        value_len: value.1,
        ..SetItem::default()
    };
    SetRequest {
        mode: WriteMode::NoneEvict.as_u8(),
        keys: KeyBatch::from_keys(&keys).unwrap(),
        items: values.iter().map(item).collect(),
        ..SetRequest::default()
    }
}

#[test]
fn a_connection_that_ends_in_a_transaction_leaves_nothing() {
    let daemon = Daemon::start();
    let local = daemon.local();
    let values: Vec<(&str, u64)> = KEYS.iter().map(|key| (*key, 1_000)).collect();
    let whole = frame(Opcode::MultiSetTx, &transaction(&values));
    let payload = pattern::value(8_000, 1);
    for cut in [0, 999, 1_000, 1_001, 4_500, 7_999] {
        let mut raw = Raw::session(&daemon);
        raw.send(&whole);
        raw.send(&payload[..cut]);
        let stored = u32::try_from(cut / 1_000).unwrap();
        wait::until("as many keys are reserved as values have come", || {
            daemon.metrics().total("chariot_transaction_keys") > f64::from(stored) - 0.5
        });
        assert_eq!(visible(&local, &KEYS), 0, "hidden");
        drop(raw);
        wait::within(NOTICED, "its reservations are gone", || {
            let metrics = daemon.metrics();
            metrics.total("chariot_transaction_keys") == 0.0
                && metrics.total("chariot_transactions_undecided") == 0.0
        });
        assert_eq!(visible(&local, &KEYS), 0, "never stored");
    }
    let mut raw = Raw::session(&daemon);
    raw.send(&whole);
    raw.send(&payload);
    let answer = raw.receive::<SetResponse>().unwrap().unwrap();
    assert_eq!(answer.answers.len(), 8);
    assert_eq!(visible(&local, &KEYS), 8);
}

/// Asks with numbers and waits of all kinds; each is answered.
fn speak(raw: &mut Raw, opcode: Opcode, form: u8, keys: &[&str]) {
    let expected = match opcode {
        Opcode::ObjectRef => keys.len(),
        _ => 1,
    };
    for (number, wait_ms) in [(0, 0), (u64::MAX, 1), (7, 2)] {
        let request = ObjectRequest {
            number,
            version: u64::MAX,
            wait_ms,
            form,
            keys: KeyBatch::from_keys(keys).unwrap(),
            ..ObjectRequest::default()
        };
        raw.send(&frame(opcode, &request));
        let answer = raw.receive::<ObjectResponse>().unwrap().unwrap();
        assert_eq!(answer.statuses.len(), expected, "{opcode:?} {form}");
    }
}

#[test]
fn object_frames_without_sense_are_answered_and_the_stream_goes_on() {
    let mut daemon = Daemon::start();
    let mut raw = Raw::session(&daemon);
    let opcodes = [
        Opcode::ObjectLatch,
        Opcode::ObjectRef,
        Opcode::ObjectNest,
        Opcode::ObjectBind,
    ];
    for opcode in opcodes {
        for form in [0, 1, 2, 3, 4, 5, 255] {
            for keys in [
                &["a"][..],
                &["a", "a", "b"],
                &["not a key"],
                &["b", "no key"],
            ] {
                speak(&mut raw, opcode, form, keys);
            }
        }
    }
    // Transactions that are none: their payload is skipped.
    let nine: Vec<(&str, u64)> = KEYS.iter().chain(&["i"]).map(|key| (*key, 1)).collect();
    let wrong = [
        (transaction(&nine), Status::InvalidArgument),
        (
            transaction(&[("a", 3), ("b", 3), ("a", 3)]),
            Status::InvalidArgument,
        ),
        (
            transaction(&[("c", 9), ("not a key", 0)]),
            Status::KeyInvalid,
        ),
        (transaction(&[("c", 9), ("d", 0)]), Status::InvalidArgument),
    ];
    for (request, status) in wrong {
        raw.send(&frame(Opcode::MultiSetTx, &request));
        raw.send(&[7; 9]);
        assert_eq!(raw.receive::<SetResponse>().unwrap(), Err(status));
    }
    daemon.assert_alive();
    let local = daemon.local();
    assert_eq!(visible(&local, &KEYS), 0);
    drop(raw);
    for key in KEYS {
        let taken = local
            .objects()
            .latch(key.as_bytes(), LatchKind::Exclusive, LONG);
        taken.unwrap();
    }
    put(&local, "a", &[]);
}
