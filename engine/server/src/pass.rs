//! One round of a shard: mailboxes, orders, rings, timers, waiters, in bounded batches.
//!
//! Lives on: owner shard; called by the driver of `chariot_shard`, which turns the data ring before
//! and lets the connections' tasks run after. The order within a round: what others sent, what
//! local sessions submitted, what time brought, who can now be served; completions and messages
//! become visible at the end of each part, so that no answer waits for a round to finish.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use chariot_base::TenantId;
use chariot_proto::Status;
use chariot_shard::{ControlReceiver, DataRing, Pass, Progress};
use chariot_shm::clock;

use crate::dispatch;
use crate::granules::{GranuleHome, Vacating};
use crate::handlers::{calls, staged_publish};
use crate::limits::{
    EXPIRIES_PER_PASS, MESSAGES_PER_PASS, RING_ACTIVE_NS, RING_SUBMISSIONS_PER_PASS,
    SUBMISSIONS_PER_PASS,
};
use crate::message::{GranuleMessage, Order, ShardMessage};
use crate::objects;
use crate::session::Place;
use crate::shard::Shard;
use crate::tier;
use crate::waiting::Waiter;

/// Orders and populate results handled in one round.
const ORDERS_PER_PASS: usize = 16;
/// Waiters for memory looked at in one round.
const WAITERS_PER_PASS: usize = 16;
/// How often waiters are looked at without any memory having come free, in milliseconds: pins end
/// silently.
const WAITER_RETRY_MS: u64 = 2;
/// Records evicted from a granule that is being emptied, per round.
const VACATE_PER_PASS: usize = 256;

/// The round of one shard.
pub(crate) struct ShardPass {
    shard: Rc<RefCell<Shard>>,
    ring: DataRing,
    orders: ControlReceiver<ShardMessage>,
    incoming: VecDeque<ShardMessage>,
    payload: Vec<u8>,
    waiters_seen: Vec<(u64, u64)>,
    /// The polled ring whose turn is next.
    next_ring: usize,
    stop: bool,
    handle_order: OrderHandler,
    drain: Option<Drain>,
}

/// Carries out an order.
pub(crate) type OrderHandler = Box<dyn FnMut(&mut OrderContext<'_>, Order)>;

/// What an order may touch.
pub(crate) struct OrderContext<'a> {
    /// The shard.
    pub(crate) shard: &'a mut Shard,
    /// Its data ring, to poll bells.
    pub(crate) ring: &'a DataRing,
    /// Set to end the shard.
    pub(crate) stop: &'a mut bool,
    /// Set to drain.
    pub(crate) drain: &'a mut Option<Drain>,
}

/// A drain under way.
#[derive(Debug)]
pub(crate) struct Drain {
    /// When it is over, whatever is under way.
    pub(crate) deadline_ns: u64,
    /// Where the number of abandoned requests goes: to everybody who asked.
    pub(crate) done: Vec<tokio::sync::oneshot::Sender<u64>>,
}

impl Drain {
    /// Begins a drain, or joins the one under way: the earlier end is the end of both.
    pub(crate) fn begin(
        drain: &mut Option<Self>,
        deadline_ns: u64,
        done: tokio::sync::oneshot::Sender<u64>,
    ) {
        let under_way = drain.get_or_insert(Self {
            deadline_ns,
            done: Vec::new(),
        });
        under_way.deadline_ns = under_way.deadline_ns.min(deadline_ns);
        under_way.done.push(done);
    }
}

impl ShardPass {
    /// Makes the round of `shard`.
    pub(crate) fn new(
        shard: Rc<RefCell<Shard>>,
        ring: DataRing,
        orders: ControlReceiver<ShardMessage>,
        handle_order: OrderHandler,
    ) -> Self {
        Self {
            shard,
            ring,
            orders,
            incoming: VecDeque::new(),
            payload: Vec::with_capacity(4096),
            waiters_seen: Vec::new(),
            next_ring: 0,
            stop: false,
            handle_order,
            drain: None,
        }
    }

