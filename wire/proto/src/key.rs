//! A key's identity: its 128-bit keyed hash, and what is taken from which bits of it.
//!
//! ```text
//!        hi: |63 .. 50|49 ............ 0|      lo: |63 .. (fast-range) ..|15 .. 0|
//!            |  slot  |   bucket_hash   |          |        shard        |  tag  |
//! ```
//! Slots and shards come from different words, so that a slot's directory is spread over all
//! shards of its node. All 128 bits are compared where an entry is looked up; two keys with the
//! same hash are the same key, which is why the hash is keyed by a secret of the tenant: nobody
//! without it can make two such keys.

use core::fmt;

use crate::error::KeyError;
use crate::limits::KEY_MAX;
use crate::siphash;

/// Holds the 16 bytes under which a tenant's keys are hashed.
///
/// Never printed: whoever has it can search for colliding keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeySecret(pub [u8; 16]);

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(..)")
    }
}

/// Identifies a key of one tenant on every node, across restarts.
///
/// Lives on: any shard, any process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash {
    /// The first eight bytes of the hash, little endian.
    pub hi: u64,
    /// The last eight bytes of the hash, little endian.
    pub lo: u64,
}

impl KeyHash {
    /// Hashes `key` (any bytes) with SipHash-2-4-128 under `secret`. Cost is linear in the key.
    pub fn of(secret: &KeySecret, key: &[u8]) -> Self {
        let (hi, lo) = siphash::hash(&secret.0, key);
        Self { hi, lo }
    }

    /// Returns the hash slot, 0 to 16,383: the top 14 bits of `hi`.
    pub const fn slot(self) -> u16 {
        // The shift leaves 14 bits, so nothing is lost.
        (self.hi >> 50) as u16
    }

    /// Returns the 50 bits that choose a bucket of the index: the low bits of `hi`.
    pub const fn bucket_hash(self) -> u64 {
        self.hi & ((1 << 50) - 1)
    }

    /// Returns the tag beside a record in its bucket, 1 to 65,535: the low 16 bits of `lo`, with 0
    /// (an empty place) mapped to 1.
    pub const fn tag(self) -> u16 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low 16 bits are wanted"
        )]
        let low = self.lo as u16;
        if low == 0 { 1 } else { low }
    }

    /// Returns the shard, 0 to `shard_count` - 1, by fast-range over the top bits of `lo`
    /// (Lemire, "Fast random integer generation in an interval", 2019).
    ///
    /// # Panics
    ///
    /// When `shard_count` is 0: a node without shards is a bug of the caller.
    #[inline]
    pub const fn shard(self, shard_count: u16) -> u16 {
        assert!(shard_count > 0);
        #[expect(clippy::cast_possible_truncation, reason = "the product is below 2^80")]
        let shard = ((self.lo as u128 * shard_count as u128) >> 64) as u16;
        assert!(shard < shard_count);
        shard
    }
}

/// Which bytes a key may hold, by value.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let candidate = byte as u8;
        allowed[byte] = candidate.is_ascii_alphanumeric();
        byte += 1;
    }
    let punctuation = b"~.-/_!@#%^&*()+=:;";
    let mut at = 0;
    while at < punctuation.len() {
        allowed[punctuation[at] as usize] = true;
        at += 1;
    }
    allowed
};

/// Checks that `key` is a key: 1 to 1,024 bytes of `[A-Za-z0-9~.\-/_!@#%^&*()+=:;]`.
///
/// # Errors
///
/// [`KeyError`] names the first thing that is wrong; the request for that key is answered
/// `KeyInvalid`, the rest of its batch goes on.
pub fn check_key(key: &[u8]) -> Result<(), KeyError> {
    let is_key = !key.is_empty() && key.len() <= usize::from(KEY_MAX) && is_allowed(key);
    if is_key { Ok(()) } else { Err(fault(key)) }
}

/// Whether all bytes are of the alphabet. No branch a byte: half the instructions of a search
/// for the first that is not.
#[inline]
fn is_allowed(key: &[u8]) -> bool {
    let (blocks, rest) = key.as_chunks::<8>();
    let mut allowed = true;
    for block in blocks {
        for &byte in block {
            allowed &= ALLOWED[usize::from(byte)];
        }
    }
    for &byte in rest {
        allowed &= ALLOWED[usize::from(byte)];
    }
    allowed
}

