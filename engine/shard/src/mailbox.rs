//! Mailboxes: the only way from one shard to another.
//!
//! Lives on: each end on its own shard. A full mesh of bounded single-producer rings; each message
//! is moved, so that no memory is shared. A full ring never blocks its sender (two shards that wait
//! for each other's full rings would wait for ever): messages then wait in the sender's own
//! overflow queue, the sender is told ([`Delivery::Queued`]) and slows its clients down, and the
//! receiver rings it when there is room again (`starved`, a Dekker pair like the bell's own).
//!
//! ```text
//!  send ─▶ ring (capacity) ─────────────▶ poll        per ordered pair of shards
//!    └─▶ overflow (bounded) ─flush─▶ ring             starved: the receiver rings the sender back
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use chariot_base::ShardId;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::bell::BellHandle;
use crate::limits::MAILBOX_OVERFLOW_MAX;

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Into the receiver's ring.
    Sent,
    /// Into the overflow queue: the receiver does not keep up; take in less until it does.
    Queued,
}

/// Neither ring nor overflow queue has room; the message comes back. Shed it with `Busy`.
pub struct MailboxFull<M>(pub M);

impl<M> fmt::Debug for MailboxFull<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailboxFull")
    }
}

struct Outgoing<M> {
    ring: Producer<M>,
    overflow: VecDeque<M>,
    starved: Arc<AtomicBool>,
    bell: BellHandle,
    /// Something was pushed since the receiver's bell was last rung.
    unrung: bool,
}

struct Incoming<M> {
    from: ShardId,
    ring: Consumer<M>,
    starved: Arc<AtomicBool>,
    /// The sender's bell, rung when it starves and there is room again.
    bell: BellHandle,
}

/// One shard's ends of all mailboxes. Lives on: owner shard (made on the starting thread).
pub struct Mailboxes<M> {
    shard: ShardId,
    outgoing: Vec<Option<Outgoing<M>>>,
    incoming: Vec<Option<Incoming<M>>>,
    /// Where the next poll begins, so that no sender is preferred.
    first: usize,
    overflow_max: usize,
}

/// Makes the full mesh between the shards whose bells are given, in their order, with rings of
/// `capacity` messages each. Memory: `n × (n − 1) × capacity` messages.
///
/// # Panics
/// When there are more shards than ids, or `capacity` is 0.
pub fn mailboxes<M: Send>(bells: &[BellHandle], capacity: usize) -> Vec<Mailboxes<M>> {
    assert!(capacity > 0, "a mailbox holds at least one message");
    let count = bells.len();
    let mut mesh: Vec<Mailboxes<M>> = (0..count)
        .map(|index| Mailboxes {
            shard: ShardId(u16::try_from(index).expect("no more shards than ids")),
            outgoing: (0..count).map(|_| None).collect(),
            incoming: (0..count).map(|_| None).collect(),
            first: 0,
            overflow_max: MAILBOX_OVERFLOW_MAX,
        })
        .collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(capacity);
            let starved = Arc::new(AtomicBool::new(false));
            mesh[from].outgoing[to] = Some(Outgoing {
                ring: producer,
                overflow: VecDeque::new(),
                starved: Arc::clone(&starved),
                bell: bells[to].clone(),
                unrung: false,
            });
            mesh[to].incoming[from] = Some(Incoming {
                from: ShardId(u16::try_from(from).expect("no more shards than ids")),
                ring: consumer,
                starved,
                bell: bells[from].clone(),
            });
        }
    }
    mesh
}

impl<M: Send> Mailboxes<M> {
    /// Returns whose ends these are.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns how many shards the mesh joins, this one included.
    pub fn shard_count(&self) -> usize {
        self.outgoing.len()
    }

