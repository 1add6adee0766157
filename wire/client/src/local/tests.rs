//! The local transport against a daemon in a thread.

use std::io::IoSliceMut;
use std::time::{Duration, Instant};

use chariot_proto::Status;

use super::fake::{FakeDaemon, Manners, VALUE_MAX};
use crate::{Client, ConnectOptions, GetOptions, Place, SetOptions, Target};

fn connect(daemon: &FakeDaemon) -> Client {
    connect_with(daemon, |_| {})
}

fn connect_with(daemon: &FakeDaemon, change: impl Fn(&mut ConnectOptions)) -> Client {
    let mut options = ConnectOptions::new(Target::Unix(daemon.path.clone()));
    change(&mut options);
    Client::connect(options).unwrap()
}

fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at * 7 + seed * 13 + at / 256) % 251).unwrap())
        .collect()
}

fn get(client: &Client, key: &[u8]) -> Option<Vec<u8>> {
    client.get(key, &GetOptions::default()).unwrap()
}

#[test]
fn what_was_set_is_read_inline_and_leased_and_large() {
    let daemon = FakeDaemon::start(Manners::good(2));
    let client = connect(&daemon);
    assert_eq!(client.place(), Place::SharedMemory);
    for (seed, len) in [1, 1024, 1025, 4096, 5000, 300_000, 3 << 20]
        .into_iter()
        .enumerate()
    {
        let key = format!("key-{len}");
        let version = client
            .set(key.as_bytes(), &value(seed, len), &SetOptions::default())
            .unwrap();
        assert!(version.raw() > 0);
        assert!(
            get(&client, key.as_bytes()).unwrap() == value(seed, len),
            "{len}"
        );
        assert_eq!(client.size(key.as_bytes()).unwrap(), Some(len as u64));
        assert!(client.exist(key.as_bytes()).unwrap());
    }
    assert_eq!(get(&client, b"absent"), None);
    assert_eq!(client.size(b"absent").unwrap(), None);
    assert!(!client.exist(b"absent").unwrap());
}

#[test]
fn strict_session_writes_through_its_staging_memory() {
    let daemon = FakeDaemon::start(Manners {
        strict: true,
        ..Manners::good(1)
    });
    let client = connect(&daemon);
    for round in 0..40 {
        let bytes = value(round, 100_000);
        client.set(b"big", &bytes, &SetOptions::default()).unwrap();
        assert!(get(&client, b"big").unwrap() == bytes);
    }
    let values: Vec<Vec<u8>> = (0..30).map(|seed| value(seed, 200_000)).collect();
    let keys: Vec<String> = (0..30).map(|seed| format!("batch-{seed}")).collect();
    let items: Vec<(&[u8], &[u8])> = keys
        .iter()
        .map(String::as_bytes)
        .zip(values.iter().map(Vec::as_slice))
        .collect();
    assert!(
        client
            .mset(&items, &SetOptions::default())
            .iter()
            .all(Result::is_ok)
    );
    assert!(get(&client, b"batch-29").unwrap() == values[29]);
    let error = client
        .set(b"huge", &value(1, 2 << 20), &SetOptions::default())
        .unwrap_err();
    assert_eq!(error.status(), Status::TooLarge);
}

#[test]
fn batches_span_shards_and_exceed_the_rings() {
    let daemon = FakeDaemon::start(Manners::good(3));
    let client = connect(&daemon);
    let keys: Vec<String> = (0..1000).map(|index| format!("k{index}")).collect();
    let values: Vec<Vec<u8>> = (0..1000).map(|index| value(index, 900 + index)).collect();
    let items: Vec<(&[u8], &[u8])> = keys
        .iter()
        .map(String::as_bytes)
        .zip(values.iter().map(Vec::as_slice))
        .collect();
    for result in client.mset(&items, &SetOptions::default()) {
        result.unwrap();
    }
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let read = client.mget(&keys);
    assert!(
        read.iter()
            .zip(&values)
            .all(|(read, value)| read.as_ref().unwrap().as_ref() == Some(value))
    );
    let views = client.mview(&keys);
    for (view, value) in views.iter().zip(&values) {
        let view = view.as_ref().unwrap().as_ref().unwrap();
        assert!(view.is_pinned());
        assert!(view[..] == value[..]);
    }
    drop(views);
    assert!(client.mexist(&keys).into_iter().all(Result::unwrap));
    let sizes = client.msize(&keys);
    assert!(
        sizes
            .iter()
            .zip(&values)
            .all(|(size, value)| *size.as_ref().unwrap() == Some(value.len() as u64))
    );
    assert!(
        client
            .mexpire(&keys, Duration::from_secs(9))
            .into_iter()
            .all(Result::unwrap)
    );
    assert!(client.delete(b"k700").unwrap());
    assert_eq!(client.prefix(&keys).unwrap(), 700);
    assert!(!client.delete(b"k700").unwrap());
    let deleted = client.mdelete(&keys);
    assert_eq!(
        deleted
            .into_iter()
            .filter(|result| *result.as_ref().unwrap())
            .count(),
        999
    );
}

