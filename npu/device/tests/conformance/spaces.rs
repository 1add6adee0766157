//! Checks of memory and copies.

use chariot_device::{
    BackendKind, CopyBatch, DeviceError, DeviceStatus, Direction, HostAccess, HostKind, HostMemory,
    Submission,
};

use crate::{Check, Kit, Outcome, bytes_of, pattern};

pub(crate) const CHECKS: &[Check] = &[
    ("a_card_is_described", a_card_is_described),
    ("a_thread_tells_its_card", a_thread_tells_its_card),
    (
        "cards_that_are_not_there_are_refused",
        cards_that_are_not_there_are_refused,
    ),
    (
        "a_round_trip_keeps_every_byte",
        a_round_trip_keeps_every_byte,
    ),
    (
        "a_batch_longer_than_a_call_is_cut",
        a_batch_longer_than_a_call_is_cut,
    ),
    (
        "direct_copies_take_pageable_memory",
        direct_copies_take_pageable_memory,
    ),
    (
        "streams_refuse_pageable_memory",
        streams_refuse_pageable_memory,
    ),
    (
        "ranges_that_leave_their_memory_are_refused",
        ranges_that_leave_their_memory_are_refused,
    ),
    ("memory_is_filled", memory_is_filled),
    ("copies_go_within_a_card", copies_go_within_a_card),
    ("copies_go_between_two_cards", copies_go_between_two_cards),
    (
        "writable_pages_are_registered",
        writable_pages_are_registered,
    ),
    (
        "read_only_pages_are_registered",
        read_only_pages_are_registered,
    ),
    (
        "memory_that_is_too_much_is_refused",
        memory_that_is_too_much_is_refused,
    ),
    ("what_is_freed_is_free_again", what_is_freed_is_free_again),
];

/// What is copied in and out by `how` is what it was.
fn round_trip(kit: &Kit, len: usize, pieces: usize, how: Submission) {
    let (stream, device) = (kit.stream(), kit.device.alloc(len).unwrap());
    let (from, to) = (kit.pinned(len, 7), kit.pinned(len, 8));
    let cut = |direction, host: &HostMemory| {
        let mut batch = CopyBatch::new(direction);
        for piece in 0..pieces {
            let (at, end) = (len * piece / pieces, len * (piece + 1) / pieces);
            batch.push((&device, at), (host, at), end - at).unwrap();
        }
        batch
    };
    stream
        .submit(cut(Direction::HostToDevice, &from), how)
        .unwrap();
    stream
        .submit(cut(Direction::DeviceToHost, &to), how)
        .unwrap();
    stream.wait(None).unwrap();
    assert!(
        bytes_of(&to) == pattern(len, 7),
        "{len} bytes in {pieces} by {how:?}"
    );
}

fn a_card_is_described(kit: &Kit) -> Outcome {
    assert!(kit.runtime.device_count().unwrap() >= 1);
    assert!(!kit.runtime.versions().is_empty());
    let capabilities = kit.device.capabilities();
    assert!(!capabilities.name.is_empty());
    assert!(capabilities.batch.entries_max >= 1);
    assert_eq!(kit.device.status(), Ok(DeviceStatus::Normal));
    let memory = kit.device.memory_use().unwrap();
    assert!(memory.free_bytes <= memory.total_bytes);
    Outcome::Ran
}

fn a_thread_tells_its_card(kit: &Kit) -> Outcome {
    // A thread of its own: no framework and no call has chosen a card for it.
    let runtime = kit.runtime.clone();
    let current = std::thread::spawn(move || runtime.current())
        .join()
        .unwrap();
    let none = match kit.runtime.kind() {
        BackendKind::Host => Some(0),
        BackendKind::Ascend | BackendKind::Cuda => None,
    };
    assert_eq!(current, Ok(none));
    Outcome::Ran
}

fn cards_that_are_not_there_are_refused(kit: &Kit) -> Outcome {
    let count = kit.runtime.device_count().unwrap();
    assert!(matches!(
        kit.runtime.open(count),
        Err(DeviceError::Misuse { .. })
    ));
    let again = kit.runtime.open(0).unwrap();
    assert_eq!(again.ordinal(), 0);
    Outcome::Ran
}

