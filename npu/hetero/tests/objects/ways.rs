//! Which way bytes go: straight from and to shared memory, or through staging, by what the driver
//! can register and by who the client is.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use chariot_client::{Client, ConnectOptions, GetOptions, SetOptions, Target};
use chariot_hetero::{BlobList, Stored};
use chariot_tests_node::wait;

use crate::process::{ascend, is_alone, is_alone_as};
use crate::rig::{Rig, borrow};

const SOCKET: &str = "OBJECTS_SOCKET";
const NOBODY: u32 = 65_534;
/// Bytes of the objects of one round.
const ROUND: u64 = 3 * 62 * (72 << 10);

/// Writes, reads and deletes objects; answers the bytes that were staged, out of the card and in.
fn round(rig: &Rig, number: u64) -> (u64, u64) {
    let keys: Vec<Vec<u8>> = (0..3_u64)
        .map(|key| format!("{number}/{key}").into_bytes())
        .collect();
    let list = rig.filled(&[72 << 10; 62], number);
    let core = rig.hetero.core(&rig.card).unwrap();
    let before = core.probe().staged_bytes();
    let lists = vec![list; 3];
    let out = rig
        .hetero
        .mset_d2h(&borrow(&keys), &lists, &SetOptions::default());
    for outcome in out.unwrap() {
        assert_eq!(outcome.unwrap(), Stored::Written);
    }
    let between = core.probe().staged_bytes();
    let back: Vec<BlobList> = (0..3).map(|_| rig.empty(&[72 << 10; 62])).collect();
    let out = rig
        .hetero
        .mget_h2d(&borrow(&keys), &back, &GetOptions::default());
    assert!(out.unwrap().into_iter().all(Result::unwrap));
    let after = core.probe().staged_bytes();
    for list in &back {
        rig.check(list, number);
    }
    drop(rig.hetero.delete(&borrow(&keys)).unwrap());
    (between - before, after - between)
}

/// Rounds until the ways are `wanted` in four of them one after the other: by then every granule
/// that objects come to lie in was seen.
fn settles(rig: &Rig, wanted: (u64, u64)) {
    let (mut number, mut right) = (0, 0);
    wait::within(Duration::from_mins(1), "registration is over", || {
        number += 1;
        right = if round(rig, number) == wanted {
            right + 1
        } else {
            0
        };
        right == 4
    });
}

#[test]
fn nothing_is_staged_where_the_driver_registers() {
    if is_alone("ways::nothing_is_staged_where_the_driver_registers", &[]) {
        let daemon = crate::rig::start();
        settles(&Rig::over(crate::rig::connect(&daemon), ascend()), (0, 0));
    }
}

#[test]
fn writable_registration_is_enough_for_a_trusted_session() {
    let test = "ways::writable_registration_is_enough_for_a_trusted_session";
    if is_alone(test, &[("REGISTER", "writable")]) {
        let daemon = crate::rig::start();
        settles(&Rig::over(crate::rig::connect(&daemon), ascend()), (0, 0));
    }
}

#[test]
fn everything_is_staged_where_the_driver_refuses() {
    staged(
        "ways::everything_is_staged_where_the_driver_refuses",
        "refuse",
    );
}

#[test]
fn everything_is_staged_where_registration_has_no_effect() {
    staged(
        "ways::everything_is_staged_where_registration_has_no_effect",
        "record",
    );
}

/// All bytes are staged, both ways, by a driver that registers `how`.
fn staged(test: &str, how: &str) {
    if is_alone(test, &[("REGISTER", how)]) {
        let daemon = crate::rig::start();
        settles(
            &Rig::over(crate::rig::connect(&daemon), ascend()),
            (ROUND, ROUND),
        );
    }
}

#[test]
fn a_limit_of_locked_memory_is_no_failure() {
    let test = "ways::a_limit_of_locked_memory_is_no_failure";
    // No granule fits, staging does.
    if is_alone(test, &[("PINNED_BYTES", "50331648")]) {
        let daemon = crate::rig::start();
        settles(
            &Rig::over(crate::rig::connect(&daemon), ascend()),
            (ROUND, ROUND),
        );
    }
}

#[test]
fn memory_on_the_host_is_registered_like_a_cards() {
    let daemon = crate::rig::start();
    settles(&Rig::on_host(&daemon), (0, 0));
}

/// A session of another user: writes into staging memory of its own, reads read-only pages.
fn strict(test: &str, settings: &[(&str, &str)], wanted: (u64, u64)) {
    let again = std::env::var_os(SOCKET);
    if let Some(socket) = again {
        let options = ConnectOptions::new(Target::Unix(socket.into()));
        let client = Client::connect(options).unwrap();
        settles(&Rig::over(client, ascend()), wanted);
        return;
    }
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("skipped: only root can be another user");
        return;
    }
    let daemon = crate::rig::start();
    let socket = daemon.socket();
    let variables = [(SOCKET, socket.to_str().unwrap())];
    assert!(!is_alone_as(test, settings, Some(NOBODY), &variables));
}

#[test]
fn a_strict_session_reads_registered_pages_that_are_read_only() {
    let test = "ways::a_strict_session_reads_registered_pages_that_are_read_only";
    strict(test, &[], (0, 0));
}

#[test]
fn a_strict_session_reads_through_staging_where_only_writable_pages_register() {
    let test = "ways::a_strict_session_reads_through_staging_where_only_writable_pages_register";
    strict(test, &[("REGISTER", "writable")], (0, ROUND));
}
