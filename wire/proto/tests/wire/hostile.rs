//! Bytes that a broken or hostile peer may send: each ends in an error that names a status.

use chariot_proto::message::{
    ExistRequest, GetRequest, GetResponse, Hello, KeyAnswer, KeyBatch, Message, Refused, SetItem,
    SetRequest, SetResponse, SizeResponse, Welcome,
};
use chariot_proto::{
    BodyBuffer, FrameError, FrameHeader, FrameLimits, MessageError, Opcode, SplitFrame, Status,
    VersionRange, access, decode, encode_frame, limits, split_frame,
};

use crate::checks;
use crate::samples;

const LIMITS: FrameLimits = FrameLimits::with_payload_max(1 << 30);

fn cut(frame: &[u8]) -> (FrameHeader, &[u8]) {
    let split = split_frame(frame, &LIMITS).unwrap();
    let SplitFrame::Complete { header, body, .. } = split else {
        panic!("{split:?}")
    };
    (header, body)
}

#[test]
fn frames_cut_at_every_byte_are_incomplete_or_refused() {
    for sample in samples::all() {
        let (header, body) = cut(&sample.frame);
        for len in 0..64 + body.len() {
            let split = split_frame(&sample.frame[..len], &LIMITS).unwrap();
            let SplitFrame::Incomplete { needed } = split else {
                panic!("{len}: {split:?}")
            };
            assert!(needed > len as u64);
            if len < 64 {
                let error = FrameHeader::parse(&sample.frame[..len], &LIMITS).unwrap_err();
                assert_eq!(error, FrameError::Truncated { len: len as u64 });
            }
        }
        for len in 0..body.len() {
            let error = (sample.again)(&header, &body[..len]).unwrap_err();
            assert!(
                matches!(error, MessageError::BodyLen { .. }),
                "{}: {error}",
                sample.name
            );
            // A peer that cuts the body and says so gets past the checksum, but no further.
            checks::run(&format!("body_{}", sample.name), &body[..len]);
            checks::run(&format!("body_{}", sample.name), &body[body.len() - len..]);
        }
        let mut longer = body.to_vec();
        longer.push(0);
        (sample.again)(&header, &longer).unwrap_err();
    }
}

#[test]
fn every_single_bit_flip_is_rejected_by_a_checksum() {
    for sample in samples::all() {
        let (header, body) = cut(&sample.frame);
        for bit in 0..64 * 8 {
            let mut flipped = sample.frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = FrameHeader::parse(&flipped, &LIMITS).unwrap_err();
            let expected = if bit < 32 { "magic" } else { "checksum" };
            assert!(
                error.to_string().contains(expected),
                "{} bit {bit}: {error}",
                sample.name
            );
            assert_eq!(error.status(), Status::Malformed);
            assert_eq!(error.request_id(), None, "nothing of it can be trusted");
        }
        for bit in 0..body.len() * 8 {
            let mut flipped = body.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = (sample.again)(&header, &flipped).unwrap_err();
            assert!(
                matches!(error, MessageError::BodyChecksum { .. }),
                "{}",
                sample.name
            );
            // Without the checksum: structure and limits hold by themselves.
            checks::run(&format!("body_{}", sample.name), &flipped);
        }
    }
}

/// Every byte set to its extremes behind a right checksum: validation alone must hold.
#[test]
fn bodies_with_extreme_words_never_panic() {
    for sample in samples::all() {
        let (_, body) = cut(&sample.frame);
        for at in 0..body.len() {
            for value in [0x00, 0x7f, 0x80, 0xff] {
                for width in [1, 2, 4, 8] {
                    let mut changed = body.to_vec();
                    let end = changed.len().min(at + width);
                    changed[at..end].fill(value);
                    checks::run(&format!("body_{}", sample.name), &changed);
                }
            }
        }
    }
}

fn header_error(change: impl Fn(&mut [u8; 64])) -> FrameError {
    let mut bytes = FrameHeader::request(Opcode::Get, 42).encode();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    let limits = FrameLimits {
        body_max: 1000,
        ..FrameLimits::with_payload_max(5000)
    };
    FrameHeader::parse(&bytes, &limits).unwrap_err()
}

