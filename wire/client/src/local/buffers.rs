//! Bytes of the arena in the hands of the caller: pinned to read, leased to write.

use std::sync::Arc;

use chariot_proto::KeyHash;
use chariot_shm::PinSlot;

use super::{LocalSession, Place, RegionKind};
use crate::bytes;
use crate::error::Error;
use crate::mode::Mode;
use crate::options::{SetOptions, Version};
use crate::region::{Placement, Region};

/// Bytes of a value under a pin of their own.
pub(crate) struct PinnedBytes {
    session: Arc<LocalSession>,
    shard: u16,
    /// `None` only while being dropped.
    pin: Option<PinSlot>,
    offset: u64,
    len: u64,
}

impl PinnedBytes {
    /// Takes over a pin; the range was checked against the arena and lies in the pinned extent.
    #[inline]
    pub(super) fn new(
        session: Arc<LocalSession>,
        shard: u16,
        pin: PinSlot,
        offset: u64,
        len: u64,
    ) -> Self {
        Self {
            session,
            shard,
            pin: Some(pin),
            offset,
            len,
        }
    }

    /// The bytes; none in a forked child, whose parent may have released the pin.
    pub(crate) fn as_slice(&self) -> &[u8] {
        if !self.session.is_same_process() || self.len == 0 {
            return &[];
        }
        let start = self.session.arena().read_ptr(self.offset, self.len);
        let len = usize::try_from(self.len).expect("a mapped value fits the address space");
        // SAFETY: mapped for `len` bytes for as long as the session, which `self` holds. The pin
        // keeps the extent from being reused, and the bytes of a published value never change.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }
}

impl PinnedBytes {
    /// Where the bytes lie.
    pub(crate) fn placement(&self) -> Placement {
        Placement {
            region: Region::new(Arc::clone(&self.session), RegionKind::Reading),
            offset: usize::try_from(self.offset).expect("mapped memory fits the address space"),
        }
    }
}

impl Drop for PinnedBytes {
    fn drop(&mut self) {
        if self.session.is_same_process()
            && let Some(pin) = self.pin.take()
        {
            self.session.port(self.shard).pins().release(pin);
        }
    }
}

/// Leased (or staging) memory that the caller writes into.
pub(crate) struct LeasedBytes {
    session: Arc<LocalSession>,
    hash: KeyHash,
    /// `None` once it is published.
    place: Option<Place>,
    len: u64,
    /// Its checksum is not computed, whatever the options say.
    unchecked: bool,
}

impl LeasedBytes {
    pub(super) fn new(session: Arc<LocalSession>, hash: KeyHash, place: Place, len: u64) -> Self {
        Self {
            session,
            hash,
            place: Some(place),
            len,
            unchecked: false,
        }
    }

    /// Publishes without a checksum: whoever wrote the bytes was no processor of this host.
    pub(crate) fn skip_checksum(&mut self) {
        self.unchecked = true;
    }

    /// Where the bytes lie; `None` in a forked child.
    pub(crate) fn placement(&self) -> Option<Placement> {
        let place = self.place.filter(|_| self.session.is_same_process())?;
        let offset = usize::try_from(place.offset()).expect("mapped memory fits the address space");
        let region = Region::new(Arc::clone(&self.session), RegionKind::Writing);
        Some(Placement { region, offset })
    }

    fn crc(&self) -> Option<u32> {
        let wanted = self.session.terms.checksum && !self.unchecked;
        wanted.then(|| bytes::crc32c(self.as_slice()))
    }

    fn start(&self) -> Option<*mut u8> {
        let place = self.place?;
        if !self.session.is_same_process() {
            return None;
        }
        Some(
            self.session
                .arena()
                .write_ptr(place.offset(), self.len)
                .as_ptr(),
        )
    }

    fn size(&self) -> usize {
        usize::try_from(self.len).expect("mapped memory fits the address space")
    }

    /// The bytes as they are now; none in a forked child.
    pub(crate) fn as_slice(&self) -> &[u8] {
        let Some(start) = self.start() else {
            return &[];
        };
        // SAFETY: mapped for `len` bytes while `self` holds the session; leased to this session
        // alone, and within the session to this value alone.
        unsafe { std::slice::from_raw_parts(start, self.size()) }
    }

    /// The bytes, to be written.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        let Some(start) = self.start() else {
            return &mut [];
        };
        // SAFETY: as in `as_slice`, through a window that stays open until the publish.
        unsafe { std::slice::from_raw_parts_mut(start, self.size()) }
    }

    /// Publishes the bytes under `key`.
    pub(crate) async fn publish(
        mut self,
        mode: Mode,
        key: &[u8],
        options: &SetOptions,
    ) -> Result<Version, Error> {
        if !self.session.is_same_process() {
            return Err(Error::forked());
        }
        let crc = self.crc();
        let place = self.place.take().expect("published once");
        self.session
            .publish(mode, key, self.hash, (place, self.len, crc), options)
            .await
    }

    /// Publishes many buffers of one session, as one batch.
    ///
    /// # Panics
    ///
    /// When they are of different sessions.
    pub(crate) async fn publish_many(
        mode: Mode,
        buffers: Vec<(Box<[u8]>, Self)>,
        options: &SetOptions,
    ) -> Vec<Result<Version, Error>> {
        let Some((_, first)) = buffers.first() else {
            return Vec::new();
        };
        let session = Arc::clone(&first.session);
        if !session.is_same_process() {
            return vec![Err(Error::forked()); buffers.len()];
        }
        let mut written = Vec::with_capacity(buffers.len());
        let mut keys = Vec::with_capacity(buffers.len());
        for (key, mut buffer) in buffers {
            assert!(Arc::ptr_eq(&session, &buffer.session));
            let crc = buffer.crc();
            let place = buffer.place.take().expect("published once");
            written.push((buffer.hash, place, buffer.len, crc));
            keys.push(key);
        }
        session.publish_many(mode, &keys, &written, options).await
    }

    /// Whether another buffer is of the same session.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.session, &other.session)
    }
}

impl Drop for LeasedBytes {
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && self.session.is_same_process()
        {
            self.session.unplace(self.hash, place);
        }
    }
}
