//! Prefix: count the leading keys of a list that exist.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::EXIST_BATCH_MAX;
use crate::message::KeyBatch;
use crate::message::contract::{Message, check_flags, check_max, validate_both};
use crate::opcode::{Direction, Opcode};

/// Asks how many keys, from the first on and without a gap, exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PrefixRequest {
    /// Option flags, none known; low 16 bits must be understood.
    pub flags: u32,
    /// The keys.
    pub keys: KeyBatch,
}

impl Message for PrefixRequest {
    const NAME: &'static str = "PrefixRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Prefix];

    validate_both!(|message| {
        check_flags("prefix flags", message.flags, 0)?;
        message.keys.check(EXIST_BATCH_MAX)?;
        Ok(0)
    });
}

/// Answers a [`PrefixRequest`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PrefixResponse {
    /// Leading keys that exist; 0 to the number of keys. A key that is no key counts as absent.
    pub count: u32,
}

impl Message for PrefixResponse {
    const NAME: &'static str = "PrefixResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Prefix];

    validate_both!(|message| {
        check_max("prefix count", message.count, EXIST_BATCH_MAX)?;
        Ok(0)
    });
}
