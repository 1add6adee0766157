//! Objects on one shard: the store's tables side by side, what shards tell each other about them,
//! and what a round of the shard does for them.
//!
//! Lives on: owner shard. A key's latches, references and reservations live on the key's shard; a
//! parent's nested keys on the parent's, which tells the children's shards to hold and to let go; a
//! transaction's decision on the shard that its client chose. Messages between two shards keep
//! their order, so that a hold is there before its release.
//!
//! Neighbours: `handlers/object_*.rs` and `handlers/multi_set_tx.rs` change it, `tenant.rs` asks it
//! before it stores and tells it what left, `pass.rs` calls [`round`].

use std::collections::VecDeque;

use chariot_base::{SessionId, ShardId, TenantId};
use chariot_proto::{KeyHash, Opcode, Status};
use chariot_store::{
    Decisions, InsertError, Latches, Nesting, NewEntry, References, Reservations, Reserved, Store,
    TxId, TxRefused,
};
use hashbrown::HashMap;

use crate::call::Reply;
use crate::handlers::object_latch;
use crate::limits::OBJECTS_PER_PASS;
use crate::message::ShardMessage;
use crate::reply::completion;
use crate::request::{Answer, Asker, Request};
use crate::shard::Shard;
use crate::tickets::TicketId;

/// Longest time that a transaction may take, in nanoseconds: what it hides is of no use to anybody.
pub(crate) const TRANSACTION_NS: u64 = 60_000_000_000;

/// About objects, from one shard to another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ObjectMessage {
    /// Hold a key for a parent on `from`. Answered with [`Self::Held`].
    Hold {
        /// The parent's shard.
        from: ShardId,
        /// Key space.
        tenant: TenantId,
        /// The child.
        hash: KeyHash,
        /// Which request waits for it.
        wait: u64,
    },
    /// A child is held.
    Held {
        /// Key space.
        tenant: TenantId,
        /// As in [`Self::Hold`].
        wait: u64,
    },
    /// Let go of a key that a parent held.
    Release {
        /// Key space.
        tenant: TenantId,
        /// The child.
        hash: KeyHash,
        /// The parent's life is over, rather than its publish given up.
        deletes: bool,
    },
    /// A transaction is decided. A commit is answered with [`Self::Revealed`].
    Decide {
        /// The coordinator.
        from: ShardId,
        /// Key space.
        tenant: TenantId,
        /// Which one.
        tx: TxId,
        /// Whether it commits.
        commits: bool,
    },
    /// The keys of a commit are visible on `from`.
    Revealed {
        /// The participant.
        from: ShardId,
        /// Key space.
        tenant: TenantId,
        /// Which one.
        tx: TxId,
    },
    /// What becomes of a transaction whose time is over, or whose client is gone? Answered with
    /// [`Self::Decide`].
    Inquire {
        /// The participant.
        from: ShardId,
        /// Key space.
        tenant: TenantId,
        /// Which one.
        tx: TxId,
    },
    /// A session was expelled on another shard, or a connection there has ended.
    Ended {
        /// Which one.
        session: SessionId,
    },
}

/// A request that waits until its children are held.
#[derive(Debug, Clone, Copy)]
struct NestWait {
    session: SessionId,
    token: u64,
    unheld: u32,
    taken_ns: u64,
}

/// For which transaction a value is hidden.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserving {
    /// The transaction.
    pub(crate) tx: TxId,
    /// The shard that decides it.
    pub(crate) coordinator: ShardId,
    /// When that shard is asked, absolute monotonic nanoseconds.
    pub(crate) deadline_ns: u64,
}

impl Reserving {
    /// What a local session's request says.
    pub(crate) fn of(request: &Request<'_>) -> Self {
        Self {
            tx: tx_of(request),
            coordinator: ShardId(u16::from(request.words.lease_class)),
            deadline_ns: transaction_deadline(request.words.deadline_ns, request.now_ns),
        }
    }
}

