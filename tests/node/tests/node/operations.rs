//! Every operation, single and batch, over both transports; the daemon takes its orders from
//! either.

use std::io::IoSliceMut;
use std::time::{Duration, Instant};

use chariot_client::{Client, GetOptions, SetOptions, Status, WriteMode};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, status_of};
use chariot_tests_node::{pattern, wait};

const MIB: usize = 1 << 20;

/// Short, inline, leased, and more than a copy's slice.
const LENGTHS: [usize; 4] = [1, 1_000, 5_000, MIB + 7];

fn set(client: &Client, key: &str, value: &[u8]) {
    client
        .set(key.as_bytes(), value, &SetOptions::default())
        .unwrap();
}

fn get(client: &Client, key: &str) -> Option<Vec<u8>> {
    client.get(key.as_bytes(), &GetOptions::default()).unwrap()
}

#[test]
fn values_of_all_sizes_come_back() {
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib: 512,
        ..DaemonOptions::default()
    });
    let clients = daemon.both();
    for (name, client) in &clients {
        for (seed, len) in [1, 10, 1_024, 1_025, 4_096, MIB, 70 * MIB]
            .into_iter()
            .enumerate()
        {
            let key = format!("{name}/{len}");
            let value = pattern::value(len, seed as u64);
            set(client, &key, &value);
            for (other_name, other) in &clients {
                let read = get(other, &key);
                assert!(
                    read.is_some_and(|read| read == value),
                    "{len} bytes, written {name}, read {other_name}"
                );
            }
        }
    }
}

#[test]
fn every_single_operation_works_on_every_transport() {
    let daemon = Daemon::start();
    for (name, client) in daemon.both() {
        for (seed, len) in LENGTHS.into_iter().enumerate() {
            single_operations(&client, &format!("{name}/{len}"), len, seed as u64);
        }
    }
}

fn single_operations(client: &Client, key: &str, len: usize, seed: u64) {
    let key_bytes = key.as_bytes();
    let value = pattern::value(len, seed);
    assert_eq!(get(client, key), None);
    assert_eq!(client.size(key_bytes).unwrap(), None);
    assert!(!client.exist(key_bytes).unwrap());
    assert!(!client.delete(key_bytes).unwrap());
    assert!(!client.expire(key_bytes, Duration::from_secs(9)).unwrap());
    assert!(client.view(key_bytes).unwrap().is_none());

    let first = client
        .set(key_bytes, &value, &SetOptions::default())
        .unwrap();
    assert!(client.exist(key_bytes).unwrap());
    assert_eq!(client.size(key_bytes).unwrap(), Some(len as u64));
    assert!(get(client, key).unwrap() == value);
    let view = client.view(key_bytes).unwrap().unwrap();
    assert!(*view == value[..]);
    assert_eq!(view.version(), first);

    let mut buffer = vec![0; len + 3];
    assert_eq!(client.get_into(key_bytes, &mut buffer).unwrap(), Some(len));
    assert!(buffer[..len] == value && buffer[len..] == [0; 3]);
    if len > 1 {
        let short = client.get_into(key_bytes, &mut buffer[..len - 1]);
        assert_eq!(status_of(short), Status::InvalidArgument);
    }
    let (mut front, mut back) = (vec![0; len / 3], vec![0; len]);
    let mut pieces = [IoSliceMut::new(&mut front), IoSliceMut::new(&mut back)];
    assert_eq!(
        client.get_scatter(key_bytes, &mut pieces).unwrap(),
        Some(len)
    );
    assert!(front == value[..len / 3] && back[..len - len / 3] == value[len / 3..]);

    // An overwrite has a greater version; what is published in place is the value.
    let mut written = client
        .create(key_bytes, len, &SetOptions::default())
        .unwrap();
    pattern::fill(&mut written, seed + 100);
    let second = written.publish().unwrap();
    assert!(second > first, "{second:?} after {first:?}");
    assert!(pattern::matches(&get(client, key).unwrap(), seed + 100));
    assert!(*view == value[..], "the old view keeps its bytes");
    // A buffer that is dropped leaves everything as it was.
    drop(
        client
            .create(key_bytes, len, &SetOptions::default())
            .unwrap(),
    );
    assert!(pattern::matches(&get(client, key).unwrap(), seed + 100));

    assert!(client.delete(key_bytes).unwrap());
    assert!(!client.delete(key_bytes).unwrap());
    assert_eq!(get(client, key), None);
}

