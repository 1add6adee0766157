//! Proof: the client shows that it has the secret; see `auth.rs` for what is proven.

use rkyv::{Archive, Deserialize, Serialize};

use crate::message::contract::{Message, check_flags, validate_both};
use crate::opcode::{Direction, Opcode};

/// Answers a challenge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Proof {
    /// [`Proof::PRESENT`]; low 16 bits must be understood.
    pub flags: u32,
    /// The code of [`crate::auth::make_proof`]; zeros when not present.
    pub code: [u8; 32],
}

impl Proof {
    /// The code is there; a challenge that requires a proof refuses one without.
    pub const PRESENT: u32 = 1;

    /// Makes a proof with `code`.
    pub const fn with_code(code: [u8; 32]) -> Self {
        Self {
            flags: Self::PRESENT,
            code,
        }
    }
}

impl ArchivedProof {
    /// Returns the code, if it is there.
    pub fn code(&self) -> Option<&[u8; 32]> {
        (self.flags.to_native() & Proof::PRESENT != 0).then_some(&self.code)
    }
}

impl Message for Proof {
    const NAME: &'static str = "Proof";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Proof];

    validate_both!(|message| {
        check_flags("proof flags", message.flags, u64::from(Self::PRESENT))?;
        Ok(0)
    });
}
