//! The internal port: a link is one of two transports, and this file chooses which.

use std::path::Path;
use std::sync::Arc;

use chariot_proto::Status;

use crate::core::{Local, Remote};
use crate::error::Error;
use crate::local::LocalSession;
use crate::options::{ConnectOptions, SharedMemory, Target};
use crate::remote::RemoteSession;
use crate::stats::Counters;

/// A session over one of the transports; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// Shared memory.
    Local(Local),
    /// TCP frames.
    Remote(Remote),
}

impl Link {
    /// Whether it is worth a try.
    pub(crate) fn is_alive(&self) -> bool {
        match self {
            Self::Local(session) => session.is_alive(),
            Self::Remote(session) => session.is_alive(),
        }
    }

    /// Whether the daemon has said that it serves this session no more.
    pub(crate) fn is_expelled(&self) -> bool {
        match self {
            Self::Local(session) => session.is_expelled(),
            Self::Remote(_) => false,
        }
    }
}

/// Refuses options without sense, before anything is opened.
pub(crate) fn check_options(options: &ConnectOptions) -> Result<(), Error> {
    let invalid = |cause| Err(Error::new(Status::InvalidArgument, cause));
    if options.remote_connections == 0 {
        return invalid("remote_connections is 0, at least 1 is needed");
    }
    if options.request_timeout.is_zero() || options.connect_timeout.is_zero() {
        return invalid("a timeout of zero lets nothing finish");
    }
    let is_unix = matches!(options.target, Target::Unix(_));
    if is_unix && options.shared_memory == SharedMemory::Never {
        return invalid("a unix socket is there for shared memory: use the TCP address");
    }
    Ok(())
}

/// Connects as the options say: over the unix socket, over TCP, or over TCP and from there to the
/// unix socket of the same daemon.
pub(crate) fn connect(options: &ConnectOptions, counters: &Arc<Counters>) -> Result<Link, Error> {
    let address = match &options.target {
        Target::Unix(path) => {
            return Ok(Link::Local(LocalSession::connect(path, options, counters)?));
        },
        Target::Tcp(address) => address,
    };
    let remote = RemoteSession::connect(address, options, counters)?;
    if options.shared_memory == SharedMemory::Never {
        return Ok(Link::Remote(Arc::new(remote)));
    }
    match switch_to_local(&remote.socket_path(), remote.boot_id(), options, counters) {
        Ok(local) => Ok(Link::Local(local)),
        Err(error) if options.shared_memory == SharedMemory::Require => Err(error),
        // Another host, another mount namespace, another user: TCP works all the same.
        Err(_) => Ok(Link::Remote(Arc::new(remote))),
    }
}

fn switch_to_local(
    path: &Path,
    boot_id: u64,
    options: &ConnectOptions,
    counters: &Arc<Counters>,
) -> Result<Local, Error> {
    if path == Path::new("") {
        return Err(Error::new(
            Status::NotSupported,
            "the daemon names no unix socket",
        ));
    }
    let local = LocalSession::connect(path, options, counters)?;
    if local.boot_id() != boot_id {
        return Err(Error::new(
            Status::NotSupported,
            "the unix socket of that name belongs to another daemon",
        ));
    }
    Ok(local)
}