/// The objects of one tenant on one shard.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Latches of keys.
    pub(crate) latches: Latches,
    /// References to keys.
    pub(crate) references: References,
    /// Nested keys and seals of parents.
    pub(crate) nesting: Nesting,
    /// Keys that transactions hide.
    pub(crate) reservations: Reservations,
    /// Transactions decided here.
    pub(crate) decisions: Decisions,
    /// Requests whose children are being held. Bound: requests in flight.
    nest_waits: HashMap<u64, NestWait>,
    nest_number: u64,
    /// Sessions that have ended and still have latches, references or staged keys here. Bound: what
    /// they have, each at least one.
    departing: VecDeque<SessionId>,
}

impl Objects {
    /// Why a write of a key is refused now, if it is.
    pub(crate) fn refusal(
        &self,
        store: &Store,
        hash: KeyHash,
        entry: &NewEntry,
        now_ms: u64,
    ) -> Option<InsertError> {
        if self.reservations.is_reserved(hash) {
            return Some(InsertError::Reserved);
        }
        // Whoever asks for an absent key hears that it exists.
        let is_sealed =
            !entry.set_if_absent && self.nesting.is_sealed(hash) && store.exists(hash, now_ms);
        is_sealed.then_some(InsertError::Sealed)
    }

    /// Whether a transaction may reserve a key.
    pub(crate) fn check_reserve(&self, tx: TxId, hash: KeyHash) -> Result<(), InsertError> {
        let checked = self.reservations.check(tx, hash);
        checked.map_err(|refused| match refused {
            TxRefused::Own | TxRefused::Other => InsertError::Reserved,
            TxRefused::Full => InsertError::MetadataFull {
                entries: u32::try_from(chariot_store::limits::RESERVED_MAX).unwrap_or(u32::MAX),
            },
        })
    }

    /// Notes that a key is reserved.
    pub(crate) fn note_reserved(&mut self, hash: KeyHash, expiry_ms: u64, reserving: &Reserving) {
        let Reserving {
            tx,
            coordinator,
            deadline_ns,
        } = *reserving;
        let key = Reserved { hash, expiry_ms };
        self.reservations.reserve(tx, coordinator, deadline_ns, key);
    }

    /// A version of a key has left the store: what it kept alive is let go of.
    pub(crate) fn on_retired(&mut self, hash: KeyHash) {
        if !self.nesting.is_empty() {
            self.nesting.end(hash);
        }
    }

    /// Begins to wait for `count` children; returns the number to send along.
    pub(crate) fn wait_for_children(&mut self, asker: &Asker, count: u32) -> u64 {
        self.nest_number += 1;
        let wait = NestWait {
            session: asker.session,
            token: asker.token,
            unheld: count,
            taken_ns: asker.now_ns,
        };
        self.nest_waits.insert(self.nest_number, wait);
        self.nest_number
    }

    fn child_held(&mut self, wait: u64) -> Option<NestWait> {
        let waiting = self.nest_waits.get_mut(&wait)?;
        waiting.unheld -= 1;
        if waiting.unheld > 0 {
            return None;
        }
        self.nest_waits.remove(&wait)
    }

    /// Begins to release what a session held; the rounds to come do, a bounded part each.
    pub(crate) fn drop_session(&mut self, session: SessionId) {
        // All of these are bounded by requests under way and by small tables.
        self.nest_waits.retain(|_, wait| wait.session != session);
        self.decisions.drop_session(session);
        self.reservations.drop_session(session);
        if !self.departing.contains(&session) {
            self.departing.push_back(session);
        }
    }

    /// When a wait or a transaction ends by time.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        let latch = self.latches.next_deadline_ns();
        let transaction = self.reservations.next_deadline_ns();
        latch.into_iter().chain(transaction).min()
    }
}

/// The transaction that a request belongs to.
pub(crate) fn tx_of(request: &Request<'_>) -> TxId {
    TxId {
        session: request.session.0,
        number: request.words.lease_count,
    }
}

/// When a transaction is over whose request names a deadline (0 = none).
pub(crate) fn transaction_deadline(deadline_ns: u64, now_ns: u64) -> u64 {
    let longest = now_ns.saturating_add(TRANSACTION_NS);
    match deadline_ns {
        0 => longest,
        deadline_ns => deadline_ns.min(longest),
    }
}

/// Sends a message about objects.
pub(crate) fn tell(shard: &mut Shard, to: ShardId, message: ObjectMessage) {
    shard.mail.send(to, ShardMessage::Object(message));
}

