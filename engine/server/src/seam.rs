//! What the daemon hands to a node and what it asks of a running one.
//!
//! Two directions, plain data each way: [`NodeOptions`] goes in once, typed and validated
//! (`resolve.rs` is the only validation); [`NodeStats`], [`SessionSummary`] and [`Readiness`] come
//! out by message, never by sharing memory with a shard. The trait [`NodeControl`] is all that the
//! admin endpoints and the signal handling know of a node, so that tests put a fake in its place.
//!
//! Every number here is a plain `u64` in a base unit (bytes, nanoseconds, counts): counters only
//! rise while a node lives, gauges are the value at the time of the snapshot.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

/// A future that the control thread awaits; it may be moved between threads.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Where one shard runs. Several placements may name one core (logical shards, for tests).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardPlacement {
    /// CPU number as the kernel counts them, member of this process's affinity set.
    pub cpu: usize,
}

/// Which entries leave first when memory is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// Least recently used.
    #[default]
    Lru,
    /// Small, main and ghost queues (S3-FIFO).
    S3Fifo,
}

/// How long a shard polls its queues after work before it parks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpinBudget {
    /// Up to 50 µs while the core is its own, none when cores are oversubscribed.
    #[default]
    Auto,
    /// Always this long; zero parks at once.
    Fixed(Duration),
}

/// One line of the `--auth` file: who may open sessions of which tenant.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Public name of the key pair, 1 to 128 bytes.
    pub access_key: String,
    /// The shared secret of the challenge, 16 to 1,024 bytes. Never printed.
    pub secret_key: String,
    /// Tenant whose keys and memory the sessions see, 1 to 64 bytes; `default` is tenant 0.
    pub tenant: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("access_key", &self.access_key)
            .field("secret_key", &"(hidden)")
            .field("tenant", &self.tenant)
            .finish()
    }
}

/// Who may open a session, and who of them is trusted with writable memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// Effective uid of the daemon: always trusted.
    pub own_uid: u32,
    /// Further trusted uids, sorted, each once.
    pub allow_uids: Vec<u32>,
    /// Trusted gids, sorted, each once.
    pub allow_gids: Vec<u32>,
    /// Credentials; empty means that no session needs one.
    pub credentials: Vec<Credential>,
}

impl AccessRules {
    /// Says whether the handshake asks for a proof. Sessions of either transport need one as soon
    /// as any credential is configured.
    pub fn auth_required(&self) -> bool {
        !self.credentials.is_empty()
    }
}

/// Everything a node needs to start. Built by `resolve.rs` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// One shard per element, at most 64; the index is the shard's number.
    pub shards: Vec<ShardPlacement>,
    /// Physical bytes for payload, idle leases, quarantine and slack; a multiple of 64 MiB.
    pub memory_bytes: u64,
    /// Physical bytes for entries, index and policy links of all shards together.
    pub metadata_bytes: u64,
    /// Back the arena with hugetlb pages instead of transparent ones.
    pub hugepages: bool,
    /// Polling before a shard parks.
    pub spin: SpinBudget,
    /// TCP address; every shard listens on it with `SO_REUSEPORT`. The port is not 0.
    pub listen: SocketAddr,
    /// Unix socket path. Its directory exists; a stale socket file has been removed under the lock.
    pub socket: PathBuf,
    /// Eviction policy of every shard.
    pub eviction: EvictionPolicy,
    /// Sessions accepted at once, 1 to 1,024; more are answered `Busy`.
    pub sessions_max: u16,
    /// Bytes that all sessions together may touch or make the node hold: rings, pins, staging, and
    /// the buffers of remote ones.
    pub session_memory_bytes: u64,
    /// Who may open a session.
    pub access: AccessRules,
    /// The SSD tier; `None` without one.
    pub ssd: Option<SsdTierOptions>,
}

/// The SSD tier of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SsdTierOptions {
    /// Directories, or block devices.
    pub paths: Vec<PathBuf>,
    /// Bytes of all shards together.
    pub size_bytes: u64,
    /// Bytes of a segment; a power of two.
    pub segment_bytes: u32,
    /// Time between flushes: what a power cut may cost.
    pub flush: Duration,
    /// Write only what was evicted before.
    pub second_hit: bool,
    /// Most bytes written in a day, 0 = no limit.
    pub day_bytes: u64,
    /// Most bytes that cleaning reads and writes in a second.
    pub clean_bytes_per_s: u64,
    /// From this hit on an object comes into memory again.
    pub promote_hits: u8,
    /// How long a stop may take to write memory out; zero = not at all.
    pub drain: Duration,
}

