//! Many receivers: everybody sends once, and what breaks on the way is gone around.

use std::time::{Duration, Instant};

use crate::worker::{Backend, Stage};

const SHAPE: &str = "300000x4";

#[test]
fn receivers_pass_on_what_they_get() {
    for (backend, receivers) in [(Backend::Host, 6), (Backend::Simulated, 8)] {
        let stage = Stage::new(backend, &[("PRESET", "instant")]);
        let mut workers: Vec<_> = (0..=receivers).map(|card| stage.start(card)).collect();
        for worker in &mut workers[1..] {
            worker.order(&format!("get r {SHAPE} 4 50000"));
        }
        assert_eq!(workers[0].ask(&format!("put r {SHAPE} 4")), "ok");
        for worker in &mut workers[1..] {
            assert_eq!(worker.answer(), "ok");
        }
        let bytes = 1_200_000;
        for worker in &mut workers {
            let stats = worker.ask("stats");
            let words: Vec<u64> = stats.split(' ').map(|word| word.parse().unwrap()).collect();
            assert_eq!(words[0], 1, "it provides the object");
            assert!(words[1] <= 2 * bytes, "nobody sends it to all: {stats}");
        }
        for worker in workers {
            worker.finish();
        }
    }
}

/// Slow links, so that a process can be killed in the middle of a transfer; each round one step
/// later in the life of its links: before its turn, while they are set up, while it passes chunks
/// on, after it.
#[test]
fn a_process_killed_at_any_step_is_gone_around() {
    let stage = Stage::new(
        Backend::Simulated,
        &[("PRESET", "a2"), ("PEER_SLOWER", "2000")],
    );
    for step in 0..6_u64 {
        let mut workers: Vec<_> = (0..4).map(|card| stage.start(card)).collect();
        assert_eq!(workers[0].ask(&format!("put d{step} {SHAPE} 9")), "ok");
        for worker in &mut workers[1..] {
            worker.order(&format!("get d{step} {SHAPE} 9 50000"));
        }
        // Whatever it was at, the others end well: nothing here depends on when it was.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(step * 150) {
            std::thread::yield_now();
        }
        workers[1].kill();
        for (at, worker) in workers.iter_mut().enumerate().skip(2) {
            assert_eq!(worker.answer(), "ok", "step {step}, receiver {at}");
        }
        let mut late = stage.start(4);
        assert_eq!(late.ask(&format!("get d{step} {SHAPE} 9 50000")), "ok");
        late.finish();
        for (at, worker) in workers.into_iter().enumerate() {
            if at != 1 {
                worker.finish();
            }
        }
    }
}

#[test]
fn a_stream_that_hangs_costs_a_standstill_and_nothing_else() {
    let stage = Stage::new(Backend::Simulated, &[("PRESET", "instant")]);
    let stall = Duration::from_millis(1500);
    let mut good = stage.start_with(0, stall, &[]);
    assert_eq!(good.ask(&format!("put h {SHAPE} 3")), "ok");
    // The fourteenth task of its card, a receive, does not end until its stream is aborted.
    let mut bad = stage.start_with(1, stall, &[("FAULTS", "hang:1:14")]);
    assert_eq!(bad.ask(&format!("get h {SHAPE} 3 50000")), "ok");
    assert_eq!(good.ask("forget h"), "Ok(true)");
    // What it got in two parts is whole: it is the only one that has it now.
    let mut third = stage.start_with(2, stall, &[]);
    assert_eq!(third.ask(&format!("get h {SHAPE} 3 40000")), "ok");
    for worker in [third, good, bad] {
        worker.finish();
    }
}
