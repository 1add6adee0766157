//! The fixed header of every frame: 64 little-endian bytes in front of body and payload.
//!
//! ```text
//!  0 magic u32 | 4 version u16 | 6 opcode u8 | 7 flags u8 | 8 request_id u64
//! 16 slot u16  | 18 header_len u16 | 20 body_len u32      | 24 payload_len u64
//! 32 deadline_unix_ms u64          | 40 body_crc u32 | 44 status u16 | 46 spare, 14 bytes
//! 60 header_crc u32 (CRC32C of bytes 0 to 59)
//! ```
//! Magic, version, request id and the place of the checksum stay for ever, so that any two versions
//! can refuse each other politely. Nothing is held before [`FrameHeader::parse`] has compared both
//! lengths with the receiver's limits. Next in the path: `codec.rs`.

use crate::error::FrameError;
use crate::limits::{BODY_MAX, PAYLOAD_MAX, SLOT_COUNT};
use crate::opcode::{Direction, Opcode};
use crate::status::Status;
use crate::version::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, VersionRange};

/// The bytes `CHRT`, read as a little-endian word: the first four of every frame.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"CHRT");
/// Bytes of the header.
pub const HEADER_LEN: u16 = 64;
/// Where the body's checksum lies in the header.
pub const BODY_CRC_OFFSET: u16 = 40;
/// Where the header's checksum lies; it covers all bytes before.
pub const HEADER_CRC_OFFSET: u16 = 60;
/// In the slot field: the frame is not about one hash slot.
pub const SLOT_NONE: u16 = u16::MAX;

const HEADER_BYTES: usize = HEADER_LEN as usize;
const CHECKED_BYTES: usize = HEADER_CRC_OFFSET as usize;
const SPARE_BYTES: usize = 14;

const _: () = assert!(CHECKED_BYTES + size_of::<u32>() == HEADER_BYTES);
const _: () = assert!(SLOT_COUNT < SLOT_NONE);

/// Holds the flags of a frame.
///
/// The low four bits must be understood: a frame with an unknown one is refused `NotSupported`.
/// The high four may be ignored by who does not know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameFlags(pub u8);

impl FrameFlags {
    /// The frame answers the request of the same id.
    pub const RESPONSE: Self = Self(0x01);
    /// The bits that must be understood.
    pub const MUST_UNDERSTAND: Self = Self(0x0f);
    /// The bits that this build knows.
    pub const KNOWN: Self = Self::RESPONSE;

    /// Returns whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn has_unknown_must(self) -> bool {
        self.0 & Self::MUST_UNDERSTAND.0 & !Self::KNOWN.0 != 0
    }
}

/// Holds what a receiver takes; lengths over it are refused before memory is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Longest body in bytes; at most [`BODY_MAX`].
    pub body_max: u32,
    /// Longest payload in bytes; at most [`PAYLOAD_MAX`].
    pub payload_max: u64,
    /// Versions taken: what both sides agreed on, or [`VersionRange::OURS`] before that.
    pub versions: VersionRange,
}

impl FrameLimits {
    /// Takes bodies up to [`BODY_MAX`], payloads up to `payload_max` bytes, all our versions.
    ///
    /// # Panics
    ///
    /// When `payload_max` is over [`PAYLOAD_MAX`]: a bug of the caller.
    pub const fn with_payload_max(payload_max: u64) -> Self {
        assert!(payload_max <= PAYLOAD_MAX);
        Self {
            body_max: BODY_MAX,
            payload_max,
            versions: VersionRange::OURS,
        }
    }
}

/// Holds the fields of a frame's header.
///
/// Lives on: any shard, any process. Lengths and checksums of a header that is to be sent are
/// filled in by [`crate::encode_frame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Protocol version in which the frame is written.
    pub version: u16,
    /// Opcode number; [`FrameHeader::known_opcode`] reads it.
    pub opcode: u8,
    /// Flags.
    pub flags: FrameFlags,
    /// Chosen by the requester; its answer carries the same.
    pub request_id: u64,
    /// Hash slot, 0 to 16,383, or [`SLOT_NONE`].
    pub slot: u16,
    /// Bytes of the body.
    pub body_len: u32,
    /// Bytes of the payload behind the body.
    pub payload_len: u64,
    /// Wall clock in milliseconds since 1970 after which nobody waits for the answer; 0 = none.
    pub deadline_unix_ms: u64,
    /// CRC32C of the body; 0 for an empty one.
    pub body_crc: u32,
    /// Status number of an answer as a whole; 0 in requests. [`FrameHeader::outcome`] reads it.
    pub status: u16,
}