/// The default of `--session-memory`: rings and pins of `sessions_max` sessions with
/// `shard_count` shards, and 2 GiB for strict sessions to stage in.
///
/// # Panics
/// When `shard_count` is not 1 to 64.
pub fn session_memory_default(shard_count: u16, sessions_max: u16) -> u64 {
    session_bytes(shard_count) * u64::from(sessions_max) + crate::limits::STAGING_ALL_BYTES
}

/// Bytes of rings and pins that one local session may touch.
pub(crate) fn session_bytes(shard_count: u16) -> u64 {
    let geometry = chariot_shm::SessionGeometry::new(shard_count);
    (geometry.rw_size() + geometry.ro_size()) as u64
}

/// Operations counted apart, in the order of [`ShardStats::operations`].
pub const OPERATIONS: [&str; 16] = [
    "set",
    "publish",
    "get",
    "view",
    "exist",
    "prefix",
    "size",
    "delete",
    "expire",
    "wait",
    "lease",
    "latch",
    "reference",
    "nest",
    "bind",
    "transaction",
];

/// Results counted apart (the classes of a status), in the order of [`ShardStats::operations`].
pub const RESULTS: [&str; 8] = [
    "ok", "retry", "busy", "missing", "conflict", "invalid", "denied", "internal",
];

/// Why memory waits in quarantine, in the order of [`ShardStats::quarantine_bytes`].
pub const QUARANTINE_REASONS: [&str; 4] = ["pinned", "io", "expelled", "dead"];

/// Upper bounds of the latency buckets in nanoseconds: 1 µs doubling up to 2^23 µs (8.4 s).
pub const LATENCY_BOUNDS_NS: [u64; 24] = {
    let mut bounds = [0u64; 24];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = 1_000 << index;
        index += 1;
    }
    bounds
};

/// Counts per latency bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Observations at most as long as the bound of the same index and longer than the one before;
    /// the last element counts what is longer than every bound. Not cumulative.
    pub buckets: [u64; 25],
    /// Sum of all observations in nanoseconds.
    pub sum_ns: u64,
}

impl Latencies {
    /// Counts one observation. O(1): the bucket follows from the position of the highest bit.
    pub fn observe(&mut self, elapsed_ns: u64) {
        let micros = elapsed_ns.div_ceil(1_000).max(1);
        let index = micros.next_power_of_two().trailing_zeros() as usize;
        self.buckets[index.min(LATENCY_BOUNDS_NS.len())] += 1;
        self.sum_ns = self.sum_ns.saturating_add(elapsed_ns);
    }
}

