//! Between the control thread and a shard: two bounded queues and two eventfds.
//!
//! Towards the shard, many control tasks share one producer under a mutex that the shard never
//! takes, and the wake is the shard's bell. Towards the control thread, the shard's own ring and an
//! eventfd that a reactor (tokio's `AsyncFd`) can wait for: no `Waker` of either side crosses over.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::bell::{BellHandle, ONE, empty_eventfd, eventfd};

/// Sends to one shard from any thread; clones send into the same queue. Lives on: control thread.
pub struct ControlSender<M> {
    ring: Arc<Mutex<Producer<M>>>,
    bell: BellHandle,
}

/// Takes what the control thread has sent. Lives on: owner shard.
pub struct ControlReceiver<M> {
    ring: Consumer<M>,
}

/// Makes the queue of `capacity` messages from the control thread to the shard of `bell`.
pub fn control_to_shard<M: Send>(
    bell: BellHandle,
    capacity: usize,
) -> (ControlSender<M>, ControlReceiver<M>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (
        ControlSender {
            ring: Arc::new(Mutex::new(producer)),
            bell,
        },
        ControlReceiver { ring: consumer },
    )
}

impl<M: Send> ControlSender<M> {
    /// Sends one message and wakes the shard.
    ///
    /// # Errors
    /// The message itself when the queue is full: the shard hangs or is flooded, try again later.
    pub fn try_send(&self, message: M) -> Result<(), M> {
        let pushed = {
            // A sender that panicked inside `push` has pushed or not; both leave the ring whole.
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.push(message)
        };
        pushed.map_err(|PushError::Full(message)| message)?;
        self.bell.ring();
        Ok(())
    }
}

impl<M> Clone for ControlSender<M> {
    fn clone(&self) -> Self {
        Self {
            ring: Arc::clone(&self.ring),
            bell: self.bell.clone(),
        }
    }
}

impl<M> ControlReceiver<M> {
    /// Takes the oldest message.
    pub fn try_recv(&mut self) -> Option<M> {
        self.ring.pop().ok()
    }

    /// Says whether a message waits.
    pub fn pending(&self) -> bool {
        !self.ring.is_empty()
    }
}

/// Sends from one shard to the control thread. Lives on: owner shard.
pub struct ControlOutbox<M> {
    ring: Producer<M>,
    signal: Arc<Signal>,
}

/// Takes what one shard has sent. Lives on: control thread.
pub struct ControlInbox<M> {
    ring: Consumer<M>,
    signal: Arc<Signal>,
}

#[derive(Debug)]
struct Signal {
    armed: AtomicBool,
    event: File,
}

impl Signal {
    fn set(&self) {
        (&self.event)
            .write_all(&ONE)
            .expect("one signal at a time fits");
    }
}

/// Makes the queue of `capacity` messages from a shard to the control thread.
///
/// # Errors
/// When the process has no descriptor left.
pub fn shard_to_control<M: Send>(
    capacity: usize,
) -> io::Result<(ControlOutbox<M>, ControlInbox<M>)> {
    let (producer, consumer) = RingBuffer::new(capacity);
    let event = File::from(eventfd(libc::EFD_NONBLOCK)?);
    let signal = Arc::new(Signal {
        armed: AtomicBool::new(true),
        event,
    });
    let outbox = ControlOutbox {
        ring: producer,
        signal: Arc::clone(&signal),
    };
    Ok((
        outbox,
        ControlInbox {
            ring: consumer,
            signal,
        },
    ))
}

impl<M: Send> ControlOutbox<M> {
    /// Sends one message; never waits. One `write` when the control thread waits, none otherwise.
    ///
    /// # Errors
    /// The message itself when the queue is full: keep it, or drop it if it is only news.
    pub fn try_send(&mut self, message: M) -> Result<(), M> {
        self.ring
            .push(message)
            .map_err(|PushError::Full(message)| message)?;
        fence(Ordering::SeqCst);
        if self.signal.armed.load(Ordering::Relaxed)
            && self.signal.armed.swap(false, Ordering::AcqRel)
        {
            self.signal.set();
        }
        Ok(())
    }
}

impl<M> ControlInbox<M> {
    /// Takes the oldest message.
    pub fn try_recv(&mut self) -> Option<M> {
        self.ring.pop().ok()
    }

    /// Empties the eventfd and asks for the next signal; `true` when the caller may wait for it,
    /// `false` when messages are there already. The loop is: drain, `arm`, wait until readable.
    pub fn arm(&mut self) -> bool {
        empty_eventfd(&self.signal.event);
        self.signal.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.ring.is_empty()
    }
}

impl<M> AsFd for ControlInbox<M> {
    /// The non-blocking eventfd that becomes readable with a message; for a reactor to wait on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.event.as_fd()
    }
}

macro_rules! opaque_debug {
    ($($name:ident),*) => {$(
        impl<M> fmt::Debug for $name<M> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

opaque_debug!(ControlSender, ControlReceiver, ControlOutbox, ControlInbox);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbox_signals_an_armed_inbox_once_and_arm_sees_what_came_before() {
        let (mut outbox, mut inbox) = shard_to_control::<u32>(2).unwrap();
        assert!(inbox.arm(), "nothing has come");
        outbox.try_send(1).unwrap();
        assert!(
            !inbox.signal.armed.load(Ordering::Relaxed),
            "the signal was used"
        );
        outbox.try_send(2).unwrap();
        assert_eq!(outbox.try_send(3), Err(3), "full gives the message back");
        assert!(!inbox.arm(), "messages wait: do not sleep");
        assert_eq!(inbox.try_recv(), Some(1));
        assert_eq!(inbox.try_recv(), Some(2));
        assert_eq!(inbox.try_recv(), None);
        assert!(inbox.arm());
    }
}
