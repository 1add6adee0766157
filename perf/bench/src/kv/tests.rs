//! The whole command against a cache in this process.

use clap::Parser;

use super::*;
use crate::args::{Cli, Command};
use crate::fake::FakeCache;

fn plan(line: &str) -> Result<Plan, Failure> {
    let words = ["chariot-bench", "kv"].into_iter();
    match Cli::parse_from(words.chain(line.split_whitespace())).command {
        Command::Kv(args) => {
            let plan = Plan::new(&args)?;
            let duration = plan.duration.min(Duration::from_millis(200)) / 10;
            Ok(Plan {
                duration,
                limit_duration: Duration::from_millis(1),
                ..plan
            })
        },
        other => panic!("{other:?}"),
    }
}

fn run_on(fake: &FakeCache, line: &str) -> KvReport {
    run(&plan(line).unwrap(), || Ok(fake.clone())).unwrap()
}

const OPS: [&str; 9] = [
    "set", "get", "view", "exist", "mset", "mget", "mview", "del", "mixed",
];

#[test]
fn every_operation_reports_its_schema_without_flaws() {
    for op in OPS {
        for batch in ["--batch 1", "--batch 7"] {
            let fake = FakeCache::new(10_000);
            let line = format!("--op {op} --size 512 --keys 100 --clients 2 {batch}");
            let report = run_on(&fake, &line);
            assert_eq!(
                (report.errors, report.misses, report.wrong_bytes),
                (0, 0, 0),
                "{line}"
            );
            assert!(!report.table().is_empty());
            check_schema(&serde_json::to_value(&report).unwrap(), op);
        }
    }
}

#[test]
fn values_read_are_told_by_their_tier() {
    let mut fake = FakeCache::new(10_000);
    fake.ssd_every = 2;
    for op in OPS {
        let line = format!("--op {op} --size 512 --keys 100 --clients 1");
        let report = run_on(&fake, &line);
        let line = serde_json::to_value(&report).unwrap();
        if matches!(op, "set" | "exist" | "mset" | "del") {
            assert!(line["hits_ssd"].is_null(), "{op}");
            assert!(line["hits_memory"].is_null(), "{op}");
            continue;
        }
        let (memory, ssd) = (report.hits_memory.unwrap(), report.hits_ssd.unwrap());
        assert!(memory.abs_diff(ssd) <= 1, "{op}: every other one");
        if op != "mixed" {
            assert_eq!(memory + ssd, report.ops, "{op}");
        }
    }
}

fn check_schema(line: &serde_json::Value, op: &str) {
    assert_eq!((&line["bench"], &line["op"]), (&"kv".into(), &op.into()));
    for field in [
        "size_bytes",
        "clients",
        "batch",
        "ops",
        "errors",
        "misses",
        "keys",
        "cores",
    ] {
        assert!(line[field].is_u64(), "{field}: {line}");
    }
    for field in ["seconds", "ops_per_s", "bytes_per_s"] {
        assert!(line[field].is_f64(), "{field}: {line}");
    }
    for field in ["p50", "p90", "p99", "p999", "max"] {
        assert!(
            line["lat_us"][field].as_f64().is_some_and(|us| us > 0.0),
            "{field}: {line}"
        );
    }
    for field in ["machine", "kernel", "commit", "place"] {
        assert!(line[field].is_string(), "{field}: {line}");
    }
    assert!(
        line["limit"]["ratio"]
            .as_f64()
            .is_some_and(|ratio| ratio > 0.0),
        "{line}"
    );
    let ops = line["ops"].as_f64().unwrap();
    let per_second = line["ops_per_s"].as_f64().unwrap() * line["seconds"].as_f64().unwrap();
    assert!((per_second / ops - 1.0).abs() < 1e-6, "{line}");
}

#[test]
fn ops_count_keys_and_latency_counts_calls() {
    let plan = plan("--op mget --batch 10 --keys 50 --size 64").unwrap();
    let fake = FakeCache::new(1000);
    let mut worker = Worker::new(&plan, 0, fake);
    worker.fill(&ProgressBar::hidden()).unwrap();
    let tally = worker.measure(Instant::now(), &ProgressBar::hidden());
    assert_eq!(tally.ops, 10 * tally.latency.count());
    assert_eq!(tally.bytes, 64 * tally.ops);
}

