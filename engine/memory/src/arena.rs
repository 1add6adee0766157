//! One tenant's arena: the memory file, its mapping, and checked ways in and out of it.
//!
//! Lives on: any shard (shared; it hands out raw pointers and copies, never references: clients
//! write here too). Whoever copies owns the extent by the books of `lease`, `io_pins` or the store,
//! or reads bytes that a client may change meanwhile, and validates what it has read.
//!
//! The file is sparse at its virtual size from the start, so growth needs no message; physical
//! memory is bounded by the ledger's credits. Neighbours: `granule` decides, `populate` makes
//! pages.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use chariot_base::limits::GRANULE_BYTES;
use chariot_base::{Extent, GranuleIndex};
use chariot_shm::{Mapping, Memfd, MemfdOptions, copy};

/// How to make an arena.
#[derive(Clone, Copy, Debug)]
pub struct ArenaOptions {
    /// Virtual size in granules of 64 MiB: what the ledger says.
    pub virtual_granules: u32,
    /// Take pages from the hugetlb pool; otherwise huge shared-memory pages are asked for.
    pub hugetlb: bool,
}

/// The bytes of one tenant. Lives on: any shard; unmapped when the last owner drops it.
#[derive(Debug)]
pub struct ArenaMemory {
    // The order of the drops does not matter: a mapping outlives its descriptor.
    mapping: Arc<Mapping>,
    memfd: Memfd,
    page_bytes: usize,
}

