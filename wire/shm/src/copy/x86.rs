//! The fast path for x86-64: streaming stores, and the crc32 instruction on three parts of a block
//! at once.

use std::arch::x86_64::{
    __m128i, __m256i, _MM_HINT_T0, _mm_crc32_u8, _mm_crc32_u64, _mm_loadu_si128, _mm_prefetch,
    _mm_sfence, _mm_stream_si64, _mm_stream_si128, _mm256_loadu_si256, _mm256_stream_si256,
};
use std::ptr;

use super::crc_shift::Shift;

/// Bytes of a cache line, the unit of all loops.
const LINE: usize = 64;
/// Part of a long block: three of them are 4,032 bytes, so that an object of 4 KiB is one block and
/// a line.
const LONG: usize = 21 * LINE;
/// Part of a short block: what is left after these is under 576 bytes.
const SHORT: usize = 3 * LINE;
static LONG_ONCE: Shift = Shift::over(LONG);
static LONG_TWICE: Shift = Shift::over(2 * LONG);
static SHORT_ONCE: Shift = Shift::over(SHORT);
static SHORT_TWICE: Shift = Shift::over(2 * SHORT);

/// Bytes copied before they are summed, when they go through the cache: one long block and a line.
const SLICE: usize = 4096;

/// Whether the checksum's fast path can be used.
#[inline]
pub(super) fn has_crc() -> bool {
    is_x86_feature_detected!("sse4.2")
}

/// Copies past the cache.
///
/// # Safety
/// As for `super::copy`.
pub(super) unsafe fn copy_nontemporal(dst: *mut u8, src: *const u8, len: usize) {
    let head = dst.align_offset(LINE).min(len);
    // SAFETY: `head` is at most `len`.
    unsafe { ptr::copy_nonoverlapping(src, dst, head) };
    let lines = (len - head) / LINE;
    let (dst, src) = (dst.wrapping_add(head), src.wrapping_add(head));
    if is_x86_feature_detected!("avx") {
        // SAFETY: `lines` whole lines follow the head on both sides, `dst` is aligned now, and AVX
        // is there.
        unsafe { stream_avx(dst, src, lines) };
    } else {
        // SAFETY: `lines` whole lines follow the head on both sides, and `dst` is aligned now.
        unsafe { stream_sse2(dst, src, lines) };
    }
    let done = lines * LINE;
    let tail = len - head - done;
    // SAFETY: head, lines and tail add up to `len`.
    unsafe { ptr::copy_nonoverlapping(src.wrapping_add(done), dst.wrapping_add(done), tail) };
    fence_stores();
}

/// Copies and continues a checksum, through the cache: by slices, summed at their source while they
/// are in the first-level cache (the target is not, when the copy is made by `rep movsb`).
///
/// # Safety
/// As for `super::copy`; [`has_crc`] said yes.
pub(super) unsafe fn copy_with_crc(crc: u32, dst: *mut u8, src: *const u8, len: usize) -> u32 {
    let mut crc = crc;
    let mut at = 0;
    while at < len {
        let here = SLICE.min(len - at);
        let source = src.wrapping_add(at);
        // SAFETY: the slice lies inside the caller's bytes.
        unsafe { ptr::copy_nonoverlapping(source, dst.wrapping_add(at), here) };
        // SAFETY: the slice lies inside the caller's bytes, and the instructions are there.
        crc = unsafe { sum::<false>(crc, ptr::null_mut(), source, here) };
        at += here;
    }
    crc
}