impl FrameHeader {
    /// Makes the header of a request, without slot and deadline.
    pub const fn request(opcode: Opcode, request_id: u64) -> Self {
        Self {
            version: PROTOCOL_VERSION_MAX,
            opcode: opcode.as_u8(),
            flags: FrameFlags(0),
            request_id,
            slot: SLOT_NONE,
            body_len: 0,
            payload_len: 0,
            deadline_unix_ms: 0,
            body_crc: 0,
            status: 0,
        }
    }

    /// Makes the header of the answer to `request`: same opcode number, id, slot and version.
    pub const fn answer(request: &Self, status: Status) -> Self {
        Self {
            version: request.version,
            opcode: request.opcode,
            flags: FrameFlags::RESPONSE,
            request_id: request.request_id,
            slot: request.slot,
            body_len: 0,
            payload_len: 0,
            deadline_unix_ms: 0,
            body_crc: 0,
            status: status.as_u16(),
        }
    }

    /// Makes the header of a refusal of a frame whose header was not accepted; see
    /// [`FrameError::request_id`].
    pub const fn refusal(request_id: u64, status: Status) -> Self {
        Self::answer(&Self::request(Opcode::Refused, request_id), status)
    }

    /// Sets the opcode: the handshake's answers have opcodes of their own.
    #[must_use]
    pub const fn with_opcode(mut self, opcode: Opcode) -> Self {
        self.opcode = opcode.as_u8();
        self
    }

    /// Sets the hash slot, below 16,384.
    ///
    /// # Panics
    ///
    /// When the slot does not exist: a bug of the caller.
    #[must_use]
    pub const fn with_slot(mut self, slot: u16) -> Self {
        assert!(slot < SLOT_COUNT);
        self.slot = slot;
        self
    }

    /// Sets the absolute deadline in milliseconds since 1970; 0 = none.
    #[must_use]
    pub const fn with_deadline(mut self, deadline_unix_ms: u64) -> Self {
        self.deadline_unix_ms = deadline_unix_ms;
        self
    }

    /// Sets the version that was agreed on.
    ///
    /// # Panics
    ///
    /// When this build does not speak it: a bug of the caller.
    #[must_use]
    pub const fn with_version(mut self, version: u16) -> Self {
        assert!(VersionRange::OURS.contains(version));
        self.version = version;
        self
    }

    /// Returns the opcode, or `None` for a number outside the table (answer `NotSupported`).
    pub const fn known_opcode(&self) -> Option<Opcode> {
        Opcode::from_u8(self.opcode)
    }

    /// Returns which way the frame goes.
    pub const fn direction(&self) -> Direction {
        if self.flags.contains(FrameFlags::RESPONSE) {
            Direction::Response
        } else {
            Direction::Request
        }
    }

    /// Returns how the request as a whole ended; numbers of a newer peer keep their class.
    pub const fn outcome(&self) -> Status {
        Status::from_peer(self.status)
    }

    /// Returns the bytes of header, body and payload together; no sum of accepted lengths wraps.
    pub const fn frame_len(&self) -> u64 {
        HEADER_LEN as u64 + self.body_len as u64 + self.payload_len
    }

    /// Reads a header from the first 64 of `bytes`.
    ///
    /// Unknown opcodes are accepted here, so that they can be answered and the stream stays in
    /// step; spare bytes are not looked at.
    ///
    /// # Errors
    ///
    /// [`FrameError`] in the order truncated, magic, checksum, version, length, flags, slot,
    /// status, sizes. When [`FrameError::request_id`] knows the request, answer it; then close
    /// the stream, which is out of step after any of these.
    pub fn parse(bytes: &[u8], limits: &FrameLimits) -> Result<Self, FrameError> {
        let truncated = FrameError::Truncated {
            len: bytes.len() as u64,
        };
        let fixed: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(truncated)?;
        let (checked, crc_bytes) = fixed.split_last_chunk::<4>().ok_or(truncated)?;

        let mut cursor = Cursor { rest: checked };
        let magic = cursor.u32().ok_or(truncated)?;
        if magic != FRAME_MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        let found = u32::from_le_bytes(*crc_bytes);
        let computed = crc32c::crc32c(checked);
        if found != computed {
            return Err(FrameError::HeaderChecksum { found, computed });
        }
        let (header, header_len) = Self::take_fields(&mut cursor).ok_or(truncated)?;
        header.check(header_len, limits)?;
        Ok(header)
    }

