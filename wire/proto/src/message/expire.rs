//! Expire: give keys a new time to live.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::{BATCH_MAX, TTL_MS_MAX};
use crate::message::KeyBatch;
use crate::message::contract::{Message, check_flags, check_list, check_max, validate_both};
use crate::opcode::{Direction, Opcode};

/// Gives keys a new time to live.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ExpireRequest {
    /// Time to live in milliseconds from now; 0 = for ever.
    pub ttl_ms: u64,
    /// Option flags, none known; low 16 bits must be understood.
    pub flags: u32,
    /// The keys.
    pub keys: KeyBatch,
}

impl Message for ExpireRequest {
    const NAME: &'static str = "ExpireRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Expire];

    validate_both!(|message| {
        check_flags("expire flags", message.flags, 0)?;
        check_max("time to live", message.ttl_ms, TTL_MS_MAX)?;
        message.keys.check(BATCH_MAX)?;
        Ok(0)
    });
}

/// Answers an [`ExpireRequest`]: `Ok` = in force, `NotFound` = no such key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ExpireResponse {
    /// [`crate::Status`] number of each key, in the order of the request.
    pub statuses: Vec<u16>,
}

impl Message for ExpireResponse {
    const NAME: &'static str = "ExpireResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Expire];

    validate_both!(|message| {
        check_list("expire statuses", message.statuses.len(), BATCH_MAX)?;
        Ok(0)
    });
}
