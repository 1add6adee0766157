//! Frames, messages, status codes and key identity: everything that crosses a process boundary as
//! bytes.
//!
//! Role: the one definition of what peers say to each other, on TCP and on the unix socket of a
//! local session; `wire/PROTOCOL.md` draws the same bytes for people, and a test keeps the two
//! together. Depends on nothing of this project.
//!
//! Mechanism: [`FrameHeader`] is 64 fixed bytes read and written by cursor; the body behind it is
//! an rkyv archive that [`access`] validates before anybody looks at it (structure, then limits,
//! then agreement with the header); the payload is raw and never passes through this crate.
//!
//! Path of a request: `FrameHeader::parse` (limits are known before anything is held) ->
//! receive the body into a [`BodyBuffer`] -> [`access`] -> a handler reads the archived message in
//! place -> [`encode_frame`] writes the answer into a buffer that is used again.
//!
//! Invariants: nothing here panics on bytes of a peer; every number has an explicit width; a
//! status or opcode number, once given, keeps its meaning for ever.
#![forbid(unsafe_code)]

pub mod auth;
pub mod device;
pub mod limits;
pub mod message;

mod codec;
mod error;
mod frame;
mod key;
mod mode;
mod opcode;
mod siphash;
mod status;
mod version;

pub use codec::{
    Answer, BodyBuffer, BodySerializer, BodyWriter, FrameBuffer, SplitFrame, access, access_answer,
    decode, decode_answer, encode_frame, encode_refusal, split_frame,
};
pub use error::{FrameError, KeyError, MessageError};
pub use frame::{
    BODY_CRC_OFFSET, FRAME_MAGIC, FrameFlags, FrameHeader, FrameLimits, HEADER_CRC_OFFSET,
    HEADER_LEN, SLOT_NONE,
};
pub use key::{KeyHash, KeySecret, check_key};
pub use mode::{ExistenceOpt, WriteMode};
pub use opcode::{Direction, Opcode, OpcodeRoom};
pub use status::{Status, StatusClass};
pub use version::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, VersionRange};