#[test]
fn header_with_a_wrong_field_names_request_and_status() {
    let wrong = [
        (
            header_error(|bytes| bytes[4] = 0),
            Status::VersionMismatch,
            "protocol version 0",
        ),
        (
            header_error(|bytes| bytes[5] = 1),
            Status::VersionMismatch,
            "protocol version 257",
        ),
        (
            header_error(|bytes| bytes[18] = 65),
            Status::Malformed,
            "header length is 65",
        ),
        (
            header_error(|bytes| bytes[7] = 0x08),
            Status::NotSupported,
            "flags 0x08",
        ),
        (
            header_error(|bytes| bytes[17] = 0x40),
            Status::Malformed,
            "frame slot is 16639",
        ),
        (
            header_error(|bytes| bytes[44] = 1),
            Status::Malformed,
            "frame status 1",
        ),
        (
            header_error(|bytes| bytes[22] = 1),
            Status::TooLarge,
            "at most 1000",
        ),
        (
            header_error(|bytes| bytes[31] = 0xff),
            Status::TooLarge,
            "at most 5000",
        ),
    ];
    for (error, status, text) in wrong {
        assert_eq!(error.status(), status, "{error}");
        assert_eq!(error.request_id(), Some(42));
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(matches!(
        header_error(|bytes| bytes[0] = 0),
        FrameError::Magic { .. }
    ));
}

fn refusal_of<M: Message>(message: &M) -> MessageError {
    let header = checks::header_for::<M>(&[], 0);
    let mut frame = vec![1, 2, 3];
    let error = encode_frame(&mut frame, &header, message).unwrap_err();
    assert_eq!(
        frame,
        [1, 2, 3],
        "a message that is refused leaves no bytes"
    );
    error
}

fn one_key() -> KeyBatch {
    KeyBatch::from_keys(&["k"]).unwrap()
}

#[test]
fn batches_over_their_limit_are_too_large() {
    let keys = KeyBatch {
        bytes: vec![b'k'; 10_001],
        lens: vec![1; 10_001],
    };
    let error = refusal_of(&GetRequest {
        keys: keys.clone(),
        ..GetRequest::default()
    });
    assert_eq!(
        error,
        MessageError::OverLimit {
            what: "keys",
            found: 10_001,
            max: 10_000
        }
    );
    assert_eq!(error.status(), Status::TooLarge);
    let mut frame = Vec::new();
    let header = FrameHeader::request(Opcode::Exist, 1);
    encode_frame(&mut frame, &header, &ExistRequest { flags: 0, keys }).unwrap();
    let most = limits::EXIST_BATCH_MAX as usize + 1;
    let keys = KeyBatch {
        bytes: vec![b'k'; most],
        lens: vec![1; most],
    };
    assert_eq!(
        refusal_of(&ExistRequest { flags: 0, keys }).status(),
        Status::TooLarge
    );
    // Within the key limits, but over the body's: 100,000 keys of 200 bytes.
    let keys = KeyBatch {
        bytes: vec![b'k'; 20_000_000],
        lens: vec![200; 100_000],
    };
    let error = refusal_of(&ExistRequest { flags: 0, keys });
    assert!(matches!(
        error,
        MessageError::OverLimit { what: "body", .. }
    ));
    assert!(matches!(
        refusal_of(&SetResponse::default()),
        MessageError::Empty { .. }
    ));
    assert!(matches!(
        refusal_of(&GetRequest::default()),
        MessageError::Empty { what: "keys" }
    ));
}

#[test]
fn parts_that_disagree_are_malformed() {
    let keys = KeyBatch {
        bytes: vec![b'k'; 5],
        lens: vec![2, 2],
    };
    let error = refusal_of(&GetRequest {
        keys,
        ..GetRequest::default()
    });
    assert_eq!(
        error,
        MessageError::Disagrees {
            what: "key bytes",
            found: 5,
            expected: 4
        }
    );
    assert_eq!(error.status(), Status::Malformed);
    let set = SetRequest {
        keys: one_key(),
        ..SetRequest::default()
    };
    assert!(matches!(
        refusal_of(&set),
        MessageError::Disagrees {
            what: "set items",
            ..
        }
    ));
    let sizes = SizeResponse {
        sizes: vec![],
        statuses: vec![0],
    };
    assert!(matches!(
        refusal_of(&sizes),
        MessageError::Disagrees { what: "sizes", .. }
    ));
    let welcome = Welcome {
        shard_count: 1,
        descriptor_count: 1,
        shard_cpus: vec![0],
        ..Welcome::default()
    };
    assert!(matches!(
        refusal_of(&welcome),
        MessageError::Disagrees { .. }
    ));
}

#[test]
fn options_without_meaning_are_invalid_and_lengths_cannot_wrap() {
    let items = vec![SetItem {
        value_len: 1,
        ..SetItem::default()
    }];
    let set = SetRequest {
        keys: one_key(),
        items,
        ..SetRequest::default()
    };
    let error = refusal_of(&SetRequest {
        mode: 5,
        ..set.clone()
    });
    assert_eq!(
        error,
        MessageError::Unknown {
            what: "write mode",
            found: 5
        }
    );
    assert_eq!(error.status(), Status::InvalidArgument);
    assert!(matches!(
        refusal_of(&SetRequest {
            existence: 2,
            ..set.clone()
        }),
        MessageError::Unknown { .. }
    ));
    let huge = SetItem {
        value_len: u64::MAX,
        ..SetItem::default()
    };
    let keys = KeyBatch::from_keys(&["a", "b"]).unwrap();
    let wrap = SetRequest {
        keys,
        items: vec![huge, huge],
        ..set
    };
    assert_eq!(refusal_of(&wrap).status(), Status::TooLarge);
    let missed = KeyAnswer {
        size: 9,
        len: 1,
        status: 300,
        ..KeyAnswer::default()
    };
    let error = refusal_of(&GetResponse {
        answers: vec![missed],
    });
    assert!(matches!(
        error,
        MessageError::OverLimit {
            what: "answer length",
            ..
        }
    ));
    let refused = Refused {
        retry_after_ms: 0,
        status: 0,
        message: String::new(),
    };
    assert!(matches!(refusal_of(&refused), MessageError::Unknown { .. }));
}

#[test]
fn hello_without_a_common_version_is_read_and_one_with_a_long_name_is_not() {
    let hello = Hello {
        version_min: 2,
        version_max: 1,
        ..Hello::default()
    };
    assert_eq!(hello.validate(), Ok(0));
    assert_eq!(
        VersionRange::OURS.agree(hello.versions()),
        None,
        "answered VersionMismatch"
    );
    let named = Hello {
        tenant: "t".repeat(257),
        ..hello
    };
    assert_eq!(refusal_of(&named).status(), Status::TooLarge);
}

#[test]
fn frame_of_another_message_or_payload_is_refused() {
    let frames = samples::all();
    let (get, body) = cut(&frames[9].frame);
    assert_eq!(get.known_opcode(), Some(Opcode::Get));
    let wrong = decode::<SetRequest>(&get, body).unwrap_err();
    assert_eq!(wrong, MessageError::WrongOpcode { opcode: 3 });
    assert_eq!(wrong.status(), Status::Malformed);
    assert!(
        decode::<GetResponse>(&get, body).is_err(),
        "a request is no answer"
    );
    assert!(
        decode::<Refused>(&get, body).is_err(),
        "a request is no refusal"
    );
    let lying = FrameHeader {
        payload_len: 1,
        ..get
    };
    let error = decode::<GetRequest>(&lying, body).unwrap_err();
    assert!(matches!(
        error,
        MessageError::Disagrees {
            what: "payload length",
            ..
        }
    ));
}

#[test]
fn body_at_an_odd_address_is_an_error_in_place_and_decoded_by_copy() {
    let samples = samples::all();
    let (header, body) = cut(&samples[9].frame);
    let mut shifted = BodyBuffer::new();
    shifted.extend_from_slice(&[0]);
    shifted.extend_from_slice(body);
    let error = access::<GetRequest>(&header, &shifted[1..]).unwrap_err();
    assert_eq!(error, MessageError::Misaligned);
    assert_eq!(error.status(), Status::Internal);
    decode::<GetRequest>(&header, &shifted[1..]).unwrap();
}

#[test]
fn refusal_text_over_its_limit_is_cut_at_a_character() {
    let refused = Refused::new(Status::Busy, "é".repeat(1000));
    assert_eq!(refused.message.len(), 1024);
    assert_eq!(refused.validate(), Ok(0));
    let odd = Refused::new(Status::Busy, format!("x{}", "é".repeat(1000)));
    assert_eq!(odd.message.len(), 1023);
}
