//! A page that a fork wipes: tells a child that what it inherited is its parent's.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

/// Tells the process that made it from its forked children, without a system call.
///
/// Lives on: any thread. One load per question.
#[derive(Debug)]
pub struct ForkGuard {
    page: NonNull<AtomicU32>,
    len: usize,
}

// SAFETY: the page is process-wide and only ever read as an atomic; drop is its only unmapping.
unsafe impl Send for ForkGuard {}
// SAFETY: as for Send.
unsafe impl Sync for ForkGuard {}

impl ForkGuard {
    /// Makes a guard of this process.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory, or a kernel without `MADV_WIPEONFORK` (before 4.14).
    pub fn here() -> io::Result<Self> {
        let len = sys::page_size();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let page = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(page) = NonNull::new(page.cast()) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let guard = Self { page, len };
        // SAFETY: the range is the page just mapped; its content is zero and stays.
        sys::check(unsafe { libc::madvise(page.as_ptr().cast(), len, libc::MADV_WIPEONFORK) })?;
        guard.word().store(1, Ordering::Relaxed);
        Ok(guard)
    }

    /// Says whether this is the process that made the guard, and not a forked child of it.
    #[inline]
    pub fn is_same_process(&self) -> bool {
        self.word().load(Ordering::Relaxed) == 1
    }

    #[inline]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped, zeroed or one, aligned to its size, and lives as long as
        // self.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `here` mapped, and this value is its only owner.
        let result = unsafe { libc::munmap(self.page.as_ptr().cast(), self.len) };
        debug_assert!(result == 0);
    }
}

#[cfg(test)]
mod tests;
