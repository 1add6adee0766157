//! The daemon's side of a session's birth, life and expulsion.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::doorbell;
use crate::layout::{LAYOUT_VERSION, SESSION_RO_MAGIC, SESSION_RW_MAGIC, ro, rw};
use crate::map::{Mapping, Memfd, MemfdOptions};
use crate::mapped::MappedMemory;
use crate::ring::ServerRing;
use crate::session::SessionGeometry;
use crate::sync::Memory;

/// The two descriptors that a client receives.
#[derive(Debug)]
pub struct SessionDescriptors {
    rw: Memfd,
    ro: OwnedFd,
}

impl SessionDescriptors {
    /// Lends the descriptor of the memory that both sides write.
    pub fn read_write(&self) -> BorrowedFd<'_> {
        self.rw.fd()
    }

    /// Lends the read-only descriptor of the memory that only the daemon writes.
    pub fn read_only(&self) -> BorrowedFd<'_> {
        self.ro.as_fd()
    }
}

/// A session's memories as the daemon sees them. Clones share them.
///
/// Lives on: any shard; each shard takes its own [`ServerRing`].
#[derive(Clone, Debug)]
pub struct ServerSession {
    rw: MappedMemory,
    ro: MappedMemory,
    geometry: SessionGeometry,
    /// One bit per shard whose ring was taken.
    taken: Arc<AtomicU64>,
}

impl ServerSession {
    /// Makes both memories of a new session and the descriptors to send to its client.
    ///
    /// # Errors
    ///
    /// The kernel's: no descriptors or no address space left.
    pub fn create(
        geometry: SessionGeometry,
        session_id: u64,
    ) -> io::Result<(Self, SessionDescriptors)> {
        let rw = Memfd::create(
            "chariot-session-rw",
            geometry.rw_size() as u64,
            MemfdOptions::default(),
        )?;
        let ro = Memfd::create(
            "chariot-session-ro",
            geometry.ro_size() as u64,
            MemfdOptions::default(),
        )?;
        let session = Self {
            rw: MappedMemory::new(Mapping::read_write(rw.fd(), 0, geometry.rw_size())?),
            ro: MappedMemory::new(Mapping::read_write(ro.fd(), 0, geometry.ro_size())?),
            geometry,
            taken: Arc::new(AtomicU64::new(0)),
        };
        session.write_headers(session_id);
        let descriptors = SessionDescriptors {
            ro: ro.read_only()?,
            rw,
        };
        Ok((session, descriptors))
    }

    /// Counts the bytes of both memories that have pages now, whichever side touched them.
    ///
    /// # Errors
    ///
    /// The kernel's; see [`Mapping::resident_bytes`].
    pub fn resident_bytes(&self) -> io::Result<u64> {
        Ok(self.rw.mapping().resident_bytes()? + self.ro.mapping().resident_bytes()?)
    }

    /// Answers the geometry.
    pub fn geometry(&self) -> SessionGeometry {
        self.geometry
    }

    /// Takes the shard's end of this session's rings on `shard`; `None` when it was taken before.
    ///
    /// # Panics
    ///
    /// When the node has no such shard.
    pub fn ring(&self, shard: u16) -> Option<ServerRing> {
        assert!(shard < self.geometry.shard_count());
        let bit = 1 << shard;
        let before = self.taken.fetch_or(bit, Ordering::Relaxed);
        (before & bit == 0).then(|| ServerRing::new(self.rw.clone(), self.ro.clone(), shard))
    }

    /// Wakes the session's waiting threads, if any; see [`ServerRing::wake_if_waiting`].
    pub fn wake_if_waiting(&self) -> bool {
        doorbell::wake_if_waiting(&self.rw, &self.ro)
    }

    /// Tells the client that its requests are refused from now on, and wakes it.
    pub fn expel(&self) {
        self.ro.store32(ro::EXPELLED, 1);
        self.wake_if_waiting();
    }

    fn write_headers(&self, session_id: u64) {
        let shard_count = u32::from(self.geometry.shard_count());
        self.rw.store64(rw::MAGIC, SESSION_RW_MAGIC);
        self.rw.store32(rw::LAYOUT, LAYOUT_VERSION);
        self.rw.store32(rw::SHARD_COUNT, shard_count);
        self.ro.store64(ro::MAGIC, SESSION_RO_MAGIC);
        self.ro.store32(ro::LAYOUT, LAYOUT_VERSION);
        self.ro.store32(ro::SHARD_COUNT, shard_count);
        self.ro.store64(ro::SESSION_ID, session_id);
        for shard in 0..self.geometry.shard_count() {
            // Nobody polls a ring before its shard has opened it.
            self.ro
                .store32(crate::layout::ro_area(shard) + ro::SLEEPING, 1);
        }
    }
}