    fn messages(&mut self, shard: &mut Shard) -> bool {
        let mut incoming = std::mem::take(&mut self.incoming);
        shard.mail.take(MESSAGES_PER_PASS, &mut incoming);
        // Orders have turns of their own: full mailboxes must not keep sessions from ending or a
        // drain from beginning.
        for _ in 0..ORDERS_PER_PASS {
            let Some(message) = self.orders.try_recv() else {
                break;
            };
            incoming.push_back(message);
        }
        let worked = !incoming.is_empty();
        for message in incoming.drain(..) {
            self.message(shard, message);
        }
        self.incoming = incoming;
        worked
    }

    fn message(&mut self, shard: &mut Shard, message: ShardMessage) {
        match message {
            ShardMessage::Call { from, ticket, call } => {
                let tenant = call.tenant();
                if let Some(reply) = calls::handle(shard, from, ticket, &call) {
                    let ticket = ticket.expect("what is answered has a ticket");
                    shard.reply(from, ticket, tenant, reply);
                }
            },
            ShardMessage::Reply {
                ticket,
                tenant,
                from,
                reply,
            } => {
                if let Some(reply) = shard.tickets.redeem(ticket, reply) {
                    crate::tcp::undo(shard, from, tenant, reply);
                }
            },
            ShardMessage::Object(message) => objects::on_message(shard, message),
            ShardMessage::Granule(message) => granule(shard, message),
            ShardMessage::Segment(note) => tier::on_note(shard, note),
            ShardMessage::Populated(done) => {
                let now_ms = shard.now_ms;
                shard
                    .home
                    .as_mut()
                    .expect("sent to the home")
                    .on_done(&done, now_ms);
            },
            ShardMessage::Order(order) => {
                let mut context = OrderContext {
                    shard,
                    ring: &self.ring,
                    stop: &mut self.stop,
                    drain: &mut self.drain,
                };
                (self.handle_order)(&mut context, order);
            },
        }
    }

    fn bells(&self, shard: &mut Shard) {
        while let Some(event) = self.ring.take_ready() {
            let place = Place(u32::try_from(event.key).expect("keys are places"));
            if let Some(errno) = event.errno {
                tracing::warn!(
                    errno,
                    "the poll of a session's bell ended; its ring is polled without it"
                );
            }
            shard
                .sessions
                .activate(place, shard.now_ns + RING_ACTIVE_NS);
        }
    }

    fn rings(&mut self, shard: &mut Shard) -> bool {
        let mut worked = false;
        let mut left = RING_SUBMISSIONS_PER_PASS;
        for _ in 0..shard.sessions.active_count() {
            // Where the last round stopped, so that many busy rings get their turn and so does all
            // else.
            let count = shard.sessions.active_count();
            if count == 0 || left == 0 {
                break;
            }
            let index = self.next_ring % count;
            let place = shard.sessions.active_at(index);
            let mut taken = 0;
            while taken < SUBMISSIONS_PER_PASS {
                let Some(submission) = shard.sessions.take(place, &mut self.payload) else {
                    break;
                };
                dispatch::submission(shard, place, &submission.words, &self.payload);
                taken += 1;
            }
            if taken > 0 {
                shard.sessions.touch(place, shard.now_ns + RING_ACTIVE_NS);
                shard.sessions.flush(place);
                // A session that works here brings its notes along; idle ones are heard on
                // eviction.
                let tenant = shard.sessions.at(place).tenant;
                let (share, sessions) = shard.tenant_and_sessions(tenant);
                share.hear_notes(sessions, Some(place));
                worked = true;
            }
            left = left.saturating_sub(taken);
            // An expelled session has left the list: look at whoever took its place.
            let stays =
                index < shard.sessions.active_count() && shard.sessions.active_at(index) == place;
            self.next_ring = index + usize::from(stays);
        }
        worked
    }

    fn time(shard: &mut Shard) -> bool {
        let mut worked = false;
        while let Some(watched) = shard.watching.take_expired(shard.now_ns) {
            shard.answer_watched(&watched, Status::Timeout.into());
            worked = true;
        }
        let now_ms = shard.now_ms;
        for index in 0..shard.tenants.len() {
            let Some(tenant) = shard.tenants[index].as_mut() else {
                continue;
            };
            if tenant
                .store
                .next_expiry_ms()
                .is_some_and(|due| due <= now_ms)
            {
                let (expired, more) = tenant.expire(now_ms, EXPIRIES_PER_PASS);
                worked |= more || expired > 0;
            }
        }
        if let Some(home) = shard.home.as_mut() {
            home.plan(now_ms);
        }
        worked
    }

