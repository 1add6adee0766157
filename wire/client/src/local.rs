//! The local transport: a session over the daemon's unix socket, and shared memory after that.
//!
//! ```text
//!   Client ─▶ Core ─▶ LocalSession ─▶ Engine ─▶ ShardPort ─▶ rings (chariot-shm)
//!                        │                         └ leases, pins
//!                        └ arena: read mapping, windows to write
//! ```
//! A session lives until its last view and write buffer are gone; a daemon that died is known by
//! its life word, and the session is then of no further use but for what is already pinned.

mod arena;
mod birth;
mod buffers;
mod driver;
mod early_bell;
mod engine;
#[cfg(test)]
pub(crate) mod fake;
mod jobs;
mod lease_cache;
mod lookup;
mod device_job;
mod object_job;
mod operations;
mod port;
mod staging;
mod switches;
mod windows;
mod write_job;

#[cfg(test)]
mod lookup_tests;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use chariot_proto::message::{Bye, OpenRing, RingOpened};
use chariot_proto::{KeyHash, KeySecret, Opcode, Status};
use chariot_shm::index::IndexReader;
use chariot_shm::{ClientSession, ForkGuard, LifeView, NoteWriter, PinTable, Waiter};

use self::arena::{Arena, Writing};
use self::driver::Driver;
use self::lease_cache::{LeaseCache, LeaseSlot};
use self::object_job::TxNumbers;
use self::port::{NewLease, PortState, ReapSink};
use self::staging::Staging;
use crate::error::Error;
use crate::handshake::Conversation;
use crate::options::ReadPath;
use crate::stats::Counters;

pub(crate) use self::buffers::{LeasedBytes, PinnedBytes};
pub(crate) use self::device_job::{DeviceAsk, DeviceReply};
pub(crate) use self::object_job::{LATCH_RELEASE, ObjectAsk};
pub(crate) use self::write_job::Reserve;

/// Which mapping of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegionKind {
    /// The arena, to read.
    Reading,
    /// The arena through its windows, or the staging memory.
    Writing,
}

/// Memory for one value that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A leased slot of the arena.
    Lease(LeaseSlot),
    /// A range of the staging memory.
    Staging { offset: u64, len: u64 },
}

impl Place {
    fn offset(self) -> u64 {
        match self {
            Self::Lease(slot) => slot.offset,
            Self::Staging { offset, .. } => offset,
        }
    }
}

/// What a session was told at its birth, and what the options chose.
#[derive(Debug)]
struct Terms {
    key_secret: KeySecret,
    shard_count: u16,
    boot_id: u64,
    value_max: u64,
    spin: Duration,
    checksum: bool,
    request_timeout: Duration,
    read_path: ReadPath,
    /// What the index does not know may lie in another tier of the node.
    has_lower_tier: bool,
}

/// One shard of the session: its lock, its pins, its bell.
#[derive(Debug)]
struct ShardPort {
    shard: u16,
    state: Mutex<PortState>,
    pins: PinTable,
    bell: OnceLock<OwnedFd>,
    /// The shard's index of this tenant.
    index: IndexReader,
    /// Where reads through the index are noted.
    notes: NoteWriter,
}

impl ShardPort {
    fn lock(&self) -> MutexGuard<'_, PortState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pins(&self) -> &PinTable {
        &self.pins
    }

    fn shard(&self) -> u16 {
        self.shard
    }

    /// Wakes the shard: it has said that it does not poll this ring.
    fn ring_bell(&self) -> Result<(), Error> {
        let bell = self.bell.get().expect("an open ring has its bell");
        let one = 1_u64;
        // SAFETY: `one` is eight live bytes, and the descriptor is ours and open.
        let written = unsafe { libc::write(bell.as_raw_fd(), (&raw const one).cast(), 8) };
        if written == 8 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        // A full counter means that the shard has been rung already.
        if error.kind() == std::io::ErrorKind::WouldBlock {
            return Ok(());
        }
        Err(Error::restarting().with_source(error))
    }
}