impl ArenaMemory {
    /// Makes a sparse arena; no page of it exists yet, so this takes no time.
    ///
    /// # Errors
    /// The kernel's: no descriptor, no address space, no hugetlb pool. The operator mends them.
    ///
    /// # Panics
    /// When the virtual size is 0 granules.
    pub fn create(name: &str, options: ArenaOptions) -> io::Result<Self> {
        assert!(options.virtual_granules > 0);
        let size = GranuleIndex(options.virtual_granules).offset();
        let memfd = Memfd::create(
            name,
            size,
            MemfdOptions {
                hugetlb: options.hugetlb,
            },
        )?;
        let len = usize::try_from(size)
            .map_err(|_overflow| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mapping = Mapping::read_write(memfd.fd(), 0, len)?;
        if !options.hugetlb
            && let Err(error) = mapping.advise_huge()
        {
            // Kernels without transparent huge pages serve small ones; anything else is news.
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
        }
        // SAFETY: sysconf only reads a number; every argument is allowed.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes =
            usize::try_from(page_bytes).map_err(|_negative| io::Error::last_os_error())?;
        assert!(page_bytes.is_power_of_two());
        Ok(Self {
            mapping: Arc::new(mapping),
            memfd,
            page_bytes,
        })
    }

    /// Returns the virtual size in bytes: what clients map.
    pub fn len(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Tells whether the arena has no bytes, which cannot be.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lends the writable descriptor: for sessions of trusted users.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memfd.fd()
    }

    /// Opens a descriptor that cannot be written: for strict sessions.
    ///
    /// # Errors
    /// The kernel's: no descriptor left, no `/proc`.
    pub fn read_only_fd(&self) -> io::Result<OwnedFd> {
        self.memfd.read_only()
    }

    /// Returns where an extent lies in this process; valid for `extent.len` bytes while `self`
    /// lives.
    ///
    /// # Panics
    /// When the extent exceeds the arena.
    pub fn ptr(&self, extent: Extent) -> NonNull<u8> {
        assert!(extent.end() <= self.len());
        let offset = usize::try_from(extent.offset).expect("inside a mapping");
        // SAFETY: `offset` is less than the mapping's length, asserted above, so the result stays
        // inside the one mapping that `base` points to.
        unsafe { self.mapping.base().add(offset) }
    }

    /// Copies bytes into an extent that the caller owns. `source` is at most `extent.len` long.
    ///
    /// # Panics
    /// When the extent exceeds the arena or the source exceeds the extent.
    pub fn copy_in(&self, extent: Extent, source: &[u8]) {
        assert!(source.len() as u64 <= extent.len);
        let target = self.ptr(extent).as_ptr();
        // SAFETY: `ptr` checked that `extent.len` bytes lie inside the mapping and the source is no
        // longer; a slice of ours cannot overlap a mapping that hands out no references.
        unsafe { copy::copy(target, source.as_ptr(), source.len()) };
    }

    /// Copies as [`Self::copy_in`] does and returns the CRC32C of what was copied.
    ///
    /// # Panics
    /// When the extent exceeds the arena or the source exceeds the extent.
    pub fn copy_in_with_crc(&self, extent: Extent, source: &[u8]) -> u32 {
        assert!(source.len() as u64 <= extent.len);
        let target = self.ptr(extent).as_ptr();
        // SAFETY: the extent is mapped (`ptr`) and at least as long as the source; the source is a
        // slice of this process's private memory, which the mapping cannot overlap.
        unsafe { copy::copy_with_crc(target, source.as_ptr(), source.len()) }
    }

    /// Returns the CRC32C of an extent's bytes. O(bytes): in slices on a shard.
    ///
    /// # Panics
    /// When the extent exceeds the arena.
    pub fn checksum(&self, extent: Extent) -> u32 {
        let source = self.ptr(extent).as_ptr();
        let len = usize::try_from(extent.len).expect("inside a mapping");
        // SAFETY: `ptr` checked that all `len` bytes are mapped; nothing is written.
        unsafe { copy::crc32c(source, len) }
    }

    /// Shares the mapping, as memory that outlives the operations on it.
    pub fn mapping(&self) -> Arc<Mapping> {
        Arc::clone(&self.mapping)
    }

    /// Copies from another process's memory into an extent that the caller owns. The source may
    /// change meanwhile: then that is what was copied.
    ///
    /// # Panics
    /// When a range exceeds its memory.
    pub fn copy_from(&self, extent: Extent, source: &Mapping, from: u64) {
        let target = self.ptr(extent).as_ptr();
        let len = usize::try_from(extent.len).expect("inside a mapping");
        let from = usize::try_from(from).expect("inside a mapping");
        assert!(from.checked_add(len).is_some_and(|end| end <= source.len()));
        // SAFETY: `from` is inside the mapping, asserted above.
        let start = unsafe { source.base().add(from) };
        // SAFETY: both ranges lie inside their mappings (asserted above and by `ptr`), which are
        // different memories.
        unsafe { copy::copy(target, start.as_ptr(), len) };
    }

    /// Continues the CRC32C `crc` (0 to begin) over an extent's bytes.
    ///
    /// # Panics
    /// When the extent exceeds the arena.
    pub fn crc_append(&self, crc: u32, extent: Extent) -> u32 {
        let start = self.ptr(extent).as_ptr();
        let len = usize::try_from(extent.len).expect("inside a mapping");
        // SAFETY: `ptr` checked that `extent.len` bytes lie inside the mapping.
        unsafe { copy::crc32c_append(crc, start, len) }
    }

    /// Copies an extent's first `target.len()` bytes out; a client may be writing them meanwhile.
    ///
    /// # Panics
    /// When the extent exceeds the arena or the target exceeds the extent.
    pub fn copy_out(&self, extent: Extent, target: &mut [u8]) {
        assert!(target.len() as u64 <= extent.len);
        let source = self.ptr(extent).as_ptr();
        // SAFETY: the target is a slice of this process's private memory, apart from the mapping;
        // the extent is mapped (`ptr`) and at least as long as the target.
        unsafe { copy::copy(target.as_mut_ptr(), source, target.len()) };
    }

    /// Makes the pages of a range present without changing bytes. Blocks: for a populate thread.
    ///
    /// # Errors
    /// The kernel's: no memory, no huge page left.
    ///
    /// # Panics
    /// When the range exceeds the arena.
    pub fn populate(&self, range: Extent) -> io::Result<()> {
        let offset = usize::try_from(range.offset).expect("inside a mapping");
        let len = usize::try_from(range.len).expect("inside a mapping");
        match self.mapping.populate_write(offset, len) {
            // Kernels before 5.14 do not know the advice.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.touch(range);
                Ok(())
            },
            other => other,
        }
    }

