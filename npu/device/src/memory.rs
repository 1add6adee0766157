//! Memory of both sides, counted: what a copy may still touch cannot go away.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::Keep;
use crate::device::{Device, Opened};
use crate::driver::{BlockHandle, ImportHandle, PinnedHandle, RegisteredHandle};
use crate::error::DeviceError;

/// What copies may do to a host range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostAccess {
    /// Sources only.
    ReadOnly,
    /// Sources and destinations.
    ReadWrite,
}

/// How a card reaches a host range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKind {
    /// Allocated by the driver, page-locked.
    Pinned,
    /// Locked after the fact by [`crate::Device::register`].
    Registered,
    /// Plain memory: slow, and only for [`crate::Device::copy_now`].
    Pageable,
}

/// Names device memory to another process of this host; its bytes mean something to the same
/// backend alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportKey {
    /// Bytes of the exported range.
    pub len: usize,
    /// The driver's key.
    pub key: Vec<u8>,
}

enum DeviceOrigin {
    /// With the keys that were made to it.
    Own(Option<BlockHandle>, Mutex<Vec<Vec<u8>>>),
    Import(Option<ImportHandle>),
    Foreign(Keep),
}

struct DeviceBlock {
    opened: Arc<Opened>,
    address: usize,
    len: usize,
    origin: DeviceOrigin,
}

impl Drop for DeviceBlock {
    fn drop(&mut self) {
        // Nobody hears an answer here: on a lost card freeing fails, and the card's reset frees.
        match &mut self.origin {
            DeviceOrigin::Own(block, keys) => {
                for key in keys
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner)
                    .drain(..)
                {
                    drop(self.opened.card.export_close(&key));
                }
                drop(
                    block
                        .take()
                        .map(|block| self.opened.card.device_free(block)),
                );
            },
            DeviceOrigin::Import(import) => {
                drop(
                    import
                        .take()
                        .map(|import| self.opened.card.import_close(import)),
                );
            },
            DeviceOrigin::Foreign(_) => {},
        }
    }
}

/// A contiguous range of a card's memory. Cloning counts; the last clone, or the last copy under
/// way, frees it. Lives on: any thread.
#[derive(Clone)]
pub struct DeviceMemory(Arc<DeviceBlock>);

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = &self.0;
        write!(f, "DeviceMemory({:#x}, {} bytes)", block.address, block.len)
    }
}

impl DeviceMemory {
    fn new(opened: Arc<Opened>, address: usize, len: usize, origin: DeviceOrigin) -> Self {
        assert!(len > 0, "an empty range has no address");
        Self(Arc::new(DeviceBlock {
            opened,
            address,
            len,
            origin,
        }))
    }

    pub(crate) fn own(opened: Arc<Opened>, block: BlockHandle, len: usize) -> Self {
        Self::new(
            opened,
            block.raw(),
            len,
            DeviceOrigin::Own(Some(block), Mutex::default()),
        )
    }

    pub(crate) fn imported(opened: Arc<Opened>, import: ImportHandle, len: usize) -> Self {
        Self::new(
            opened,
            import.address,
            len,
            DeviceOrigin::Import(Some(import)),
        )
    }

    pub(crate) fn foreign(opened: Arc<Opened>, address: usize, len: usize, keep: Keep) -> Self {
        Self::new(opened, address, len, DeviceOrigin::Foreign(keep))
    }

    /// Address on the card; no host instruction may touch it.
    #[must_use]
    pub fn address(&self) -> usize {
        self.0.address
    }

    /// Length in bytes, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether it is memory of that card.
    #[must_use]
    pub fn is_on(&self, device: &Device) -> bool {
        self.0.opened.id == device.opened().id
    }

    /// Runtime and ordinal of the card.
    pub(crate) fn card(&self) -> (u64, u32) {
        self.0.opened.id
    }

    pub(crate) fn keep(&self) -> Keep {
        if let DeviceOrigin::Foreign(keep) = &self.0.origin {
            return Arc::clone(keep);
        }
        Arc::clone(&self.0) as Keep
    }