fn a_round_trip_keeps_every_byte(kit: &Kit) -> Outcome {
    for how in [Submission::Each, Submission::Batch] {
        for (len, pieces) in [
            (1, 1),
            (4095, 3),
            (72 << 10, 1),
            (1 << 20, 62),
            (5 << 20, 28),
        ] {
            round_trip(kit, len, pieces, how);
        }
    }
    Outcome::Ran
}

fn a_batch_longer_than_a_call_is_cut(kit: &Kit) -> Outcome {
    let pieces = kit.device.capabilities().batch.entries_max + 3;
    round_trip(kit, pieces * 8, pieces, Submission::Batch);
    Outcome::Ran
}

fn direct_copies_take_pageable_memory(kit: &Kit) -> Outcome {
    let len = 300_000;
    let device = kit.device.alloc(len).unwrap();
    let from = HostMemory::pageable(pattern(len, 3));
    let to = HostMemory::pageable(vec![0; len]);
    assert_eq!(from.kind(), HostKind::Pageable);
    let mut batch = CopyBatch::new(Direction::HostToDevice);
    for at in (0..len).step_by(100_000) {
        batch.push((&device, at), (&from, at), 100_000).unwrap();
    }
    assert!(batch.is_pageable());
    kit.device.copy_now(batch).unwrap();
    let mut batch = CopyBatch::new(Direction::DeviceToHost);
    batch.push((&device, 0), (&to, 0), len).unwrap();
    kit.device.copy_now(batch).unwrap();
    assert!(bytes_of(&to) == pattern(len, 3));
    Outcome::Ran
}

fn streams_refuse_pageable_memory(kit: &Kit) -> Outcome {
    let device = kit.device.alloc(64).unwrap();
    let mut batch = CopyBatch::new(Direction::HostToDevice);
    batch
        .push((&device, 0), (&HostMemory::pageable(vec![0; 64]), 0), 64)
        .unwrap();
    let refused = kit.stream().submit(batch, Submission::Each);
    assert!(
        matches!(refused, Err(DeviceError::Misuse { .. })),
        "{refused:?}"
    );
    Outcome::Ran
}

fn ranges_that_leave_their_memory_are_refused(kit: &Kit) -> Outcome {
    let (device, host) = (kit.device.alloc(64).unwrap(), kit.pinned(64, 1));
    let mut batch = CopyBatch::new(Direction::HostToDevice);
    for (device_at, host_at, len) in [(1, 0, 64), (0, 1, 64), (65, 0, 0), (usize::MAX, 0, 2)] {
        let refused = batch.push((&device, device_at), (&host, host_at), len);
        assert!(
            matches!(refused, Err(DeviceError::Misuse { .. })),
            "{refused:?}"
        );
    }
    batch.push((&device, 64), (&host, 64), 0).unwrap();
    assert!(batch.is_empty());
    assert!(batch.push_local((&device, 0), (&device, 0), 1).is_err());
    kit.stream().submit(batch, Submission::Batch).unwrap();
    Outcome::Ran
}

fn memory_is_filled(kit: &Kit) -> Outcome {
    let (stream, device, host) = (
        kit.stream(),
        kit.device.alloc(999).unwrap(),
        kit.pinned(999, 1),
    );
    stream.fill(&device, 0x3C).unwrap();
    let mut batch = CopyBatch::new(Direction::DeviceToHost);
    batch.push((&device, 0), (&host, 0), 999).unwrap();
    stream.submit(batch, Submission::Each).unwrap();
    stream.wait(None).unwrap();
    assert_eq!(bytes_of(&host), [0x3C; 999]);
    Outcome::Ran
}