    /// Touches each page of a range for writing; the bytes stay, also against concurrent writers.
    pub(crate) fn touch(&self, range: Extent) {
        let base = self.ptr(range);
        let len = usize::try_from(range.len).expect("inside a mapping");
        for offset in (0..len).step_by(self.page_bytes) {
            // SAFETY: `offset` is below `range.len`, and `ptr` checked that the range is mapped.
            let byte = unsafe { base.add(offset) };
            // SAFETY: the byte is mapped for as long as `self` lives, bytes are always aligned, and
            // everybody in this process accesses shared bytes by raw copies or atomics only.
            let byte = unsafe { AtomicU8::from_ptr(byte.as_ptr()) };
            byte.fetch_or(0, Ordering::Relaxed);
        }
    }

    /// Gives a granule's pages back to the kernel: it reads as zeroes from now on.
    ///
    /// Blocks for milliseconds: for a populate thread.
    ///
    /// # Errors
    /// The kernel's; the granule must then be treated as still backed.
    ///
    /// # Panics
    /// When the granule lies outside the arena.
    pub fn punch(&self, granule: GranuleIndex) -> io::Result<()> {
        assert!(granule.offset() + GRANULE_BYTES <= self.len());
        self.memfd.punch_hole(granule.offset(), GRANULE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> ArenaMemory {
        let options = ArenaOptions {
            virtual_granules: 4,
            hugetlb: false,
        };
        ArenaMemory::create("chariot-memory-test", options).expect("memfd works here")
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let arena = arena();
        let extent = Extent::new(GRANULE_BYTES - 64, 128);
        arena.copy_in(extent, &[7; 128]);
        let mut bytes = [0; 100];
        arena.copy_out(extent, &mut bytes);
        assert_eq!(bytes, [7; 100]);
        let crc = arena.copy_in_with_crc(extent, b"123456789");
        assert_eq!(crc, 0xE306_9283, "the check value of CRC32C");
        assert_eq!(arena.checksum(Extent::new(extent.offset, 9)), crc);
    }

    #[test]
    fn populating_and_touching_keep_what_is_there() {
        let arena = arena();
        let extent = Extent::new(4096, 64);
        arena.copy_in(extent, b"stays");
        arena
            .populate(Extent::new(0, 1 << 20))
            .expect("a mebibyte is there");
        arena.touch(Extent::new(0, 1 << 20));
        let mut bytes = [0; 5];
        arena.copy_out(extent, &mut bytes);
        assert_eq!(&bytes, b"stays");
    }

    #[test]
    fn granule_that_leaves_a_tenant_reads_as_zeroes() {
        let arena = arena();
        let secret = Extent::new(GRANULE_BYTES + 4096, 6);
        arena.copy_in(secret, b"secret");
        let neighbour = Extent::new(0, 6);
        arena.copy_in(neighbour, b"stays!");
        arena.punch(GranuleIndex(1)).expect("memfds punch holes");
        let mut bytes = [1; 6];
        arena.copy_out(secret, &mut bytes);
        assert_eq!(bytes, [0; 6]);
        arena.copy_out(neighbour, &mut bytes);
        assert_eq!(&bytes, b"stays!");
    }

    #[test]
    #[should_panic(expected = "extent.end() <= self.len()")]
    fn extent_beyond_the_arena_is_a_bug() {
        let arena = arena();
        let _ptr = arena.ptr(Extent::new(4 * GRANULE_BYTES - 64, 128));
    }
}
