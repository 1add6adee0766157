//! Welcome: the session stands. On a unix socket its descriptors travel with this frame.

use rkyv::{Archive, Deserialize, Serialize};

use crate::error::MessageError;
use crate::limits::{INLINE_MAX, NAME_MAX, PAYLOAD_MAX, SHARDS_MAX, SOCKET_PATH_MAX};
use crate::message::Number;
use crate::message::contract::{Message, check_count, check_flags, check_max, validate_both};
use crate::opcode::{Direction, Opcode};

/// Tells a client all it needs to work: identities, sizes, limits.
///
/// Lengths of memory are 0 where the session has none (TCP, or no staging). Descriptors come in
/// this order, all close-on-exec: life page (read only), session memory (read-write), session
/// memory (read only), arena (read-write for trusted sessions, else read only), one index per
/// shard (read only, `index_count` of them), staging memory (`staging_len` > 0 only).
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Welcome {
    /// Random identity of this run of the node.
    pub boot_id: u64,
    /// Identity of the session on the node.
    pub session_id: u64,
    /// Feature bits in force.
    pub features: u64,
    /// Bytes of the arena's descriptor (virtual; sparse).
    pub arena_len: u64,
    /// Bytes of a granule.
    pub granule_len: u64,
    /// Bytes of the staging memory; 0 = the session writes into leases.
    pub staging_len: u64,
    /// Bytes of the session memory that the client writes.
    pub session_rw_len: u64,
    /// Bytes of the session memory that the client only reads.
    pub session_ro_len: u64,
    /// Bytes of each index descriptor (virtual; sparse).
    pub index_len: u64,
    /// Largest value in bytes that the node takes.
    pub value_max: u64,
    /// Largest payload in bytes of one frame that the node takes.
    pub payload_max: u64,
    /// [`Welcome::TRUSTED`], [`Welcome::SHARED_MEMORY`], [`Welcome::LOWER_TIER`]; low 16 bits must
    /// be understood.
    pub flags: u32,
    /// Bounded spin in microseconds before a wait, as the node advises; 0 = do not spin.
    pub spin_us: u32,
    /// Longest value in bytes that rides in the byte ring.
    pub inline_max: u32,
    /// Most keys of a batch.
    pub batch_max: u32,
    /// Most keys of an existence batch.
    pub exist_batch_max: u32,
    /// Requests that the node carries out at a time for this connection; more wait unread.
    pub inflight_max: u32,
    /// The tenant's number on this node.
    pub tenant_id: u16,
    /// How many shards the node has, 1 to 64.
    pub shard_count: u16,
    /// How many index descriptors follow; `shard_count` or 0.
    pub index_count: u16,
    /// How many descriptors travel with this frame.
    pub descriptor_count: u16,
    /// Secret under which the tenant's keys are hashed; zeros when the client need not hash.
    pub key_secret: [u8; 16],
    /// CPU of each shard, `shard_count` of them; [`Welcome::CPU_NONE`] = not pinned.
    pub shard_cpus: Vec<u32>,
    /// Path of the node's unix socket, so that a TCP client on the same host finds it; or empty.
    pub socket_path: String,
    /// Version of the server's software.
    pub server_version: String,
}

impl Welcome {
    /// The session may write the arena's descriptor (its own leases only, by contract).
    pub const TRUSTED: u32 = 1;
    /// Descriptors travel with this frame.
    pub const SHARED_MEMORY: u32 = 2;
    /// What the index does not know may lie in another tier: only the node knows that it is absent.
    pub const LOWER_TIER: u32 = 1 << 16;
    /// In `shard_cpus`: the shard is not pinned.
    pub const CPU_NONE: u32 = u32::MAX;

    const KNOWN_FLAGS: u64 = (Self::TRUSTED | Self::SHARED_MEMORY) as u64;

    /// Announces shared memory, and with `is_trusted` that its session may write leases.
    #[must_use]
    pub const fn with_descriptors(mut self, is_trusted: bool) -> Self {
        self.flags |= Self::SHARED_MEMORY;
        if is_trusted {
            self.flags |= Self::TRUSTED;
        }
        self.descriptor_count = self.descriptors_expected();
        self
    }

    /// Returns how many descriptors the fields announce: the rule for `descriptor_count`.
    pub const fn descriptors_expected(&self) -> u16 {
        if self.flags & Self::SHARED_MEMORY == 0 {
            return 0;
        }
        4 + self.index_count + (self.staging_len > 0) as u16
    }
}

impl Message for Welcome {
    const NAME: &'static str = "Welcome";
    const DIRECTION: Direction = Direction::Response;
    const OPCODES: &'static [Opcode] = &[Opcode::Welcome];

    validate_both!(|message| {
        check_flags("welcome flags", message.flags, Self::KNOWN_FLAGS)?;
        check_max("shard count", message.shard_count, SHARDS_MAX)?;
        if message.shard_count == 0 {
            return Err(MessageError::Empty {
                what: "shard count",
            });
        }
        let shard_count = usize::try_from(message.shard_count.wide()).unwrap_or(usize::MAX);
        check_count("shard cpus", message.shard_cpus.len(), shard_count)?;
        check_max("index count", message.index_count, message.shard_count)?;
        check_descriptors(
            message.flags.wide(),
            message.index_count.wide(),
            message.staging_len.wide(),
            message.descriptor_count.wide(),
        )?;
        check_max("inline limit", message.inline_max, INLINE_MAX)?;
        check_max("payload limit", message.payload_max, PAYLOAD_MAX)?;
        check_max(
            "socket path",
            message.socket_path.len() as u64,
            SOCKET_PATH_MAX,
        )?;
        check_max(
            "server version",
            message.server_version.len() as u64,
            NAME_MAX,
        )?;
        Ok(0)
    });
}

/// Checks the number of descriptors against what the other fields announce.
fn check_descriptors(
    flags: u64,
    index_count: u64,
    staging_len: u64,
    found: u64,
) -> Result<(), MessageError> {
    let shared = flags & u64::from(Welcome::SHARED_MEMORY) != 0;
    let expected = if shared {
        4 + index_count + u64::from(staging_len > 0)
    } else {
        0
    };
    if found == expected {
        return Ok(());
    }
    Err(MessageError::Disagrees {
        what: "descriptor count",
        found,
        expected,
    })
}
