//! Session birth over the unix socket: handshake, descriptors, mappings.
//!
//! Descriptors arrive with the welcome in the order that it documents: life page, session memory
//! (read-write), session memory (read-only), arena, one index per shard, staging memory. Lengths
//! are the descriptors' own, sealed by the daemon; what the welcome says must fit into them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use chariot_proto::message::Welcome;
use chariot_proto::{KeySecret, Status};
use chariot_shm::index::IndexReader;
use chariot_shm::{ClientSession, ForkGuard, LifeView, Mapping};

use super::arena::{Arena, Writing};
use super::driver::Driver;
use super::port::PortState;
use super::staging::Staging;
use super::windows::Windows;
use super::{LocalSession, ShardPort, Terms};
use crate::affinity;
use crate::error::Error;
use crate::handshake::Conversation;
use crate::options::ConnectOptions;
use crate::stats::Counters;

impl LocalSession {
    /// Opens a session on the unix socket at `path`.
    ///
    /// # Errors
    ///
    /// `Restarting` when nobody listens; refusals with the daemon's own words; `NotSupported`
    /// when the daemon does not share memory with this client; `Malformed` for descriptors that are
    /// not what the welcome says.
    pub(crate) fn connect(
        path: &Path,
        options: &ConnectOptions,
        counters: &Arc<Counters>,
    ) -> Result<Arc<Self>, Error> {
        let stream = UnixStream::connect(path).map_err(|error| {
            let cause = format!("no daemon answers on the unix socket {}", path.display());
            Error::new(Status::Restarting, cause).with_source(error)
        })?;
        let timeout = Some(options.connect_timeout.max(Duration::from_millis(1)));
        stream.set_read_timeout(timeout).map_err(kernel)?;
        stream.set_write_timeout(timeout).map_err(kernel)?;
        let mut control = Conversation::new(stream);
        let welcome = control.open_session(options, true)?;
        let descriptors = std::mem::take(&mut control.fds);
        Self::attach(control, &welcome, &descriptors, options, counters)
    }

    fn attach(
        control: Conversation<UnixStream>,
        welcome: &Welcome,
        descriptors: &[OwnedFd],
        options: &ConnectOptions,
        counters: &Arc<Counters>,
    ) -> Result<Arc<Self>, Error> {
        if welcome.flags & Welcome::SHARED_MEMORY == 0 {
            return Err(Error::new(
                Status::NotSupported,
                "the daemon shares no memory with this client",
            ));
        }
        if descriptors.len() != usize::from(welcome.descriptor_count) {
            return Err(Error::malformed(
                "not as many descriptors as the welcome says",
            ));
        }
        let [life, read_write, read_only, arena, rest @ ..] = descriptors else {
            return Err(Error::malformed("fewer descriptors than a session has"));
        };
        let memory = ClientSession::attach(read_write.as_fd(), read_only.as_fd())
            .map_err(|error| odd(&error))?;
        if memory.geometry().shard_count() != welcome.shard_count {
            return Err(Error::malformed(
                "session memory for another number of shards",
            ));
        }
        let life = LifeView::attach(life.as_fd()).map_err(|error| odd(&error))?;
        let arena = map_arena(arena.as_fd(), rest.last(), welcome)?;
        let pins = |shard| {
            memory
                .pins(shard)
                .expect("a fresh session has all its pin tables")
        };
        let staging = usize::from(welcome.staging_len > 0);
        let is_one_each = rest.len() == usize::from(welcome.shard_count) + staging;
        if welcome.index_count != welcome.shard_count || !is_one_each {
            return Err(Error::malformed("not one index for each shard"));
        }
        let mut ports = Vec::with_capacity(usize::from(welcome.shard_count));
        for (shard, index) in (0..welcome.shard_count).zip(rest) {
            ports.push(ShardPort {
                shard,
                state: Mutex::new(PortState::new()),
                pins: pins(shard),
                bell: OnceLock::new(),
                index: map_index(index.as_fd(), shard, welcome)?,
                notes: memory.notes(shard),
            });
        }
        let ports = ports.into_boxed_slice();
        let fork = ForkGuard::here().map_err(kernel)?;
        Ok(Arc::new_cyclic(|weak| Self {
            fork,
            driver: Driver::default(),
            tx_numbers: Mutex::default(),
            weak: Weak::clone(weak),
            control: Mutex::new(control),
            ports,
            memory,
            life,
            arena,
            terms: Terms {
                key_secret: KeySecret(welcome.key_secret),
                shard_count: welcome.shard_count,
                boot_id: welcome.boot_id,
                value_max: welcome.value_max,
                spin: affinity::spin(options.spin, welcome.spin_us, &welcome.shard_cpus),
                checksum: options.checksum,
                request_timeout: options.request_timeout,
                read_path: options.read_path,
                has_lower_tier: welcome.flags & Welcome::LOWER_TIER != 0,
            },
            counters: Arc::clone(counters),
            broken: AtomicBool::new(false),
        }))
    }
}

