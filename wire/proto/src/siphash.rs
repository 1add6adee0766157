//! SipHash-2-4 with 128 bits of output, over bytes that are all there: what every call on a key
//! begins with.
//!
//! From the description (J.-P. Aumasson, D. J. Bernstein, "`SipHash`: a fast short-input PRF",
//! 2012) and the 128-bit variant of its authors. A general hasher keeps what it was fed between
//! calls; a tenth of the instructions for a short key went there. A test compares this one with
//! such a hasher.

/// Says that 128 bits are wanted.
const WIDE: u64 = 0xee;
/// Between the two halves of the output.
const SECOND_HALF: u64 = 0xdd;

/// The four words between rounds.
#[derive(Clone, Copy)]
struct State([u64; 4]);

impl State {
    #[inline]
    fn new(secret: &[u8; 16]) -> Self {
        let word = u128::from_le_bytes(*secret);
        #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
        let (first, second) = (word as u64, (word >> 64) as u64);
        Self([
            first ^ 0x736f_6d65_7073_6575,
            second ^ 0x646f_7261_6e64_6f6d ^ WIDE,
            first ^ 0x6c79_6765_6e65_7261,
            second ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.0;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }

    #[inline]
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    #[inline]
    fn half(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.0.into_iter().fold(0, |all, word| all ^ word)
    }
}

/// Hashes `bytes` under `secret`: both halves, each as the reference writes it, little endian.
#[inline]
pub(crate) fn hash(secret: &[u8; 16], bytes: &[u8]) -> (u64, u64) {
    let mut state = State::new(secret);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.take(u64::from_le_bytes(*word));
    }
    // The last word: what is left over, and the length (its low byte) on top.
    let left = match bytes.last_chunk::<8>() {
        _ if rest.is_empty() => 0,
        // The last eight bytes, less those that were taken already.
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => rest
            .iter()
            .rev()
            .fold(0, |word, &byte| (word << 8) | u64::from(byte)),
    };
    state.take(left | ((bytes.len() as u64) << 56));
    state.0[2] ^= WIDE;
    let first = state.half();
    state.0[1] ^= SECOND_HALF;
    (first, state.half())
}

#[cfg(test)]
mod tests {
    use siphasher::sip128::SipHasher24;

    /// Every length around one and two words, and the longest key.
    #[test]
    fn agrees_with_a_general_hasher_at_every_length() {
        let bytes: Vec<u8> = (0_u32..1025)
            .map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()[3])
            .collect();
        let secret: [u8; 16] = std::array::from_fn(|at| bytes[at + 100]);
        for len in (0..=70).chain([255, 256, 257, 1023, 1024, 1025]) {
            let expected = SipHasher24::new_with_key(&secret).hash(&bytes[..len]);
            let found = super::hash(&secret, &bytes[..len]);
            assert_eq!(found, (expected.h1, expected.h2), "{len} bytes");
        }
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let secret = [7; 16];
        let mut seen = std::collections::BTreeSet::new();
        for len in 0..40 {
            assert!(seen.insert(super::hash(&secret, &vec![0; len])));
            for at in 0..len {
                let mut bytes = vec![0; len];
                bytes[at] = 1;
                assert!(seen.insert(super::hash(&secret, &bytes)), "{at} of {len}");
            }
        }
    }
}
