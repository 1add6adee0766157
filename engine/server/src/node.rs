//! A running node: what all of its threads share, and what the control thread asks of it.
//!
//! Lives on: [`Shared`] on every thread, unchanged after the start but for three small tables
//! behind locks that no request takes (sessions, tenants, draining); [`Node`] on the control
//! thread.
//!
//! Neighbours: `node/start.rs` builds it, `node/orders.rs` is what shards do on its order,
//! `node/stats.rs` what they count.

pub(crate) mod orders;
pub(crate) mod ssd;
mod start;
mod stats;

pub(crate) use stats::ShardReport;

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chariot_base::limits::{GRANULE_BYTES, TENANTS_MAX};
use chariot_base::{SessionId, ShardId, TenantId};
use chariot_memory::ArenaMemory;
use chariot_proto::message::Welcome;
use chariot_proto::{KeySecret, Status, limits as wire};
use chariot_shard::{ControlSender, ShardContext, ShardJoin};
use chariot_shm::fds::kill_process;
use chariot_shm::{LifeThread, Memfd};
use libc::ESRCH;
use tokio::sync::{mpsc, oneshot};

use crate::call::Reply;
use crate::control::handshake::server_version;
use crate::control::random;
use crate::control::registry::{Named, Registry};
use crate::control::tenants::{Tenant, TenantError, Tenants};
use crate::control::unix;
use crate::message::{Order, ShardMessage};
use crate::seam::{
    Drained, Expulsion, NodeControl, NodeOptions, NodeStats, Pending, Readiness, SessionSummary,
};
use crate::tickets::TicketId;

/// How long the control thread waits for a shard's answer to an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(1);

/// A tenant as a connection's shard knows it.
#[derive(Debug, Clone)]
pub(crate) struct TenantHandle {
    /// Its number.
    pub(crate) id: TenantId,
    /// Its name.
    pub(crate) name: String,
    /// Secret of its key hashes.
    pub(crate) secret: KeySecret,
    /// Its arena.
    pub(crate) arena: Arc<ArenaMemory>,
}

/// What a shard asks of the control thread.
#[derive(Debug)]
pub(crate) struct TenantWanted {
    name: String,
    shard: ShardId,
    ticket: TicketId,
}

/// What all threads of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// As resolved by the daemon.
    pub(crate) options: NodeOptions,
    /// Open sessions.
    pub(crate) registry: Registry,
    boot_id: u64,
    /// How long `auto` spins here in microseconds; clients are advised the same.
    spin_us: u32,
    senders: Vec<ControlSender<ShardMessage>>,
    tenants: tokio::sync::Mutex<Tenants>,
    known: Mutex<HashMap<String, TenantHandle>>,
    wanted: mpsc::UnboundedSender<TenantWanted>,
    /// Boot generation: the upper bits of every version. 1 without an SSD tier.
    pub(crate) epoch: u32,
    /// Shards that have given their SSD partition up.
    pub(crate) ssd_retired: AtomicU64,
    life_page: Memfd,
    draining: AtomicBool,
    nonce_seed: [u8; 32],
    nonce_count: AtomicU64,
}

impl Shared {
    /// Shards of this node.
    pub(crate) fn shard_count(&self) -> u16 {
        u16::try_from(self.options.shards.len()).expect("at most 64 shards")
    }

    /// Records of one shard, over all tenants.
    pub(crate) fn records_per_shard(&self) -> u32 {
        start::records_per_shard(&self.options)
    }

    /// Tenants that can ever come: those that the credentials name, and the default one.
    pub(crate) fn tenants_max(&self) -> u32 {
        let credentials = &self.options.access.credentials;
        let names: std::collections::BTreeSet<&str> = credentials
            .iter()
            .map(|credential| credential.tenant.as_str())
            .chain([crate::control::handshake::DEFAULT_TENANT])
            .collect();
        u32::try_from(names.len().min(TENANTS_MAX)).expect("at most 256")
    }

    /// Longest value in bytes: half the arena.
    pub(crate) fn value_max(&self) -> u64 {
        self.options.memory_bytes / 2
    }