#[test]
fn ranges_are_cut_and_outside_ones_refused() {
    let daemon = Daemon::start();
    let value = pattern::value(10_000, 1);
    for (name, client) in daemon.both() {
        set(&client, name, &value);
        let range = |offset, len| GetOptions {
            offset,
            len,
            ..GetOptions::default()
        };
        for (offset, len, expected) in [
            (0, None, 0..10_000),
            (1, None, 1..10_000),
            (9_999, Some(1), 9_999..10_000),
            (4_095, Some(2), 4_095..4_097),
            (0, Some(10_000), 0..10_000),
        ] {
            let options = range(offset, len);
            let read = client.get(name.as_bytes(), &options).unwrap().unwrap();
            assert!(read == value[expected.clone()], "{name}: {expected:?}");
            let view = client.view_with(name.as_bytes(), &options).unwrap();
            assert!(
                *view.unwrap() == value[expected.clone()],
                "{name}: {expected:?}"
            );
        }
        for (offset, len) in [(10_001, None), (0, Some(10_001)), (u64::MAX, Some(2))] {
            let read = client.get(name.as_bytes(), &range(offset, len));
            assert_eq!(
                status_of(read),
                Status::RangeInvalid,
                "{name}: {offset} {len:?}"
            );
        }
        let absent = client.get(b"absent", &range(5, Some(5))).unwrap();
        assert_eq!(absent, None, "a missing key has no range to be outside of");
    }
}

#[test]
fn batches_answer_per_key_and_in_order() {
    let daemon = Daemon::start();
    for (name, client) in daemon.both() {
        let keys: Vec<String> = (0..1_000).map(|index| format!("{name}/{index}")).collect();
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let values: Vec<Vec<u8>> = (0..1_000)
            .map(|index| pattern::value(1 + index * 5, index as u64))
            .collect();
        let items: Vec<(&[u8], &[u8])> = keys
            .iter()
            .zip(&values)
            .map(|(key, value)| (*key, value.as_slice()))
            .collect();
        // Every third is left out.
        let written: Vec<_> = items
            .iter()
            .enumerate()
            .filter(|(index, _)| index % 3 != 2)
            .map(|(_, item)| *item)
            .collect();
        for result in client.mset(&written, &SetOptions::default()) {
            result.unwrap();
        }
        let is_there = |index: usize| index % 3 != 2;
        for (index, read) in client.mget(&keys).into_iter().enumerate() {
            let expected = is_there(index).then(|| values[index].clone());
            assert!(read.unwrap() == expected, "{name}: key {index}");
        }
        for (index, view) in client.mview(&keys).into_iter().enumerate() {
            let view = view.unwrap();
            let bytes = view.as_deref();
            assert!(
                bytes == is_there(index).then_some(&values[index][..]),
                "{name}: {index}"
            );
        }
        let mut buffers: Vec<Vec<u8>> = values.iter().map(|value| vec![0; value.len()]).collect();
        let mut slices: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
        for (index, len) in client.mget_into(&keys, &mut slices).into_iter().enumerate() {
            assert_eq!(len.unwrap(), is_there(index).then_some(values[index].len()));
            assert!(!is_there(index) || *slices[index] == values[index][..]);
        }
        for (index, size) in client.msize(&keys).into_iter().enumerate() {
            assert_eq!(
                size.unwrap(),
                is_there(index).then_some(values[index].len() as u64)
            );
        }
        for (index, exists) in client.mexist(&keys).into_iter().enumerate() {
            assert_eq!(exists.unwrap(), is_there(index));
        }
        assert_eq!(client.prefix(&keys).unwrap(), 2, "up to the first gap");
        assert_eq!(client.prefix(&keys[2..]).unwrap(), 0);
        assert_eq!(client.prefix(&[]).unwrap(), 0);
        for (index, found) in client
            .mexpire(&keys, Duration::from_mins(10))
            .into_iter()
            .enumerate()
        {
            assert_eq!(found.unwrap(), is_there(index));
        }
        for (index, found) in client.mdelete(&keys).into_iter().enumerate() {
            assert_eq!(found.unwrap(), is_there(index));
        }
        assert!(
            client
                .mexist(&keys)
                .into_iter()
                .all(|found| !found.unwrap())
        );
    }
}

