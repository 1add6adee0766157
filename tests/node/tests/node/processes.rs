//! One process with several clients and many threads, and processes that fork.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use chariot_client::{Client, ConnectOptions, GetOptions, ReadPath, SetOptions};
use chariot_tests_node::daemon::{Daemon, program};
use chariot_tests_node::{pattern, wait};

const THREADS: u64 = 4;
const ROUNDS: u64 = 150;
const LEN: usize = 9_000;

fn set(client: &Client, key: &str, seed: u64) {
    let options = SetOptions {
        deadline: Some(wait::PATIENCE),
        ..SetOptions::default()
    };
    client
        .set(key.as_bytes(), &pattern::value(LEN, seed), &options)
        .unwrap();
}

/// What a thread has written, every other client and thread reads, or something newer.
#[test]
fn two_clients_of_one_process_and_many_threads_see_each_others_writes() {
    let daemon = Daemon::start();
    let clients = [daemon.local(), daemon.local()];
    let written: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (clients, written) = (&clients, &written);
            scope.spawn(move || {
                let writer = &clients[usize::try_from(thread).unwrap() % 2];
                for round in 1..=ROUNDS {
                    set(writer, &format!("of/{thread}"), round);
                    written[usize::try_from(thread).unwrap()].store(round, Ordering::Release);
                    let other = (thread + round) % THREADS;
                    let known = written[usize::try_from(other).unwrap()].load(Ordering::Acquire);
                    let reader = &clients[usize::try_from(round).unwrap() % 2];
                    let view = reader.view(format!("of/{other}").as_bytes()).unwrap();
                    let is_right =
                        |view: &[u8]| (known..=ROUNDS).any(|seed| pattern::matches(view, seed));
                    assert!(view.map_or(known == 0, |view| is_right(&view)), "{known}");
                }
            });
        }
    });
    // A view taken by one client lives when the other one is gone, and on another thread.
    let [first, second] = clients;
    let view = first.view(b"of/0").unwrap().unwrap();
    drop(first);
    std::thread::spawn(move || drop(view)).join().unwrap();
    assert!(second.exist(b"of/0").unwrap());
}

#[test]
fn a_client_counts_its_reads_exactly_whichever_way_they_go() {
    let daemon = Daemon::start();
    for read_path in [ReadPath::Index, ReadPath::Ring] {
        let client = Client::connect(ConnectOptions {
            read_path,
            ..daemon.local_options()
        })
        .unwrap();
        set(&client, "here", 1);
        let clone = client.clone();
        for _ in 0..50 {
            assert!(
                clone
                    .get(b"here", &GetOptions::default())
                    .unwrap()
                    .is_some()
            );
            assert!(client.view(b"here").unwrap().is_some());
            assert_eq!(client.size(b"here").unwrap(), Some(LEN as u64));
            assert!(!client.exist(b"absent").unwrap());
            assert_eq!(client.prefix(&[b"here", b"absent", b"here"]).unwrap(), 1);
            let views = client.mview(&[b"here", b"absent"]);
            assert_eq!(views.len(), 2);
        }
        let stats = client.stats();
        assert_eq!(
            (stats.hits, stats.misses),
            (50 * 5, 50 * 3),
            "{read_path:?}"
        );
        match read_path {
            ReadPath::Index => assert_eq!(stats.asked, 0),
            // The prefix asks for all three keys.
            ReadPath::Ring => assert_eq!(stats.asked, 50 * 9),
        }
        assert_eq!(stats.views_copied, 0);
    }
}

/// The views that a session may hold on one shard.
const VIEWS: usize = 16_384;

#[test]
fn views_beyond_those_a_session_may_hold_are_copies_until_one_ends() {
    let daemon = Daemon::start();
    let client = daemon.local();
    set(&client, "key", 1);
    let mut views: Vec<_> = (0..VIEWS)
        .map(|_| client.view(b"key").unwrap().unwrap())
        .collect();
    assert!(views.iter().all(chariot_client::View::is_pinned));
    assert_eq!(client.stats().views_copied, 0);
    for _ in 0..10 {
        let beyond = client.view(b"key").unwrap().unwrap();
        assert!(!beyond.is_pinned() && pattern::matches(&beyond, 1));
    }
    let many = client.mview(&[b"key".as_slice(); 20]);
    assert!(
        many.into_iter()
            .all(|view| !view.unwrap().unwrap().is_pinned())
    );
    assert_eq!(client.stats().views_copied, 30);
    // Copies into the caller's memory need no view.
    let mut buffer = vec![0; LEN];
    assert_eq!(client.get_into(b"key", &mut buffer).unwrap(), Some(LEN));
    let shown = daemon.session_of(std::process::id()).unwrap();
    assert_eq!(shown["pins"], 1, "one extent, in many slots");
    views.pop();
    let again = client.view(b"key").unwrap().unwrap();
    assert!(again.is_pinned());
    // Whoever else comes has slots of its own.
    assert!(daemon.local().view(b"key").unwrap().unwrap().is_pinned());
}

/// The program forks with live views, a buffer and a thread in the middle of reads; both sides
/// check themselves, see its head.
#[test]
fn a_forked_child_opens_its_own_session_and_harms_no_view_of_its_parent() {
    let daemon = Daemon::start();
    let forking = program(
        &["-p", "chariot-client", "--example", "forking"],
        "examples/forking",
    );
    let output = Command::new(forking).arg(daemon.socket()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    wait::until("no session is left", || {
        daemon.metrics().total("chariot_sessions_local") < 1.0
    });
}
