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
            unrung: false,
        }
    }

    /// Sends; never fails and never waits.
    pub(crate) fn send(&mut self, to: ShardId, message: ShardMessage) {
        if to == self.id {
            self.own.push_back(message);
            return;
        }
        self.unrung = true;
        if !self.kept.is_empty() {
            self.kept.push_back((to, message));
            return;
        }
        if let Err(MailboxFull(message)) = self.boxes.send(to, message) {
            self.kept.push_back((to, message));
        }
    }

    /// Tries again what found no room, and makes what was sent visible.
    pub(crate) fn flush(&mut self) {
        self.unrung = false;
        while let Some((to, message)) = self.kept.pop_front() {
            if let Err(MailboxFull(message)) = self.boxes.send(to, message) {
                self.kept.push_front((to, message));
                break;
            }
        }
        self.boxes.flush();
    }

    /// Takes up to `budget` incoming messages into `out`.
    pub(crate) fn take(&mut self, budget: usize, out: &mut VecDeque<ShardMessage>) -> usize {
        let own = self.own.len().min(budget);
        out.extend(self.own.drain(..own));
        if own == budget {
            return own;
        }
        own + self
            .boxes
            .poll(budget - own, |_from, message| out.push_back(message))
    }

    /// Whether something is to be taken or sent.
    pub(crate) fn pending(&self) -> bool {
        !self.own.is_empty() || !self.kept.is_empty() || self.unrung || self.boxes.pending()
    }
}
