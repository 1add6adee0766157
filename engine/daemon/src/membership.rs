//! Membership: this node under a lease of etcd, for as long as it lives.
//!
//! One task on the control thread registers the node (address, version, cores, memory) and renews
//! the lease. When etcd is gone the node serves on: nothing but the membership waits, and the node
//! registers again when etcd is back. A clean stop revokes the lease; after a kill it lapses by
//! itself. Nothing per object is ever stored there.
//!
//! A record is put only where none is, or where this very place has left one: two nodes that are
//! told the same address (`127.0.0.1:31501` on two hosts) do not overwrite each other. The second
//! says so and tries again, as the first may end.
//!
//! ```text
//!   connect ── grant a lease ── put the record ── renew, renew, ... ── (stop) revoke
//!      ▲                                             │
//!      └──── wait 0.5 s, 1 s, ... 5 s ◄── any failure ┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, ConnectOptions, Error, PutOptions, Txn, TxnOp};
use serde::{Deserialize, Serialize};

/// A node whose lease was not renewed for so long is no member any more: twice the 5 s after which
/// peers may take it for dead.
const LEASE_SECONDS: i64 = 10;
/// Three renewals fit into a lease, so that two may be lost.
const RENEW_EVERY: Duration = Duration::from_millis(3_300);
/// Longest wait for one answer of etcd; shorter than the distance of renewals.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// First and longest pause between two attempts to register.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a stop waits for etcd to take the lease back.
const REVOKE_WITHIN: Duration = Duration::from_secs(1);

/// What a node says of itself; JSON in etcd, under [`member_key`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// TCP address for clients.
    pub address: String,
    /// HTTP address of the admin endpoints.
    pub admin: String,
    /// Version and commit of the daemon.
    pub version: String,
    /// Cores, one shard each.
    pub cores: Vec<usize>,
    /// `--memory` in bytes.
    pub memory_bytes: u64,
    /// When the daemon started, milliseconds since 1970.
    pub start_unix_ms: u64,
    /// Where it runs, see [`this_place`]; empty in records of older daemons.
    #[serde(default)]
    pub place: String,
}

/// Names this boot of this host and its network namespace: where an address means one socket. Two
/// live daemons of one place cannot listen on the same address, so an equal record of the same
/// place is of a daemon that has ended.
pub fn this_place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{}/{}", boot.trim(), network.display())
}

/// Where the members of a cluster are kept: every key that begins so is one node.
pub fn members_prefix(cluster: &str) -> String {
    format!("/chariot/v1/{cluster}/nodes/")
}

/// Where one node is kept.
pub fn member_key(cluster: &str, address: &str) -> String {
    format!("{}{address}", members_prefix(cluster))
}

/// Where to register, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// URLs of etcd, `http://host:port`.
    pub endpoints: Vec<String>,
    /// Name of the cluster.
    pub cluster: String,
    /// The node.
    pub member: Member,
}

/// How the membership stands; read by `/metrics`. Any thread.
#[derive(Debug, Default)]
pub struct Standing {
    registered: AtomicBool,
    registrations: AtomicU64,
}

impl Standing {
    /// Whether etcd holds this node under a live lease, as far as is known.
    pub fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }

    /// How often the node has registered since its start.
    pub fn registrations(&self) -> u64 {
        self.registrations.load(Ordering::Relaxed)
    }
}

/// The task that keeps the node registered. Lives on: control thread.
#[derive(Debug)]
pub struct Membership {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Membership {
    /// Starts to register, in the background: the node serves whether or not etcd is there.
    pub fn start(registration: Registration, standing: Arc<Standing>) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(keep_registered(registration, standing, stopped));
        Self { stop, task }
    }

    /// Takes the node out of the cluster, and waits at most 1 s for it.
    pub async fn leave(self) {
        drop(self.stop);
        if tokio::time::timeout(REVOKE_WITHIN, self.task)
            .await
            .is_err()
        {
            tracing::warn!(
                lapses_in_s = LEASE_SECONDS,
                "etcd is silent: the lease lapses by itself"
            );
        }
    }
}

/// Why the node is not registered.
#[derive(Debug, thiserror::Error)]
enum Unregistered {
    /// etcd is away, or refuses; the operator of etcd can help.
    #[error("{0}")]
    Etcd(#[from] Error),
    /// Another node has the address; the operator gives one of them another `--advertise`.
    #[error(
        "{address} is registered by another node, started at {start_unix_ms} ms since 1970: give \
         each its own --advertise"
    )]
    Taken {
        /// What both want.
        address: String,
        /// Tells the other node from others.
        start_unix_ms: u64,
    },
    /// Somebody changed the record meanwhile; the next attempt sees what.
    #[error("the record changed while it was written")]
    Raced,
}