#[test]
fn steady_small_sets_need_one_submission_each() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    let bytes = value(1, 4096);
    client.set(b"warm", &bytes, &SetOptions::default()).unwrap();
    let before = daemon.submissions();
    for index in 0..500 {
        client
            .set(
                format!("k{index}").as_bytes(),
                &bytes,
                &SetOptions::default(),
            )
            .unwrap();
    }
    assert_eq!(
        daemon.submissions() - before,
        500,
        "leases come along with publishes"
    );
}

#[test]
fn of_duplicates_in_a_batch_the_first_wins() {
    let daemon = FakeDaemon::start(Manners::good(2));
    let client = connect(&daemon);
    let items: [(&[u8], &[u8]); 3] = [(b"a", b"first"), (b"b", b"other"), (b"a", b"second")];
    let results = client.mset(&items, &SetOptions::default());
    assert_eq!(results[0].as_ref().unwrap(), results[2].as_ref().unwrap());
    assert_eq!(get(&client, b"a").unwrap(), b"first");
}

#[test]
fn bad_keys_and_values_fail_alone() {
    let daemon = FakeDaemon::start(Manners::good(2));
    let client = connect(&daemon);
    let huge = vec![0; usize::try_from(VALUE_MAX).unwrap() + 1];
    let items: [(&[u8], &[u8]); 4] = [
        (b"good", b"1"),
        (b"bad key", b"1"),
        (b"empty", b""),
        (b"huge", &huge),
    ];
    let results = client.mset(&items, &SetOptions::default());
    let status = |index: usize| results[index].as_ref().map_err(crate::Error::status);
    status(0).unwrap();
    assert_eq!(status(1), Err(Status::KeyInvalid));
    assert_eq!(status(2), Err(Status::InvalidArgument));
    assert_eq!(status(3), Err(Status::TooLarge));
    assert_eq!(
        client
            .get(b"", &GetOptions::default())
            .unwrap_err()
            .status(),
        Status::KeyInvalid
    );
}

#[test]
fn if_absent_answers_exists() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    let options = SetOptions {
        if_absent: true,
        ..SetOptions::default()
    };
    client.set(b"once", &value(1, 5000), &options).unwrap();
    let error = client.set(b"once", &value(2, 5000), &options).unwrap_err();
    assert_eq!(error.status(), Status::Exists);
    assert!(get(&client, b"once").unwrap() == value(1, 5000));
}

#[test]
fn ranges_buffers_and_scatter() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    client
        .set(b"v", b"0123456789", &SetOptions::default())
        .unwrap();
    let range = |offset, len| GetOptions {
        offset,
        len,
        ..GetOptions::default()
    };
    assert_eq!(
        client.get(b"v", &range(3, Some(4))).unwrap().unwrap(),
        b"3456"
    );
    assert_eq!(client.get(b"v", &range(8, None)).unwrap().unwrap(), b"89");
    assert_eq!(
        client.get(b"v", &range(8, Some(3))).unwrap_err().status(),
        Status::RangeInvalid
    );
    assert_eq!(
        &client.view_with(b"v", &range(2, Some(2))).unwrap().unwrap()[..],
        b"23"
    );
    let mut buffer = [0; 16];
    assert_eq!(client.get_into(b"v", &mut buffer).unwrap(), Some(10));
    assert_eq!(&buffer[..10], b"0123456789");
    assert_eq!(client.get_into(b"absent", &mut buffer).unwrap(), None);
    let error = client.get_into(b"v", &mut buffer[..9]).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument);
    let (mut a, mut b) = ([0; 4], [0; 8]);
    let mut buffers = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    assert_eq!(client.get_scatter(b"v", &mut buffers).unwrap(), Some(10));
    assert_eq!((&a[..], &b[..6]), (&b"0123"[..], &b"456789"[..]));
    let (mut a, mut b) = ([0; 10], [0; 10]);
    let lens = client.mget_into(&[b"v", b"absent"], &mut [&mut a, &mut b]);
    assert_eq!(lens[0].as_ref().unwrap(), &Some(10));
    assert_eq!(lens[1].as_ref().unwrap(), &None);
}

