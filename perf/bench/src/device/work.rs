//! The measuring: the card's peak, and threads that submit for a while.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chariot_device::{CopyBatch, Device, DeviceError, Direction, Submission};
use chariot_transfer::{DeviceCore, ObjectCopy, Path, Submit, Transfer};

use super::objects::Objects;
use super::of_device;
use crate::failure::Failure;

/// Bytes of the copy that tells the peak, and how often it is made.
const PEAK_BYTES: usize = 128 << 20;
const PEAK_ROUNDS: u32 = 4;
/// Longest time of one submission.
const PATIENCE: Duration = Duration::from_mins(2);

/// What one measurement yields; times are this run's own.
pub(crate) struct Measured {
    pub(crate) bytes_per_s: f64,
    pub(crate) cpu_us_per_key: f64,
    pub(crate) path: &'static str,
}

/// Bytes a second of one large page-locked copy, the best of a few.
pub(crate) fn peak(device: &Device, direction: Direction) -> Result<f64, Failure> {
    let copy = || -> Result<f64, DeviceError> {
        let (card, host) = (device.alloc(PEAK_BYTES)?, device.alloc_host(PEAK_BYTES)?);
        let (stream, mut best) = (device.stream()?, f64::MAX);
        for _ in 0..PEAK_ROUNDS {
            let mut batch = CopyBatch::new(direction);
            batch.push((&card, 0), (&host, 0), PEAK_BYTES)?;
            let begun = Instant::now();
            stream.submit(batch, Submission::Each)?;
            stream.wait(Some(PATIENCE))?;
            best = best.min(begun.elapsed().as_secs_f64());
        }
        Ok(PEAK_BYTES as f64 / best)
    };
    copy().map_err(|error| of_device("measure the copy engine", &error))
}

/// One submission; waits for room, and for all outcomes.
fn submit(core: &DeviceCore, direction: Direction, objects: Vec<ObjectCopy>) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut transfer = Transfer {
        direction,
        objects,
        deadline,
    };
    loop {
        match core.try_submit(transfer) {
            Submit::Accepted(handle) => {
                let failed = handle.wait().into_iter().find_map(Result::err);
                return failed.map_or(Ok(()), |error| Err(error.to_string()));
            },
            Submit::Full(back) => {
                transfer = back;
                std::thread::yield_now();
            },
        }
    }
}

/// Moves objects with some threads for at least `least`, each at least twice.
pub(crate) fn measure(
    core: &DeviceCore,
    objects: &Objects,
    (direction, keys, threads): (Direction, u32, u32),
    least: Duration,
) -> Result<Measured, Failure> {
    let of_keys = objects.of_keys(keys, direction == Direction::HostToDevice);
    let failed = |error: String| {
        Failure::new(
            format!("a transfer failed ({error})"),
            "run the conformance suite",
        )
    };
    // The first pays for threads, staging and pages.
    submit(core, direction, of_keys.clone()).map_err(failed)?;
    let before = counts(core);
    let (done, broken) = (AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    let work = || -> Result<(), String> {
        let mut rounds = 0;
        while rounds < 2 || begun.elapsed() < least {
            if broken.load(Ordering::Relaxed) {
                return Ok(());
            }
            let outcome = submit(core, direction, of_keys.clone());
            if outcome.is_err() {
                broken.store(true, Ordering::Relaxed);
                return outcome;
            }
            done.fetch_add(u64::from(keys), Ordering::Relaxed);
            rounds += 1;
        }
        Ok(())
    };
    let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a thread of this tool died".to_owned()))
        };
        threads.into_iter().map(join).collect()
    });
    let took = begun.elapsed().as_secs_f64();
    outcomes
        .into_iter()
        .collect::<Result<(), String>>()
        .map_err(failed)?;
    let moved = done.load(Ordering::Relaxed);
    let after = counts(core);
    let cpu_us = (after.cpu_ns - before.cpu_ns) as f64 / 1e3;
    Ok(Measured {
        bytes_per_s: moved as f64 * objects.bytes() as f64 / took,
        cpu_us_per_key: cpu_us / moved as f64,
        path: after.busiest_since(&before),
    })
}

/// Counters of the core at a moment.
struct Counts {
    cpu_ns: u64,
    bytes: [(&'static str, u64); 4],
}

fn counts(core: &DeviceCore) -> Counts {
    let paths = [
        ("direct", Path::Direct),
        ("queued", Path::Queued),
        ("gathered", Path::Gathered),
        ("each", Path::Each),
    ];
    let bytes = paths.map(|(name, path)| (name, core.probe().path(path).bytes()));
    Counts {
        cpu_ns: core.probe().cpu_ns(),
        bytes,
    }
}

impl Counts {
    /// The way that most bytes went.
    fn busiest_since(&self, before: &Self) -> &'static str {
        let since = self.bytes.iter().zip(&before.bytes);
        let most = since.max_by_key(|(after, before)| after.1 - before.1);
        most.map_or("none", |(after, _)| after.0)
    }
}
