//! The future of one operation.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use io_uring::squeue;

use super::RingError;
use super::ring::Ring;
use super::slots::{Keep, SlotId};

/// One operation on its way: awaiting it gives the kernel's result and what it kept; dropping it
/// cancels the operation and leaves what it keeps to the ring until the kernel is done with it.
pub(super) struct Op {
    ring: Ring,
    state: State,
}

enum State {
    Started(SlotId),
    Refused(Option<Box<(RingError, Keep)>>),
    Finished,
}

/// The kernel's raw result, or why there is none, and what the operation kept.
pub(super) type OpOutput = (Result<i32, RingError>, Keep);

impl Op {
    /// The entry's pointers lead into memory that `keep` owns.
    pub(super) fn new(ring: &Ring, entry: squeue::Entry, keep: Keep) -> Self {
        let state = match ring.start(entry, keep) {
            Ok(slot) => State::Started(slot),
            Err(refused) => State::Refused(Some(refused)),
        };
        Self {
            ring: ring.clone(),
            state,
        }
    }
}

impl Future for Op {
    type Output = OpOutput;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<OpOutput> {
        match &mut self.state {
            State::Started(slot) => {
                let slot = *slot;
                let polled = self.ring.poll(slot, cx.waker());
                let Some((result, keep)) = polled else {
                    return Poll::Pending;
                };
                self.state = State::Finished;
                Poll::Ready((Ok(result), keep))
            },
            State::Refused(refused) => {
                let (error, keep) = *refused
                    .take()
                    .expect("a future is not polled after its end");
                self.state = State::Finished;
                Poll::Ready((Err(error), keep))
            },
            State::Finished => unreachable!("a future is not polled after its end"),
        }
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let State::Started(slot) = self.state {
            self.ring.orphan(slot);
        }
    }
}