#[test]
fn a_prefix_of_many_keys_is_counted_whole() {
    let daemon = Daemon::start();
    let client = daemon.local();
    let keys: Vec<String> = (0..2_000).map(|index| format!("p{index}")).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (*key, &b"x"[..])).collect();
    client.mset(&items, &SetOptions::default());
    for (name, client) in daemon.both() {
        assert_eq!(client.prefix(&keys).unwrap(), 2_000, "{name}");
        assert_eq!(client.prefix(&keys[1..999]).unwrap(), 998, "{name}");
    }
}

#[test]
fn of_duplicates_in_a_batch_the_first_wins() {
    let daemon = Daemon::start();
    for (name, client) in daemon.both() {
        let key = name.as_bytes();
        for len in [8, 5_000] {
            let [first, second, third] = [1, 2, 3].map(|seed| pattern::value(len, seed));
            let items: [(&[u8], &[u8]); 4] = [
                (key, &first),
                (b"other", b"x"),
                (key, &second),
                (key, &third),
            ];
            let versions: Vec<_> = client
                .mset(&items, &SetOptions::default())
                .into_iter()
                .map(Result::unwrap)
                .collect();
            assert!(get(&client, name).unwrap() == first, "{name}, {len} bytes");
            assert_eq!(versions[0], versions[2], "{name}");
            assert_eq!(versions[0], versions[3], "{name}");
        }
        // Reads answer every one of them.
        let reads = client.mget(&[key, key, key]);
        assert!(reads.into_iter().all(|read| read.unwrap().is_some()));
        let deleted: Vec<bool> = client
            .mdelete(&[key, key])
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(deleted.iter().filter(|found| **found).count(), 1, "{name}");
    }
}

#[test]
fn keys_of_the_alphabet_and_no_others() {
    let daemon = Daemon::start();
    let alphabet = b"abcXYZ019~.-/_!@#%^&*()+=:;";
    for (name, client) in daemon.both() {
        for byte in 0..=u8::MAX {
            let allowed = byte.is_ascii_alphanumeric() || alphabet.contains(&byte);
            for key in [vec![byte], vec![b'k', byte, b'k']] {
                let result = client.set(&key, b"v", &SetOptions::default());
                if allowed {
                    result.unwrap();
                    assert!(client.exist(&key).unwrap());
                } else {
                    assert_eq!(status_of(result), Status::KeyInvalid, "{name}: {byte:#x}");
                    assert_eq!(status_of(client.exist(&key)), Status::KeyInvalid, "{name}");
                }
            }
        }
        let longest = vec![b'k'; 1_024];
        client.set(&longest, b"v", &SetOptions::default()).unwrap();
        assert!(client.exist(&longest).unwrap());
        assert!(!client.exist(&longest[1..]).unwrap());
        for key in [Vec::new(), vec![b'k'; 1_025], vec![b'k'; 70_000]] {
            let result = client.set(&key, b"v", &SetOptions::default());
            assert_eq!(
                status_of(result),
                Status::KeyInvalid,
                "{name}: {}",
                key.len()
            );
            let read = client.get(&key, &GetOptions::default());
            assert_eq!(status_of(read), Status::KeyInvalid, "{name}: {}", key.len());
        }
        // In a batch a key that is none is that key's own failure.
        let mixed = client.mset(&[(b"good", b"v"), (b"b d", b"v")], &SetOptions::default());
        assert!(mixed[0].is_ok(), "{name}");
        assert_eq!(status_of(mixed[1].clone()), Status::KeyInvalid, "{name}");
    }
}

