//! The port through which load goes: what the commands need of a cache, and nothing else.
//!
//! In life it is the Rust SDK, one client (a session of its own) per client thread. In tests it is
//! a map in this process that can lose, evict and damage values.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use chariot_client::{
    Client, ConnectOptions, Error, Place, Secret, SetOptions, SharedMemory, Status, Target,
    Version, View, WriteMode,
};

use crate::failure::Failure;

/// One client of a cache; used by one thread.
pub(crate) trait Cache: Send {
    /// Bytes lent in place.
    type View: Deref<Target = [u8]>;

    fn place(&self) -> CachePlace;
    /// Keys found by this client so far.
    fn hits(&self) -> Hits;
    fn set(&self, key: &[u8], value: &[u8]) -> Result<Version, Error>;
    fn mset(&self, items: &[(&[u8], &[u8])]) -> Vec<Result<Version, Error>>;
    fn get_into(&self, key: &[u8], buffer: &mut [u8]) -> Result<Option<usize>, Error>;
    fn mget_into(
        &self,
        keys: &[&[u8]],
        buffers: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>>;
    fn view(&self, key: &[u8]) -> Result<Option<Self::View>, Error>;
    fn mview(&self, keys: &[&[u8]]) -> Vec<Result<Option<Self::View>, Error>>;
    fn exist(&self, key: &[u8]) -> Result<bool, Error>;
    fn mexist(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>>;
    fn delete(&self, key: &[u8]) -> Result<bool, Error>;
    fn mdelete(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>>;
    fn prefix(&self, keys: &[&[u8]]) -> Result<usize, Error>;
}

/// Keys that a client has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hits {
    pub all: u64,
    /// Values of those that came from the node's SSD.
    pub ssd: u64,
}

impl Hits {
    /// What was found since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            all: self.all - before.all,
            ssd: self.ssd - before.ssd,
        }
    }
}

/// Which way the bytes travelled; a figure over TCP and one over shared memory are two figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CachePlace {
    SharedMemory,
    Tcp,
    /// The daemon went away.
    Away,
}

impl CachePlace {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::SharedMemory => "shared memory",
            Self::Tcp => "TCP",
            Self::Away => "the daemon is away",
        }
    }
}

/// Where the daemon is and how its clients behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub address: Address,
    pub shared_memory: SharedMemory,
    pub spin: Option<Duration>,
    pub checksum: bool,
    /// Access key and secret, where the daemon asks for them.
    pub credentials: Option<(String, Secret)>,
}

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Daemon {
    /// Opens one session.
    pub(crate) fn connect(&self) -> Result<SdkCache, Failure> {
        let target = match &self.address {
            Address::Tcp(address) => Target::Tcp(address.clone()),
            Address::Unix(path) => Target::Unix(path.clone()),
        };
        let mut options = ConnectOptions::new(target);
        options.shared_memory = self.shared_memory;
        options.checksum = self.checksum;
        options.spin = self.spin.unwrap_or(options.spin);
        if let Some((access_key, secret_key)) = &self.credentials {
            options.access_key.clone_from(access_key);
            options.secret_key = secret_key.clone();
        }
        let client = Client::connect(options).map_err(|error| self.absent(&error))?;
        Ok(SdkCache { client })
    }

    fn absent(&self, error: &Error) -> Failure {
        let (address, start) = match &self.address {
            Address::Tcp(address) => (address.clone(), format!("chariotd --listen {address}")),
            Address::Unix(path) => {
                let path = path.display();
                (path.to_string(), format!("chariotd --socket {path}"))
            },
        };
        let cause = format!("no session with a daemon at {address} ({})", error.cause());
        // Somebody answered: the status's own remedy fits better than a second daemon.
        let remedy = match error.status() {
            Status::Restarting | Status::Timeout => {
                format!("start one with `{start}`, or name another with --target or --socket")
            },
            _ => error.remedy().to_owned(),
        };
        Failure::new(cause, remedy)
    }
}

/// The SDK as a cache.
#[derive(Debug)]
pub(crate) struct SdkCache {
    client: Client,
}

/// Benchmark values may be evicted and never expire.
const SET: SetOptions = SetOptions {
    ttl: None,
    if_absent: false,
    mode: WriteMode::NoneEvict,
    deadline: None,
};

impl Cache for SdkCache {
    type View = View;

    fn place(&self) -> CachePlace {
        match self.client.place() {
            Place::SharedMemory => CachePlace::SharedMemory,
            Place::Tcp => CachePlace::Tcp,
            Place::Away => CachePlace::Away,
        }
    }

    fn hits(&self) -> Hits {
        let stats = self.client.stats();
        Hits {
            all: stats.hits,
            ssd: stats.hits_ssd,
        }
    }

    fn set(&self, key: &[u8], value: &[u8]) -> Result<Version, Error> {
        self.client.set(key, value, &SET)
    }

    fn mset(&self, items: &[(&[u8], &[u8])]) -> Vec<Result<Version, Error>> {
        self.client.mset(items, &SET)
    }

    fn get_into(&self, key: &[u8], buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        self.client.get_into(key, buffer)
    }

    fn mget_into(
        &self,
        keys: &[&[u8]],
        buffers: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        self.client.mget_into(keys, buffers)
    }

    fn view(&self, key: &[u8]) -> Result<Option<View>, Error> {
        self.client.view(key)
    }

    fn mview(&self, keys: &[&[u8]]) -> Vec<Result<Option<View>, Error>> {
        self.client.mview(keys)
    }

    fn exist(&self, key: &[u8]) -> Result<bool, Error> {
        self.client.exist(key)
    }

    fn mexist(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        self.client.mexist(keys)
    }

    fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        self.client.delete(key)
    }

    fn mdelete(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        self.client.mdelete(keys)
    }

    fn prefix(&self, keys: &[&[u8]]) -> Result<usize, Error> {
        self.client.prefix(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_daemon_names_address_and_how_to_start_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nobody.sock");
        let daemon = Daemon {
            address: Address::Unix(path.clone()),
            shared_memory: SharedMemory::Auto,
            spin: None,
            checksum: true,
            credentials: None,
        };
        let error = Error::new(Status::Restarting, "connection refused");
        let shown = daemon.absent(&error).to_string();
        let path = path.display().to_string();
        assert!(shown.contains(&format!("at {path}")), "{shown}");
        assert!(
            shown.contains(&format!("chariotd --socket {path}")),
            "{shown}"
        );
        assert!(!shown.contains('\n'), "{shown}");
    }

    #[test]
    fn refusing_daemon_is_not_to_be_started_again() {
        let daemon = Daemon {
            address: Address::Tcp("h:1".into()),
            shared_memory: SharedMemory::Auto,
            spin: None,
            checksum: true,
            credentials: None,
        };
        let error = Error::new(Status::NotAuthorized, "wrong proof");
        let shown = daemon.absent(&error).to_string();
        assert!(
            shown.contains("h:1") && shown.contains("wrong proof"),
            "{shown}"
        );
        assert!(!shown.contains("chariotd --listen"), "{shown}");
    }
}
