//! The directory of device objects and the links' orders, asked by sessions that mean well and by
//! one that does not.

use std::time::Duration;

use chariot_client::device::{DeviceOrder, DevicePort, DeviceShape, Lifetime};
use chariot_client::{DevicePut, DeviceTake, DeviceTaken, Devices, KeyHash, Status};
use chariot_proto::Opcode;
use chariot_shm::clock;
use chariot_shm::{SubmissionFlags, SubmissionWords};
use chariot_tests_node::daemon::{Daemon, DaemonOptions};
use chariot_tests_node::raw::{RawSession, ask};
use chariot_tests_node::wait;

fn put(devices: &Devices, hash: KeyHash) -> Result<(), Status> {
    let put = DevicePut {
        hash,
        device: 0,
        shape: DeviceShape::of([100, 100, 7]).unwrap(),
        lifetime: Lifetime::Reference,
        chunk_log2: 20,
    };
    devices
        .put(&[put])
        .remove(0)
        .map_err(|error| error.status())
}

fn take(devices: &Devices, hash: KeyHash, number: u64, wait: Duration) -> Option<DevicePort> {
    let take = DeviceTake {
        hash,
        device: 0,
        shape: DeviceShape::of([100, 100, 7]).unwrap(),
        lifetime: Lifetime::Reference,
        number,
        first: 0,
    };
    match devices.take(&[take], wait).remove(0) {
        Ok(DeviceTaken::Granted { provider, .. }) => Some(provider),
        Ok(DeviceTaken::Absent) => None,
        // On a busy machine the caller's own clock may be first.
        Err(error) if error.status() == Status::Timeout => None,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn next(devices: &Devices) -> DeviceOrder {
    let order = devices.next_order(0, wait::PATIENCE).unwrap();
    order.expect("an order in time")
}

#[test]
fn a_provider_is_told_to_serve_and_a_link_gets_its_tickets() {
    let daemon = Daemon::start();
    let (one, two) = (daemon.local().devices(), daemon.local().devices());
    let hash = one.hash(b"device-object").unwrap();
    assert_eq!(one.shape(hash).unwrap(), None);
    assert_eq!(put(&one, hash), Ok(()));
    assert_eq!(put(&two, hash), Err(Status::Exists));
    let shape = one.shape(hash).unwrap().unwrap();
    assert_eq!(shape.runs(), [(100, 2), (7, 1)]);
    let provider = take(&two, hash, 5, wait::PATIENCE).unwrap();
    let DeviceOrder::Serve { to, number: 5, .. } = next(&one) else {
        panic!("not told to serve")
    };
    let link = one.open_link(0, to).unwrap().link;
    for (devices, peer, sends) in [(&one, to, true), (&two, provider, false)] {
        let connect = DeviceOrder::Connect { link, peer, sends };
        assert_eq!(next(devices), connect);
        devices.joined(0, link).unwrap();
    }
    assert_eq!(one.announce(0, (link, 5), (0, 1), 3).unwrap(), 0);
    assert_eq!(one.announce(0, (link, 5), (1, 1), 2).unwrap(), 3);
    for (first, ticket) in [(0, 0), (1, 3)] {
        let receive = DeviceOrder::Receive {
            link,
            number: 5,
            first,
            count: 1,
            ticket,
        };
        assert_eq!(next(&two), receive);
    }
    two.done(hash, 0, 5).unwrap();
    let again = two.done(hash, 0, 5).unwrap_err();
    assert_eq!(again.status(), Status::NotFound);
    assert!(one.leave(&[hash], 0).remove(0).unwrap());
    assert_eq!(
        take(&one, hash, 1, wait::PATIENCE),
        Some(to),
        "the receiver provides it"
    );
    assert!(one.delete(&[hash]).remove(0).unwrap());
}

#[test]
fn a_session_that_ends_takes_its_objects_and_links_along() {
    let daemon = Daemon::start();
    let two = daemon.local().devices();
    let hash = two.hash(b"of-the-dead").unwrap();
    {
        let one = daemon.local().devices();
        assert_eq!(put(&one, hash), Ok(()));
        take(&two, hash, 5, wait::PATIENCE).unwrap();
        let DeviceOrder::Serve { to, .. } = next(&one) else {
            panic!("not told to serve")
        };
        one.open_link(0, to).unwrap();
        assert!(matches!(next(&two), DeviceOrder::Connect { .. }));
    }
    let told = [next(&two), next(&two)];
    let is_stop = |order: &DeviceOrder| matches!(order, DeviceOrder::Stop { sends: false, .. });
    let is_broken = |order: &DeviceOrder| matches!(order, DeviceOrder::Broken { .. });
    assert!(told.iter().any(is_stop), "{told:?}");
    assert!(told.iter().any(is_broken), "{told:?}");
    assert_eq!(two.shape(hash).unwrap(), None);
    assert_eq!(take(&two, hash, 6, Duration::from_millis(50)), None);
}

#[test]
fn a_link_to_nobody_and_nonsense_are_refused() {
    let daemon = Daemon::start();
    let one = daemon.local().devices();
    let nobody = DevicePort::new(1 << 40, 0).unwrap();
    let opened = one.open_link(0, nobody).unwrap_err();
    assert_eq!(opened.status(), Status::NotFound);
    assert_eq!(one.joined(0, 77).unwrap_err().status(), Status::NotFound);
    assert_eq!(
        one.break_link(0, 77).unwrap_err().status(),
        Status::NotFound
    );
    let announced = one.announce(0, (77, 1), (0, 1), 0).unwrap_err();
    assert_eq!(announced.status(), Status::InvalidArgument);
    let remote = daemon.remote().devices();
    let refused = remote.next_order(0, wait::PATIENCE).unwrap_err();
    assert_eq!(refused.status(), Status::NotSupported);
}

/// Words at random in every form: each is answered, and the daemon goes on.
#[test]
fn random_words_are_answered_and_harm_nobody() {
    let mut daemon = Daemon::start_with(&DaemonOptions {
        shards_per_core: 1,
        ..DaemonOptions::default()
    });
    let bystander = daemon.local().devices();
    let hash = bystander.hash(b"bystander").unwrap();
    assert_eq!(put(&bystander, hash), Ok(()));
    let mut session = RawSession::open(&daemon.socket());
    let (mut ring, mut bell) = session.ring();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Small numbers are the ones that mean something.
        if state.is_multiple_of(4) {
            state
        } else {
            (state >> 8) & 7
        }
    };
    for round in 0_u64..2_000 {
        let opcode = if round & 1 == 0 {
            Opcode::DeviceOp
        } else {
            Opcode::DeviceLink
        };
        let runs = usize::try_from(random() & 3).unwrap();
        let payload: Vec<u8> = (0..runs * 2).flat_map(|_| random().to_le_bytes()).collect();
        let low = |word: u64| u8::try_from(word & 0xFF).unwrap();
        let words = SubmissionWords {
            opcode: opcode.as_u8(),
            mode: low(random()),
            flags: if payload.is_empty() {
                0
            } else {
                SubmissionFlags::VALUE_INLINE
            },
            hash_hi: random(),
            hash_lo: random(),
            deadline_ns: clock::monotonic_ns() + 1_000_000,
            extent: random(),
            len: if payload.is_empty() {
                random()
            } else {
                payload.len() as u64
            },
            crc: u32::try_from(random() & 0xFFFF_FFFF).unwrap(),
            ttl: u32::try_from(random() & 0x1FF).unwrap(),
            lease_class: low(random()),
            lease_count: u16::try_from(random() & 0x1F).unwrap(),
            ..SubmissionWords::default()
        };
        let answer = ask(&session, &mut ring, &mut bell, &words, &payload);
        assert!(answer.is_some(), "expelled for {words:?}");
    }
    daemon.assert_alive();
    assert_eq!(bystander.shape(hash).unwrap().unwrap().blobs(), 3);
}