/// Copies and continues a checksum, past the cache.
///
/// # Safety
/// As for `super::copy`; [`has_crc`] said yes.
pub(super) unsafe fn copy_nontemporal_with_crc(
    crc: u32,
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> u32 {
    fetch(src, len.min(3 * LONG));
    let head = dst.align_offset(LINE).min(len);
    // SAFETY: `head` is at most `len`.
    let crc = unsafe { copy_with_crc(crc, dst, src, head) };
    // SAFETY: `len - head` bytes follow the head on both sides, and `dst` is aligned now.
    let crc = unsafe {
        sum::<true>(
            crc,
            dst.wrapping_add(head),
            src.wrapping_add(head),
            len - head,
        )
    };
    fence_stores();
    crc
}

/// Continues a checksum.
///
/// # Safety
/// As for `super::crc32c`; [`has_crc`] said yes.
pub(super) unsafe fn crc32c(crc: u32, src: *const u8, len: usize) -> u32 {
    // SAFETY: the caller's promise is the callee's condition; nothing is stored.
    unsafe { sum::<false>(crc, ptr::null_mut(), src, len) }
}

/// Asks for bytes in the order of their addresses.
fn fetch(src: *const u8, len: usize) {
    for at in (0..len).step_by(LINE) {
        // SAFETY: a prefetch never faults, whatever the address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(src.wrapping_add(at).cast()) };
    }
}

/// Orders streaming stores before every later store.
fn fence_stores() {
    // SAFETY: SSE, which the fence belongs to, is part of x86-64.
    unsafe { _mm_sfence() };
}

/// # Safety
/// AVX is there; both sides have `lines` lines, and `dst` is aligned to a line.
#[target_feature(enable = "avx")]
unsafe fn stream_avx(dst: *mut u8, src: *const u8, lines: usize) {
    for line in 0..lines {
        let at = line * LINE;
        // SAFETY: line `line` is one of `lines` on both sides, and `dst` is aligned.
        unsafe { stream_line(dst.wrapping_add(at), src.wrapping_add(at)) };
    }
}

/// # Safety
/// Both sides have `lines` lines, and `dst` is aligned to 16 bytes.
#[expect(
    clippy::cast_ptr_alignment,
    reason = "loads are unaligned ones, the target is aligned"
)]
unsafe fn stream_sse2(dst: *mut u8, src: *const u8, lines: usize) {
    for quarter in 0..lines * (LINE / 16) {
        let at = quarter * 16;
        // SAFETY: the quarter lies inside the lines; unaligned loads are allowed here.
        let bytes = unsafe { _mm_loadu_si128(src.wrapping_add(at).cast::<__m128i>()) };
        // SAFETY: the quarter lies inside the lines and is aligned to 16 bytes.
        unsafe { _mm_stream_si128(dst.wrapping_add(at).cast::<__m128i>(), bytes) };
    }
}

/// Moves one line past the cache.
///
/// # Safety
/// AVX is there; a line can be read at `src` and written at `dst`, which is aligned to a line.
#[inline]
#[target_feature(enable = "avx")]
#[expect(
    clippy::cast_ptr_alignment,
    reason = "loads are unaligned ones, the target is aligned"
)]
unsafe fn stream_line(dst: *mut u8, src: *const u8) {
    // SAFETY: the first half of the caller's line.
    let first = unsafe { _mm256_loadu_si256(src.cast::<__m256i>()) };
    // SAFETY: the second half of the caller's line.
    let second = unsafe { _mm256_loadu_si256(src.wrapping_add(32).cast::<__m256i>()) };
    let target = dst.cast::<__m256i>();
    // SAFETY: the first half of the caller's line, aligned by its promise.
    unsafe { _mm256_stream_si256(target, first) };
    // SAFETY: the second half of the caller's line, aligned likewise.
    unsafe { _mm256_stream_si256(target.wrapping_add(1), second) };
}

/// Continues a register over one line, each word read once and, if `STORE`, moved past the cache.
///
/// # Safety
/// SSE 4.2 is there; a line can be read at `src` and, if `STORE`, written at `dst`, aligned to it.
#[inline]
#[target_feature(enable = "sse4.2")]
#[expect(
    clippy::cast_ptr_alignment,
    reason = "loads are unaligned ones, the target is aligned"
)]
unsafe fn sum_line<const STORE: bool>(mut register: u64, dst: *mut u8, src: *const u8) -> u64 {
    for word in 0..LINE / 8 {
        // SAFETY: the word lies inside the caller's line; unaligned reads are allowed here.
        let value = unsafe { src.cast::<u64>().wrapping_add(word).read_unaligned() };
        if STORE {
            let target = dst.cast::<i64>().wrapping_add(word);
            // SAFETY: the word lies inside the caller's line and is aligned.
            unsafe { _mm_stream_si64(target, value.cast_signed()) };
        }
        register = _mm_crc32_u64(register, value);
    }
    register
}

