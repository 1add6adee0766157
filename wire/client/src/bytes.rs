//! Copies in and out of shared memory, and their checksums: one place that names `chariot_shm::copy`.

/// Copies `len` bytes; large ones past the caches.
///
/// # Safety
///
/// `source` is readable and `target` writable for `len` bytes, and they do not overlap.
pub(crate) unsafe fn copy(target: *mut u8, source: *const u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { target.copy_from_nonoverlapping(source, len) };
}

/// Copies `len` bytes and returns their CRC32C.
///
/// # Safety
///
/// As [`copy`].
pub(crate) unsafe fn copy_with_crc(target: *mut u8, source: *const u8, len: usize) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { copy(target, source, len) };
    // SAFETY: the caller's promise: `len` bytes at `source` are readable.
    crc32c(unsafe { std::slice::from_raw_parts(source, len) })
}

/// The CRC32C of private memory.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Continues a CRC32C over `len` more bytes.
///
/// # Safety
///
/// `source` is readable for `len` bytes.
pub(crate) unsafe fn crc32c_append(crc: u32, source: *const u8, len: usize) -> u32 {
    // SAFETY: the caller's promise.
    crc32c::crc32c_append(crc, unsafe { std::slice::from_raw_parts(source, len) })
}
