//! TCP peers that speak nonsense: a clear answer or an end for them, nothing for others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use chariot_client::{Client, GetOptions, SetOptions};
use chariot_proto::message::{
    Challenge, GetRequest, Hello, KeyBatch, Message, Proof, SetItem, SetRequest, Welcome,
};
use chariot_proto::{
    Answer, FrameHeader, FrameLimits, HEADER_LEN, Opcode, PROTOCOL_VERSION_MAX,
    PROTOCOL_VERSION_MIN, Status, decode_answer, encode_frame,
};
use chariot_tests_node::daemon::Daemon;
use chariot_tests_node::{pattern, wait};

const HEADER: usize = HEADER_LEN as usize;

pub(crate) fn frame<M: Message>(opcode: Opcode, message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, &FrameHeader::request(opcode, 7), message).unwrap();
    bytes
}

fn hello() -> Hello {
    Hello {
        version_min: PROTOCOL_VERSION_MIN,
        version_max: PROTOCOL_VERSION_MAX,
        client: "test".into(),
        ..Hello::default()
    }
}

/// A raw connection.
pub(crate) struct Raw {
    stream: TcpStream,
}

impl Raw {
    fn connect(daemon: &Daemon) -> Self {
        let stream = TcpStream::connect(daemon.listen()).unwrap();
        stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Connected and welcomed.
    pub(crate) fn session(daemon: &Daemon) -> Self {
        let mut raw = Self::connect(daemon);
        raw.send(&frame(Opcode::Hello, &hello()));
        raw.receive::<Challenge>().unwrap().unwrap();
        raw.send(&frame(Opcode::Proof, &Proof::default()));
        raw.receive::<Welcome>().unwrap().unwrap();
        raw
    }

    /// Sends; the peer may have closed already.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// The next answer: its message, or the status of its refusal; `None` when the peer has closed.
    pub(crate) fn receive<M: Message>(&mut self) -> Option<Result<M, Status>> {
        let mut head = [0; HEADER];
        self.stream.read_exact(&mut head).ok()?;
        let header = FrameHeader::parse(&head, &FrameLimits::with_payload_max(1 << 30)).unwrap();
        let mut body = vec![0; header.body_len as usize];
        self.stream.read_exact(&mut body).ok()?;
        Some(match decode_answer(&header, &body).unwrap() {
            Answer::Done(message) => Ok(message),
            Answer::Refused(refused) => Err(refused.status()),
        })
    }

    /// Waits until the peer closes, dropping what it says.
    #[track_caller]
    fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {},
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

/// A client that must not notice anything.
fn assert_undisturbed(daemon: &mut Daemon, bystander: &Client) {
    daemon.assert_alive();
    let value = pattern::value(5_000, 1);
    bystander
        .set(b"bystander", &value, &SetOptions::default())
        .unwrap();
    let read = bystander.get(b"bystander", &GetOptions::default()).unwrap();
    assert!(read.unwrap() == value);
}

/// Changes bytes of a frame's header and makes its checksum right again, by parsing what it meant.
fn with_header(mut bytes: Vec<u8>, change: impl FnOnce(&mut FrameHeader)) -> Vec<u8> {
    let limits = FrameLimits::with_payload_max(chariot_proto::limits::PAYLOAD_MAX);
    let mut header = FrameHeader::parse(&bytes, &limits).unwrap();
    change(&mut header);
    bytes[..HEADER].copy_from_slice(&header.encode());
    bytes
}

#[test]
fn frames_cut_off_at_every_byte_end_their_connection_only() {
    let mut daemon = Daemon::start();
    let bystander = daemon.remote();
    let first = frame(Opcode::Hello, &hello());
    for len in 0..first.len() {
        let mut raw = Raw::connect(&daemon);
        raw.send(&first[..len]);
        // Dropped: the stream ends in the middle.
    }
    let set = set_frame(b"cut", &pattern::value(3_000, 1));
    for len in (0..set.len()).step_by(37).chain(HEADER - 2..HEADER + 2) {
        let mut raw = Raw::session(&daemon);
        raw.send(&set[..len]);
    }
    assert_undisturbed(&mut daemon, &bystander);
    assert!(
        !bystander.exist(b"cut").unwrap(),
        "nothing half is ever visible"
    );
    wait::until("their connections are gone", || {
        let metrics = daemon.metrics();
        metrics.total("chariot_connections") < 9.0 && metrics.total("chariot_ring_depth") < 1.0
    });
}

fn set_frame(key: &[u8], value: &[u8]) -> Vec<u8> {
    let request = SetRequest {
        mode: chariot_client::WriteMode::NoneEvict.as_u8(),
        keys: KeyBatch::from_keys(&[key]).unwrap(),
        items: vec![SetItem {
            value_len: value.len() as u64,
            ..SetItem::default()
        }],
        ..SetRequest::default()
    };
    let mut header = FrameHeader::request(Opcode::Set, 9);
    header.payload_len = value.len() as u64;
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, &header, &request).unwrap();
    bytes.extend_from_slice(value);
    bytes
}

#[test]
fn malformed_frames_are_refused_or_closed() {
    let mut daemon = Daemon::start();
    let bystander = daemon.remote();
    let good = frame(Opcode::Hello, &hello());
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let mut wrong: Vec<Vec<u8>> = (0..good.len()).map(flipped).collect();
    wrong.push(vec![0; 4096]);
    wrong.push(vec![0xff; 4096]);
    wrong.push(b"GET / HTTP/1.1\r\nHost: chariot\r\n\r\n".repeat(4));
    wrong.push(with_header(good.clone(), |header| {
        header.body_len = chariot_proto::limits::BODY_MAX;
    }));
    wrong.push(with_header(good.clone(), |header| {
        header.payload_len = chariot_proto::limits::PAYLOAD_MAX;
    }));
    wrong.push(with_header(good.clone(), |header| {
        header.opcode = Opcode::Set.as_u8();
    }));
    wrong.push(with_header(good.clone(), |header| header.opcode = 250));
    for bytes in &wrong {
        let mut raw = Raw::connect(&daemon);
        raw.send(bytes);
        drop(raw.stream.shutdown(std::net::Shutdown::Write));
        raw.assert_closed();
        daemon.assert_alive();
    }
    assert_undisturbed(&mut daemon, &bystander);
}

#[test]
fn other_versions_are_refused_with_words() {
    let daemon = Daemon::start();
    let newer = Hello {
        version_min: 90,
        version_max: 91,
        ..hello()
    };
    let mut raw = Raw::connect(&daemon);
    raw.send(&frame(Opcode::Hello, &newer));
    let refused = raw.receive::<Challenge>().unwrap();
    assert_eq!(refused.map(drop), Err(Status::VersionMismatch));
}

#[test]
fn in_a_session_nonsense_gets_a_status_or_the_end() {
    let mut daemon = Daemon::start();
    let bystander = daemon.remote();
    let value = pattern::value(3_000, 1);
    // An unknown or reserved opcode is answered, and the stream stays in step.
    let mut raw = Raw::session(&daemon);
    for opcode in [250, 32, Opcode::Hello.as_u8()] {
        let request = with_header(
            frame(Opcode::Bye, &chariot_proto::message::Bye::default()),
            |header| {
                header.opcode = opcode;
            },
        );
        raw.send(&request);
        match raw.receive::<Welcome>() {
            Some(answer) => assert!(answer.is_err(), "opcode {opcode}"),
            None => raw = Raw::session(&daemon),
        }
    }
    // A payload longer than its items say, or shorter; a body that is none.
    for change in [1_i64, -1, 1_000] {
        let mut raw = Raw::session(&daemon);
        let mut bytes = with_header(set_frame(b"nonsense", &value), |header| {
            header.payload_len = header.payload_len.checked_add_signed(change).unwrap();
        });
        bytes.extend_from_slice(&[0; 1_000]);
        raw.send(&bytes);
        if let Some(answer) = raw.receive::<chariot_proto::message::SetResponse>() {
            assert!(answer.is_err(), "payload off by {change}");
        }
    }
    let set = set_frame(b"nonsense", &value);
    for at in (0..HEADER + 40).step_by(3) {
        let mut raw = Raw::session(&daemon);
        let mut bytes = set.clone();
        bytes[at] ^= 0x81;
        raw.send(&bytes);
        drop(raw.stream.shutdown(std::net::Shutdown::Write));
        raw.assert_closed();
    }
    // More than the node takes, said in the header: refused before a byte of it is held.
    let mut raw = Raw::session(&daemon);
    raw.send(&with_header(set, |header| header.payload_len = 1 << 39)[..HEADER]);
    if let Some(answer) = raw.receive::<chariot_proto::message::SetResponse>() {
        assert_eq!(answer.map(drop), Err(Status::TooLarge));
    }
    raw.assert_closed();
    assert_undisturbed(&mut daemon, &bystander);
}

#[test]
fn a_slow_handshake_is_cut_off_and_blocks_nobody() {
    let mut daemon = Daemon::start();
    let bystander = daemon.remote();
    let bytes = frame(Opcode::Hello, &hello());
    let start = Instant::now();
    let mut slow: Vec<Raw> = (0..20).map(|_| Raw::connect(&daemon)).collect();
    for raw in &mut slow {
        raw.send(&bytes[..10]);
    }
    assert_undisturbed(&mut daemon, &bystander);
    for raw in &mut slow {
        raw.assert_closed();
    }
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "five seconds are allowed"
    );
    assert_undisturbed(&mut daemon, &bystander);
}

#[test]
fn a_wait_does_not_outlive_its_connection() {
    let daemon = Daemon::start();
    let depth = || daemon.metrics().total("chariot_ring_depth");
    let mut waiting = Raw::session(&daemon);
    let keys: Vec<String> = (0..16).map(|index| format!("awaited/{index}")).collect();
    let request = GetRequest {
        // Ten minutes: nothing but the end of the connection ends it here.
        wait_ms: 600_000,
        flags: GetRequest::WANT_PAYLOAD,
        keys: KeyBatch::from_keys(&keys).unwrap(),
        ..GetRequest::default()
    };
    waiting.send(&frame(Opcode::Get, &request));
    wait::until("it waits on both shards", || depth() >= 16.0);
    drop(waiting);
    wait::until("nobody waits any more", || {
        depth() < 1.0 && daemon.metrics().total("chariot_connections") < 1.0
    });
    // The keys come all the same, for others.
    let client = daemon.remote();
    for key in &keys {
        client
            .set(key.as_bytes(), b"here", &SetOptions::default())
            .unwrap();
        let read = client.get(key.as_bytes(), &GetOptions::default()).unwrap();
        assert_eq!(read.as_deref(), Some(&b"here"[..]));
    }
}
