//! The device side of an object: fragments of one card's memory, in order.

use std::any::Any;
use std::sync::Arc;

use chariot_client::{Error, Status};
use chariot_device::{Device, DeviceMemory};

/// A range of device memory.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The memory; held until the call is over.
    pub memory: DeviceMemory,
    /// First byte in it.
    pub at: usize,
    /// Length in bytes, at least 1.
    pub len: usize,
}

/// The blobs of one object, all on one card.
#[derive(Clone, Debug)]
pub struct BlobList {
    device: Device,
    blobs: Vec<Blob>,
}

fn bad_size(len: usize) -> Error {
    let cause = format!("Got empty or illegal size in devBlobList and the illegal size is: {len}");
    Error::new(Status::InvalidArgument, cause)
}

impl BlobList {
    /// Makes a list of ranges of memory that is counted.
    ///
    /// # Errors
    ///
    /// [`Status::InvalidArgument`]: no blobs, an empty one, one that leaves its memory or is
    /// another card's.
    pub fn new(device: Device, blobs: Vec<Blob>) -> Result<Self, Error> {
        if blobs.is_empty() {
            return Err(bad_size(0));
        }
        for Blob { memory, at, len } in &blobs {
            let inside = at.checked_add(*len).is_some_and(|end| end <= memory.len());
            if *len == 0 || !inside {
                return Err(bad_size(*len));
            }
            if !memory.is_on(&device) {
                let cause = "a blob of another card than its list's";
                return Err(Error::new(Status::InvalidArgument, cause));
            }
        }
        Ok(Self { device, blobs })
    }

    /// Makes a list of memory that somebody else allocated: addresses and lengths in bytes.
    ///
    /// # Errors
    ///
    /// [`Status::InvalidArgument`]: no blobs, or one that is at 0 or empty.
    ///
    /// # Safety
    ///
    /// Every range is memory of the card (for the host's own memory: mapped, and not reached by
    /// Rust references during the call) for as long as `keep` is held; ranges that are written do
    /// not overlap.
    pub unsafe fn foreign(
        device: Device,
        ranges: &[(usize, usize)],
        keep: &Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, Error> {
        if ranges.is_empty() {
            return Err(bad_size(0));
        }
        let mut blobs = Vec::with_capacity(ranges.len());
        for (address, len) in ranges.iter().copied() {
            if len == 0 || isize::try_from(len).is_err() {
                return Err(bad_size(len));
            }
            if address == 0 || address.checked_add(len).is_none() {
                let cause = format!("a blob has no memory at {address:#x}");
                return Err(Error::new(Status::InvalidArgument, cause));
            }
            // SAFETY: the caller promises that it is the card's while `keep` is held.
            let memory = unsafe { device.foreign(address, len, Arc::clone(keep)) };
            blobs.push(Blob { memory, at: 0, len });
        }
        Ok(Self { device, blobs })
    }

    /// The card.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The blobs, at least one.
    #[must_use]
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Their lengths in bytes.
    #[must_use]
    pub fn lens(&self) -> Vec<usize> {
        self.blobs.iter().map(|blob| blob.len).collect()
    }
}
