//! Replays the fuzz corpus of a session's memory, and random programs: what was found once stays
//! found. Each bound lowered by one makes the corpus fail, so that it is known to reach them all.
#![expect(
    clippy::tests_outside_test_module,
    reason = "an integration test is one"
)]

#[path = "../../fuzz/src/session.rs"]
mod session;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use session::{Limits, STATED, session_attach, session_words};

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let inputs: Vec<Vec<u8>> = fs::read_dir(&folder)
        .expect("a folder of the fuzz crate")
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("a file"))
        .collect();
    assert!(!inputs.is_empty(), "{target} has no corpus");
    inputs
}

fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push(state.to_le_bytes()[3]);
    }
    bytes
}

#[test]
fn corpus_replays_without_a_finding() {
    for input in corpus("session_words") {
        session_words(&input, STATED);
    }
    let attached = corpus("session_attach")
        .iter()
        .filter(|input| session_attach(input))
        .count();
    assert_eq!(attached, 3, "good, answers, too_many_answers");
}

#[test]
fn random_programs_find_nothing() {
    for seed in 0..400 {
        let bytes = random_bytes(seed, 600);
        session_words(&bytes, STATED);
        session_attach(&bytes);
    }
}

/// Whether some input of the corpus goes beyond these bounds.
fn is_reached(limits: Limits) -> bool {
    corpus("session_words")
        .into_iter()
        .any(|input| catch_unwind(move || session_words(&input, limits)).is_err())
}

#[test]
fn the_corpus_reaches_every_bound() {
    let lowered = [
        Limits {
            in_flight: STATED.in_flight - 1,
            ..STATED
        },
        Limits {
            payload: STATED.payload - 1,
            ..STATED
        },
        Limits {
            pin_slots: STATED.pin_slots - 1,
            ..STATED
        },
        Limits {
            notes: STATED.notes - 1,
            ..STATED
        },
    ];
    for limits in lowered {
        assert!(is_reached(limits), "nothing goes beyond {limits:?}");
    }
    assert!(!is_reached(STATED));
}