    /// Takes all fields behind the magic; `None` cannot be while the layout fits 60 bytes.
    fn take_fields(cursor: &mut Cursor<'_>) -> Option<(Self, u16)> {
        let version = cursor.u16()?;
        let opcode = cursor.u8()?;
        let flags = FrameFlags(cursor.u8()?);
        let request_id = cursor.u64()?;
        let slot = cursor.u16()?;
        let header_len = cursor.u16()?;
        let body_len = cursor.u32()?;
        let payload_len = cursor.u64()?;
        let deadline_unix_ms = cursor.u64()?;
        let body_crc = cursor.u32()?;
        let status = cursor.u16()?;
        cursor.take::<SPARE_BYTES>()?;
        let header = Self {
            version,
            opcode,
            flags,
            request_id,
            slot,
            body_len,
            payload_len,
            deadline_unix_ms,
            body_crc,
            status,
        };
        Some((header, header_len))
    }

    fn check(&self, header_len: u16, limits: &FrameLimits) -> Result<(), FrameError> {
        let request_id = self.request_id;
        let VersionRange { min, max } = limits.versions;
        if !limits.versions.contains(self.version) {
            return Err(FrameError::Version {
                found: self.version,
                min,
                max,
                request_id,
            });
        }
        if header_len != HEADER_LEN {
            return Err(FrameError::HeaderLen {
                found: header_len,
                request_id,
            });
        }
        if self.flags.has_unknown_must() {
            return Err(FrameError::Flags {
                flags: self.flags.0,
                request_id,
            });
        }
        if self.slot >= SLOT_COUNT && self.slot != SLOT_NONE {
            return Err(FrameError::Slot {
                slot: self.slot,
                request_id,
            });
        }
        if self.status != 0 && self.direction() == Direction::Request {
            return Err(FrameError::StatusNumber {
                status: self.status,
                request_id,
            });
        }
        let max = limits.body_max.min(BODY_MAX);
        if self.body_len > max {
            return Err(FrameError::BodyTooLarge {
                len: self.body_len,
                max,
                request_id,
            });
        }
        let max = limits.payload_max.min(PAYLOAD_MAX);
        if self.payload_len > max {
            return Err(FrameError::PayloadTooLarge {
                len: self.payload_len,
                max,
                request_id,
            });
        }
        Ok(())
    }

    /// Returns the header as bytes, with its checksum. A body must carry its own already.
    ///
    /// # Panics
    ///
    /// When a field is outside what [`FrameHeader::parse`] accepts: a bug of the caller.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        assert!(self.version >= PROTOCOL_VERSION_MIN);
        assert!(self.slot < SLOT_COUNT || self.slot == SLOT_NONE);
        assert!(self.status == 0 || self.direction() == Direction::Response);
        assert!(self.body_len <= BODY_MAX);
        assert!(self.payload_len <= PAYLOAD_MAX);
        let mut bytes = [0; HEADER_BYTES];
        let mut cursor = CursorMut { rest: &mut bytes };
        cursor.put(FRAME_MAGIC.to_le_bytes());
        cursor.put(self.version.to_le_bytes());
        cursor.put([self.opcode, self.flags.0]);
        cursor.put(self.request_id.to_le_bytes());
        cursor.put(self.slot.to_le_bytes());
        cursor.put(HEADER_LEN.to_le_bytes());
        cursor.put(self.body_len.to_le_bytes());
        cursor.put(self.payload_len.to_le_bytes());
        cursor.put(self.deadline_unix_ms.to_le_bytes());
        cursor.put(self.body_crc.to_le_bytes());
        cursor.put(self.status.to_le_bytes());
        cursor.put([0; SPARE_BYTES]);
        assert_eq!(
            cursor.rest.len(),
            size_of::<u32>(),
            "only the checksum is left"
        );
        let crc = crc32c::crc32c(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Puts bytes at the front of what is left of a slice.
struct CursorMut<'a> {
    rest: &'a mut [u8],
}

impl CursorMut<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let rest = core::mem::take(&mut self.rest);
        let (place, behind) = rest
            .split_first_chunk_mut::<N>()
            .expect("the fields add up to 64 bytes");
        *place = bytes;
        self.rest = behind;
    }
}

/// Takes little-endian numbers off the front of a slice.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
