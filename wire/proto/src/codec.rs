//! Bodies: from a message to the bytes of a frame, and back without a copy.
//!
//! A body is an rkyv archive (little endian, 32-bit offsets) whose root lies at its end. It is
//! looked at in this order, and each step trusts only those before it: length and checksum as the
//! header says -> structure (every offset, length, text) -> limits and agreement
//! ([`Message::validate_archived`]) -> payload length. Neighbours: `frame.rs` before, the handlers
//! behind.

use rkyv::Archived;
use rkyv::api::serialize_using;
use rkyv::rancor::{Failure, Strategy};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::sharing::Share;
use rkyv::ser::writer::Positional;
use rkyv::ser::{Serializer, Writer};
use rkyv::util::{AlignedVec, with_arena};

use crate::error::{FrameError, MessageError};
use crate::frame::{FrameHeader, FrameLimits, HEADER_LEN};
use crate::limits::BODY_MAX;
use crate::message::{ArchivedRefused, Message, Refused};
use crate::opcode::Direction;

const HEADER_BYTES: usize = HEADER_LEN as usize;
/// Address alignment that [`access`] needs: that of the widest number in a message.
const BODY_ALIGN: usize = 8;

/// Holds a received body where [`access`] can read it in place: 16-byte aligned.
pub type BodyBuffer = AlignedVec<16>;

/// The serializer behind [`Message`]: archives into a [`BodyWriter`].
pub type BodySerializer<'w, 'a> =
    Strategy<Serializer<BodyWriter<'w>, ArenaHandle<'a>, Share>, Failure>;

/// Is a growing byte buffer that frames are appended to and that keeps its memory when cleared.
pub trait FrameBuffer {
    /// Returns the bytes held.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Returns how many bytes are held.
    fn byte_len(&self) -> usize;
    /// Appends `bytes`.
    fn append(&mut self, bytes: &[u8]);
    /// Drops all bytes from `len` on.
    fn cut(&mut self, len: usize);
}

impl FrameBuffer for Vec<u8> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn byte_len(&self) -> usize {
        self.len()
    }

    fn append(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn cut(&mut self, len: usize) {
        self.truncate(len);
    }
}

impl<const ALIGNMENT: usize> FrameBuffer for AlignedVec<ALIGNMENT> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn byte_len(&self) -> usize {
        self.len()
    }

    fn append(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn cut(&mut self, len: usize) {
        if len < self.len() {
            self.resize(len, 0);
        }
    }
}

/// Appends an archive to a [`FrameBuffer`], counting positions from the start of the body.
pub struct BodyWriter<'w> {
    buffer: &'w mut dyn FrameBuffer,
    start: usize,
}

impl core::fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BodyWriter")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl Positional for BodyWriter<'_> {
    fn pos(&self) -> usize {
        self.buffer.byte_len() - self.start
    }
}

impl Writer<Failure> for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // A body over its limit must not grow the buffer without bound first.
        if self.pos() + bytes.len() > BODY_MAX as usize {
            return Err(Failure);
        }
        self.buffer.append(bytes);
        Ok(())
    }
}

/// Appends a whole frame (header and body) to `buffer`; the payload follows it on the wire and is
/// the caller's to send, [`FrameHeader::payload_len`] bytes of the header that is returned.
///
/// Lengths and checksums of `header` are filled in here. Nothing is allocated once `buffer` has
/// grown to the largest frame; clear it and use it again.
///
/// # Errors
///
/// [`MessageError`] when the message breaks a limit or does not belong to the header's opcode and
/// direction; `buffer` is as before. Any answer may carry a [`Refused`] with a failed status.
pub fn encode_frame<M: Message, B: FrameBuffer>(
    buffer: &mut B,
    header: &FrameHeader,
    message: &M,
) -> Result<FrameHeader, MessageError> {
    check_belongs::<M>(header)?;
    let payload_len = message.validate()?;
    let start = buffer.byte_len();
    buffer.append(&[0; HEADER_BYTES]);
    let body_start = start + HEADER_BYTES;
    if !archive_body(buffer, body_start, message) {
        buffer.cut(start);
        let max = u64::from(BODY_MAX);
        return Err(MessageError::OverLimit {
            what: "body",
            found: max + 1,
            max,
        });
    }
    let body = &buffer.bytes_mut()[body_start..];
    let body_len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    debug_assert!(body_len <= BODY_MAX, "the writer stops there");
    let body_crc = crc32c::crc32c(body);
    let header = FrameHeader {
        body_len,
        payload_len,
        body_crc,
        ..*header
    };
    buffer.bytes_mut()[start..body_start].copy_from_slice(&header.encode());
    Ok(header)
}

/// Appends the refusal of a whole request to `buffer`: its opcode and id, the refusal's status.
///
/// # Errors
///
/// As [`encode_frame`].
pub fn encode_refusal<B: FrameBuffer>(
    buffer: &mut B,
    request: &FrameHeader,
    refusal: &Refused,
) -> Result<FrameHeader, MessageError> {
    encode_frame(
        buffer,
        &FrameHeader::answer(request, refusal.status()),
        refusal,
    )
}

/// Archives `message` behind `body_start`; false when it does not fit [`BODY_MAX`].
fn archive_body<M: Message>(buffer: &mut dyn FrameBuffer, body_start: usize, message: &M) -> bool {
    with_arena(|arena| {
        let writer = BodyWriter {
            buffer,
            start: body_start,
        };
        let mut serializer = Serializer::new(writer, arena.acquire(), Share::new());
        serialize_using::<_, Failure>(message, &mut serializer).is_ok()
    })
}

