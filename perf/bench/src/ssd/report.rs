//! The rows: ours beside fio's, with the goal of each.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::daemon::Between;
use super::fio::Reached;
use super::load::{Load, Timed};
use crate::args::SsdArgs;
use crate::cache::Cache;
use crate::machine::Machine;
use crate::text;

/// Least throughput of spill and fill, of fio's.
const RATIO_MIN: f64 = 0.9;
/// Most processor time a byte, of fio's.
const CPU_RATIO_MAX: f64 = 1.2;
/// What a get may take longer than fio's read, with the shard awake and parked.
const OVER_AWAKE_US: f64 = 15.0;
const OVER_PARKED_US: f64 = 45.0;
/// How much slower the slowest hundredth of hits in memory may be while others spill.
const FOREGROUND_MAX: f64 = 2.0;

/// One JSON line; what does not apply is null.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub bench: &'static str,
    pub row: String,
    pub object_bytes: usize,
    /// Operations under way at once, ours and fio's.
    pub depth: u32,
    pub checksum: bool,
    pub bytes_per_s: Option<f64>,
    pub fio_bytes_per_s: Option<f64>,
    pub ratio: Option<f64>,
    /// Processor time of the daemon a byte on the device, and of fio.
    pub cpu_ns_per_byte: Option<f64>,
    pub fio_cpu_ns_per_byte: Option<f64>,
    pub cpu_ratio: Option<f64>,
    /// One checksum of the bytes, on this machine, and the ratio without it.
    pub checksum_ns_per_byte: Option<f64>,
    pub cpu_ratio_without_checksum: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub fio_p50_us: Option<f64>,
    /// The median over fio's.
    pub p50_over_us: Option<f64>,
    /// Of the gets, those that the SSD answered.
    pub ssd_share: Option<f64>,
    /// Hits in memory while others spill: the slowest hundredth, idle, and over it.
    pub idle_p99_us: Option<f64>,
    pub p99_ratio: Option<f64>,
    /// Reads that found nothing, objects that the tier did not take, errors.
    pub missed: u64,
    pub forgotten: f64,
    pub errors: f64,
    pub goal: &'static str,
    pub is_met: bool,
    #[serde(flatten)]
    pub machine: Machine,
}

impl Row {
    pub(super) const HEAD: &'static str = "row                       depth       ours/s        \
         fio/s  ratio  CPU ratio  (no checksum)   met";

    fn new<C: Cache>(row: &str, load: &Load<C>, goal: &'static str) -> Self {
        Self {
            bench: "ssd",
            row: format!("{row} {}", load.shape.name),
            object_bytes: load.shape.bytes,
            depth: 1,
            checksum: true,
            bytes_per_s: None,
            fio_bytes_per_s: None,
            ratio: None,
            cpu_ns_per_byte: None,
            fio_cpu_ns_per_byte: None,
            cpu_ratio: None,
            checksum_ns_per_byte: None,
            cpu_ratio_without_checksum: None,
            p50_us: None,
            p99_us: None,
            fio_p50_us: None,
            p50_over_us: None,
            ssd_share: None,
            idle_p99_us: None,
            p99_ratio: None,
            missed: load.missed(),
            forgotten: 0.0,
            errors: load.flaws() as f64,
            goal,
            is_met: false,
            machine: Machine::here(),
        }
    }

    pub(super) fn throughput<C: Cache>(
        row: &str,
        load: &Load<C>,
        args: &SsdArgs,
        ours: &Between,
        fio: &Reached,
        checksum_ns: f64,
    ) -> Self {
        let checksum = !args.target.no_checksum;
        let cpu = ours.cpu_ns / ours.bytes.max(1.0);
        let rate = ours.bytes / ours.seconds;
        let (ratio, cpu_ratio) = (rate / fio.bytes_per_s, cpu / fio.cpu_ns_per_byte);
        // The daemon computes one where it reads; on spill it has the client's, if that made one.
        let once = row == "fill" || !checksum;
        let apart = if once { checksum_ns } else { 0.0 };
        let without = (cpu - apart).max(0.0) / fio.cpu_ns_per_byte;
        Self {
            depth: args.depth,
            checksum,
            bytes_per_s: Some(rate),
            fio_bytes_per_s: Some(fio.bytes_per_s),
            ratio: Some(ratio),
            cpu_ns_per_byte: Some(cpu),
            fio_cpu_ns_per_byte: Some(fio.cpu_ns_per_byte),
            cpu_ratio: Some(cpu_ratio),
            checksum_ns_per_byte: Some(checksum_ns),
            cpu_ratio_without_checksum: Some(without),
            forgotten: ours.forgotten,
            errors: load.flaws() as f64 + ours.errors,
            is_met: ratio >= RATIO_MIN && without <= CPU_RATIO_MAX,
            ..Self::new(row, load, "ratio >= 0.9, CPU ratio without checksum <= 1.2")
        }
    }