    pub(crate) fn range(&self, at: usize, len: usize) -> Result<usize, DeviceError> {
        inside(at, len, self.0.len, "device")?;
        Ok(self.0.address + at)
    }

    /// Makes a key that another process of this host can import. The importer has to close (drop)
    /// its import first; `pid` of none lets any process of this user in.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`]: the driver has no such keys; [`DeviceError::Misuse`]: this is
    /// not memory that was allocated through this crate.
    pub fn export(&self, pid: Option<i32>) -> Result<ExportKey, DeviceError> {
        let block = &self.0;
        let DeviceOrigin::Own(_, keys) = &block.origin else {
            return Err(DeviceError::misuse(
                "only an own allocation can be exported",
            ));
        };
        // SAFETY: the block is one allocation of ours. When the exporter frees it early, drivers
        // refuse the importer's next copy; the importer's addresses stay reserved.
        let key = unsafe { block.opened.card.export(block.address, block.len, pid) };
        let key = block.opened.note(key)?;
        keys.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(key.clone());
        Ok(ExportKey {
            len: block.len,
            key,
        })
    }
}

fn inside(at: usize, len: usize, whole: usize, what: &str) -> Result<(), DeviceError> {
    if at.checked_add(len).is_some_and(|end| end <= whole) {
        return Ok(());
    }
    let text = format!("{len} bytes at {at} of a {what} range of {whole}");
    Err(DeviceError::misuse(text))
}

enum HostOrigin {
    Pinned(Option<PinnedHandle>, Arc<Opened>),
    Registered {
        handle: Option<RegisteredHandle>,
        opened: Arc<Opened>,
        /// The memory below stands until it is unregistered.
        _under: HostMemory,
    },
    Plain(#[expect(dead_code, reason = "held, not read")] Keep),
}

struct HostBlock {
    address: usize,
    len: usize,
    access: HostAccess,
    origin: HostOrigin,
}

impl Drop for HostBlock {
    fn drop(&mut self) {
        // As for device memory: there is nobody to tell, and a refusal only costs memory.
        match &mut self.origin {
            HostOrigin::Pinned(pinned, opened) => {
                drop(pinned.take().map(|pinned| opened.card.host_free(pinned)));
            },
            HostOrigin::Registered { handle, opened, .. } => {
                drop(
                    handle
                        .take()
                        .map(|handle| opened.card.host_unregister(handle)),
                );
            },
            HostOrigin::Plain(_) => {},
        }
    }
}

/// A contiguous range of host memory that copies can name. Cloning counts, as for
/// [`DeviceMemory`]. Lives on: any thread.
///
/// While a copy into it is under way its bytes are unspecified, also to [`Self::read_at`].
#[derive(Clone)]
pub struct HostMemory(Arc<HostBlock>);

impl fmt::Debug for HostMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (block, kind) = (&self.0, self.kind());
        write!(
            f,
            "HostMemory({kind:?}, {:#x}, {} bytes)",
            block.address, block.len
        )
    }
}

impl HostMemory {
    fn new(address: usize, len: usize, access: HostAccess, origin: HostOrigin) -> Self {
        assert!(len > 0, "an empty range has no address");
        Self(Arc::new(HostBlock {
            address,
            len,
            access,
            origin,
        }))
    }

    pub(crate) fn pinned(opened: Arc<Opened>, pinned: PinnedHandle, len: usize) -> Self {
        let (address, access) = (pinned.raw(), HostAccess::ReadWrite);
        Self::new(
            address,
            len,
            access,
            HostOrigin::Pinned(Some(pinned), opened),
        )
    }

    pub(crate) fn registered(
        opened: Arc<Opened>,
        handle: RegisteredHandle,
        len: usize,
        under: Self,
    ) -> Self {
        let (address, access) = (handle.raw(), under.access());
        let handle = Some(handle);
        let origin = HostOrigin::Registered {
            handle,
            opened,
            _under: under,
        };
        Self::new(address, len, access, origin)
    }

