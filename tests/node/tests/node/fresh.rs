//! A daemon that was started a moment ago, before its memory has pages: writes wait for pages, and
//! nothing that was acknowledged goes while there is room.

use std::time::Duration;

use chariot_client::{Client, SetOptions, WriteMode};
use chariot_tests_node::daemon::{Daemon, DaemonOptions};
use chariot_tests_node::pattern;

const MIB: usize = 1 << 20;
/// Values of each client; those of all fill two thirds of the arena.
const VALUES: u64 = 80;

fn options() -> DaemonOptions {
    DaemonOptions {
        memory_mib: 512,
        ..DaemonOptions::default()
    }
}

fn key(client: usize, index: u64) -> String {
    format!("fresh/{client}/{index}")
}

fn load(client: &Client, number: usize) {
    let options = SetOptions {
        mode: WriteMode::NoneEvict,
        deadline: Some(Duration::from_mins(2)),
        ..SetOptions::default()
    };
    for index in 0..VALUES {
        let value = pattern::value(MIB, index);
        client
            .set(key(number, index).as_bytes(), &value, &options)
            .unwrap_or_else(|error| panic!("client {number}, value {index}: {error}"));
    }
}

#[test]
fn what_a_fresh_node_takes_it_keeps_while_there_is_room() {
    let daemon = Daemon::start_with(&options());
    let clients = [
        daemon.local(),
        daemon.local(),
        daemon.remote(),
        daemon.remote(),
    ];
    std::thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            scope.spawn(move || load(client, number));
        }
    });
    let metrics = daemon.metrics();
    for name in [
        "chariot_evictions_total",
        "chariot_out_of_memory_timeouts_total",
    ] {
        assert!(metrics.total(name) < 1.0, "{name} {}", metrics.total(name));
    }
    for (number, client) in clients.iter().enumerate() {
        for index in 0..VALUES {
            let view = client.view(key(number, index).as_bytes()).unwrap();
            let view = view.unwrap_or_else(|| panic!("client {number} lost value {index}"));
            assert!(pattern::matches(&view, index), "{number}/{index}");
        }
    }
}