#[test]
fn a_value_larger_than_half_the_arena_is_refused_at_once_with_both_sizes() {
    let daemon = Daemon::start();
    let half = 128 * MIB;
    for (name, client) in daemon.both() {
        assert_eq!(
            status_of(client.set(b"empty", b"", &SetOptions::default())),
            Status::InvalidArgument,
            "{name}"
        );
        let start = Instant::now();
        let error = client
            .create(b"large", half + 1, &SetOptions::default())
            .unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(2), "{name}: at once");
        assert_eq!(error.status(), Status::TooLarge, "{name}");
        let text = error.to_string();
        assert!(
            text.contains(&(half + 1).to_string()) && text.contains(&half.to_string()),
            "{name}: {text}"
        );
    }
}

#[test]
fn a_value_of_half_the_arena_is_taken() {
    let daemon = Daemon::start();
    let value = pattern::value(128 * MIB, 5);
    for (name, client) in daemon.both() {
        let options = SetOptions {
            deadline: Some(wait::PATIENCE),
            ..SetOptions::default()
        };
        client.set(b"half", &value, &options).unwrap();
        let read = client
            .get(
                b"half",
                &GetOptions {
                    deadline: Some(wait::PATIENCE),
                    ..GetOptions::default()
                },
            )
            .unwrap();
        assert!(read.is_some_and(|read| read == value), "{name}");
        client.delete(b"half").unwrap();
    }
}

#[test]
fn modes_without_an_engine_are_refused_by_name() {
    let daemon = Daemon::start();
    for (name, client) in daemon.both() {
        for mode in [
            WriteMode::WriteThrough,
            WriteMode::WriteBack,
            WriteMode::WriteBackEvict,
        ] {
            for len in [8, 5_000] {
                let options = SetOptions {
                    mode,
                    ..SetOptions::default()
                };
                let result = client.set(b"mode", &pattern::value(len, 1), &options);
                assert_eq!(
                    status_of(result),
                    Status::NotSupported,
                    "{name}: {mode:?} {len}"
                );
                assert!(
                    !client.exist(b"mode").unwrap(),
                    "{name}: nothing was stored"
                );
            }
        }
    }
}

#[test]
fn set_if_absent_keeps_what_is_there() {
    let daemon = Daemon::start();
    let options = SetOptions {
        if_absent: true,
        ..SetOptions::default()
    };
    for (name, client) in daemon.both() {
        for len in [8, 5_000] {
            let key = format!("{name}/{len}");
            let (mine, other) = (pattern::value(len, 1), pattern::value(len, 2));
            client.set(key.as_bytes(), &mine, &options).unwrap();
            let refused = client.set(key.as_bytes(), &other, &options);
            assert_eq!(status_of(refused), Status::Exists, "{name}");
            assert!(get(&client, &key).unwrap() == mine, "{name}");
            client.delete(key.as_bytes()).unwrap();
            client.set(key.as_bytes(), &other, &options).unwrap();
            assert!(get(&client, &key).unwrap() == other, "{name}");
        }
    }
}

#[test]
fn a_life_ends_and_an_overwrite_or_expire_replaces_it() {
    let daemon = Daemon::start();
    for (name, client) in daemon.both() {
        let with = |ttl: u64| SetOptions {
            ttl: Some(Duration::from_millis(ttl)),
            ..SetOptions::default()
        };
        let key = |what: &str| format!("{name}/{what}");
        for len in [8, 5_000] {
            let value = pattern::value(len, 1);
            let (short, replaced, long) = (key("short"), key("replaced"), key("long"));
            client.set(short.as_bytes(), &value, &with(300)).unwrap();
            client.set(replaced.as_bytes(), &value, &with(300)).unwrap();
            client.set(long.as_bytes(), &value, &with(300)).unwrap();
            let start = Instant::now();
            set(&client, &replaced, &value);
            assert!(
                client
                    .expire(long.as_bytes(), Duration::from_mins(10))
                    .unwrap()
            );
            if start.elapsed() < Duration::from_millis(100) {
                assert!(
                    client.exist(short.as_bytes()).unwrap(),
                    "{name}: still alive"
                );
            }
            wait::until("the short life ends", || {
                !client.exist(short.as_bytes()).unwrap()
            });
            assert_eq!(get(&client, &short), None);
            assert!(
                client.exist(replaced.as_bytes()).unwrap(),
                "{name}: for ever now"
            );
            assert!(
                client.exist(long.as_bytes()).unwrap(),
                "{name}: for longer now"
            );
            assert!(
                client
                    .expire(long.as_bytes(), Duration::from_millis(1))
                    .unwrap()
            );
            wait::until("the life was cut", || get(&client, &long).is_none());
        }
        let zero = client.expire(b"any", Duration::ZERO);
        assert_eq!(status_of(zero), Status::InvalidArgument, "{name}");
    }
    wait::until("expired entries are counted", || {
        daemon.metrics().total("chariot_expirations_total") >= 8.0
    });
}

