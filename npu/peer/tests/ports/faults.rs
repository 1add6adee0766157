//! Cards that fail in the middle of a transfer: the right answer for the right key in time,
//! everything given back, and both processes go on.

use std::time::{Duration, Instant};

use crate::worker::{Backend, Stage};

const SHAPE: &str = "300000x4";
const STALL: Duration = Duration::from_secs(2);

fn stage(settings: &[(&str, &str)]) -> Stage {
    Stage::new(
        Backend::Simulated,
        &[&[("PRESET", "instant")], settings].concat(),
    )
}

/// The sender's card is lost: its receiver gets the object from somebody else, or not at all.
#[test]
fn a_senders_card_lost_in_the_middle_is_gone_around() {
    let stage = stage(&[]);
    // The first task is a copy of the test's bytes to the card.
    let mut lost = stage.start_with(0, STALL, &[("FAULTS", "lost:0:9")]);
    let mut good = stage.start_with(1, STALL, &[]);
    let mut receiver = stage.start_with(2, STALL, &[]);
    assert_eq!(lost.ask(&format!("put a {SHAPE} 3")), "ok");
    assert_eq!(good.ask(&format!("put b {SHAPE} 3")), "ok");
    let begun = Instant::now();
    let got = receiver.ask(&format!("get a,b {SHAPE} 3 6000"));
    assert_eq!(got, "absent ok", "right answers for the right keys");
    assert!(begun.elapsed() < Duration::from_secs(30));
    // It has left with all that it had: somebody else may offer the key.
    assert_eq!(lost.ask("forget a"), "Ok(false)");
    assert_eq!(good.ask(&format!("put a {SHAPE} 3")), "ok");
    assert_eq!(receiver.ask(&format!("get a {SHAPE} 3 40000")), "ok");
    for worker in [lost, good, receiver] {
        worker.finish();
    }
}

/// The receiver's card is lost: its caller is told so, the sender serves others.
#[test]
fn a_receivers_card_lost_in_the_middle_is_told() {
    let stage = stage(&[]);
    let mut sender = stage.start_with(0, STALL, &[]);
    let mut lost = stage.start_with(1, STALL, &[("FAULTS", "lost:1:7")]);
    let mut other = stage.start_with(2, STALL, &[]);
    assert_eq!(sender.ask(&format!("put a {SHAPE} 3")), "ok");
    let begun = Instant::now();
    let got = lost.ask(&format!("get a {SHAPE} 3 40000"));
    assert!(got.starts_with("failed device lost"), "{got}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(other.ask(&format!("get a {SHAPE} 3 40000")), "ok");
    assert_eq!(sender.ask("forget a"), "Ok(true)");
    for worker in [sender, lost, other] {
        worker.finish();
    }
}

/// A card with room for its object and none for a link's buffers.
#[test]
fn a_card_without_memory_for_a_link_gets_nothing_in_time_and_goes_on() {
    let stage = stage(&[]);
    let mut sender = stage.start_with(0, STALL, &[]);
    let mut full = stage.start_with(1, STALL, &[("FAULTS", "oom:1:16777216")]);
    let mut other = stage.start_with(2, STALL, &[]);
    assert_eq!(sender.ask(&format!("put a {SHAPE} 3")), "ok");
    let begun = Instant::now();
    let got = full.ask(&format!("get a,b {SHAPE} 3 3000"));
    assert_eq!(got, "failed out of device memory for 20971584 bytes absent");
    assert!(begun.elapsed() < Duration::from_secs(30));
    // What needs no link works on.
    assert_eq!(full.ask(&format!("put c {SHAPE} 3")), "ok");
    assert_eq!(full.ask("forget c"), "Ok(true)");
    assert_eq!(other.ask(&format!("get a {SHAPE} 3 40000")), "ok");
    for worker in [sender, full, other] {
        worker.finish();
    }
}

/// A send whose other end fails: both are told by the library, and try again.
#[test]
fn a_link_error_in_the_middle_costs_a_new_link() {
    let stage = stage(&[]);
    let mut sender = stage.start_with(0, STALL, &[("FAULTS", "remote:0:7")]);
    let mut receiver = stage.start_with(1, STALL, &[("FAULTS", "task:1:20:507056")]);
    assert_eq!(sender.ask(&format!("put a {SHAPE} 3")), "ok");
    assert_eq!(receiver.ask(&format!("get a {SHAPE} 3 40000")), "ok");
    for worker in [sender, receiver] {
        worker.finish();
    }
}
