//! Bounds, deadlines, cancelling, and objects that are none.

use std::time::{Duration, Instant};

use chariot_device::{Direction, HostMemory};
use chariot_transfer::{
    Arena, CoreOptions, DeviceCore, Fragment, HostRange, ObjectCopy, Path, Submit, Transfer,
    TransferError,
};

use crate::{core, host, in_time, object, pageable, pinned, submit};

#[test]
fn a_transfer_beyond_the_queue_is_given_back() {
    let core = core(&host(), None);
    let arena = pinned(core.device(), 64);
    let one = object(core.device(), &arena, 1, 64);
    let objects = vec![one; 16_385];
    let transfer = Transfer {
        direction: Direction::HostToDevice,
        objects,
        deadline: in_time(),
    };
    match core.try_submit(transfer) {
        Submit::Full(transfer) => assert_eq!(transfer.objects.len(), 16_385),
        Submit::Accepted(_) => panic!("more parts than the queue holds"),
    }
    assert_eq!(core.probe().full(), 1);
}

#[test]
fn many_small_objects_are_moved_in_few_batches() {
    let core = core(&host(), None);
    let arena = pinned(core.device(), 64 * 1000);
    let whole = object(core.device(), &arena, 1000, 64);
    let objects = whole.fragments.iter().map(|fragment| {
        let host = HostRange {
            arena: std::sync::Arc::clone(&arena),
            at: fragment.offset,
            len: 64,
        };
        ObjectCopy {
            host,
            fragments: vec![Fragment {
                offset: 0,
                ..fragment.clone()
            }],
        }
    });
    let handle = submit(&core, Direction::HostToDevice, objects.collect(), in_time());
    assert!(handle.wait().iter().all(Result::is_ok));
    let batches = core.probe().path(Path::Queued).batches();
    assert!((1..=4).contains(&batches), "{batches}");
}

#[test]
fn wrong_objects_fail_alone() {
    let core = core(&host(), None);
    let arena = pinned(core.device(), 4096);
    let good = object(core.device(), &arena, 4, 1024);
    let spoilt = |spoil: &dyn Fn(&mut ObjectCopy)| {
        let mut object = good.clone();
        spoil(&mut object);
        object
    };
    let objects = vec![
        good.clone(),
        spoilt(&|object| object.host.len = 4097),
        spoilt(&|object| object.host.at = usize::MAX),
        spoilt(&|object| object.fragments[1].offset = 512),
        spoilt(&|object| object.fragments[3].offset = 3073),
        spoilt(&|object| object.fragments[2].device_at = 1),
        spoilt(&|object| object.fragments[0].len = usize::MAX),
        spoilt(&|object| object.fragments.clear()),
        good.clone(),
    ];
    let outcomes = submit(&core, Direction::DeviceToHost, objects, in_time()).wait();
    let invalid =
        |outcome: &Result<(), TransferError>| matches!(outcome, Err(TransferError::Invalid(_)));
    let bad: Vec<usize> = (0..9).filter(|at| invalid(&outcomes[*at])).collect();
    assert_eq!(bad, [1, 2, 3, 4, 5, 6], "{outcomes:?}");
    assert!(
        [0, 7, 8].iter().all(|at| outcomes[*at].is_ok()),
        "{outcomes:?}"
    );
}

#[test]
fn what_comes_late_is_not_begun() {
    let core = core(&host(), None);
    let arena = pinned(core.device(), 1024);
    let objects = vec![object(core.device(), &arena, 1, 1024)];
    let handle = submit(&core, Direction::HostToDevice, objects, Instant::now());
    assert_eq!(handle.wait(), [Err(TransferError::Deadline)]);
}

#[test]
fn a_cancelled_transfer_ends_and_the_core_goes_on() {
    let core = core(&host(), None);
    let arena = pageable(4 << 20);
    let objects = vec![object(core.device(), &arena, 4, 1 << 20); 50];
    let handle = submit(&core, Direction::HostToDevice, objects.clone(), in_time());
    handle.cancel();
    let outcomes = handle.wait();
    let known = |outcome: &Result<(), TransferError>| {
        matches!(outcome, Ok(()) | Err(TransferError::Cancelled))
    };
    assert!(outcomes.iter().all(known), "{outcomes:?}");
    let again = submit(
        &core,
        Direction::HostToDevice,
        objects[..1].to_vec(),
        in_time(),
    );
    assert_eq!(again.wait(), [Ok(())]);
}

