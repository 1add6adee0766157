//! The rings on real shared memory: order, wrapping, and clients that write nonsense.

use crate::layout::{
    BYTE_RING_SIZE, KEY_MAX, PAYLOAD_MAX, RING_ENTRIES, pin_word, ro, ro_area, rw, rw_area,
};
use crate::ring::words::{high, low};
use crate::ring::{
    ClientRing, CompletionFlags, CompletionWords, Full, RingError, ServerRing, SubmissionFlags,
    SubmissionWords,
};
use crate::session::{ClientSession, ServerSession, SessionGeometry};
use crate::sync::Memory;
use crate::{MappedMemory, Mapping, PinScan, PinSet};

/// Both ends of one session on shard 1 of 2, and the memory that a hostile client would write.
struct Pair {
    client: ClientRing,
    server: ServerRing,
    hostile: MappedMemory,
}

const SHARD: u16 = 1;

fn pair() -> Pair {
    let geometry = SessionGeometry::new(2);
    let (daemon, descriptors) = ServerSession::create(geometry, 77).unwrap();
    let session = ClientSession::attach(descriptors.read_write(), descriptors.read_only()).unwrap();
    let mapping = Mapping::read_write(descriptors.read_write(), 0, geometry.rw_size()).unwrap();
    Pair {
        client: session.ring(SHARD).unwrap(),
        server: daemon.ring(SHARD).unwrap(),
        hostile: MappedMemory::new(mapping),
    }
}

fn set(token: u32, key: &[u8], value: &[u8]) -> (SubmissionWords, Vec<u8>) {
    let words = SubmissionWords {
        opcode: 1,
        flags: SubmissionFlags::VALUE_INLINE,
        key_len: u16::try_from(key.len()).unwrap(),
        len: value.len() as u64,
        token,
        ..SubmissionWords::default()
    };
    (words, [key, value].concat())
}

/// What the key's bytes of a request are; the value's are its complement.
fn mark(token: u32) -> u8 {
    token.to_le_bytes()[0]
}

fn answer(token: u32) -> CompletionWords {
    CompletionWords {
        token,
        ..CompletionWords::default()
    }
}

#[test]
fn words_keep_every_field_at_its_place() {
    let words = SubmissionWords {
        opcode: 0x01,
        flags: 0x02,
        key_len: 0x0403,
        token: 0x0807_0605,
        hash_hi: 9,
        hash_lo: 10,
        deadline_ns: 11,
        extent: 12,
        len: 13,
        byte_pos: 0x14,
        crc: 0x18,
        ttl: 0x1c,
        mode: 0x20,
        lease_class: 0x21,
        lease_count: 0x2322,
    };
    let line = words.encode();
    assert_eq!(line[0].to_le_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(
        line[7].to_le_bytes(),
        [0x1c, 0, 0, 0, 0x20, 0x21, 0x22, 0x23]
    );
    assert_eq!((low(line[6]), high(line[6])), (0x14, 0x18));
    assert_eq!(SubmissionWords::decode(&line), words);

    let words = CompletionWords {
        token: 1,
        status: 0x0203,
        flags: 0x0405,
        extent: 6,
        len: 7,
        version: 8,
        expiry_ms: 9,
        crc: 10,
        lease_slot_class: 11,
        lease_count: 12,
        lease_extent: 13,
        lease_len: 14,
    };
    let line = words.encode();
    assert_eq!(line[0].to_le_bytes(), [1, 0, 0, 0, 3, 2, 5, 4]);
    assert_eq!(line[5].to_le_bytes(), [10, 0, 0, 0, 11, 0, 12, 0]);
    assert_eq!(CompletionWords::decode(&line), words);
}

#[test]
fn requests_cross_whole_while_both_rings_wrap_many_times() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let mut scratch = Vec::with_capacity(PAYLOAD_MAX as usize);
    let (mut asked, mut answered) = (0_u32, 0_u32);
    while answered < 5_000 {
        while asked < 5_000 {
            let len = 1 + asked as usize % PAYLOAD_MAX as usize;
            let key = vec![mark(asked); len.min(KEY_MAX as usize)];
            let value = vec![!mark(asked); len - key.len()];
            let (words, payload) = set(asked, &key, &value);
            if client.try_submit(&words, &payload) == Err(Full) {
                break;
            }
            asked += 1;
        }
        client.publish();
        while let Some(submission) = server.take().unwrap() {
            server.payload(&submission, &mut scratch);
            let key_len = usize::from(submission.words.key_len);
            let mark = mark(submission.words.token);
            assert!(scratch[..key_len].iter().all(|&byte| byte == mark));
            assert!(scratch[key_len..].iter().all(|&byte| byte == !mark));
            server.post(&answer(submission.words.token));
        }
        server.flush();
        while let Some(completion) = client.pop().unwrap() {
            assert_eq!(completion.token, answered);
            answered += 1;
        }
        client.consume();
    }
    assert_eq!((client.in_flight(), server.unanswered()), (0, 0));
}

