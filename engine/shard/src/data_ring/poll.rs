//! Polls that fire again and again: session bells.
//!
//! The eventfd of a session is shared with its client, which may drain it, fill it or switch it to
//! non-blocking mode. It is therefore never read or written here, only polled, edge by edge:
//! whatever the client does to it can cost it its own wakes and nothing else. Bursts are merged: a
//! key is in the ready list at most once.

use io_uring::{opcode, types};

use super::op::Op;
use super::ring::Ring;
use super::slots::{Keep, SlotId};
use super::{DataRing, IoFd, RingError};

/// The event that is polled for.
const READABLE: u32 = libc::EPOLLIN.cast_unsigned();
/// The end of a connection; failures are told unasked.
const HUNG_UP: u32 = libc::EPOLLRDHUP.cast_unsigned();

/// A polled descriptor has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyEvent {
    /// The key given to [`DataRing::poll_multishot`].
    pub key: u64,
    /// The poll has failed and ended for this reason; `None` for readiness.
    pub errno: Option<i32>,
}

/// A running poll; dropping it ends it, and no event of it is delivered any more. Lives on: owner
/// shard.
#[derive(Debug)]
#[must_use = "dropping it ends the poll"]
pub struct PollHandle {
    ring: Ring,
    slot: SlotId,
}

impl DataRing {
    /// Polls `fd` for readability until the handle is dropped; events come by
    /// [`DataRing::take_ready`].
    ///
    /// # Errors
    /// [`RingError::Full`] when the ring has as many operations as it may.
    pub fn poll_multishot(&self, fd: &IoFd, key: u64) -> Result<PollHandle, RingError> {
        let entry = opcode::PollAdd::new(types::Fd(fd.raw()), READABLE)
            .multi(true)
            .build();
        let slot = self
            .polls
            .start(entry, Keep::Fd(fd.clone()))
            .map_err(|refused| refused.0)?;
        self.polls.set_multishot(slot, key);
        Ok(PollHandle {
            ring: self.polls.clone(),
            slot,
        })
    }
}

impl DataRing {
    /// Completes when the peer of a socket has closed its side, or the connection has failed; bytes
    /// that came stay where they are. Dropping the future ends the poll.
    ///
    /// # Errors
    /// [`RingError::Full`] when the ring has as many operations as it may; [`RingError::Failed`].
    pub async fn hung_up(&self, fd: &IoFd) -> Result<(), RingError> {
        let entry = opcode::PollAdd::new(types::Fd(fd.raw()), HUNG_UP).build();
        let (result, _) = Op::new(&self.data, entry, Keep::Fd(fd.clone())).await;
        match result? {
            events if events >= 0 => Ok(()),
            failed => Err(RingError::Failed {
                operation: "poll",
                errno: -failed,
            }),
        }
    }
}

impl Drop for PollHandle {
    fn drop(&mut self) {
        self.ring.orphan(self.slot);
    }
}
