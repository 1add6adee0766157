use super::*;
use crate::seam::{OPERATIONS, QUARANTINE_REASONS, RESULTS};

/// A tier in which every number is different from zero, named one by one for the same reason.
fn full_tier() -> SsdTierStats {
    SsdTierStats {
        store: crate::seam::SsdStats {
            objects: 1,
            entries: 1,
            live_bytes: 1,
            kept_bytes: 1,
            capacity_bytes: 1,
            segments_free: 1,
            segments_total: 1,
            segments_isolated: 1,
            index_bytes: 1,
            hits: 1,
            misses: 1,
            unknown: 1,
            appended: 1,
            appended_bytes: 1,
            written_bytes: 1,
            read_bytes: 1,
            scanned_bytes: 1,
            cleaned_bytes: 1,
            segments_erased: 1,
            dropped: 1,
            expired: 1,
            tombstones: 1,
            not_admitted: 1,
            refused: 1,
            day_bytes: 1,
            read_errors: 1,
            write_errors: 1,
            corrupt_values: 1,
            corrupt_metadata: 1,
            hung: 1,
            is_retired: true,
            recovery_ms: 1,
            recovered_records: 1,
        },
        hits: 1,
        spilling_hits: 1,
        promotions: 1,
        spills: 1,
        spilling_bytes: 1,
        forgotten: 1,
        spill_failures: 1,
        shared_reads: 1,
        moved_reads: 1,
        waited_for_recovery: 1,
        is_recovering: true,
    }
}

/// A shard in which every number is different from zero.
///
/// The fields are named one by one, so that a new one does not compile until it stands here too.
fn full_shard() -> ShardStats {
    let latencies = Latencies {
        buckets: [1; 25],
        sum_ns: 1_000,
    };
    ShardStats {
        operations: [[1; RESULTS.len()]; OPERATIONS.len()],
        latencies: [latencies; OPERATIONS.len()],
        ssd: Some(full_tier()),
        hits: 1,
        misses: 1,
        bytes_written: 1,
        bytes_read: 1,
        evictions: 1,
        evicted_bytes: 1,
        evicted_age_ms_sum: 1,
        expirations: 1,
        entries: 1,
        out_of_memory_waits: 1,
        out_of_memory_timeouts: 1,
        out_of_memory_waiting: 1,
        latches_held: 1,
        latches_waiting: 1,
        references: 1,
        nested_keys: 1,
        transaction_keys: 1,
        transactions_undecided: 1,
        pins: 1,
        leases: 1,
        lease_bytes: 1,
        quarantine_bytes: [1; QUARANTINE_REASONS.len()],
        payload_bytes: 1,
        slack_bytes: 1,
        free_bytes: 1,
        metadata_bytes: 1,
        ring_depth: 1,
        ring_depth_max: 1,
        loop_passes: 1,
        loop_stalls: 1,
        loop_stall_max_ns: 1,
        watchdog_kicks: 1,
        local_rings: 1,
        connections: 1,
        checksum_failures: 1,
        expulsions: 1,
    }
}

fn full_snapshot() -> Snapshot {
    Snapshot {
        node: NodeStats {
            shards: vec![Some(full_shard())],
            sessions_local: 1,
            sessions_remote: 1,
            sessions_opened: 1,
            sessions_refused: 1,
            session_bytes: 1,
            session_committed_bytes: 1,
            session_remote_bytes: 1,
            session_max_bytes: 1,
            populate_failures: 1,
            populated_bytes: 1,
            granules_free_bytes: 1,
        },
        process: ProcessFacts {
            resident_bytes: 1,
            private_bytes: 1,
            file_bytes: 1,
            cpu_seconds: 1.0,
            open_fds: 1,
            start_unix_s: 1,
        },
        base_private_bytes: 1,
        shard_count: 1,
        ready: true,
        registered: true,
        registrations: 1,
        build: crate::build::BUILD,
    }
}

/// Samples of one metric: lines that begin with its name and a label, a suffix or a space.
fn samples<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let suffixes = ["{", " ", "_bucket{", "_sum{", "_count{"];
    page.lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| suffixes.iter().any(|suffix| rest.starts_with(suffix)))
        })
        .collect()
}

/// Names of metrics with a sample that is 0 or without any sample.
fn unfed(snapshot: &Snapshot) -> Vec<&'static str> {
    let page = render(snapshot);
    METRICS
        .iter()
        .map(|metric| metric.name)
        .filter(|name| {
            let samples = samples(&page, name);
            samples.is_empty() || samples.iter().any(|line| line.ends_with(" 0"))
        })
        .collect()
}

#[test]
fn every_metric_is_fed() {
    assert_eq!(unfed(&full_snapshot()), [""; 0]);
}

#[test]
fn a_metric_whose_source_stays_zero_is_noticed() {
    let mut snapshot = full_snapshot();
    snapshot.node.shards[0].as_mut().unwrap().loop_stalls = 0;
    assert_eq!(unfed(&snapshot), ["chariot_loop_stalls_total"]);
}

#[test]
fn every_number_of_a_snapshot_feeds_a_metric() {
    let quiet = render(&Snapshot {
        node: NodeStats {
            shards: vec![Some(ShardStats::default())],
            ..NodeStats::default()
        },
        ..full_snapshot()
    });
    let loud = render(&full_snapshot());
    let count = |page: &str| page.lines().filter(|line| line.ends_with(" 0")).count();
    assert_eq!(count(&loud), 0);
    // Shard and node fields: as many zero samples as there are numbers, the sums of them included.
    let numbers = OPERATIONS.len() * RESULTS.len() + OPERATIONS.len() * (25 + 2);
    let others = METRICS
        .iter()
        .filter(|m| matches!(m.feed, Feed::Shard(_)))
        .count();
    let nodes = 11; // the node's own numbers; the accounted sum has the process's in it
    assert_eq!(
        count(&quiet),
        numbers + others + nodes + QUARANTINE_REASONS.len()
    );
    assert_eq!(others, 35, "a field was added: give it a metric");
}

#[test]
fn names_follow_the_conventions() {
    for (index, metric) in METRICS.iter().enumerate() {
        let name = metric.name;
        assert!(name.starts_with("chariot_"), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{name}"
        );
        assert!(
            !METRICS[..index].iter().any(|other| other.name == name),
            "{name} twice"
        );
        assert!(
            metric.help.ends_with('.') && !metric.help.contains('|'),
            "{name}"
        );
        let stem = name.trim_end_matches("_total");
        if ["bytes", "seconds"].contains(&metric.unit) {
            assert!(stem.ends_with(metric.unit), "{name}: base unit at the end");
        }
    }
}

#[test]
fn histograms_are_cumulative() {
    let page = render(&full_snapshot());
    let start = "chariot_operation_latency_seconds_bucket{shard=\"0\",operation=\"get\",le=";
    let values: Vec<u64> = page
        .lines()
        .filter(|line| line.starts_with(start))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(values, (1..=25).collect::<Vec<u64>>());
    assert!(
        page.contains(&format!("{start}\"0.000001\"}} 1\n")),
        "first bound is 1 µs"
    );
    assert!(page.contains(&format!("{start}\"+Inf\"}} 25\n")));
}

#[test]
fn a_silent_shard_is_down_and_has_no_series() {
    let mut snapshot = full_snapshot();
    snapshot.node.shards.push(None);
    snapshot.shard_count = 2;
    let page = render(&snapshot);
    assert!(page.contains("chariot_shard_up{shard=\"1\"} 0\n"));
    assert!(!page.contains("chariot_hits_total{shard=\"1\"}"));
}

#[test]
fn labels_are_escaped() {
    assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
}
