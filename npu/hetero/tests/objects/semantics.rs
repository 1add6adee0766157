//! What calls answer, on host memory in the place of a card's.

use std::time::Duration;

use chariot_client::{GetOptions, SetOptions, Status, WriteMode};
use chariot_hetero::{BlobList, HeteroClient, Stored};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, status_of};
use chariot_transfer::BlobTable;

use crate::rig::{Rig, borrow, empty, nothing, pattern, read};

fn set_options() -> SetOptions {
    SetOptions::default()
}

fn get_options() -> GetOptions {
    GetOptions::default()
}

#[test]
fn objects_of_all_shapes_come_back_over_both_transports() {
    let daemon = crate::rig::start();
    for (transport, client) in [
        ("local", crate::rig::connect(&daemon)),
        ("remote", daemon.remote()),
    ] {
        let rig = Rig::over(client, crate::rig::host());
        let many = vec![8; 4096];
        let shapes: [&[usize]; 5] = [
            &[1],
            &[72 << 10; 62],
            &[1 << 20; 3],
            &[1, 4096, 3, 70_000, 64],
            &many,
        ];
        let keys: Vec<Vec<u8>> = (0..shapes.len())
            .map(|number| format!("{transport}/{number}").into_bytes())
            .collect();
        let lists: Vec<BlobList> = (0..)
            .zip(shapes)
            .map(|(at, lens)| rig.filled(lens, at))
            .collect();
        let out = rig.hetero.mset_d2h(&borrow(&keys), &lists, &set_options());
        for outcome in out.unwrap() {
            assert_eq!(outcome.unwrap(), Stored::Written);
        }
        let back: Vec<BlobList> = shapes.iter().map(|lens| rig.empty(lens)).collect();
        let out = rig.hetero.mget_h2d(&borrow(&keys), &back, &get_options());
        for (seed, (outcome, list)) in (0..).zip(out.unwrap().into_iter().zip(&back)) {
            assert!(outcome.unwrap());
            rig.check(list, seed);
        }
        let meta = rig.hetero.get_meta_info(&borrow(&keys)).unwrap();
        for (meta, lens) in meta.into_iter().zip(shapes) {
            assert_eq!(meta.unwrap().unwrap(), lens);
        }
    }
}

#[test]
fn an_object_is_a_value_like_any_other() {
    let daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    rig.set(b"layers", &rig.filled(&[5, 4096], 7));
    let view = crate::rig::connect(&daemon)
        .view(b"layers")
        .unwrap()
        .unwrap();
    let table = BlobTable::parse(&view, view.len()).unwrap();
    assert_eq!(table.blobs(), [(64, 5), (69, 4096)]);
    for (number, (at, len)) in table.blobs().iter().copied().enumerate() {
        assert_eq!(&view[at..at + len], pattern(7, number, len));
    }
    assert!(view[24..64].iter().all(|byte| *byte == 0), "nobody's bytes");
    let stats = daemon.metrics();
    assert!(stats.total("chariot_entries") >= 1.0);
}

#[test]
fn a_key_that_has_a_value_keeps_it() {
    let daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    rig.set(b"kept", &rig.filled(&[4096; 2], 1));
    let other = rig.filled(&[4096; 2], 2);
    let fresh = rig.filled(&[100], 3);
    let keys: [&[u8]; 4] = [b"kept", b"fresh", b"fresh", b"kept"];
    let lists = [other.clone(), fresh, other.clone(), other];
    let out = rig.hetero.mset_d2h(&keys, &lists, &set_options()).unwrap();
    let out: Vec<Stored> = out.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        out,
        [
            Stored::Existed,
            Stored::Written,
            Stored::Existed,
            Stored::Existed
        ],
        "of equal keys the first is written"
    );
    let back = [rig.empty(&[4096; 2]), rig.empty(&[100])];
    let out = rig.hetero.mget_h2d(&keys[..2], &back, &get_options());
    assert!(out.unwrap().into_iter().all(Result::unwrap));
    rig.check(&back[0], 1);
    rig.check(&back[1], 3);
    assert!(rig.hetero.delete(&[b"kept"]).unwrap()[0].clone().unwrap());
    rig.set(b"kept", &lists[0]);
}

