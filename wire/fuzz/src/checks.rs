//! What must hold for any bytes, one function per fuzz target.
//!
//! Used twice: by the fuzz targets beside, and by `wire/proto/tests/corpus.rs`, which replays the
//! checked-in corpus in every ordinary test run. A check panics when it finds something.

use core::fmt::Debug;

use chariot_proto::message::{
    Bye, Challenge, DeleteRequest, DeleteResponse, ExistRequest, ExistResponse, ExpireRequest,
    ExpireResponse, GetRequest, GetResponse, Hello, Message, ObjectRequest, ObjectResponse,
    OpenRing, PrefixRequest, PrefixResponse, Proof, Refused, RingOpened, SetRequest, SetResponse,
    SizeRequest, SizeResponse, StatsRequest, StatsResponse, Welcome,
};
use chariot_proto::{
    BodyBuffer, Direction, FrameHeader, FrameLimits, MessageError, SplitFrame, Status, access,
    decode, encode_frame, split_frame,
};

/// A check over any bytes.
pub(crate) type Check = fn(&[u8]);

/// Every target by the name of its binary and of its corpus directory.
pub(crate) const TARGETS: &[(&str, Check)] = &[
    ("frame_header", frame_header),
    ("frame_stream", frame_stream),
    ("body_bye", body::<Bye>),
    ("body_challenge", body::<Challenge>),
    ("body_delete_request", body::<DeleteRequest>),
    ("body_delete_response", body::<DeleteResponse>),
    ("body_exist_request", body::<ExistRequest>),
    ("body_exist_response", body::<ExistResponse>),
    ("body_expire_request", body::<ExpireRequest>),
    ("body_expire_response", body::<ExpireResponse>),
    ("body_object_request", body::<ObjectRequest>),
    ("body_object_response", body::<ObjectResponse>),
    ("body_get_request", body::<GetRequest>),
    ("body_get_response", body::<GetResponse>),
    ("body_hello", body::<Hello>),
    ("body_open_ring", body::<OpenRing>),
    ("body_prefix_request", body::<PrefixRequest>),
    ("body_prefix_response", body::<PrefixResponse>),
    ("body_proof", body::<Proof>),
    ("body_refused", body::<Refused>),
    ("body_ring_opened", body::<RingOpened>),
    ("body_set_request", body::<SetRequest>),
    ("body_set_response", body::<SetResponse>),
    ("body_size_request", body::<SizeRequest>),
    ("body_size_response", body::<SizeResponse>),
    ("body_stats_request", body::<StatsRequest>),
    ("body_stats_response", body::<StatsResponse>),
    ("body_welcome", body::<Welcome>),
];

/// Runs the check of the target `name`.
///
/// # Panics
///
/// When the check finds something, or no target has that name.
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, check) = TARGETS
        .iter()
        .find(|(target, _)| *target == name)
        .expect("a known target");
    check(bytes);
}

const LIMITS: FrameLimits = FrameLimits::with_payload_max(1 << 40);

/// Any bytes are a header or an error; an accepted header keeps its fields through `encode`.
fn frame_header(bytes: &[u8]) {
    // With the right checksum, so that what lies behind it is reached as well.
    let mut sealed = bytes.to_vec();
    if let Some((head, crc)) = sealed
        .first_chunk_mut::<64>()
        .and_then(|head| head.split_last_chunk_mut::<4>())
    {
        *crc = crc32c::crc32c(head).to_le_bytes();
    }
    for bytes in [bytes, &sealed] {
        match FrameHeader::parse(bytes, &LIMITS) {
            Ok(header) => {
                assert!(header.payload_len <= LIMITS.payload_max);
                assert!(header.body_len <= LIMITS.body_max);
                assert_eq!(FrameHeader::parse(&header.encode(), &LIMITS), Ok(header));
            },
            Err(error) => assert!(!error.status().is_ok() && !error.to_string().is_empty()),
        }
    }
}

/// Any stream is cut into frames without going back, beyond the end or for ever.
fn frame_stream(bytes: &[u8]) {
    let mut left = bytes;
    loop {
        match split_frame(left, &LIMITS) {
            Ok(SplitFrame::Complete { header, body, rest }) => {
                assert_eq!(body.len() as u64, u64::from(header.body_len));
                assert_eq!(left.len(), 64 + body.len() + rest.len());
                let Ok(payload_len) = usize::try_from(header.payload_len) else {
                    return;
                };
                let Some((_, next)) = rest.split_at_checked(payload_len) else {
                    return;
                };
                left = next;
            },
            Ok(SplitFrame::Incomplete { needed }) => {
                assert!(needed > left.len() as u64);
                return;
            },
            Err(_) => return,
        }
    }
}

/// Makes the header that would announce `body` as message `M`.
pub(crate) fn header_for<M: Message>(body: &[u8], payload_len: u64) -> FrameHeader {
    let request = FrameHeader::request(M::OPCODES[0], 7);
    let status = if M::IS_REFUSAL {
        Status::Internal
    } else {
        Status::Ok
    };
    let header = match M::DIRECTION {
        Direction::Request => request,
        Direction::Response => FrameHeader::answer(&request, status),
    };
    let body_len = u32::try_from(body.len()).expect("a fuzz input is short");
    FrameHeader {
        body_len,
        body_crc: crc32c::crc32c(body),
        payload_len,
        ..header
    }
}

/// Any bytes are a message or an error; both forms judge it alike, and it survives a round trip.
fn body<M: Message + PartialEq + Debug>(bytes: &[u8]) {
    let mut aligned = BodyBuffer::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    let mut header = header_for::<M>(&aligned, 0);
    let mut result = access::<M>(&header, &aligned);
    if let Err(MessageError::Disagrees {
        what: "payload length",
        expected,
        ..
    }) = result
    {
        header.payload_len = expected;
        result = access::<M>(&header, &aligned);
    }
    let archived = match result {
        Ok(archived) => archived,
        Err(error) => {
            assert!(!error.status().is_ok() && !error.to_string().is_empty());
            return;
        },
    };
    assert_eq!(M::validate_archived(archived), Ok(header.payload_len));
    let owned = decode::<M>(&header, &aligned).expect("what is accessed is decoded");
    assert_eq!(owned.validate(), Ok(header.payload_len));
    let mut frame = Vec::new();
    let again = encode_frame(&mut frame, &header, &owned).expect("what is valid is sent");
    assert_eq!(decode::<M>(&again, &frame[64..]).as_ref(), Ok(&owned));
}