    /// Longest payload of one frame in bytes: more cannot be stored anyway.
    pub(crate) fn payload_max(&self) -> u64 {
        self.options.memory_bytes.min(wire::PAYLOAD_MAX)
    }

    /// Whether new work is refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// A read-only descriptor of the life page.
    pub(crate) fn life_descriptor(&self) -> std::io::Result<OwnedFd> {
        self.life_page.read_only()
    }

    /// Fresh random bytes for a handshake: a nonce, and a stand-in secret. Derived from a random
    /// seed by counter, so that a shard reads no file.
    pub(crate) fn nonces(&self) -> ([u8; 32], [u8; 32]) {
        let count = self.nonce_count.fetch_add(1, Ordering::Relaxed);
        let derive = |label: &str| {
            chariot_proto::auth::make_proof(
                &self.nonce_seed,
                &[0; 32],
                format!("{label} {count}").as_bytes(),
            )
        };
        (derive("nonce"), derive("stand-in"))
    }

    /// Sends an order to one shard and awaits its answer.
    pub(crate) async fn order_one<T>(
        &self,
        shard: u16,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Option<T> {
        let (done, answered) = oneshot::channel();
        self.send(usize::from(shard), ShardMessage::Order(order(done)))
            .await;
        answered.await.ok()
    }

    /// Sends an order to every shard and awaits all answers; those of shards that have ended are
    /// missing.
    pub(crate) async fn order_all<T>(
        &self,
        order: impl Fn(oneshot::Sender<T>) -> Order,
    ) -> Vec<Option<T>> {
        let mut answers = Vec::with_capacity(self.senders.len());
        for shard in 0..self.senders.len() {
            let (done, answered) = oneshot::channel();
            self.send(shard, ShardMessage::Order(order(done))).await;
            answers.push(answered);
        }
        let mut all = Vec::with_capacity(answers.len());
        for answered in answers {
            all.push(answered.await.ok());
        }
        all
    }

    /// Sends a message to a shard; waits for room where its queue is full.
    async fn send(&self, shard: usize, mut message: ShardMessage) {
        while let Err(back) = self.senders[shard].try_send(message) {
            message = back;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns a tenant, made and known to every shard if it is new.
    pub(crate) async fn tenant(&self, name: &str) -> Result<Arc<Tenant>, TenantError> {
        let mut tenants = self.tenants.lock().await;
        if let Some(tenant) = tenants.get(name) {
            return Ok(tenant);
        }
        let (tenant, parts) = tenants.make(name)?;
        for (shard, parts) in (0..self.shard_count()).zip(parts) {
            self.order_one(shard, |done| Order::OpenTenant(Box::new(parts), done))
                .await;
        }
        let handle = TenantHandle {
            id: tenant.id,
            name: tenant.name.clone(),
            secret: tenant.secret,
            arena: Arc::clone(&tenant.arena),
        };
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), handle);
        Ok(tenant)
    }

    fn known_tenant(&self, name: &str) -> Option<TenantHandle> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// The same for a shard: a tenant that is not known yet is asked of the control thread, whose
    /// answer comes back through the shard's own queue.
    pub(crate) async fn tenant_for_shard(
        &self,
        name: &str,
        context: &ShardContext,
        tickets: &crate::tickets::Tickets,
    ) -> Result<TenantHandle, String> {
        if let Some(tenant) = self.known_tenant(name) {
            return Ok(tenant);
        }
        let (ticket, answer) = tickets.take(context.shard(), TenantId(0));
        let wanted = TenantWanted {
            name: name.to_owned(),
            shard: context.shard(),
            ticket,
        };
        if self.wanted.send(wanted).is_err() {
            return Err("the node is ending".to_owned());
        }
        match answer.await {
            Reply::Done {
                status: Status::Ok, ..
            } => Ok(self
                .known_tenant(name)
                .expect("the control thread has entered it")),
            _ => Err(format!(
                "this node has its {TENANTS_MAX} tenants already, or no memory for another one"
            )),
        }
    }

    /// What every welcome says.
    pub(crate) fn welcome(&self, tenant: TenantId, secret: KeySecret, id: SessionId) -> Welcome {
        Welcome {
            flags: if self.options.ssd.is_some() {
                Welcome::LOWER_TIER
            } else {
                0
            },
            boot_id: self.boot_id,
            session_id: id.0,
            granule_len: GRANULE_BYTES,
            value_max: self.value_max(),
            payload_max: self.payload_max(),
            spin_us: self.spin_us,
            inline_max: wire::INLINE_MAX,
            batch_max: wire::BATCH_MAX,
            exist_batch_max: wire::EXIST_BATCH_MAX,
            inflight_max: 1,
            tenant_id: tenant.0,
            shard_count: self.shard_count(),
            key_secret: secret.0,
            shard_cpus: self
                .options
                .shards
                .iter()
                .map(|shard| u32::try_from(shard.cpu).unwrap_or(Welcome::CPU_NONE))
                .collect(),
            socket_path: self.options.socket.to_string_lossy().into_owned(),
            server_version: server_version(),
            ..Welcome::default()
        }
    }

    /// The welcome of a remote session: it need not hash.
    pub(crate) fn welcome_remote(&self, tenant: &TenantHandle, id: SessionId) -> Welcome {
        self.welcome(tenant.id, KeySecret([0; 16]), id)
    }
}

/// A running node. Dropping it leaves its threads running: call [`NodeControl::drain`].
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    joins: Mutex<Vec<ShardJoin<std::io::Result<()>>>>,
    life: Mutex<Option<LifeThread>>,
    watchdog_kicks: Arc<[AtomicU64]>,
}

