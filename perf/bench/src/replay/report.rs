//! The report of `replay`: one JSON object, or a table and a plot.

use serde::Serialize;

use super::player::Tally;
use super::plot;
use super::trace::Request;
use crate::cache::CachePlace;
use crate::latency::LatencyUs;
use crate::machine::Machine;
use crate::text;

/// Who counted the evictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EvictionsFrom {
    /// The daemon, read from its metrics before and after: exact on a daemon of one's own.
    Metrics,
    /// This replay: blocks that it had written and found gone. Fewer than there were, since a
    /// block that nobody asks for again is not missed.
    Observed,
}

/// What a replay found. The fields up to `wrong_bytes` are the contract; the others explain them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReplayReport {
    pub bench: &'static str,
    pub requests: u64,
    pub block_hits: u64,
    pub block_lookups: u64,
    pub hit_ratio: f64,
    /// Blocks read and blocks written a second of the whole run, content made and checked included.
    pub gets_per_s: f64,
    pub sets_per_s: f64,
    /// Read and written.
    pub bytes_per_s: f64,
    pub evictions: u64,
    /// Per request: prefix, reads and writes together.
    pub lat_us: LatencyUs,
    pub errors: u64,
    pub wrong_bytes: u64,
    /// Blocks read, by the tier of the node that they came from.
    pub hits_memory: u64,
    pub hits_ssd: u64,
    pub evictions_from: EvictionsFrom,
    pub block_bytes: u64,
    pub bytes_hit: u64,
    pub bytes_looked_up: u64,
    pub byte_hit_ratio: f64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub seconds: f64,
    /// Seconds of the run that were spent inside calls of the cache.
    pub seconds_in_calls: f64,
    pub lat_prefix_us: LatencyUs,
    pub lat_get_us: LatencyUs,
    pub lat_set_us: LatencyUs,
    pub trace: String,
    pub time_scale: Option<f64>,
    pub checksum: bool,
    pub place: CachePlace,
    pub first_error: Option<String>,
    #[serde(flatten)]
    pub machine: Machine,
    #[serde(skip)]
    plot: String,
}

/// What the report says about how it was made.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances {
    pub trace: String,
    pub block_bytes: usize,
    pub time_scale: Option<f64>,
    pub checksum: bool,
    pub place: CachePlace,
    /// Evictions as the daemon counted them.
    pub evictions: Option<u64>,
}

impl ReplayReport {
    pub(crate) fn new(tally: Tally, requests: &[Request], how: Circumstances) -> Self {
        let seconds = tally.seconds.max(f64::MIN_POSITIVE);
        let block_bytes = how.block_bytes as u64;
        let ratio = |part: u64, whole: u64| {
            if whole == 0 {
                0.0
            } else {
                part as f64 / whole as f64
            }
        };
        let moved = tally.bytes_read + tally.bytes_written;
        let (evictions, evictions_from) = how
            .evictions
            .map_or((tally.gone, EvictionsFrom::Observed), |count| {
                (count, EvictionsFrom::Metrics)
            });
        let minutes = requests
            .last()
            .map_or(0.0, |last| last.timestamp_ms as f64 / 60_000.0);
        let to = format!("request {} ({minutes:.0} min of the trace)", tally.requests);
        let bytes_hit = tally.block_hits * block_bytes;
        let bytes_looked_up = tally.block_lookups * block_bytes;
        Self {
            bench: "replay",
            requests: tally.requests,
            block_hits: tally.block_hits,
            block_lookups: tally.block_lookups,
            hit_ratio: ratio(tally.block_hits, tally.block_lookups),
            gets_per_s: tally.block_hits as f64 / seconds,
            sets_per_s: tally.sets as f64 / seconds,
            bytes_per_s: moved as f64 / seconds,
            evictions,
            lat_us: tally.latency.summary(),
            errors: tally.errors,
            wrong_bytes: tally.wrong_bytes,
            // What came damaged is read, and no hit.
            hits_memory: tally.block_hits.saturating_sub(tally.hits_ssd),
            hits_ssd: tally.hits_ssd,
            evictions_from,
            block_bytes,
            bytes_hit,
            bytes_looked_up,
            byte_hit_ratio: ratio(bytes_hit, bytes_looked_up),
            bytes_read: tally.bytes_read,
            bytes_written: tally.bytes_written,
            seconds,
            seconds_in_calls: tally.in_calls.as_secs_f64(),
            lat_prefix_us: tally.prefix.summary(),
            lat_get_us: tally.mget.summary(),
            lat_set_us: tally.mset.summary(),
            trace: how.trace,
            time_scale: how.time_scale,
            checksum: how.checksum,
            place: how.place,
            first_error: tally.first_error,
            machine: Machine::here(),
            plot: plot::draw(&tally.stretches, "request 1", &to),
        }
    }

    /// The report for people: a table and the plot.
    pub(crate) fn table(&self) -> String {
        let block = text::bytes(self.block_bytes as f64);
        let head = format!(
            "replay {}, {block} a block, {}",
            self.trace,
            self.place.words()
        );
        let latency = |lat: &LatencyUs| {
            let [p50, p99, max] = [lat.p50, lat.p99, lat.max].map(text::micros);
            format!("p50 {p50}, p99 {p99}, max {max}")
        };
        let from = match self.evictions_from {
            EvictionsFrom::Metrics => "counted by the daemon",
            EvictionsFrom::Observed => "at least; give --admin for the daemon's count",
        };
        let bytes = |count: u64| text::bytes(count as f64);
        let rows = [
            (
                "requests",
                format!("{} in {:.2} s", self.requests, self.seconds),
            ),
            (
                "hit ratio, blocks",
                format!(
                    "{:.3} ({} of {}; {} from SSD)",
                    self.hit_ratio, self.block_hits, self.block_lookups, self.hits_ssd
                ),
            ),
            (
                "hit ratio, bytes",
                format!(
                    "{:.3} ({} of {})",
                    self.byte_hit_ratio,
                    bytes(self.bytes_hit),
                    bytes(self.bytes_looked_up)
                ),
            ),
            (
                "blocks",
                format!(
                    "{} read, {} written",
                    text::rate(self.gets_per_s),
                    text::rate(self.sets_per_s)
                ),
            ),
            (
                "bytes",
                format!(
                    "{} read, {} written, {}/s",
                    bytes(self.bytes_read),
                    bytes(self.bytes_written),
                    text::bytes(self.bytes_per_s)
                ),
            ),
            ("latency, request", latency(&self.lat_us)),
            ("latency, prefix", latency(&self.lat_prefix_us)),
            ("latency, mget", latency(&self.lat_get_us)),
            ("latency, mset", latency(&self.lat_set_us)),
            ("evictions", format!("{} ({from})", self.evictions)),
            (
                "errors, wrong bytes",
                format!("{}, {}", self.errors, self.wrong_bytes),
            ),
        ];
        format!(
            "{head}\n{}\n{}\n{}",
            text::table(&rows),
            self.plot,
            self.machine.line()
        )
    }
}
