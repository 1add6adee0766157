use super::*;

const LIMITS: FrameLimits = FrameLimits::with_payload_max(1 << 40);

#[test]
fn fields_lie_where_they_are_drawn() {
    let header = FrameHeader {
        version: 1,
        opcode: 0x22,
        flags: FrameFlags(0xf1),
        request_id: 0x3132_3334_3536_3738,
        slot: 0x0142,
        body_len: 0x0051_5253,
        payload_len: 0x61_6263_6465,
        deadline_unix_ms: 0x7172_7374_7576_7778,
        body_crc: 0x8182_8384,
        status: 0x9192,
    };
    let bytes = header.encode();
    assert_eq!(bytes[..8], [b'C', b'H', b'R', b'T', 1, 0, 0x22, 0xf1]);
    assert_eq!(
        bytes[8..16],
        [0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31]
    );
    assert_eq!(bytes[16..24], [0x42, 0x01, 64, 0, 0x53, 0x52, 0x51, 0x00]);
    assert_eq!(bytes[24..32], [0x65, 0x64, 0x63, 0x62, 0x61, 0, 0, 0]);
    assert_eq!(
        bytes[32..40],
        [0x78, 0x77, 0x76, 0x75, 0x74, 0x73, 0x72, 0x71]
    );
    assert_eq!(bytes[40..46], [0x84, 0x83, 0x82, 0x81, 0x92, 0x91]);
    assert_eq!(bytes[46..60], [0; 14]);
    assert_eq!(FrameHeader::parse(&bytes, &LIMITS), Ok(header));
}

#[test]
fn answer_carries_the_identity_of_its_request() {
    let request = FrameHeader::request(Opcode::Get, 5)
        .with_slot(9)
        .with_deadline(77);
    let answer = FrameHeader::answer(&request, Status::Busy);
    assert_eq!((answer.request_id, answer.slot, answer.opcode), (5, 9, 3));
    assert_eq!(
        (answer.outcome(), answer.direction()),
        (Status::Busy, Direction::Response)
    );
    assert_eq!(request.direction(), Direction::Request);
    let refusal = FrameHeader::refusal(5, Status::Malformed);
    assert_eq!(refusal.known_opcode(), Some(Opcode::Refused));
}

#[test]
fn frame_len_of_the_largest_frame_does_not_wrap() {
    let mut header = FrameHeader::request(Opcode::Set, 1);
    header.body_len = BODY_MAX;
    header.payload_len = PAYLOAD_MAX;
    assert_eq!(header.frame_len(), 64 + u64::from(BODY_MAX) + PAYLOAD_MAX);
}

#[test]
#[should_panic(expected = "slot < SLOT_COUNT")]
fn slot_that_does_not_exist_is_a_bug_of_the_sender() {
    let _header = FrameHeader::request(Opcode::Set, 1).with_slot(SLOT_COUNT);
}

#[test]
fn limits_of_a_connection_are_those_of_its_versions() {
    let bytes = FrameHeader::request(Opcode::Nop, 1).encode();
    let limits = FrameLimits {
        versions: VersionRange { min: 2, max: 2 },
        ..LIMITS
    };
    let error = FrameHeader::parse(&bytes, &limits).unwrap_err();
    assert_eq!(
        error,
        FrameError::Version {
            found: 1,
            min: 2,
            max: 2,
            request_id: 1
        }
    );
}
