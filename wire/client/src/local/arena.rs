//! The arena as this process sees it: a mapping to read, and one to write leases through.
//!
//! Trusted sessions map the arena twice. The second mapping is read-only but for the windows over
//! leased pages (`windows.rs`). Strict sessions map it once, and write into their staging memory.
//! No reference to these bytes is formed here, except for views and write buffers, whose bytes
//! nobody writes (a pinned extent) or nobody else writes (a leased one).

use std::io;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use chariot_shm::Mapping;

use super::staging::Staging;
use super::windows::Windows;

/// Where values are written before they are published.
#[derive(Debug)]
pub(super) enum Writing {
    /// Into leased extents, through windows of a second mapping.
    Leases {
        mapping: Mapping,
        windows: Mutex<Windows>,
    },
    /// Into the session's staging memory.
    Staging {
        mapping: Mapping,
        free: Mutex<Staging>,
    },
}

/// The mappings of one session. They stay until the last view and write buffer are gone.
#[derive(Debug)]
pub(super) struct Arena {
    pub reading: Mapping,
    pub writing: Writing,
}

impl Arena {
    /// Bytes of the arena.
    pub(super) fn len(&self) -> u64 {
        self.reading.len() as u64
    }

    /// Where the bytes at `offset` are read; valid for `len` bytes.
    ///
    /// # Panics
    ///
    /// When the range is not within the mapping: what the daemon wrote was to be checked before.
    pub(super) fn read_ptr(&self, offset: u64, len: u64) -> NonNull<u8> {
        address(&self.reading, offset, len)
    }

    /// Where the bytes at `offset` of the arena (leases) or of the staging memory are written;
    /// valid for `len` bytes.
    ///
    /// # Panics
    ///
    /// As [`Self::read_ptr`].
    pub(super) fn write_ptr(&self, offset: u64, len: u64) -> NonNull<u8> {
        match &self.writing {
            Writing::Leases { mapping, .. } | Writing::Staging { mapping, .. } => {
                address(mapping, offset, len)
            },
        }
    }

    /// Makes leased slots of `slot_len` bytes writable, for each bit `i` of `slots` the one at
    /// `offset + i * slot_len`; strict sessions have none.
    pub(super) fn open_window(&self, offset: u64, slot_len: u64, slots: u64) -> io::Result<()> {
        let Writing::Leases { mapping, windows } = &self.writing else {
            return Ok(());
        };
        let to_size = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
        let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.open(mapping, to_size(offset)?, to_size(slot_len)?, slots)
    }

    /// Takes note that a slot is published or given back.
    pub(super) fn leave_window(&self, offset: u64, slot_len: u64) {
        if let Writing::Leases { windows, .. } = &self.writing {
            let to_size = |bytes| usize::try_from(bytes).expect("was opened before");
            windows
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .leave(to_size(offset), to_size(slot_len));
        }
    }
}

fn address(mapping: &Mapping, offset: u64, len: u64) -> NonNull<u8> {
    let end = offset.checked_add(len);
    assert!(
        end.is_some_and(|end| end <= mapping.len() as u64),
        "range was checked before"
    );
    let offset = usize::try_from(offset).expect("within a mapping");
    // SAFETY: `offset` is within the mapping or at its end, checked above.
    unsafe { mapping.base().add(offset) }
}
