use super::*;
use crate::message::{Bye, Challenge, GetRequest, KeyBatch};
use crate::opcode::Opcode;
use crate::status::Status;

#[test]
fn frames_are_appended_and_a_failed_one_leaves_no_bytes() {
    let mut buffer = BodyBuffer::new();
    let header = FrameHeader::request(Opcode::Bye, 1);
    encode_frame(&mut buffer, &header, &Bye { reason: 0 }).unwrap();
    let one = buffer.len();
    encode_frame(&mut buffer, &header, &Bye { reason: 0 }).unwrap();
    assert_eq!(buffer.len(), 2 * one);
    // A body over the limit is found while it is written.
    let keys = KeyBatch {
        bytes: vec![b'k'; 17 << 20],
        lens: Vec::new(),
    };
    let message = GetRequest {
        keys,
        ..GetRequest::default()
    };
    assert!(!archive_body(&mut buffer, 2 * one, &message));
    assert!(buffer.len() <= 2 * one + BODY_MAX as usize);
    buffer.cut(2 * one);
    assert_eq!(buffer.len(), 2 * one);
}

#[test]
fn handshake_answers_have_opcodes_of_their_own() {
    let hello = FrameHeader::request(Opcode::Hello, 1);
    let answer = FrameHeader::answer(&hello, Status::Ok);
    let challenge = Challenge {
        version: 1,
        ..Challenge::default()
    };
    let mut buffer = Vec::new();
    encode_frame(&mut buffer, &answer, &challenge).unwrap_err();
    let answer = answer.with_opcode(Opcode::Challenge);
    encode_frame(&mut buffer, &answer, &challenge).unwrap();
}

#[test]
fn answers_are_done_or_refused_by_the_header() {
    let request = FrameHeader::request(Opcode::Get, 3);
    let refusal = Refused::new(Status::ShuttingDown, "draining");
    let mut buffer = BodyBuffer::new();
    let header = encode_refusal(&mut buffer, &request, &refusal).unwrap();
    assert_eq!(header.outcome(), Status::ShuttingDown);
    let answer = access_answer::<crate::message::GetResponse>(&header, &buffer[HEADER_BYTES..]);
    let Ok(Answer::Refused(read)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (read.status(), read.message.as_str()),
        (Status::ShuttingDown, "draining")
    );
    // A refusal cannot pretend success.
    let pretending = FrameHeader::answer(&request, Status::Ok);
    encode_frame(&mut buffer, &pretending, &refusal).unwrap_err();
}
