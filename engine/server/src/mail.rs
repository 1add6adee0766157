//! What leaves a shard for others: the mailboxes, and a queue to itself.
//!
//! Lives on: owner shard. Messages to one's own shard take the same way without a ring, so that no
//! sender needs to know where a key lives. A message that finds ring and overflow full is kept here
//! in order and tried again each pass; its bound is that of what makes messages: calls in flight of
//! all connections, granules, replies.

use std::collections::VecDeque;

use chariot_base::ShardId;
use chariot_shard::{MailboxFull, Mailboxes};

use crate::message::ShardMessage;

/// The outgoing side of a shard, and its incoming one.
#[derive(Debug)]
pub(crate) struct Mail {
    id: ShardId,
    boxes: Mailboxes<ShardMessage>,
    own: VecDeque<ShardMessage>,
    kept: VecDeque<(ShardId, ShardMessage)>,
    /// Bit for each shard that something is kept for: what follows it must not overtake it.
    kept_for: u64,
    /// Sent since the last flush: the receivers' bells have not been rung.
    unrung: bool,
}

impl Mail {
    /// Wraps a shard's mailboxes.
    pub(crate) fn new(id: ShardId, boxes: Mailboxes<ShardMessage>) -> Self {
        Self {
            id,
            boxes,
            own: VecDeque::new(),
            kept: VecDeque::new(),
            kept_for: 0,
            unrung: false,
        }
    }

    /// Sends; never fails and never waits. What goes to one shard arrives in order; a shard whose
    /// mailbox is full holds up nobody else's messages.
    pub(crate) fn send(&mut self, to: ShardId, message: ShardMessage) {
        if to == self.id {
            self.own.push_back(message);
            return;
        }
        self.unrung = true;
        if self.kept_for & bit(to) != 0 {
            self.kept.push_back((to, message));
            return;
        }
        if let Err(MailboxFull(message)) = self.boxes.send(to, message) {
            self.kept_for |= bit(to);
            self.kept.push_back((to, message));
        }
    }

    /// Tries again what found no room, and makes what was sent visible.
    pub(crate) fn flush(&mut self) {
        self.unrung = false;
        self.kept_for = 0;
        for _ in 0..self.kept.len() {
            let Some((to, message)) = self.kept.pop_front() else {
                break;
            };
            // Kept again, it stands behind those that were kept before it.
            self.send(to, message);
        }
        self.unrung = false;
        self.boxes.flush();
    }

    /// Takes up to `budget` incoming messages into `out`: half of them from others at least where
    /// they have sent that many, so that a shard busy with itself still hears them.
    pub(crate) fn take(&mut self, budget: usize, out: &mut VecDeque<ShardMessage>) -> usize {
        let from_others = budget / 2;
        let mut taken = self.poll(from_others, out);
        let own = self.own.len().min(budget - taken);
        out.extend(self.own.drain(..own));
        taken += own;
        if taken < budget {
            taken += self.poll(budget - taken, out);
        }
        taken
    }

    fn poll(&mut self, budget: usize, out: &mut VecDeque<ShardMessage>) -> usize {
        self.boxes
            .poll(budget, |_from, message| out.push_back(message))
    }

    /// Whether something is to be taken or sent.
    pub(crate) fn pending(&self) -> bool {
        !self.own.is_empty() || !self.kept.is_empty() || self.unrung || self.boxes.pending()
    }
}

/// A shard's bit; there are at most 64.
const fn bit(shard: ShardId) -> u64 {
    1 << shard.0
}
