//! Every variant against the checksum crate and a plain copy, at odd lengths and alignments.

use super::{
    NONTEMPORAL_MIN, Source, Target, copy, copy_cold, copy_cold_with_crc, copy_nontemporal,
    copy_nontemporal_with_crc_append, copy_with_crc, crc32c, gather, gather_with_crc, portable,
    scatter, scatter_with_crc,
};

/// A copy under test: target and source of equal length; its checksum, if it makes one.
type Variant = fn(&mut [u8], &[u8]) -> Option<u32>;

fn plain(dst: &mut [u8], src: &[u8]) -> Option<u32> {
    // SAFETY: two distinct slices of equal length.
    unsafe { copy(dst.as_mut_ptr(), src.as_ptr(), src.len()) };
    None
}

fn nontemporal(dst: &mut [u8], src: &[u8]) -> Option<u32> {
    // SAFETY: two distinct slices of equal length.
    unsafe { copy_nontemporal(dst.as_mut_ptr(), src.as_ptr(), src.len()) };
    None
}

fn cold(dst: &mut [u8], src: &[u8]) -> Option<u32> {
    // SAFETY: two distinct slices of equal length.
    unsafe { copy_cold(dst.as_mut_ptr(), src.as_ptr(), src.len()) };
    None
}

#[expect(clippy::unnecessary_wraps, reason = "the type of all variants")]
fn cold_crc(dst: &mut [u8], src: &[u8]) -> Option<u32> {
    // SAFETY: two distinct slices of equal length.
    Some(unsafe { copy_cold_with_crc(dst.as_mut_ptr(), src.as_ptr(), src.len()) })
}

#[expect(clippy::unnecessary_wraps, reason = "the type of all variants")]
fn chosen_crc(dst: &mut [u8], src: &[u8]) -> Option<u32> {
    // SAFETY: two distinct slices of equal length.
    Some(unsafe { copy_with_crc(dst.as_mut_ptr(), src.as_ptr(), src.len()) })
}

#[expect(clippy::unnecessary_wraps, reason = "the type of all variants")]
fn portable_crc(dst: &mut [u8], src: &[u8]) -> Option<u32> {
    // SAFETY: two distinct slices of equal length.
    Some(unsafe { portable::copy_with_crc(0, dst.as_mut_ptr(), src.as_ptr(), src.len()) })
}

#[expect(clippy::unnecessary_wraps, reason = "the type of all variants")]
fn streaming_crc(dst: &mut [u8], src: &[u8]) -> Option<u32> {
    let (dst, len) = (dst.as_mut_ptr(), src.len());
    // SAFETY: two distinct slices of equal length.
    Some(unsafe { copy_nontemporal_with_crc_append(0, dst, src.as_ptr(), len) })
}

const VARIANTS: [Variant; 7] = [
    cold,
    cold_crc,
    plain,
    nontemporal,
    chosen_crc,
    portable_crc,
    streaming_crc,
];

/// Bytes from a linear congruential generator.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// Copies `src` to a place `shift` bytes behind a line's start; checks bytes, neighbours and
/// checksum.
fn check(variant: Variant, src: &[u8], shift: usize) {
    let mut target = vec![0xa5; src.len() + 192];
    let start = target.as_ptr().align_offset(64) + shift;
    let answer = variant(&mut target[start..start + src.len()], src);
    assert!(target[start..start + src.len()] == *src);
    assert!(target[..start].iter().all(|&byte| byte == 0xa5));
    assert!(target[start + src.len()..].iter().all(|&byte| byte == 0xa5));
    if let Some(crc) = answer {
        assert_eq!(crc, crc32c::crc32c(src));
    }
}

#[test]
fn every_variant_copies_and_sums_every_small_length() {
    let source = bytes(700);
    for variant in VARIANTS {
        for len in 0..=source.len() {
            check(variant, &source[..len], len % 64);
            check(variant, &source[source.len() - len..], 0);
        }
    }
}

#[test]
fn every_variant_copies_and_sums_across_its_thresholds() {
    let source = bytes(NONTEMPORAL_MIN + 4096);
    for variant in VARIANTS {
        for len in [
            4031,
            4032,
            4033,
            4096,
            72 * 1024,
            NONTEMPORAL_MIN - 1,
            NONTEMPORAL_MIN,
            NONTEMPORAL_MIN + 4095,
        ] {
            check(variant, &source[1..=len], 0);
            check(variant, &source[..len], 17);
        }
    }
}

#[test]
fn checksum_alone_equals_the_crate_and_a_changed_bit_changes_it() {
    let mut source = bytes(10_000);
    for len in [0, 1, 63, 64, 575, 576, 4032, 10_000] {
        // SAFETY: `len` is at most the vector's length.
        let fast = unsafe { crc32c(source.as_ptr(), len) };
        // SAFETY: as above.
        let twin = unsafe { portable::crc32c(0, source.as_ptr(), len) };
        assert_eq!(fast, crc32c::crc32c(&source[..len]));
        assert_eq!(twin, fast);
    }
    let before = crc32c::crc32c(&source);
    source[5000] ^= 1;
    // SAFETY: the whole vector.
    assert_ne!(unsafe { crc32c(source.as_ptr(), source.len()) }, before);
}

#[test]
fn gather_and_scatter_keep_order_and_sum() {
    let source = bytes(9000);
    let (first, rest) = source.split_at(4097);
    let (second, third) = rest.split_at(0);
    let sources = [first, second, third].map(|part| Source {
        base: part.as_ptr(),
        len: part.len(),
    });
    for sum in [false, true] {
        let mut joined = vec![0; source.len()];
        if sum {
            // SAFETY: the sources are live slices, the target as long as all of them.
            let crc = unsafe { gather_with_crc(joined.as_mut_ptr(), &sources) };
            assert_eq!(crc, crc32c::crc32c(&source));
        } else {
            // SAFETY: as above.
            let len = unsafe { gather(joined.as_mut_ptr(), &sources) };
            assert_eq!(len, source.len());
        }
        assert!(joined == source);
        let mut parts = [vec![0; 100], vec![0; 0], vec![0; 8900]];
        let targets = parts.each_mut().map(|part| Target {
            base: part.as_mut_ptr(),
            len: part.len(),
        });
        if sum {
            // SAFETY: the targets are live vectors of 9,000 bytes together.
            let crc = unsafe { scatter_with_crc(&targets, source.as_ptr()) };
            assert_eq!(crc, crc32c::crc32c(&source));
        } else {
            // SAFETY: as above.
            assert_eq!(unsafe { scatter(&targets, source.as_ptr()) }, 9000);
        }
        assert!(parts.concat() == source);
    }
}
