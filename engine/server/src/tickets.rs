//! Outstanding calls of this shard's connections: a slab of answers to come.
//!
//! Lives on: the shard of the connection. A ticket is taken before a call leaves, redeemed by the
//! reply that the owner's mailbox brings, and awaited by the connection's task. A task that is
//! dropped while it waits (its peer went away) leaves its ticket orphaned; the reply then comes
//! back from [`Tickets::redeem`] so that the shard undoes what it granted: a hold is released, a
//! reservation aborted. Nothing is granted and forgotten.
//!
//! Bound: one ticket per call in flight; a connection has at most `limits::CALLS_PER_CONNECTION` of
//! them.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use chariot_base::{ShardId, TenantId};

use crate::call::Reply;

/// Names one outstanding call of this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TicketId(pub(crate) u32);

#[derive(Debug)]
enum State {
    Free,
    Waiting(Option<Waker>),
    Answered(Reply),
    Orphaned,
}

#[derive(Debug, Default)]
struct Slab {
    states: Vec<State>,
    free: Vec<u32>,
    /// Replies that came and were never read: their task ended first. Drained by the shard, which
    /// undoes them.
    undelivered: Vec<Undelivered>,
    /// Calls whose task ended while they were under way: their owners are told, since one may be
    /// waiting for a key. Drained by the shard.
    given_up: Vec<GivenUp>,
}

/// A call that nobody waits for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// Who was asked.
    pub(crate) owner: ShardId,
    /// In which key space.
    pub(crate) tenant: TenantId,
    /// The call.
    pub(crate) id: TicketId,
}

/// A reply that nobody read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Undelivered {
    /// Who granted it.
    pub(crate) owner: ShardId,
    /// In which key space.
    pub(crate) tenant: TenantId,
    /// What it says.
    pub(crate) reply: Reply,
}

/// The slab of one shard. `!Send` by its `Rc`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tickets(Rc<RefCell<Slab>>);

impl Tickets {
    /// Takes a ticket: the id to send along and the future to await.
    pub(crate) fn take(&self, owner: ShardId, tenant: TenantId) -> (TicketId, Answer) {
        let mut slab = self.0.borrow_mut();
        let index = if let Some(index) = slab.free.pop() {
            index
        } else {
            let index = u32::try_from(slab.states.len()).expect("calls in flight are bounded");
            slab.states.push(State::Free);
            index
        };
        let state = &mut slab.states[index as usize];
        assert!(matches!(state, State::Free));
        *state = State::Waiting(None);
        let id = TicketId(index);
        (
            id,
            Answer {
                tickets: self.clone(),
                id: Some(id),
                owner,
                tenant,
            },
        )
    }

