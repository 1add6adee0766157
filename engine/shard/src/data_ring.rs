//! The data ring: the raw `io_uring` of a shard, between the sockets and the arena.
//!
//! Lives on: owner shard. Operations are pushed by futures (`op.rs`, `socket.rs`, `file.rs`,
//! `poll.rs`) into slots (`slots.rs`); the driver's `turn` submits them all and reaps what is done
//! in one enter, and makes no system call when there is neither (`ring.rs`).
//!
//! Invariants: a slot owns the descriptor and the memory of its operation from before the
//! submission until the kernel's last completion for it, whatever becomes of the future that waits
//! (a dropped future leaves an orphan that is cancelled). The kernel never holds more than
//! `RING_IN_FLIGHT_MAX` operations; further ones wait in the backlog. The bell's eventfd is
//! registered but disabled while the shard is awake, else running our own task work would ring our
//! own bell.
//!
//! Polls live in a second ring without `DEFER_TASKRUN`. What is polled are eventfds, and a deferred
//! ring would have to signal its own eventfd from inside the write to theirs. The kernel forbids
//! that nesting and puts it off to an RCU callback: milliseconds late on every kernel, and on 6.18
//! only the first time (the pending bit is never cleared), so that the second such wake is lost for
//! ever. Without deferral the shard's own thread posts the completion, outside of the nesting.

mod aligned;
mod file;
mod mode;
mod op;
mod poll;
mod ring;
mod slots;
mod socket;
mod span;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::bell::BellShared;
use ring::Ring;

pub use aligned::{AlignedBuffer, DIRECT_ALIGN, SharedBuffer};
pub use mode::RingMode;
pub use poll::{PollHandle, ReadyEvent};
pub use socket::Piece;
pub(crate) use socket::RawAddress;
pub use span::{IoFd, IoSpan, OutOfBounds, StableMemory};

pub(crate) use mode::build_ring;

/// Why an operation of the ring gave no result. The caller handles it: most end their connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The kernel refused or failed the operation.
    #[error("{operation} failed: {}", io::Error::from_raw_os_error(*.errno))]
    Failed {
        /// Which operation.
        operation: &'static str,
        /// The kernel's error number.
        errno: i32,
    },
    /// The peer closed its side before all bytes had come.
    #[error("the stream ended after {received} of {wanted} bytes")]
    EndOfStream {
        /// Bytes that came before the end.
        received: usize,
        /// Bytes that were asked for.
        wanted: usize,
    },
    /// The ring already has as many operations as it may (65,536): shed load.
    #[error("the data ring holds as many operations as it may")]
    Full,
}

/// What a data ring has counted since its start; plain numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// System calls made for submitting and reaping.
    pub enters: u64,
    /// Operations handed to the kernel.
    pub submitted: u64,
    /// Completions taken from the kernel.
    pub completions: u64,
    /// Operations that lost their future before their completion.
    pub orphaned: u64,
    /// Most operations that waited in the backlog at a time.
    pub backlog_high_water: usize,
}

/// One shard's ring; clones are the same ring. Lives on: owner shard.
#[derive(Clone)]
pub struct DataRing {
    data: Ring,
    polls: Ring,
}

impl DataRing {
    /// Makes the ring of the calling thread, which alone may use it, with `bell` as its eventfd.
    pub(crate) fn new(bell: &Arc<BellShared>) -> io::Result<Self> {
        let data = Ring::new(RingMode::Deferred, bell)?;
        let polls = Ring::new(RingMode::Cooperative, bell)?;
        Ok(Self { data, polls })
    }

    /// Returns which `io_uring` features this ring runs with.
    pub fn mode(&self) -> RingMode {
        self.data.mode()
    }

    /// Returns what the ring has counted; polls are not in it.
    pub fn stats(&self) -> RingStats {
        self.data.stats()
    }

    /// Returns how many operations are not finished: in the kernel, waiting, or orphaned. Polls
    /// that run do not count.
    pub fn in_flight(&self) -> usize {
        self.data.in_flight()
    }

    /// Takes the next descriptor that a multishot poll found ready, each at most once at a time.
    /// The shard does not sleep while there is one: take them all in each round.
    pub fn take_ready(&self) -> Option<ReadyEvent> {
        self.polls.take_ready()
    }

    /// Submits everything that waits and reaps everything that is done; returns how many
    /// completions came. Without either it is a few loads.
    pub(crate) fn turn(&self) -> io::Result<usize> {
        Ok(self.data.turn()? + self.polls.turn()?)
    }

    /// Says whether the next turn would find anything: entries to submit, or completions.
    pub(crate) fn has_work(&self) -> bool {
        self.data.has_work() || self.polls.has_work()
    }

    /// Lets completions ring the bell. The caller fences and asks [`Self::has_work`] afterwards.
    pub(crate) fn arm_eventfd(&self) {
        self.data.arm_eventfd();
        self.polls.arm_eventfd();
    }

    /// Keeps completions from ringing the bell while the shard looks at them itself.
    pub(crate) fn disarm_eventfd(&self) {
        self.data.disarm_eventfd();
        self.polls.disarm_eventfd();
    }

    /// Sees to it that the bell rings by `deadline_ns` at the latest (`CLOCK_MONOTONIC`).
    pub(crate) fn arm_wake(&self, deadline_ns: u64) -> io::Result<()> {
        self.data.arm_wake(deadline_ns)
    }

    /// Cancels everything and waits a bounded time for the kernel; what it still holds is leaked,
    /// so that no memory is reused under a running operation.
    pub(crate) fn close(&self) {
        self.data.close();
        self.polls.close();
    }
}

impl fmt::Debug for DataRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataRing")
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}