#[test]
fn full_ring_refuses_until_a_completion_is_consumed() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    for token in 0..RING_ENTRIES {
        client.try_submit(&answerless(token), &[]).unwrap();
    }
    assert_eq!(client.try_submit(&answerless(0), &[]), Err(Full));
    client.publish();
    while let Some(submission) = server.take().unwrap() {
        server.post(&answer(submission.words.token));
    }
    server.flush();
    assert!(client.pop().unwrap().is_some());
    assert_eq!(
        client.room(),
        0,
        "a completion that is only read still holds its entry"
    );
    client.consume();
    assert_eq!(client.room(), 1);
    client.try_submit(&answerless(0), &[]).unwrap();
}

#[test]
fn unpublished_submissions_and_unflushed_completions_are_invisible() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    client.try_submit(&answerless(1), &[]).unwrap();
    assert!(!server.pending());
    assert_eq!(server.take(), Ok(None));
    client.publish();
    assert!(server.pending());
    assert!(server.take().unwrap().is_some());
    server.post(&answer(1));
    assert_eq!(client.pop(), Ok(None));
    assert!(server.flush());
    assert!(!server.flush(), "nothing new");
    assert!(client.pop().unwrap().is_some());
}

#[test]
fn largest_payloads_fill_the_byte_ring_exactly() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let (key, value) = (vec![1; 1024], vec![2; 1024]);
    for round in 0..3 {
        for token in 0..RING_ENTRIES {
            let (words, payload) = set(token, &key, &value);
            client.try_submit(&words, &payload).unwrap();
        }
        client.publish();
        let mut bytes = 0;
        let mut scratch = Vec::new();
        while let Some(submission) = server.take().unwrap() {
            server.payload(&submission, &mut scratch);
            bytes += scratch.len();
            assert_eq!((scratch[0], scratch[2047]), (1, 2), "round {round}");
            server.post(&answer(submission.words.token));
        }
        assert_eq!(bytes, BYTE_RING_SIZE as usize);
        server.flush();
        while client.pop().unwrap().is_some() {}
        client.consume();
    }
}

#[test]
#[should_panic(expected = "age >= 1")]
fn payload_given_back_by_a_flush_is_a_bug() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let (words, payload) = set(0, b"key", b"value");
    client.try_submit(&words, &payload).unwrap();
    client.publish();
    let submission = server.take().unwrap().unwrap();
    server.flush();
    server.copy_payload(&submission, &mut [0; 64]);
}

#[test]
#[should_panic(expected = "one completion for each submission")]
fn completion_without_submission_is_a_bug() {
    pair().server.post(&answer(0));
}

#[test]
#[should_panic(expected = "payload.len()")]
fn payload_of_another_length_than_the_words_say_is_a_bug() {
    let (words, _) = set(0, b"key", b"value");
    assert_eq!(pair().client.try_submit(&words, b"ke"), Ok(()));
}

