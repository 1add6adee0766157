//! The protocols of this crate under loom: every schedule and every permitted order of memory.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p chariot-shm --release --lib model`, in a target directory
//! of its own. The code under test is the product's, over [`ModelMemory`] instead of a mapping:
//! words are loom atomics; lines and bytes, which the protocols promise to order, are cells in
//! which loom reports any two accesses that are not ordered. Rings have 2 entries and 16 bytes
//! here, so that a few requests wrap them.
//!
//! Each model runs whole, and once more for every [`Step`] that it needs, without that step: then
//! it must fail, with the message that names the harm.

mod bell;
mod memory;
mod pins;
mod rings;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::Step;

/// What a model is run with: the step taken away, if any.
type Model = fn(Option<Step>);

/// One mutation: which step is taken away from which model, and what the failure must say.
struct Mutation {
    step: Step,
    model: Model,
    harm: &'static str,
}

/// Loom's word for two accesses to one cell that nothing orders.
const RACE: &str = "Causality violation";

const fn without(step: Step, model: Model, harm: &'static str) -> Mutation {
    Mutation { step, model, harm }
}

const MUTATIONS: &[Mutation] = &[
    without(Step::PublishSubmissions, rings::requests_and_answers, RACE),
    without(Step::SeeSubmissions, rings::requests_and_answers, RACE),
    without(Step::PublishCompletions, rings::requests_and_answers, RACE),
    without(Step::SeeCompletions, rings::requests_and_answers, RACE),
    without(Step::BoundInFlight, rings::requests_and_answers, RACE),
    without(Step::PublishSubmissions, rings::publish_then_read, RACE),
    without(Step::SeeSubmissions, rings::publish_then_read, RACE),
    without(Step::PublishCompletions, rings::publish_then_read, RACE),
    without(Step::SeeCompletions, rings::publish_then_read, RACE),
    without(Step::BellFence, bell::shard_sleeps, "lost wake"),
    without(Step::SleepFence, bell::shard_sleeps, "lost wake"),
    without(Step::SleepRecheck, bell::shard_sleeps, "lost wake"),
    without(Step::WakeFence, bell::client_waits, "lost wake"),
    without(Step::WaitFence, bell::client_waits, "lost wake"),
    without(Step::WaitRecheck, bell::client_waits, "lost wake"),
    without(Step::SeenBeforeRecheck, bell::client_waits, "lost wake"),
    without(Step::RaiseDoorbell, bell::client_waits, "lost wake"),
    without(Step::ConsumeCompletions, pins::hand_over, RACE),
    without(Step::SeeConsumed, pins::hand_over, RACE),
    without(Step::ConsumedBeforeScan, pins::hand_over, RACE),
    without(Step::PinBeforeConsume, pins::hand_over, RACE),
    without(Step::CompletionsArePins, pins::hand_over, RACE),
    without(Step::RaiseHighWater, pins::hand_over, RACE),
    without(Step::ReleasePin, pins::hand_over, RACE),
    without(Step::SeePins, pins::hand_over, RACE),
    without(Step::PinFence, pins::read_against_retire, RACE),
    without(Step::PinRecheck, pins::read_against_retire, RACE),
    without(Step::ScanFence, pins::read_against_retire, RACE),
    without(Step::RaiseHighWater, pins::read_against_retire, RACE),
    without(Step::ReleasePin, pins::read_against_retire, RACE),
    without(Step::SeePins, pins::read_against_retire, RACE),
    without(Step::GiveSlotBack, pins::two_readers, RACE),
    without(Step::TakeSlot, pins::two_readers, RACE),
];

/// Asserts that every mutation of `model` makes it fail, with the right message.
fn every_mutation_fails(model: Model) {
    let mut count = 0;
    for mutation in MUTATIONS
        .iter()
        .filter(|mutation| std::ptr::fn_addr_eq(mutation.model, model))
    {
        let step = mutation.step;
        let outcome = catch_unwind(AssertUnwindSafe(|| model(Some(step))));
        let panic = outcome.expect_err(&format!("the model does not miss {step:?}"));
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("");
        assert!(
            message.contains(mutation.harm),
            "without {step:?}: {message}"
        );
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn every_step_has_a_mutation() {
    let mut missing = Vec::new();
    for step in Step::ALL {
        if !MUTATIONS.iter().any(|mutation| mutation.step == step) {
            missing.push(step);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// Explores every schedule of `body` with at most `preemptions` preemptions (`None`: all).
fn explore(preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(body);
}
