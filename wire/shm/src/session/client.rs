//! The client's side of a session.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::doorbell::Waiter;
use crate::layout::{LAYOUT_VERSION, SESSION_RO_MAGIC, SESSION_RW_MAGIC, SHARDS_MAX, ro, rw};
use crate::map::Mapping;
use crate::mapped::MappedMemory;
use crate::notes::NoteWriter;
use crate::pins::PinTable;
use crate::ring::ClientRing;
use crate::session::{AttachError, SessionGeometry};
use crate::sync::Memory;
use crate::sys;

/// A session's memories as its client sees them.
///
/// Lives on: any threads of the client process; each part ([`ClientRing`], [`PinTable`],
/// [`NoteWriter`]) says its own rule.
#[derive(Debug)]
pub struct ClientSession {
    rw: MappedMemory,
    ro: MappedMemory,
    geometry: SessionGeometry,
    session_id: u64,
    rings: AtomicU64,
    pins: AtomicU64,
}

impl ClientSession {
    /// Maps the two memories whose descriptors the daemon sent, after a look at their sizes, first
    /// words and versions.
    ///
    /// # Errors
    ///
    /// [`AttachError`]: not a session of a daemon that this client understands.
    pub fn attach(
        read_write: BorrowedFd<'_>,
        read_only: BorrowedFd<'_>,
    ) -> Result<Self, AttachError> {
        let (rw, rw_shards) = open(read_write, &RW)?;
        let (ro, ro_shards) = open(read_only, &RO)?;
        if rw_shards != ro_shards {
            let (size, shard_count) = (rw.len() as u64, u32::from(rw_shards));
            return Err(AttachError::Geometry {
                memory: RW.name,
                size,
                shard_count,
            });
        }
        let session_id = ro.load64(ro::SESSION_ID);
        let geometry = SessionGeometry::new(ro_shards);
        let (rings, pins) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self {
            rw,
            ro,
            geometry,
            session_id,
            rings,
            pins,
        })
    }

    /// Answers the geometry.
    pub fn geometry(&self) -> SessionGeometry {
        self.geometry
    }

    /// Answers the session's id.
    pub fn session_id(&self) -> u64 {
        self.session_id
    }

    /// Takes the client's end of the rings on `shard`; `None` when it was taken before.
    ///
    /// # Panics
    ///
    /// When the node has no such shard.
    pub fn ring(&self, shard: u16) -> Option<ClientRing> {
        let free = self.claim(&self.rings, shard);
        free.then(|| ClientRing::new(self.rw.clone(), self.ro.clone(), shard))
    }

    /// Takes the pin table on `shard`; `None` when it was taken before.
    ///
    /// # Panics
    ///
    /// When the node has no such shard.
    pub fn pins(&self, shard: u16) -> Option<PinTable> {
        self.claim(&self.pins, shard)
            .then(|| PinTable::new(self.rw.clone(), shard))
    }

    /// Answers a writer of recency notes on `shard`; any number may exist.
    ///
    /// # Panics
    ///
    /// When the node has no such shard.
    pub fn notes(&self, shard: u16) -> NoteWriter {
        assert!(shard < self.geometry.shard_count());
        NoteWriter::new(self.rw.clone(), shard)
    }

    /// Announces that this thread is about to wait for completions of any shard. Look at the rings
    /// again after this call, and only then wait.
    pub fn start_waiting(&self) -> Waiter<'_> {
        Waiter::start(&self.rw, &self.ro)
    }

    /// Says whether the daemon refuses this session's requests.
    #[inline]
    pub fn is_expelled(&self) -> bool {
        self.ro.load32(ro::EXPELLED) != 0
    }

    fn claim(&self, claimed: &AtomicU64, shard: u16) -> bool {
        assert!(shard < self.geometry.shard_count());
        let bit = 1 << shard;
        claimed.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// What tells one of the two memories from anything else.
struct Kind {
    name: &'static str,
    magic: u64,
    size: fn(SessionGeometry) -> usize,
    map: fn(BorrowedFd<'_>, u64, usize) -> std::io::Result<Mapping>,
}

const RW: Kind = Kind {
    name: "session memory",
    magic: SESSION_RW_MAGIC,
    size: SessionGeometry::rw_size,
    map: Mapping::read_write,
};

const RO: Kind = Kind {
    name: "daemon's session memory",
    magic: SESSION_RO_MAGIC,
    size: SessionGeometry::ro_size,
    map: Mapping::read_only,
};

const _: () = assert!(rw::MAGIC == ro::MAGIC);
const _: () = assert!(rw::LAYOUT == ro::LAYOUT);
const _: () = assert!(rw::SHARD_COUNT == ro::SHARD_COUNT);

fn open(fd: BorrowedFd<'_>, kind: &Kind) -> Result<(MappedMemory, u16), AttachError> {
    let memory = kind.name;
    let size = sys::file_size(fd)?;
    let geometry = |shard_count| AttachError::Geometry {
        memory,
        size,
        shard_count,
    };
    let len = usize::try_from(size).map_err(|_overflow| geometry(0))?;
    if len < (kind.size)(SessionGeometry::new(1))
        || len > (kind.size)(SessionGeometry::new(SHARDS_MAX))
    {
        return Err(geometry(0));
    }
    let mapped = MappedMemory::new((kind.map)(fd, 0, len)?);
    let found = mapped.load64(ro::MAGIC);
    if found != kind.magic {
        return Err(AttachError::Magic { memory, found });
    }
    let found = mapped.load32(ro::LAYOUT);
    if found != LAYOUT_VERSION {
        return Err(AttachError::Version {
            memory,
            found,
            known: LAYOUT_VERSION,
        });
    }
    let shard_count = mapped.load32(ro::SHARD_COUNT);
    let valid = u16::try_from(shard_count)
        .ok()
        .filter(|count| (1..=SHARDS_MAX).contains(count));
    let shards = valid.ok_or_else(|| geometry(shard_count))?;
    if len != (kind.size)(SessionGeometry::new(shards)) {
        return Err(geometry(shard_count));
    }
    Ok((mapped, shards))
}
