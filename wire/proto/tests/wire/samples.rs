//! One frame of every message, with fields that are all different from zero and from each other.

use chariot_proto::message::{
    Bye, ByteRange, Challenge, DeleteRequest, DeleteResponse, ExistRequest, ExistResponse,
    ExpireRequest, ExpireResponse, GetRequest, GetResponse, Hello, KeyAnswer, KeyBatch, Message,
    ObjectRequest, ObjectResponse, OpenRing, PrefixRequest, PrefixResponse, Proof, Refused,
    RingOpened, SetAnswer, SetItem, SetRequest, SetResponse, SizeRequest, SizeResponse, StatEntry,
    StatsRequest, StatsResponse, Welcome,
};
use chariot_proto::{
    Direction, ExistenceOpt, FrameHeader, MessageError, Opcode, Status, WriteMode, auth, decode,
    encode_frame,
};

type Again = dyn Fn(&FrameHeader, &[u8]) -> Result<Vec<u8>, MessageError>;

/// A frame with what it must decode to.
pub(crate) struct Sample {
    /// Name of its golden file and, without suffix, of its fuzz target.
    pub(crate) name: &'static str,
    /// Header, body and payload.
    pub(crate) frame: Vec<u8>,
    /// Decodes header and body, compares with the message, encodes again.
    pub(crate) again: Box<Again>,
}

