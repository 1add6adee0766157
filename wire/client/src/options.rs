//! What a caller chooses: where to connect, and how one call is to be carried out.
//!
//! Plain structs with public fields, so that the other SDKs (C, Python) can fill them. Nothing here
//! reads the environment.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use chariot_proto::WriteMode;
use chariot_proto::limits::TTL_MS_MAX;

/// Time allowed for one call unless the call says otherwise.
pub(crate) const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time allowed for session birth.
pub(crate) const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller polls for its answer before it sleeps, at most: the daemon advises what a
/// sleep costs on its machine, 50 to 400 µs.
pub(crate) const DEFAULT_SPIN: Duration = Duration::from_micros(400);
/// Most idle TCP connections kept by one remote client.
pub(crate) const DEFAULT_REMOTE_CONNECTIONS: usize = 8;

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `host:port` of a TCP listener. If it names this host, shared memory is used instead, as
    /// [`ConnectOptions::shared_memory`] allows.
    Tcp(String),
    /// The path of the daemon's unix socket.
    Unix(PathBuf),
}

/// Whether a session may, must or must not use shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedMemory {
    /// Shared memory when the daemon is on this host, TCP otherwise.
    #[default]
    Auto,
    /// Always TCP, also on the daemon's own host. Only with [`Target::Tcp`].
    Never,
    /// An error where [`SharedMemory::Auto`] would fall back to TCP.
    Require,
}

/// Which way reads go in a session over shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadPath {
    /// Through the shared index, without a message; the shard is asked for what it cannot tell.
    #[default]
    Index,
    /// Every read asks the shard: slower by a round trip, and known to it exactly. For comparing
    /// the two, and for finding out which of them misbehaves.
    Ring,
}

/// A secret key: shown as `***` by `Debug`, otherwise plain bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the bytes of a secret key.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// How to connect; see [`ConnectOptions::new`] for the defaults.
///
/// ```
/// use chariot_client::{ConnectOptions, Target};
/// use std::time::Duration;
///
/// let options = ConnectOptions {
///     request_timeout: Duration::from_secs(1),
///     ..ConnectOptions::new(Target::Unix("/run/chariot/31501.sock".into()))
/// };
/// assert!(options.checksum);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Where the daemon listens.
    pub target: Target,
    /// The name of the access key, empty where the daemon asks for none.
    pub access_key: String,
    /// The secret that belongs to `access_key`; it never crosses the wire.
    pub secret_key: Secret,
    /// The tenant's name; empty means the default tenant.
    pub tenant: String,
    /// Time allowed for connecting and for the handshake.
    pub connect_timeout: Duration,
    /// Time allowed for a call whose options set no deadline; at least a microsecond.
    pub request_timeout: Duration,
    /// How long a caller polls for its answer before it sleeps, at most: the daemon's advice (50 to
    /// 400 µs, what a sleep and a wake cost there) holds too. None where the process may use one
    /// CPU only, or only CPUs that the daemon's shards own.
    pub spin: Duration,
    /// Whether written values carry a CRC32C, and whether payload received over TCP is checked.
    pub checksum: bool,
    /// Whether shared memory may be used.
    pub shared_memory: SharedMemory,
    /// Which way reads go over shared memory.
    pub read_path: ReadPath,
    /// Most TCP connections kept open between calls (remote sessions), at least 1.
    pub remote_connections: usize,
}

impl ConnectOptions {
    /// Returns the defaults for a target: default tenant, no credentials, 5 s for connecting and
    /// for a call, polling as the daemon advises, checksums on, shared memory when possible.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            access_key: String::new(),
            secret_key: Secret::default(),
            tenant: String::new(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            spin: DEFAULT_SPIN,
            checksum: true,
            shared_memory: SharedMemory::Auto,
            read_path: ReadPath::Index,
            remote_connections: DEFAULT_REMOTE_CONNECTIONS,
        }
    }
}

/// How to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetOptions {
    /// Life of the value, in whole milliseconds rounded up; `None` lives until evicted or deleted.
    pub ttl: Option<Duration>,
    /// Write only where no value exists; otherwise the answer is [`crate::Status::Exists`].
    pub if_absent: bool,
    /// What the daemon may do with the value when memory runs short.
    pub mode: WriteMode,
    /// Time allowed for this call; `None` takes [`ConnectOptions::request_timeout`].
    pub deadline: Option<Duration>,
}

impl Default for SetOptions {
    /// No expiry, overwriting, evictable, the client's request timeout.
    fn default() -> Self {
        Self {
            ttl: None,
            if_absent: false,
            mode: WriteMode::NoneEvict,
            deadline: None,
        }
    }
}

/// How to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// How long to wait for a key that does not exist yet; `None` answers at once.
    pub wait: Option<Duration>,
    /// First byte to read.
    pub offset: u64,
    /// Bytes to read from `offset` on; `None` reads to the end. A range that is not wholly inside
    /// the value answers [`crate::Status::RangeInvalid`].
    pub len: Option<u64>,
    /// Time allowed for this call beyond `wait`; `None` takes [`ConnectOptions::request_timeout`].
    pub deadline: Option<Duration>,
}

/// The version of a value: the owner's epoch (20 bits) above a counter (44 bits).
///
/// A later completed write of a key has a greater version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Takes the version as it crosses the wire.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The version as it crosses the wire.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The epoch of the node that gave it.
    pub fn epoch(self) -> u32 {
        let bytes = (self.0 >> 44).to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// The counter within the epoch.
    pub fn counter(self) -> u64 {
        self.0 & ((1 << 44) - 1)
    }
}

/// A duration in whole milliseconds, rounded up, at most the protocol's longest life.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    let rounded = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(rounded).unwrap_or(u64::MAX).min(TTL_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_splits_into_epoch_and_counter() {
        let version = Version::from_raw((7 << 44) | 9);
        assert_eq!((version.epoch(), version.counter()), (7, 9));
        assert_eq!(Version::from_raw(u64::MAX).epoch(), (1 << 20) - 1);
    }

    #[test]
    fn debug_of_options_hides_the_secret() {
        let mut options = ConnectOptions::new(Target::Tcp("localhost:1".into()));
        options.secret_key = Secret::new("opensesame");
        let shown = format!("{options:?}");
        assert!(!shown.contains("opensesame"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }
}