/// One block of three parts of `part` bytes each; if `FETCH`, the block behind it is asked for in
/// the order of its addresses, as the processor's own prefetching does not see through three
/// interleaved streams (measured: without it a sum over memory that is not cached takes twice as
/// long).
///
/// # Safety
/// As for [`sum`], with `3 * part` bytes; `part` is a multiple of a line.
#[inline]
#[target_feature(enable = "sse4.2")]
unsafe fn sum_block<const STORE: bool, const FETCH: bool>(
    register: u32,
    dst: *mut u8,
    src: *const u8,
    part: usize,
) -> [u32; 3] {
    let mut registers = [u64::from(register), 0, 0];
    let mut at = 0;
    while at < part {
        for (index, register) in registers.iter_mut().enumerate() {
            if FETCH {
                let ahead = src.wrapping_add(3 * part + 3 * at + index * LINE);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            }
            let offset = index * part + at;
            let (target, source) = (dst.wrapping_add(offset), src.wrapping_add(offset));
            // SAFETY: the line lies inside the caller's three parts, aligned as the target is.
            *register = unsafe { sum_line::<STORE>(*register, target, source) };
        }
        at += LINE;
    }
    registers.map(low32)
}

/// Continues the checksum `crc` over `len` bytes; if `STORE`, they are also moved past the cache.
///
/// # Safety
/// SSE 4.2 is there; `src` is readable for `len` bytes; if `STORE`, `dst` is writable for them
/// without overlap and aligned to a line.
#[target_feature(enable = "sse4.2")]
unsafe fn sum<const STORE: bool>(crc: u32, dst: *mut u8, src: *const u8, len: usize) -> u32 {
    let mut register = !crc;
    let mut at = 0;
    while len - at >= 3 * LONG {
        let (target, source) = (dst.wrapping_add(at), src.wrapping_add(at));
        let parts = if len - at >= 6 * LONG {
            // SAFETY: a whole long block is left; its parts are whole lines, so alignment stays.
            unsafe { sum_block::<STORE, true>(register, target, source, LONG) }
        } else {
            // SAFETY: as above.
            unsafe { sum_block::<STORE, false>(register, target, source, LONG) }
        };
        register = LONG_TWICE.advance(parts[0]) ^ LONG_ONCE.advance(parts[1]) ^ parts[2];
        at += 3 * LONG;
    }
    while len - at >= 3 * SHORT {
        let (target, source) = (dst.wrapping_add(at), src.wrapping_add(at));
        // SAFETY: a whole short block is left; its parts are whole lines, so alignment stays.
        let parts = unsafe { sum_block::<STORE, false>(register, target, source, SHORT) };
        register = SHORT_TWICE.advance(parts[0]) ^ SHORT_ONCE.advance(parts[1]) ^ parts[2];
        at += 3 * SHORT;
    }
    while len - at >= LINE {
        let (target, source) = (dst.wrapping_add(at), src.wrapping_add(at));
        // SAFETY: a whole line is left.
        register = low32(unsafe { sum_line::<STORE>(u64::from(register), target, source) });
        at += LINE;
    }
    while at < len {
        // SAFETY: `at` is below `len`.
        let byte = unsafe { src.wrapping_add(at).read() };
        if STORE {
            // SAFETY: as above.
            unsafe { dst.wrapping_add(at).write(byte) };
        }
        register = _mm_crc32_u8(register, byte);
        at += 1;
    }
    !register
}

/// The register of a 64-bit crc32 result, whose upper half is zero.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the instruction zeroes the upper half"
)]
fn low32(register: u64) -> u32 {
    register as u32
}
