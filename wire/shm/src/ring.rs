//! The rings of one session and shard: submissions to the shard, completions back, and the bytes
//! (keys, inline values) that go with submissions.
//!
//! ```text
//!   client                                                        shard
//!   try_submit ─ line, bytes ─▶ submissions[tail & 127] ──────▶ take (private copy)
//!   publish    ─ sq_tail, release ▶                             flush ─ sq_head, cq_tail, release
//!   pop, consume ◀──────────── completions[head & 127] ◀─ line ─ post
//! ```
//!
//! One producer and one consumer on each ring: the SDK holds a [`ClientRing`] in a lock, the shard
//! owns its [`ServerRing`]. Neither side allocates or calls the kernel here. What is in flight
//! (submitted and not yet consumed) never exceeds the ring, so that a completion always has room
//! and, payloads being bounded, the byte ring too.
//!
//! Neighbours: `doorbell.rs` waits and wakes, `pins.rs` keeps the extents that completions name.

mod client;
mod server;
mod words;

pub use client::{ClientRing, Full};
pub use server::{ServerRing, Submission};
pub use words::{
    CompletionFlags, CompletionWords, SubmissionFlags, SubmissionWords, VALUE_INLINE_LEN_MAX,
};
pub(crate) use words::{high, low};

/// Says what the other party wrote that no working peer writes. The session is expelled (daemon)
/// or closed (client): only a restart of the peer helps, and its author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// A tail lies further ahead than the ring is long, or moved backwards.
    #[error("ring tail {tail} is not within {limit} entries after {head}")]
    Tail {
        /// The tail as read.
        tail: u32,
        /// What this side has taken.
        head: u32,
        /// Entries that may lie between the two.
        limit: u32,
    },
    /// A head lies beyond what was published, or moved backwards.
    #[error("ring head {head} is not between {consumed} and {published}")]
    Head {
        /// The head as read.
        head: u32,
        /// The last valid head.
        consumed: u32,
        /// What this side has published.
        published: u32,
    },
    /// More submissions than completion entries.
    #[error("more than {limit} requests in flight")]
    InFlight {
        /// Entries of the completion ring.
        limit: u32,
    },
    /// A key and value longer than the limit of one submission.
    #[error("payload of {len} bytes is longer than {limit}")]
    Payload {
        /// Key and inline value together, in bytes.
        len: u64,
        /// Longest payload, in bytes.
        limit: u32,
    },
    /// Payload that does not start where the last one ended.
    #[error("payload starts at {position} instead of {expected}")]
    BytePosition {
        /// Start as submitted.
        position: u32,
        /// Where the last payload ended.
        expected: u32,
    },
}

#[cfg(test)]
mod tests;
