//! Exist: say which keys exist.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::EXIST_BATCH_MAX;
use crate::message::KeyBatch;
use crate::message::contract::{Message, check_flags, check_list, validate_both};
use crate::opcode::{Direction, Opcode};

/// Asks which keys exist; counts as no access.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ExistRequest {
    /// Option flags, none known; low 16 bits must be understood.
    pub flags: u32,
    /// The keys.
    pub keys: KeyBatch,
}

impl Message for ExistRequest {
    const NAME: &'static str = "ExistRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Exist];

    validate_both!(|message| {
        check_flags("exist flags", message.flags, 0)?;
        message.keys.check(EXIST_BATCH_MAX)?;
        Ok(0)
    });
}

/// Answers an [`ExistRequest`]: `Ok` = exists, `NotFound` = does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ExistResponse {
    /// [`crate::Status`] number of each key, in the order of the request.
    pub statuses: Vec<u16>,
}

impl Message for ExistResponse {
    const NAME: &'static str = "ExistResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Exist];

    validate_both!(|message| {
        check_list("exist statuses", message.statuses.len(), EXIST_BATCH_MAX)?;
        Ok(0)
    });
}
