//! The model test: random work on a node of one to three shards over disks that lie, against maps
//! of what may and must be there.
//!
//! A schedule is a seed: it draws work, the order in which I/O completes, faults, kills, power cuts
//! and other shard counts. What is checked at every read and after every restart:
//! - a value is one that was written for that key, byte for byte, and not expired;
//! - no version comes back that a completed delete or overwrite has killed (after a power cut: one
//!   that a flush covers), nor one older than what was read before;
//! - what a completed write (after a power cut: a flush) brought is there, unless it was deleted,
//!   expired, or given up for room, which is counted.
//!
//! `disk.rs` is the device, `node.rs` the shards over it, `schedule.rs` the work and the checks.

mod directed;
mod disk;
mod mutants;
mod node;
mod schedule;

use schedule::{Flavour, run};

fn run_one(flavour: Flavour, seed: u64) {
    match std::panic::catch_unwind(|| run(flavour, seed)) {
        Ok(Ok(())) => {},
        Ok(Err(what)) => panic!("{flavour:?}, seed {seed}: {what}"),
        Err(panic) => {
            eprintln!("{flavour:?}, seed {seed}");
            std::panic::resume_unwind(panic)
        },
    }
}

fn run_all(flavour: Flavour, seeds: std::ops::Range<u64>) {
    let middle = u64::midpoint(seeds.start, seeds.end);
    std::thread::scope(|scope| {
        for half in [seeds.start..middle, middle..seeds.end] {
            scope.spawn(move || half.for_each(|seed| run_one(flavour, seed)));
        }
    });
}

#[test]
fn store_agrees_with_the_model_through_kills_and_power_cuts() {
    run_all(Flavour::Calm, 0..5000);
}

#[test]
fn store_agrees_with_the_model_on_a_full_device() {
    run_all(Flavour::Full, 0..4000);
}

#[test]
fn store_agrees_with_the_model_over_changing_shard_counts() {
    run_all(Flavour::Shards, 0..4000);
}

#[test]
fn store_agrees_with_the_model_on_a_failing_device() {
    run_all(Flavour::Faults, 0..4000);
}

/// Ten times as many, other seeds.
#[test]
#[ignore = "long: make test-long"]
fn store_agrees_with_the_model_for_long() {
    for flavour in [
        Flavour::Calm,
        Flavour::Full,
        Flavour::Shards,
        Flavour::Faults,
    ] {
        run_all(flavour, 1_000_000..1_025_000);
    }
}

#[test]
#[ignore = "by hand: SEED and FLAVOUR in the environment"]
fn one_schedule() {
    let seed: u64 = std::env::var("SEED").unwrap().parse().unwrap();
    let flavour = match std::env::var("FLAVOUR").unwrap().as_str() {
        "full" => Flavour::Full,
        "shards" => Flavour::Shards,
        "faults" => Flavour::Faults,
        _ => Flavour::Calm,
    };
    run(flavour, seed).unwrap();
}
