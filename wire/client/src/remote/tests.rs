//! The remote transport against a daemon in a thread that speaks frames over a map.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chariot_proto::message::{
    Challenge, DeleteRequest, DeleteResponse, ExistRequest, ExistResponse, GetRequest, GetResponse,
    Hello, KeyAnswer, Message, PrefixRequest, PrefixResponse, Proof, Refused, SetAnswer,
    SetRequest, SetResponse, SizeRequest, SizeResponse, Welcome,
};
use chariot_proto::{
    FrameHeader, FrameLimits, Opcode, SplitFrame, Status, auth, decode, encode_frame, split_frame,
};

use crate::{Client, ConnectOptions, GetOptions, Place, Secret, SetOptions, SharedMemory, Target};

const SECRET: &[u8] = b"open sesame";

#[derive(Default)]
struct Node {
    values: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    connections: AtomicUsize,
    wants_proof: bool,
    /// Damage a byte of each value on its way out.
    damages: AtomicBool,
    /// Close each connection at its next request.
    closes: AtomicBool,
}

struct FakeTcp {
    address: String,
    node: Arc<Node>,
}

impl FakeTcp {
    fn start(wants_proof: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let node = Arc::new(Node {
            wants_proof,
            ..Node::default()
        });
        let serving = Arc::clone(&node);
        // Lives as long as the test process: it holds nothing but its port.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let node = Arc::clone(&serving);
                node.connections.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || serve(&node, stream.unwrap()));
            }
        });
        Self { address, node }
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions {
            shared_memory: SharedMemory::Never,
            ..ConnectOptions::new(Target::Tcp(self.address.clone()))
        }
    }

    fn connect(&self) -> Client {
        Client::connect(self.options()).unwrap()
    }
}

struct Frames {
    stream: TcpStream,
    bytes: Vec<u8>,
}

struct Frame {
    header: FrameHeader,
    body: Vec<u8>,
    payload: Vec<u8>,
}

impl Frames {
    fn receive(&mut self) -> Option<Frame> {
        let limits = FrameLimits::with_payload_max(1 << 30);
        loop {
            if let SplitFrame::Complete { header, body, rest } =
                split_frame(&self.bytes, &limits).unwrap()
            {
                let payload_len = usize::try_from(header.payload_len).unwrap();
                if rest.len() >= payload_len {
                    let (payload, rest) = rest.split_at(payload_len);
                    let frame = Frame {
                        header,
                        body: body.to_vec(),
                        payload: payload.to_vec(),
                    };
                    self.bytes = rest.to_vec();
                    return Some(frame);
                }
            }
            let mut more = vec![0; 64 << 10];
            let count = self
                .stream
                .read(&mut more)
                .ok()
                .filter(|&count| count > 0)?;
            self.bytes.extend_from_slice(&more[..count]);
        }
    }

    fn send<M: Message>(&mut self, request: &Frame, opcode: Opcode, message: &M, payload: &[u8]) {
        let header = FrameHeader {
            opcode: opcode.as_u8(),
            ..FrameHeader::answer(&request.header, Status::Ok)
        };
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &header, message).unwrap();
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes).unwrap();
    }

    fn refuse(&mut self, request: &Frame, status: Status) {
        let mut bytes = Vec::new();
        let header = FrameHeader::answer(&request.header, status);
        encode_frame(&mut bytes, &header, &Refused::new(status, "because")).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }
}