#[test]
fn hostile_tails_are_errors() {
    for tail in [RING_ENTRIES + 1, 1 << 20, u32::MAX, u32::MAX - 127, 1 << 31] {
        let Pair {
            mut server,
            hostile,
            ..
        } = pair();
        hostile.store32(rw_area(SHARD) + rw::SQ_TAIL, tail);
        assert!(server.pending());
        let expected = RingError::Tail {
            tail,
            head: 0,
            limit: RING_ENTRIES,
        };
        assert_eq!(server.take(), Err(expected));
    }
}

#[test]
fn hostile_tail_that_moves_back_is_an_error() {
    let Pair {
        mut client,
        mut server,
        hostile,
        ..
    } = pair();
    for token in 0..3 {
        client.try_submit(&answerless(token), &[]).unwrap();
    }
    client.publish();
    while server.take().unwrap().is_some() {}
    hostile.store32(rw_area(SHARD) + rw::SQ_TAIL, 1);
    assert_eq!(
        server.take(),
        Err(RingError::Tail {
            tail: 1,
            head: 3,
            limit: RING_ENTRIES
        })
    );
}

#[test]
fn hostile_heads_are_errors() {
    for head in [2, 128, u32::MAX, 1 << 31] {
        let Pair {
            mut client,
            mut server,
            hostile,
            ..
        } = pair();
        client.try_submit(&answerless(0), &[]).unwrap();
        client.publish();
        server.take().unwrap().unwrap();
        server.post(&answer(0));
        server.flush();
        hostile.store32(rw_area(SHARD) + rw::CQ_HEAD, head);
        let expected = RingError::Head {
            head,
            consumed: 0,
            published: 1,
        };
        assert_eq!(server.refresh_consumed(), Err(expected));
        let mut set = PinSet::new();
        let mut scan = PinScan::start(&mut set, &server);
        assert_eq!(scan.add(&mut server), Err(expected));
        scan.finish();
    }
}

#[test]
fn hostile_head_over_unflushed_completions_is_an_error() {
    let Pair {
        mut client,
        mut server,
        hostile,
        ..
    } = pair();
    client.try_submit(&answerless(0), &[]).unwrap();
    client.publish();
    server.take().unwrap().unwrap();
    server.post(&answer(0));
    hostile.store32(rw_area(SHARD) + rw::CQ_HEAD, 1);
    let expected = RingError::Head {
        head: 1,
        consumed: 0,
        published: 0,
    };
    assert_eq!(server.refresh_consumed(), Err(expected));
}

#[test]
fn hostile_flood_beyond_the_completion_ring_is_an_error() {
    let Pair {
        mut server,
        hostile,
        ..
    } = pair();
    let tail = rw_area(SHARD) + rw::SQ_TAIL;
    hostile.store32(tail, RING_ENTRIES);
    for _ in 0..RING_ENTRIES {
        let submission = server.take().unwrap().unwrap();
        server.post(&answer(submission.words.token));
    }
    server.flush();
    // Nothing was consumed, and yet there are more submissions.
    hostile.store32(tail, RING_ENTRIES + 1);
    assert_eq!(
        server.take(),
        Err(RingError::InFlight {
            limit: RING_ENTRIES
        })
    );
    assert_eq!(server.outstanding(), RING_ENTRIES);
}

