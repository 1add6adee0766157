//! Prints how much of the arena stays useful under a churn of 4 KiB to 28 MiB objects.
//!
//! Sizes are log-uniform. Each object goes to a shard at random; when it does not fit, the shard
//! evicts: what `victims_for` names, priced by bytes and age (`neighbours`), or the oldest until it
//! fits (`fifo`, for comparison). Useful is the sum of payload lengths over the memory given,
//! averaged over the steady state. Usage: `churn [GiB]`, 2 by default.

#[path = "../tests/support/churn.rs"]
mod churn;

use std::io::Write;

use churn::{Churn, Eviction};

fn main() -> std::io::Result<()> {
    let gib = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    let mut out = std::io::stdout();
    for shards in [1, 16] {
        for eviction in [Eviction::Neighbours, Eviction::Fifo] {
            let granules = gib * 16 / shards;
            let mut churn = Churn::new(shards, granules, eviction, 1);
            let report = churn.run(60_000, 40_000);
            writeln!(
                out,
                "{gib} GiB, {shards:2} shards of {granules} granules, {eviction:?}: useful mean \
                 {:.4} min {:.4}, evicted/allocated bytes {:.3}, \
                  evicted young {:.3}, metadata {:.5} of capacity",
                report.useful_mean,
                report.useful_min,
                report.evicted_per_allocated,
                report.young_share,
                report.metadata,
            )?;
        }
    }
    Ok(())
}