fn sample<M>(name: &'static str, status: Status, message: M, payload: &[u8]) -> Sample
where
    M: Message + PartialEq + core::fmt::Debug + 'static,
{
    let request = FrameHeader::request(M::OPCODES[0], 0x0102_0304_0506_0708);
    let header = match M::DIRECTION {
        Direction::Request => request.with_slot(0x1234).with_deadline(1_790_000_000_123),
        Direction::Response => FrameHeader::answer(&request.with_slot(0x1234), status),
    };
    let mut frame = Vec::new();
    let sent = encode_frame(&mut frame, &header, &message).unwrap();
    assert_eq!(sent.payload_len, payload.len() as u64, "{name}");
    frame.extend_from_slice(payload);
    let again = move |header: &FrameHeader, body: &[u8]| {
        let decoded: M = decode(header, body)?;
        assert_eq!(decoded, message);
        let mut frame = Vec::new();
        encode_frame(&mut frame, header, &decoded)?;
        Ok(frame)
    };
    Sample {
        name,
        frame,
        again: Box::new(again),
    }
}

fn keys() -> KeyBatch {
    KeyBatch::from_keys(&["model/llama:0", "k", "tenant-7/block#4242"]).unwrap()
}

/// Returns one sample of every message.
pub(crate) fn all() -> Vec<Sample> {
    let mut samples = handshake();
    samples.extend(requests());
    samples.extend(responses());
    samples
}

fn hello() -> Hello {
    Hello {
        features: 0x8000_0000_0000_0005,
        pid: 4242,
        flags: Hello::WANTS_SHARED_MEMORY,
        version_min: 1,
        version_max: 3,
        tenant: "tenant-a".into(),
        access_key: "AK-0123456789".into(),
        client: "chariot-client 0.1.0".into(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        boot_id: 0x1111_2222_3333_4444,
        session_id: 77,
        features: 5,
        arena_len: 8 << 30,
        granule_len: 64 << 20,
        staging_len: 32 << 20,
        session_rw_len: 1 << 20,
        session_ro_len: 3 << 16,
        index_len: 1 << 33,
        value_max: 2 << 30,
        payload_max: 3 << 30,
        flags: Welcome::TRUSTED | Welcome::SHARED_MEMORY,
        spin_us: 50,
        inline_max: 1024,
        batch_max: 10_000,
        exist_batch_max: 100_000,
        inflight_max: 64,
        tenant_id: 9,
        shard_count: 2,
        index_count: 2,
        descriptor_count: 7,
        key_secret: core::array::from_fn(|at| 0xa0 + u8::try_from(at).unwrap()),
        shard_cpus: vec![3, Welcome::CPU_NONE],
        socket_path: "/run/chariot/31501.sock".into(),
        server_version: "0.1.0".into(),
    }
}

fn handshake() -> Vec<Sample> {
    let nonce = core::array::from_fn(|at| u8::try_from(at).unwrap() * 3);
    let challenge = Challenge {
        features: 5,
        flags: Challenge::PROOF_REQUIRED,
        version: 1,
        nonce,
        server: "chariotd 0.1.0".into(),
    };
    let proof = Proof::with_code(auth::make_proof(b"secret", &nonce, b"hello"));
    let mut refused = Refused::new(Status::Busy, "1024 sessions are open; close some");
    refused.retry_after_ms = 250;
    vec![
        sample("hello", Status::Ok, hello(), b""),
        sample("challenge", Status::Ok, challenge, b""),
        sample("proof", Status::Ok, proof, b""),
        sample("welcome", Status::Ok, welcome(), b""),
        sample("open_ring", Status::Ok, OpenRing { shard: 5 }, b""),
        sample("ring_opened", Status::Ok, RingOpened { shard: 5 }, b""),
        sample("bye", Status::Ok, Bye { reason: 1 }, b""),
        sample("refused", Status::Busy, refused, b""),
    ]
}

fn set_request() -> SetRequest {
    let item = |bytes: &[u8]| SetItem {
        value_len: bytes.len() as u64,
        crc: crc32c::crc32c(bytes),
        flags: SetItem::CRC_PRESENT,
    };
    let bare = SetItem {
        value_len: 1,
        crc: 0,
        flags: 0,
    };
    SetRequest {
        ttl_ms: 60_000,
        flags: 0,
        mode: WriteMode::NoneEvict.as_u8(),
        existence: ExistenceOpt::IfAbsent.as_u8(),
        keys: keys(),
        items: vec![item(b"value"), bare, item(b"zz")],
    }
}

fn get_request() -> GetRequest {
    let ranges = vec![
        ByteRange { offset: 0, len: 0 },
        ByteRange { offset: 1, len: 2 },
        ByteRange {
            offset: 1 << 33,
            len: 4096,
        },
    ];
    let flags = GetRequest::WANT_PAYLOAD | GetRequest::WANT_CRC;
    GetRequest {
        wait_ms: 1500,
        flags,
        keys: keys(),
        ranges,
    }
}

fn requests() -> Vec<Sample> {
    let exist = ExistRequest {
        flags: 0,
        keys: keys(),
    };
    let prefix = PrefixRequest {
        flags: 0,
        keys: keys(),
    };
    let size = SizeRequest {
        flags: 0,
        keys: keys(),
    };
    let delete = DeleteRequest {
        flags: 0,
        keys: keys(),
    };
    let expire = ExpireRequest {
        ttl_ms: 9_000,
        flags: 0,
        keys: keys(),
    };
    let stats = StatsRequest {
        flags: StatsRequest::PER_SHARD,
    };
    vec![
        sample("set_request", Status::Ok, set_request(), b"valuevzz"),
        sample("get_request", Status::Ok, get_request(), b""),
        sample("exist_request", Status::Ok, exist, b""),
        sample("prefix_request", Status::Ok, prefix, b""),
        sample("size_request", Status::Ok, size, b""),
        sample("delete_request", Status::Ok, delete, b""),
        sample("expire_request", Status::Ok, expire, b""),
        sample("stats_request", Status::Ok, stats, b""),
        sample("object_request", Status::Ok, object_request(), b""),
    ]
}

fn object_request() -> ObjectRequest {
    ObjectRequest {
        number: 0x0a0b_0c0d,
        version: (3 << 44) + 17,
        wait_ms: 2_500,
        flags: 0x8000_0000,
        form: 2,
        keys: keys(),
    }
}

fn set_response() -> SetResponse {
    let stored = SetAnswer {
        version: (3 << 44) + 17,
        status: 0,
        flags: 0,
        spare: 0,
    };
    let exists = SetAnswer {
        version: 0,
        status: Status::Exists.as_u16(),
        flags: 0,
        spare: 0,
    };
    SetResponse {
        answers: vec![stored, exists],
    }
}

fn get_response() -> GetResponse {
    let found = KeyAnswer {
        size: 10,
        len: 5,
        version: (3 << 44) + 17,
        ttl_ms: 59_000,
        crc: 0xdead_beef,
        status: 0,
        flags: KeyAnswer::CRC_PRESENT,
    };
    let missed = KeyAnswer {
        status: Status::NotFound.as_u16(),
        ..KeyAnswer::default()
    };
    GetResponse {
        answers: vec![found, missed],
    }
}

fn responses() -> Vec<Sample> {
    let statuses = || vec![0, Status::NotFound.as_u16(), Status::KeyInvalid.as_u16()];
    let size = SizeResponse {
        sizes: vec![1 << 40, 0, 0],
        statuses: statuses(),
    };
    let exist = ExistResponse {
        statuses: statuses(),
    };
    let delete = DeleteResponse {
        statuses: statuses(),
    };
    let expire = ExpireResponse {
        statuses: statuses(),
    };
    let object = ObjectResponse {
        numbers: vec![3, 0, 0],
        statuses: statuses(),
    };
    let entries = vec![
        StatEntry {
            value: 123_456,
            name: "gets_count".into(),
        },
        StatEntry {
            value: 7,
            name: "s".into(),
        },
    ];
    vec![
        sample("set_response", Status::Ok, set_response(), b""),
        sample("get_response", Status::Ok, get_response(), b"value"),
        sample("exist_response", Status::Ok, exist, b""),
        sample(
            "prefix_response",
            Status::Ok,
            PrefixResponse { count: 2 },
            b"",
        ),
        sample("size_response", Status::Ok, size, b""),
        sample("delete_response", Status::Ok, delete, b""),
        sample("expire_response", Status::Ok, expire, b""),
        sample("stats_response", Status::Ok, StatsResponse { entries }, b""),
        sample("object_response", Status::Ok, object, b""),
    ]
}

/// Returns the opcodes that the samples carry.
pub(crate) fn opcodes() -> Vec<Opcode> {
    all()
        .iter()
        .filter_map(|sample| Opcode::from_u8(sample.frame[6]))
        .collect()
}
