//! Golden frames: bytes that every later build must read and write alike, for ever.

use std::fs;
use std::path::{Path, PathBuf};

use chariot_proto::{
    Answer, FrameFlags, FrameHeader, FrameLimits, MessageError, Opcode, SplitFrame, Status,
    VersionRange, decode, decode_answer, encode_frame, message, split_frame,
};

use crate::checks;
use crate::samples;

const LIMITS: FrameLimits = FrameLimits::with_payload_max(1 << 30);

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden/v1")
        .join(format!("{name}.bin"))
}

#[test]
fn golden_frames_decode_and_encode_to_the_same_bytes() {
    for sample in samples::all() {
        let golden = fs::read(golden(sample.name)).expect(sample.name);
        assert_eq!(
            golden, sample.frame,
            "{}: this build writes other bytes",
            sample.name
        );
        let split = split_frame(&golden, &LIMITS).unwrap();
        let SplitFrame::Complete { header, body, rest } = split else {
            panic!("{split:?}")
        };
        assert_eq!(rest.len() as u64, header.payload_len);
        let mut again = (sample.again)(&header, body).expect(sample.name);
        again.extend_from_slice(rest);
        assert_eq!(again, golden, "{}", sample.name);
    }
}

#[test]
fn every_message_and_every_framed_opcode_has_a_golden_frame() {
    let files = fs::read_dir(golden("x").parent().unwrap()).unwrap().count();
    assert_eq!(files, samples::all().len());
    assert_eq!(
        files,
        checks::TARGETS.len() - 2,
        "each message has a fuzz target"
    );
    let sent = samples::opcodes();
    // View and Wait share the messages of Get, MultiSetTx that of Set, and the other operations on
    // objects that of ObjectLatch; Nop has no body; Attach has no message yet.
    let others = [
        Opcode::Nop,
        Opcode::View,
        Opcode::Wait,
        Opcode::MultiSetTx,
        Opcode::ObjectRef,
        Opcode::ObjectNest,
        Opcode::ObjectBind,
        Opcode::Attach,
    ];
    for &opcode in Opcode::ALL {
        let expected = opcode.is_framed() && !others.contains(&opcode);
        assert_eq!(sent.contains(&opcode), expected, "{opcode:?}");
    }
}

/// What version 1 promises to a newer peer that has learnt more flags and uses the spare bytes.
#[test]
fn newer_minor_peer_is_understood_as_documented() {
    let golden = fs::read(golden("set_request")).unwrap();
    let mut newer = golden.clone();
    newer[7] |= 0x70; // frame flags that may be ignored
    newer[46..60].fill(0xee); // spare bytes
    seal(&mut newer);
    let header = FrameHeader::parse(&newer, &LIMITS).unwrap();
    assert_eq!(header.known_opcode(), Some(Opcode::Set));
    newer[7] |= 0x02; // a frame flag that must be understood
    seal(&mut newer);
    let refused = FrameHeader::parse(&newer, &LIMITS).unwrap_err();
    assert_eq!(refused.status(), Status::NotSupported);
    assert_eq!(refused.request_id(), Some(0x0102_0304_0506_0708));

    // Body flags: the high half may be ignored, the low half must be understood.
    let request = FrameHeader::request(Opcode::Stats, 1);
    let mut body = Vec::new();
    let ignorable = message::StatsRequest { flags: 0x8000_0000 };
    let sent = encode_frame(&mut body, &request, &ignorable).unwrap();
    assert_eq!(
        decode::<message::StatsRequest>(&sent, &body[64..]),
        Ok(ignorable)
    );
    let critical = message::StatsRequest { flags: 0x8000 };
    let refused = encode_frame(&mut body, &request, &critical).unwrap_err();
    assert_eq!(
        refused,
        MessageError::Flags {
            what: "stats flags",
            flags: 0x8000
        }
    );
    assert_eq!(refused.status(), Status::NotSupported);

    // Versions: the newest common one is taken; a frame in another is refused by number.
    assert_eq!(
        VersionRange::OURS.agree(VersionRange { min: 1, max: 9 }),
        Some(1)
    );
    let mut newer = golden;
    newer[4] = 2;
    seal(&mut newer);
    let refused = FrameHeader::parse(&newer, &LIMITS).unwrap_err();
    assert_eq!(refused.status(), Status::VersionMismatch);
    assert!(refused.request_id().is_some());
}

#[test]
fn reserved_and_unknown_opcodes_are_decoded_and_answered_not_supported() {
    for number in (0..=u8::MAX).filter(|n| Opcode::from_u8(*n).is_none_or(Opcode::is_reserved)) {
        let mut header = FrameHeader::request(Opcode::Nop, 9);
        header.opcode = number;
        let header = FrameHeader::parse(&header.encode(), &LIMITS).unwrap();
        assert_eq!(header.opcode, number);
        assert!(header.known_opcode().is_none_or(Opcode::is_reserved));
        let refusal = message::Refused::new(Status::NotSupported, "no such operation here");
        let mut answer = Vec::new();
        let sent = chariot_proto::encode_refusal(&mut answer, &header, &refusal).unwrap();
        assert_eq!((sent.opcode, sent.request_id), (number, 9));
        assert!(sent.flags.contains(FrameFlags::RESPONSE));
        let read = decode_answer::<message::GetResponse>(&sent, &answer[64..]);
        assert_eq!(read, Ok(Answer::Refused(refusal)));
    }
}

fn seal(frame: &mut [u8]) {
    let crc = crc32c::crc32c(&frame[..60]);
    frame[60..64].copy_from_slice(&crc.to_le_bytes());
}

/// Never overwrites: a golden frame that exists is right, and the build that differs is wrong.
#[test]
#[ignore = "writes golden frames and fuzz seeds of new messages; run by hand"]
fn write_missing_golden_frames_and_seeds() {
    for sample in samples::all() {
        let path = golden(sample.name);
        if !path.exists() {
            fs::write(&path, &sample.frame).unwrap();
        }
        let SplitFrame::Complete { body, .. } = split_frame(&sample.frame, &LIMITS).unwrap() else {
            panic!("a sample is complete");
        };
        seed(&format!("body_{}", sample.name), "golden", body);
        let mut torn = body.to_vec();
        let middle = torn.len() / 2;
        torn[middle] ^= 0xff;
        seed(&format!("body_{}", sample.name), "torn", &torn);
        let mut far = body.to_vec();
        let root = far.len().saturating_sub(8);
        far[root..].fill(0xff);
        seed(&format!("body_{}", sample.name), "far", &far);
        if ["hello", "set_request", "get_response", "refused"].contains(&sample.name) {
            seed("frame_header", sample.name, &sample.frame[..64]);
            seed("frame_stream", sample.name, &sample.frame.repeat(3));
            let mut long = sample.frame[..64].to_vec();
            long[20..32].fill(0xff);
            seed("frame_header", &format!("{}_long", sample.name), &long);
        }
    }
    seed("frame_header", "short", b"CHRT\x01\x00");
    seed("frame_stream", "cut", &samples::all()[0].frame[..100]);
}

fn seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    if !path.exists() {
        fs::write(path, bytes).unwrap();
    }
}