    /// Sends `message` to another shard, in order with earlier ones. It is seen after
    /// [`Self::flush`].
    ///
    /// # Errors
    /// [`MailboxFull`] when the overflow queue (16,384 messages) is full, too.
    ///
    /// # Panics
    /// When `to` is this shard or none.
    pub fn send(&mut self, to: ShardId, message: M) -> Result<Delivery, MailboxFull<M>> {
        assert_ne!(to, self.shard, "a shard does not write to itself");
        let overflow_max = self.overflow_max;
        let outgoing = self.outgoing[usize::from(to.0)]
            .as_mut()
            .expect("the mesh is full");
        if !outgoing.overflow.is_empty() {
            if outgoing.overflow.len() >= overflow_max {
                return Err(MailboxFull(message));
            }
            outgoing.overflow.push_back(message);
            return Ok(Delivery::Queued);
        }
        outgoing.unrung = true;
        match outgoing.ring.push(message) {
            Ok(()) => Ok(Delivery::Sent),
            Err(PushError::Full(message)) => {
                outgoing.overflow.push_back(message);
                Ok(Delivery::Queued)
            },
        }
    }

    /// Moves what waits in the overflow queues into rings with room, and rings the receivers.
    /// Call it at the end of each round that sent something; returns how many messages moved.
    pub fn flush(&mut self) -> usize {
        self.outgoing
            .iter_mut()
            .flatten()
            .map(Outgoing::flush)
            .sum()
    }

    /// Hands at most `budget` messages to `handle`, with their senders, no sender preferred;
    /// returns how many there were.
    pub fn poll(&mut self, budget: usize, mut handle: impl FnMut(ShardId, M)) -> usize {
        let count = self.incoming.len();
        let share = budget.div_ceil(count.max(1)).max(1);
        let mut taken = 0;
        let start = self.first;
        self.first = (start + 1) % count.max(1);
        for step in 0..count {
            let index = (start + step) % count;
            let Some(incoming) = &mut self.incoming[index] else {
                continue;
            };
            let from = incoming.from;
            let limit = share.min(budget - taken);
            taken += incoming.poll(limit, |message| handle(from, message));
        }
        taken
    }

    /// Says whether a message waits here, or one that waits for room could go now.
    pub fn pending(&self) -> bool {
        let arrived = |incoming: &Incoming<M>| !incoming.ring.is_empty();
        let movable =
            |outgoing: &Outgoing<M>| !outgoing.overflow.is_empty() && outgoing.ring.slots() > 0;
        self.incoming.iter().flatten().any(arrived) || self.outgoing.iter().flatten().any(movable)
    }

    /// Says whether messages to `to` wait for room: take in less work that ends there.
    pub fn pressed(&self, to: ShardId) -> bool {
        let outgoing = self
            .outgoing
            .get(usize::from(to.0))
            .and_then(Option::as_ref);
        outgoing.is_some_and(|outgoing| !outgoing.overflow.is_empty())
    }
}

impl<M> Outgoing<M> {
    fn flush(&mut self) -> usize {
        let mut moved = self.fill();
        if !self.overflow.is_empty() {
            self.starved.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            // Room that came before the flag was seen is used now; room that comes later rings us.
            moved += self.fill();
        }
        if self.unrung || moved > 0 {
            self.unrung = false;
            self.bell.ring();
        }
        moved
    }

    fn fill(&mut self) -> usize {
        let mut moved = 0;
        while let Some(message) = self.overflow.pop_front() {
            if let Err(PushError::Full(message)) = self.ring.push(message) {
                self.overflow.push_front(message);
                break;
            }
            moved += 1;
        }
        moved
    }
}

impl<M> Incoming<M> {
    fn poll(&mut self, limit: usize, mut handle: impl FnMut(M)) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Ok(message) = self.ring.pop() else { break };
            handle(message);
            taken += 1;
        }
        if taken > 0 {
            fence(Ordering::SeqCst);
            if self.starved.load(Ordering::Relaxed) && self.starved.swap(false, Ordering::AcqRel) {
                self.bell.ring();
            }
        }
        taken
    }
}

impl<M> fmt::Debug for Mailboxes<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailboxes")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