/// Validates `body` and reads it in place: no copy, no allocation.
///
/// The bytes must be private to the caller (received, not shared memory) and at an address that is
/// a multiple of 8; a [`BodyBuffer`] is.
///
/// # Errors
///
/// [`MessageError`]: refuse the request with [`MessageError::status`], the stream stays in step.
pub fn access<'b, M: Message>(
    header: &FrameHeader,
    body: &'b [u8],
) -> Result<&'b Archived<M>, MessageError> {
    check_belongs::<M>(header)?;
    access_body::<M>(header, body)
}

fn access_body<'b, M: Message>(
    header: &FrameHeader,
    body: &'b [u8],
) -> Result<&'b Archived<M>, MessageError> {
    let expected = header.body_len;
    if body.len() as u64 != u64::from(expected) {
        return Err(MessageError::BodyLen {
            found: body.len() as u64,
            expected,
        });
    }
    let computed = crc32c::crc32c(body);
    if computed != header.body_crc {
        return Err(MessageError::BodyChecksum {
            computed,
            expected: header.body_crc,
        });
    }
    if !body.as_ptr().addr().is_multiple_of(BODY_ALIGN) {
        return Err(MessageError::Misaligned);
    }
    let archived = rkyv::access::<Archived<M>, Failure>(body)
        .map_err(|Failure| MessageError::Archive { message: M::NAME })?;
    let payload_len = M::validate_archived(archived)?;
    if payload_len != header.payload_len {
        return Err(MessageError::Disagrees {
            what: "payload length",
            found: header.payload_len,
            expected: payload_len,
        });
    }
    Ok(archived)
}

/// Validates `body`, at any address, and copies it out as an owned message.
///
/// # Errors
///
/// As [`access`].
pub fn decode<M: Message>(header: &FrameHeader, body: &[u8]) -> Result<M, MessageError> {
    let owned = |archived: &Archived<M>| {
        rkyv::deserialize::<M, Failure>(archived)
            .map_err(|Failure| MessageError::Archive { message: M::NAME })
    };
    if body.as_ptr().addr().is_multiple_of(BODY_ALIGN) {
        return owned(access::<M>(header, body)?);
    }
    let mut aligned = BodyBuffer::with_capacity(body.len());
    aligned.extend_from_slice(body);
    owned(access::<M>(header, &aligned)?)
}

/// Is what a request got back: its answer, or a refusal as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<A, R> {
    /// The request was carried out; each key has its own status inside.
    Done(A),
    /// The request was refused as a whole.
    Refused(R),
}

/// Reads an answer in place: the message `M`, or the refusal that a failed status announces.
///
/// # Errors
///
/// As [`access`].
pub fn access_answer<'b, M: Message>(
    header: &FrameHeader,
    body: &'b [u8],
) -> Result<Answer<&'b Archived<M>, &'b ArchivedRefused>, MessageError> {
    if header.outcome().is_ok() {
        return access::<M>(header, body).map(Answer::Done);
    }
    access::<Refused>(header, body).map(Answer::Refused)
}

/// Reads an answer, at any address, and copies it out.
///
/// # Errors
///
/// As [`access`].
pub fn decode_answer<M: Message>(
    header: &FrameHeader,
    body: &[u8],
) -> Result<Answer<M, Refused>, MessageError> {
    if header.outcome().is_ok() {
        return decode::<M>(header, body).map(Answer::Done);
    }
    decode::<Refused>(header, body).map(Answer::Refused)
}

/// Checks that the frame's opcode, direction and status go with the message.
fn check_belongs<M: Message>(header: &FrameHeader) -> Result<(), MessageError> {
    let wrong = MessageError::WrongOpcode {
        opcode: header.opcode,
    };
    let failed = !header.outcome().is_ok();
    if M::IS_REFUSAL && header.direction() == Direction::Response {
        // A refusal answers any opcode, unknown ones included.
        return if failed { Ok(()) } else { Err(wrong) };
    }
    let known = header.known_opcode().ok_or(wrong)?;
    if failed || header.direction() != M::DIRECTION || !M::OPCODES.contains(&known) {
        return Err(wrong);
    }
    Ok(())
}

/// Is a cut through received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitFrame<'b> {
    /// So many bytes are needed, counted from the start of the frame, to get any further.
    Incomplete {
        /// Bytes of the frame that are known to be needed.
        needed: u64,
    },
    /// Header and body are there.
    Complete {
        /// The frame's header.
        header: FrameHeader,
        /// The frame's body, not validated.
        body: &'b [u8],
        /// What follows the body: the payload, then the next frame.
        rest: &'b [u8],
    },
}

/// Cuts header and body off the front of `bytes`, which may hold less or more than that.
///
/// # Errors
///
/// [`FrameError`] as [`FrameHeader::parse`]; found as soon as 64 bytes are there.
pub fn split_frame<'b>(
    bytes: &'b [u8],
    limits: &FrameLimits,
) -> Result<SplitFrame<'b>, FrameError> {
    let Some((head, behind)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Ok(SplitFrame::Incomplete {
            needed: u64::from(HEADER_LEN),
        });
    };
    let header = FrameHeader::parse(head, limits)?;
    match behind.split_at_checked(header.body_len as usize) {
        Some((body, rest)) => Ok(SplitFrame::Complete { header, body, rest }),
        None => Ok(SplitFrame::Incomplete {
            needed: u64::from(HEADER_LEN) + u64::from(header.body_len),
        }),
    }
}

#[cfg(test)]
mod tests;
