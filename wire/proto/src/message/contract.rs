//! What every message offers, and the checks that they share.

use rkyv::api::high::{HighDeserializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use crate::codec::BodySerializer;
use crate::error::MessageError;
use crate::limits::PAYLOAD_MAX;
use crate::message::Number;
use crate::opcode::{Direction, Opcode};

/// Is a message: a body with its place in the opcode table and its limits.
pub trait Message:
    Archive<
        Archived: Portable
                      + for<'v> CheckBytes<HighValidator<'v, Failure>>
                      + Deserialize<Self, HighDeserializer<Failure>>,
    > + for<'w, 'a> Serialize<BodySerializer<'w, 'a>>
    + Sized
{
    /// The message's name, for errors and documents.
    const NAME: &'static str;
    /// Which way it goes.
    const DIRECTION: Direction;
    /// The opcodes that carry it.
    const OPCODES: &'static [Opcode];
    /// Whether this is the body of answers that failed as a whole.
    const IS_REFUSAL: bool = false;

    /// Checks limits and agreement of the parts; returns the payload bytes that belong to it.
    ///
    /// Single keys are not looked at: a bad key is answered by itself, see [`crate::check_key`].
    ///
    /// # Errors
    ///
    /// [`MessageError`], with the status to answer.
    fn validate(&self) -> Result<u64, MessageError>;

    /// Does the same for a message read in place.
    ///
    /// # Errors
    ///
    /// As [`Message::validate`].
    fn validate_archived(archived: &Self::Archived) -> Result<u64, MessageError>;
}

/// Writes both `validate`s from one body: owned and archived fields read alike.
macro_rules! validate_both {
    (|$message:ident| $body:block) => {
        fn validate(&self) -> Result<u64, crate::error::MessageError> {
            let $message = self;
            $body
        }

        fn validate_archived(archived: &Self::Archived) -> Result<u64, crate::error::MessageError> {
            let $message = archived;
            $body
        }
    };
}
pub(crate) use validate_both;

/// Checks that `found` is at most `max`.
pub(crate) fn check_max(
    what: &'static str,
    found: impl Number,
    max: impl Number,
) -> Result<(), MessageError> {
    let (found, max) = (found.wide(), max.wide());
    if found > max {
        Err(MessageError::OverLimit { what, found, max })
    } else {
        Ok(())
    }
}

/// Checks that a list's `found` elements are as many as there are keys.
pub(crate) fn check_count(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), MessageError> {
    if found == expected {
        return Ok(());
    }
    Err(MessageError::Disagrees {
        what,
        found: found as u64,
        expected: expected as u64,
    })
}

/// Checks flags: the low 16 bits must be known, higher ones may be ignored.
pub(crate) fn check_flags(
    what: &'static str,
    flags: impl Number,
    known: u64,
) -> Result<(), MessageError> {
    let flags = flags.wide();
    if flags & 0xffff & !known == 0 {
        Ok(())
    } else {
        Err(MessageError::Flags { what, flags })
    }
}

/// Checks a list that must have 1 to `max` elements.
pub(crate) fn check_list(what: &'static str, len: usize, max: u32) -> Result<(), MessageError> {
    if len == 0 {
        return Err(MessageError::Empty { what });
    }
    check_max(what, len as u64, max)
}

/// Adds up lengths; a sum over [`PAYLOAD_MAX`] is an error, so it cannot wrap.
pub(crate) fn payload_sum(lens: impl Iterator<Item = u64>) -> Result<u64, MessageError> {
    let mut sum: u64 = 0;
    for len in lens {
        sum = sum.saturating_add(len);
        check_max("payload", sum, PAYLOAD_MAX)?;
    }
    Ok(sum)
}
