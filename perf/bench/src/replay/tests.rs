//! The whole command against a cache in this process.

use std::collections::HashSet;

use clap::Parser;

use super::*;
use crate::args::{Cli, Command};
use crate::fake::FakeCache;

fn args(line: &str) -> ReplayArgs {
    let words = ["chariot-bench", "replay"]
        .into_iter()
        .chain(line.split_whitespace());
    match Cli::parse_from(words).command {
        Command::Replay(args) => args,
        other => panic!("{other:?}"),
    }
}

fn replay(fake: &FakeCache, line: &str) -> ReplayReport {
    let args = args(line);
    let requests = requests(&args).unwrap();
    run(
        fake.clone(),
        settings(&args).unwrap(),
        &requests,
        &args,
        || Ok(None),
    )
    .unwrap()
}

const SMALL: &str = "--trace synthetic --requests 200 --block-bytes 64B";

#[test]
fn hits_are_told_by_their_tier() {
    let mut fake = FakeCache::new(1_000_000);
    fake.ssd_every = 2;
    let report = replay(&fake, SMALL);
    assert_eq!(report.hits_ssd, report.block_hits / 2, "every other one");
    assert_eq!(report.hits_memory, report.block_hits - report.hits_ssd);
    let line = serde_json::to_value(&report).unwrap();
    assert_eq!(line["hits_ssd"], report.hits_ssd);
    assert_eq!(line["hits_memory"], report.hits_memory);
}

#[test]
fn unbounded_cache_hits_every_known_prefix() {
    let fake = FakeCache::new(1_000_000);
    let report = replay(&fake, SMALL);
    let mut seen = HashSet::new();
    let mut hits = 0;
    for request in requests(&args(SMALL)).unwrap() {
        hits += request
            .hash_ids
            .iter()
            .take_while(|id| seen.contains(*id))
            .count() as u64;
        seen.extend(request.hash_ids);
    }
    assert!(hits > 0);
    assert_eq!(report.block_hits, hits);
    assert_eq!(
        (report.errors, report.wrong_bytes, report.evictions),
        (0, 0, 0)
    );
    assert_eq!(report.bytes_read, hits * 64);
    assert_eq!((report.hits_memory, report.hits_ssd), (hits, 0));
    assert_eq!(fake.len(), seen.len());
}

#[test]
fn report_has_its_schema() {
    let fake = FakeCache::new(1_000_000);
    let line = serde_json::to_value(replay(&fake, SMALL)).unwrap();
    assert_eq!(line["bench"], "replay");
    for field in [
        "requests",
        "block_hits",
        "block_lookups",
        "evictions",
        "errors",
        "wrong_bytes",
    ] {
        assert!(line[field].is_u64(), "{field}: {line}");
    }
    for field in [
        "hit_ratio",
        "gets_per_s",
        "sets_per_s",
        "bytes_per_s",
        "byte_hit_ratio",
    ] {
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
}

#[test]
fn table_shows_the_plot() {
    let report = replay(&FakeCache::new(1_000_000), SMALL);
    let table = report.table();
    assert!(
        table.contains("  1.0 |") && table.contains("  0.0 +----"),
        "{table}"
    );
    assert!(table.contains("request 200") && table.is_ascii(), "{table}");
}

#[test]
fn damaged_block_counts_each_wrong_byte_and_is_written_again() {
    let mut fake = FakeCache::new(1_000_000);
    fake.damage = true;
    let report = replay(&fake, SMALL);
    assert!(report.wrong_bytes > 0);
    assert_eq!(report.block_hits, 0, "a damaged block is no hit");
    // One bit of each block read was flipped.
    assert_eq!(report.wrong_bytes * 64, report.bytes_read);
    assert_eq!(fake.writes(), report.block_lookups);
}

#[test]
fn bounded_cache_evicts_and_the_replay_notices_some_of_it() {
    let fake = FakeCache::new(100);
    let report = replay(&fake, SMALL);
    assert!(
        report.evictions > 0 && report.evictions <= fake.evictions(),
        "{report:?}"
    );
    assert_eq!((report.errors, report.wrong_bytes), (0, 0));
}

#[test]
fn evictions_of_the_daemon_are_a_difference() {
    let args = args(SMALL);
    let requests = requests(&args).unwrap();
    let count = std::cell::Cell::new(100);
    let counted = || Ok(Some(count.replace(130)));
    let fake = FakeCache::new(1_000_000);
    let report = run(fake, settings(&args).unwrap(), &requests, &args, counted).unwrap();
    assert_eq!(
        (report.evictions, report.evictions_from),
        (30, report::EvictionsFrom::Metrics)
    );
}

#[test]
fn refused_writes_are_errors_with_the_first_one_kept() {
    let mut fake = FakeCache::new(10);
    fake.refuse = true;
    let report = replay(&fake, SMALL);
    assert_eq!(report.errors, report.block_lookups);
    assert!(report.first_error.unwrap().contains("the fake is full"));
}

#[test]
fn trace_files_are_replayed_and_times_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.jsonl");
    let line = |ms: u64, ids: &str| {
        format!(
            r#"{{"timestamp": {ms}, "input_length": 1, "output_length": 1, "hash_ids": [{ids}]}}"#
        )
    };
    let text = [
        line(0, "1, 2"),
        line(20, "1, 2, 3"),
        line(30, ""),
        line(40, "3, 3"),
    ]
    .join("\n");
    std::fs::write(&path, text).unwrap();
    let path = path.display();
    let report = replay(
        &FakeCache::new(100),
        &format!("--trace {path} --block-bytes 9B --time-scale 2"),
    );
    assert_eq!(
        (report.requests, report.block_lookups, report.block_hits),
        (4, 7, 4)
    );
    assert!(report.seconds >= 0.020, "{} s", report.seconds);
    let first = replay(
        &FakeCache::new(100),
        &format!("--trace {path} --requests 1"),
    );
    assert_eq!((first.requests, first.block_lookups), (1, 2));
}

#[test]
fn arguments_without_sense_are_refused_with_a_remedy() {
    for line in [
        "--trace synthetic --block-bytes 1GiB",
        "--trace synthetic --time-scale 0",
        "--trace synthetic --requests 0",
        "--trace synthetic --requests 99999999",
        "--trace /nowhere",
    ] {
        let args = args(line);
        let outcome = settings(&args).and_then(|_| requests(&args).map(drop));
        let shown = outcome.unwrap_err().to_string();
        assert!(
            shown.contains(": give") || shown.contains(": name"),
            "{line}: {shown}"
        );
    }
}