#[test]
fn misses_mismatches_and_strangers_fail_alone() {
    let daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    let client = crate::rig::connect(&daemon);
    client
        .set(b"stranger", b"no object", &set_options())
        .unwrap();
    client.set(b"tiny", b"x", &set_options()).unwrap();
    let corrupt = [&b"CHBT\x01\0\0\0"[..], &(1_u64 << 40).to_le_bytes()].concat();
    client.set(b"corrupt", &corrupt, &set_options()).unwrap();
    for key in [&b"right"[..], b"count", b"size"] {
        rig.set(key, &rig.filled(&[4096; 3], 9));
    }
    let keys: [&[u8]; 7] = [
        b"absent",
        b"count",
        b"size",
        b"stranger",
        b"tiny",
        b"corrupt",
        b"right",
    ];
    let three = rig.empty(&[4096; 3]);
    let wrong_size = rig.empty(&[4096, 4095, 4096]);
    let lists = [
        three.clone(),
        rig.empty(&[4096; 2]),
        wrong_size,
        three.clone(),
        three.clone(),
        three.clone(),
        three.clone(),
    ];
    let out = rig.hetero.mget_h2d(&keys, &lists, &get_options()).unwrap();
    assert!(!out[0].clone().unwrap(), "a miss is no error");
    let causes: Vec<String> = out[1..6]
        .iter()
        .map(|outcome| outcome.clone().unwrap_err().cause().to_owned())
        .collect();
    let count = "Blobs count mismatch in devBlobList between sender and receiver, sender count \
                 is: 3, receiver count is: 2";
    assert_eq!(causes[0], count);
    let size = "The data size of device and host is not equal.";
    assert!(causes[1].starts_with(size), "{}", causes[1]);
    assert!(causes[2].contains("no blob table"), "{}", causes[2]);
    assert!(causes[3].contains("no blob table"), "{}", causes[3]);
    assert!(causes[4].contains("end behind"), "{}", causes[4]);
    assert!(out[6].clone().unwrap());
    rig.check(&three, 9);
    let meta = rig
        .hetero
        .get_meta_info(&[b"absent", b"tiny", b"right"])
        .unwrap();
    assert_eq!(meta[0].clone().unwrap(), None);
    assert_eq!(
        meta[1].clone().unwrap_err().status(),
        Status::InvalidArgument
    );
    assert_eq!(meta[2].clone().unwrap().unwrap(), [4096; 3]);
}

#[test]
fn calls_that_make_no_sense_begin_nothing() {
    let daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    let list = rig.filled(&[64], 1);
    let set = |keys: &[&[u8]], lists: &[BlobList], options: &SetOptions| {
        let error = rig.hetero.mset_d2h(keys, lists, options).unwrap_err();
        (error.status(), error.cause().to_owned())
    };
    let (status, cause) = set(&[], &[], &set_options());
    assert_eq!(status, Status::InvalidArgument);
    assert_eq!(
        cause,
        "Got empty parameters : keys nums 0, blobList nums 0."
    );
    let two = [list.clone(), list.clone()];
    let (_, cause) = set(&[b"a"], &two, &set_options());
    assert_eq!(
        cause,
        "The size of objectKeys and devBlobList does not match"
    );
    let second = rig.hetero.accelerators().card(1).unwrap();
    let mixed = [list.clone(), empty(&second, &[64])];
    let (_, cause) = set(&[b"a", b"b"], &mixed, &set_options());
    assert_eq!(
        cause,
        "The input deviceIdx(1) is not the same as the deviceIdx which client used(0)."
    );
    for (mode, number) in [(WriteMode::WriteThrough, 1), (WriteMode::WriteBack, 2)] {
        let options = SetOptions {
            mode,
            ..set_options()
        };
        let (status, cause) = set(&[b"a"], &two[..1], &options);
        assert_eq!(status, Status::InvalidArgument);
        let words = format!("not support L2 CACHE write mode,current writeMode is {number}");
        assert_eq!(cause, words);
    }
    let many = vec![&b"k"[..]; 10_001];
    let lists = vec![list.clone(); 10_001];
    let (status, cause) = set(&many, &lists, &set_options());
    assert_eq!(status, Status::TooLarge);
    assert_eq!(cause, "The objectKeys size exceed 10000.");
    let range = GetOptions {
        offset: 1,
        ..get_options()
    };
    let lists = [list];
    assert_eq!(
        status_of(rig.hetero.mget_h2d(&[b"a"], &lists, &range)),
        Status::InvalidArgument
    );
    assert!(!rig.hetero.exist(&[b"a"]).unwrap()[0].clone().unwrap());
    let bad = rig.hetero.mset_d2h(&[b"not a key"], &lists, &set_options());
    assert_eq!(
        bad.unwrap()[0].clone().unwrap_err().status(),
        Status::KeyInvalid
    );
}