impl Node {
    async fn collect(shared: Arc<Shared>, kicks: Arc<[AtomicU64]>) -> NodeStats {
        let answers = tokio::time::timeout(ORDER_TIMEOUT, shared.order_all(Order::Stats)).await;
        let mut shards = answers.unwrap_or_else(|_elapsed| vec![None; shared.options.shards.len()]);
        for (stats, kicks) in shards.iter_mut().zip(kicks.iter()) {
            if let Some(stats) = stats {
                stats.shard.watchdog_kicks = kicks.load(Ordering::Relaxed);
            }
        }
        let home = shards
            .first()
            .and_then(Option::as_ref)
            .and_then(|stats| stats.home);
        let populate_failures = shards
            .iter()
            .flatten()
            .map(|stats| stats.populate_failures)
            .sum();
        let (_, [local, remote, opened, refused]) = shared.registry.snapshot();
        let populated = home.map_or(0, |home| home.populated_bytes);
        let held = home.map_or(0, |home| u64::from(home.held_count) * GRANULE_BYTES);
        NodeStats {
            shards: shards
                .into_iter()
                .map(|stats| stats.map(|stats| stats.shard))
                .collect(),
            populate_failures,
            sessions_local: local,
            sessions_remote: remote,
            sessions_opened: opened,
            sessions_refused: refused,
            session_bytes: shared.registry.resident_bytes(),
            session_committed_bytes: shared.registry.committed_bytes().0,
            session_max_bytes: shared.registry.committed_bytes().1,
            populated_bytes: populated,
            granules_free_bytes: shared.options.memory_bytes.saturating_sub(held),
        }
    }

    async fn list(shared: Arc<Shared>) -> Vec<SessionSummary> {
        let answers = tokio::time::timeout(ORDER_TIMEOUT, shared.order_all(Order::Sessions)).await;
        let (mut summaries, _) = shared.registry.snapshot();
        let parts: Vec<SessionSummary> = answers
            .unwrap_or_default()
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        for part in parts {
            if let Some(summary) = summaries.iter_mut().find(|summary| summary.id == part.id) {
                summary.in_flight += part.in_flight;
                summary.pins += part.pins;
                summary.leases += part.leases;
                summary.lease_bytes += part.lease_bytes;
                summary.quarantine_bytes += part.quarantine_bytes;
                summary.expelled |= part.expelled;
            }
        }
        summaries
    }

