//! Stats: the node's counters, for tools that hold a session anyway; dashboards use the admin HTTP.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::{NAME_MAX, STATS_MAX};
use crate::message::contract::{Message, check_flags, check_max, validate_both};
use crate::opcode::{Direction, Opcode};

/// Asks for counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct StatsRequest {
    /// [`StatsRequest::PER_SHARD`]; low 16 bits must be understood.
    pub flags: u32,
}

impl StatsRequest {
    /// One entry per shard as well, named `shard<N>.<counter>`.
    pub const PER_SHARD: u32 = 1;
}

impl Message for StatsRequest {
    const NAME: &'static str = "StatsRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Stats];

    validate_both!(|message| {
        check_flags("stats flags", message.flags, u64::from(Self::PER_SHARD))?;
        Ok(0)
    });
}

/// Is one counter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct StatEntry {
    /// Its value, in base units (bytes, milliseconds, counts).
    pub value: u64,
    /// Its name, with the unit last.
    pub name: String,
}

/// Answers a [`StatsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct StatsResponse {
    /// The counters, in no promised order.
    pub entries: Vec<StatEntry>,
}

impl Message for StatsResponse {
    const NAME: &'static str = "StatsResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Stats];

    validate_both!(|message| {
        check_max("stat entries", message.entries.len() as u64, STATS_MAX)?;
        for entry in message.entries.as_slice() {
            check_max("stat name", entry.name.len() as u64, NAME_MAX)?;
        }
        Ok(0)
    });
}
