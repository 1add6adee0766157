//! Submit against take, post against pop, and both rings and the byte ring wrapping.

use loom::thread;

use super::memory::ModelMemory;
use super::pins::ExtentBytes;
use super::{every_mutation_fails, explore};
use crate::ring::{ClientRing, CompletionWords, ServerRing, SubmissionFlags, SubmissionWords};
use crate::sync::Step;

/// One more than the ring has entries, and 21 bytes on a byte ring of 16.
const REQUESTS: u32 = 3;
const PAYLOAD_LEN: usize = 7;

/// A client sends three requests and reads three answers; a shard answers each with its token.
pub(super) fn requests_and_answers(removed: Option<Step>) {
    run(removed, REQUESTS, Some(3));
}

/// The same with `requests` requests and `preemptions` preemptions.
fn run(removed: Option<Step>, requests: u32, preemptions: Option<usize>) {
    explore(preemptions, move || {
        let (rw, ro) = (
            ModelMemory::read_write(removed),
            ModelMemory::read_only(removed),
        );
        let client = ClientRing::new(rw.clone(), ro.clone(), 0);
        let server = ServerRing::new(rw, ro, 0);
        let shard = thread::spawn(move || answer_all(server, requests));
        ask_all(client, requests);
        shard.join().unwrap();
    });
}

fn ask_all(mut ring: ClientRing<ModelMemory>, requests: u32) {
    let (mut asked, mut answered) = (0, 0);
    while answered < requests {
        while asked < requests && ring.try_submit(&request(asked), &payload(asked)).is_ok() {
            asked += 1;
            ring.publish();
        }
        match ring.pop().expect("the shard is not hostile") {
            Some(answer) => {
                assert_eq!(answer.token, answered);
                assert_eq!(answer.version, u64::from(answered) + 10);
                ring.consume();
                answered += 1;
            },
            None => thread::yield_now(),
        }
    }
    assert_eq!(ring.in_flight(), 0);
}

fn answer_all(mut ring: ServerRing<ModelMemory>, requests: u32) {
    let mut answered = 0;
    while answered < requests {
        let Some(submission) = ring.take().expect("the client is not hostile") else {
            thread::yield_now();
            continue;
        };
        assert_eq!(submission.words.token, answered);
        let mut bytes = [0; PAYLOAD_LEN];
        assert_eq!(ring.copy_payload(&submission, &mut bytes), PAYLOAD_LEN);
        assert_eq!(bytes, payload(answered));
        let version = u64::from(answered) + 10;
        ring.post(&CompletionWords {
            token: answered,
            version,
            ..CompletionWords::default()
        });
        ring.flush();
        answered += 1;
    }
}

/// A writer fills an extent of its lease and publishes it; the shard names it to a reader of
/// another session, which reads it under the completion's pin.
pub(super) fn publish_then_read(removed: Option<Step>) {
    explore(None, move || {
        let session = || {
            let (rw, ro) = (
                ModelMemory::read_write(removed),
                ModelMemory::read_only(removed),
            );
            (
                ClientRing::new(rw.clone(), ro.clone(), 0),
                ServerRing::new(rw, ro, 0),
            )
        };
        let ((mut writer, mut from_writer), (mut reader, mut to_reader)) = (session(), session());
        let extent = ExtentBytes::new();
        reader.try_submit(&SubmissionWords::default(), &[]).unwrap();
        reader.publish();
        assert!(to_reader.take().unwrap().is_some());

        let lease = extent.clone();
        let write = thread::spawn(move || {
            lease.reuse();
            writer.try_submit(&SubmissionWords::default(), &[]).unwrap();
            writer.publish();
        });
        let shard = thread::spawn(move || {
            if from_writer.take().unwrap().is_some() {
                to_reader.post(&CompletionWords::default());
                to_reader.flush();
            }
        });
        if reader.pop().unwrap().is_some() {
            assert_eq!(extent.value(), 2);
        }
        write.join().unwrap();
        shard.join().unwrap();
    });
}

fn request(token: u32) -> SubmissionWords {
    let flags = SubmissionFlags::VALUE_INLINE;
    SubmissionWords {
        flags,
        key_len: 3,
        len: 4,
        token,
        ..SubmissionWords::default()
    }
}

fn payload(token: u32) -> [u8; PAYLOAD_LEN] {
    [u8::try_from(token).unwrap() + 1; PAYLOAD_LEN]
}

/// Submit against take and post against pop, in every schedule there is.
#[test]
fn one_request_crosses_in_every_schedule() {
    run(None, 1, None);
}

/// Three requests wrap both rings, in every schedule with at most three preemptions.
#[test]
fn requests_and_answers_cross_whole_and_in_order() {
    requests_and_answers(None);
}

#[test]
fn published_extent_is_read_whole() {
    publish_then_read(None);
}

#[test]
fn published_extent_needs_every_step() {
    every_mutation_fails(publish_then_read);
}

#[test]
fn requests_and_answers_need_every_step() {
    every_mutation_fails(requests_and_answers);
}
