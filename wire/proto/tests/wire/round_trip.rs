//! Any message that is valid survives the wire, in both buffers and behind other frames.

use chariot_proto::message::{
    ByteRange, GetRequest, GetResponse, Hello, KeyAnswer, KeyBatch, Message, Refused, SetItem,
    SetRequest, StatEntry, StatsResponse,
};
use chariot_proto::{
    BodyBuffer, FrameFlags, FrameHeader, FrameLimits, Opcode, SplitFrame, Status, access, decode,
    encode_frame, limits, split_frame,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::checks::header_for;

const LIMITS: FrameLimits = FrameLimits::with_payload_max(limits::PAYLOAD_MAX);

fn keys(count: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = KeyBatch> {
    vec(vec(any::<u8>(), 0..40), count).prop_map(|keys| KeyBatch::from_keys(&keys).unwrap())
}

fn text(max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..max / 4).prop_map(|chars| chars.into_iter().collect())
}

fn round_trips<M: Message + PartialEq + core::fmt::Debug>(message: &M) {
    let header = header_for::<M>(&[], 0);
    let mut plain = vec![0xaa; 13]; // an odd start: bodies do not depend on where they begin
    let sent = encode_frame(&mut plain, &header, message).unwrap();
    let mut aligned = BodyBuffer::new();
    assert_eq!(encode_frame(&mut aligned, &header, message).unwrap(), sent);
    assert_eq!(&plain[13..], &aligned[..], "the same bytes from any buffer");
    let split = split_frame(&aligned, &LIMITS).unwrap();
    let SplitFrame::Complete { header, body, rest } = split else {
        panic!("{split:?}")
    };
    assert_eq!((header, rest.len()), (sent, 0));
    assert_eq!(decode::<M>(&header, body).as_ref(), Ok(message));
    assert_eq!(
        decode::<M>(&header, &plain[13 + 64..]).as_ref(),
        Ok(message)
    );
    access::<M>(&header, body).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn header_round_trips(
        opcode in any::<u8>(), flags in (0_u8..16).prop_map(|high| high << 4),
        request_id in any::<u64>(), slot in 0_u16..limits::SLOT_COUNT,
        lens in (0..=limits::BODY_MAX, 0..=limits::PAYLOAD_MAX),
        deadline_unix_ms in any::<u64>(), body_crc in any::<u32>(), status in any::<u16>(),
    ) {
        let header = FrameHeader {
            opcode, flags: FrameFlags(flags | 1), body_len: lens.0, payload_len: lens.1,
            deadline_unix_ms, body_crc, status,
            ..FrameHeader::request(Opcode::Nop, request_id).with_slot(slot)
        };
        prop_assert_eq!(FrameHeader::parse(&header.encode(), &LIMITS), Ok(header));
    }

    #[test]
    fn set_round_trips(
        keys in keys(1..50), ttl_ms in 0..=limits::TTL_MS_MAX, mode in 0_u8..5,
        existence in 0_u8..2, item in any::<(u32, u32, bool)>(),
    ) {
        let item = SetItem { value_len: u64::from(item.0), crc: item.1, flags: item.2.into() };
        let items = vec![item; keys.len()];
        round_trips(&SetRequest { ttl_ms, flags: 0, mode, existence, keys, items });
    }

    #[test]
    fn get_round_trips(keys in keys(1..50), whole in any::<bool>(), offset in any::<u64>()) {
        let count = if whole { 0 } else { keys.len() };
        let ranges = vec![ByteRange { offset, len: offset / 2 }; count];
        round_trips(&GetRequest { wait_ms: 1, flags: 3, keys, ranges });
    }

    #[test]
    fn get_answer_round_trips(lens in vec(any::<u32>(), 1..50), version in any::<u64>()) {
        let answer = |&len: &u32| KeyAnswer {
            size: u64::from(len), len: u64::from(len), version, ..KeyAnswer::default()
        };
        round_trips(&GetResponse { answers: lens.iter().map(answer).collect() });
    }

    #[test]
    fn texts_round_trip(tenant in text(256), client in text(256), refusal in text(1024)) {
        round_trips(&Hello { version_max: 1, tenant, client, ..Hello::default() });
        round_trips(&Refused::new(Status::Again, refusal.clone()));
        let entry = StatEntry { value: 1, name: refusal.chars().take(50).collect() };
        round_trips(&StatsResponse { entries: vec![entry; 3] });
    }

    #[test]
    fn archived_keys_are_the_owned_ones(keys in keys(1..200)) {
        let message = GetRequest { keys, ..GetRequest::default() };
        let mut frame = BodyBuffer::new();
        let header = encode_frame(&mut frame, &header_for::<GetRequest>(&[], 0), &message).unwrap();
        let archived = access::<GetRequest>(&header, &frame[64..]).unwrap();
        prop_assert_eq!(archived.keys.len(), message.keys.len());
        prop_assert!(archived.keys.iter().eq(message.keys.iter()));
    }

    #[test]
    fn any_bytes_behind_a_right_checksum_are_a_message_or_an_error(
        bytes in vec(any::<u8>(), 0..300),
    ) {
        for (target, _) in crate::checks::TARGETS {
            crate::checks::run(target, &bytes);
        }
    }
}

#[test]
fn largest_batch_fits_the_body() {
    let key = [b'k'; 1024];
    let mut keys = KeyBatch::default();
    for _ in 0..limits::BATCH_MAX {
        keys.push(&key).unwrap();
    }
    let items = vec![SetItem::default(); limits::BATCH_MAX as usize];
    round_trips(&SetRequest {
        keys: keys.clone(),
        items,
        ..SetRequest::default()
    });
    let ranges = vec![ByteRange::default(); limits::BATCH_MAX as usize];
    round_trips(&GetRequest {
        keys,
        ranges,
        ..GetRequest::default()
    });
}

#[test]
fn buffer_is_used_again_without_growing() {
    let message = GetRequest {
        keys: KeyBatch::from_keys(&["a", "b"]).unwrap(),
        ..GetRequest::default()
    };
    let header = header_for::<GetRequest>(&[], 0);
    let mut buffer = Vec::new();
    encode_frame(&mut buffer, &header, &message).unwrap();
    let (first, capacity) = (buffer.clone(), buffer.capacity());
    for _ in 0..100 {
        buffer.clear();
        encode_frame(&mut buffer, &header, &message).unwrap();
        assert_eq!(buffer, first);
    }
    assert_eq!(buffer.capacity(), capacity);
}