/// One shard's counters and gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Finished operations: `[operation][result]`, see [`OPERATIONS`] and [`RESULTS`].
    pub operations: [[u64; RESULTS.len()]; OPERATIONS.len()],
    /// Time from taking a request to its completion, per operation.
    pub latencies: [Latencies; OPERATIONS.len()],
    /// Lookups of reading operations that found their key.
    pub hits: u64,
    /// Lookups of reading operations that did not.
    pub misses: u64,
    /// Payload bytes received from clients.
    pub bytes_written: u64,
    /// Payload bytes handed to clients.
    pub bytes_read: u64,
    /// Entries evicted for room.
    pub evictions: u64,
    /// Bytes freed by eviction.
    pub evicted_bytes: u64,
    /// Sum over evicted entries of their age at eviction, in milliseconds (mean = sum / evictions).
    pub evicted_age_ms_sum: u64,
    /// Entries that ended by their TTL.
    pub expirations: u64,
    /// Entries held now.
    pub entries: u64,
    /// Requests that had to wait for memory.
    pub out_of_memory_waits: u64,
    /// Requests answered out of memory at their deadline.
    pub out_of_memory_timeouts: u64,
    /// Requests waiting for memory now.
    pub out_of_memory_waiting: u64,
    /// Latches of objects held now.
    pub latches_held: u64,
    /// Requests that wait for a latch now.
    pub latches_waiting: u64,
    /// References of clients to keys now, each client and key once.
    pub references: u64,
    /// Nested keys now: staged, bound, or to be let go of.
    pub nested_keys: u64,
    /// Keys that undecided transactions hide now.
    pub transaction_keys: u64,
    /// Transactions begun here and not yet decided and acknowledged.
    pub transactions_undecided: u64,
    /// Extents that clients pin now, as of the last scan.
    pub pins: u64,
    /// Leases lent now.
    pub leases: u64,
    /// Bytes lent and not yet published.
    pub lease_bytes: u64,
    /// Bytes that wait for pins, I/O, an expelled session's end or a dead one's grace, see
    /// [`QUARANTINE_REASONS`].
    pub quarantine_bytes: [u64; QUARANTINE_REASONS.len()],
    /// Bytes of live objects (without slack).
    pub payload_bytes: u64,
    /// Bytes of granules held that serve nobody: rounding and fragmentation.
    pub slack_bytes: u64,
    /// Free bytes in granules held.
    pub free_bytes: u64,
    /// Bytes of entries, index and policy links in use.
    pub metadata_bytes: u64,
    /// Requests taken and not yet completed, all rings and connections.
    pub ring_depth: u64,
    /// Highest `ring_depth` since the start.
    pub ring_depth_max: u64,
    /// Passes of the shard's loop.
    pub loop_passes: u64,
    /// Passes that took longer than 10 ms, or gaps of that length between passes while busy.
    pub loop_stalls: u64,
    /// Longest such stall in nanoseconds.
    pub loop_stall_max_ns: u64,
    /// Kicks by the watchdog that found the shard standing still.
    pub watchdog_kicks: u64,
    /// Local sessions with a ring on this shard, now.
    pub local_rings: u64,
    /// TCP connections served by this shard, now.
    pub connections: u64,
    /// The SSD tier; `None` without one.
    pub ssd: Option<SsdTierStats>,
    /// Values refused for a wrong checksum.
    pub checksum_failures: u64,
    /// Sessions this shard expelled, for malformed requests or by order.
    pub expulsions: u64,
}

pub use chariot_ssd::SsdStats;

/// One shard's SSD tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SsdTierStats {
    /// What the store counts.
    pub store: SsdStats,
    /// Hits answered from the device.
    pub hits: u64,
    /// Hits answered from memory while the value was being written.
    pub spilling_hits: u64,
    /// Objects that came into memory again.
    pub promotions: u64,
    /// Objects handed over for writing.
    pub spills: u64,
    /// Bytes on their way to the device.
    pub spilling_bytes: u64,
    /// Evicted objects that the tier did not take.
    pub forgotten: u64,
    /// Writes of objects that failed.
    pub spill_failures: u64,
    /// Reads that shared one I/O with another.
    pub shared_reads: u64,
    /// Reads made anew because the object had moved.
    pub moved_reads: u64,
    /// Requests that waited for recovery.
    pub waited_for_recovery: u64,
    /// Whether recovery is still under way.
    pub is_recovering: bool,
}

/// One snapshot of the whole node; shards are asked one after another, not atomically.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// By shard number. A shard that did not answer in time is absent (`None`).
    pub shards: Vec<Option<ShardStats>>,
    /// Open local sessions.
    pub sessions_local: u64,
    /// Open remote sessions.
    pub sessions_remote: u64,
    /// Sessions opened since the start.
    pub sessions_opened: u64,
    /// Sessions refused since the start: too many, wrong proof, wrong version.
    pub sessions_refused: u64,
    /// Bytes of session memory (rings, pins, staging) populated now.
    pub session_bytes: u64,
    /// Bytes that the open sessions may touch, or make the node hold.
    pub session_committed_bytes: u64,
    /// Of those, buffers of remote sessions.
    pub session_remote_bytes: u64,
    /// The most that they may: `--session-memory`.
    pub session_max_bytes: u64,
    /// Pages that could not be made ahead and holes that could not be punched, since the start.
    pub populate_failures: u64,
    /// Arena bytes backed by physical pages.
    pub populated_bytes: u64,
    /// Arena bytes in granules that no shard holds.
    pub granules_free_bytes: u64,
}

