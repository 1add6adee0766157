//! What a shard does when the control thread orders it.
//!
//! Lives on: owner shard, called from the pass.

use std::sync::Arc;

use chariot_base::{Extent, SessionId};
use chariot_shard::{IoFd, ShardContext};
use chariot_shm::PinSet;
use chariot_shm::index::IndexWriter;
use chariot_store::{Policy, Store, StoreOptions};
use tokio::sync::oneshot;

use crate::limits::{DEAD_LEASE_GRACE_MS, RING_ACTIVE_NS};
use crate::message::{Order, SessionEnd, TenantParts};
use crate::node::stats;
use crate::pass::{Drain, OrderContext};
use crate::seam::{EvictionPolicy, SessionSummary};
use crate::session::Sessions;
use crate::tenant::TenantShard;

/// Sends an answer. Nobody may await it any more: then the control thread gave up waiting, and
/// nothing is lost.
fn answer<T>(done: oneshot::Sender<T>, value: T) {
    if done.send(value).is_err() {
        tracing::debug!("an order was answered after the control thread gave up waiting");
    }
}

/// Carries out one order.
pub(crate) fn handle(context: &mut OrderContext<'_>, runtime: &ShardContext, order: Order) {
    match order {
        Order::OpenTenant(parts, done) => {
            open_tenant(context, *parts);
            answer(done, ());
        },
        Order::OpenSession(parts, done) => {
            let tenant = parts.tenant;
            context.shard.sessions.open(*parts);
            context.shard.tenant_mut(tenant).note_use();
            answer(done, ());
        },
        Order::OpenRing(session, bell, done) => {
            let opened = open_ring(context, session, bell);
            answer(done, opened);
        },
        Order::CloseSession(session, end, done) => {
            close_session(context, session, end);
            answer(done, ());
        },
        Order::Expel(session, done) => {
            context.shard.sessions.expel_by_order(session);
            answer(done, ());
        },
        Order::Stats(done) => {
            answer(done, stats::report(context.shard, &runtime.driver_stats()));
        },
        Order::Sessions(done) => answer(done, sessions(context)),
        Order::Drain { deadline_ns, done } => {
            context.shard.draining = true;
            context.shard.drain_to_ssd_until_ns = context.shard.now_ns + drain_to_ssd_ns(context);
            Drain::begin(context.drain, deadline_ns, done);
        },
        Order::Stop => *context.stop = true,
    }
}

fn drain_to_ssd_ns(context: &OrderContext<'_>) -> u64 {
    let ssd = context.shard.shared.options.ssd.as_ref();
    ssd.map_or(0, |ssd| {
        u64::try_from(ssd.drain.as_nanos()).unwrap_or(u64::MAX / 2)
    })
}

fn open_tenant(context: &mut OrderContext<'_>, parts: TenantParts) {
    let shard = &mut *context.shard;
    let index = usize::from(parts.tenant.0);
    if shard.tenants.len() <= index {
        shard.tenants.resize_with(index + 1, || None);
    }
    assert!(shard.tenants[index].is_none(), "a tenant is opened once");
    let writer =
        IndexWriter::new(parts.index, &parts.index_options).expect("sized by the same options");
    let policy = match shard.shared.options.eviction {
        EvictionPolicy::Lru => Policy::Lru,
        EvictionPolicy::S3Fifo => Policy::S3Fifo,
    };
    let options = StoreOptions {
        policy,
        epoch: shard.shared.epoch,
        entries_max: shard.metadata.promised(),
        spills: shard.tier.is_some(),
    };
    let store = Store::new(writer, options);
    if let Some(home) = shard.home.as_mut() {
        home.add_tenant(parts.tenant, Arc::clone(&parts.arena));
    }
    let mut share = TenantShard::new(
        parts.tenant,
        parts.secret,
        parts.arena,
        store,
        shard.metadata.clone(),
    );
    if shard.tier.is_some() {
        let of_shard = shard.shared.options.memory_bytes / u64::from(shard.shared.shard_count());
        share.spills.switch_on(of_shard);
    }
    shard.tenants[index] = Some(share);
}

fn open_ring(
    context: &mut OrderContext<'_>,
    session: SessionId,
    bell: std::os::fd::OwnedFd,
) -> bool {
    let number = context.shard.id.0;
    let ring = context.ring;
    let poll = |bell: &IoFd, key| ring.poll_multishot(bell, key);
    let opened = context
        .shard
        .sessions
        .open_ring(session, number, bell, poll);
    if opened && let Some(place) = context.shard.sessions.find(session) {
        // A client may have submitted before its bell was polled.
        let until_ns = context.shard.now_ns + RING_ACTIVE_NS;
        context.shard.sessions.activate(place, until_ns);
    }
    opened
}

fn close_session(context: &mut OrderContext<'_>, id: SessionId, end: SessionEnd) {
    let shard = &mut *context.shard;
    let Some((_, session)) = shard.sessions.close(id) else {
        return;
    };
    shard.watching.drop_session(id);
    let dead_until_ns = match end {
        SessionEnd::Farewell => None,
        SessionEnd::Death => Some(shard.now_ns + DEAD_LEASE_GRACE_MS * 1_000_000),
    };
    let tenant = shard.tenant_mut(session.tenant);
    let waiters = tenant.waiters.remove_all(
        |waiter| matches!(waiter, crate::waiting::Waiter::Local(kept) if kept.session == id),
    );
    drop(waiters);
    tenant.drop_session(id, dead_until_ns);
}

/// What operators see of each session here. O(pins of all sessions, and what is in quarantine): as
/// much as a scan.
fn sessions(context: &mut OrderContext<'_>) -> Vec<SessionSummary> {
    let shard = &mut *context.shard;
    let waiting: Vec<Vec<Extent>> = shard
        .tenants
        .iter()
        .map(|tenant| {
            let waiting = tenant.iter().flat_map(|tenant| tenant.quarantine.extents());
            let mut waiting: Vec<Extent> = waiting.collect();
            waiting.sort_unstable_by_key(|extent| extent.offset);
            waiting
        })
        .collect();
    let ids: Vec<SessionId> = shard.sessions.iter().map(|session| session.id).collect();
    // Before the question who is expelled: looking may find nonsense.
    let pins: Vec<PinSet> = ids.iter().map(|id| shard.sessions.pins_of(*id)).collect();
    let expelled: Vec<SessionId> = shard.sessions.expelled_ids().collect();
    let sessions = shard.sessions.iter().zip(pins);
    sessions
        .map(|(session, pins)| {
            let number = usize::from(session.tenant.0);
            let leases = shard.tenants[number].as_ref().map(|tenant| &tenant.leases);
            let is_expelled = expelled.contains(&session.id);
            let lease_bytes = leases.map_or(0, |leases| leases.idle_bytes(session.id));
            let pinned = held_back(&waiting[number], &pins);
            SessionSummary {
                id: session.id.0,
                in_flight: Sessions::unanswered_of(session),
                pins: pins.len() as u64,
                leases: leases.map_or(0, |leases| leases.idle_count_of(session.id)),
                lease_bytes,
                quarantine_bytes: pinned + if is_expelled { lease_bytes } else { 0 },
                expelled: is_expelled,
                ..SessionSummary::default()
            }
        })
        .collect()
}

/// Bytes of what waits, in order of its offsets, that is pinned.
fn held_back(waiting: &[Extent], pins: &PinSet) -> u64 {
    pins.extents()
        .filter_map(|offset| {
            let at = waiting.binary_search_by_key(&offset, |extent| extent.offset);
            at.ok().map(|index| waiting[index].len)
        })
        .sum()
}
