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

use chariot_base::{SessionId, ShardId, TenantId};
use chariot_proto::{KeyHash, Status};
use chariot_store::{
    Decisions, Dropped, InsertError, Latches, Nesting, NewEntry, References, Reservations,
    Reserved, Store, TxId, TxRefused,
};
use hashbrown::HashMap;

use crate::message::ShardMessage;
use crate::reply::completion;
use crate::request::{Answer, Request};
use crate::shard::Shard;

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
    /// A session was expelled on another shard.
    Expelled {
        /// Which one.
        session: SessionId,
    },
}

/// A request that waits until its children are held.
#[derive(Debug, Clone, Copy)]
struct NestWait {
    session: SessionId,
    token: u32,
    unheld: u32,
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
    /// Children to let go of: the life of their parents is over. Bound: the nesting table's.
    orphans: Vec<(KeyHash, bool)>,
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

    /// Whether a transaction may reserve the request's key.
    pub(crate) fn check_reserve(&self, request: &Request<'_>) -> Result<(), InsertError> {
        let checked = self.reservations.check(tx_of(request), request.hash());
        checked.map_err(|refused| match refused {
            TxRefused::Own | TxRefused::Other => InsertError::Reserved,
            TxRefused::Full => InsertError::MetadataFull {
                entries: u32::try_from(chariot_store::limits::RESERVED_MAX).unwrap_or(u32::MAX),
            },
        })
    }

    /// Notes that the request's key is reserved.
    pub(crate) fn note_reserved(&mut self, request: &Request<'_>, expiry_ms: u64) {
        let key = Reserved {
            hash: request.hash(),
            expiry_ms,
        };
        let coordinator = ShardId(u16::from(request.words.lease_class));
        self.reservations.reserve(
            tx_of(request),
            coordinator,
            transaction_deadline(request),
            key,
        );
    }

    /// A version of a key has left the store: what it kept alive is let go of.
    pub(crate) fn on_retired(&mut self, hash: KeyHash) {
        if !self.nesting.is_empty() {
            let children = self.nesting.end(hash);
            self.orphan(children, true);
        }
    }

    /// Lets go of children in the next round.
    pub(crate) fn orphan(&mut self, children: Vec<KeyHash>, deletes: bool) {
        let children = children.into_iter().map(|hash| (hash, deletes));
        self.orphans.extend(children);
    }

    /// Begins to wait for `count` children; returns the number to send along.
    pub(crate) fn wait_for_children(&mut self, request: &Request<'_>, count: u32) -> u64 {
        self.nest_number += 1;
        let wait = NestWait {
            session: request.session,
            token: request.words.token,
            unheld: count,
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

    /// Releases what a session held; the references that ended are for the caller to act on.
    pub(crate) fn drop_session(&mut self, session: SessionId, ended: &mut Vec<(KeyHash, Dropped)>) {
        self.latches.drop_session(session);
        self.references
            .drop_session(session, |hash, dropped| ended.push((hash, dropped)));
        let staged = self.nesting.drop_session(session);
        self.orphan(staged, false);
        self.nest_waits.retain(|_, wait| wait.session != session);
        self.decisions.drop_session(session);
        self.reservations.drop_session(session);
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

/// When the transaction of a request is over.
pub(crate) fn transaction_deadline(request: &Request<'_>) -> u64 {
    let longest = request.now_ns + TRANSACTION_NS;
    match request.words.deadline_ns {
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

/// Answers a request of a session that may have ended meanwhile.
fn answer(shard: &mut Shard, session: SessionId, token: u32, status: Status) {
    if let Some(place) = shard.sessions.find(session) {
        let words = completion(token, &Answer::status(status));
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
                answer(shard, wait.session, wait.token, Status::Ok);
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
        } => {
            let revealed = shard.tenant_mut(tenant).decide(tx, commits);
            for hash in revealed {
                shard.wake_watchers(tenant, hash);
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
        },
        ObjectMessage::Revealed { from, tenant, tx } => {
            let decisions = &mut shard.tenant_mut(tenant).objects.decisions;
            if let Some(token) = decisions.acknowledge(tx, from) {
                let token = u32::try_from(token).expect("a ring's token has 32 bits");
                answer(shard, SessionId(tx.session), token, Status::Ok);
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
        ObjectMessage::Expelled { session } => drop_everywhere_here(shard, session),
    }
}

/// Releases what a session holds on this shard, whatever its tenant.
fn drop_everywhere_here(shard: &mut Shard, session: SessionId) {
    for tenant in shard.tenants.iter_mut().flatten() {
        tenant.drop_objects(session);
    }
}

/// What a round of the shard does for objects: latches that fell to somebody, waits and
/// transactions whose time is over, children whose parents are gone.
pub(crate) fn round(shard: &mut Shard) -> bool {
    let mut worked = false;
    for session in shard.sessions.take_newly_expelled() {
        drop_everywhere_here(shard, session);
        for number in 0..shard.shared.shard_count() {
            if number != shard.id.0 {
                tell(shard, ShardId(number), ObjectMessage::Expelled { session });
            }
        }
        worked = true;
    }
    for index in 0..shard.tenants.len() {
        if shard.tenants[index].is_none() {
            continue;
        }
        let tenant = TenantId(u16::try_from(index).expect("bounded by TENANTS_MAX"));
        worked |= latches(shard, tenant);
        worked |= overdue(shard, tenant);
        worked |= orphans(shard, tenant);
    }
    worked
}

fn latches(shard: &mut Shard, tenant: TenantId) -> bool {
    let mut worked = false;
    let now_ns = shard.now_ns;
    loop {
        let latches = &mut shard.tenant_mut(tenant).objects.latches;
        let (latch, status) = if let Some(latch) = latches.take_granted() {
            (latch, Status::Ok)
        } else if let Some(latch) = latches.take_expired(now_ns) {
            (latch, Status::Timeout)
        } else {
            return worked;
        };
        let token = u32::try_from(latch.token).expect("a ring's token has 32 bits");
        answer(shard, latch.session, token, status);
        worked = true;
    }
}

fn overdue(shard: &mut Shard, tenant: TenantId) -> bool {
    let mut worked = false;
    let now_ns = shard.now_ns;
    loop {
        let reservations = &mut shard.tenant_mut(tenant).objects.reservations;
        let Some((tx, coordinator)) = reservations.take_overdue(now_ns) else {
            return worked;
        };
        let from = shard.id;
        let inquiry = ObjectMessage::Inquire { from, tenant, tx };
        if coordinator.0 < shard.shared.shard_count() {
            tell(shard, coordinator, inquiry);
        } else {
            // The client named a shard that is none, so that nobody can have decided to commit.
            shard.tenant_mut(tenant).decide(tx, false);
        }
        worked = true;
    }
}

fn orphans(shard: &mut Shard, tenant: TenantId) -> bool {
    let orphans = std::mem::take(&mut shard.tenant_mut(tenant).objects.orphans);
    let count = shard.shared.shard_count();
    let worked = !orphans.is_empty();
    for (hash, deletes) in orphans {
        let message = ObjectMessage::Release {
            tenant,
            hash,
            deletes,
        };
        tell(shard, ShardId(hash.shard(count)), message);
    }
    worked
}
