//! Ids, units, limits, clock and random ports: the words every engine crate shares.
//!
//! Lives on: any shard. Nothing here does I/O, allocates on a hot path, or knows another engine
//! crate. Time and randomness enter the pure crates through [`Clock`] and [`Random`] alone, so that
//! the simulator can replace both.
//!
//! Neighbours: every crate under `engine/` names these types; `engine/memory` is the next one up.

#![forbid(unsafe_code)]

mod ids;
pub mod limits;
mod ports;
pub mod units;

pub use ids::{Extent, GranuleIndex, RecordId, SessionId, ShardId, TenantId};
pub use ports::{Clock, Deadline, ManualClock, Random, SplitMix64, SystemClock};