#[test]
fn write_buffer_is_published_in_place_or_given_back() {
    for strict in [false, true] {
        let daemon = FakeDaemon::start(Manners {
            strict,
            ..Manners::good(1)
        });
        let client = connect(&daemon);
        let bytes = value(3, 20_000);
        let mut buffer = client
            .create(b"made", bytes.len(), &SetOptions::default())
            .unwrap();
        buffer.copy_from_slice(&bytes);
        assert_eq!(get(&client, b"made"), None, "not published yet");
        buffer.publish().unwrap();
        assert!(get(&client, b"made").unwrap() == bytes);
        for _ in 0..200 {
            // Dropped ones give their memory back: neither staging nor arena runs out.
            drop(
                client
                    .create(b"dropped", 500_000, &SetOptions::default())
                    .unwrap(),
            );
        }
        assert_eq!(get(&client, b"dropped"), None);
    }
}

#[test]
fn view_outlives_client_and_overwrite() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    client
        .set(b"v", &value(1, 4096), &SetOptions::default())
        .unwrap();
    let view = client.view(b"v").unwrap().unwrap();
    client
        .set(b"v", &value(2, 4096), &SetOptions::default())
        .unwrap();
    drop(client);
    assert!(view[..] == value(1, 4096)[..]);
}

#[test]
fn views_beyond_the_pin_slots_are_copies() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    client.set(b"v", b"bytes", &SetOptions::default()).unwrap();
    let slots = chariot_proto::limits::PIN_SLOTS_VIEW as usize;
    let keys = vec![&b"v"[..]; slots + 300];
    let views: Vec<_> = client
        .mview(&keys)
        .into_iter()
        .map(|view| view.unwrap().unwrap())
        .collect();
    assert!(views.iter().all(|view| view[..] == b"bytes"[..]));
    assert_eq!(views.iter().filter(|view| view.is_pinned()).count(), slots);
}

#[test]
fn sleeping_shard_is_rung() {
    let daemon = FakeDaemon::start(Manners {
        sleepy: true,
        ..Manners::good(2)
    });
    let client = connect(&daemon);
    for index in 0..50 {
        let key = format!("k{index}");
        client
            .set(key.as_bytes(), &value(index, 2000), &SetOptions::default())
            .unwrap();
    }
    assert!(get(&client, b"k49").unwrap() == value(49, 2000));
}

#[test]
fn silent_daemon_ends_in_a_timeout_at_the_deadline() {
    let daemon = FakeDaemon::start(Manners {
        silent: true,
        ..Manners::good(1)
    });
    daemon.hand().put_away(b"v");
    let client = connect(&daemon);
    let started = Instant::now();
    let deadline = Some(Duration::from_millis(80));
    let options = GetOptions {
        deadline,
        ..GetOptions::default()
    };
    let error = client.get(b"v", &options).unwrap_err();
    assert_eq!(error.status(), Status::Timeout);
    assert!(started.elapsed() >= Duration::from_millis(80));
    assert!(started.elapsed() < Duration::from_secs(2));
    // Abandoned submissions fill the ring; callers still get their timeouts.
    let keys = vec![&b"v"[..]; 300];
    for result in client.mget_with(&keys, &options) {
        assert_eq!(result.unwrap_err().status(), Status::Timeout);
    }
}

