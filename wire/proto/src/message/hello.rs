//! Hello: the client's first frame. Its bytes are part of the proof.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::NAME_MAX;
use crate::message::contract::{Message, check_flags, check_max, validate_both};
use crate::opcode::{Direction, Opcode};
use crate::version::VersionRange;

/// Opens a session. Always written in protocol version 1, so that any server can read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Hello {
    /// Feature bits that the client knows; unknown ones are ignored.
    pub features: u64,
    /// Process id of the client in its own namespace; for logs only.
    pub pid: u32,
    /// [`Hello::WANTS_SHARED_MEMORY`]; low 16 bits must be understood.
    pub flags: u32,
    /// Oldest protocol version that the client speaks.
    pub version_min: u16,
    /// Newest protocol version that the client speaks.
    pub version_max: u16,
    /// Tenant to work in; empty = the default one.
    pub tenant: String,
    /// Access key whose secret the client will prove; empty = none.
    pub access_key: String,
    /// Name and version of the client's software; for logs only.
    pub client: String,
}

impl Hello {
    /// The client asks for descriptors (unix socket) or the socket's path (TCP).
    pub const WANTS_SHARED_MEMORY: u32 = 1;

    /// Returns the versions that the client speaks.
    pub const fn versions(&self) -> VersionRange {
        VersionRange {
            min: self.version_min,
            max: self.version_max,
        }
    }
}

impl ArchivedHello {
    /// Returns the versions that the client speaks.
    pub fn versions(&self) -> VersionRange {
        VersionRange {
            min: self.version_min.to_native(),
            max: self.version_max.to_native(),
        }
    }
}

impl Message for Hello {
    const NAME: &'static str = "Hello";
    const DIRECTION: Direction = Direction::Request;
    const OPCODES: &'static [Opcode] = &[Opcode::Hello];

    validate_both!(|message| {
        check_flags(
            "hello flags",
            message.flags,
            u64::from(Self::WANTS_SHARED_MEMORY),
        )?;
        // A range upside down is no error of form: `VersionRange::agree` finds nothing in it.
        check_max("tenant name", message.tenant.len() as u64, NAME_MAX)?;
        check_max("access key", message.access_key.len() as u64, NAME_MAX)?;
        check_max("client name", message.client.len() as u64, NAME_MAX)?;
        Ok(0)
    });
}
