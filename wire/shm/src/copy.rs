//! Copies in and out of the arena, with and without a checksum.
//!
//! Everything works on raw pointers: one side is memory that another process may be writing. Such
//! bytes may come out torn, never worse; whoever reads them decides nothing on them before they lie
//! in private memory.
//!
//! Large copies use stores that bypass the cache ("non-temporal"): a plain store first reads the
//! line it will overwrite, which costs a third of the memory's bandwidth and evicts what others
//! need. The checksum is CRC32C (Castagnoli), computed as the bytes pass by. Fast paths
//! are chosen at run time; the portable twin gives the same results under the same tests.
//!
//! Neighbours: `crc_shift` joins checksums of neighbours, `x86` is the fast path, `portable` the
//! twin.

mod crc_shift;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Length in bytes from which [`copy`] and [`copy_with_crc`] bypass the cache.
pub const NONTEMPORAL_MIN: usize = 256 * 1024;

/// Length in bytes from which copies to memory that this core will not read soon bypass the cache
/// ([`copy_cold`]).
pub const COLD_NONTEMPORAL_MIN: usize = 4096;

/// A run of bytes to copy from.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// First byte.
    pub base: *const u8,
    /// Number of bytes.
    pub len: usize,
}

/// A run of bytes to copy to.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// First byte.
    pub base: *mut u8,
    /// Number of bytes.
    pub len: usize,
}

/// Copies `len` bytes; large ones past the cache ([`NONTEMPORAL_MIN`]).
///
/// # Safety
/// `src` is readable and `dst` writable for `len` bytes, and they do not overlap. Other processes
/// may write either.
#[inline]
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    if len < NONTEMPORAL_MIN {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { std::ptr::copy_nonoverlapping(src, dst, len) };
    } else {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { copy_nontemporal(dst, src, len) };
    }
}

/// Copies `len` bytes with stores that bypass the cache; they are ordered before any later store on
/// return.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn copy_nontemporal(dst: *mut u8, src: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the caller's promise is the callee's condition; it looks for the instructions it
        // uses.
        unsafe { x86::copy_nontemporal(dst, src, len) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { portable::copy(dst, src, len) };
    }
}

/// Copies a slice past the cache ([`copy_nontemporal`]), for measurements of what that is worth.
///
/// # Panics
/// When the lengths differ.
pub fn copy_nontemporal_slice(target: &mut [u8], source: &[u8]) {
    assert_eq!(target.len(), source.len());
    // SAFETY: both are live slices of this length, and an exclusive one overlaps no other.
    unsafe { copy_nontemporal(target.as_mut_ptr(), source.as_ptr(), source.len()) };
}

/// Copies `len` bytes to memory that this core will not read soon, such as an extent of the arena:
/// past the cache from [`COLD_NONTEMPORAL_MIN`] on.
///
/// # Safety
/// As for [`copy`].
#[inline]
pub unsafe fn copy_cold(dst: *mut u8, src: *const u8, len: usize) {
    if len < COLD_NONTEMPORAL_MIN {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { std::ptr::copy_nonoverlapping(src, dst, len) };
    } else {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { copy_nontemporal(dst, src, len) };
    }
}

/// Copies like [`copy_cold`] and answers the CRC32C.
///
/// # Safety
/// As for [`copy`].
#[inline]
pub unsafe fn copy_cold_with_crc(dst: *mut u8, src: *const u8, len: usize) -> u32 {
    if len < COLD_NONTEMPORAL_MIN {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { copy_with_crc_append(0, dst, src, len) }
    } else {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { copy_nontemporal_with_crc_append(0, dst, src, len) }
    }
}

/// Copies `len` bytes and answers their CRC32C.
///
/// # Safety
/// As for [`copy`].
#[inline]
pub unsafe fn copy_with_crc(dst: *mut u8, src: *const u8, len: usize) -> u32 {
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { copy_with_crc_append(0, dst, src, len) }
}