#[test]
fn a_get_waits_for_its_key() {
    let daemon = Daemon::start();
    let writer = daemon.local();
    for (name, client) in daemon.both() {
        let waiting = |wait: Duration| GetOptions {
            wait: Some(wait),
            ..GetOptions::default()
        };
        // It arrives.
        let key = format!("{name}/arrives");
        let value = pattern::value(5_000, 3);
        let read = std::thread::scope(|scope| {
            let reader = scope.spawn(|| client.get(key.as_bytes(), &waiting(wait::PATIENCE)));
            wait::until("the reader waits", || {
                reader.is_finished() || ring_depth(&daemon) > 0.0 || name == "remote"
            });
            set(&writer, &key, &value);
            reader.join().unwrap()
        });
        assert!(read.unwrap().is_some_and(|read| read == value), "{name}");
        // It is there already.
        assert!(
            client
                .get(key.as_bytes(), &waiting(wait::PATIENCE))
                .unwrap()
                .is_some()
        );
        // It does not come: a miss, not before the time.
        let start = Instant::now();
        let missed = client
            .get(b"never", &waiting(Duration::from_millis(200)))
            .unwrap();
        assert_eq!(missed, None, "{name}");
        assert!(
            start.elapsed() >= Duration::from_millis(190),
            "{name}: it waited"
        );
        // One of two comes: a partial answer at the end of the wait.
        let both: [&[u8]; 2] = [key.as_bytes(), b"never"];
        let partial = client.mget_with(&both, &waiting(Duration::from_millis(100)));
        assert!(
            partial[0]
                .as_ref()
                .is_ok_and(|read| read.as_ref() == Some(&value)),
            "{name}"
        );
        assert!(partial[1].as_ref().is_ok_and(Option::is_none), "{name}");
    }
}

fn ring_depth(daemon: &Daemon) -> f64 {
    daemon.metrics().total("chariot_ring_depth")
}

#[test]
fn what_one_thread_writes_to_a_key_is_seen_in_order_by_all() {
    let daemon = Daemon::start();
    let writer = daemon.local();
    let readers = [daemon.local(), daemon.remote()];
    set(&writer, "counter", &0_u64.to_le_bytes());
    std::thread::scope(|scope| {
        let reading = readers.each_ref().map(|reader| {
            scope.spawn(|| {
                let mut last = 0;
                while last < 2_000 {
                    let read = get(reader, "counter").unwrap();
                    let seen = u64::from_le_bytes(read[..8].try_into().unwrap());
                    assert!(seen >= last, "{seen} after {last}");
                    last = seen;
                }
            })
        });
        for count in 1..=2_000_u64 {
            // Inline and leased in turn: both ways keep the order.
            let mut value = vec![0; if count % 2 == 0 { 8 } else { 2_000 }];
            value[..8].copy_from_slice(&count.to_le_bytes());
            set(&writer, "counter", &value);
            let own = get(&writer, "counter").unwrap();
            assert!(own == value, "a completed write is seen by its writer");
        }
        for thread in reading {
            thread.join().unwrap();
        }
    });
}

#[test]
fn futures_do_what_calls_do() {
    let daemon = Daemon::start();
    let client = chariot_client::AsyncClient::from(daemon.local());
    let value = pattern::value(100_000, 4);
    let read = poll_to_end(async {
        client
            .set(b"async", &value, &SetOptions::default())
            .await
            .unwrap();
        client.get(b"async", &GetOptions::default()).await.unwrap()
    });
    assert!(read.is_some_and(|read| read == value));
}

/// A small executor: it parks its thread until it is woken.
fn poll_to_end<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::park_timeout(wait::PATIENCE);
    }
}
