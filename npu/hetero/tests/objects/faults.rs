//! Faults under a real daemon: the right answer for the right keys in time, everything given back,
//! and the process goes on.

use std::time::{Duration, Instant};

use chariot_client::{GetOptions, SetOptions, Status};
use chariot_device::DeviceStatus;
use chariot_hetero::{BlobList, HeteroClient, Stored};
use chariot_tests_node::daemon::Daemon;
use chariot_tests_node::wait;

use crate::process::{ascend, is_alone};
use crate::rig::{Rig, borrow, empty};

fn keys(count: u32) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| format!("fault/{number}").into_bytes())
        .collect()
}

/// Nothing is leased any more once the client is gone.
fn assert_all_given_back(daemon: &Daemon, rig: Rig) {
    drop(rig);
    wait::within(
        Duration::from_mins(1),
        "the session's memory is back",
        || {
            let metrics = daemon.metrics();
            metrics.total("chariot_sessions_local") == 0.0
                && metrics.total("chariot_lease_bytes") == 0.0
        },
    );
}

/// Every object that a call said was written is there, and no other.
fn check_all(rig: &Rig, keys: &[Vec<u8>], written: &[bool], seed: u64, lens: &[usize]) {
    for (key, written) in keys.iter().zip(written) {
        let back = [rig.empty(lens)];
        let got = rig
            .hetero
            .mget_h2d(&[key], &back, &GetOptions::default())
            .unwrap();
        assert_eq!(got[0].clone().unwrap(), *written);
        if *written {
            rig.check(&back[0], seed);
        }
    }
}

#[test]
fn a_card_lost_in_the_middle_fails_what_was_not_written() {
    let test = "faults::a_card_lost_in_the_middle_fails_what_was_not_written";
    // Groups are of 8 objects: the loss comes in one of the first.
    if is_alone(test, &[("FAULTS", "lost:0:3")]) {
        let daemon = crate::rig::start();
        let rig = Rig::over(crate::rig::connect(&daemon), ascend());
        let keys = keys(60);
        let list = rig.filled(&[1 << 20], 1);
        let begun = Instant::now();
        let lists = vec![list; 60];
        let out = rig
            .hetero
            .mset_d2h(&borrow(&keys), &lists, &SetOptions::default())
            .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30));
        let written: Vec<bool> = out.iter().map(Result::is_ok).collect();
        assert!(written.contains(&false));
        for error in out.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(error.status(), Status::Internal, "{error}");
            assert!(error.cause().contains("device lost"), "{error}");
        }
        assert_eq!(rig.card.status(), Ok(DeviceStatus::Lost));
        let metas = rig.hetero.get_meta_info(&borrow(&keys)).unwrap();
        for (meta, written) in metas.iter().zip(&written) {
            assert_eq!(meta.clone().unwrap().is_some(), *written);
        }
        // The other cards go on, with what was written.
        let other = rig.hetero.accelerators().card(1).unwrap();
        let read = [empty(&other, &[1 << 20])];
        for (key, written) in keys.iter().zip(&written) {
            let got = rig.hetero.mget_h2d(&[key], &read, &GetOptions::default());
            assert_eq!(got.unwrap()[0].clone().unwrap(), *written);
        }
        assert_all_given_back(&daemon, rig);
    }
}

#[test]
fn a_copy_that_hangs_costs_its_key_and_no_more_than_the_deadline() {
    let test = "faults::a_copy_that_hangs_costs_its_key_and_no_more_than_the_deadline";
    if is_alone(test, &[("FAULTS", "hang:0:1")]) {
        let daemon = crate::rig::start();
        let rig = Rig::over(crate::rig::connect(&daemon), ascend());
        let list = [rig.empty(&[4096; 4])];
        let options = SetOptions {
            deadline: Some(Duration::from_millis(300)),
            ..SetOptions::default()
        };
        let begun = Instant::now();
        let out = rig.hetero.mset_d2h(&[b"hung"], &list, &options).unwrap();
        assert_eq!(out[0].clone().unwrap_err().status(), Status::Timeout);
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(!rig.hetero.exist(&[b"hung"]).unwrap()[0].clone().unwrap());
        let list = rig.filled(&[4096; 4], 4);
        rig.set(b"hung", &list);
        check_all(&rig, &[b"hung".to_vec()], &[true], 4, &[4096; 4]);
        assert_all_given_back(&daemon, rig);
    }
}