/// A session with the daemon of this host.
///
/// Lives on: any thread; shared by clients, views and write buffers.
#[derive(Debug)]
pub(crate) struct LocalSession {
    // Mappings come last in drop order only by convention: nothing here points into another field.
    fork: ForkGuard,
    control: Mutex<Conversation<UnixStream>>,
    ports: Box<[ShardPort]>,
    memory: ClientSession,
    life: LifeView,
    arena: Arena,
    terms: Terms,
    /// The client's.
    counters: Arc<Counters>,
    broken: AtomicBool,
    driver: Driver,
    /// Numbers of transactions that must not be given again yet.
    tx_numbers: Mutex<TxNumbers>,
    /// This session, for its driver.
    weak: Weak<Self>,
}

impl LocalSession {
    /// Whether the daemon of this session lives and serves it. Three loads.
    pub(crate) fn is_alive(&self) -> bool {
        let lives = self.life.is_alive() || !switches::is_off(switches::Switch::Life);
        !self.broken.load(Ordering::Relaxed) && lives && !self.memory.is_expelled()
    }

    /// Whether the daemon has expelled this session.
    pub(crate) fn is_expelled(&self) -> bool {
        self.memory.is_expelled()
    }

    /// Whether this is the process that opened the session, and not a forked child of it.
    pub(crate) fn is_same_process(&self) -> bool {
        self.fork.is_same_process()
    }

    /// The random number of the daemon's start.
    pub(crate) fn boot_id(&self) -> u64 {
        self.terms.boot_id
    }

    fn check_alive(&self) -> Result<(), Error> {
        if self.memory.is_expelled() {
            return Err(Error::from_status(Status::Expelled));
        }
        if self.is_alive() {
            Ok(())
        } else {
            Err(Error::restarting())
        }
    }

    /// Address and length of a mapping.
    pub(crate) fn region(&self, kind: RegionKind) -> (usize, usize) {
        let mapping = match (kind, &self.arena.writing) {
            (RegionKind::Reading, _) => &self.arena.reading,
            (
                RegionKind::Writing,
                Writing::Leases { mapping, .. } | Writing::Staging { mapping, .. },
            ) => mapping,
        };
        (mapping.base().as_ptr() as usize, mapping.len())
    }

    /// Whether the writing region is the arena too, rather than staging memory.
    pub(crate) fn writes_into_the_arena(&self) -> bool {
        matches!(self.arena.writing, Writing::Leases { .. })
    }

    /// Opens pages as if they were leased, until [`Self::close_pages`].
    pub(crate) fn open_pages(&self, range: &Range<usize>) -> std::io::Result<()> {
        let (offset, len) = (range.start as u64, range.len() as u64);
        self.arena.open_window(offset, len, 1)
    }

    /// Ends one [`Self::open_pages`].
    pub(crate) fn close_pages(&self, range: &Range<usize>) {
        self.arena
            .leave_window(range.start as u64, range.len() as u64);
    }

    fn shard_count(&self) -> u16 {
        self.terms.shard_count
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash::of(&self.terms.key_secret, key)
    }

    fn spin_ns(&self) -> u64 {
        u64::try_from(self.terms.spin.as_nanos()).unwrap_or(u64::MAX)
    }

    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn staging(&self) -> Option<&Mutex<Staging>> {
        match &self.arena.writing {
            Writing::Staging { free, .. } => Some(free),
            Writing::Leases { .. } => None,
        }
    }

    fn port(&self, shard: u16) -> &ShardPort {
        &self.ports[usize::from(shard)]
    }

    fn wake_at_tick(&self, waker: &Waker) {
        self.driver.wake_at_tick(waker);
    }

