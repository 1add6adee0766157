//! Local sessions that write nonsense into their rings: expelled or answered, nobody else notices.

use chariot_client::{Client, GetOptions, SetOptions, Status};
use chariot_proto::{KeyHash, KeySecret, Opcode};
use chariot_shm::layout::rw;
use chariot_shm::{ClientRing, CompletionFlags, SubmissionFlags, SubmissionWords};
use chariot_tests_node::daemon::{Daemon, DaemonOptions};
use chariot_tests_node::raw::{RawSession, ask, ring_bell};
use chariot_tests_node::{pattern, wait};

/// One shard, so that every key is on the ring in hand.
fn one_shard() -> Daemon {
    Daemon::start_with(&DaemonOptions {
        shards_per_core: 1,
        ..DaemonOptions::default()
    })
}

fn assert_undisturbed(daemon: &mut Daemon, bystander: &Client) {
    daemon.assert_alive();
    let value = pattern::value(5_000, 1);
    bystander
        .set(b"bystander", &value, &SetOptions::default())
        .unwrap();
    let read = bystander.get(b"bystander", &GetOptions::default()).unwrap();
    assert!(read.unwrap() == value);
}

/// Writes one kind of nonsense.
type Harm<'a> = &'a dyn Fn(&RawSession);

#[test]
fn impossible_positions_and_lengths_expel_their_session_only() {
    let mut daemon = one_shard();
    let bystander = daemon.local();
    let nop = SubmissionWords {
        opcode: Opcode::Nop.as_u8(),
        ..SubmissionWords::default()
    };
    let far_bytes = SubmissionWords {
        byte_pos: 77,
        ..nop
    };
    let long_payload = SubmissionWords {
        flags: SubmissionFlags::VALUE_INLINE,
        len: u64::MAX,
        ..nop
    };
    let long_key = SubmissionWords {
        key_len: u16::MAX,
        ..nop
    };
    let harms: [(&str, Harm<'_>); 6] = [
        ("a tail far ahead", &|session| {
            session.write_word(rw::SQ_TAIL, 5_000);
        }),
        ("a tail that goes back", &|session| {
            session.write_word(rw::SQ_TAIL, u32::MAX);
        }),
        ("a head ahead of the tail", &|session| {
            session.write_word(rw::CQ_HEAD, 9);
            session.write_word(rw::SQ_TAIL, 1);
        }),
        ("bytes from elsewhere", &|session| {
            session.write_submission(0, &far_bytes);
            session.write_word(rw::SQ_TAIL, 1);
        }),
        ("a payload without end", &|session| {
            session.write_submission(0, &long_payload);
            session.write_word(rw::SQ_TAIL, 1);
        }),
        ("a key longer than keys are", &|session| {
            session.write_submission(0, &long_key);
            session.write_word(rw::SQ_TAIL, 1);
        }),
    ];
    for (count, (what, harm)) in harms.into_iter().enumerate() {
        let mut session = RawSession::open(&daemon.socket());
        let (_ring, mut bell) = session.ring();
        harm(&session);
        ring_bell(&mut bell);
        wait::until(what, || {
            ring_bell(&mut bell);
            // The pin scan and the take of the next submission look at the positions.
            assert_undisturbed(&mut daemon, &bystander);
            bystander.delete(b"bystander").unwrap();
            session.memory.is_expelled()
        });
        let expelled = daemon.metrics().total("chariot_expulsions_total");
        assert!(expelled > count as f64, "{what}: counted");
    }
    assert_undisturbed(&mut daemon, &bystander);
    wait::until("they are gone", || {
        daemon.metrics().total("chariot_sessions_local") < 2.0
    });
}

#[test]
fn requests_without_sense_get_a_status() {
    let mut daemon = one_shard();
    let bystander = daemon.local();
    let mut session = RawSession::open(&daemon.socket());
    let (mut ring, mut bell) = session.ring();
    let say = |ring: &mut ClientRing, bell: &mut std::fs::File, words: &SubmissionWords| {
        let answer = ask(&session, ring, bell, words, &[]).unwrap();
        Status::from_peer(answer.status)
    };
    for opcode in 0..=u8::MAX {
        let words = SubmissionWords {
            opcode,
            extent: u64::MAX,
            len: u64::MAX,
            hash_hi: 3,
            mode: 200,
            ..SubmissionWords::default()
        };
        let status = say(&mut ring, &mut bell, &words);
        if Opcode::from_u8(opcode).is_none() {
            assert_eq!(status, Status::NotSupported, "opcode {opcode}");
        }
    }
    // Extents that were never leased, to publish and to give back.
    for extent in [0, 64, 1 << 20, 33, u64::MAX - 63] {
        for opcode in [Opcode::Publish, Opcode::LeaseReturn, Opcode::StagedPublish] {
            let words = SubmissionWords {
                opcode: opcode.as_u8(),
                extent,
                len: 4_096,
                ..SubmissionWords::default()
            };
            let status = say(&mut ring, &mut bell, &words);
            assert!(!status.is_ok(), "{opcode:?} of {extent:#x}");
        }
    }
    assert!(
        !session.memory.is_expelled(),
        "a status is enough for these"
    );
    assert_undisturbed(&mut daemon, &bystander);
}

#[test]
fn a_slot_is_published_once() {
    let mut daemon = one_shard();
    let bystander = daemon.local();
    let mut session = RawSession::open(&daemon.socket());
    let (mut ring, mut bell) = session.ring();
    let grant = SubmissionWords {
        opcode: Opcode::LeaseGrant.as_u8(),
        len: 4_096,
        lease_count: 1,
        ..SubmissionWords::default()
    };
    let lease = ask(&session, &mut ring, &mut bell, &grant, &[]).unwrap();
    assert!(lease.flags & CompletionFlags::LEASE != 0);
    let key = b"published";
    let hash = KeyHash::of(&KeySecret(session.welcome.key_secret), key);
    let publish = SubmissionWords {
        opcode: Opcode::Publish.as_u8(),
        key_len: 9,
        hash_hi: hash.hi,
        hash_lo: hash.lo,
        extent: lease.lease_extent,
        len: 4_096,
        mode: chariot_client::WriteMode::NoneEvict.as_u8(),
        ..SubmissionWords::default()
    };
    let mut say = |words: &SubmissionWords, key: &[u8]| {
        let answer = ask(&session, &mut ring, &mut bell, words, key).unwrap();
        Status::from_peer(answer.status)
    };
    assert_eq!(say(&publish, key), Status::Ok);
    assert_eq!(
        say(&publish, key),
        Status::InvalidArgument,
        "the slot is the shard's"
    );
    let give_back = SubmissionWords {
        opcode: Opcode::LeaseReturn.as_u8(),
        extent: lease.lease_extent,
        len: 4_096,
        ..SubmissionWords::default()
    };
    assert_eq!(say(&give_back, &[]), Status::InvalidArgument);
    assert_eq!(bystander.size(key).unwrap(), Some(4_096));
    // A hash that is not the key's is refused.
    let lying = SubmissionWords {
        hash_hi: hash.hi ^ 1,
        ..publish
    };
    assert_ne!(say(&lying, key), Status::Ok);
    assert_undisturbed(&mut daemon, &bystander);
}
