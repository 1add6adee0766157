//! Bye: a farewell, so that what the session held is free at once.

use rkyv::{Archive, Deserialize, Serialize};

use crate::message::contract::{Message, validate_both};
use crate::opcode::{Direction, Opcode};

/// Closes the session on purpose; nothing of it may be read after sending this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Bye {
    /// Why, for logs: 0 = closed by the caller, 1 = replaced by another session, others unknown.
    pub reason: u16,
}

impl Message for Bye {
    const NAME: &'static str = "Bye";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Bye];

    validate_both!(|_message| { Ok(0) });
}
