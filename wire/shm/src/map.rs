//! Shared memory files and mappings of them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use crate::sys;

/// How a [`Memfd`] is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemfdOptions {
    /// Use 2 MiB pages of the hugetlb pool; the size must be a multiple of 2 MiB.
    pub hugetlb: bool,
}

/// A sparse memory file that can neither shrink nor grow, and that only its owner may re-open.
#[derive(Debug)]
pub struct Memfd {
    fd: OwnedFd,
    size: u64,
}

impl Memfd {
    /// Creates a memory file of `size` bytes: mode 0600 before anything else, so that nobody of
    /// another uid ever re-opens a read-only descriptor of it for writing; then sized, then sealed
    /// against shrinking (a reader would fault), growing and further seals.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory files, no huge pages, out of descriptors, name with a zero byte.
    pub fn create(name: &str, size: u64, options: MemfdOptions) -> io::Result<Self> {
        let name = CString::new(name)?;
        let huge = if options.hugetlb {
            libc::MFD_HUGETLB | libc::MFD_HUGE_2MB
        } else {
            0
        };
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | huge;
        // Kernels before 6.3 know no MFD_NOEXEC_SEAL, and answer EINVAL.
        let fd = match memfd_create(&name, flags | libc::MFD_NOEXEC_SEAL) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => memfd_create(&name, flags)?,
            made => made?,
        };
        let length = libc::off_t::try_from(size)
            .map_err(|_overflow| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: `fd` is ours and open.
        sys::check(unsafe { libc::fchmod(fd.as_raw_fd(), 0o600) })?;
        // SAFETY: `fd` is ours and open; `length` is not negative, as it came from a u64.
        sys::check(unsafe { libc::ftruncate(fd.as_raw_fd(), length) })?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: `fd` is ours, open and made with MFD_ALLOW_SEALING; F_ADD_SEALS takes an int.
        sys::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
        Ok(Self { fd, size })
    }

    /// Answers the size in bytes; it never changes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Lends the descriptor, which allows reading and writing.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens the same memory again for reading only: no mapping of the answer can be made writable.
    ///
    /// # Errors
    ///
    /// The kernel's; for one, no `/proc`.
    pub fn read_only(&self) -> io::Result<OwnedFd> {
        let path = CString::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: `path` is a live C string; without O_CREAT no mode is read.
        let fd = sys::check(unsafe { libc::open(path.as_ptr(), flags) })?;
        // SAFETY: `fd` was just opened here and belongs to nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Gives the pages of a range back to the kernel; the range reads as zero afterwards.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Panics
    ///
    /// When the range is not within the file.
    pub fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.size));
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (offset, len) = (offset.cast_signed(), len.cast_signed());
        // SAFETY: `fd` is ours and open; the range was checked above. What a mapping of the range
        // reads changes to zero: everyone reads shared memory through raw pointers only.
        sys::check(unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, offset, len) })?;
        Ok(())
    }
}