/// The first thing that is wrong with what is no key.
#[cold]
fn fault(key: &[u8]) -> KeyError {
    let len = key.len() as u64;
    if key.is_empty() {
        return KeyError::Empty;
    }
    (0_u16..KEY_MAX)
        .zip(key)
        .find(|&(_, &byte)| !ALLOWED[usize::from(byte)])
        .filter(|_| len <= u64::from(KEY_MAX))
        .map_or(KeyError::TooLong { len }, |(position, &byte)| {
            KeyError::Byte { byte, position }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE_SECRET: KeySecret =
        KeySecret([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    /// The first two vectors of the reference implementation of SipHash-2-4-128.
    #[test]
    fn hash_agrees_with_reference_vectors() {
        let empty = KeyHash::of(&REFERENCE_SECRET, b"");
        assert_eq!(
            empty.hi.to_le_bytes(),
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6]
        );
        assert_eq!(
            empty.lo.to_le_bytes(),
            [0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]
        );
        let one = KeyHash::of(&REFERENCE_SECRET, &[0]);
        assert_eq!(
            one.hi.to_le_bytes(),
            [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44]
        );
        assert_eq!(
            one.lo.to_le_bytes(),
            [0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45]
        );
    }

    #[test]
    fn hash_differs_between_tenants() {
        let other = KeySecret([7; 16]);
        assert_ne!(
            KeyHash::of(&REFERENCE_SECRET, b"k"),
            KeyHash::of(&other, b"k")
        );
    }

    #[test]
    fn parts_come_from_the_documented_bits() {
        let hash = KeyHash {
            hi: u64::MAX,
            lo: 0,
        };
        assert_eq!(hash.slot(), 16_383);
        assert_eq!(hash.bucket_hash(), (1 << 50) - 1);
        assert_eq!(hash.tag(), 1, "zero means an empty place");
        assert_eq!(hash.shard(64), 0);
        let hash = KeyHash {
            hi: 1 << 50,
            lo: u64::MAX,
        };
        assert_eq!(hash.slot(), 1);
        assert_eq!(hash.bucket_hash(), 0);
        assert_eq!(hash.tag(), u16::MAX);
        assert_eq!(hash.shard(64), 63);
        assert_eq!(hash.shard(1), 0);
    }

    #[test]
    fn shards_are_even_and_independent_of_slots() {
        let mut counts = [0_u32; 7];
        for number in 0_u32..70_000 {
            let hash = KeyHash::of(&REFERENCE_SECRET, &number.to_le_bytes());
            if hash.slot() < 8192 {
                counts[usize::from(hash.shard(7))] += 1;
            }
        }
        // 5,000 are expected; seven standard deviations are 460.
        assert!(
            counts.iter().all(|&count| (4540..=5460).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn check_key_accepts_the_alphabet_and_both_lengths() {
        let all =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789~.-/_!@#%^&*()+=:;";
        assert_eq!(check_key(all), Ok(()));
        assert_eq!(check_key(b"k"), Ok(()));
        assert_eq!(check_key(&[b'k'; 1024]), Ok(()));
        let allowed = (0_u8..=255)
            .filter(|byte| check_key(&[*byte]).is_ok())
            .count();
        assert_eq!(allowed, all.len());
    }

    #[test]
    fn check_key_names_what_is_wrong() {
        assert_eq!(check_key(b""), Err(KeyError::Empty));
        assert_eq!(
            check_key(&[b'k'; 1025]),
            Err(KeyError::TooLong { len: 1025 })
        );
        assert_eq!(
            check_key(b"a b"),
            Err(KeyError::Byte {
                byte: b' ',
                position: 1
            })
        );
        // Wherever it is among the others, the first of two.
        for len in 1..40_u16 {
            for position in 0..len {
                let mut key = vec![b'k'; usize::from(len)];
                key[usize::from(position)] = b'?';
                key[usize::from(len) - 1] = b'?';
                let first = KeyError::Byte {
                    byte: b'?',
                    position,
                };
                assert_eq!(check_key(&key), Err(first));
            }
        }
        let mut both = [b'k'; 1025];
        both[3] = b' ';
        assert_eq!(check_key(&both), Err(KeyError::TooLong { len: 1025 }));
        assert_eq!(
            check_key(b"\xff"),
            Err(KeyError::Byte {
                byte: 0xff,
                position: 0
            })
        );
        assert_eq!(KeyError::Empty.status(), crate::Status::KeyInvalid);
    }

    #[test]
    fn secret_is_not_printed() {
        assert_eq!(format!("{:?}", KeySecret([42; 16])), "KeySecret(..)");
    }
}
