//! Bytes that can be checked: every value is made from a 64-bit seed, and any reader who knows the
//! seed can say how many bytes are wrong.
//!
//! Word `i` of a value is `mix(seed + (i + 1) × GOLDEN)`, little-endian: words are independent, so
//! filling and checking run at several GB/s and neither needs the other's copy.

use crate::random::{GOLDEN, mix};

/// Bytes checked between two looks at the outcome.
const SLICE: usize = 4096;

#[inline]
fn word(seed: u64, index: usize) -> u64 {
    mix(seed.wrapping_add((index as u64 + 1).wrapping_mul(GOLDEN)))
}

/// Fills `bytes` with the value of `seed`.
pub(crate) fn fill(seed: u64, bytes: &mut [u8]) {
    let mut words = bytes.chunks_exact_mut(8);
    let mut index = 0;
    for chunk in &mut words {
        chunk.copy_from_slice(&word(seed, index).to_le_bytes());
        index += 1;
    }
    let rest = words.into_remainder();
    let last = word(seed, index).to_le_bytes();
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Counts the bytes that differ from the value of `seed` with `expected_len` bytes; bytes that are
/// missing or too many are wrong, too.
pub(crate) fn wrong_bytes(seed: u64, expected_len: usize, bytes: &[u8]) -> u64 {
    let common = &bytes[..bytes.len().min(expected_len)];
    let mut wrong = bytes.len().abs_diff(expected_len) as u64;
    for (number, slice) in common.chunks(SLICE).enumerate() {
        let first = number * (SLICE / 8);
        if difference(seed, first, slice) != 0 {
            wrong += count_wrong(seed, first, slice);
        }
    }
    wrong
}

/// Every bit in which the slice differs from its value, all words laid over each other.
#[inline]
fn difference(seed: u64, first: usize, slice: &[u8]) -> u64 {
    let words = slice.chunks_exact(8);
    let rest = words.remainder();
    let mut index = first;
    let mut difference = 0;
    for chunk in words {
        let found = u64::from_le_bytes(chunk.try_into().expect("chunks of eight bytes"));
        difference |= found ^ word(seed, index);
        index += 1;
    }
    let last = word(seed, index).to_le_bytes();
    rest.iter()
        .zip(last)
        .fold(difference, |sum, (found, byte)| {
            sum | u64::from(found ^ byte)
        })
}

/// The slow twin of [`difference`]: counts bytes.
fn count_wrong(seed: u64, first: usize, slice: &[u8]) -> u64 {
    let expected = |at: usize| word(seed, first + at / 8).to_le_bytes()[at % 8];
    slice
        .iter()
        .enumerate()
        .filter(|(at, byte)| **byte != expected(*at))
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 9] = [0, 1, 7, 8, 9, 4095, 4096, 4101, 65_536];

    #[test]
    fn filled_value_has_no_wrong_byte() {
        for len in LENGTHS {
            let mut bytes = vec![0; len];
            fill(9, &mut bytes);
            assert_eq!(wrong_bytes(9, len, &bytes), 0, "{len}");
        }
    }

    #[test]
    fn flipped_bit_is_one_wrong_byte_wherever_it_is() {
        for len in LENGTHS.into_iter().filter(|len| *len > 0) {
            for at in [0, len / 2, len - 1] {
                let mut bytes = vec![0; len];
                fill(3, &mut bytes);
                bytes[at] ^= 0x40;
                assert_eq!(wrong_bytes(3, len, &bytes), 1, "byte {at} of {len}");
            }
        }
    }

    #[test]
    fn missing_and_surplus_bytes_are_wrong() {
        let mut bytes = vec![0; 100];
        fill(3, &mut bytes);
        assert_eq!(wrong_bytes(3, 110, &bytes), 10);
        assert_eq!(wrong_bytes(3, 90, &bytes), 10);
        assert_eq!(wrong_bytes(3, 100, &[]), 100);
    }

    #[test]
    fn value_of_another_seed_is_wrong_nearly_everywhere() {
        let mut bytes = vec![0; 65_536];
        fill(3, &mut bytes);
        assert!(wrong_bytes(4, bytes.len(), &bytes) > 64_000);
    }
}