fn memfd_create(name: &CString, flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a live C string.
    let fd = sys::check(unsafe { libc::memfd_create(name.as_ptr(), flags) })?;
    // SAFETY: `fd` was just opened here and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A shared mapping of a memory file. Unmapped when dropped.
///
/// Lives on: any thread. It hands out a base pointer and a length only: nobody forms a reference
/// to memory that another process may write.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is process-wide and unmapped only by drop; all access goes through raw
// pointers whose users answer for their own synchronisation.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; the methods that take `&self` only call the kernel.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset` for reading and writing.
    ///
    /// # Errors
    ///
    /// The kernel's: `offset` not a multiple of the page size, `len` zero, no address space, a
    /// descriptor that does not allow writing.
    pub fn read_write(fd: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Self> {
        Self::map(fd, offset, len, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Maps `len` bytes from `offset` for reading.
    ///
    /// # Errors
    ///
    /// As for [`Self::read_write`].
    pub fn read_only(fd: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Self> {
        Self::map(fd, offset, len, libc::PROT_READ)
    }

    /// Answers where the mapping starts; valid for [`Self::len`] bytes until drop.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Answers the length in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty mapping cannot be made"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Makes a range writable, where the descriptor allowed it.
    ///
    /// # Errors
    ///
    /// The kernel's: `EACCES` for a read-only descriptor, `EINVAL` for an unaligned `offset`.
    ///
    /// # Panics
    ///
    /// When the range is not within the mapping.
    pub fn protect_write(&self, offset: usize, len: usize) -> io::Result<()> {
        self.protect(offset, len, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Makes a range read-only; writing to it then faults.
    ///
    /// # Errors
    ///
    /// The kernel's: `EINVAL` for an unaligned `offset`.
    ///
    /// # Panics
    ///
    /// When the range is not within the mapping.
    pub fn protect_read(&self, offset: usize, len: usize) -> io::Result<()> {
        self.protect(offset, len, libc::PROT_READ)
    }

    /// Touches a range for writing, so that its pages exist. Blocks for about half a second a GiB.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory (`ENOMEM`), no huge page left (`EFAULT`, `EHWPOISON`), kernel before
    /// 5.14 (`EINVAL`).
    ///
    /// # Panics
    ///
    /// When the range is not within the mapping.
    pub fn populate_write(&self, offset: usize, len: usize) -> io::Result<()> {
        self.advise(offset, len, libc::MADV_POPULATE_WRITE)
    }

    /// Counts the bytes of the mapped memory that have pages now, whoever made them: this process
    /// or another one that maps the same file. O(pages).
    ///
    /// # Errors
    ///
    /// The kernel's: `ENOMEM` or `EAGAIN` when it is short of memory itself.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        // SAFETY: sysconf only reads a number; the argument is a known one.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_negative| io::Error::last_os_error())?;
        let mut pages = vec![0_u8; self.len.div_ceil(page)];
        let start = self.address(0, self.len);
        // SAFETY: the range is exactly our mapping, and `pages` has a byte for each page of it.
        sys::check(unsafe { libc::mincore(start, self.len, pages.as_mut_ptr()) })?;
        // Only the lowest bit is defined.
        let resident = pages.iter().filter(|&&page| page & 1 == 1).count();
        Ok((resident * page) as u64)
    }

    /// Asks for huge pages under the whole mapping, where the kernel allows them for shared memory.
    ///
    /// # Errors
    ///
    /// The kernel's: `EINVAL` when it has no transparent huge pages.
    pub fn advise_huge(&self) -> io::Result<()> {
        self.advise(0, self.len, libc::MADV_HUGEPAGE)
    }

    fn map(fd: BorrowedFd<'_>, offset: u64, len: usize, protection: i32) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset)
            .map_err(|_overflow| io::Error::from(io::ErrorKind::InvalidInput))?;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let fd = fd.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address zero");
        Ok(Self { base, len })
    }

    fn protect(&self, offset: usize, len: usize, protection: i32) -> io::Result<()> {
        let start = self.address(offset, len);
        // SAFETY: the range lies within our mapping; no reference to it exists anywhere, so that
        // taking rights away can only fault a raw access that its user answers for.
        sys::check(unsafe { libc::mprotect(start, len, protection) })?;
        Ok(())
    }

    fn advise(&self, offset: usize, len: usize, advice: i32) -> io::Result<()> {
        let start = self.address(offset, len);
        // SAFETY: the range lies within our mapping; the two advices used here keep its content.
        sys::check(unsafe { libc::madvise(start, len, advice) })?;
        Ok(())
    }

    fn address(&self, offset: usize, len: usize) -> *mut libc::c_void {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: `offset` is at most `self.len`, checked above, so the result is within the
        // mapping or one past it.
        unsafe { self.base.as_ptr().add(offset) }.cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `map` mapped, and this value is its only owner.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(result == 0);
    }
}

#[cfg(test)]
mod tests;
