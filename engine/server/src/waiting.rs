//! Who waits for memory: requests of local sessions, and reservations of connections.
//!
//! Lives on: owner shard, inside the tenant's `OutOfMemoryQueue`.

use chariot_base::ShardId;

use crate::call::Call;
use crate::request::Kept;
use crate::tickets::TicketId;

/// One waiter.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A request of a local session, to be handled again.
    Local(Box<Kept>),
    /// A call of a connection, to be handled again.
    Call {
        /// The connection's shard.
        from: ShardId,
        /// Its ticket.
        ticket: TicketId,
        /// What it asks.
        call: Call,
    },
    /// A reservation for a connection.
    Reserve {
        /// The connection's shard.
        from: ShardId,
        /// Its ticket.
        ticket: TicketId,
        /// Bytes of the value.
        len: u64,
        /// Absolute monotonic nanoseconds, kept when it has to queue again.
        deadline_ns: u64,
    },
}
