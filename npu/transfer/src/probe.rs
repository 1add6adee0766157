//! What the core counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan::Path;

/// Objects' bytes and batches that went one way.
#[derive(Debug, Default)]
pub struct PathCount {
    batches: AtomicU64,
    bytes: AtomicU64,
}

impl PathCount {
    /// Batches.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Counters of one core, only rising.
#[derive(Debug, Default)]
pub struct Probe {
    direct: PathCount,
    queued: PathCount,
    gathered: PathCount,
    each: PathCount,
    pub(crate) staged_bytes: AtomicU64,
    pub(crate) full: AtomicU64,
    pub(crate) aborts: AtomicU64,
    pub(crate) isolated: AtomicU64,
    pub(crate) cpu_ns: AtomicU64,
}

impl Probe {
    /// Batches and bytes of a way.
    #[must_use]
    pub fn path(&self, path: Path) -> &PathCount {
        match path {
            Path::Direct => &self.direct,
            Path::Queued => &self.queued,
            Path::Gathered => &self.gathered,
            Path::Each => &self.each,
        }
    }

    pub(crate) fn moved(&self, path: Path, bytes: u64) {
        self.path(path).add(bytes);
    }

    /// Bytes that went through page-locked staging, because their memory was not registered.
    #[must_use]
    pub fn staged_bytes(&self) -> u64 {
        self.staged_bytes.load(Ordering::Relaxed)
    }

    /// Transfers that were refused because the queue was full.
    #[must_use]
    pub fn full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    /// Streams that were aborted at a deadline.
    #[must_use]
    pub fn aborts(&self) -> u64 {
        self.aborts.load(Ordering::Relaxed)
    }

    /// Parts that were moved again alone, because their batch had failed.
    #[must_use]
    pub fn isolated(&self) -> u64 {
        self.isolated.load(Ordering::Relaxed)
    }

    /// CPU time of the lanes in nanoseconds. Time that a driver's call burns is in it.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }
}
