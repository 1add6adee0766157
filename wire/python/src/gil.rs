//! When the interpreter's lock is given back.
//!
//! Giving it back and taking it again costs some 60 ns alone, and up to a switch interval (5 ms)
//! when another thread wants it. Calls that may wait for the daemon always give it back; copies do
//! from 64 KiB on, where a copy takes longer than the exchange.

use pyo3::Python;
use pyo3::marker::Ungil;

/// Copies of more bytes run without the interpreter's lock.
const COPY_HOLDING_MAX: usize = 64 << 10;

/// Runs `copy`, which moves `bytes` bytes, with or without the lock.
pub(crate) fn copy<T: Ungil>(py: Python<'_>, bytes: usize, copy: impl Ungil + FnOnce() -> T) -> T {
    if bytes > COPY_HOLDING_MAX {
        py.detach(copy)
    } else {
        copy()
    }
}