    async fn turn_on(shared: Arc<Shared>, id: SessionId, kill: bool) -> Expulsion {
        let handle = match shared.registry.find(id) {
            Named::Nobody => return Expulsion::Unknown,
            Named::Beyond => return Expulsion::Remote,
            Named::Local(handle) => handle,
        };
        let pid = shared.registry.pid_of(id);
        tracing::warn!(session = id.0, pid, kill, "expelled by an operator");
        // A shard that stands still hears of it later; the client is told at once.
        let expelling = unix::expel(&shared, id, &handle.memory);
        if tokio::time::timeout(ORDER_TIMEOUT, expelling)
            .await
            .is_err()
        {
            tracing::warn!(session = id.0, "a shard has not answered an expulsion yet");
        }
        if !kill {
            return Expulsion::Expelled { pid, killed: false };
        }
        match kill_process(handle.pidfd.get_ref().as_fd()) {
            Ok(()) => Expulsion::Expelled { pid, killed: true },
            Err(error) if error.raw_os_error() == Some(ESRCH) => {
                Expulsion::Expelled { pid, killed: true }
            },
            Err(error) => {
                tracing::warn!(session = id.0, pid, %error, "cannot kill an expelled process");
                Expulsion::NotKilled { pid }
            },
        }
    }

    async fn end(shared: Arc<Shared>, deadline: Duration) -> Drained {
        shared.draining.store(true, Ordering::Release);
        let deadline_ns = chariot_shm::clock::monotonic_ns()
            + u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX / 2);
        let drained = shared.order_all(|done| Order::Drain { deadline_ns, done });
        let abandoned = tokio::time::timeout(deadline.saturating_add(ORDER_TIMEOUT), drained)
            .await
            .unwrap_or_default();
        let (open, _) = shared.registry.snapshot();
        for shard in 0..shared.senders.len() {
            shared.send(shard, ShardMessage::Order(Order::Stop)).await;
        }
        Drained {
            requests_abandoned: abandoned.into_iter().flatten().sum(),
            sessions_open: open.len() as u64,
        }
    }
}

impl NodeControl for Node {
    fn stats(&self) -> Pending<NodeStats> {
        Box::pin(Self::collect(
            Arc::clone(&self.shared),
            Arc::clone(&self.watchdog_kicks),
        ))
    }

    fn sessions(&self) -> Pending<Vec<SessionSummary>> {
        Box::pin(Self::list(Arc::clone(&self.shared)))
    }

    fn expel(&self, session: u64, kill: bool) -> Pending<Expulsion> {
        let shared = Arc::clone(&self.shared);
        Box::pin(Self::turn_on(shared, SessionId(session), kill))
    }

    fn ready(&self) -> Readiness {
        let mut readiness = Readiness::default();
        if self.shared.is_draining() {
            readiness.reasons.push("draining".to_owned());
        }
        let retired = self.shared.ssd_retired.load(Ordering::Relaxed);
        if retired > 0 {
            let degraded = format!("degraded: {retired} SSD partitions are given up");
            readiness.degraded.push(degraded);
        }
        readiness
    }

    fn drain(&self, deadline: Duration) -> Pending<Drained> {
        let shared = Arc::clone(&self.shared);
        let joins = std::mem::take(&mut *self.joins.lock().unwrap_or_else(PoisonError::into_inner));
        let life = self
            .life
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Box::pin(async move {
            let drained = Self::end(shared, deadline).await;
            let joined = tokio::task::spawn_blocking(move || {
                join_all(joins);
                // Only now: as long as a shard answered, the daemon was alive.
                drop(life);
            });
            if joined.await.is_err() {
                tracing::error!("the threads of the shards could not be joined");
            }
            drained
        })
    }
}

fn join_all(joins: Vec<ShardJoin<std::io::Result<()>>>) {
    for join in joins {
        if let Err(error) = join.join() {
            tracing::error!(%error, "a shard ended with an error");
        }
    }
}

/// Random bytes as a number.
fn random_u64() -> std::io::Result<u64> {
    random::bytes().map(u64::from_le_bytes)
}
