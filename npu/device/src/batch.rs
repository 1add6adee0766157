//! Copies that are submitted together.

use std::any::Any;
use std::sync::Arc;

use crate::driver::{Answer, Entry};
use crate::error::DeviceError;
use crate::memory::{DeviceMemory, HostAccess, HostKind, HostMemory};

/// Most entries of one batch, whatever a driver takes at once: 32 objects of 4,096 fragments.
pub(crate) const ENTRIES_MAX: usize = 131_072;

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the card.
    HostToDevice,
    /// Out of the card.
    DeviceToHost,
    /// Within a card, or between two cards of this process.
    DeviceToDevice,
}

/// Something that a copy touches; its memory stands for as long as this is held.
pub(crate) type Keep = Arc<dyn Any + Send + Sync>;

/// Copies of one direction on one card, in no order among each other. Holds the memory of both
/// sides; bytes of a destination are unspecified until the stream has passed the batch.
#[derive(Debug)]
pub struct CopyBatch {
    direction: Direction,
    entries: Vec<Entry>,
    keeps: Vec<Keep>,
    /// Runtime and ordinal of the card whose memory the entries name.
    card: Option<(u64, u32)>,
    pageable: bool,
    bytes: u64,
}

impl CopyBatch {
    /// Returns an empty batch.
    #[must_use]
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            entries: Vec::new(),
            keeps: Vec::new(),
            card: None,
            pageable: false,
            bytes: 0,
        }
    }

    /// Adds a copy of `len` bytes between `device` from `device_at` on and `host` from `host_at`
    /// on, in the batch's direction. A copy of nothing adds nothing.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: a range leaves its memory, the destination is read-only, the memory
    /// is another card's, the batch is one within devices. [`DeviceError::Full`] at 131,072
    /// entries. The batch is as before then.
    pub fn push(
        &mut self,
        (device, device_at): (&DeviceMemory, usize),
        (host, host_at): (&HostMemory, usize),
        len: usize,
    ) -> Result<(), DeviceError> {
        let on_card = device.range(device_at, len)?;
        let on_host = host.range(host_at, len)?;
        let (dst, src) = match self.direction {
            Direction::HostToDevice => (on_card, on_host),
            Direction::DeviceToHost if host.access() == HostAccess::ReadOnly => {
                return Err(DeviceError::misuse("the destination is read-only"));
            },
            Direction::DeviceToHost => (on_host, on_card),
            Direction::DeviceToDevice => {
                return Err(DeviceError::misuse("a batch within devices, a host range"));
            },
        };
        if len == 0 {
            return Ok(());
        }
        self.admit(device)?;
        self.pageable |= host.kind() == HostKind::Pageable;
        self.keep(device.keep());
        self.keep(host.keep());
        self.add(Entry { dst, src, len });
        Ok(())
    }

    /// Adds a copy of `len` bytes from `src` to `dst`, which both are on cards. The stream is to be
    /// one of the source's card.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_local(
        &mut self,
        (dst, dst_at): (&DeviceMemory, usize),
        (src, src_at): (&DeviceMemory, usize),
        len: usize,
    ) -> Result<(), DeviceError> {
        if self.direction != Direction::DeviceToDevice {
            return Err(DeviceError::misuse(
                "a batch with the host, two device ranges",
            ));
        }
        let to = dst.range(dst_at, len)?;
        let from = src.range(src_at, len)?;
        if len == 0 {
            return Ok(());
        }
        self.admit(src)?;
        self.keep(dst.keep());
        self.keep(src.keep());
        self.add(Entry {
            dst: to,
            src: from,
            len,
        });
        Ok(())
    }

    /// Checks the memory's card and the room, and notes the first card.
    fn admit(&mut self, device: &DeviceMemory) -> Answer<()> {
        if self.entries.len() >= ENTRIES_MAX {
            return Err(DeviceError::Full {
                what: "entries of a batch",
            });
        }
        let card = device.card();
        if *self.card.get_or_insert(card) != card {
            return Err(DeviceError::misuse("memory of two cards in one batch"));
        }
        Ok(())
    }

    /// Neighbours mostly name the same memory: looking at the last two keeps the list short.
    fn keep(&mut self, keep: Keep) {
        let known = self.keeps.iter().rev().take(2);
        let mut known = known.map(|known| Arc::as_ptr(known).cast::<()>());
        if !known.any(|known| known == Arc::as_ptr(&keep).cast::<()>()) {
            self.keeps.push(keep);
        }
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.len as u64;
        self.entries.push(entry);
    }

    /// The direction of every entry.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is nothing to copy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all entries.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True when a host range is neither page-locked nor registered: only
    /// [`crate::Device::copy_now`] takes such a batch.
    #[must_use]
    pub fn is_pageable(&self) -> bool {
        self.pageable
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn on_card(&self, card: (u64, u32)) -> bool {
        self.card.is_none_or(|own| own == card)
    }

    pub(crate) fn into_keeps(self) -> Vec<Keep> {
        self.keeps
    }

    pub(crate) fn keeps(&self) -> &[Keep] {
        &self.keeps
    }
}
