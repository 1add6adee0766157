//! The daemon dies and returns: reads miss meanwhile, writes say so, clients come back alone.

use std::time::{Duration, Instant};

use chariot_client::{GetOptions, Place, SetOptions, Status};
use chariot_tests_node::daemon::{Daemon, status_of};
use chariot_tests_node::{pattern, wait};

#[test]
fn a_restart_is_misses_and_restarting_and_then_everything_works_again() {
    let mut daemon = Daemon::start();
    let clients = daemon.both();
    let view = {
        let (_, local) = &clients[0];
        local
            .set(b"old", &pattern::value(1 << 20, 1), &SetOptions::default())
            .unwrap();
        local.view(b"old").unwrap().unwrap()
    };
    daemon.kill();
    for (name, client) in &clients {
        let start = Instant::now();
        let read = client.get(b"old", &GetOptions::default());
        assert_eq!(read.unwrap(), None, "{name}: a read is a miss");
        assert!(!client.exist(b"old").unwrap(), "{name}");
        assert_eq!(client.prefix(&[b"old"]).unwrap(), 0, "{name}");
        assert!(
            client
                .mget(&[b"old", b"x"])
                .into_iter()
                .all(|read| read.unwrap().is_none())
        );
        let options = SetOptions {
            deadline: Some(Duration::from_secs(2)),
            ..SetOptions::default()
        };
        let write = client.set(b"new", b"value", &options);
        assert_eq!(status_of(write), Status::Restarting, "{name}");
        let long = client.set(b"new", &pattern::value(100_000, 1), &options);
        assert_eq!(status_of(long), Status::Restarting, "{name}");
        assert_eq!(client.place(), Place::Away, "{name}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{name}: within its deadlines"
        );
    }
    assert!(pattern::matches(&view, 1), "old memory stays readable");
    daemon.restart();
    for (name, client) in &clients {
        wait::until("the client comes back", || {
            client
                .set(
                    name.as_bytes(),
                    &pattern::value(5_000, 2),
                    &SetOptions::default(),
                )
                .is_ok()
        });
        let read = client.get(name.as_bytes(), &GetOptions::default()).unwrap();
        assert!(pattern::matches(&read.unwrap(), 2), "{name}");
        assert_eq!(
            client.get(b"old", &GetOptions::default()).unwrap(),
            None,
            "{name}"
        );
        assert_ne!(client.place(), Place::Away, "{name}");
    }
    assert!(
        pattern::matches(&view, 1),
        "old memory stays readable after the return"
    );
    drop(view);
    daemon.assert_alive();
}

#[test]
fn a_waiting_call_ends_when_the_daemon_dies() {
    let mut daemon = Daemon::start();
    let clients = daemon.both();
    let options = GetOptions {
        wait: Some(Duration::from_mins(1)),
        ..GetOptions::default()
    };
    std::thread::scope(|scope| {
        let waiting = clients
            .each_ref()
            .map(|(_, client)| scope.spawn(|| client.get(b"never", &options)));
        wait::until("both wait", || {
            daemon.metrics().total("chariot_ring_depth") >= 1.0
        });
        let killed = Instant::now();
        daemon.kill();
        for thread in waiting {
            assert_eq!(thread.join().unwrap().unwrap(), None, "a miss");
        }
        assert!(
            killed.elapsed() < Duration::from_secs(10),
            "long before its time"
        );
    });
}

#[test]
fn a_drain_ends_with_zero_and_clients_see_a_restart() {
    let mut daemon = Daemon::start();
    let client = daemon.local();
    client
        .set(b"key", b"value", &SetOptions::default())
        .unwrap();
    assert!(daemon.terminate());
    assert_eq!(client.get(b"key", &GetOptions::default()).unwrap(), None);
    let write = client.set(b"key", b"value", &SetOptions::default());
    assert_ne!(status_of(write), Status::Ok);
    daemon.restart();
    wait::until("the client comes back", || {
        client.set(b"key", b"value", &SetOptions::default()).is_ok()
    });
}