    fn start_waiting(&self) -> Waiter<'_> {
        self.memory.start_waiting()
    }

    /// Locks a port and opens its ring if this is its first use.
    fn lock_open<'a>(&self, port: &'a ShardPort) -> Result<MutexGuard<'a, PortState>, Error> {
        let mut state = port.lock();
        if state.ring.is_none() {
            self.open_ring(port, &mut state)?;
        }
        Ok(state)
    }

    #[cold]
    fn open_ring(&self, port: &ShardPort, state: &mut PortState) -> Result<(), Error> {
        self.check_alive()?;
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let request = OpenRing { shard: port.shard };
        let opened: Result<RingOpened, Error> = control.exchange(Opcode::OpenRing, &request);
        let bell = control.fds.pop();
        match (opened, bell) {
            (Ok(opened), Some(bell)) if opened.shard == port.shard => {
                port.bell.set(bell).expect("a ring is opened once");
                let ring = self.memory.ring(port.shard);
                state.ring = Some(ring.expect("a ring is opened once"));
                Ok(())
            },
            (Ok(_), _) => Err(self.give_up(Error::malformed("a ring was opened without its bell"))),
            (Err(error), _) => Err(self.give_up(error)),
        }
    }

    /// Moves what has finished on a port into its slots.
    fn reap(&self, port: &ShardPort, state: &mut PortState) -> Result<(), Error> {
        let mut sink = Arrivals {
            session: self,
            failed: None,
        };
        let reaped = state.reap(&port.pins, self.arena.len(), &mut sink);
        let failed = sink.failed;
        match (reaped, failed) {
            (Ok(()), None) => {},
            (Err(error), _) | (Ok(()), Some(error)) => return Err(self.give_up(error)),
        }
        for (offset, slot_len) in state.left_slots.drain(..) {
            self.arena.leave_window(offset, slot_len);
        }
        Ok(())
    }

    /// No more requests go over this session: its daemon is gone, or wrote nonsense.
    fn give_up(&self, error: Error) -> Error {
        self.broken.store(true, Ordering::Relaxed);
        error
    }

    /// Reaps every open ring, and says whether anything had finished.
    fn reap_all(&self) -> bool {
        let mut moved = false;
        for port in &self.ports {
            let mut state = port.lock();
            let before = state.in_flight();
            // A session that is given up wakes its futures at the next tick.
            if self.reap(port, &mut state).is_ok() {
                moved |= state.in_flight() != before;
            }
        }
        moved
    }

    /// Wakes every future that waits for an answer.
    fn wake_all(&self) {
        for port in &self.ports {
            port.lock().wake_all();
        }
    }

    fn free_staging(&self, offset: u64, len: u64) {
        let staging = self.staging().expect("staging memory was taken from here");
        staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .give_back(offset, len);
    }

    /// Puts memory back that was placed for a key and never published.
    fn unplace(&self, hash: KeyHash, place: Place) {
        match place {
            Place::Lease(slot) => {
                let port = self.port(hash.shard(self.shard_count()));
                let mut state = port.lock();
                state.put_back(slot);
                // Nobody may call for long: what is no use here goes back at once.
                if state.ring.is_some() && state.return_surplus() && state.publish() {
                    drop(state);
                    if let Err(error) = port.ring_bell() {
                        self.give_up(error);
                    }
                }
            },
            Place::Staging { offset, len } => self.free_staging(offset, len),
        }
    }
}

impl Drop for LocalSession {
    fn drop(&mut self) {
        if self.is_same_process() {
            let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
            // A farewell frees what the session held at once; without it the socket's end does.
            drop(control.send(Opcode::Bye, &Bye { reason: 0 }));
            self.driver.unpark();
        }
    }
}

/// Hears of leases and free staging memory while a port is reaped.
struct Arrivals<'a> {
    session: &'a LocalSession,
    failed: Option<Error>,
}

impl ReapSink for Arrivals<'_> {
    fn on_lease(&mut self, leases: &mut LeaseCache, lease: NewLease) {
        match self
            .session
            .arena
            .open_window(lease.offset, lease.slot_len, lease.slots)
        {
            Ok(()) => leases.add(lease.offset, lease.slot_len, lease.slots, lease.class),
            Err(error) => {
                let cause = "cannot make leased memory writable";
                self.failed = Some(Error::new(Status::Internal, cause).with_source(error));
            },
        }
    }

    fn on_staging_free(&mut self, offset: u64, len: u64) {
        self.session.free_staging(offset, len);
    }
}
