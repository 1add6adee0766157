//! The remote transport: the same operations as frames over TCP, the payload inline.
//!
//! A small pool of connections; a call takes one for its whole exchange, so that answers need no
//! matching and payload goes straight to the caller's memory. A connection that fails is dropped;
//! one that was closed by the daemon gives the whole session up, and the core reconnects.

mod connection;
mod objects;
mod operations;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chariot_proto::message::Welcome;
use chariot_proto::{Status, check_key};
use chariot_shm::clock;

use self::connection::Connection;
pub(crate) use self::objects::RemoteAsk;
use crate::error::Error;
use crate::options::ConnectOptions;
use crate::stats::Counters;

/// The connections that nobody uses now, and how many there are in all.
#[derive(Debug)]
struct Pool {
    idle: Vec<Connection>,
    open: usize,
}

/// A session with a daemon over TCP.
///
/// Lives on: any thread.
#[derive(Debug)]
pub(crate) struct RemoteSession {
    address: SocketAddr,
    options: ConnectOptions,
    welcome: Welcome,
    pool: Mutex<Pool>,
    returned: Condvar,
    /// The connection that holds latches and references; see `remote/objects.rs`.
    objects: Mutex<Option<Connection>>,
    alive: AtomicBool,
    /// What the client has counted; outlives the session.
    counters: Arc<Counters>,
}

impl RemoteSession {
    /// Connects to `address` (host and port).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a name without address; as [`crate::Client::connect`] else.
    pub(crate) fn connect(
        address: &str,
        options: &ConnectOptions,
        counters: &Arc<Counters>,
    ) -> Result<Self, Error> {
        let resolved = address.to_socket_addrs().map_err(|error| {
            let cause = format!("{address} is no host and port that resolves");
            Error::new(Status::InvalidArgument, cause).with_source(error)
        })?;
        let mut last = Error::new(Status::InvalidArgument, format!("{address} has no address"));
        for address in resolved {
            let wants_shared_memory = options.shared_memory != crate::SharedMemory::Never;
            match Connection::open(address, options, wants_shared_memory) {
                Ok((connection, welcome)) => {
                    return Ok(Self {
                        address,
                        options: options.clone(),
                        welcome,
                        pool: Mutex::new(Pool {
                            idle: vec![connection],
                            open: 1,
                        }),
                        returned: Condvar::new(),
                        objects: Mutex::new(None),
                        alive: AtomicBool::new(true),
                        counters: Arc::clone(counters),
                    });
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// The unix socket that the daemon names; empty for none.
    pub(crate) fn socket_path(&self) -> PathBuf {
        PathBuf::from(&self.welcome.socket_path)
    }

    pub(crate) fn boot_id(&self) -> u64 {
        self.welcome.boot_id
    }

    /// Refuses a write that the daemon would refuse, before anything is sent.
    ///
    /// # Errors
    ///
    /// `KeyInvalid`, `InvalidArgument` (no bytes), `TooLarge`.
    pub(crate) fn check_write(&self, key: &[u8], len: u64) -> Result<(), Error> {
        check_key(key).map_err(|error| Error::new(error.status(), error.to_string()))?;
        if len == 0 {
            return Err(Error::new(
                Status::InvalidArgument,
                "a value has at least one byte",
            ));
        }
        if len > self.value_max() {
            return Err(Error::new(
                Status::TooLarge,
                format!(
                    "value has {len} bytes, this node takes {}",
                    self.value_max()
                ),
            ));
        }
        Ok(())
    }

    fn value_max(&self) -> u64 {
        self.welcome.value_max.min(self.welcome.payload_max)
    }

    /// Takes an idle connection, or opens one, or waits for one until the deadline.
    fn take_connection(&self, deadline_ns: u64) -> Result<Connection, Error> {
        let mut pool = self.lock();
        loop {
            if let Some(connection) = pool.idle.pop() {
                return Ok(connection);
            }
            if pool.open < self.options.remote_connections {
                pool.open += 1;
                drop(pool);
                return self.open_connection();
            }
            let left = deadline_ns.saturating_sub(clock::monotonic_ns());
            if left == 0 {
                return Err(Error::timeout());
            }
            let waited = self.returned.wait_timeout(pool, Duration::from_nanos(left));
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn open_connection(&self) -> Result<Connection, Error> {
        let opened = Connection::open(self.address, &self.options, false);
        match opened {
            Ok((connection, welcome)) if welcome.boot_id == self.welcome.boot_id => Ok(connection),
            // Another daemon answers there now: start over with its terms.
            Ok(_) => Err(self.forget_connection(Error::restarting())),
            Err(error) => Err(self.forget_connection(error)),
        }
    }

    /// Opens a connection outside the pool, to the same daemon.
    fn open_apart(&self) -> Result<Connection, Error> {
        let (connection, welcome) = Connection::open(self.address, &self.options, false)?;
        if welcome.boot_id != self.welcome.boot_id {
            self.give_up();
            return Err(Error::restarting());
        }
        Ok(connection)
    }

    fn give_up(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    fn lock_objects(&self) -> MutexGuard<'_, Option<Connection>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn return_connection(&self, connection: Connection) {
        self.lock().idle.push(connection);
        self.returned.notify_one();
    }

    /// Takes note that a connection is gone, and of what that says about the session.
    fn forget_connection(&self, error: Error) -> Error {
        self.lock().open -= 1;
        self.returned.notify_one();
        if error.status() == Status::Restarting {
            self.alive.store(false, Ordering::Relaxed);
        }
        error
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
