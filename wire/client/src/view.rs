//! Bytes of a value, in place: shared memory under a pin, or an owned copy.
//!
//! ```text
//! View -> PinnedBytes -> Arc<LocalSession> -> mappings      (local: the pin is released on drop)
//! View -> Box<[u8]>                                          (remote, or no pin slot was free)
//! ```
//! A pinned view is immutable and stays valid for as long as it lives: also when the key is
//! overwritten or deleted, when the client is dropped, and when the daemon dies, because the view
//! keeps the mapping. In a forked child it reads as empty and its drop touches nothing.

use std::fmt;
use std::ops::Deref;

use crate::local::PinnedBytes;
use crate::options::Version;
use crate::region::Placement;

/// The bytes of one value, without a copy where shared memory is used.
///
/// Owns its pin: the daemon does not reuse the memory before the view is dropped. Lives on: any
/// thread.
pub struct View {
    bytes: Bytes,
    version: Version,
}

enum Bytes {
    Pinned(PinnedBytes),
    Owned(Box<[u8]>),
}

impl View {
    pub(crate) fn pinned(bytes: PinnedBytes, version: Version) -> Self {
        Self {
            bytes: Bytes::Pinned(bytes),
            version,
        }
    }

    pub(crate) fn owned(bytes: Box<[u8]>, version: Version) -> Self {
        Self {
            bytes: Bytes::Owned(bytes),
            version,
        }
    }

    /// The version of the value, or the zero version where the transport does not tell it.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the bytes lie in shared memory; `None` when they are a copy.
    pub fn placement(&self) -> Option<Placement> {
        match &self.bytes {
            Bytes::Pinned(bytes) => Some(bytes.placement()),
            Bytes::Owned(_) => None,
        }
    }

    /// Whether the bytes lie in shared memory (and hold a pin there) rather than in a copy.
    pub fn is_pinned(&self) -> bool {
        matches!(self.bytes, Bytes::Pinned(_))
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Pinned(bytes) => bytes.as_slice(),
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("len", &self.len())
            .field("version", &self.version)
            .field("pinned", &self.is_pinned())
            .finish_non_exhaustive()
    }
}
