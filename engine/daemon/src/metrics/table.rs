//! The table of all metrics.

// tidy: table (read down its columns)

use super::Kind::{Counter, Gauge, Histogram};
use super::Stability::{Internal, Stable};
use super::{Feed, Kind, Metric, Stability};
use crate::seam::{OPERATIONS, QUARANTINE_REASONS, RESULTS};

const SHARD: &[&str] = &["shard"];

/// One value a shard.
const fn shard(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    stability: Stability,
    read: fn(&crate::seam::ShardStats) -> f64,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        help,
        labels: SHARD,
        stability,
        feed: Feed::Shard(read),
    }
}

/// One value a shard that has an SSD tier.
const fn ssd(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    stability: Stability,
    read: fn(&crate::seam::SsdTierStats) -> f64,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        help,
        labels: SHARD,
        stability,
        feed: Feed::Ssd(read),
    }
}

/// One value for the node.
const fn node(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    stability: Stability,
    read: fn(&super::Snapshot) -> f64,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        help,
        labels: &[],
        stability,
        feed: Feed::Node(read),
    }
}

/// All metrics, in the order of the page.
#[rustfmt::skip] // One line each: a table is read down its columns.
pub static METRICS: &[Metric] = &[
    Metric {
        name: "chariot_build_info", kind: Gauge, unit: "1",
        help: "Version and commit of the daemon; the value is always 1.",
        labels: &["version", "commit"], stability: Stable, feed: Feed::Build,
    },
    node("chariot_ready", Gauge, "1", "1 when the node takes work.", Stable,
        |s| f64::from(u8::from(s.ready))),
    node("chariot_cluster_registered", Gauge, "1", "1 when etcd holds the node under a live lease.", Stable,
        |s| f64::from(u8::from(s.registered))),
    node("chariot_cluster_registrations_total", Counter, "registrations", "Times the node has registered with etcd.", Stable,
        |s| s.registrations as f64),
    Metric {
        name: "chariot_shard_up", kind: Gauge, unit: "1",
        help: "1 when the shard answered this scrape within a second.",
        labels: SHARD, stability: Stable, feed: Feed::ShardUp,
    },
    Metric {
        name: "chariot_operations_total", kind: Counter, unit: "operations",
        help: "Finished operations by kind and class of their result; a batch counts its keys.",
        labels: &["shard", "operation", "result"], stability: Stable,
        feed: Feed::Labelled(|s, emit| {
            for (operation, results) in OPERATIONS.iter().zip(&s.operations) {
                for (result, count) in RESULTS.iter().zip(results) {
                    emit(&[operation, result], *count as f64);
                }
            }
        }),
    },
    Metric {
        name: "chariot_operation_latency_seconds", kind: Histogram, unit: "seconds",
        help: "Time from taking a request to its completion, inside the shard.",
        labels: &["shard", "operation"], stability: Stable,
        feed: Feed::Latency(|s, emit| {
            for (operation, latencies) in OPERATIONS.iter().zip(&s.latencies) {
                emit(operation, latencies);
            }
        }),
    },
    shard("chariot_hits_total", Counter, "lookups", "Lookups of reading operations that found their key. A lower bound: reads through the shared index are known by notes that may be lost, misses there not at all; clients count their own exactly.", Stable, |s| s.hits as f64),
    shard("chariot_misses_total", Counter, "lookups", "Lookups of reading operations that did not.", Stable, |s| s.misses as f64),
    shard("chariot_written_bytes_total", Counter, "bytes", "Payload received from clients.", Stable, |s| s.bytes_written as f64),
    shard("chariot_read_bytes_total", Counter, "bytes", "Payload handed to clients.", Stable, |s| s.bytes_read as f64),
    shard("chariot_evictions_total", Counter, "entries", "Entries evicted for room.", Stable, |s| s.evictions as f64),
    shard("chariot_evicted_bytes_total", Counter, "bytes", "Bytes freed by eviction.", Stable, |s| s.evicted_bytes as f64),
    shard("chariot_evicted_age_seconds_total", Counter, "seconds", "Sum of the ages of evicted entries; over chariot_evictions_total it is their mean age.", Stable, |s| s.evicted_age_ms_sum as f64 / 1e3),
    shard("chariot_expirations_total", Counter, "entries", "Entries that ended by their TTL.", Stable, |s| s.expirations as f64),
    shard("chariot_entries", Gauge, "entries", "Entries held.", Stable, |s| s.entries as f64),
    shard("chariot_out_of_memory_waits_total", Counter, "requests", "Requests that had to wait for memory.", Stable, |s| s.out_of_memory_waits as f64),
    shard("chariot_out_of_memory_timeouts_total", Counter, "requests", "Requests answered out of memory at their deadline.", Stable, |s| s.out_of_memory_timeouts as f64),
    shard("chariot_out_of_memory_waiting", Gauge, "requests", "Requests that wait for memory.", Stable, |s| s.out_of_memory_waiting as f64),
    shard("chariot_latches_held", Gauge, "latches", "Latches of objects held.", Stable, |s| s.latches_held as f64),
    shard("chariot_latches_waiting", Gauge, "requests", "Requests that wait for a latch.", Stable, |s| s.latches_waiting as f64),
    shard("chariot_references", Gauge, "references", "References of clients to keys, each client and key once.", Stable, |s| s.references as f64),
    shard("chariot_nested_keys", Gauge, "keys", "Nested keys that publishes under way or parents hold, by the shard of the parent.", Stable, |s| s.nested_keys as f64),
    shard("chariot_transaction_keys", Gauge, "keys", "Keys that undecided transactions hide.", Stable, |s| s.transaction_keys as f64),
    shard("chariot_transactions_undecided", Gauge, "transactions", "Transactions begun and not yet decided and visible, by the shard that decides.", Stable, |s| s.transactions_undecided as f64),
    shard("chariot_pins", Gauge, "extents", "Extents that clients pin, as of the last scan.", Stable, |s| s.pins as f64),
    shard("chariot_leases", Gauge, "leases", "Leases lent to sessions.", Stable, |s| s.leases as f64),
    shard("chariot_lease_bytes", Gauge, "bytes", "Bytes lent and not yet published.", Stable, |s| s.lease_bytes as f64),
    Metric {
        name: "chariot_quarantine_bytes", kind: Gauge, unit: "bytes",
        help: "Bytes that wait, by what they wait for: a pin, an I/O, an expelled session's end, or the grace of a dead one's leases.",
        labels: &["shard", "reason"], stability: Stable,
        feed: Feed::Labelled(|s, emit| {
            for (reason, bytes) in QUARANTINE_REASONS.iter().zip(&s.quarantine_bytes) {
                emit(&[reason], *bytes as f64);
            }
        }),
    },
    shard("chariot_payload_bytes", Gauge, "bytes", "Bytes of live values.", Stable, |s| s.payload_bytes as f64),
    shard("chariot_slack_bytes", Gauge, "bytes", "Bytes lost to rounding and fragmentation in granules held.", Stable, |s| s.slack_bytes as f64),
    shard("chariot_free_bytes", Gauge, "bytes", "Free bytes in granules held.", Stable, |s| s.free_bytes as f64),
    ssd("chariot_ssd_hits_total", Counter, "lookups", "Hits answered from the SSD.", Stable, |t| t.hits as f64),
    ssd("chariot_ssd_spilling_hits_total", Counter, "lookups", "Hits answered from memory while the value was on its way to the SSD.", Stable, |t| t.spilling_hits as f64),
    ssd("chariot_ssd_misses_total", Counter, "lookups", "Lookups in the SSD's index that found nothing.", Stable, |t| t.store.misses as f64),
    ssd("chariot_ssd_unknown_total", Counter, "lookups", "Lookups during recovery that could not be answered yet.", Internal, |t| t.store.unknown as f64),
    ssd("chariot_ssd_recovery_waits_total", Counter, "requests", "Requests that waited for recovery to know their key.", Internal, |t| t.waited_for_recovery as f64),
    ssd("chariot_ssd_promotions_total", Counter, "objects", "Objects that came from the SSD into memory again.", Stable, |t| t.promotions as f64),
    ssd("chariot_ssd_spills_total", Counter, "objects", "Evicted objects handed over for writing.", Stable, |t| t.spills as f64),
    ssd("chariot_ssd_spill_failures_total", Counter, "objects", "Objects whose write failed.", Stable, |t| t.spill_failures as f64),
    ssd("chariot_ssd_forgotten_total", Counter, "objects", "Evicted objects that the SSD did not take: budget, admission, room, or an error.", Stable, |t| t.forgotten as f64),
    ssd("chariot_ssd_spilling_bytes", Gauge, "bytes", "Bytes evicted and not written yet.", Stable, |t| t.spilling_bytes as f64),
    ssd("chariot_ssd_objects", Gauge, "objects", "Objects on SSD that can be found.", Stable, |t| t.store.objects as f64),
    ssd("chariot_ssd_live_bytes", Gauge, "bytes", "Bytes of the SSD that these take, headers and padding included.", Stable, |t| t.store.live_bytes as f64),
    ssd("chariot_ssd_capacity_bytes", Gauge, "bytes", "Bytes of all segments.", Stable, |t| t.store.capacity_bytes as f64),
    ssd("chariot_ssd_index_bytes", Gauge, "bytes", "Memory of the SSD's index.", Stable, |t| t.store.index_bytes as f64),
    ssd("chariot_ssd_appended_bytes_total", Counter, "bytes", "Value bytes handed over for writing.", Stable, |t| t.store.appended_bytes as f64),
    ssd("chariot_ssd_written_bytes_total", Counter, "bytes", "All bytes written to the SSD; over chariot_ssd_appended_bytes_total it is the write amplification.", Stable, |t| t.store.written_bytes as f64),
    ssd("chariot_ssd_read_bytes_total", Counter, "bytes", "Bytes read for hits.", Stable, |t| t.store.read_bytes as f64),
    ssd("chariot_ssd_scanned_bytes_total", Counter, "bytes", "Bytes read by cleaning and recovery.", Stable, |t| t.store.scanned_bytes as f64),
    ssd("chariot_ssd_cleaned_bytes_total", Counter, "bytes", "Bytes copied by cleaning.", Stable, |t| t.store.cleaned_bytes as f64),
    ssd("chariot_ssd_day_bytes", Gauge, "bytes", "Bytes written in this day of wall clock, against --ssd-bytes-per-day.", Stable, |t| t.store.day_bytes as f64),
    ssd("chariot_ssd_dropped_total", Counter, "objects", "Objects on SSD given up for room.", Stable, |t| t.store.dropped as f64),
    ssd("chariot_ssd_tombstones_total", Counter, "records", "Tombstones written.", Internal, |t| t.store.tombstones as f64),
    ssd("chariot_ssd_shared_reads_total", Counter, "reads", "Gets that shared the I/O of another.", Internal, |t| t.shared_reads as f64),
    ssd("chariot_ssd_moved_reads_total", Counter, "reads", "Reads made anew because the object had moved.", Internal, |t| t.moved_reads as f64),
    ssd("chariot_ssd_segments_free", Gauge, "segments", "Segments that nothing is in.", Internal, |t| f64::from(t.store.segments_free)),
    ssd("chariot_ssd_segments_isolated", Gauge, "segments", "Segments set aside after an error.", Stable, |t| f64::from(t.store.segments_isolated)),
    ssd("chariot_ssd_recovering", Gauge, "1", "1 while recovery is under way.", Stable, |t| f64::from(u8::from(t.is_recovering))),
    ssd("chariot_ssd_recovery_seconds", Gauge, "seconds", "How long recovery took.", Stable, |t| t.store.recovery_ms as f64 / 1e3),
    ssd("chariot_ssd_retired", Gauge, "1", "1 when the partition was given up after errors.", Stable, |t| f64::from(u8::from(t.store.is_retired))),
    Metric {
        name: "chariot_ssd_errors_total", kind: Counter, unit: "errors",
        help: "Errors of the SSD by kind.",
        labels: &["shard", "kind"], stability: Stable,
        feed: Feed::Labelled(|s, emit| {
            let Some(t) = &s.ssd else { return };
            emit(&["read"], t.store.read_errors as f64);
            emit(&["write"], t.store.write_errors as f64);
            emit(&["corrupt-value"], t.store.corrupt_values as f64);
            emit(&["corrupt-metadata"], t.store.corrupt_metadata as f64);
            emit(&["hung"], t.store.hung as f64);
        }),
    },
    shard("chariot_metadata_bytes", Gauge, "bytes", "Bytes of entries, index and policy links in use.", Stable, |s| s.metadata_bytes as f64),
    shard("chariot_ring_depth", Gauge, "requests", "Requests taken and not yet completed.", Stable, |s| s.ring_depth as f64),
    shard("chariot_ring_depth_max", Gauge, "requests", "Highest ring depth since the start.", Internal, |s| s.ring_depth_max as f64),
    shard("chariot_loop_passes_total", Counter, "passes", "Passes of the shard's loop.", Internal, |s| s.loop_passes as f64),
    shard("chariot_loop_stalls_total", Counter, "stalls", "Passes, or gaps between passes while busy, longer than 10 ms.", Stable, |s| s.loop_stalls as f64),
    shard("chariot_loop_stall_max_seconds", Gauge, "seconds", "Longest loop stall since the start.", Stable, |s| s.loop_stall_max_ns as f64 / 1e9),
    shard("chariot_watchdog_kicks_total", Counter, "kicks", "Times the watchdog found the shard standing still over work.", Internal, |s| s.watchdog_kicks as f64),
    shard("chariot_local_rings", Gauge, "rings", "Local sessions with a ring on the shard.", Internal, |s| s.local_rings as f64),
    shard("chariot_connections", Gauge, "connections", "TCP connections served by the shard.", Stable, |s| s.connections as f64),
    shard("chariot_checksum_failures_total", Counter, "values", "Values refused for a wrong checksum.", Stable, |s| s.checksum_failures as f64),
    shard("chariot_expulsions_total", Counter, "sessions", "Sessions expelled, for malformed requests or by an operator.", Stable, |s| s.expulsions as f64),
    node("chariot_sessions_local", Gauge, "sessions", "Open sessions over shared memory.", Stable, |s| s.node.sessions_local as f64),
    node("chariot_sessions_remote", Gauge, "sessions", "Open sessions over TCP.", Stable, |s| s.node.sessions_remote as f64),
    node("chariot_sessions_opened_total", Counter, "sessions", "Sessions opened.", Stable, |s| s.node.sessions_opened as f64),
    node("chariot_sessions_refused_total", Counter, "sessions", "Sessions refused: too many, wrong proof or version.", Stable, |s| s.node.sessions_refused as f64),
    node("chariot_session_memory_bytes", Gauge, "bytes", "Memory of sessions: rings, pins, staging.", Stable, |s| s.node.session_bytes as f64),
    node("chariot_session_committed_bytes", Gauge, "bytes", "Memory that the open sessions may touch, or make the node hold.", Stable, |s| s.node.session_committed_bytes as f64),
    node("chariot_session_remote_bytes", Gauge, "bytes", "Of the committed bytes, buffers of remote sessions and of their long requests.", Stable, |s| s.node.session_remote_bytes as f64),
    node("chariot_session_max_bytes", Gauge, "bytes", "The most that open sessions may touch: --session-memory.", Stable, |s| s.node.session_max_bytes as f64),
    node("chariot_populate_failures_total", Counter, "jobs", "Granules not populated ahead or not punched, for want of memory; a punch is tried again after a second.", Stable, |s| s.node.populate_failures as f64),
    node("chariot_populated_bytes", Gauge, "bytes", "Arena bytes backed by pages.", Stable, |s| s.node.populated_bytes as f64),
    node("chariot_granules_free_bytes", Gauge, "bytes", "Arena bytes in granules that no shard holds.", Stable, |s| s.node.granules_free_bytes as f64),
    node("chariot_base_bytes", Gauge, "bytes", "The process without its load: the program's pages, and the private memory it had when it began to serve.", Stable, |s| s.base_bytes() as f64),
    node("chariot_accounted_bytes", Gauge, "bytes", "Populated arena, metadata, sessions and base together; within 2 % of the process's memory.", Stable, super::Snapshot::accounted_bytes),
    node("chariot_process_resident_bytes", Gauge, "bytes", "Resident memory of the process as the kernel counts it.", Stable, |s| s.process.resident_bytes as f64),
    node("chariot_process_cpu_seconds_total", Counter, "seconds", "CPU time of the process, user and system.", Stable, |s| s.process.cpu_seconds),
    node("chariot_process_open_fds", Gauge, "descriptors", "Open file descriptors.", Stable, |s| s.process.open_fds as f64),
    node("chariot_process_start_time_seconds", Gauge, "seconds", "Start of the daemon, seconds since 1970.", Stable, |s| s.process.start_unix_s as f64),
];

impl super::Snapshot {
    /// Bytes of the process that no load explains.
    fn base_bytes(&self) -> u64 {
        self.base_private_bytes + self.process.file_bytes
    }

    /// Bytes that the node can name an owner for.
    fn accounted_bytes(&self) -> f64 {
        let metadata: u64 = self
            .node
            .shards
            .iter()
            .flatten()
            .map(|s| s.metadata_bytes)
            .sum();
        let base = self.base_bytes();
        (self.node.populated_bytes + self.node.session_bytes + metadata + base) as f64
    }
}
