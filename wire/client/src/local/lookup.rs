//! Where a read looks before it asks the shard.
//!
//! The seam for the shared index: its reader will answer hits (pin, fence, re-check) and certain
//! misses here, without a round trip. Until it does, every read goes through the ring.

use super::LocalSession;
use super::engine::Op;

/// What is known about a key without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Nothing: the shard knows.
    AskShard,
    /// It is certain that there is no such key.
    #[expect(dead_code, reason = "the index reader answers it")]
    Absent,
}

/// Looks a key up. Costs nothing while there is no index.
pub(super) fn find(_session: &LocalSession, _op: &Op) -> Lookup {
    Lookup::AskShard
}
