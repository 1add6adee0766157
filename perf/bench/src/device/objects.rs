//! The objects that are moved: fragments in device memory of their own, page-locked host ranges.

use std::sync::Arc;

use chariot_device::{Device, DeviceError};
use chariot_transfer::{Arena, Fragment, HostRange, ObjectCopy};

use crate::content;

/// Most distinct objects; keys beyond name them again, so that memory stays below 512 MiB.
const DISTINCT_MAX: usize = 8;

/// Objects of one shape. What goes into the card comes from one arena, what comes out goes to
/// another, and both hold the same bytes in the end.
pub(crate) struct Objects {
    pub(crate) blob_bytes: usize,
    pub(crate) blobs: usize,
    into: Arc<Arena>,
    out: Arc<Arena>,
    fragments: Vec<Vec<Fragment>>,
}

impl Objects {
    pub(crate) fn new(
        device: &Device,
        blob_bytes: usize,
        blobs: usize,
    ) -> Result<Self, DeviceError> {
        let bytes = blob_bytes * blobs;
        let into = device.alloc_host(bytes * DISTINCT_MAX)?;
        let out = device.alloc_host(bytes * DISTINCT_MAX)?;
        let mut value = vec![0; bytes];
        for object in 0..DISTINCT_MAX {
            content::fill(object as u64, &mut value);
            into.write_at(object * bytes, &value)?;
        }
        let fragment = |blob: usize| {
            let (device, offset) = (device.alloc(blob_bytes)?, blob * blob_bytes);
            Ok(Fragment {
                device,
                device_at: 0,
                offset,
                len: blob_bytes,
            })
        };
        let fragments: Result<Vec<Vec<Fragment>>, DeviceError> = (0..DISTINCT_MAX)
            .map(|_| (0..blobs).map(fragment).collect())
            .collect();
        Ok(Self {
            blob_bytes,
            blobs,
            into: Arena::as_given(into),
            out: Arena::as_given(out),
            fragments: fragments?,
        })
    }

    /// Bytes of one object.
    pub(crate) fn bytes(&self) -> usize {
        self.blob_bytes * self.blobs
    }

    /// The objects of one submission of `keys` keys.
    pub(crate) fn of_keys(&self, keys: u32, into: bool) -> Vec<ObjectCopy> {
        let arena = if into { &self.into } else { &self.out };
        let object = |key: u32| {
            let number = key as usize % DISTINCT_MAX;
            let (at, len) = (number * self.bytes(), self.bytes());
            let host = HostRange {
                arena: Arc::clone(arena),
                at,
                len,
            };
            ObjectCopy {
                host,
                fragments: self.fragments[number].clone(),
            }
        };
        (0..keys).map(object).collect()
    }

    /// Whether what came out is what went in, for the objects that went both ways.
    pub(crate) fn are_right(&self) -> bool {
        let mut value = vec![0; self.bytes()];
        let mut right = true;
        for object in 0..DISTINCT_MAX {
            if self
                .out
                .memory()
                .read_at(object * self.bytes(), &mut value)
                .is_err()
            {
                return false;
            }
            // Objects beyond the keys of this run never came out.
            let came = value.iter().any(|byte| *byte != 0);
            right &= !came || content::wrong_bytes(object as u64, self.bytes(), &value) == 0;
        }
        right
    }
}