#[test]
fn lists_without_memory_are_refused() {
    let daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    let foreign = |ranges: &[(usize, usize)]| {
        // SAFETY: none of these lists is used.
        let list = unsafe { BlobList::foreign(rig.card.clone(), ranges, &nothing()) };
        list.map(|_list| ())
    };
    for bad in [&[][..], &[(0, 8)], &[(8, 0)], &[(usize::MAX, 8)]] {
        assert_eq!(status_of(foreign(bad)), Status::InvalidArgument, "{bad:?}");
    }
    let other = rig.hetero.accelerators().card(1).unwrap();
    let list = rig.empty(&[8]);
    let moved = BlobList::new(other, list.blobs().to_vec());
    assert_eq!(status_of(moved), Status::InvalidArgument);
    let missing = rig.hetero.accelerators().card(7);
    assert_eq!(status_of(missing), Status::InvalidArgument);
    let unset = rig.hetero.accelerators().card(-1).unwrap_err();
    assert_eq!(unset.cause(), "Please set deviceIdx in datainfo.");
}

#[test]
fn memory_of_the_host_is_a_card_of_its_own() {
    let daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    let device = rig.hetero.accelerators().host().unwrap();
    let mut bytes = pattern(3, 0, 100_000);
    let at = bytes.as_mut_ptr() as usize;
    // SAFETY: the vector stands until the end of the test and is not used during the calls.
    let list =
        unsafe { BlobList::foreign(device, &[(at, 40_000), (at + 50_000, 50_000)], &nothing()) };
    let list = [list.unwrap()];
    let out = rig.hetero.mset_d2h(&[b"tensor"], &list, &set_options());
    assert_eq!(out.unwrap()[0].clone().unwrap(), Stored::Written);
    bytes.fill(0);
    let out = rig.hetero.mget_h2d(&[b"tensor"], &list, &get_options());
    assert!(out.unwrap()[0].clone().unwrap());
    let mut wanted = pattern(3, 0, 100_000);
    wanted[40_000..50_000].fill(0);
    assert!(bytes == wanted);
}

#[test]
fn a_reader_waits_for_its_keys() {
    let daemon = crate::rig::start();
    let (reader, writer) = (Rig::on_host(&daemon), Rig::on_host(&daemon));
    let back = reader.empty(&[4096; 4]);
    let options = GetOptions {
        wait: Some(Duration::from_mins(1)),
        ..get_options()
    };
    let lists = vec![back.clone()];
    let keys = vec![Box::from(&b"later"[..])];
    let pending = reader.hetero.async_mget_h2d(keys, lists, options).unwrap();
    assert!(pending.wait(Duration::ZERO).is_none());
    writer.set(b"later", &writer.filled(&[4096; 4], 5));
    let out = pending.wait(Duration::from_mins(1)).unwrap().unwrap();
    assert!(out[0].clone().unwrap());
    reader.check(&back, 5);
}