#[test]
fn hostile_lengths_and_positions_are_errors() {
    let inline = SubmissionFlags::VALUE_INLINE;
    let limit = PAYLOAD_MAX;
    let of = |key_len, flags, len| SubmissionWords {
        flags,
        key_len,
        len,
        ..Default::default()
    };
    let cases = [
        (of(2049, 0, 0), RingError::Payload { len: 2049, limit }),
        (
            of(u16::MAX, 0, 0),
            RingError::Payload { len: 65_535, limit },
        ),
        (of(1, inline, 2048), RingError::Payload { len: 2049, limit }),
        (
            of(1, inline, u64::MAX),
            RingError::Payload {
                len: u64::MAX,
                limit,
            },
        ),
        (
            SubmissionWords {
                byte_pos: 1,
                ..Default::default()
            },
            RingError::BytePosition {
                position: 1,
                expected: 0,
            },
        ),
        (
            SubmissionWords {
                byte_pos: u32::MAX,
                ..Default::default()
            },
            RingError::BytePosition {
                position: u32::MAX,
                expected: 0,
            },
        ),
    ];
    for (words, expected) in cases {
        let Pair {
            mut server,
            hostile,
            ..
        } = pair();
        hostile.store_line(rw_area(SHARD) + rw::SUBMISSIONS, &words.encode());
        hostile.store32(rw_area(SHARD) + rw::SQ_TAIL, 1);
        assert_eq!(server.take(), Err(expected));
    }
    // A length that is not inline belongs to the arena, and is the store's to judge.
    let Pair {
        mut server,
        hostile,
        ..
    } = pair();
    hostile.store_line(
        rw_area(SHARD) + rw::SUBMISSIONS,
        &of(0, 0, u64::MAX).encode(),
    );
    hostile.store32(rw_area(SHARD) + rw::SQ_TAIL, 1);
    assert_eq!(server.take().unwrap().unwrap().words.len, u64::MAX);
}

#[test]
fn words_changed_after_the_take_change_nothing() {
    let Pair {
        mut client,
        mut server,
        hostile,
        ..
    } = pair();
    let (words, payload) = set(5, b"key", b"value");
    client.try_submit(&words, &payload).unwrap();
    client.publish();
    let submission = server.take().unwrap().unwrap();
    let nonsense = SubmissionWords {
        key_len: u16::MAX,
        len: u64::MAX,
        ..words
    };
    hostile.store_line(rw_area(SHARD) + rw::SUBMISSIONS, &nonsense.encode());
    let mut scratch = Vec::new();
    server.payload(&submission, &mut scratch);
    assert_eq!(scratch, b"keyvalue");
}

/// Every word of the client's area at random, many times: errors at most.
#[test]
fn random_words_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..60 {
        let Pair {
            mut server,
            hostile,
            ..
        } = pair();
        for _ in 0..64 {
            scramble(&hostile, &mut random);
            let mut scratch = Vec::new();
            while let Ok(Some(submission)) = server.take() {
                server.payload(&submission, &mut scratch);
                assert!(scratch.len() <= PAYLOAD_MAX as usize);
                let flags = CompletionFlags::NAMES_EXTENT;
                server.post(&CompletionWords {
                    flags,
                    ..answer(submission.words.token)
                });
            }
            server.flush();
            let mut heard = 0;
            server.drain_notes(|_| heard += 1);
            assert!(heard <= crate::layout::NOTE_ENTRIES);
            let mut set = PinSet::new();
            let mut scan = PinScan::start(&mut set, &server);
            if let Err(error) = scan.add(&mut server) {
                assert!(matches!(error, RingError::Head { .. }));
            }
            scan.finish();
        }
    }
}

fn scramble(hostile: &MappedMemory, random: &mut impl FnMut() -> u64) {
    let area = rw_area(SHARD);
    for offset in [rw::SQ_TAIL, rw::CQ_HEAD, rw::PIN_HIGH_WATER, rw::NOTE_TAIL] {
        // Small steps reach further into the protocol than nonsense does.
        let now = hostile.load32(area + offset);
        let next = match random() % 8 {
            0 => low(random()),
            small => now.wrapping_add(u32::try_from(small).unwrap() - 1),
        };
        hostile.store32(area + offset, next);
    }
    let entry = below(random(), RING_ENTRIES);
    let line = [(); 8].map(|()| {
        if random().is_multiple_of(2) {
            0
        } else {
            random()
        }
    });
    hostile.store_line(area + rw::SUBMISSIONS + entry * 64, &line);
    hostile.store64(area + rw::PINS + below(random(), 64) * 8, random());
}

fn below(random: u64, limit: u32) -> usize {
    (low(random) % limit) as usize
}