fn copies_go_within_a_card(kit: &Kit) -> Outcome {
    let len = 100_000;
    let (stream, host) = (kit.stream(), kit.pinned(len, 4));
    let blocks = [
        kit.device.alloc(len).unwrap(),
        kit.device.alloc(len).unwrap(),
    ];
    let back = kit.pinned(len, 5);
    let mut first = CopyBatch::new(Direction::HostToDevice);
    first.push((&blocks[0], 0), (&host, 0), len).unwrap();
    let mut within = CopyBatch::new(Direction::DeviceToDevice);
    within
        .push_local((&blocks[1], len / 2), (&blocks[0], 0), len / 2)
        .unwrap();
    within
        .push_local((&blocks[1], 0), (&blocks[0], len / 2), len / 2)
        .unwrap();
    let mut last = CopyBatch::new(Direction::DeviceToHost);
    last.push((&blocks[1], 0), (&back, 0), len).unwrap();
    for batch in [first, within, last] {
        stream.submit(batch, Submission::Batch).unwrap();
    }
    stream.wait(None).unwrap();
    let mut wanted = pattern(len, 4);
    wanted.rotate_left(len / 2);
    assert!(bytes_of(&back) == wanted);
    Outcome::Ran
}

fn copies_go_between_two_cards(kit: &Kit) -> Outcome {
    if kit.runtime.device_count().unwrap() < 2 {
        return Outcome::Skipped("one card");
    }
    let other = kit.runtime.open(1).unwrap();
    match (
        kit.device.enable_peer(&other),
        other.enable_peer(&kit.device),
    ) {
        (Ok(()), Ok(())) => {},
        (Err(DeviceError::Unsupported { .. }), _) => {
            return Outcome::Skipped("no way between them");
        },
        refused => panic!("{refused:?}"),
    }
    let len = 70_000;
    let (host, back) = (kit.pinned(len, 6), other.alloc_host(len).unwrap());
    let (here, there) = (kit.device.alloc(len).unwrap(), other.alloc(len).unwrap());
    let stream = kit.stream();
    let mut batch = CopyBatch::new(Direction::HostToDevice);
    batch.push((&here, 0), (&host, 0), len).unwrap();
    assert!(
        batch.push((&there, 0), (&host, 0), 1).is_err(),
        "two cards in one batch"
    );
    stream.submit(batch, Submission::Each).unwrap();
    let mut batch = CopyBatch::new(Direction::DeviceToDevice);
    batch.push_local((&there, 0), (&here, 0), len).unwrap();
    stream.submit(batch, Submission::Each).unwrap();
    stream.wait(None).unwrap();
    let mut batch = CopyBatch::new(Direction::DeviceToHost);
    batch.push((&there, 0), (&back, 0), len).unwrap();
    assert!(
        stream.submit(batch, Submission::Each).is_err(),
        "memory of another card"
    );
    let mut batch = CopyBatch::new(Direction::DeviceToHost);
    batch.push((&there, 0), (&back, 0), len).unwrap();
    let stream = other.stream().unwrap();
    stream.submit(batch, Submission::Each).unwrap();
    stream.wait(None).unwrap();
    assert!(bytes_of(&back) == pattern(len, 6));
    Outcome::Ran
}

