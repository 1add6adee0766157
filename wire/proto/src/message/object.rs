//! Objects: latches, references, nested keys, seals. The forms are those of the rings
//! (`wire/SHARED-MEMORY.md`); what the words of a submission say there, the fields say here.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::{BATCH_MAX, WAIT_MS_MAX};
use crate::message::KeyBatch;
use crate::message::contract::{
    Message, check_count, check_flags, check_list, check_max, validate_both,
};
use crate::opcode::{Direction, Opcode};

/// Asks about objects. What a connection takes is its own, and ends with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ObjectRequest {
    /// The connection's number of a latch, or of a publish (nest, bind); 0 else.
    pub number: u64,
    /// The version just published (bind); 0 else.
    pub version: u64,
    /// How long a latch is waited for, in milliseconds, over all the times that it is asked for.
    pub wait_ms: u64,
    /// Option flags, none known; low 16 bits must be understood.
    pub flags: u32,
    /// Which form of the operation.
    pub form: u8,
    /// The keys: those referred to; the parent and its children (nest); one (latch, bind).
    pub keys: KeyBatch,
}

impl Message for ObjectRequest {
    const NAME: &'static str = "ObjectRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[
        Opcode::ObjectLatch,
        Opcode::ObjectRef,
        Opcode::ObjectNest,
        Opcode::ObjectBind,
    ];

    validate_both!(|message| {
        check_flags("object flags", message.flags, 0)?;
        check_max("wait", message.wait_ms, WAIT_MS_MAX)?;
        message.keys.check(BATCH_MAX)?;
        Ok(0)
    });
}

/// Answers an [`ObjectRequest`]: one status for each key referred to, else one for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ObjectResponse {
    /// Clients that refer to each key (count); 0 else.
    pub numbers: Vec<u64>,
    /// [`crate::Status`] numbers, in the order of the request.
    pub statuses: Vec<u16>,
}

impl Message for ObjectResponse {
    const NAME: &'static str = "ObjectResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[
        Opcode::ObjectLatch,
        Opcode::ObjectRef,
        Opcode::ObjectNest,
        Opcode::ObjectBind,
    ];

    validate_both!(|message| {
        check_list("object statuses", message.statuses.len(), BATCH_MAX)?;
        check_count(
            "object numbers",
            message.numbers.len(),
            message.statuses.len(),
        )?;
        Ok(0)
    });
}