    /// Serves who waits for memory, asks for granules, judges what was retired.
    fn memory(&mut self, shard: &mut Shard) -> bool {
        let mut worked = false;
        for index in 0..shard.tenants.len() {
            if shard.tenants[index].is_none() {
                continue;
            }
            let tenant = TenantId(u16::try_from(index).expect("bounded by TENANTS_MAX"));
            worked |= self.waiters(shard, tenant);
            let now_ns = shard.now_ns;
            let (share, sessions) = shard.tenant_and_sessions(tenant);
            if share.wants_sweep(now_ns) {
                share.sweep(sessions, now_ns);
            }
            if share.waiters.is_empty() && share.granules.take_withdrawal() {
                let from = shard.id;
                shard.tell_home(GranuleMessage::Withdrawn {
                    shard: from,
                    tenant,
                });
            }
            let share = shard.tenant_mut(tenant);
            share.want_ahead();
            if let Some((adjacent, ahead)) = share.granules.take_request() {
                let from = shard.id;
                shard.tell_home(GranuleMessage::Want {
                    shard: from,
                    tenant,
                    adjacent,
                    ahead,
                });
                worked = true;
            }
        }
        vacate(shard);
        if let Some(home) = shard.home.as_mut() {
            while let Some((to, message)) = home.take_outgoing() {
                shard.mail.send(to, ShardMessage::Granule(message));
                worked = true;
            }
        }
        worked
    }

    fn waiters(&mut self, shard: &mut Shard, tenant: TenantId) -> bool {
        let index = usize::from(tenant.0);
        if self.waiters_seen.len() <= index {
            self.waiters_seen.resize(index + 1, (0, 0));
        }
        let share = shard.tenant_mut(tenant);
        if share.waiters.is_empty() {
            return false;
        }
        let mut worked = false;
        let (now_ns, now_ms) = (shard.now_ns, shard.now_ms);
        while let Some(waiter) = shard.tenant_mut(tenant).waiters.pop_expired(now_ns) {
            shard.tenant_mut(tenant).wait_timeouts += 1;
            expired(shard, tenant, waiter);
            worked = true;
        }
        let (seen_events, seen_ms) = self.waiters_seen[index];
        let share = shard.tenant_mut(tenant);
        if share.freed_events == seen_events && now_ms < seen_ms + WAITER_RETRY_MS {
            return worked;
        }
        self.waiters_seen[index] = (share.freed_events, now_ms);
        for _ in 0..WAITERS_PER_PASS {
            let (share, sessions) = shard.tenant_and_sessions(tenant);
            let Some(waiter) = share.pop_served(sessions, now_ns) else {
                break;
            };
            served(shard, tenant, waiter);
            worked = true;
        }
        worked
    }

    fn drained(&mut self, shard: &mut Shard) {
        let calls = shard.tickets.outstanding().max(shard.requests);
        let under_way = shard.sessions.unanswered() + calls as u64;
        let Some(drain) = &self.drain else { return };
        let is_late = shard.now_ns >= drain.deadline_ns;
        let over = is_late || (under_way == 0 && tier::drain(shard));
        if over && let Some(drain) = self.drain.take() {
            for done in drain.done {
                if done.send(under_way).is_err() {
                    tracing::debug!("drained after the control thread gave up waiting");
                }
            }
        }
    }