async fn keep_registered(
    registration: Registration,
    standing: Arc<Standing>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let mut pause = PAUSE_FIRST;
    let mut told = None;
    loop {
        let mut lease = None;
        let failure = tokio::select! {
            failure = register(&registration, &standing, &mut lease) => failure,
            _ = &mut stopped => {
                if let Some((client, lease)) = &mut lease {
                    drop(client.lease_revoke(*lease).await);
                }
                return;
            },
        };
        if standing.registered.swap(false, Ordering::Relaxed) {
            pause = PAUSE_FIRST;
            told = None;
        }
        // Once for each loss and each kind of cause: etcd may be away for hours.
        let kind = Some(std::mem::discriminant(&failure));
        if told != kind {
            tracing::warn!(error = %failure, "not registered with etcd; serving on, trying again");
            told = kind;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            _ = &mut stopped => return,
        }
    }
}

/// Registers and renews until something fails; says what.
async fn register(
    registration: &Registration,
    standing: &Standing,
    held: &mut Option<(Client, i64)>,
) -> Unregistered {
    match try_register(registration, standing, held).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn try_register(
    registration: &Registration,
    standing: &Standing,
    held: &mut Option<(Client, i64)>,
) -> Result<std::convert::Infallible, Unregistered> {
    let options = ConnectOptions::new()
        .with_connect_timeout(ANSWER_WITHIN)
        .with_timeout(ANSWER_WITHIN);
    let mut client = Client::connect(&registration.endpoints, Some(options)).await?;
    let key = member_key(&registration.cluster, &registration.member.address);
    let unchanged = may_write(&mut client, &key, &registration.member).await?;
    let lease = client.lease_grant(LEASE_SECONDS, None).await?.id();
    *held = Some((client.clone(), lease));
    let record = serde_json::to_string(&registration.member).expect("plain fields");
    let under = PutOptions::new().with_lease(lease);
    let put = Txn::new()
        .when([unchanged])
        .and_then([TxnOp::put(key, record, Some(under))]);
    if !client.txn(put).await?.succeeded() {
        return Err(Unregistered::Raced);
    }
    standing.registered.store(true, Ordering::Relaxed);
    let count = standing.registrations.fetch_add(1, Ordering::Relaxed) + 1;
    tracing::info!(
        cluster = registration.cluster,
        count,
        "registered with etcd"
    );

    let (mut keeper, mut renewals) = client.lease_keep_alive(lease).await?;
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        keeper.keep_alive().await?;
        let silent = || Error::LeaseKeepAliveError("no answer".to_owned());
        let renewed = tokio::time::timeout(ANSWER_WITHIN, renewals.message()).await;
        let left = renewed
            .map_err(|_elapsed| silent())??
            .ok_or_else(silent)?
            .ttl();
        if left <= 0 {
            return Err(Error::LeaseKeepAliveError("the lease has lapsed".to_owned()).into());
        }
    }
}

/// The condition under which `member` may stand at `key`: nobody's, or an earlier one of its own.
async fn may_write(
    client: &mut Client,
    key: &str,
    member: &Member,
) -> Result<Compare, Unregistered> {
    let found = client.get(key, None).await?;
    let Some(standing) = found.kvs().first() else {
        return Ok(Compare::version(key, CompareOp::Equal, 0));
    };
    let other = serde_json::from_slice::<Member>(standing.value()).ok();
    if let Some(other) = other.filter(|other| other.place != member.place) {
        return Err(Unregistered::Taken {
            address: other.address,
            start_unix_ms: other.start_unix_ms,
        });
    }
    let revision = standing.mod_revision();
    Ok(Compare::mod_revision(key, CompareOp::Equal, revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_renewals_may_be_lost() {
        let lease = Duration::from_secs(LEASE_SECONDS.unsigned_abs());
        assert!(3 * RENEW_EVERY < lease);
        assert!(ANSWER_WITHIN < RENEW_EVERY);
    }

    #[test]
    fn members_of_a_cluster_have_one_prefix() {
        let key = member_key("a", "127.0.0.1:31501");
        assert!(key.starts_with(&members_prefix("a")));
        assert!(!key.starts_with(&members_prefix("ab")));
    }

    #[test]
    fn place_is_the_same_for_all_of_this_host_and_names_the_boot() {
        assert_eq!(this_place(), this_place());
        let (boot, network) = this_place()
            .split_once('/')
            .map_or_else(Default::default, |both| {
                (both.0.to_owned(), both.1.to_owned())
            });
        assert_eq!(boot.len(), 36);
        assert!(network.starts_with("net:["), "{network}");
    }

    #[tokio::test]
    async fn node_without_etcd_leaves_at_once() {
        let registration = Registration {
            // A port that nobody has: reserved, and never given out.
            endpoints: vec!["http://127.0.0.1:1".to_owned()],
            cluster: "test".to_owned(),
            member: Member {
                address: "127.0.0.1:2".to_owned(),
                admin: "127.0.0.1:3".to_owned(),
                version: "0".to_owned(),
                cores: vec![0],
                memory_bytes: 1,
                start_unix_ms: 0,
                place: this_place(),
            },
        };
        let standing = Arc::new(Standing::default());
        let membership = Membership::start(registration, Arc::clone(&standing));
        membership.leave().await;
        assert!(!standing.is_registered());
        assert_eq!(standing.registrations(), 0);
    }
}
