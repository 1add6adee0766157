//! Objects on a card: fragments, and how they are cut into chunks and pieces.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use chariot_client::KeyHash;
use chariot_client::device::{DeviceShape, Lifetime};
use chariot_device::DeviceMemory;

use crate::error::PeerError;

/// A fragment of an object: `len` bytes of device memory from `at` on.
#[derive(Clone, Debug)]
pub struct DeviceBlob {
    /// The memory; held until nothing is copied any more.
    pub memory: DeviceMemory,
    /// First byte.
    pub at: usize,
    /// Number of bytes, at least 1.
    pub len: usize,
}

/// A key and the fragments of its object.
#[derive(Clone, Debug)]
pub struct DeviceObject {
    /// The key.
    pub key: Vec<u8>,
    /// In order; at least one.
    pub blobs: Vec<DeviceBlob>,
}

/// A range of one blob, inside one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) blob: usize,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// An object of this port: offered, or on its way here.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) hash: KeyHash,
    pub(crate) blobs: Vec<DeviceBlob>,
    pub(crate) shape: DeviceShape,
    pub(crate) lifetime: Lifetime,
    /// First byte of each blob in the object.
    starts: Vec<u64>,
    /// Bytes of a chunk, as a power of two; 0 until it is known.
    chunk_log2: AtomicU32,
    /// Chunks that are here, from the first on.
    have: AtomicU64,
    /// Receivers being served.
    serving: AtomicU32,
}

impl Held {
    /// Checks the blobs of an object.
    pub(crate) fn new(
        hash: KeyHash,
        blobs: &[DeviceBlob],
        lifetime: Lifetime,
    ) -> Result<Self, PeerError> {
        for blob in blobs {
            let end = blob.at.checked_add(blob.len);
            if blob.len == 0 || end.is_none_or(|end| end > blob.memory.len()) {
                return Err(PeerError::Invalid(
                    "got empty parameters or an illegal size in devBlobList",
                ));
            }
        }
        let shape = DeviceShape::of(blobs.iter().map(|blob| blob.len as u64));
        let shape = shape.map_err(|_odd| {
            PeerError::Invalid("got empty parameters or an illegal size in devBlobList")
        })?;
        let mut starts = Vec::with_capacity(blobs.len());
        let mut at = 0;
        for blob in blobs {
            starts.push(at);
            at += blob.len as u64;
        }
        assert_eq!(at, shape.bytes());
        Ok(Self {
            hash,
            blobs: blobs.to_vec(),
            shape,
            lifetime,
            starts,
            chunk_log2: AtomicU32::new(0),
            have: AtomicU64::new(0),
            serving: AtomicU32::new(0),
        })
    }

    pub(crate) fn chunk_log2(&self) -> Option<u8> {
        let known = self.chunk_log2.load(Ordering::Acquire);
        u8::try_from(known).ok().filter(|log2| *log2 != 0)
    }

    /// The directory has said how the object is cut. Another cut than before is refused: what is
    /// here was counted in the first.
    pub(crate) fn cut(&self, log2: u8) -> bool {
        let known = self.chunk_log2.load(Ordering::Acquire);
        if known == 0 && chariot_client::device::CHUNK_LOG2.contains(&log2) {
            self.chunk_log2.store(log2.into(), Ordering::Release);
            return true;
        }
        known == u32::from(log2)
    }

    /// Number of its chunks; nothing before [`Self::cut`].
    pub(crate) fn chunks(&self) -> u64 {
        self.chunk_log2().map_or(0, |log2| self.shape.chunks(log2))
    }

    pub(crate) fn have(&self) -> u64 {
        self.have.load(Ordering::Acquire)
    }

    pub(crate) fn set_have(&self, chunks: u64) {
        self.have.store(chunks, Ordering::Release);
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.chunk_log2().is_some() && self.have() >= self.chunks()
    }

    pub(crate) fn serve(&self) {
        self.serving.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn served(&self) {
        let before = self.serving.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "an end has a beginning");
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire) > 0
    }

    /// The pieces of a chunk, in order: the same at both ends, as their shapes are equal.
    pub(crate) fn pieces(&self, chunk: u64) -> Vec<Piece> {
        let log2 = self.chunk_log2().expect("known before chunks are named");
        let start = chunk << log2;
        let end = (start + (1 << log2)).min(self.shape.bytes());
        let mut pieces = Vec::new();
        // The last blob that starts at or before the chunk.
        let mut blob = self.starts.partition_point(|first| *first <= start) - 1;
        let mut at = start;
        while at < end {
            let inside = at - self.starts[blob];
            let left = self.blobs[blob].len as u64 - inside;
            let len = left.min(end - at);
            pieces.push(Piece {
                blob,
                at: self.blobs[blob].at + to_usize(inside),
                len: to_usize(len),
            });
            at += len;
            blob += 1;
        }
        pieces
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("inside a blob, which is mapped")
}
