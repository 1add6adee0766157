//! One session's two memories: made by the daemon, attached by the client.
//!
//! ```text
//!   RW memory (both write)            RO memory (the daemon writes; the client's fd is read-only)
//!   0      header 64 KiB              0      header 64 KiB: doorbell, expelled
//!   64K    shard 0: 512 KiB           64K    shard 0: 16 KiB
//!   576K   shard 1 …                  80K    shard 1 …
//! ```
//!
//! Both are sparse: an area that no ring was opened for costs address space only.
//! Every byte is drawn in `wire/SHARED-MEMORY.md` §3.

mod client;
mod server;

pub use client::ClientSession;
pub use server::{ServerSession, SessionDescriptors};

use std::io;

use crate::layout::{HEADER_SIZE, SHARDS_MAX, ro, rw};

/// How large a session's memories are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionGeometry {
    shard_count: u16,
}

impl SessionGeometry {
    /// Describes a session with a node of `shard_count` shards.
    ///
    /// # Panics
    ///
    /// When `shard_count` is not 1 to 64.
    pub fn new(shard_count: u16) -> Self {
        assert!(shard_count >= 1);
        assert!(shard_count <= SHARDS_MAX);
        Self { shard_count }
    }

    /// Answers the number of shards.
    pub fn shard_count(self) -> u16 {
        self.shard_count
    }

    /// Answers the size in bytes of the memory that both sides write.
    pub fn rw_size(self) -> usize {
        HEADER_SIZE + usize::from(self.shard_count) * rw::STRIDE
    }

    /// Answers the size in bytes of the memory that only the daemon writes, a multiple of 64 KiB.
    pub fn ro_size(self) -> usize {
        (HEADER_SIZE + usize::from(self.shard_count) * ro::STRIDE)
            .next_multiple_of(crate::layout::PAGE_MAX)
    }
}

/// Says why a client cannot attach to descriptors it was given. The daemon (or whoever claims to be
/// it) must be replaced by one that this client understands.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused a mapping or a look at a descriptor.
    #[error("cannot map session memory")]
    Kernel(#[from] io::Error),
    /// A first word is not the one of this memory.
    #[error("descriptor holds no {memory}: first word is {found:#x}")]
    Magic {
        /// Which memory was expected.
        memory: &'static str,
        /// The first word found.
        found: u64,
    },
    /// The layout is of another version.
    #[error("{memory} has layout version {found}, this client knows {known}")]
    Version {
        /// Which memory.
        memory: &'static str,
        /// The version found.
        found: u32,
        /// The version known.
        known: u32,
    },
    /// The memory is shorter than its layout, or says another number of shards.
    #[error("{memory} of {size} bytes for {shard_count} shards does not fit together")]
    Geometry {
        /// Which memory.
        memory: &'static str,
        /// Size of the descriptor in bytes.
        size: u64,
        /// Number of shards that it claims.
        shard_count: u32,
    },
}

#[cfg(test)]
mod tests;
