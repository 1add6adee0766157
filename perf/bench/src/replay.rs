//! `replay`: requests of an inference service against the cache, every byte read checked.
//!
//! For each request: the longest prefix of its blocks that the cache has, those blocks into one
//! buffer, then the rest written (evictable). Parts: `trace` reads JSON lines, `synthetic` makes
//! conversations, `player` replays, `plot` and `report` show.

use crate::args::ReplayArgs;
use crate::cache::Cache;
use crate::command::{Outcome, json_line, note, print, progress};
use crate::evictions;
use crate::failure::Failure;
use crate::pinning;

mod player;
mod plot;
mod report;
mod synthetic;
mod trace;

use player::{Player, Settings};
use report::{Circumstances, ReplayReport};
use trace::Request;

/// The trace that is made, not read.
const SYNTHETIC: &str = "synthetic";
/// Requests of a synthetic trace.
const SYNTHETIC_REQUESTS: u64 = 2000;
/// Largest block, and most synthetic requests.
const BLOCK_BYTES_MAX: usize = 256 << 20;
const SYNTHETIC_REQUESTS_MAX: u64 = 1_000_000;

/// The command.
pub(crate) fn command(args: &ReplayArgs) -> Result<Outcome, Failure> {
    let settings = settings(args)?;
    let requests = requests(args)?;
    let cpus = args
        .client_cpus
        .as_deref()
        .map_or(Ok(Vec::new()), pinning::parse_cpus)?;
    pinning::pin_client(&cpus, 0)?;
    let daemon = args.target.daemon()?;
    let cache = daemon.connect()?;
    let counted = || args.admin.as_deref().map(evictions::read).transpose();
    let report = run(cache, settings, &requests, args, counted)?;
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

fn settings(args: &ReplayArgs) -> Result<Settings, Failure> {
    if args.block_bytes > BLOCK_BYTES_MAX {
        let cause = format!("--block-bytes {} is too large", args.block_bytes);
        return Err(Failure::new(cause, "give at most 256MiB"));
    }
    if let Some(scale) = args.time_scale
        && !(1e-3..=1e6).contains(&scale)
    {
        let cause = format!("--time-scale {scale} is no speed");
        return Err(Failure::new(
            cause,
            "give 0.001 to 1000000, 1 being the trace's own",
        ));
    }
    Ok(Settings {
        block_bytes: args.block_bytes,
        time_scale: args.time_scale,
    })
}

fn requests(args: &ReplayArgs) -> Result<Vec<Request>, Failure> {
    if args.requests == Some(0) {
        return Err(Failure::new(
            "--requests 0 replays nothing",
            "give at least 1",
        ));
    }
    if args.trace != SYNTHETIC {
        return trace::read_file(&args.trace, args.requests);
    }
    let count = args.requests.unwrap_or(SYNTHETIC_REQUESTS);
    if count > SYNTHETIC_REQUESTS_MAX {
        let cause = format!("--requests {count} of a synthetic trace");
        return Err(Failure::new(cause, "give at most 1000000"));
    }
    Ok(synthetic::generate(count, args.seed))
}

/// Replays against `cache`; `counted` asks the daemon for its evictions so far.
fn run<C: Cache>(
    cache: C,
    settings: Settings,
    requests: &[Request],
    args: &ReplayArgs,
    counted: impl Fn() -> Result<Option<u64>, Failure>,
) -> Result<ReplayReport, Failure> {
    let before = counted()?;
    let bar = progress("replay", requests.len() as u64);
    let (cache, tally) = Player::new(cache, settings).play(requests, &bar);
    bar.finish_and_clear();
    let after = counted()?;
    let how = Circumstances {
        trace: args.trace.clone(),
        block_bytes: settings.block_bytes,
        time_scale: settings.time_scale,
        checksum: !args.target.no_checksum,
        place: cache.place(),
        evictions: before
            .zip(after)
            .map(|(before, after)| after.saturating_sub(before)),
    };
    Ok(ReplayReport::new(tally, requests, how))
}

#[cfg(test)]
mod tests;
