//! The twin without special instructions of ours; the checksum crate brings its own for aarch64.

use std::mem::MaybeUninit;

/// Bytes that pass through private memory at once: they stay in the first-level cache.
const SLICE: usize = 4096;

/// Copies `len` bytes.
///
/// # Safety
/// As for `super::copy`.
#[cfg_attr(
    target_arch = "x86_64",
    expect(dead_code, reason = "the fast path is always there")
)]
pub(super) unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { std::ptr::copy_nonoverlapping(src, dst, len) };
}

/// Copies and checksums: each slice is read once into private memory, so that what is stored is
/// what was summed.
///
/// # Safety
/// As for `super::copy`.
pub(super) unsafe fn copy_with_crc(crc: u32, dst: *mut u8, src: *const u8, len: usize) -> u32 {
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { slices(crc, Some(dst), src, len) }
}

/// Checksums only.
///
/// # Safety
/// As for `super::crc32c`.
pub(super) unsafe fn crc32c(crc: u32, src: *const u8, len: usize) -> u32 {
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { slices(crc, None, src, len) }
}

/// # Safety
/// `src` is readable and `dst`, if any, writable for `len` bytes, without overlap.
unsafe fn slices(mut crc: u32, dst: Option<*mut u8>, src: *const u8, len: usize) -> u32 {
    let mut private = MaybeUninit::<[u8; SLICE]>::uninit();
    let mut done = 0;
    while done < len {
        let here = SLICE.min(len - done);
        let buffer = private.as_mut_ptr().cast::<u8>();
        // SAFETY: `done + here` is at most `len`; the buffer holds `SLICE` bytes.
        unsafe { std::ptr::copy_nonoverlapping(src.wrapping_add(done), buffer, here) };
        // SAFETY: the buffer is private, and its first `here` bytes were just written.
        let bytes = unsafe { std::slice::from_raw_parts(buffer, here) };
        crc = crc32c::crc32c_append(crc, bytes);
        if let Some(dst) = dst {
            // SAFETY: `done + here` is at most `len`, for which `dst` is writable.
            unsafe { std::ptr::copy_nonoverlapping(buffer, dst.wrapping_add(done), here) };
        }
        done += here;
    }
    crc
}