#[test]
fn reading_fills_all_keys_first_and_writing_does_not() {
    let fake = FakeCache::new(10_000);
    run_on(&fake, "--op exist --keys 1003 --clients 3 --size 16");
    assert_eq!((fake.len(), fake.writes()), (1003, 1003));
    let (shortest, longest) = fake.key_lengths();
    assert!(shortest >= 32 && longest <= 64, "{shortest} {longest}");
}

#[test]
fn damaged_values_are_found_by_the_sample() {
    for op in ["get", "mget", "view", "mview", "mixed"] {
        let mut fake = FakeCache::new(1000);
        fake.damage = true;
        let report = run_on(&fake, &format!("--op {op} --keys 100 --size 256"));
        assert!(
            report.verified > 0,
            "{op}: {} reads, none checked",
            report.ops
        );
        assert_eq!(
            report.wrong_bytes, report.verified,
            "{op}: one flipped byte a value"
        );
    }
}

#[test]
fn evicted_keys_are_misses_and_no_errors() {
    let fake = FakeCache::new(50);
    let report = run_on(&fake, "--op get --keys 100 --size 32");
    assert!(
        report.misses > 0 && report.misses < report.ops,
        "{report:?}"
    );
    assert_eq!(report.errors, 0);
}

#[test]
fn absent_keys_are_misses_in_their_share() {
    for op in ["get", "view", "exist", "mget", "mview"] {
        let fake = FakeCache::new(10_000);
        let report = run_on(
            &fake,
            &format!("--op {op} --keys 100 --size 32 --absent 100"),
        );
        assert_eq!((report.misses, report.errors), (report.ops, 0), "{op}");
        let report = run_on(
            &fake,
            &format!("--op {op} --keys 100 --size 32 --absent 25"),
        );
        let share = report.misses as f64 / report.ops as f64;
        assert!((0.15..0.35).contains(&share), "{op}: {share}");
    }
}

#[test]
fn refused_writes_are_errors_with_the_first_one_kept() {
    let mut fake = FakeCache::new(50);
    fake.refuse = true;
    let report = run_on(&fake, "--op set --keys 100 --size 32");
    assert_eq!(report.errors, report.ops);
    assert!(report.first_error.unwrap().contains("the fake is full"));
    let filling = run(&plan("--op get").unwrap(), || Ok(fake.clone()))
        .unwrap_err()
        .to_string();
    assert!(filling.contains("the fake is full"), "{filling}");
}

#[test]
fn absent_daemon_ends_the_run_with_its_failure() {
    let failure = Failure::new("no daemon", "start one");
    let plan = plan("--op get --clients 3").unwrap();
    let outcome = run(&plan, || Err::<FakeCache, _>(failure.clone()));
    assert_eq!(outcome.unwrap_err(), failure);
}

#[test]
fn rate_is_kept() {
    let fake = FakeCache::new(1000);
    let report = run_on(&fake, "--op get --keys 10 --size 16 --rate 1000");
    assert!(report.ops <= 25, "{} calls in 20 ms at 1000/s", report.ops);
    assert_eq!(report.rate, Some(1000.0));
}

#[test]
fn plans_without_sense_are_refused_with_a_remedy() {
    for line in [
        "--op get --keys 0",
        "--op get --clients 0",
        "--op get --batch 0",
        "--op get --batch 10001",
        "--op mget --keys 10 --batch 11",
        "--op mset --size 1GiB --batch 2",
        "--op get --seconds 0 ",
        "--op get --rate 0",
        "--op get --absent 101",
        "--op set --absent 1",
        "--op get --client-cpus x",
        "--op del --keys 3 --clients 2 --batch 2",
    ] {
        let words = ["chariot-bench", "kv"]
            .into_iter()
            .chain(line.split_whitespace());
        let Command::Kv(args) = Cli::parse_from(words).command else {
            panic!("{line}")
        };
        let shown = Plan::new(&args).unwrap_err().to_string();
        assert!(
            shown.contains(": give") || shown.contains(": keep"),
            "{line}: {shown}"
        );
    }
}

#[test]
fn parts_cover_all_keys_without_overlap() {
    let plan = plan("--op get --keys 103 --clients 7").unwrap();
    let mut next = 0;
    for index in 0..7 {
        let part = plan.part(index);
        assert_eq!(part.start, next);
        next = part.end;
    }
    assert_eq!(next, 103);
}
