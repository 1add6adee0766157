//! Everything that crosses cores, in one list: what shards say to each other and what the control
//! thread orders.
//!
//! Lives on: made on any thread, consumed by the shard it is addressed to. Every variant owns what
//! it carries, so that a message which is never read frees it. Replies to the control thread go
//! through tokio's oneshot channels: their wakers belong to tokio, never to glommio.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use chariot_base::{GranuleIndex, SessionId, ShardId, TenantId};
use chariot_memory::{ArenaMemory, PopulateDone};
use chariot_proto::KeySecret;
use chariot_shm::index::{IndexMemory, IndexOptions};
use chariot_shm::{Mapping, ServerSession};
use tokio::sync::oneshot;

use crate::call::{Call, Reply};
use crate::node::ShardReport;
use crate::objects::ObjectMessage;
use crate::seam::SessionSummary;
use crate::tickets::TicketId;

/// One message to a shard.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// A question of another shard's connection; `ticket` is `None` for those that are not
    /// answered.
    Call {
        /// Who asks.
        from: ShardId,
        /// Where the answer goes.
        ticket: Option<TicketId>,
        /// What is asked.
        call: Call,
    },
    /// The answer to a call of this shard.
    Reply {
        /// Which call.
        ticket: TicketId,
        /// Tenant it was about, to undo a grant that nobody waits for.
        tenant: TenantId,
        /// Who answered.
        from: ShardId,
        /// What it said.
        reply: Reply,
    },
    /// About objects and transactions, between shards.
    Object(ObjectMessage),
    /// About a segment of the SSD tier.
    Segment(SegmentNote),
    /// Between shards and the granule home.
    Granule(GranuleMessage),
    /// To the home, from the populate thread: a job is done.
    Populated(PopulateDone),
    /// An order of the control thread.
    Order(Order),
}

/// Between shards, about a segment that was written under another shard count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentNote {
    /// Where it lies.
    pub(crate) partition: u16,
    /// Which one.
    pub(crate) segment: u32,
    /// Which life of it.
    pub(crate) sequence: u64,
    /// It is erased for good; else one shard needs nothing of it any more.
    pub(crate) is_erased: bool,
    /// Who says so.
    pub(crate) from: ShardId,
}

/// Between a shard and the granule home (shard 0).
#[derive(Debug, Clone, Copy)]
pub(crate) enum GranuleMessage {
    /// To the home: `shard` wants `adjacent` granules next to each other.
    Want {
        /// Who asks.
        shard: ShardId,
        /// For which tenant.
        tenant: TenantId,
        /// How many in a row, at least 1.
        adjacent: u32,
        /// Nothing waits for it yet: do not trouble other shards.
        ahead: bool,
    },
    /// To the home: `shard` no longer waits for granules in a row.
    Withdrawn {
        /// Who had asked.
        shard: ShardId,
        /// For which tenant.
        tenant: TenantId,
    },
    /// From the home: granules to hold.
    Granted {
        /// For which tenant.
        tenant: TenantId,
        /// The first of them.
        first: GranuleIndex,
        /// How many.
        count: u32,
    },
    /// From the home: nothing is free now; the shard evicts among its own.
    Exhausted {
        /// For which tenant.
        tenant: TenantId,
    },
    /// From the home: empty a granule and return it, another shard needs it more.
    Vacate {
        /// Of which tenant.
        tenant: TenantId,
        /// Which one; `None` leaves the choice to the shard.
        granule: Option<GranuleIndex>,
    },
    /// From the home: give back what is empty; somebody waits. Answered with [`Self::Spared`].
    Spare {
        /// Empty granules that the shard may keep: none when a write waits, one otherwise.
        keep: u32,
    },
    /// To the home: all that was empty has been given back.
    Spared,
    /// To the home: this granule is empty and given back.
    Returned {
        /// Who held it.
        shard: ShardId,
        /// Of which tenant.
        tenant: TenantId,
        /// Which one.
        granule: GranuleIndex,
    },
}

/// What a shard needs to serve a tenant.
#[derive(Debug)]
pub(crate) struct TenantParts {
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// Its arena, mapped for the whole process.
    pub(crate) arena: Arc<ArenaMemory>,
    /// Memory of this shard's index of it.
    pub(crate) index: IndexMemory,
    /// The index's shape.
    pub(crate) index_options: IndexOptions,
    /// Secret of its key hashes.
    pub(crate) secret: KeySecret,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// It said farewell: leases and pins are free at once.
    Farewell,
    /// Its process died: leases a second later.
    Death,
}

/// What the control thread orders a shard to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Serve a tenant from now on.
    OpenTenant(Box<TenantParts>, oneshot::Sender<()>),
    /// Know a session; its ring on this shard is not open yet.
    OpenSession(Box<SessionParts>, oneshot::Sender<()>),
    /// Poll a session's ring, woken by this bell (an eventfd that is polled and never read).
    OpenRing(SessionId, OwnedFd, oneshot::Sender<bool>),
    /// Forget a session and release what it holds.
    CloseSession(SessionId, SessionEnd, oneshot::Sender<()>),
    /// Refuse a session's requests; what it holds stays until it ends.
    Expel(SessionId, oneshot::Sender<()>),
    /// Hand out counters.
    Stats(oneshot::Sender<ShardReport>),
    /// Add what this shard knows of each session.
    Sessions(oneshot::Sender<Vec<SessionSummary>>),
    /// Take no new connections and requests; answered when nothing is under way, or at the deadline
    /// with the number of requests cut off.
    Drain {
        /// Absolute monotonic nanoseconds.
        deadline_ns: u64,
        /// Where the number of abandoned requests goes.
        done: oneshot::Sender<u64>,
    },
    /// End the shard's main task.
    Stop,
}

/// What a shard needs to serve a session.
#[derive(Debug)]
pub(crate) struct SessionParts {
    /// The session.
    pub(crate) session: SessionId,
    /// Its memories.
    pub(crate) memory: ServerSession,
    /// Its tenant.
    pub(crate) tenant: TenantId,
    /// Whether it may write into leases; otherwise through `staging`.
    pub(crate) trusted: bool,
    /// Staging memory of a strict session, mapped by the daemon.
    pub(crate) staging: Option<Arc<Mapping>>,
}
