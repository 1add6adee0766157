//! The limit that a kv figure is compared with, measured in the same run.
//!
//! | operation | limit |
//! |---|---|
//! | payload over shared memory | memcpy of the same size, same working set, as many threads |
//! | payload over TCP | loopback TCP in writes of the same size, one stream |
//! | moves none (view, mview, exist, del) | a bare lookup of the same keys in a private map |

use serde::Serialize;

use super::Plan;
use super::keys::Key;
use crate::args::Op;
use crate::cache::CachePlace;
use crate::failure::Failure;
use crate::limits::{Measured, copying, lookup, tcp};

/// Most bytes that the copies of the limit walk over: beyond every cache, and not all memory.
const WORKING_SET_MAX: usize = 1 << 30;

/// A limit as it stands in the report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    pub name: &'static str,
    pub ops_per_s: f64,
    pub bytes_per_s: Option<f64>,
    /// The figure of the cache over this limit, in operations per second.
    pub ratio: f64,
}

impl Limit {
    pub(crate) fn new(measured: &Measured, ops_per_s: f64) -> Self {
        let limit = measured.ops_per_s.unwrap_or(0.0).max(f64::MIN_POSITIVE);
        Self {
            name: measured.name,
            ops_per_s: limit,
            bytes_per_s: measured.bytes_per_s,
            ratio: ops_per_s / limit,
        }
    }
}

/// Measures the limit that fits the plan and the way of its bytes.
pub(crate) fn measure(plan: &Plan, place: CachePlace) -> Result<Measured, Failure> {
    let kind = match plan.op {
        Op::Set | Op::Mset => copying::Kind::Write,
        Op::Get | Op::Mget | Op::Mixed => copying::Kind::Read,
        Op::View | Op::Mview if place == CachePlace::Tcp => copying::Kind::Read,
        Op::View | Op::Mview | Op::Exist | Op::Del => {
            return Ok(lookup::measure(plan.keys, plan.limit_duration, Key::of));
        },
    };
    if place == CachePlace::Tcp {
        return tcp::one_way(plan.size, plan.limit_duration);
    }
    let keys = usize::try_from(plan.keys).unwrap_or(usize::MAX);
    let working_set = plan.size.saturating_mul(keys);
    Ok(copying::memcpy(&copying::Load {
        kind,
        size: plan.size,
        working_set: working_set.min(WORKING_SET_MAX),
        threads: plan.clients as usize,
        cpus: plan.cpus.clone(),
        duration: plan.limit_duration,
    }))
}
