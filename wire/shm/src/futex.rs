//! Waiting on words that other processes change: shared futexes (never `FUTEX_PRIVATE_FLAG`).

use std::io;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// Woken, or for no reason: look again.
    Woken,
    /// The word was not as expected.
    Changed,
    /// The time is over.
    TimedOut,
}

/// Waits while `word` is `expected`, at most `timeout` (for ever without one). Works on read-only
/// mappings.
///
/// # Panics
///
/// When the kernel refuses the call for a reason that only a bug of ours can cause.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> WaitOutcome {
    let limit = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `word` is a live, aligned 32-bit word and `limit` is null or a live timespec; the
    // kernel only reads both, and takes the timeout as relative for FUTEX_WAIT.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            limit,
        )
    };
    if result == 0 {
        return WaitOutcome::Woken;
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN) => WaitOutcome::Changed,
        Some(libc::ETIMEDOUT) => WaitOutcome::TimedOut,
        Some(libc::EINTR) => WaitOutcome::Woken,
        _ => panic!("futex wait: {error}"),
    }
}

/// Wakes at most `count` waiters of `word` and answers how many were woken.
pub fn wake(word: &AtomicU32, count: u32) -> u32 {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    // SAFETY: `word` is a live, aligned 32-bit word; the kernel uses its address alone.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    u32::try_from(woken).unwrap_or(0)
}
