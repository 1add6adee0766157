//! Membership: this node under a lease of etcd, for as long as it lives.
//!
//! One task on the control thread registers the node (address, version, cores, memory) and renews
//! the lease. When etcd is gone the node serves on: nothing but the membership waits, and the node
//! registers again when etcd is back. A clean stop revokes the lease; after a kill it lapses by
//! itself. Nothing per object is ever stored there.
//!
//! ```text
//!   connect ── grant a lease ── put the record ── renew, renew, ... ── (stop) revoke
//!      ▲                                             │
//!      └──── wait 0.5 s, 1 s, ... 5 s ◄── any failure ┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, PutOptions};
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

async fn keep_registered(
    registration: Registration,
    standing: Arc<Standing>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let mut pause = PAUSE_FIRST;
    let mut is_told = false;
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
            is_told = false;
        }
        // Once for each loss: etcd may be away for hours.
        if !is_told {
            tracing::warn!(error = %failure, "not registered with etcd; serving on, trying again");
            is_told = true;
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
) -> Error {
    match try_register(registration, standing, held).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn try_register(
    registration: &Registration,
    standing: &Standing,
    held: &mut Option<(Client, i64)>,
) -> Result<std::convert::Infallible, Error> {
    let options = ConnectOptions::new()
        .with_connect_timeout(ANSWER_WITHIN)
        .with_timeout(ANSWER_WITHIN);
    let mut client = Client::connect(&registration.endpoints, Some(options)).await?;
    let lease = client.lease_grant(LEASE_SECONDS, None).await?.id();
    *held = Some((client.clone(), lease));
    let key = member_key(&registration.cluster, &registration.member.address);
    let record = serde_json::to_string(&registration.member).expect("plain fields");
    let under = PutOptions::new().with_lease(lease);
    client.put(key, record, Some(under)).await?;
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
            return Err(Error::LeaseKeepAliveError(
                "the lease has lapsed".to_owned(),
            ));
        }
    }
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
            },
        };
        let standing = Arc::new(Standing::default());
        let membership = Membership::start(registration, Arc::clone(&standing));
        membership.leave().await;
        assert!(!standing.is_registered());
        assert_eq!(standing.registrations(), 0);
    }
}
