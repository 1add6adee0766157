//! What one shard asks of another on behalf of a TCP connection, and the answers.
//!
//! A local session speaks to each shard through a ring of its own, so it never needs this. A TCP
//! connection lives on the shard that accepted it, while its keys live anywhere: [`crate::tcp`]
//! makes a [`Call`] per key, [`crate::tickets`] carries it to the owner and back, and
//! [`crate::handlers::calls`] answers it there. A call to the connection's own shard takes the same
//! way without the mailbox.
//!
//! Neighbours: `tcp/request.rs` before, `tickets.rs` between, `handlers/calls.rs` after.

use chariot_base::{Extent, SessionId, TenantId};
use chariot_proto::{KeyHash, Status, WriteMode};

use crate::objects::Reserving;
use crate::tickets::TicketId;

/// One question about an object.
#[derive(Debug, Clone)]
pub(crate) struct ObjectCall {
    /// Tenant of the connection.
    pub(crate) tenant: TenantId,
    /// The connection, as the owner of what it takes.
    pub(crate) session: SessionId,
    /// The key; of a transaction one whose shard decides it.
    pub(crate) hash: KeyHash,
    /// What is asked.
    pub(crate) ask: ObjectAsk,
}

/// What is asked about an object; forms are those of the rings (`wire/SHARED-MEMORY.md`).
#[derive(Debug, Clone)]
pub(crate) enum ObjectAsk {
    /// Take or release a latch. One that is known and waits goes on waiting.
    Latch {
        /// Which form.
        form: u8,
        /// The session's number of it.
        number: u64,
        /// Absolute monotonic nanoseconds until which it waits.
        deadline_ns: u64,
    },
    /// Answer `Again` to the take that waits, which goes on. Not answered itself.
    LetWait {
        /// The session's number of the latch.
        number: u64,
    },
    /// Add, drop or count references.
    Ref {
        /// Which form.
        form: u8,
    },
    /// Hold keys for the next version of their parent.
    Nest {
        /// The session's number of the publish.
        number: u64,
        /// At most [`crate::limits::NESTED_PER_CALL`].
        children: Box<[KeyHash]>,
    },
    /// Tie what is held to a version, or seal it, or let go.
    Bind {
        /// Which form.
        form: u8,
        /// The session's number of the publish.
        number: u64,
        /// What it published.
        version: u64,
    },
    /// Begin or decide a transaction.
    Tx {
        /// Which form.
        form: u8,
        /// The session's number of it.
        number: u16,
        /// The shards of its keys, one bit each.
        shards: u64,
        /// Absolute monotonic nanoseconds; 0 = the server's own bound.
        deadline_ns: u64,
    },
}

/// One question to the shard that owns a key. `Send`: it crosses cores by mailbox.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// Finds a key; with `hold` its extent is held by an I/O pin until [`Call::Release`].
    Find {
        /// Tenant of the connection.
        tenant: TenantId,
        /// The key's identity.
        hash: KeyHash,
        /// Whether the caller will read the bytes.
        hold: bool,
        /// Absolute monotonic nanoseconds until which a missing key is waited for; 0 = not at all.
        wait_until_ns: u64,
    },
    /// Ends the hold of a [`Call::Find`]. Not answered.
    Release {
        /// Tenant of the connection.
        tenant: TenantId,
        /// The held extent, as it was found.
        extent: Extent,
    },
    /// Reserves room for a value; queues for memory until the deadline.
    Reserve {
        /// Tenant of the connection.
        tenant: TenantId,
        /// Bytes of the value, at least 1.
        len: u64,
        /// Absolute monotonic nanoseconds; 0 = the server's own bound.
        deadline_ns: u64,
    },
    /// Publishes a reserved extent whose bytes have arrived.
    Commit {
        /// Tenant of the connection.
        tenant: TenantId,
        /// The key's identity.
        hash: KeyHash,
        /// What was reserved; `len` is the value's length.
        extent: Extent,
        /// How to store it.
        options: CommitOptions,
    },
    /// Gives a reservation back unused. Not answered.
    Abort {
        /// Tenant of the connection.
        tenant: TenantId,
        /// The reserved extent.
        extent: Extent,
    },
    /// Gives up a [`Call::Find`] that waits; its answer comes then, whatever it is. Not answered.
    Cancel {
        /// Tenant of the connection.
        tenant: TenantId,
        /// The find's ticket.
        find: TicketId,
    },
    /// About an object.
    Object(Box<ObjectCall>),
    /// Deletes a key.
    Delete {
        /// Tenant of the connection.
        tenant: TenantId,
        /// The key's identity.
        hash: KeyHash,
    },
    /// Sets or clears the time to live of a key.
    Expire {
        /// Tenant of the connection.
        tenant: TenantId,
        /// The key's identity.
        hash: KeyHash,
        /// Milliseconds from now; 0 = for ever.
        ttl_ms: u64,
    },
}

impl Call {
    /// Whose key space it is about.
    pub(crate) const fn tenant(&self) -> TenantId {
        match self {
            Self::Find { tenant, .. }
            | Self::Release { tenant, .. }
            | Self::Reserve { tenant, .. }
            | Self::Commit { tenant, .. }
            | Self::Abort { tenant, .. }
            | Self::Cancel { tenant, .. }
            | Self::Delete { tenant, .. }
            | Self::Expire { tenant, .. } => *tenant,
            Self::Object(call) => call.tenant,
        }
    }
}

/// How a value is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitOptions {
    /// CRC32C of the value, where the writer computed one.
    pub(crate) crc: Option<u32>,
    /// Milliseconds to live from now; 0 = for ever.
    pub(crate) ttl_ms: u64,
    /// Keep an existing value and answer `Exists`.
    pub(crate) if_absent: bool,
    /// What eviction may do with it.
    pub(crate) mode: WriteMode,
    /// The transaction that it is hidden for; `None`: visible at once.
    pub(crate) reserving: Option<Reserving>,
}

/// A found entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Where its bytes are; `len` is the value's length.
    pub(crate) extent: Extent,
    /// CRC32C, where one was stored.
    pub(crate) crc: Option<u32>,
    /// What users see as the version.
    pub(crate) version: u64,
    /// Coarse monotonic milliseconds; 0 = never.
    pub(crate) expiry_ms: u64,
    /// An I/O pin holds it until the caller's release.
    pub(crate) held: bool,
    /// Read from the SSD for this call.
    pub(crate) is_from_ssd: bool,
}

/// The answer to a [`Call`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    /// Answer to a successful `Find`.
    Found(Found),
    /// Answer to a successful `Reserve`; `len` is the length asked for.
    Reserved(Extent),
    /// Any other outcome.
    Done {
        /// What became of it.
        status: Status,
        /// Version given by a `Commit`; 0 otherwise.
        version: u64,
    },
}

impl Reply {
    /// A bare status.
    pub(crate) fn status(status: Status) -> Self {
        Self::Done { status, version: 0 }
    }
}