fn serve(node: &Node, stream: TcpStream) {
    let mut frames = Frames {
        stream,
        bytes: Vec::new(),
    };
    let hello = frames.receive().unwrap();
    let _: Hello = decode(&hello.header, &hello.body).unwrap();
    let flags = if node.wants_proof {
        Challenge::PROOF_REQUIRED
    } else {
        0
    };
    let challenge = Challenge {
        version: 1,
        flags,
        nonce: [9; 32],
        ..Challenge::default()
    };
    frames.send(&hello, Opcode::Challenge, &challenge, &[]);
    let Some(frame) = frames.receive() else {
        return;
    };
    let proof: Proof = decode(&frame.header, &frame.body).unwrap();
    if node.wants_proof && !auth::verify_proof(SECRET, &[9; 32], &hello.body, &proof.code) {
        frames.refuse(&frame, Status::NotAuthorized);
        return;
    }
    let welcome = Welcome {
        boot_id: 1,
        value_max: 8 << 20,
        payload_max: 8 << 20,
        shard_count: 1,
        shard_cpus: vec![Welcome::CPU_NONE],
        socket_path: "/nonexistent/socket".into(),
        ..Welcome::default()
    };
    frames.send(&frame, Opcode::Welcome, &welcome, &[]);
    while let Some(frame) = frames.receive() {
        if node.closes.load(Ordering::Relaxed) {
            return;
        }
        answer(node, &mut frames, &frame);
    }
}

#[expect(clippy::too_many_lines, reason = "the table of a fake")]
fn answer(node: &Node, frames: &mut Frames, frame: &Frame) {
    let Frame {
        header,
        body,
        payload,
    } = frame;
    let mut values = node.values.lock().unwrap();
    let status = |found: bool| {
        if found {
            Status::Ok.as_u16()
        } else {
            Status::NotFound.as_u16()
        }
    };
    match header.known_opcode().unwrap() {
        Opcode::Set => {
            let request: SetRequest = decode(header, body).unwrap();
            let mut rest = payload.as_slice();
            let mut answers = Vec::new();
            for (key, item) in request.keys.iter().zip(&request.items) {
                let (value, behind) = rest.split_at(usize::try_from(item.value_len).unwrap());
                rest = behind;
                assert_eq!(item.crc(), Some(crate::bytes::crc32c(value)));
                values.insert(key.to_vec(), value.to_vec());
                answers.push(SetAnswer {
                    version: 7,
                    ..SetAnswer::default()
                });
            }
            frames.send(frame, Opcode::Set, &SetResponse { answers }, &[]);
        },
        Opcode::Get | Opcode::Wait => {
            let request: GetRequest = decode(header, body).unwrap();
            let mut payload = Vec::new();
            let mut answers = Vec::new();
            for (index, key) in request.keys.iter().enumerate() {
                let Some(value) = values.get(key) else {
                    let status = Status::NotFound.as_u16();
                    answers.push(KeyAnswer {
                        status,
                        ..KeyAnswer::default()
                    });
                    continue;
                };
                let range = request.ranges.get(index).copied().unwrap_or_default();
                let size = value.len() as u64;
                let len = if range.len == 0 {
                    size - range.offset.min(size)
                } else {
                    range.len
                };
                let crc = crate::bytes::crc32c(value);
                let flags = KeyAnswer::CRC_PRESENT;
                if range.offset + len > size {
                    let status = Status::RangeInvalid.as_u16();
                    answers.push(KeyAnswer {
                        size,
                        status,
                        ..KeyAnswer::default()
                    });
                    continue;
                }
                answers.push(KeyAnswer {
                    size,
                    len,
                    version: 7,
                    crc,
                    flags,
                    ..KeyAnswer::default()
                });
                let start = usize::try_from(range.offset).unwrap();
                payload.extend_from_slice(&value[start..][..usize::try_from(len).unwrap()]);
            }
            if node.damages.load(Ordering::Relaxed) {
                payload[0] ^= 1;
            }
            let opcode = header.known_opcode().unwrap();
            frames.send(frame, opcode, &GetResponse { answers }, &payload);
        },
        Opcode::Exist => {
            let request: ExistRequest = decode(header, body).unwrap();
            let statuses = request
                .keys
                .iter()
                .map(|key| status(values.contains_key(key)))
                .collect();
            frames.send(frame, Opcode::Exist, &ExistResponse { statuses }, &[]);
        },
        Opcode::Delete => {
            let request: DeleteRequest = decode(header, body).unwrap();
            let statuses = request
                .keys
                .iter()
                .map(|key| status(values.remove(key).is_some()))
                .collect();
            frames.send(frame, Opcode::Delete, &DeleteResponse { statuses }, &[]);
        },
        Opcode::Size => {
            let request: SizeRequest = decode(header, body).unwrap();
            let size = |key| values.get(key).map_or(0, Vec::len) as u64;
            let statuses = request
                .keys
                .iter()
                .map(|key| status(values.contains_key(key)))
                .collect();
            let sizes = request.keys.iter().map(size).collect();
            frames.send(frame, Opcode::Size, &SizeResponse { sizes, statuses }, &[]);
        },
        Opcode::Prefix => {
            let request: PrefixRequest = decode(header, body).unwrap();
            let count = request
                .keys
                .iter()
                .take_while(|&key| values.contains_key(key))
                .count();
            let count = u32::try_from(count).unwrap();
            frames.send(frame, Opcode::Prefix, &PrefixResponse { count }, &[]);
        },
        _ => frames.refuse(frame, Status::NotSupported),
    }
}

fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at * 7 + seed * 13 + at / 256) % 251).unwrap())
        .collect()
}

#[test]
fn what_was_set_is_read_in_every_way() {
    let daemon = FakeTcp::start(false);
    let client = daemon.connect();
    assert_eq!(client.place(), Place::Tcp);
    let options = SetOptions::default();
    for len in [1, 1000, 20_000, 5 << 20] {
        let bytes = value(len, len);
        assert_eq!(client.set(b"v", &bytes, &options).unwrap().raw(), 7);
        assert!(client.get(b"v", &GetOptions::default()).unwrap().unwrap() == bytes);
        assert!(client.view(b"v").unwrap().unwrap()[..] == bytes[..]);
        assert_eq!(client.size(b"v").unwrap(), Some(len as u64));
    }
    assert_eq!(client.get(b"absent", &GetOptions::default()).unwrap(), None);
    let mut buffer = client.create(b"made", 3000, &options).unwrap();
    buffer.copy_from_slice(&value(1, 3000));
    buffer.publish().unwrap();
    let mut target = vec![0; 3000];
    assert_eq!(client.get_into(b"made", &mut target).unwrap(), Some(3000));
    assert!(target == value(1, 3000));
    let error = client.get_into(b"made", &mut target[..10]).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument);
    assert!(
        client.exist(b"made").unwrap(),
        "the stream is still in step"
    );
    assert_eq!(
        daemon.node.connections.load(Ordering::Relaxed),
        1,
        "one thread, one connection"
    );
}

#[test]
fn batches_answer_per_key() {
    let daemon = FakeTcp::start(false);
    let client = daemon.connect();
    let keys: Vec<String> = (0..300).map(|index| format!("k{index}")).collect();
    let values: Vec<Vec<u8>> = (0..300)
        .map(|index| value(index, 100 + index * 37))
        .collect();
    let mut items: Vec<(&[u8], &[u8])> = keys
        .iter()
        .map(String::as_bytes)
        .zip(values.iter().map(Vec::as_slice))
        .collect();
    items.push((b"bad key", b"x"));
    let results = client.mset(&items, &SetOptions::default());
    assert!(results[..300].iter().all(Result::is_ok));
    assert_eq!(
        results[300].as_ref().unwrap_err().status(),
        Status::KeyInvalid
    );
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    for (read, value) in client.mget(&keys).into_iter().zip(&values) {
        assert!(read.unwrap().as_ref() == Some(value));
    }
    assert!(client.delete(b"k100").unwrap());
    assert_eq!(client.prefix(&keys).unwrap(), 100);
    assert_eq!(
        client
            .mexist(&keys)
            .into_iter()
            .filter(|found| *found.as_ref().unwrap())
            .count(),
        299
    );
    assert_eq!(
        client.msize(&keys)[5].as_ref().unwrap(),
        &Some(100 + 5 * 37)
    );
}

