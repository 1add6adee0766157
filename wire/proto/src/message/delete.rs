//! Delete: remove keys.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::BATCH_MAX;
use crate::message::KeyBatch;
use crate::message::contract::{Message, check_flags, check_list, validate_both};
use crate::opcode::{Direction, Opcode};

/// Removes keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct DeleteRequest {
    /// Option flags, none known; low 16 bits must be understood.
    pub flags: u32,
    /// The keys.
    pub keys: KeyBatch,
}

impl Message for DeleteRequest {
    const NAME: &'static str = "DeleteRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Delete];

    validate_both!(|message| {
        check_flags("delete flags", message.flags, 0)?;
        message.keys.check(BATCH_MAX)?;
        Ok(0)
    });
}

/// Answers a [`DeleteRequest`]: `Ok` = was there and is gone, `NotFound` = was not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct DeleteResponse {
    /// [`crate::Status`] number of each key, in the order of the request.
    pub statuses: Vec<u16>,
}

impl Message for DeleteResponse {
    const NAME: &'static str = "DeleteResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Delete];

    validate_both!(|message| {
        check_list("delete statuses", message.statuses.len(), BATCH_MAX)?;
        Ok(0)
    });
}
