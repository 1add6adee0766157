//! Keys that look like real ones: model, rank and a block's hash, 34 to 51 bytes.

use crate::random::{GOLDEN, mix};

/// Most bytes of a key.
const KEY_MAX: usize = 64;

/// What stands before the hash; chosen by the key's own bits.
const PREFIXES: [&str; 4] = [
    "Qwen2.5-7B@rank:0@",
    "Qwen2.5-72B-Instruct@tp_rank:3@",
    "DeepSeek-V3@pcp0@dcp0@rank:12@",
    "Llama-3.3-70B@head_or_tp_rank:7@",
];

/// One key, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    bytes: [u8; KEY_MAX],
    len: usize,
}

impl Key {
    /// The key of number `index`; different numbers have different keys.
    pub(crate) fn of(index: u64) -> Self {
        let hash = seed_of(index);
        let prefix = PREFIXES[usize::try_from(hash >> 62).expect("two bits")];
        let mut bytes = [0; KEY_MAX];
        let len = prefix.len() + 16;
        bytes[..prefix.len()].copy_from_slice(prefix.as_bytes());
        for (at, byte) in bytes[prefix.len()..len].iter_mut().enumerate() {
            let digit = (hash >> (60 - 4 * at)) & 0xF;
            *byte = b"0123456789abcdef"[usize::try_from(digit).expect("four bits")];
        }
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

/// The word that names key `index`; it is in the key and at the start of its value.
pub(crate) fn seed_of(index: u64) -> u64 {
    mix(index.wrapping_add(1).wrapping_mul(GOLDEN))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

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