    /// Delivers a reply; gives it back when nobody waits for it any more.
    #[must_use]
    pub(crate) fn redeem(&self, id: TicketId, reply: Reply) -> Option<Reply> {
        let waker = {
            let mut slab = self.0.borrow_mut();
            let state = &mut slab.states[id.0 as usize];
            match std::mem::replace(state, State::Free) {
                State::Waiting(waker) => {
                    *state = State::Answered(reply);
                    waker
                },
                State::Orphaned => {
                    slab.free.push(id.0);
                    return Some(reply);
                },
                State::Free | State::Answered(_) => {
                    unreachable!("a ticket is redeemed once: {id:?}")
                },
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    /// Replies that were delivered to a task which ended before it read them.
    pub(crate) fn take_undelivered(&self) -> Vec<Undelivered> {
        std::mem::take(&mut self.0.borrow_mut().undelivered)
    }

    /// Calls given up since the last question.
    pub(crate) fn take_given_up(&self) -> Vec<GivenUp> {
        std::mem::take(&mut self.0.borrow_mut().given_up)
    }

    /// Calls whose replies have not been taken yet.
    pub(crate) fn outstanding(&self) -> usize {
        let slab = self.0.borrow();
        slab.states.len() - slab.free.len()
    }
}

/// Resolves to the reply of one call.
#[derive(Debug)]
#[must_use = "an answer that is not awaited orphans its ticket"]
pub(crate) struct Answer {
    tickets: Tickets,
    id: Option<TicketId>,
    owner: ShardId,
    tenant: TenantId,
}

impl Future for Answer {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let id = self
            .id
            .expect("an answer is polled until it is ready, not beyond");
        let polled = {
            let mut slab = self.tickets.0.borrow_mut();
            let state = &mut slab.states[id.0 as usize];
            match state {
                State::Answered(reply) => {
                    let reply = *reply;
                    *state = State::Free;
                    slab.free.push(id.0);
                    Poll::Ready(reply)
                },
                State::Waiting(waker) => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                },
                State::Free | State::Orphaned => unreachable!("the ticket belongs to this answer"),
            }
        };
        if polled.is_ready() {
            self.id = None;
        }
        polled
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let mut slab = self.tickets.0.borrow_mut();
        let state = std::mem::replace(&mut slab.states[id.0 as usize], State::Free);
        match state {
            State::Waiting(_) => {
                slab.states[id.0 as usize] = State::Orphaned;
                slab.given_up.push(GivenUp {
                    owner: self.owner,
                    tenant: self.tenant,
                    id,
                });
            },
            // It arrived and was never looked at, but it may grant something: the shard undoes it.
            State::Answered(reply) => {
                slab.undelivered.push(Undelivered {
                    owner: self.owner,
                    tenant: self.tenant,
                    reply,
                });
                slab.free.push(id.0);
            },
            State::Free | State::Orphaned => unreachable!("the ticket belongs to this answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use chariot_proto::Status;

    use super::*;

    fn take(tickets: &Tickets) -> (TicketId, Answer) {
        tickets.take(ShardId(1), TenantId(0))
    }

    #[test]
    fn an_answer_resolves_once_and_frees_its_ticket() {
        let tickets = Tickets::default();
        let (id, answer) = take(&tickets);
        assert!(tickets.redeem(id, Reply::status(Status::Ok)).is_none());
        let mut context = Context::from_waker(Waker::noop());
        let mut answer = Box::pin(answer);
        assert!(answer.as_mut().poll(&mut context).is_ready());
        drop(answer);
        assert_eq!(tickets.outstanding(), 0);
    }

    #[test]
    fn a_reply_for_a_task_that_ended_comes_back() {
        let tickets = Tickets::default();
        let (id, answer) = take(&tickets);
        drop(answer);
        assert_eq!(tickets.outstanding(), 1, "the reply is still to come");
        let given_up = tickets.take_given_up();
        assert_eq!(given_up.len(), 1, "its owner is told");
        assert_eq!((given_up[0].owner, given_up[0].id), (ShardId(1), id));
        assert!(tickets.take_given_up().is_empty(), "once");
        assert!(tickets.redeem(id, Reply::status(Status::Ok)).is_some());
        assert_eq!(tickets.outstanding(), 0);
    }

    #[test]
    fn a_reply_that_was_never_read_is_kept_for_undoing() {
        let tickets = Tickets::default();
        let (id, answer) = take(&tickets);
        assert!(tickets.redeem(id, Reply::status(Status::Ok)).is_none());
        drop(answer);
        let undelivered = tickets.take_undelivered();
        assert_eq!(undelivered.len(), 1);
        assert_eq!(undelivered[0].owner, ShardId(1));
        assert_eq!(tickets.outstanding(), 0);
    }

    #[test]
    #[should_panic(expected = "redeemed once")]
    fn redeeming_a_free_ticket_is_a_bug() {
        let tickets = Tickets::default();
        let (id, answer) = take(&tickets);
        assert!(tickets.redeem(id, Reply::status(Status::Ok)).is_none());
        let mut context = Context::from_waker(Waker::noop());
        assert!(Box::pin(answer).as_mut().poll(&mut context).is_ready());
        assert!(tickets.redeem(id, Reply::status(Status::Ok)).is_none());
    }
}
