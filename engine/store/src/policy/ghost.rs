//! The ghost queue of `s3fifo`: which keys were evicted from the small queue not long ago.
//!
//! ```text
//! bucket (u128):  |127..112| ... |31..16|15..0|    eight 16-bit fingerprints, newest lowest
//! ```
//! A key's hash chooses a bucket; each bucket is a FIFO of eight fingerprints in one word, so that
//! an insert is a shift and forgetting needs neither links nor time stamps. A strange key is taken
//! for a known one with probability 8/65,535, which only costs it a wrong queue.
//!
//! Bounded: as many fingerprints as the main queue has (had, at its longest) entries, as the paper
//! asks. The table grows by one bucket at a time (linear hashing); a split copies the old bucket to
//! both halves, because a fingerprint does not tell which of the two it belongs to, and the copy
//! that is wrong is pushed out unasked. So no call ever rehashes.
//!
//! Rejected: exact hashes in a queue with a map (24 bytes and more an entry); fingerprints with
//! time stamps (4 bytes).

const LANES: u32 = 8;
const LANE_BITS: u32 = 16;
const LEVEL_MIN: u32 = 3;

const _: () = assert!(LANES * LANE_BITS == u128::BITS);

/// The table of fingerprints.
pub(super) struct Ghost {
    /// As long as the table may ever be; zeroed and untouched beyond `count`.
    buckets: Vec<u128>,
    /// Buckets in use: `2^level + split`.
    count: u32,
    level: u32,
}

impl Ghost {
    /// Makes an empty table that may grow to `entries_max` fingerprints.
    pub(super) fn new(entries_max: u32) -> Self {
        let count = 1 << LEVEL_MIN;
        let buckets_max = (entries_max / LANES).max(count);
        Self {
            buckets: vec![0; buckets_max as usize],
            count,
            level: LEVEL_MIN,
        }
    }

    /// Remembers a key, and forgets the oldest of its bucket; grows towards `entries` fingerprints
    /// by at most one bucket.
    pub(super) fn insert(&mut self, hash: u64, entries: u32) {
        if self.count < entries / LANES && (self.count as usize) < self.buckets.len() {
            self.split();
        }
        let (bucket, lane) = self.place(hash);
        self.buckets[bucket] = (self.buckets[bucket] << LANE_BITS) | u128::from(lane);
    }

    /// Tells whether a key is remembered, and forgets it.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let (bucket, lane) = self.place(hash);
        let word = self.buckets[bucket];
        for index in 0..LANES {
            let shift = index * LANE_BITS;
            if (word >> shift) & u128::from(u16::MAX) == u128::from(lane) {
                let newer = word & ((1 << shift) - 1);
                let older = word.checked_shr(shift + LANE_BITS).unwrap_or(0) << shift;
                self.buckets[bucket] = newer | older;
                return true;
            }
        }
        false
    }

    /// Returns the bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.count) * u64::from(u128::BITS / 8)
    }

    fn split(&mut self) {
        let half = 1 << self.level;
        let from = self.count - half;
        assert!(from < half);
        self.buckets[self.count as usize] = self.buckets[from as usize];
        self.count += 1;
        if self.count == 2 * half {
            self.level += 1;
        }
    }

    /// The bucket and the fingerprint (never 0, which is an empty lane) of a hash.
    fn place(&self, hash: u64) -> (usize, u16) {
        let [low, high, ..] = hash.to_le_bytes();
        let lane = u16::from_le_bytes([low, high]).max(1);
        // The bucket comes from the other 48 bits.
        let rest = hash >> LANE_BITS;
        let half = 1_u64 << self.level;
        let split = u64::from(self.count) - half;
        let mut bucket = rest & (half - 1);
        if bucket < split {
            bucket = rest & (2 * half - 1);
        }
        (
            usize::try_from(bucket).expect("a bucket index is below 2^30"),
            lane,
        )
    }
}

#[cfg(test)]
mod tests {
    use chariot_base::{Random, SplitMix64};

    use super::*;

    #[test]
    fn ghost_remembers_about_as_many_as_it_is_told() {
        let (mut ghost, mut random) = (Ghost::new(1 << 16), SplitMix64::new(1));
        let hashes: Vec<u64> = (0..40_000).map(|_| random.next_u64()).collect();
        for &hash in &hashes {
            ghost.insert(hash, 8_192);
        }
        assert_eq!(ghost.bytes(), 8_192 * 2);
        let newest = hashes[36_000..]
            .iter()
            .filter(|&&hash| ghost.take(hash))
            .count();
        assert!(
            newest > 3_600,
            "{newest} of the newest 4,000 are remembered"
        );
        let oldest = hashes[..16_000]
            .iter()
            .filter(|&&hash| ghost.take(hash))
            .count();
        assert!(oldest < 320, "{oldest} of the oldest 16,000 are remembered");
    }

    #[test]
    fn ghost_forgets_a_key_that_was_taken() {
        let mut ghost = Ghost::new(64);
        (1..=8_u64).for_each(|lane| ghost.insert(lane, 64));
        assert!(ghost.take(3));
        assert!(!ghost.take(3));
        assert!(
            [8, 7, 6, 5, 4, 2, 1]
                .into_iter()
                .all(|lane| ghost.take(lane))
        );
        assert!(!ghost.take(1));
    }

    #[test]
    fn ghost_finds_keys_across_splits() {
        let mut ghost = Ghost::new(1 << 10);
        let hashes: Vec<u64> = (0..60).map(|n: u64| (n << 16) | (100 + n)).collect();
        for &hash in &hashes {
            ghost.insert(hash, 64);
        }
        let at_first = ghost.count;
        while ghost.count < 100 {
            ghost.split();
        }
        assert_eq!(at_first, 8);
        assert!(hashes.iter().all(|&hash| ghost.take(hash)));
    }

    #[test]
    fn ghost_never_outgrows_its_bound() {
        let mut ghost = Ghost::new(100);
        (0..10_000_u64).for_each(|n| ghost.insert(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), u32::MAX));
        assert_eq!(ghost.count, 12);
    }
}
