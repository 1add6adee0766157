//! What the kernel answers, as results.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Turns the `-1` of a system call into its error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Answers the size of a page in bytes: 4 KiB to 64 KiB.
pub(crate) fn page_size() -> usize {
    // SAFETY: asks for a number; touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("every kernel knows its page size")
}

/// Answers the size in bytes of an open file.
pub(crate) fn file_size(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `fd` is open for as long as it is borrowed; `status` has room for one stat.
    check(unsafe { libc::fstat(fd.as_raw_fd(), status.as_mut_ptr()) })?;
    // SAFETY: a successful fstat fills the whole structure.
    let status = unsafe { status.assume_init() };
    Ok(u64::try_from(status.st_size).expect("file sizes are not negative"))
}