/// One open session, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionSummary {
    /// Session number, never used twice by one daemon.
    pub id: u64,
    /// `local` or `tcp`.
    pub transport: &'static str,
    /// Process id of a local peer; 0 for a remote one.
    pub pid: u32,
    /// User id of a local peer; 0 for a remote one.
    pub uid: u32,
    /// Address of a remote peer; empty for a local one.
    pub peer: String,
    /// Tenant name.
    pub tenant: String,
    /// True when the session may map the arena for writing.
    pub trusted: bool,
    /// True once its requests are refused and its memory quarantined.
    pub expelled: bool,
    /// Seconds since it was opened.
    pub age_s: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Slots of pins taken: distinct extents pinned, on every shard.
    pub pins: u64,
    /// Slots lent to write into and not yet published.
    pub leases: u64,
    /// Bytes of them.
    pub lease_bytes: u64,
    /// Bytes that nobody can use because of this session: values deleted, overwritten or evicted
    /// that it pins (others may pin them too), and once it is expelled, what is lent to it.
    pub quarantine_bytes: u64,
}

/// What became of an order to expel a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expulsion {
    /// Its requests are refused from now on; what it holds stays until its farewell or death.
    Expelled {
        /// The process.
        pid: u32,
        /// Whether that was told to end (SIGKILL), or had ended.
        killed: bool,
    },
    /// It is expelled, and its process could not be killed: it belongs to a user whom this daemon
    /// may not signal.
    NotKilled {
        /// The process.
        pid: u32,
    },
    /// No session has that number now.
    Unknown,
    /// A session over TCP: it holds no memory of the node, and ends with its connection.
    Remote,
}

/// Whether the node takes work, and if not, why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Reasons against, each a short phrase; empty means ready.
    pub reasons: Vec<String>,
    /// What does not work although the node takes work, each a short phrase.
    pub degraded: Vec<String>,
}

impl Readiness {
    /// Says whether nothing stands against serving.
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// What a drain left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Requests cut off by the deadline; 0 for a clean drain.
    pub requests_abandoned: u64,
    /// Sessions still open at the end.
    pub sessions_open: u64,
}

/// A running node, seen from the control thread.
///
/// Lives on: control thread. Every method returns at once; futures are answered by messages from
/// the shards and give up on a shard that does not answer within a second.
pub trait NodeControl: Send + Sync + 'static {
    /// Asks every shard for its counters.
    fn stats(&self) -> Pending<NodeStats>;
    /// Lists the open sessions, by id.
    fn sessions(&self) -> Pending<Vec<SessionSummary>>;
    /// Expels a local session, and with `kill` ends its process.
    fn expel(&self, session: u64, kill: bool) -> Pending<Expulsion>;
    /// Says whether the node takes work. Does not ask the shards.
    fn ready(&self) -> Readiness;
    /// Stops accepting, finishes what is under way until `deadline` from now, stops the shards.
    fn drain(&self, deadline: Duration) -> Pending<Drained>;
}

/// Why a node did not start. One line for the operator: cause and remedy.
#[derive(Debug, thiserror::Error)]
#[error("{cause}; {remedy}")]
pub struct StartError {
    /// What went wrong, with the value concerned.
    pub cause: String,
    /// What the operator can do.
    pub remedy: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_buckets_hold_their_bounds() {
        let mut latencies = Latencies::default();
        for (index, bound) in LATENCY_BOUNDS_NS.iter().enumerate() {
            let before = latencies.buckets[index];
            latencies.observe(*bound);
            assert_eq!(
                latencies.buckets[index],
                before + 1,
                "bound {bound} is inclusive"
            );
            let above = latencies.buckets[index + 1];
            latencies.observe(bound + 1);
            assert_eq!(
                latencies.buckets[index + 1],
                above + 1,
                "{bound} + 1 is the next bucket"
            );
        }
        let last = latencies.buckets[24];
        latencies.observe(u64::MAX);
        assert_eq!(latencies.buckets[24], last + 1);
        assert_eq!(latencies.sum_ns, u64::MAX, "the sum saturates");
    }

    #[test]
    fn a_credential_never_prints_its_secret() {
        let credential = Credential {
            access_key: "ak".to_owned(),
            secret_key: "very-secret-value".to_owned(),
            tenant: "default".to_owned(),
        };
        assert!(!format!("{credential:?}").contains("very-secret"));
    }
}