/// Copies `len` bytes and continues the CRC32C `crc` of the bytes before them.
///
/// When another process changes the source meanwhile, the checksum may be of other bytes than those
/// stored; a copy past the cache reads each byte once.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn copy_with_crc_append(crc: u32, dst: *mut u8, src: *const u8, len: usize) -> u32 {
    if len >= NONTEMPORAL_MIN {
        // SAFETY: the caller's promise is the callee's condition.
        return unsafe { copy_nontemporal_with_crc_append(crc, dst, src, len) };
    }
    #[cfg(target_arch = "x86_64")]
    if x86::has_crc() {
        // SAFETY: the caller's promise, and the instructions are there.
        return unsafe { x86::copy_with_crc(crc, dst, src, len) };
    }
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { portable::copy_with_crc(crc, dst, src, len) }
}

/// Copies past the cache whatever the length, and continues the CRC32C `crc` of the bytes before.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn copy_nontemporal_with_crc_append(
    crc: u32,
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if x86::has_crc() {
        // SAFETY: the caller's promise, and the instructions are there.
        return unsafe { x86::copy_nontemporal_with_crc(crc, dst, src, len) };
    }
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { portable::copy_with_crc(crc, dst, src, len) }
}

/// Answers the CRC32C of `len` bytes.
///
/// # Safety
/// `src` is readable for `len` bytes. Other processes may write it.
#[inline]
pub unsafe fn crc32c(src: *const u8, len: usize) -> u32 {
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { crc32c_append(0, src, len) }
}

/// Continues the CRC32C `crc` over `len` more bytes.
///
/// # Safety
/// As for [`crc32c()`].
pub unsafe fn crc32c_append(crc: u32, src: *const u8, len: usize) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if x86::has_crc() {
        // SAFETY: the caller's promise, and the instructions are there.
        return unsafe { x86::crc32c(crc, src, len) };
    }
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { portable::crc32c(crc, src, len) }
}

/// Copies the sources one after the other to `dst`; answers the number of bytes.
///
/// # Safety
/// Each source is readable for its length, `dst` writable for their sum, and nothing overlaps
/// `dst`.
pub unsafe fn gather(dst: *mut u8, sources: &[Source]) -> usize {
    let mut done = 0;
    for source in sources {
        // SAFETY: the caller promises room for the sum, of which `done` bytes are used, and a
        // readable source.
        unsafe { copy(dst.wrapping_add(done), source.base, source.len) };
        done += source.len;
    }
    done
}

/// Gathers like [`gather`] and answers the CRC32C of all bytes.
///
/// # Safety
/// As for [`gather`].
pub unsafe fn gather_with_crc(dst: *mut u8, sources: &[Source]) -> u32 {
    let mut done = 0;
    let mut crc = 0;
    for source in sources {
        let place = dst.wrapping_add(done);
        // SAFETY: the caller promises room for the sum, of which `done` bytes are used, and a
        // readable source.
        crc = unsafe { copy_with_crc_append(crc, place, source.base, source.len) };
        done += source.len;
    }
    crc
}

/// Copies from `src` to the targets one after the other; answers the number of bytes.
///
/// # Safety
/// Each target is writable for its length, `src` readable for their sum, and no target overlaps
/// `src` or another.
pub unsafe fn scatter(targets: &[Target], src: *const u8) -> usize {
    let mut done = 0;
    for target in targets {
        // SAFETY: the caller promises bytes for the sum, of which `done` are used, and a writable
        // target.
        unsafe { copy(target.base, src.wrapping_add(done), target.len) };
        done += target.len;
    }
    done
}

/// Scatters like [`scatter`] and answers the CRC32C of all bytes.
///
/// # Safety
/// As for [`scatter`].
pub unsafe fn scatter_with_crc(targets: &[Target], src: *const u8) -> u32 {
    let mut done = 0;
    let mut crc = 0;
    for target in targets {
        let place = src.wrapping_add(done);
        // SAFETY: the caller promises bytes for the sum, of which `done` are used, and a writable
        // target.
        crc = unsafe { copy_with_crc_append(crc, target.base, place, target.len) };
        done += target.len;
    }
    crc
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
