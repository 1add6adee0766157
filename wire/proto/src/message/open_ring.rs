//! `OpenRing` and `RingOpened`: the ring of one shard, made when first needed.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::SHARDS_MAX;
use crate::message::contract::{Message, check_max, validate_both};
use crate::opcode::{Direction, Opcode};

/// Asks for the ring of one shard; unix socket only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct OpenRing {
    /// The shard, below the welcome's shard count.
    pub shard: u16,
}

impl Message for OpenRing {
    const NAME: &'static str = "OpenRing";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::OpenRing];

    validate_both!(|message| {
        check_max("shard", message.shard, SHARDS_MAX - 1)?;
        Ok(0)
    });
}

/// Accepts; the session's bell for that shard (an eventfd) travels with this frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct RingOpened {
    /// The shard that was asked for.
    pub shard: u16,
}

impl Message for RingOpened {
    const NAME: &'static str = "RingOpened";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::RingOpened];

    validate_both!(|message| {
        check_max("shard", message.shard, SHARDS_MAX - 1)?;
        Ok(0)
    });
}
