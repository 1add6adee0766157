//! `kv`: one operation on random keys, by client threads with a session each.
//!
//! ```text
//! plan (all checks) -> connect and fill, in parallel -> measure, all at once -> limit -> report
//! ```
//! The clock runs around the call alone; choosing keys, stamping values and checking a sample of
//! what was read lie outside the latency but inside the throughput. The matching limit (a bare copy
//! of the same size over the same working set, on as many threads) is measured in the same run.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::args::{KvArgs, Op};
use crate::cache::Cache;
use crate::command::{Outcome, json_line, note, print, progress, seconds};
use crate::failure::Failure;
use crate::pinning;

mod keys;
mod limit;
mod report;
mod values;
mod worker;

use report::KvReport;
use worker::{Tally, Worker};

/// Most keys of one call, as the protocol has it.
const BATCH_MAX: u32 = 10_000;
/// Most client threads.
const CLIENTS_MAX: u32 = 1024;
/// Most bytes of one call.
const CALL_BYTES_MAX: usize = 1 << 30;
/// Keys of a batch where the operation is a batch by name.
const BATCH_DEFAULT: u32 = 100;
/// Shortest measurement of the limit.
const LIMIT_DURATION: Duration = Duration::from_millis(300);

/// What to run: arguments that make sense together.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub op: Op,
    pub size: usize,
    pub keys: u64,
    pub clients: u32,
    pub batch: usize,
    /// Percent of the keys read that were never written.
    pub absent: u8,
    pub duration: Duration,
    /// Time between the starts of two calls of one client.
    pub interval: Option<Duration>,
    pub rate: Option<f64>,
    pub cpus: Vec<usize>,
    pub seed: u64,
    pub checksum: bool,
    pub spin_us: Option<u64>,
    pub limit_duration: Duration,
}

impl Plan {
    pub(crate) fn new(args: &KvArgs) -> Result<Self, Failure> {
        let batch_by_name = matches!(args.op, Op::Mset | Op::Mget | Op::Mview);
        let usual = if batch_by_name { BATCH_DEFAULT } else { 1 };
        let keys_fit = u32::try_from(args.keys).unwrap_or(u32::MAX).max(1);
        let batch = args.batch.unwrap_or_else(|| usual.min(keys_fit));
        let refuse = |cause: String, remedy: &str| Err(Failure::new(cause, remedy));
        if args.keys == 0 || args.clients == 0 || args.clients > CLIENTS_MAX {
            let cause = format!("{} keys and {} clients", args.keys, args.clients);
            return refuse(cause, "give at least one of each and at most 1024 clients");
        }
        if batch == 0 || batch > BATCH_MAX || u64::from(batch) > args.keys {
            let cause = format!("--batch {batch} with {} keys", args.keys);
            return refuse(
                cause,
                "give 1 to 10000 keys a call, and not more than --keys",
            );
        }
        if args.size.saturating_mul(batch as usize) > CALL_BYTES_MAX {
            let cause = format!("{batch} values of {} bytes in one call", args.size);
            return refuse(cause, "keep --batch times --size at or below 1GiB");
        }
        if args.op == Op::Del && args.keys < u64::from(args.clients) * u64::from(batch) {
            let cause = format!("{} keys for {} clients to delete", args.keys, args.clients);
            return refuse(cause, "give at least --clients times --batch keys");
        }
        let only_reads = !matches!(args.op, Op::Set | Op::Mset | Op::Del | Op::Mixed);
        if args.absent > 100 || args.absent > 0 && !only_reads {
            let cause = format!("--absent {} with this operation", args.absent);
            return refuse(cause, "give 0 to 100 with get, view, exist, mget or mview");
        }
        let interval = args
            .rate
            .map(|rate| interval(rate, args.clients, batch))
            .transpose()?;
        let cpus = args
            .client_cpus
            .as_deref()
            .map_or(Ok(Vec::new()), pinning::parse_cpus)?;
        Ok(Self {
            op: args.op,
            size: args.size,
            keys: args.keys,
            clients: args.clients,
            batch: batch as usize,
            absent: args.absent,
            duration: seconds(args.seconds)?,
            interval,
            rate: args.rate,
            cpus,
            seed: args.seed,
            checksum: !args.target.no_checksum,
            spin_us: args.target.spin_us,
            limit_duration: LIMIT_DURATION,
        })
    }

    /// The part of the keys that client `index` fills, and deletes where that is the operation.
    fn part(&self, index: u32) -> std::ops::Range<u64> {
        let border = |index: u32| {
            let share = u128::from(self.keys) * u128::from(index) / u128::from(self.clients);
            u64::try_from(share).expect("a share of a number is not larger")
        };
        border(index)..border(index + 1)
    }

    fn fills_first(&self) -> bool {
        !matches!(self.op, Op::Set | Op::Mset)
    }
}

fn interval(rate: f64, clients: u32, batch: u32) -> Result<Duration, Failure> {
    let seconds = f64::from(clients) * f64::from(batch) / rate;
    let interval = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    if rate > 0.0 && !interval.is_zero() {
        return Ok(interval);
    }
    let cause = format!("--rate {rate} is no rate");
    Err(Failure::new(
        cause,
        "give keys per second of all clients together, more than 0",
    ))
}

/// The command.
pub(crate) fn command(args: &KvArgs) -> Result<Outcome, Failure> {
    let plan = Plan::new(args)?;
    let daemon = args.target.daemon()?;
    let report = run(&plan, || daemon.connect())?;
    if args.json {
        print(&json_line(&report)?)?;
    } else {
        print(&report.table())?;
    }
    if let Some(error) = &report.first_error {
        note(&format!(
            "chariot-bench: {} failed, the first so: {error}",
            report.errors
        ));
    }
    let clean = report.errors == 0 && report.wrong_bytes == 0;
    Ok(if clean {
        Outcome::Clean
    } else {
        Outcome::Flawed
    })
}

/// Runs the plan against clients that `connect` opens, one per thread.
pub(crate) fn run<C: Cache>(
    plan: &Plan,
    connect: impl Fn() -> Result<C, Failure> + Sync,
) -> Result<KvReport, Failure> {
    let bar = progress("fill", if plan.fills_first() { plan.keys } else { 0 });
    let workers = on_threads(0..plan.clients, |index| {
        pinning::pin_client(&plan.cpus, index as usize)?;
        let mut worker = Worker::new(plan, index, connect()?);
        if plan.fills_first() {
            worker.fill(&bar)?;
        }
        Ok(worker)
    })?;
    bar.finish_and_clear();
    let bar = progress(
        "measure",
        u64::try_from(plan.duration.as_millis()).unwrap_or(u64::MAX),
    );
    let start = Instant::now();
    let done = on_threads(workers, |mut worker| {
        pinning::pin_client(&plan.cpus, worker.index() as usize)?;
        let shown = if worker.index() == 0 {
            bar.clone()
        } else {
            ProgressBar::hidden()
        };
        let tally = worker.measure(start, &shown);
        // Sessions end together, after the last measurement.
        Ok((worker.place(), tally))
    })?;
    bar.finish_and_clear();
    let place = done[0].0;
    let mut total = Tally::new();
    for (_, tally) in &done {
        total.add(tally);
    }
    let limit = limit::measure(plan, place)?;
    Ok(KvReport::new(plan, place, total, limit))
}

/// Runs `work` on a thread per item and collects what they answer; the first failure wins.
fn on_threads<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| scope.spawn(move || work(item)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a client thread does not panic"))
            .collect()
    })
}

#[cfg(test)]
mod tests;
