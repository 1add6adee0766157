//! Get: read values or ranges of them. Also the body of View and Wait.
//!
//! Payload of the answer: the bytes of the keys that were found, one after another, in the order
//! of the keys, `len` of each.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::{BATCH_MAX, WAIT_MS_MAX};
use crate::message::contract::{
    Message, check_count, check_flags, check_list, check_max, payload_sum, validate_both,
};
use crate::message::{KeyBatch, Number};
use crate::opcode::{Direction, Opcode};

/// Is a range of a value's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ByteRange {
    /// First byte; equal to the size with `len` 0 reads nothing, beyond it is `RangeInvalid`.
    pub offset: u64,
    /// Bytes; 0 = to the end. More than there are is `RangeInvalid`.
    pub len: u64,
}

/// Reads values; each key is answered by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct GetRequest {
    /// Milliseconds to wait for keys that do not exist yet; 0 = do not wait. The header's
    /// deadline ends the wait as well. Opcode Wait is meant for it; Get and View take it too.
    pub wait_ms: u64,
    /// [`GetRequest::WANT_PAYLOAD`], [`GetRequest::WANT_CRC`]; low 16 bits must be understood.
    pub flags: u32,
    /// The keys.
    pub keys: KeyBatch,
    /// One for each key, or none at all: whole values.
    pub ranges: Vec<ByteRange>,
}

impl GetRequest {
    /// Send the bytes; without it the answer has sizes and versions only.
    pub const WANT_PAYLOAD: u32 = 1;
    /// Send the checksum of whole values where the node has it.
    pub const WANT_CRC: u32 = 2;

    const KNOWN_FLAGS: u64 = (Self::WANT_PAYLOAD | Self::WANT_CRC) as u64;
}

impl Message for GetRequest {
    const NAME: &'static str = "GetRequest";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Get, Opcode::View, Opcode::Wait];

    validate_both!(|message| {
        check_flags("get flags", message.flags, Self::KNOWN_FLAGS)?;
        check_max("wait", message.wait_ms, WAIT_MS_MAX)?;
        message.keys.check(BATCH_MAX)?;
        if !message.ranges.is_empty() {
            check_count("ranges", message.ranges.len(), message.keys.len())?;
        }
        Ok(0)
    });
}

/// Says what became of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct KeyAnswer {
    /// Bytes of the whole value.
    pub size: u64,
    /// Bytes of this key in the payload; 0 unless the status is `Ok`.
    pub len: u64,
    /// Version of the value.
    pub version: u64,
    /// Milliseconds that the value has left to live, counted from the answer; 0 = for ever.
    pub ttl_ms: u64,
    /// CRC32C of the whole value, when the flag says so.
    pub crc: u32,
    /// [`crate::Status`] number.
    pub status: u16,
    /// [`KeyAnswer::CRC_PRESENT`], [`KeyAnswer::FROM_SSD`]; unknown bits are ignored.
    pub flags: u16,
}

impl KeyAnswer {
    /// `crc` is there. It is the whole value's, also when a range was read.
    pub const CRC_PRESENT: u16 = 1;
    /// The value was read from the node's SSD for this request, not found in its memory.
    pub const FROM_SSD: u16 = 2;

    /// Returns the checksum, if it is there.
    pub const fn crc(&self) -> Option<u32> {
        if self.flags & Self::CRC_PRESENT != 0 {
            Some(self.crc)
        } else {
            None
        }
    }
}

impl ArchivedKeyAnswer {
    /// Returns the checksum, if it is there.
    pub fn crc(&self) -> Option<u32> {
        (self.flags.to_native() & KeyAnswer::CRC_PRESENT != 0).then_some(self.crc.to_native())
    }
}

/// Answers a [`GetRequest`], in the order of its keys; the payload has the found bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct GetResponse {
    /// One for each key.
    pub answers: Vec<KeyAnswer>,
}

impl Message for GetResponse {
    const NAME: &'static str = "GetResponse";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Get, Opcode::View, Opcode::Wait];

    validate_both!(|message| {
        check_list("get answers", message.answers.len(), BATCH_MAX)?;
        for answer in message.answers.as_slice() {
            // A key that was not found has no bytes, and no range is longer than its value.
            let most = if answer.status == 0 {
                answer.size.wide()
            } else {
                0
            };
            check_max("answer length", answer.len, most)?;
        }
        payload_sum(message.answers.iter().map(|answer| answer.len.wide()))
    });
}
