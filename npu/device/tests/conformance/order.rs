//! Checks of streams, events, threads, and of what is held for how long.

use std::time::{Duration, Instant};

use chariot_device::{CopyBatch, DeviceError, DeviceMemory, Direction, HostMemory, Submission};

use crate::{Check, Kit, Outcome, bytes_of, pattern};

const LEN: usize = 1 << 20;

pub(crate) const CHECKS: &[Check] = &[
    ("a_stream_keeps_its_order", a_stream_keeps_its_order),
    ("an_event_orders_two_streams", an_event_orders_two_streams),
    (
        "an_event_is_reached_after_its_stream",
        an_event_is_reached_after_its_stream,
    ),
    (
        "events_without_a_mark_are_refused",
        events_without_a_mark_are_refused,
    ),
    ("a_wait_has_a_limit", a_wait_has_a_limit),
    ("memory_outlives_its_copies", memory_outlives_its_copies),
    ("a_dropped_stream_is_drained", a_dropped_stream_is_drained),
    ("any_thread_may_use_a_card", any_thread_may_use_a_card),
    ("a_thread_may_use_two_cards", a_thread_may_use_two_cards),
    (
        "an_aborted_stream_serves_again",
        an_aborted_stream_serves_again,
    ),
    ("many_streams_run_at_once", many_streams_run_at_once),
];

pub(crate) fn copy_in(device: &DeviceMemory, host: &HostMemory) -> CopyBatch {
    let mut batch = CopyBatch::new(Direction::HostToDevice);
    batch.push((device, 0), (host, 0), host.len()).unwrap();
    batch
}

pub(crate) fn copy_out(device: &DeviceMemory, host: &HostMemory) -> CopyBatch {
    let mut batch = CopyBatch::new(Direction::DeviceToHost);
    batch.push((device, 0), (host, 0), host.len()).unwrap();
    batch
}

fn a_stream_keeps_its_order(kit: &Kit) -> Outcome {
    let (stream, device, back) = (
        kit.stream(),
        kit.device.alloc(LEN).unwrap(),
        kit.pinned(LEN, 0),
    );
    for seed in 1..=20 {
        stream
            .submit(copy_in(&device, &kit.pinned(LEN, seed)), Submission::Each)
            .unwrap();
    }
    stream
        .submit(copy_out(&device, &back), Submission::Each)
        .unwrap();
    stream.wait(None).unwrap();
    assert!(bytes_of(&back) == pattern(LEN, 20));
    assert_eq!(stream.is_idle(), Ok(true));
    Outcome::Ran
}

fn an_event_orders_two_streams(kit: &Kit) -> Outcome {
    let (first, second) = (kit.stream(), kit.stream());
    let (device, back) = (kit.device.alloc(LEN).unwrap(), kit.pinned(LEN, 0));
    let event = kit.device.event().unwrap();
    for seed in 1..=5 {
        first
            .submit(copy_in(&device, &kit.pinned(LEN, seed)), Submission::Each)
            .unwrap();
        first.record(&event).unwrap();
        second.wait_event(&event).unwrap();
        second
            .submit(copy_out(&device, &back), Submission::Each)
            .unwrap();
        second.wait(None).unwrap();
        assert!(bytes_of(&back) == pattern(LEN, seed), "round {seed}");
    }
    first.wait(None).unwrap();
    Outcome::Ran
}

