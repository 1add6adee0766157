//! Why bytes of a peer were not accepted, and the status that says so on the wire.

use thiserror::Error;

use crate::status::Status;

/// Reports why a key is not a key; whoever chose the key can fix it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The key has no bytes.
    #[error("key is empty; a key has 1 to 1024 bytes")]
    Empty,
    /// The key is longer than [`crate::limits::KEY_MAX`].
    #[error("key has {len} bytes; a key has 1 to 1024 bytes")]
    TooLong {
        /// Bytes of the key.
        len: u64,
    },
    /// A byte outside the alphabet.
    #[error(
        "key byte {byte:#04x} at {position} is not allowed; \
         use letters, digits and ~.-/_!@#%^&*()+=:;"
    )]
    Byte {
        /// The byte that is not allowed.
        byte: u8,
        /// Its position, from 0.
        position: u16,
    },
}

impl KeyError {
    /// Returns the status of a request that names this key.
    pub const fn status(self) -> Status {
        match self {
            Self::Empty | Self::TooLong { .. } | Self::Byte { .. } => Status::KeyInvalid,
        }
    }
}

/// Reports why a frame header was not accepted; the peer's implementer can fix it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Fewer than 64 bytes.
    #[error("frame header has {len} of 64 bytes")]
    Truncated {
        /// Bytes that were given.
        len: u64,
    },
    /// The first four bytes are not ours: another protocol, or a stream out of step.
    #[error(
        "frame magic is {found:#010x}, not {:#010x}",
        crate::frame::FRAME_MAGIC
    )]
    Magic {
        /// The word that was found.
        found: u32,
    },
    /// The header's checksum is wrong.
    #[error("frame header checksum is {found:#010x}, its bytes give {computed:#010x}")]
    HeaderChecksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum of the header's bytes.
        computed: u32,
    },
    /// A version outside what this build speaks.
    #[error("frame has protocol version {found}; versions {min} to {max} are spoken here")]
    Version {
        /// The frame's version.
        found: u16,
        /// Oldest version spoken here.
        min: u16,
        /// Newest version spoken here.
        max: u16,
        /// The request to answer.
        request_id: u64,
    },
    /// A header length other than the version's.
    #[error("frame header length is {found}, version 1 has 64")]
    HeaderLen {
        /// The length in the header.
        found: u16,
        /// The request to answer.
        request_id: u64,
    },
    /// A flag that must be understood is not.
    #[error("frame flags {flags:#04x} hold a bit that must be understood and is not known here")]
    Flags {
        /// All flags of the frame.
        flags: u8,
        /// The request to answer.
        request_id: u64,
    },
    /// A slot that does not exist.
    #[error("frame slot is {slot}; slots are 0 to 16383, or 65535 for none")]
    Slot {
        /// The slot in the header.
        slot: u16,
        /// The request to answer.
        request_id: u64,
    },
    /// A status number on a request, or an answer with a number outside the table.
    #[error("frame status {status} does not belong there")]
    StatusNumber {
        /// The status in the header.
        status: u16,
        /// The request to answer.
        request_id: u64,
    },
    /// A body longer than the receiver takes.
    #[error("frame body has {len} bytes; at most {max} are taken")]
    BodyTooLarge {
        /// Bytes of the body.
        len: u32,
        /// The receiver's limit.
        max: u32,
        /// The request to answer.
        request_id: u64,
    },
    /// A payload longer than the receiver takes.
    #[error("frame payload has {len} bytes; at most {max} are taken")]
    PayloadTooLarge {
        /// Bytes of the payload.
        len: u64,
        /// The receiver's limit.
        max: u64,
        /// The request to answer.
        request_id: u64,
    },
}

impl FrameError {
    /// Returns the status to answer with.
    pub const fn status(self) -> Status {
        match self {
            Self::Truncated { .. }
            | Self::Magic { .. }
            | Self::HeaderChecksum { .. }
            | Self::HeaderLen { .. }
            | Self::Slot { .. }
            | Self::StatusNumber { .. } => Status::Malformed,
            Self::Version { .. } => Status::VersionMismatch,
            Self::Flags { .. } => Status::NotSupported,
            Self::BodyTooLarge { .. } | Self::PayloadTooLarge { .. } => Status::TooLarge,
        }
    }

    /// Returns the request to answer, when enough of the header could be trusted to know it.
    pub const fn request_id(self) -> Option<u64> {
        match self {
            Self::Truncated { .. } | Self::Magic { .. } | Self::HeaderChecksum { .. } => None,
            Self::Version { request_id, .. }
            | Self::HeaderLen { request_id, .. }
            | Self::Flags { request_id, .. }
            | Self::Slot { request_id, .. }
            | Self::StatusNumber { request_id, .. }
            | Self::BodyTooLarge { request_id, .. }
            | Self::PayloadTooLarge { request_id, .. } => Some(request_id),
        }
    }
}

/// Reports why a body was not accepted, or why a message cannot be sent.
///
/// The request it belongs to is refused as a whole with [`MessageError::status`]; the stream stays
/// in step, because the header was sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The frame's opcode or direction is not this message's.
    #[error("opcode {opcode} does not carry this message in this direction")]
    WrongOpcode {
        /// The opcode number of the frame.
        opcode: u8,
    },
    /// The body's length is not the header's.
    #[error("body has {found} bytes, its header says {expected}")]
    BodyLen {
        /// Bytes that were given.
        found: u64,
        /// Bytes that the header announces.
        expected: u32,
    },
    /// The body's checksum is wrong.
    #[error("body checksum is {computed:#010x}, its header says {expected:#010x}")]
    BodyChecksum {
        /// Checksum of the bytes.
        computed: u32,
        /// Checksum in the header.
        expected: u32,
    },
    /// The receiver holds the body at an address that is no multiple of 8; its own bug.
    #[error("body is held at an address that is not 8-byte aligned")]
    Misaligned,
    /// The body is no valid archive of this message.
    #[error("body is not a valid {message} message")]
    Archive {
        /// Name of the message.
        message: &'static str,
    },
    /// A list without elements where one is needed.
    #[error("{what} is empty")]
    Empty {
        /// What is empty.
        what: &'static str,
    },
    /// A list, text or number over its limit.
    #[error("{what} is {found}; at most {max} is taken")]
    OverLimit {
        /// What is over its limit.
        what: &'static str,
        /// What was found.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// Two parts of a message that must agree do not.
    #[error("{what} is {found}, the rest of the message says {expected}")]
    Disagrees {
        /// What disagrees.
        what: &'static str,
        /// What was found.
        found: u64,
        /// What the other part says.
        expected: u64,
    },
    /// A number that has no meaning in this field.
    #[error("{what} has no meaning {found}")]
    Unknown {
        /// The field.
        what: &'static str,
        /// What was found.
        found: u64,
    },
    /// A flag that must be understood is not.
    #[error("{what} {flags:#x} hold a bit that must be understood and is not known here")]
    Flags {
        /// The flags' name.
        what: &'static str,
        /// All flags of the field.
        flags: u64,
    },
}

impl MessageError {
    /// Returns the status to answer with.
    pub const fn status(self) -> Status {
        match self {
            Self::WrongOpcode { .. }
            | Self::BodyLen { .. }
            | Self::BodyChecksum { .. }
            | Self::Archive { .. }
            | Self::Disagrees { .. } => Status::Malformed,
            Self::Empty { .. } | Self::Unknown { .. } => Status::InvalidArgument,
            Self::OverLimit { .. } => Status::TooLarge,
            Self::Flags { .. } => Status::NotSupported,
            Self::Misaligned => Status::Internal,
        }
    }
}
