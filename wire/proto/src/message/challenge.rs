//! Challenge: the server's answer to a hello.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::NAME_MAX;
use crate::message::contract::{Message, check_flags, check_max, validate_both};
use crate::opcode::{Direction, Opcode};

/// Chooses the version and asks for a proof. Always written in protocol version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Challenge {
    /// Feature bits that both sides know.
    pub features: u64,
    /// [`Challenge::PROOF_REQUIRED`]; low 16 bits must be understood.
    pub flags: u32,
    /// Protocol version of all frames from the proof on.
    pub version: u16,
    /// Random bytes, new for every hello.
    pub nonce: [u8; 32],
    /// Name and version of the server's software; for logs only.
    pub server: String,
}

impl Challenge {
    /// The proof must carry the code; without this flag it may be empty.
    pub const PROOF_REQUIRED: u32 = 1;
}

impl Message for Challenge {
    const NAME: &'static str = "Challenge";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Challenge];

    validate_both!(|message| {
        check_flags(
            "challenge flags",
            message.flags,
            u64::from(Self::PROOF_REQUIRED),
        )?;
        check_max("server name", message.server.len() as u64, NAME_MAX)?;
        Ok(0)
    });
}