/// Tells the shards of a set (one bit each) what was decided.
pub(crate) fn tell_decision(
    shard: &mut Shard,
    tenant: TenantId,
    tx: TxId,
    shards: u64,
    commits: bool,
) {
    let from = shard.id;
    for number in 0..shard.shared.shard_count() {
        if shards & (1 << number) != 0 {
            let message = ObjectMessage::Decide {
                from,
                tenant,
                tx,
                commits,
            };
            tell(shard, ShardId(number), message);
        }
    }
}

/// Marks the token of a connection's call; a ring's tokens have 32 bits.
const REMOTE: u64 = 1 << 63;

/// The token of a call from another shard's connection: where its answer goes.
pub(crate) fn remote_token(from: ShardId, ticket: TicketId) -> u64 {
    REMOTE | (u64::from(from.0) << 32) | u64::from(ticket.0)
}

/// Answers a request that had to wait, and counts it; its session may have ended meanwhile.
pub(crate) fn answer(
    shard: &mut Shard,
    (tenant, session, token): (TenantId, SessionId, u64),
    opcode: Opcode,
    status: Status,
    taken_ns: u64,
) {
    if object_latch::is_nobody(token) {
        return;
    }
    shard.count_operation(opcode.as_u8(), status, taken_ns);
    let low = u32::try_from(token & u64::from(u32::MAX)).expect("masked");
    if token & REMOTE != 0 {
        let from = u16::try_from((token >> 32) & u64::from(u16::MAX)).expect("masked");
        shard.reply(ShardId(from), TicketId(low), tenant, Reply::status(status));
    } else if let Some(place) = shard.sessions.find(session) {
        let words = completion(low, &Answer::status(status));
        shard.sessions.post(place, &words);
    }
}

/// Acts on what another shard says.
pub(crate) fn on_message(shard: &mut Shard, message: ObjectMessage) {
    match message {
        ObjectMessage::Hold {
            from,
            tenant,
            hash,
            wait,
        } => {
            let share = shard.tenant_mut(tenant);
            if share.objects.references.nest(hash) {
                share.store.hold(hash);
            }
            tell(shard, from, ObjectMessage::Held { tenant, wait });
        },
        ObjectMessage::Held { tenant, wait } => {
            let done = shard.tenant_mut(tenant).objects.child_held(wait);
            if let Some(wait) = done {
                let to = (tenant, wait.session, wait.token);
                answer(shard, to, Opcode::ObjectNest, Status::Ok, wait.taken_ns);
            }
        },
        ObjectMessage::Release {
            tenant,
            hash,
            deletes,
        } => {
            let share = shard.tenant_mut(tenant);
            let dropped = share.objects.references.unnest(hash, deletes);
            share.end_hold(hash, dropped);
        },
        ObjectMessage::Decide {
            from,
            tenant,
            tx,
            commits,
        } => decided(shard, from, (tenant, tx), commits),
        ObjectMessage::Revealed { from, tenant, tx } => {
            let decisions = &mut shard.tenant_mut(tenant).objects.decisions;
            if let Some((token, taken_ns)) = decisions.acknowledge(tx, from) {
                let to = (tenant, SessionId(tx.session), token);
                answer(shard, to, Opcode::MultiSetTx, Status::Ok, taken_ns);
            }
        },
        ObjectMessage::Inquire { from, tenant, tx } => {
            let commits = shard.tenant_mut(tenant).objects.decisions.inquire(tx);
            let coordinator = shard.id;
            let message = ObjectMessage::Decide {
                from: coordinator,
                tenant,
                tx,
                commits,
            };
            tell(shard, from, message);
        },
        ObjectMessage::Ended { session } => drop_everywhere_here(shard, session),
    }
}

/// Ends a transaction's part here, as the shard that decides it says.
fn decided(shard: &mut Shard, from: ShardId, (tenant, tx): (TenantId, TxId), commits: bool) {
    let reservations = &shard.tenant_mut(tenant).objects.reservations;
    // A client may ask any shard to abort; only the one that it named to this one decides.
    if reservations.coordinator(tx) == Some(from) {
        for hash in shard.tenant_mut(tenant).decide(tx, commits) {
            shard.wake_watchers(tenant, hash);
        }
    }
    if commits {
        let participant = shard.id;
        let message = ObjectMessage::Revealed {
            from: participant,
            tenant,
            tx,
        };
        tell(shard, from, message);
    }
}

