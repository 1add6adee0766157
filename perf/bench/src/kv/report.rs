//! The report of `kv`: one JSON object, or a table.

use serde::Serialize;

use super::Plan;
use super::limit::Limit;
use super::worker::Tally;
use crate::args::Op;
use crate::cache::CachePlace;
use crate::latency::LatencyUs;
use crate::limits::Measured;
use crate::machine::Machine;
use crate::text;

/// What a run found. The fields up to `misses` are the contract; the others explain them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KvReport {
    pub bench: &'static str,
    pub op: Op,
    pub size_bytes: u64,
    pub clients: u32,
    pub batch: u64,
    pub seconds: f64,
    /// Keys, those of failed and missed ones included.
    pub ops: u64,
    pub ops_per_s: f64,
    pub bytes_per_s: f64,
    /// Per call.
    pub lat_us: LatencyUs,
    pub errors: u64,
    pub misses: u64,
    /// Values read, by the tier of the node that they came from; null where none are read.
    pub hits_memory: Option<u64>,
    pub hits_ssd: Option<u64>,
    /// Values read and compared in full, and the bytes that were not as written.
    pub verified: u64,
    pub wrong_bytes: u64,
    pub keys: u64,
    pub absent_percent: u8,
    pub checksum: bool,
    pub spin_us: Option<u64>,
    pub rate: Option<f64>,
    pub place: CachePlace,
    pub limit: Limit,
    pub first_error: Option<String>,
    #[serde(flatten)]
    pub machine: Machine,
}

impl KvReport {
    pub(crate) fn new(plan: &Plan, place: CachePlace, total: Tally, limit: Measured) -> Self {
        let seconds = total.seconds.max(f64::MIN_POSITIVE);
        let ops_per_s = total.ops as f64 / seconds;
        let reads = !matches!(plan.op, Op::Set | Op::Mset | Op::Exist | Op::Del);
        Self {
            bench: "kv",
            op: plan.op,
            size_bytes: plan.size as u64,
            clients: plan.clients,
            batch: plan.batch as u64,
            seconds,
            ops: total.ops,
            ops_per_s,
            bytes_per_s: total.bytes as f64 / seconds,
            lat_us: total.latency.summary(),
            errors: total.errors,
            misses: total.misses,
            hits_memory: reads.then(|| total.hits.all - total.hits.ssd),
            hits_ssd: reads.then_some(total.hits.ssd),
            verified: total.verified,
            wrong_bytes: total.wrong_bytes,
            keys: plan.keys,
            absent_percent: plan.absent,
            checksum: plan.checksum,
            spin_us: plan.spin_us,
            rate: plan.rate,
            place,
            limit: Limit::new(&limit, ops_per_s),
            first_error: total.first_error,
            machine: Machine::here(),
        }
    }

    /// The report for people.
    pub(crate) fn table(&self) -> String {
        let Self {
            size_bytes,
            clients,
            batch,
            lat_us,
            limit,
            ..
        } = self;
        let op = format!("{:?}", self.op).to_lowercase();
        let size = text::bytes(*size_bytes as f64);
        let head = format!(
            "kv {op}, {size}, {} keys, {clients} client(s), batch {batch}, {}",
            self.keys,
            self.place.words()
        );
        let latency = [lat_us.p50, lat_us.p90, lat_us.p99, lat_us.p999, lat_us.max];
        let latency = latency.map(text::micros).join(", ");
        let bytes = limit
            .bytes_per_s
            .map(|rate| format!(", {}/s", text::bytes(rate)));
        let rows = [
            ("keys", format!("{} in {:.2} s", self.ops, self.seconds)),
            ("keys/s", text::rate(self.ops_per_s)),
            ("payload/s", format!("{}/s", text::bytes(self.bytes_per_s))),
            (
                "latency",
                format!("p50, p90, p99, p99.9, max = {latency} a call"),
            ),
            (
                "errors, misses",
                format!("{}, {}", self.errors, self.misses),
            ),
            (
                "hits",
                match (self.hits_memory, self.hits_ssd) {
                    (Some(memory), Some(ssd)) => format!("{memory} from memory, {ssd} from SSD"),
                    _ => "no value is read".to_owned(),
                },
            ),
            (
                "wrong bytes",
                format!("{} in {} values checked", self.wrong_bytes, self.verified),
            ),
            (
                "limit",
                format!(
                    "{} {}{}: this is {:.3} of it",
                    limit.name,
                    text::rate(limit.ops_per_s),
                    bytes.unwrap_or_default(),
                    limit.ratio
                ),
            ),
        ];
        format!("{head}\n{}{}", text::table(&rows), self.machine.line())
    }
}