#[test]
fn ranges_are_the_nodes_and_checked_here() {
    let daemon = FakeTcp::start(false);
    let client = daemon.connect();
    client
        .set(b"v", b"0123456789", &SetOptions::default())
        .unwrap();
    let range = |offset, len| GetOptions {
        offset,
        len,
        ..GetOptions::default()
    };
    assert_eq!(
        client.get(b"v", &range(3, Some(4))).unwrap().unwrap(),
        b"3456"
    );
    assert_eq!(client.get(b"v", &range(8, None)).unwrap().unwrap(), b"89");
    let error = client.get(b"v", &range(8, Some(3))).unwrap_err();
    assert_eq!(error.status(), Status::RangeInvalid);
}

#[test]
fn damaged_payload_is_never_served() {
    let daemon = FakeTcp::start(false);
    let client = daemon.connect();
    client
        .set(b"v", &value(1, 100_000), &SetOptions::default())
        .unwrap();
    daemon.node.damages.store(true, Ordering::Relaxed);
    let error = client.get(b"v", &GetOptions::default()).unwrap_err();
    assert_eq!(error.status(), Status::ChecksumMismatch);
    daemon.node.damages.store(false, Ordering::Relaxed);
    assert!(client.get(b"v", &GetOptions::default()).unwrap().is_some());
}

#[test]
fn refusal_of_a_request_keeps_the_connection() {
    let daemon = FakeTcp::start(false);
    let client = daemon.connect();
    let error = client.expire(b"v", Duration::from_secs(1)).unwrap_err();
    assert_eq!(
        (error.status(), error.cause()),
        (Status::NotSupported, "because")
    );
    assert!(!client.exist(b"v").unwrap());
    assert_eq!(daemon.node.connections.load(Ordering::Relaxed), 1);
}

#[test]
fn closed_connections_are_misses_then_reopened() {
    let daemon = FakeTcp::start(false);
    let client = daemon.connect();
    client.set(b"v", b"bytes", &SetOptions::default()).unwrap();
    daemon.node.closes.store(true, Ordering::Relaxed);
    assert_eq!(client.get(b"v", &GetOptions::default()).unwrap(), None);
    let error = client
        .set(b"v", b"bytes", &SetOptions::default())
        .unwrap_err();
    assert_eq!(error.status(), Status::Restarting);
    daemon.node.closes.store(false, Ordering::Relaxed);
    assert_eq!(
        client.get(b"v", &GetOptions::default()).unwrap().unwrap(),
        b"bytes"
    );
}

#[test]
fn secret_is_proven_and_a_wrong_one_refused() {
    let daemon = FakeTcp::start(true);
    let with = |secret: &[u8]| {
        let secret_key = Secret::new(secret);
        Client::connect(ConnectOptions {
            secret_key,
            access_key: "me".into(),
            ..daemon.options()
        })
    };
    with(SECRET).unwrap();
    assert_eq!(with(b"wrong").unwrap_err().status(), Status::NotAuthorized);
    assert_eq!(with(b"").unwrap_err().status(), Status::NotAuthorized);
}

#[test]
fn unreachable_socket_falls_back_to_tcp_unless_shared_memory_is_required() {
    let daemon = FakeTcp::start(false);
    let with = |shared_memory| {
        Client::connect(ConnectOptions {
            shared_memory,
            ..daemon.options()
        })
    };
    assert_eq!(with(SharedMemory::Auto).unwrap().place(), Place::Tcp);
    with(SharedMemory::Require).unwrap_err();
}

#[test]
fn threads_share_the_pool_within_its_bound() {
    let daemon = FakeTcp::start(false);
    let client = Client::connect(ConnectOptions {
        remote_connections: 2,
        ..daemon.options()
    })
    .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..5_usize {
            let client = &client;
            scope.spawn(move || {
                let key = format!("t{thread}");
                for round in 0..30 {
                    let bytes = value(round, 3000);
                    client
                        .set(key.as_bytes(), &bytes, &SetOptions::default())
                        .unwrap();
                    let read = client.get(key.as_bytes(), &GetOptions::default()).unwrap();
                    assert!(read.unwrap() == bytes);
                }
            });
        }
    });
    assert!(daemon.node.connections.load(Ordering::Relaxed) <= 2);
}