/// Releases what a session holds on this shard, whatever its tenant.
fn drop_everywhere_here(shard: &mut Shard, session: SessionId) {
    for tenant in shard.tenants.iter_mut().flatten() {
        tenant.drop_objects(session);
    }
}

/// Releases what a session holds on any shard: it was expelled, or was a connection.
pub(crate) fn end_everywhere(shard: &mut Shard, session: SessionId) {
    for number in 0..shard.shared.shard_count() {
        tell(shard, ShardId(number), ObjectMessage::Ended { session });
    }
}

/// What a round of the shard does for objects: latches that fell to somebody, waits and
/// transactions whose time is over, children whose parents are gone.
pub(crate) fn round(shard: &mut Shard) -> bool {
    let mut worked = false;
    for session in shard.sessions.take_newly_expelled() {
        end_everywhere(shard, session);
        worked = true;
    }
    for index in 0..shard.tenants.len() {
        if shard.tenants[index].is_none() {
            continue;
        }
        let tenant = TenantId(u16::try_from(index).expect("bounded by TENANTS_MAX"));
        worked |= latches(shard, tenant);
        worked |= overdue(shard, tenant);
        worked |= departing(shard, tenant);
        worked |= orphans(shard, tenant);
    }
    worked
}

fn latches(shard: &mut Shard, tenant: TenantId) -> bool {
    let now_ns = shard.now_ns;
    for round in 0..OBJECTS_PER_PASS {
        let latches = &mut shard.tenant_mut(tenant).objects.latches;
        let (latch, status) = if let Some(latch) = latches.take_granted() {
            (latch, Status::Ok)
        } else if let Some(latch) = latches.take_expired(now_ns) {
            (latch, Status::Timeout)
        } else {
            return round > 0;
        };
        let to = (tenant, latch.session, latch.token);
        answer(shard, to, Opcode::ObjectLatch, status, latch.taken_ns);
    }
    true
}

fn overdue(shard: &mut Shard, tenant: TenantId) -> bool {
    let now_ns = shard.now_ns;
    for round in 0..OBJECTS_PER_PASS {
        let reservations = &mut shard.tenant_mut(tenant).objects.reservations;
        let Some((tx, coordinator)) = reservations.take_overdue(now_ns) else {
            return round > 0;
        };
        let from = shard.id;
        let inquiry = ObjectMessage::Inquire { from, tenant, tx };
        if coordinator.0 < shard.shared.shard_count() {
            tell(shard, coordinator, inquiry);
        } else {
            // The client named a shard that is none, so that nobody can have decided to commit.
            shard.tenant_mut(tenant).decide(tx, false);
        }
    }
    true
}

/// Releases a part of what ended sessions held.
fn departing(shard: &mut Shard, tenant: TenantId) -> bool {
    let share = shard.tenant_mut(tenant);
    let Some(&session) = share.objects.departing.front() else {
        return false;
    };
    let mut left = OBJECTS_PER_PASS;
    while left > 0 {
        left -= 1;
        if let Some(latches) = share.objects.latches.drop_next(session) {
            left = left.saturating_sub(latches);
        } else if let Some((hash, dropped)) = share.objects.references.drop_next(session) {
            share.end_hold(hash, dropped);
        } else if !share.objects.nesting.drop_next(session) {
            share.objects.departing.pop_front();
            break;
        }
    }
    true
}

fn orphans(shard: &mut Shard, tenant: TenantId) -> bool {
    let count = shard.shared.shard_count();
    for round in 0..OBJECTS_PER_PASS {
        let nesting = &mut shard.tenant_mut(tenant).objects.nesting;
        let Some((hash, deletes)) = nesting.take_orphan() else {
            return round > 0;
        };
        let message = ObjectMessage::Release {
            tenant,
            hash,
            deletes,
        };
        tell(shard, ShardId(hash.shard(count)), message);
    }
    true
}
