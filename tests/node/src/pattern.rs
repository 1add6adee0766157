//! Bytes that say whose they are: derived from a number, different at every place.

/// Fills `bytes` with the pattern of `seed`.
pub fn fill(bytes: &mut [u8], seed: u64) {
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = word(seed, index as u64).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// Makes a value of `len` bytes with the pattern of `seed`.
pub fn value(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, seed);
    bytes
}

/// Says whether `bytes` are the pattern of `seed`, whole.
pub fn matches(bytes: &[u8], seed: u64) -> bool {
    bytes
        .chunks(8)
        .enumerate()
        .all(|(index, chunk)| word(seed, index as u64).to_le_bytes().starts_with(chunk))
}

/// One multiplication and two shifts: a debug build fills a gigabyte in seconds.
fn word(seed: u64, index: u64) -> u64 {
    let mixed = (seed ^ index.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29) ^ index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_tells_seeds_and_places_apart() {
        let mut bytes = value(1_000, 7);
        assert!(matches(&bytes, 7));
        assert!(!matches(&bytes, 8));
        bytes[999] ^= 1;
        assert!(!matches(&bytes, 7));
        bytes[999] ^= 1;
        bytes.swap(0, 8);
        assert!(!matches(&bytes, 7));
    }
}