#[test]
fn a_full_card_and_failing_tasks_cost_no_object() {
    let test = "faults::a_full_card_and_failing_tasks_cost_no_object";
    // Room for the objects, none to gather in; a task that fails once.
    let faults = "oom:0:12582912,task:0:3:507899";
    if is_alone(test, &[("FAULTS", faults)]) {
        let daemon = crate::rig::start();
        let rig = Rig::over(crate::rig::connect(&daemon), ascend());
        let (keys, lens) = (keys(12), [16 << 10; 20]);
        let list = rig.filled(&lens, 8);
        let lists = vec![list; 12];
        let out = rig
            .hetero
            .mset_d2h(&borrow(&keys), &lists, &SetOptions::default())
            .unwrap();
        let written: Vec<bool> = out.iter().map(Result::is_ok).collect();
        assert!(written.iter().filter(|written| **written).count() >= 11);
        check_all(&rig, &keys, &written, 8, &lens);
        assert_all_given_back(&daemon, rig);
    }
}

#[test]
fn a_card_without_memory_to_lock_is_told_for_each_key() {
    let test = "faults::a_card_without_memory_to_lock_is_told_for_each_key";
    if is_alone(test, &[("PINNED_BYTES", "65536")]) {
        let daemon = crate::rig::start();
        let rig = Rig::over(crate::rig::connect(&daemon), ascend());
        let lists = vec![rig.empty(&[4096]); 2];
        let keys: [&[u8]; 2] = [b"one", b"two"];
        let out = rig.hetero.mset_d2h(&keys, &lists, &SetOptions::default());
        for outcome in out.unwrap() {
            assert_eq!(outcome.unwrap_err().status(), Status::OutOfMemory);
        }
        assert_all_given_back(&daemon, rig);
    }
}

/// Writes until the daemon is killed from another thread, then until it is back.
#[test]
fn a_daemon_killed_in_the_middle_is_a_miss_and_then_is_back() {
    let mut daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    let lens = [256 << 10; 4];
    let list = rig.filled(&lens, 2);
    let keys = keys(2_000);
    let writer =
        HeteroClient::new(crate::rig::connect(&daemon), rig.hetero.accelerators()).unwrap();
    let owned: Vec<Box<[u8]>> = keys.iter().map(|key| key.as_slice().into()).collect();
    let lists: Vec<BlobList> = vec![list.clone(); keys.len()];
    let options = SetOptions {
        deadline: Some(Duration::from_secs(20)),
        ..SetOptions::default()
    };
    let pending = writer.async_mset_d2h(owned, lists, options).unwrap();
    wait::within(Duration::from_mins(1), "some are written", || {
        rig.hetero.exist(&[&keys[5]]).unwrap()[0].clone().unwrap()
    });
    daemon.kill();
    let begun = Instant::now();
    let out = pending.wait(Duration::from_mins(2)).unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(out[0].clone().unwrap(), Stored::Written);
    for error in out.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let status = error.status();
        let right = matches!(status, Status::Restarting | Status::Timeout);
        assert!(right, "{error}");
    }
    let back = [rig.empty(&lens)];
    let miss = rig
        .hetero
        .mget_h2d(&[&keys[0]], &back, &GetOptions::default())
        .unwrap();
    assert!(!miss[0].clone().unwrap(), "a daemon that is away is a miss");
    daemon.restart();
    wait::within(Duration::from_mins(1), "the client is back", || {
        let lists = [list.clone()];
        let out = rig
            .hetero
            .mset_d2h(&[b"back"], &lists, &SetOptions::default())
            .unwrap();
        out[0].is_ok()
    });
    let out = rig
        .hetero
        .mget_h2d(&[b"back"], &back, &GetOptions::default());
    assert!(out.unwrap()[0].clone().unwrap());
    rig.check(&back[0], 2);
    drop(writer);
    assert_all_given_back(&daemon, rig);
}

/// What a card was copying from when the daemon died stays readable: no crash, right bytes.
#[test]
fn a_daemon_killed_under_a_reader_crashes_nobody() {
    let mut daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    let lens = [1 << 20; 8];
    rig.set(b"big", &rig.filled(&lens, 3));
    let back = rig.empty(&lens);
    let read = |hetero: &HeteroClient| {
        let (keys, lists) = (vec![Box::from(&b"big"[..])], vec![back.clone()]);
        hetero
            .async_mget_h2d(keys, lists, GetOptions::default())
            .unwrap()
    };
    let asked: Vec<_> = (0..40).map(|_| read(&rig.hetero)).collect();
    daemon.kill();
    let mut hits = 0;
    for pending in asked {
        let out = pending.wait(Duration::from_mins(1)).unwrap().unwrap();
        hits += u32::from(out[0].clone().unwrap());
    }
    println!("{hits} of 40 were read");
    if hits > 0 {
        rig.check(&back, 3);
    }
}