    /// Takes memory that somebody else mapped, such as a cache's arena, as pageable.
    ///
    /// # Panics
    /// When `address` is 0 or `len` is 0.
    ///
    /// # Safety
    /// `[address, address + len)` stays mapped, and writable if `access` says so, for as long as
    /// `keep` is held; nobody forms Rust references over bytes that copies write.
    #[must_use]
    pub unsafe fn foreign(address: usize, len: usize, access: HostAccess, keep: Keep) -> Self {
        assert!(address != 0, "nothing is mapped at 0");
        Self::new(address, len, access, HostOrigin::Plain(keep))
    }

    /// Takes bytes of this process's heap, as pageable memory.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn pageable(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        // As a pointer, so that no reference to the bytes exists any more.
        let owned = OwnedBytes(Box::into_raw(bytes.into_boxed_slice()));
        let address = owned.0.cast::<u8>() as usize;
        Self::new(
            address,
            len,
            HostAccess::ReadWrite,
            HostOrigin::Plain(Arc::new(owned)),
        )
    }

    /// Address in this process.
    #[must_use]
    pub fn address(&self) -> usize {
        self.0.address
    }

    /// Length in bytes, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// What copies may do to it.
    #[must_use]
    pub fn access(&self) -> HostAccess {
        self.0.access
    }

    /// How a card reaches it.
    #[must_use]
    pub fn kind(&self) -> HostKind {
        match &self.0.origin {
            HostOrigin::Pinned(..) => HostKind::Pinned,
            HostOrigin::Registered { .. } => HostKind::Registered,
            HostOrigin::Plain(_) => HostKind::Pageable,
        }
    }

    pub(crate) fn keep(&self) -> Keep {
        Arc::clone(&self.0) as Keep
    }

    pub(crate) fn range(&self, at: usize, len: usize) -> Result<usize, DeviceError> {
        inside(at, len, self.0.len, "host")?;
        Ok(self.0.address + at)
    }

    /// Copies bytes out, from `at` on.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: the range leaves the memory.
    pub fn read_at(&self, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        let from = self.range(at, to.len())? as *const u8;
        // SAFETY: the range was just found inside memory that is mapped while `self` is held, and
        // `to` is an exclusive borrow of other memory.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies bytes in, from `at` on.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: the range leaves the memory, or the memory is read-only.
    pub fn write_at(&self, at: usize, from: &[u8]) -> Result<(), DeviceError> {
        if self.access() == HostAccess::ReadOnly {
            return Err(DeviceError::misuse("the memory is read-only"));
        }
        let to = self.range(at, from.len())? as *mut u8;
        // SAFETY: the destination is writable and inside the memory, as checked above; `from` is a
        // borrow, which nothing here aliases: no reference over this memory exists.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    /// Copies `len` bytes from another host memory, from `from_at` on, to `at`.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: a range leaves its memory, or this memory is read-only.
    pub fn copy_from(
        &self,
        at: usize,
        (from, from_at): (&Self, usize),
        len: usize,
    ) -> Result<(), DeviceError> {
        if self.access() == HostAccess::ReadOnly {
            return Err(DeviceError::misuse("the memory is read-only"));
        }
        let source = from.range(from_at, len)? as *const u8;
        let to = self.range(at, len)? as *mut u8;
        // SAFETY: both ranges were found inside memory that is mapped while the two are held, the
        // destination in a writable one; they may overlap.
        unsafe { std::ptr::copy(source, to, len) };
        Ok(())
    }

    /// The part `range` of this memory, of the same kind; keeps the whole.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: it is empty or leaves the memory.
    pub(crate) fn page_aligned_part(&self, range: &Range<usize>) -> Result<usize, DeviceError> {
        let len = range.end.checked_sub(range.start).filter(|len| *len > 0);
        let len = len.ok_or_else(|| DeviceError::misuse("nothing to register"))?;
        self.range(range.start, len)
    }
}

/// A boxed slice without the claim of a box to be the only way to its bytes.
struct OwnedBytes(*mut [u8]);

// SAFETY: it is memory of the heap, which any thread may free.
unsafe impl Send for OwnedBytes {}
// SAFETY: nothing is reached through a shared one.
unsafe impl Sync for OwnedBytes {}

impl Drop for OwnedBytes {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and this is the only place that takes it back.
        drop(unsafe { Box::from_raw(self.0) });
    }
}