    fn next_timer_ns(&self, shard: &Shard) -> Option<u64> {
        let mut next = shard.watching.next_deadline_ns();
        let mut sooner = |candidate: Option<u64>| {
            next = match (next, candidate) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        // A time to live may have 47 bits of milliseconds, which have no room in 64 bits of
        // nanoseconds.
        let from_ms = |due_ms: u64| {
            let left_ms = due_ms.saturating_sub(shard.now_ms).max(1);
            shard
                .now_ns
                .saturating_add(left_ms.saturating_mul(1_000_000))
        };
        for tenant in shard.tenants.iter().flatten() {
            sooner(tenant.store.next_expiry_ms().map(from_ms));
            sooner(tenant.waiters.next_deadline_ns());
            sooner(tenant.next_sweep_ns());
            sooner(tenant.objects.next_deadline_ns());
            if !tenant.waiters.is_empty() {
                sooner(Some(shard.now_ns + WAITER_RETRY_MS * 1_000_000));
            }
        }
        sooner(
            shard
                .home
                .as_ref()
                .and_then(GranuleHome::next_ms)
                .map(from_ms),
        );
        sooner(tier::next_ns(shard));
        sooner((!shard.vacating.is_empty()).then(|| shard.now_ns + 1_000_000));
        sooner(
            self.drain
                .as_ref()
                .map(|drain| drain.deadline_ns.min(shard.now_ns + 1_000_000)),
        );
        next
    }
}

fn granule(shard: &mut Shard, message: GranuleMessage) {
    match message {
        GranuleMessage::Want {
            shard: from,
            tenant,
            adjacent,
            ahead,
        } => {
            shard
                .home
                .as_mut()
                .expect("sent to the home")
                .on_want(from, tenant, adjacent, ahead);
        },
        GranuleMessage::Withdrawn {
            shard: from,
            tenant,
        } => {
            shard
                .home
                .as_mut()
                .expect("sent to the home")
                .on_withdrawn(from, tenant);
        },
        GranuleMessage::Returned {
            shard: from,
            tenant,
            granule,
        } => {
            shard
                .home
                .as_mut()
                .expect("sent to the home")
                .on_returned(from, tenant, granule);
        },
        GranuleMessage::Granted {
            tenant,
            first,
            count,
        } => {
            let share = shard.tenant_mut(tenant);
            share.extents.add_granules(first, count);
            share.granules.on_granted();
            share.freed_events += 1;
        },
        GranuleMessage::Exhausted { tenant } => {
            let share = shard.tenant_mut(tenant);
            share.granules.on_exhausted();
            share.freed_events += 1;
        },
        GranuleMessage::Spare { keep } => {
            spare(shard, keep);
            shard.tell_home(GranuleMessage::Spared);
        },
        GranuleMessage::Spared => {
            shard.home.as_mut().expect("sent to the home").on_spared();
        },
        GranuleMessage::Vacate { tenant, granule } => {
            let until_ms = shard.now_ms + Vacating::TRY_MS;
            let share = shard.tenant_mut(tenant);
            if let Some(granule) = share.begin_vacate(granule) {
                shard
                    .vacating
                    .push_back((tenant, Vacating::new(granule, until_ms)));
            }
        },
    }
}

/// Gives back empty granules but for `keep` of each tenant, and none of a tenant whose own requests
/// wait for memory.
fn spare(shard: &mut Shard, keep: u32) {
    for index in 0..shard.tenants.len() {
        let tenant = TenantId(u16::try_from(index).expect("bounded by TENANTS_MAX"));
        if shard.tenants[index].is_none() {
            continue;
        }
        let now_ns = shard.now_ns;
        let (share, sessions) = shard.tenant_and_sessions(tenant);
        if !share.waiters.is_empty() {
            continue;
        }
        share.sweep(sessions, now_ns);
        let empty: Vec<_> = share.extents.empty_granules().collect();
        for granule in empty.into_iter().skip(keep as usize) {
            let is_leaving =
                |one: &(TenantId, Vacating)| one.0 == tenant && one.1.granule == granule;
            // Those on their way out are given back by whoever empties them.
            if !shard.vacating.iter().any(is_leaving) {
                shard.return_granule(tenant, granule);
            }
        }
    }
}

/// Copies one slice of one strict session's value, in turns.
fn copies(shard: &mut Shard) -> bool {
    let Some(copy) = shard.copies.pop_front() else {
        return false;
    };
    if let Some(copy) = staged_publish::go_on(shard, copy) {
        shard.copies.push_back(copy);
    }
    true
}

/// Empties granules that others need, a bounded piece a round; gives up where kept objects live.
fn vacate(shard: &mut Shard) {
    for _ in 0..shard.vacating.len() {
        let Some((tenant, mut vacating)) = shard.vacating.pop_front() else {
            return;
        };
        let (now_ns, now_ms) = (shard.now_ns, shard.now_ms);
        let (share, sessions) = shard.tenant_and_sessions(tenant);
        if share.vacate_step(&mut vacating, VACATE_PER_PASS, sessions, now_ns) {
            shard.return_granule(tenant, vacating.granule);
        } else if now_ms >= vacating.until_ms {
            share.extents.cancel_vacate(vacating.granule);
            share.freed_events += 1;
        } else {
            shard.vacating.push_back((tenant, vacating));
        }
    }
}

fn expired(shard: &mut Shard, tenant: TenantId, waiter: Waiter) {
    match waiter {
        Waiter::Local(kept) => dispatch::out_of_memory(shard, &kept),
        Waiter::Call { from, ticket, .. } | Waiter::Reserve { from, ticket, .. } => {
            shard.reply(
                from,
                ticket,
                tenant,
                crate::call::Reply::status(Status::OutOfMemory),
            );
        },
    }
}

fn served(shard: &mut Shard, tenant: TenantId, waiter: Waiter) {
    match waiter {
        Waiter::Local(kept) => dispatch::again(shard, &kept),
        Waiter::Call { from, ticket, call } => {
            if let Some(reply) = calls::handle(shard, from, Some(ticket), &call) {
                shard.reply(from, ticket, tenant, reply);
            }
        },
        Waiter::Reserve {
            from,
            ticket,
            len,
            deadline_ns,
        } => {
            let call = crate::call::Call::Reserve {
                tenant,
                len,
                deadline_ns,
            };
            if let Some(reply) = calls::handle(shard, from, Some(ticket), &call) {
                shard.reply(from, ticket, tenant, reply);
            }
        },
    }
}

impl Pass for ShardPass {
    fn pass(&mut self, now_ns: u64) -> Progress {
        let shared = Rc::clone(&self.shard);
        let mut shard = shared.borrow_mut();
        let shard = &mut *shard;
        shard.now_ns = now_ns;
        shard.now_ms = clock::coarse_ms();
        let mut worked = self.messages(shard);
        self.bells(shard);
        worked |= self.rings(shard);
        worked |= Self::time(shard);
        worked |= tier::pass(shard);
        worked |= self.memory(shard);
        worked |= copies(shard);
        worked |= shard.tell_watchers();
        worked |= objects::round(shard);
        crate::tcp::cancel_given_up(shard);
        crate::tcp::undo_undelivered(shard);
        shard.sessions.flush_dirty();
        shard.mail.flush();
        shard.sessions.retire_idle(now_ns);
        self.drained(shard);
        Progress {
            worked,
            in_flight: shard.sessions.unanswered() > 0
                || shard.tickets.outstanding() > 0
                || tier::is_busy(shard),
            next_timer_ns: self.next_timer_ns(shard),
            stop: self.stop,
        }
    }

    fn prepare_sleep(&mut self) {
        self.shard.borrow().sessions.set_sleeping(true);
    }

    fn pending(&mut self) -> bool {
        let shard = self.shard.borrow();
        self.orders.pending()
            || shard.mail.pending()
            || shard.watching.has_unwoken()
            || shard.sessions.has_dirty()
            || shard.sessions.any_pending()
    }

    fn woke(&mut self) {
        self.shard.borrow().sessions.set_sleeping(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_drains_are_one_with_the_earlier_end_and_both_hear_of_it() {
        let mut drain = None;
        let (first, mut first_hears) = tokio::sync::oneshot::channel();
        let (second, mut second_hears) = tokio::sync::oneshot::channel();
        Drain::begin(&mut drain, 200, first);
        Drain::begin(&mut drain, 100, second);
        let drain = drain.unwrap();
        assert_eq!(drain.deadline_ns, 100);
        for done in drain.done {
            done.send(7).unwrap();
        }
        assert_eq!(first_hears.try_recv(), Ok(7));
        assert_eq!(second_hears.try_recv(), Ok(7));
    }
}