#[test]
fn stopping_gives_every_transfer_its_outcome() {
    let core = core(&host(), None);
    let arena = pageable(4 << 20);
    let objects = vec![object(core.device(), &arena, 4, 1 << 20); 200];
    let handle = submit(&core, Direction::DeviceToHost, objects, in_time());
    drop(core);
    assert!(handle.is_done());
    let outcomes = handle.wait();
    assert!(
        outcomes.contains(&Err(TransferError::Cancelled)),
        "{:?}",
        outcomes.last()
    );
}

#[test]
fn both_directions_move_at_once() {
    let core = core(&host(), None);
    let arena = pageable(8 << 20);
    let objects = vec![object(core.device(), &arena, 8, 1 << 20); 20];
    let into = submit(&core, Direction::HostToDevice, objects, in_time());
    let back = pageable(8 << 20);
    let objects = vec![object(core.device(), &back, 8, 1 << 20)];
    let out = submit(&core, Direction::DeviceToHost, objects, in_time());
    assert_eq!(out.wait(), [Ok(())]);
    assert!(into.wait().iter().all(Result::is_ok));
}

#[test]
fn a_core_measures_its_card() {
    let device = host().open(0).unwrap();
    let core = DeviceCore::start(device, CoreOptions::default()).unwrap();
    let model = core.model();
    println!("host backend, measured: {model:?}");
    assert!(
        model.bytes_per_ns.iter().all(|rate| *rate > 0.01),
        "{model:?}"
    );
    assert!(model.queued.is_some() && model.direct.is_some());
    let begun = Instant::now();
    drop(core);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_slot_smaller_than_an_object_is_used_again_and_again() {
    let core = core(&host(), None);
    let bytes: Vec<u8> = (0..(20_usize << 20)).map(|at| (at % 251) as u8).collect();
    let arena = Arena::as_given(HostMemory::pageable(bytes.clone()));
    let whole = object(core.device(), &arena, 1, 20 << 20);
    let handle = submit(
        &core,
        Direction::HostToDevice,
        vec![whole.clone()],
        in_time(),
    );
    assert_eq!(handle.wait(), [Ok(())]);
    arena.memory().write_at(0, &vec![0; 20 << 20]).unwrap();
    let handle = submit(&core, Direction::DeviceToHost, vec![whole], in_time());
    assert_eq!(handle.wait(), [Ok(())]);
    let mut found = vec![0; 20 << 20];
    arena.memory().read_at(0, &mut found).unwrap();
    assert!(found == bytes);
    assert_eq!(core.probe().staged_bytes(), 40 << 20);
}

#[test]
#[ignore = "long: make test-long, which optimises"]
fn the_lanes_cost_less_than_a_core_at_the_speed_of_the_link() {
    /// The `a3` preset's link: nanoseconds of an object of 62 fragments of 72 KiB.
    const LINK_NS: u64 = 62 * (72 << 10) * 1000 / 39_000;
    // Copies are made by the backend's own threads, so that lanes pay for their own work alone.
    let core = core(&host(), Some(Path::Queued));
    let arena = pinned(core.device(), 62 * (72 << 10));
    let objects = vec![object(core.device(), &arena, 62, 72 << 10); 32];
    let rounds = 5;
    for direction in [Direction::HostToDevice, Direction::DeviceToHost] {
        for _ in 0..rounds {
            let handle = submit(&core, direction, objects.clone(), in_time());
            assert!(handle.wait().iter().all(Result::is_ok));
        }
    }
    // A lane counts a batch when it has told its outcomes: ending the core ends the lanes.
    let per_key = core.probe().cpu_ns() / (2 * 32 * rounds);
    println!("{per_key} ns of lanes an object, {LINK_NS} ns of a link each way");
    assert!(
        2 * per_key < LINK_NS,
        "both directions at once: {per_key} ns of {LINK_NS}"
    );
}