#[test]
fn daemons_nonsense_is_an_error_for_the_client() {
    let geometry = SessionGeometry::new(1);
    let (daemon, descriptors) = ServerSession::create(geometry, 1).unwrap();
    let session = ClientSession::attach(descriptors.read_write(), descriptors.read_only()).unwrap();
    let mut client = session.ring(0).unwrap();
    drop(daemon);
    client.try_submit(&answerless(0), &[]).unwrap();
    client.publish();
    // The descriptor is read-only here; the daemon's own mapping is reached through the client's
    // file only by a daemon, so this test plays one by opening the memory again.
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&descriptors.read_only())
    );
    let writable = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let fd = std::os::fd::AsFd::as_fd(&writable);
    let daemon = MappedMemory::new(Mapping::read_write(fd, 0, geometry.ro_size()).unwrap());
    daemon.store32(ro_area(0) + ro::CQ_TAIL, 2);
    assert_eq!(
        client.pop(),
        Err(RingError::Tail {
            tail: 2,
            head: 0,
            limit: 1
        })
    );
}

#[test]
fn posted_extents_are_outstanding_until_consumed() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let flags = CompletionFlags::NAMES_EXTENT;
    for token in 0..4 {
        client.try_submit(&answerless(token), &[]).unwrap();
    }
    client.publish();
    for extent in [64, 128, 0] {
        server.take().unwrap().unwrap();
        server.post(&CompletionWords {
            flags,
            extent,
            ..CompletionWords::default()
        });
    }
    server.take().unwrap().unwrap();
    server.post(&CompletionWords {
        extent: 4096,
        ..CompletionWords::default()
    });
    let mut set = PinSet::new();
    scan(&mut set, &mut server);
    assert!(set.contains(64) && set.contains(128) && set.contains(0));
    assert!(
        !set.contains(4096),
        "an extent without the flag is not named"
    );
    server.flush();
    client.pop().unwrap().unwrap();
    client.consume();
    scan(&mut set, &mut server);
    assert!(!set.contains(64));
    assert_eq!(set.len(), 2);
    assert_eq!(pin_word(0), 1);
}

fn scan(set: &mut PinSet, server: &mut ServerRing) {
    let mut scan = PinScan::start(set, server);
    scan.add(server).unwrap();
    scan.finish();
}

fn answerless(token: u32) -> SubmissionWords {
    SubmissionWords {
        token,
        ..SubmissionWords::default()
    }
}

/// The whole cycle on one thread: `cargo test -p chariot-shm --release -- --ignored --nocapture
/// round`.
#[test]
#[ignore = "a bench: run alone, in release"]
fn bench_round() {
    const ROUNDS: u32 = 2_000_000;
    for (batch, key) in [(1, 0), (1, 32), (32, 0), (32, 32)] {
        let Pair {
            mut client,
            mut server,
            ..
        } = pair();
        let words = SubmissionWords {
            key_len: key,
            ..answerless(1)
        };
        let payload = vec![7_u8; usize::from(key)];
        let mut scratch = vec![0; PAYLOAD_MAX as usize];
        let mut best = u64::MAX;
        for _ in 0..5 {
            let start = crate::clock::monotonic_ns();
            for _ in 0..ROUNDS / batch {
                for _ in 0..batch {
                    client.try_submit(&words, &payload).unwrap();
                }
                client.publish();
                assert!(client.must_ring_bell(), "nobody set the ring's polling");
                while let Some(submission) = server.take().unwrap() {
                    server.copy_payload(&submission, &mut scratch);
                    server.post(&answer(submission.words.token));
                }
                server.flush();
                server.wake_if_waiting();
                while let Some(completion) = client.pop().unwrap() {
                    assert_eq!(completion.token, 1);
                }
                client.consume();
            }
            best = best.min(crate::clock::monotonic_ns() - start);
        }
        let ns = best as f64 / f64::from(ROUNDS);
        println!("shm/round batch {batch:2} key {key:2} bytes: {ns:5.1} ns per request");
    }
}
