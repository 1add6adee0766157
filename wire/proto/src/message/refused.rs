//! Refused: no, with the reason. Ends a handshake, or answers a request that failed as a whole.

use rkyv::{Archive, Deserialize, Serialize};

use crate::error::MessageError;
use crate::limits::REFUSAL_TEXT_MAX;
use crate::message::Number;
use crate::message::contract::{Message, check_max, validate_both};
use crate::opcode::{Direction, Opcode};
use crate::status::Status;

/// Says why. The frame's header carries the same status.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Refused {
    /// Milliseconds after which another attempt makes sense; 0 = not said.
    pub retry_after_ms: u32,
    /// Status number; not 0.
    pub status: u16,
    /// Cause, value and remedy, for a person.
    pub message: String,
}

impl Refused {
    /// Makes a refusal; a text over the limit is cut.
    ///
    /// # Panics
    ///
    /// When `status` is `Ok`: a bug of the caller.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        assert!(!status.is_ok());
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(REFUSAL_TEXT_MAX as usize));
        Self {
            retry_after_ms: 0,
            status: status.as_u16(),
            message,
        }
    }

    /// Returns the status; numbers of a newer peer keep their class.
    pub const fn status(&self) -> Status {
        Status::from_peer(self.status)
    }
}

impl ArchivedRefused {
    /// Returns the status; numbers of a newer peer keep their class.
    pub fn status(&self) -> Status {
        Status::from_peer(self.status.to_native())
    }
}

impl Message for Refused {
    const NAME: &'static str = "Refused";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Refused];
    const IS_REFUSAL: bool = true;

    validate_both!(|message| {
        if message.status == 0 {
            return Err(MessageError::Unknown {
                what: "refusal status",
                found: message.status.wide(),
            });
        }
        check_max(
            "refusal text",
            message.message.len() as u64,
            REFUSAL_TEXT_MAX,
        )?;
        Ok(0)
    });
}