#[test]
fn hostile_completions_end_the_session_not_the_process() {
    for manners in [
        Manners {
            wild_extent: true,
            ..Manners::good(1)
        },
        Manners {
            wild_token: true,
            ..Manners::good(1)
        },
    ] {
        let daemon = FakeDaemon::start(manners);
        let client = connect(&daemon);
        let failed = match client.set(b"v", b"bytes", &SetOptions::default()) {
            Err(error) => error,
            Ok(_) => client.get(b"v", &GetOptions::default()).unwrap_err(),
        };
        assert_eq!(failed.status(), Status::Malformed);
    }
}

#[test]
fn daemon_death_turns_reads_into_misses_and_a_new_daemon_is_found() {
    let mut daemon = FakeDaemon::start(Manners::good(1));
    let client = connect_with(&daemon, |options| {
        options.request_timeout = Duration::from_secs(2);
    });
    client
        .set(b"v", &value(1, 4096), &SetOptions::default())
        .unwrap();
    let view = client.view(b"v").unwrap().unwrap();
    let path = daemon.path.clone();
    daemon.kill();
    assert_eq!(get(&client, b"v"), None);
    assert!(!client.exist(b"v").unwrap());
    assert_eq!(client.place(), Place::Away);
    let error = client.set(b"v", b"x", &SetOptions::default()).unwrap_err();
    assert_eq!(error.status(), Status::Restarting);
    assert!(
        view[..] == value(1, 4096)[..],
        "what is pinned stays readable"
    );

    let reborn = FakeDaemon::start(Manners::good(2));
    std::os::unix::fs::symlink(&reborn.path, &path).unwrap();
    let limit = Instant::now() + Duration::from_secs(10);
    while client.set(b"v", b"new", &SetOptions::default()).is_err() {
        assert!(Instant::now() < limit, "the client reconnects by itself");
        std::thread::yield_now();
    }
    assert_eq!(get(&client, b"v").unwrap(), b"new");
    assert_eq!(client.place(), Place::SharedMemory);
}

#[test]
fn death_while_a_call_waits_ends_the_call() {
    let mut daemon = FakeDaemon::start(Manners {
        silent: true,
        ..Manners::good(1)
    });
    let client = connect(&daemon);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.set(b"v", b"x", &SetOptions::default()));
        // The call is in the ring or about to be: dead either way.
        daemon.kill();
        assert_eq!(
            call.join().unwrap().unwrap_err().status(),
            Status::Restarting
        );
    });
}

#[test]
fn many_threads_share_one_session() {
    let daemon = FakeDaemon::start(Manners::good(2));
    let client = connect(&daemon);
    std::thread::scope(|scope| {
        for thread in 0..6_usize {
            let client = &client;
            scope.spawn(move || {
                for round in 0..60 {
                    let key = format!("t{thread}-{}", round % 7);
                    let bytes = value(thread * 100 + round, 500 + round * 97);
                    client
                        .set(key.as_bytes(), &bytes, &SetOptions::default())
                        .unwrap();
                    assert!(get(client, key.as_bytes()).unwrap() == bytes);
                    let view = client.view(key.as_bytes()).unwrap().unwrap();
                    assert!(view[..] == bytes[..]);
                }
            });
        }
    });
}

#[test]
fn wait_for_an_absent_key_ends_as_a_miss() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    let options = GetOptions {
        wait: Some(Duration::from_millis(20)),
        ..GetOptions::default()
    };
    assert_eq!(client.get(b"absent", &options).unwrap(), None);
}

#[test]
fn connecting_to_nobody_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let target = Target::Unix(directory.path().join("nobody"));
    let error = Client::connect(ConnectOptions::new(target)).unwrap_err();
    assert_eq!(error.status(), Status::Restarting);
    assert!(error.to_string().contains("nobody"), "{error}");
}

#[test]
fn forked_child_gets_errors_and_harmless_views() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    client
        .set(b"v", &value(1, 4096), &SetOptions::default())
        .unwrap();
    let view = client.view(b"v").unwrap().unwrap();
    // SAFETY: the child calls nothing but this crate's refusals and `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let refused = client.exist(b"v").is_err();
        let hidden = view.is_empty();
        drop(view);
        let code = i32::from(!(refused && hidden));
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    assert_eq!(status, 0, "the child was refused");
    assert!(
        view[..] == value(1, 4096)[..],
        "the child's drop has not released our pin"
    );
    assert!(client.exist(b"v").unwrap());
}