#[test]
fn asynchronous_calls_answer_as_blocking_ones() {
    let daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    let mut pending = Vec::new();
    for number in 0..50_u64 {
        let key = Box::from(format!("async/{number}").as_bytes());
        let list = rig.filled(&[512; 8], number);
        pending.push(
            rig.hetero
                .async_mset_d2h(vec![key], vec![list], set_options())
                .unwrap(),
        );
    }
    for pending in &pending {
        let out = pending.wait(Duration::from_mins(1)).unwrap().unwrap();
        assert_eq!(out[0].clone().unwrap(), Stored::Written);
    }
    let back = rig.empty(&[512; 8]);
    let keys = vec![Box::from(&b"async/49"[..]), Box::from(&b"async/none"[..])];
    let lists = vec![back.clone(), back.clone()];
    let got = rig
        .hetero
        .async_mget_h2d(keys, lists, get_options())
        .unwrap();
    let out = got.wait(Duration::from_mins(1)).unwrap().unwrap();
    assert_eq!(
        (out[0].clone().unwrap(), out[1].clone().unwrap()),
        (true, false)
    );
    rig.check(&back, 49);
    let bad = rig
        .hetero
        .async_mset_d2h(Vec::new(), Vec::new(), set_options())
        .unwrap();
    let whole = bad.wait(Duration::from_mins(1)).unwrap();
    assert_eq!(status_of(whole), Status::InvalidArgument);
}

#[test]
fn calls_that_were_not_begun_are_answered_when_the_client_goes() {
    let daemon = crate::rig::start();
    let rig = Rig::on_host(&daemon);
    let wait = GetOptions {
        wait: Some(Duration::from_millis(300)),
        ..get_options()
    };
    let ask = |hetero: &HeteroClient| {
        let (keys, lists) = (vec![Box::from(&b"never"[..])], vec![rig.empty(&[8])]);
        hetero.async_mget_h2d(keys, lists, wait.clone()).unwrap()
    };
    let accelerators = rig.hetero.accelerators().clone();
    let hetero = HeteroClient::new(crate::rig::connect(&daemon), &accelerators).unwrap();
    let asked: Vec<_> = (0..3).map(|_| ask(&hetero)).collect();
    drop(hetero);
    for pending in asked {
        let out = pending
            .wait(Duration::ZERO)
            .expect("answered before the drop returned");
        assert!(out.is_err() || !out.unwrap()[0].clone().unwrap());
    }
}

#[test]
fn a_batch_larger_than_the_node_is_written_as_far_as_it_may_be() {
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib: 128,
        ..DaemonOptions::default()
    });
    let rig = Rig::on_host(&daemon);
    let list = rig.filled(&[1 << 20; 8], 6);
    let keys: Vec<Vec<u8>> = (0..40_u32)
        .map(|number| number.to_string().into_bytes())
        .collect();
    let lists = vec![list.clone(); 40];
    let evictable = SetOptions {
        mode: WriteMode::NoneEvict,
        deadline: Some(Duration::from_mins(1)),
        ..set_options()
    };
    let out = rig
        .hetero
        .mset_d2h(&borrow(&keys), &lists, &evictable)
        .unwrap();
    for (number, outcome) in out.into_iter().enumerate() {
        assert_eq!(outcome.unwrap(), Stored::Written, "object {number}");
    }
    drop(rig.hetero.delete(&borrow(&keys)).unwrap());
    let kept = SetOptions {
        mode: WriteMode::None,
        deadline: Some(Duration::from_secs(3)),
        ..set_options()
    };
    let out = rig.hetero.mset_d2h(&borrow(&keys), &lists, &kept).unwrap();
    let written = out.iter().filter(|outcome| outcome.is_ok()).count();
    assert!((4..=15).contains(&written), "{written} of 40 in 128 MiB");
    for (key, outcome) in keys.iter().zip(&out) {
        let back = rig.empty(&[1 << 20; 8]);
        let got = rig
            .hetero
            .mget_h2d(&[key], std::slice::from_ref(&back), &get_options());
        let got = got.unwrap()[0].clone().unwrap();
        assert_eq!(got, outcome.is_ok(), "who failed has nothing");
        match outcome {
            Ok(_) => rig.check(&back, 6),
            Err(error) => assert!(
                matches!(error.status(), Status::OutOfMemory | Status::Timeout),
                "{error}"
            ),
        }
    }
    drop(rig.hetero.delete(&borrow(&keys)).unwrap());
    rig.set(b"again", &list);
    assert!(read(&rig.card, &list.blobs()[0].memory) == pattern(6, 0, 1 << 20));
}