/// Maps one shard's index, and checks that it is of this daemon, tenant and shard.
fn map_index(index: BorrowedFd<'_>, shard: u16, welcome: &Welcome) -> Result<IndexReader, Error> {
    let len = checked_len(index, welcome.index_len)?;
    let mapping = Mapping::read_only(index, 0, len).map_err(kernel)?;
    let reader = IndexReader::new(mapping)
        .map_err(|error| Error::new(Status::Malformed, error.to_string()))?;
    let made_for = reader.options();
    let is_ours = made_for.shard == shard
        && made_for.tenant == welcome.tenant_id
        && made_for.boot_id == welcome.boot_id;
    if is_ours {
        Ok(reader)
    } else {
        Err(Error::malformed(
            "an index of another shard, tenant or start of the daemon",
        ))
    }
}

fn map_arena(
    arena: BorrowedFd<'_>,
    last: Option<&OwnedFd>,
    welcome: &Welcome,
) -> Result<Arena, Error> {
    let len = checked_len(arena, welcome.arena_len)?;
    let reading = Mapping::read_only(arena, 0, len).map_err(kernel)?;
    let writing = if welcome.staging_len > 0 {
        let staging = last.ok_or_else(|| Error::malformed("staging memory without descriptor"))?;
        let len = checked_len(staging.as_fd(), welcome.staging_len)?;
        Writing::Staging {
            mapping: Mapping::read_write(staging.as_fd(), 0, len).map_err(kernel)?,
            free: Mutex::new(Staging::new(len as u64)),
        }
    } else if welcome.flags & Welcome::TRUSTED != 0 {
        let mapping = Mapping::read_write(arena, 0, len).map_err(kernel)?;
        mapping.protect_read(0, len).map_err(kernel)?;
        Writing::Leases {
            mapping,
            windows: Mutex::new(Windows::new(len)),
        }
    } else {
        return Err(Error::malformed("a strict session without staging memory"));
    };
    Ok(Arena { reading, writing })
}

/// The length to map: what the welcome says, if the descriptor is that long.
fn checked_len(fd: BorrowedFd<'_>, said: u64) -> Result<usize, Error> {
    let file = File::from(fd.try_clone_to_owned().map_err(kernel)?);
    let size = file.metadata().map_err(kernel)?.len();
    if said == 0 || said > size {
        return Err(Error::malformed(
            "shared memory is shorter than the welcome says",
        ));
    }
    usize::try_from(said).map_err(|_wide| {
        Error::new(
            Status::NotSupported,
            "the arena does not fit this process's address space",
        )
    })
}

fn kernel(error: io::Error) -> Error {
    Error::new(
        Status::Internal,
        "the kernel refuses a session's memory or socket",
    )
    .with_source(error)
}

fn odd(error: &chariot_shm::AttachError) -> Error {
    Error::new(Status::Malformed, error.to_string())
}
