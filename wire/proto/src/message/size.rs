//! Size: say how long values are.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::BATCH_MAX;
use crate::message::KeyBatch;
use crate::message::contract::{Message, check_count, check_flags, check_list, validate_both};
use crate::opcode::{Direction, Opcode};

/// Asks for the sizes of values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct SizeRequest {
    /// Option flags, none known; low 16 bits must be understood.
    pub flags: u32,
    /// The keys.
    pub keys: KeyBatch,
}

impl Message for SizeRequest {
    const NAME: &'static str = "SizeRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Size];

    validate_both!(|message| {
        check_flags("size flags", message.flags, 0)?;
        message.keys.check(BATCH_MAX)?;
        Ok(0)
    });
}

/// Answers a [`SizeRequest`], in the order of its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct SizeResponse {
    /// Bytes of each value; 0 unless its status is `Ok`.
    pub sizes: Vec<u64>,
    /// [`crate::Status`] number of each key.
    pub statuses: Vec<u16>,
}

impl Message for SizeResponse {
    const NAME: &'static str = "SizeResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Size];

    validate_both!(|message| {
        check_list("size statuses", message.statuses.len(), BATCH_MAX)?;
        check_count("sizes", message.sizes.len(), message.statuses.len())?;
        Ok(0)
    });
}
