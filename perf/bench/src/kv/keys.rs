//! Keys that look like real ones: model, rank and a block's hash, 34 to 51 bytes.

use crate::random::{GOLDEN, mix};

/// Most bytes of a key.
const KEY_MAX: usize = 64;

/// Longest prefix; shorter ones are filled up, so that all are copied alike.
const PREFIX_MAX: usize = 32;
const _: () = assert!(PREFIX_MAX + 16 <= KEY_MAX);

/// What stands before the hash; chosen by the key's own bits.
const PREFIXES: [Prefix; 4] = [
    Prefix::of(b"Qwen2.5-7B@rank:0@"),
    Prefix::of(b"Qwen2.5-72B-Instruct@tp_rank:3@"),
    Prefix::of(b"DeepSeek-V3@pcp0@dcp0@rank:12@"),
    Prefix::of(b"Llama-3.3-70B@head_or_tp_rank:7@"),
];

struct Prefix {
    bytes: [u8; PREFIX_MAX],
    len: usize,
}

impl Prefix {
    const fn of(text: &[u8]) -> Self {
        let mut bytes = [0; PREFIX_MAX];
        let mut at = 0;
        while at < text.len() {
            bytes[at] = text[at];
            at += 1;
        }
        Self {
            bytes,
            len: text.len(),
        }
    }
}

/// One key, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    bytes: [u8; KEY_MAX],
    len: usize,
}

impl Key {
    /// The key of number `index`; different numbers have different keys. Made anew for each call of
    /// a measurement, so it is made without a loop.
    pub(crate) fn of(index: u64) -> Self {
        let hash = seed_of(index);
        let prefix = &PREFIXES[usize::try_from(hash >> 62).expect("two bits")];
        let mut bytes = [0; KEY_MAX];
        bytes[..PREFIX_MAX].copy_from_slice(&prefix.bytes);
        let (high, low) = (hash >> 32, hash & u64::from(u32::MAX));
        bytes[prefix.len..][..8].copy_from_slice(&hex(high));
        bytes[prefix.len + 8..][..8].copy_from_slice(&hex(low));
        let len = prefix.len + 16;
        Self { bytes, len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// The eight hexadecimal digits of 32 bits: each nibble in a byte of its own, then all at once.
fn hex(word: u64) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let halves = ((word << 16) | word) & 0x0000_FFFF_0000_FFFF;
    let bytes = ((halves << 8) | halves) & 0x00FF_00FF_00FF_00FF;
    let nibbles = ((bytes << 4) | bytes) & (0x0F * ONES);
    let letters = ((nibbles + 6 * ONES) >> 4) & ONES;
    let digits = nibbles + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1);
    digits.to_be_bytes()
}

/// The word that names key `index`; it is in the key and at the start of its value.
pub(crate) fn seed_of(index: u64) -> u64 {
    mix(index.wrapping_add(1).wrapping_mul(GOLDEN))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for index in 0..1000 {
            let word = seed_of(index) >> 32;
            assert_eq!(hex(word), format!("{word:08x}").as_bytes());
            let key = Key::of(index);
            let digits = &key.bytes()[key.bytes().len() - 16..];
            assert_eq!(digits, format!("{:016x}", seed_of(index)).as_bytes());
        }
        assert_eq!(&hex(0xFFFF_FFFF), b"ffffffff");
        assert_eq!(&hex(0), b"00000000");
    }

    #[test]
    fn keys_are_valid_distinct_and_of_real_length() {
        let mut seen = HashSet::new();
        for index in 0..10_000 {
            let key = Key::of(index);
            chariot_proto::check_key(key.bytes()).unwrap();
            assert!(
                (32..=64).contains(&key.bytes().len()),
                "{}",
                key.bytes().len()
            );
            assert!(seen.insert(key.bytes().to_vec()), "key {index} twice");
        }
        assert_eq!(Key::of(7).bytes(), Key::of(7).bytes());
    }
}