    pub(super) fn latency<C: Cache>(
        row: &str,
        load: &Load<C>,
        ours: &Timed,
        ssd_share: f64,
        fio: &Reached,
    ) -> Self {
        let over = ours.lat_us.p50 - fio.p50_us;
        let is_parked = row == "get parked";
        let (most, goal) = if is_parked {
            (OVER_PARKED_US, "p50 <= fio + 45 us")
        } else {
            (OVER_AWAKE_US, "p50 <= fio + 15 us")
        };
        Self {
            p50_us: Some(ours.lat_us.p50),
            p99_us: Some(ours.lat_us.p99),
            fio_p50_us: Some(fio.p50_us),
            p50_over_us: Some(over),
            ssd_share: Some(ssd_share),
            // Where memory answered most, the median is not the SSD's.
            is_met: over <= most && ssd_share > 0.9,
            ..Self::new(row, load, goal)
        }
    }

    pub(super) fn foreground<C: Cache>(
        load: &Load<C>,
        idle: &Timed,
        busy: &Timed,
        spilled: &Between,
    ) -> Self {
        let ratio = busy.lat_us.p99 / idle.lat_us.p99;
        Self {
            bytes_per_s: Some(spilled.bytes / spilled.seconds),
            p50_us: Some(busy.lat_us.p50),
            p99_us: Some(busy.lat_us.p99),
            idle_p99_us: Some(idle.lat_us.p99),
            p99_ratio: Some(ratio),
            is_met: ratio <= FOREGROUND_MAX && spilled.bytes > 0.0,
            ..Self::new("hits while spilling", load, "p99 <= 2 x idle")
        }
    }

    /// The row for people.
    pub(super) fn line(&self) -> String {
        let met = if self.is_met { "yes" } else { "no" };
        let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), text::bytes);
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
        if let (Some(p50), Some(fio), Some(over)) = (self.p50_us, self.fio_p50_us, self.p50_over_us)
        {
            return format!(
                "{:<25} {:>5}  p50 {}, fio {}, over {over:.1} us, from SSD {:.1} %; {}: {met}",
                self.row,
                self.depth,
                text::micros(p50),
                text::micros(fio),
                self.ssd_share.unwrap_or(0.0) * 100.0,
                self.goal,
            );
        }
        if let (Some(busy), Some(idle)) = (self.p99_us, self.idle_p99_us) {
            return format!(
                "{:<25} p99 {}, idle {}, {} times, spilling {}/s; {}: {met}",
                self.row,
                text::micros(busy),
                text::micros(idle),
                number(self.p99_ratio),
                rate(self.bytes_per_s),
                self.goal,
            );
        }
        format!(
            "{:<25} {:>5} {:>12} {:>12} {:>6} {:>10} {:>14} {met:>5}",
            self.row,
            self.depth,
            rate(self.bytes_per_s),
            rate(self.fio_bytes_per_s),
            number(self.ratio),
            number(self.cpu_ratio),
            number(self.cpu_ratio_without_checksum),
        )
    }
}

/// What one CRC32C of objects of this size costs here, a byte.
pub(super) fn checksum_ns_per_byte(bytes: usize) -> f64 {
    const LEAST: Duration = Duration::from_millis(50);
    // A few objects, so that they come from memory and not from a cache.
    let region = vec![7_u8; (64 << 20_usize).max(bytes)];
    let (start, mut sum, mut done) = (Instant::now(), 0_u32, 0_usize);
    while start.elapsed() < LEAST {
        for object in region.chunks_exact(bytes) {
            sum ^= crc32c::crc32c(black_box(object));
            done += bytes;
        }
    }
    black_box(sum);
    start.elapsed().as_nanos() as f64 / done as f64
}