/// Pages of this process, as the cache's arena is mapped.
fn pages(len: usize, access: HostAccess, fill: &[u8]) -> HostMemory {
    struct Mapping(usize, usize);
    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: a mapping of this test, which nobody uses any more.
            let code = unsafe { libc::munmap(self.0 as *mut libc::c_void, self.1) };
            assert_eq!(code, 0);
        }
    }
    // SAFETY: the name is a literal.
    let fd = unsafe { libc::memfd_create(c"pages".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: a descriptor that was just made.
    assert_eq!(unsafe { libc::ftruncate(fd, len.cast_signed() as i64) }, 0);
    let null = std::ptr::null_mut();
    // SAFETY: bytes of the test into a file of the test.
    let written = unsafe { libc::pwrite(fd, fill.as_ptr().cast(), fill.len(), 0) };
    assert_eq!(written, fill.len().cast_signed());
    let protection = match access {
        HostAccess::ReadOnly => libc::PROT_READ,
        HostAccess::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
    };
    // SAFETY: a new mapping.
    let at = unsafe { libc::mmap(null, len, protection, libc::MAP_SHARED, fd, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: the mapping holds the file.
    assert_eq!(unsafe { libc::close(fd) }, 0);
    let keep = std::sync::Arc::new(Mapping(at as usize, len));
    // SAFETY: mapped until the keep is dropped; nobody forms references.
    unsafe { HostMemory::foreign(at as usize, len, access, keep) }
}

/// Whole pages on every machine.
const PIECE: usize = 1 << 20;

fn writable_pages_are_registered(kit: &Kit) -> Outcome {
    if !kit.device.capabilities().register.writable {
        return Outcome::Skipped("no registration");
    }
    let arena = pages(4 * PIECE, HostAccess::ReadWrite, &pattern(4 * PIECE, 9));
    let piece = match kit.device.register(&arena, PIECE..3 * PIECE) {
        Ok(piece) => piece,
        Err(DeviceError::Unsupported { .. }) => return Outcome::Skipped("without effect here"),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(
        (piece.kind(), piece.len()),
        (HostKind::Registered, 2 * PIECE)
    );
    let twice = kit.device.register(&arena, PIECE..2 * PIECE);
    assert!(
        matches!(twice, Err(DeviceError::Misuse { .. })),
        "{twice:?}"
    );
    kit.device.register(&arena, 0..0).unwrap_err();
    let (stream, device) = (kit.stream(), kit.device.alloc(PIECE).unwrap());
    let mut batch = CopyBatch::new(Direction::HostToDevice);
    batch.push((&device, 0), (&piece, 0), PIECE).unwrap();
    stream.submit(batch, Submission::Batch).unwrap();
    let mut batch = CopyBatch::new(Direction::DeviceToHost);
    batch.push((&device, 0), (&piece, PIECE), PIECE).unwrap();
    stream.submit(batch, Submission::Batch).unwrap();
    stream.wait(None).unwrap();
    let all = bytes_of(&arena);
    assert!(all[PIECE..2 * PIECE] == all[2 * PIECE..3 * PIECE]);
    assert!(all[..2 * PIECE] == pattern(4 * PIECE, 9)[..2 * PIECE]);
    drop(piece);
    let whole = kit.device.register(&arena, 0..4 * PIECE).unwrap();
    assert_eq!(whole.len(), 4 * PIECE);
    Outcome::Ran
}

fn read_only_pages_are_registered(kit: &Kit) -> Outcome {
    if !kit.device.capabilities().register.readonly {
        return Outcome::Skipped("no registration of read-only pages");
    }
    let arena = pages(PIECE, HostAccess::ReadOnly, &pattern(PIECE, 10));
    let piece = match kit.device.register(&arena, 0..PIECE) {
        Ok(piece) => piece,
        Err(DeviceError::Unsupported { .. }) => return Outcome::Skipped("refused by this driver"),
        Err(error) => panic!("{error}"),
    };
    assert!(piece.write_at(0, &[1]).is_err());
    let (stream, device, back) = (
        kit.stream(),
        kit.device.alloc(PIECE).unwrap(),
        kit.pinned(PIECE, 1),
    );
    let mut batch = CopyBatch::new(Direction::DeviceToHost);
    assert!(
        batch.push((&device, 0), (&piece, 0), 1).is_err(),
        "a destination"
    );
    batch.push((&device, 0), (&back, 0), PIECE).unwrap();
    let mut first = CopyBatch::new(Direction::HostToDevice);
    first.push((&device, 0), (&piece, 0), PIECE).unwrap();
    stream.submit(first, Submission::Batch).unwrap();
    stream.submit(batch, Submission::Batch).unwrap();
    stream.wait(None).unwrap();
    assert!(bytes_of(&back) == pattern(PIECE, 10));
    Outcome::Ran
}

fn memory_that_is_too_much_is_refused(kit: &Kit) -> Outcome {
    let total = usize::try_from(kit.device.memory_use().unwrap().total_bytes).unwrap();
    let refused = kit.device.alloc(total + 1).err();
    assert_eq!(
        refused,
        Some(DeviceError::DeviceMemory {
            bytes: total as u64 + 1
        })
    );
    drop(kit.device.alloc(1 << 20).unwrap());
    Outcome::Ran
}

fn what_is_freed_is_free_again(kit: &Kit) -> Outcome {
    let before = kit.device.memory_use().unwrap().free_bytes;
    let block = kit.device.alloc(32 << 20).unwrap();
    let during = kit.device.memory_use().unwrap().free_bytes;
    drop(block);
    let after = kit.device.memory_use().unwrap().free_bytes;
    assert!(during < before, "{during} of {before}");
    assert!(after > during, "{after} of {during}");
    Outcome::Ran
}