fn an_event_is_reached_after_its_stream(kit: &Kit) -> Outcome {
    let (stream, event) = (kit.stream(), kit.device.event().unwrap());
    let (device, host) = (kit.device.alloc(LEN).unwrap(), kit.pinned(LEN, 1));
    stream
        .submit(copy_in(&device, &host), Submission::Batch)
        .unwrap();
    stream.record(&event).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while !event.is_reached().unwrap() {
        assert!(Instant::now() < until, "an event that is never reached");
        std::thread::yield_now();
    }
    stream.wait(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(event.is_reached(), Ok(true));
    Outcome::Ran
}

fn events_without_a_mark_are_refused(kit: &Kit) -> Outcome {
    let (stream, event) = (kit.stream(), kit.device.event().unwrap());
    assert!(matches!(
        event.is_reached(),
        Err(DeviceError::Misuse { .. })
    ));
    assert!(matches!(
        stream.wait_event(&event),
        Err(DeviceError::Misuse { .. })
    ));
    Outcome::Ran
}

fn a_wait_has_a_limit(kit: &Kit) -> Outcome {
    let (stream, device, host) = (
        kit.stream(),
        kit.device.alloc(LEN).unwrap(),
        kit.pinned(LEN, 1),
    );
    for _ in 0..50 {
        stream
            .submit(copy_in(&device, &host), Submission::Each)
            .unwrap();
    }
    match stream.wait(Some(Duration::from_micros(1))) {
        Ok(()) | Err(DeviceError::Timeout { .. }) => {},
        Err(error) => panic!("{error}"),
    }
    stream.wait(Some(Duration::from_mins(1))).unwrap();
    assert_eq!(stream.wait(None), Ok(()), "nothing to wait for");
    Outcome::Ran
}

fn memory_outlives_its_copies(kit: &Kit) -> Outcome {
    let (stream, back) = (kit.stream(), kit.pinned(LEN, 0));
    {
        let (device, host) = (kit.device.alloc(LEN).unwrap(), kit.pinned(LEN, 2));
        stream
            .submit(copy_in(&device, &host), Submission::Each)
            .unwrap();
        stream
            .submit(copy_out(&device, &back), Submission::Each)
            .unwrap();
        // Both sides go out of scope with copies under way.
    }
    drop(kit.pinned(LEN, 99));
    stream.wait(None).unwrap();
    assert!(bytes_of(&back) == pattern(LEN, 2));
    Outcome::Ran
}

fn a_dropped_stream_is_drained(kit: &Kit) -> Outcome {
    let (device, back) = (kit.device.alloc(LEN).unwrap(), kit.pinned(LEN, 0));
    let stream = kit.stream();
    stream
        .submit(copy_in(&device, &kit.pinned(LEN, 3)), Submission::Each)
        .unwrap();
    stream
        .submit(copy_out(&device, &back), Submission::Each)
        .unwrap();
    drop(stream);
    assert!(bytes_of(&back) == pattern(LEN, 3));
    Outcome::Ran
}

fn any_thread_may_use_a_card(kit: &Kit) -> Outcome {
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let (stream, back) = (kit.stream(), kit.pinned(LEN, 0));
                let device = kit.device.alloc(LEN).unwrap();
                for round in 0..5 {
                    let seed = seed * 100 + round;
                    let host = kit.pinned(LEN, seed);
                    stream
                        .submit(copy_in(&device, &host), Submission::Batch)
                        .unwrap();
                    stream
                        .submit(copy_out(&device, &back), Submission::Batch)
                        .unwrap();
                    stream.wait(None).unwrap();
                    assert!(bytes_of(&back) == pattern(LEN, seed));
                }
            });
        }
    });
    Outcome::Ran
}

fn a_thread_may_use_two_cards(kit: &Kit) -> Outcome {
    if kit.runtime.device_count().unwrap() < 2 {
        return Outcome::Skipped("one card");
    }
    let other = kit.runtime.open(1).unwrap();
    let (streams, host) = ([kit.stream(), other.stream().unwrap()], kit.pinned(LEN, 12));
    let backs = [kit.pinned(LEN, 0), kit.pinned(LEN, 1)];
    let blocks = [kit.device.alloc(LEN).unwrap(), other.alloc(LEN).unwrap()];
    for (stream, block) in streams.iter().zip(&blocks) {
        stream
            .submit(copy_in(block, &host), Submission::Each)
            .unwrap();
    }
    for ((stream, block), back) in streams.iter().zip(&blocks).zip(&backs) {
        stream
            .submit(copy_out(block, back), Submission::Each)
            .unwrap();
    }
    for stream in &streams {
        stream.wait(None).unwrap();
    }
    assert!(backs.iter().all(|back| bytes_of(back) == pattern(LEN, 12)));
    Outcome::Ran
}

fn an_aborted_stream_serves_again(kit: &Kit) -> Outcome {
    if !kit.device.capabilities().abort {
        return Outcome::Skipped("streams cannot be aborted");
    }
    let (stream, device, back) = (
        kit.stream(),
        kit.device.alloc(LEN).unwrap(),
        kit.pinned(LEN, 0),
    );
    for seed in 0..30 {
        stream
            .submit(copy_in(&device, &kit.pinned(LEN, seed)), Submission::Each)
            .unwrap();
    }
    stream.abort().unwrap();
    assert_eq!(stream.is_idle(), Ok(true));
    stream
        .submit(copy_in(&device, &kit.pinned(LEN, 77)), Submission::Each)
        .unwrap();
    stream
        .submit(copy_out(&device, &back), Submission::Each)
        .unwrap();
    stream.wait(None).unwrap();
    assert!(bytes_of(&back) == pattern(LEN, 77));
    Outcome::Ran
}

fn many_streams_run_at_once(kit: &Kit) -> Outcome {
    let len = 64 << 10;
    let work: Vec<_> = (0..16)
        .map(|seed| {
            let (stream, device) = (kit.stream(), kit.device.alloc(len).unwrap());
            let back = kit.pinned(len, 0);
            stream
                .submit(copy_in(&device, &kit.pinned(len, seed)), Submission::Each)
                .unwrap();
            stream
                .submit(copy_out(&device, &back), Submission::Each)
                .unwrap();
            (seed, stream, back)
        })
        .collect();
    for (seed, stream, back) in &work {
        stream.wait(None).unwrap();
        assert!(bytes_of(back) == pattern(len, *seed));
    }
    Outcome::Ran
}
