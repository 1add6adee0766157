//! A client thread and a shard: an atomic slot each way, and the bell.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chariot_shard::{BellHandle, DriverStats, Pass, Progress, ShardExecutor};
use support::{Random, seat, wait_for, wait_until};

/// One request and one answer, as counters.
#[derive(Default)]
struct Slot {
    request: AtomicU64,
    answer: AtomicU64,
    stop: AtomicBool,
}

/// Answers each request with its number.
struct EchoPass {
    slot: Arc<Slot>,
    seen: u64,
    /// The mutation: does not look again before it sleeps.
    blind: bool,
    /// Posts a request at the worst moment: after the last round, before the sleep is declared.
    ambush: Option<(BellHandle, u64)>,
}

impl EchoPass {
    fn new(slot: &Arc<Slot>) -> Self {
        Self {
            slot: Arc::clone(slot),
            seen: 0,
            blind: false,
            ambush: None,
        }
    }
}

impl Pass for EchoPass {
    fn pass(&mut self, _now_ns: u64) -> Progress {
        let request = self.slot.request.load(Ordering::Acquire);
        let worked = request != self.seen;
        if worked {
            self.seen = request;
            self.slot.answer.store(request, Ordering::Release);
        }
        Progress {
            worked,
            stop: self.slot.stop.load(Ordering::Acquire),
            ..Progress::default()
        }
    }

    fn prepare_sleep(&mut self) {
        if let Some((bell, request)) = self.ambush.take() {
            self.slot.request.store(request, Ordering::Release);
            bell.ring();
        }
    }

    fn pending(&mut self) -> bool {
        !self.blind
            && (self.slot.request.load(Ordering::Acquire) != self.seen
                || self.slot.stop.load(Ordering::Acquire))
    }
}

fn post(slot: &Slot, bell: &BellHandle, request: u64) {
    slot.request.store(request, Ordering::Release);
    bell.ring();
}

/// Sends `rounds` requests with random pauses of up to `pause_max` spins; returns the driver's
/// counts.
fn ping_pong(spin_us: u32, rounds: u64, pause_max: u64) -> DriverStats {
    let slot = Arc::new(Slot::default());
    let seat = seat(spin_us);
    let bell = seat.bell();
    let mut pass = EchoPass::new(&slot);
    let join = ShardExecutor::spawn(seat, move |context| async move {
        context.run(&mut pass).await.unwrap();
        context.driver_stats()
    })
    .unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 1..=rounds {
        post(&slot, &bell, round);
        wait_until("an answer", || slot.answer.load(Ordering::Acquire) == round);
        for _ in 0..random.next() % (pause_max + 1) {
            std::hint::spin_loop();
        }
    }
    slot.stop.store(true, Ordering::Release);
    bell.ring();
    join.join().unwrap()
}

#[test]
fn a_parked_shard_answers_every_ring() {
    let stats = ping_pong(0, 2_000, 2_000);
    assert!(
        stats.sleeps > 100,
        "without a spin budget it sleeps: {stats:?}"
    );
}

#[test]
fn a_spinning_shard_answers_without_sleeping_each_time() {
    let stats = ping_pong(100, 20_000, 10);
    assert!(
        stats.sleeps < 20_000,
        "within the spin budget it stays awake: {stats:?}"
    );
}

#[test]
fn no_wake_is_lost_in_a_hundred_thousand_rounds() {
    // Pauses from none to about the length of a round, so that requests meet every step of a sleep.
    ping_pong(0, 100_000, 300);
}

/// Runs one ambushed sleep and says whether the request was answered.
fn ambushed(blind: bool) -> bool {
    let slot = Arc::new(Slot::default());
    let seat = seat(0);
    let bell = seat.bell();
    let mut pass = EchoPass::new(&slot);
    pass.blind = blind;
    pass.ambush = Some((bell.clone(), 7));
    let join = ShardExecutor::spawn(seat, move |context| async move {
        context.run(&mut pass).await.unwrap();
    })
    .unwrap();
    let answered = wait_for(
        if blind {
            Duration::from_millis(300)
        } else {
            support::PATIENCE
        },
        || slot.answer.load(Ordering::Acquire) == 7,
    );
    slot.stop.store(true, Ordering::Release);
    bell.ring();
    join.join().unwrap();
    answered
}

#[test]
fn a_request_between_the_last_round_and_the_sleep_is_answered() {
    assert!(ambushed(false));
}

#[test]
fn mutation_without_the_last_look_the_wake_is_lost() {
    assert!(!ambushed(true), "the test above can fail");
}
