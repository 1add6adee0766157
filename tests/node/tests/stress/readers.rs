//! Readers through the shared index: real processes, killed and stopped at random.
//!
//! A writer overwrites and deletes its keys, another client evicts them, readers check every byte
//! and every version; the test kills and stops them and the daemon as a seed says. In seconds:
//! `CHARIOT_STRESS_SECONDS`, else 60, or 15 where the machine is busy with other work. The seed is
//! printed; `CHARIOT_STRESS_SEED` takes it (what is decided is then the same, the moments are not).

use std::time::{Duration, Instant, SystemTime};

use super::run::{Outcome, Plan};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    number("CHARIOT_STRESS_SEED").unwrap_or_else(|| u64::from(now.unwrap().subsec_nanos()))
}

/// A minute, or a quarter of one on a machine whose processors are taken.
fn seconds() -> u64 {
    number("CHARIOT_STRESS_SECONDS").unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().unwrap().get();
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: f64 = text
            .split(' ')
            .next()
            .and_then(|load| load.parse().ok())
            .unwrap_or(0.0);
        if load < cores as f64 { 60 } else { 15 }
    })
}

#[test]
fn no_reader_sees_wrong_bytes_or_a_version_older_than_a_known_one() {
    let plan = Plan {
        seed: seed(),
        time: Duration::from_secs(seconds()),
        is_mutant: false,
        variables: &[],
    };
    eprintln!("stress: {plan:?}");
    match super::run::run(&plan) {
        Outcome::Right(summary) => {
            eprintln!("stress: {summary:?}");
            assert!(summary.hits > 1_000, "something was read");
            assert!(summary.stops > 0 && summary.kills > 0, "and disturbed");
            let daemons = (summary.daemon_stops, summary.restarts);
            assert!(daemons.0 > 0 && daemons.1 > 0, "the daemon, too");
        },
        Outcome::Broken(said) => panic!("seed {}: {said}", plan.seed),
    }
}

/// The proof that the test above can fail: the writer tells of versions that it has not written.
#[test]
fn readers_notice_a_version_older_than_a_known_one() {
    let plan = Plan {
        seed: seed(),
        time: Duration::from_secs(20),
        is_mutant: false,
        variables: &[("CHARIOT_STRESS_LIE", "1")],
    };
    match super::run::run(&plan) {
        Outcome::Right(summary) => panic!("nothing was found in {plan:?}: {summary:?}"),
        Outcome::Broken(said) => assert!(said.contains("OLD"), "{said}"),
    }
}

/// Every 200th look-up stands still before its pin: what a stop does by chance.
const PAUSE: (&str, &str) = ("CHARIOT_PAUSE", "200");

/// The proof that a missing re-check is found, and within seconds: by the same processes, daemon
/// and checks, on a client that does all but the re-check. Without the pauses it takes longer than
/// one would wait.
#[test]
fn readers_that_pause_without_the_re_check_see_wrong_bytes() {
    let plan = Plan {
        seed: seed(),
        time: Duration::from_mins(1),
        is_mutant: true,
        variables: &[("CHARIOT_SWITCH", "skip-recheck"), PAUSE],
    };
    let start = Instant::now();
    match super::run::run(&plan) {
        Outcome::Right(summary) => panic!("nothing was found in {plan:?}: {summary:?}"),
        Outcome::Broken(said) => {
            eprintln!(
                "stress: without the re-check, {:?}: {said}",
                start.elapsed()
            );
            assert!(said.contains("WRONG") || said.contains("OLD"), "{said}");
        },
    }
}

/// The pauses alone break nothing.
#[test]
#[ignore = "long: make test-long"]
fn readers_that_pause_with_the_re_check_see_nothing_wrong() {
    let plan = Plan {
        seed: seed(),
        time: Duration::from_secs(seconds()),
        is_mutant: true,
        variables: &[PAUSE],
    };
    eprintln!("stress: {plan:?}");
    match super::run::run(&plan) {
        Outcome::Right(summary) => eprintln!("stress: {summary:?}"),
        Outcome::Broken(said) => panic!("seed {}: {said}", plan.seed),
    }
}
