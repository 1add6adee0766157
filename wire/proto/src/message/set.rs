//! Set: store values. Payload: the values one after another, in the order of the keys.

use rkyv::{Archive, Deserialize, Serialize};

use crate::error::MessageError;
use crate::limits::{BATCH_MAX, TTL_MS_MAX};
use crate::message::contract::{
    Message, check_count, check_flags, check_list, check_max, payload_sum, validate_both,
};
use crate::message::{KeyBatch, Number};
use crate::mode::{ExistenceOpt, WriteMode};
use crate::opcode::{Direction, Opcode};

/// Describes the value of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct SetItem {
    /// Bytes of the value in the payload.
    pub value_len: u64,
    /// CRC32C of the value, when the flag says so.
    pub crc: u32,
    /// [`SetItem::CRC_PRESENT`]; low 16 bits must be understood.
    pub flags: u32,
}

impl SetItem {
    /// `crc` is there: the receiver compares it and stores nothing when it differs.
    pub const CRC_PRESENT: u32 = 1;

    /// Returns the checksum, if it is there.
    pub const fn crc(&self) -> Option<u32> {
        if self.flags & Self::CRC_PRESENT != 0 {
            Some(self.crc)
        } else {
            None
        }
    }
}

impl ArchivedSetItem {
    /// Returns the checksum, if it is there.
    pub fn crc(&self) -> Option<u32> {
        (self.flags.to_native() & SetItem::CRC_PRESENT != 0).then_some(self.crc.to_native())
    }
}

/// Stores values; each key is answered by itself, of duplicates the first wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct SetRequest {
    /// Time to live in milliseconds; 0 = for ever. Replaces an older one.
    pub ttl_ms: u64,
    /// Option flags, none known; low 16 bits must be understood.
    pub flags: u32,
    /// [`WriteMode`] number.
    pub mode: u8,
    /// [`ExistenceOpt`] number.
    pub existence: u8,
    /// The keys.
    pub keys: KeyBatch,
    /// One for each key.
    pub items: Vec<SetItem>,
}

impl SetRequest {
    /// Returns the write mode, `None` for a number without meaning (not after `validate`).
    pub const fn write_mode(&self) -> Option<WriteMode> {
        WriteMode::from_u8(self.mode)
    }

    /// Returns the existence option, `None` for a number without meaning.
    pub const fn existence_opt(&self) -> Option<ExistenceOpt> {
        ExistenceOpt::from_u8(self.existence)
    }
}

impl ArchivedSetRequest {
    /// Returns the write mode, `None` for a number without meaning (not after `access`).
    pub const fn write_mode(&self) -> Option<WriteMode> {
        WriteMode::from_u8(self.mode)
    }

    /// Returns the existence option, `None` for a number without meaning.
    pub const fn existence_opt(&self) -> Option<ExistenceOpt> {
        ExistenceOpt::from_u8(self.existence)
    }
}

impl Message for SetRequest {
    const NAME: &'static str = "SetRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Set, Opcode::MultiSetTx];

    validate_both!(|message| {
        check_flags("set flags", message.flags, 0)?;
        check_options(message.mode, message.existence)?;
        check_max("time to live", message.ttl_ms, TTL_MS_MAX)?;
        message.keys.check(BATCH_MAX)?;
        check_count("set items", message.items.len(), message.keys.len())?;
        for item in message.items.as_slice() {
            check_flags(
                "set item flags",
                item.flags,
                u64::from(SetItem::CRC_PRESENT),
            )?;
        }
        payload_sum(message.items.iter().map(|item| item.value_len.wide()))
    });
}

fn check_options(mode: u8, existence: u8) -> Result<(), MessageError> {
    if WriteMode::from_u8(mode).is_none() {
        return Err(MessageError::Unknown {
            what: "write mode",
            found: mode.wide(),
        });
    }
    if ExistenceOpt::from_u8(existence).is_none() {
        return Err(MessageError::Unknown {
            what: "existence option",
            found: existence.wide(),
        });
    }
    Ok(())
}

/// Says how the write of one key ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct SetAnswer {
    /// The version that was stored; 0 unless the status is `Ok`.
    pub version: u64,
    /// [`crate::Status`] number.
    pub status: u16,
    /// None known; ignored by readers.
    pub flags: u16,
    /// 0; ignored by readers.
    pub spare: u32,
}

/// Answers a [`SetRequest`], in the order of its keys. No payload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct SetResponse {
    /// One for each key.
    pub answers: Vec<SetAnswer>,
}

impl Message for SetResponse {
    const NAME: &'static str = "SetResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Set, Opcode::MultiSetTx];

    validate_both!(|message| {
        check_list("set answers", message.answers.len(), BATCH_MAX)?;
        Ok(0)
    });
}
