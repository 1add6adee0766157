//! Copies in and out of shared memory, and their checksums: one place that names
//! `chariot_shm::copy`.

pub(crate) use chariot_shm::copy::{copy, copy_with_crc_append, crc32c_append};

/// The CRC32C of private memory.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    // SAFETY: a slice is readable for its length.
    unsafe { chariot_shm::copy::crc32c(bytes.as_ptr(), bytes.len()) }
}
