//! Where values lie in a session's shared memory, for accelerators that copy from and to it.
//!
//! A card reaches host memory by address, and quickly only where the memory was registered with its
//! driver, by pages. So its owner has to know more than a value's bytes: the mapping they lie in,
//! how long that is, and that it stands. A [`Region`] is such a mapping and keeps it; nothing here
//! reads or writes a byte.
//!
//! ```text
//!   View ────────▶ Placement { region: reading, offset } ──through_writing()──┐
//!   WriteBuffer ─▶ Placement { region: writing, offset } ◀────────────────────┘ (trusted sessions)
//! ```
//! Pages of the arena are never given back to the kernel while its daemon lives, so what was
//! registered stays what is mapped.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::local::{LocalSession, RegionKind};

/// A mapping of a session's shared memory. Keeps the session, and so the mapping. Cloning counts.
/// Lives on: any thread.
#[derive(Clone)]
pub struct Region {
    session: Arc<LocalSession>,
    kind: RegionKind,
}

/// Where the first byte of a value lies.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The mapping.
    pub region: Region,
    /// First byte in it.
    pub offset: usize,
}

impl Region {
    pub(crate) fn new(session: Arc<LocalSession>, kind: RegionKind) -> Self {
        Self { session, kind }
    }

    /// Address of the first byte in this process. Bytes may be read everywhere in the region, and
    /// be written where an unpublished value lies.
    pub fn address(&self) -> usize {
        self.session.region(self.kind).0
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an arena has bytes")]
    pub fn len(&self) -> usize {
        self.session.region(self.kind).1
    }

    /// Whether values that are being written lie in it; otherwise its pages are read-only.
    pub fn is_writing(&self) -> bool {
        self.kind == RegionKind::Writing
    }

    /// Whether both are the same mapping of the same session.
    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && Arc::ptr_eq(&self.session, &other.session)
    }

    /// Whether its session is of use; mappings stay readable when it is not.
    pub fn is_alive(&self) -> bool {
        self.session.is_alive()
    }

    /// Lets pages of the writing region be written for as long as the result is held, so that a
    /// driver can lock them for writing. Nobody is to write there but where values of their own
    /// lie.
    ///
    /// # Errors
    ///
    /// The kernel's, when it does not change the pages' protection.
    ///
    /// # Panics
    ///
    /// When the range is empty or leaves the region.
    pub fn open(&self, range: Range<usize>) -> io::Result<OpenPages> {
        assert!(range.start < range.end, "a range has bytes");
        assert!(range.end <= self.len(), "inside the region");
        if self.is_writing() {
            self.session.open_pages(&range)?;
        }
        Ok(OpenPages {
            region: self.clone(),
            range,
        })
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, len) = (self.kind, self.len());
        write!(f, "Region({kind:?}, {:#x}, {len} bytes)", self.address())
    }
}

impl Placement {
    /// The same bytes through the session's writing region, where that maps the same memory: one
    /// registration serves both directions then. `None` for strict sessions.
    #[must_use]
    pub fn through_writing(&self) -> Option<Self> {
        let shared = self.region.session.writes_into_the_arena();
        shared.then(|| Self {
            region: Region::new(Arc::clone(&self.region.session), RegionKind::Writing),
            offset: self.offset,
        })
    }
}

/// Pages that may be written; see [`Region::open`].
#[derive(Debug)]
pub struct OpenPages {
    region: Region,
    range: Range<usize>,
}

impl Drop for OpenPages {
    fn drop(&mut self) {
        let session = &self.region.session;
        if self.region.is_writing() && session.is_same_process() {
            session.close_pages(&self.range);
        }
    }
}
