//! Counters of one store, as `/metrics` shows them.

/// Buckets of the eviction age histogram.
pub const AGE_BUCKETS: usize = 36;

/// How long evicted entries had lived since they were written, in milliseconds.
///
/// Lives on: any shard (plain numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionAges {
    /// Evictions counted.
    pub count: u64,
    /// Sum of all ages.
    pub sum_ms: u64,
    /// Age of the last one evicted.
    pub last_ms: u64,
    /// Evictions by age: bucket 0 is below 1 ms, bucket `n` from 2^(n-1) to below 2^n ms; the last
    /// one holds everything above.
    pub buckets: [u64; AGE_BUCKETS],
}

impl Default for EvictionAges {
    fn default() -> Self {
        Self {
            count: 0,
            sum_ms: 0,
            last_ms: 0,
            buckets: [0; AGE_BUCKETS],
        }
    }
}

impl EvictionAges {
    /// Returns the mean age, 0 before the first eviction.
    pub const fn mean_ms(&self) -> u64 {
        match self.sum_ms.checked_div(self.count) {
            Some(mean) => mean,
            None => 0,
        }
    }

    pub(crate) fn note(&mut self, age_ms: u64) {
        let bucket = (u64::BITS - age_ms.leading_zeros()) as usize;
        self.buckets[bucket.min(AGE_BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(age_ms);
        self.last_ms = age_ms;
    }
}

/// A snapshot of one store. Counts since its start, unless the text says "now".
///
/// Lives on: any shard (plain numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Entries now, expired ones that wait for their tick included.
    pub entries: u64,
    /// Entries now that may not be evicted.
    pub kept_entries: u64,
    /// Entries now that have an expiry.
    pub expiring_entries: u64,
    /// Bytes of all values now.
    pub bytes: u64,
    /// Bytes now of values that may not be evicted.
    pub kept_bytes: u64,
    /// Bytes of metadata now: index, links, timers, ghost queue.
    pub metadata_bytes: u64,
    /// Lookups that found their key.
    pub hits: u64,
    /// Lookups that did not, expired keys included.
    pub misses: u64,
    /// New keys.
    pub inserts: u64,
    /// Values that took the place of another.
    pub overwrites: u64,
    /// Writes refused because their key exists.
    pub refused_exists: u64,
    /// Writes refused because all records were taken and kept.
    pub refused_metadata: u64,
    /// Keys deleted.
    pub removes: u64,
    /// Keys whose time was over.
    pub expirations: u64,
    /// Entries evicted, for any reason.
    pub evictions: u64,
    /// Bytes of values evicted.
    pub evicted_bytes: u64,
    /// Entries of `evictions` that went because a record, not bytes, was needed.
    pub metadata_evictions: u64,
    /// Times that the hand passed over a pinned entry.
    pub pinned_passes: u64,
    /// Recency notes heard.
    pub notes: u64,
    /// Recency notes of records that had changed, or never existed.
    pub stale_notes: u64,
    /// How old evicted entries were.
    pub eviction_ages: EvictionAges,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fall_into_buckets_of_powers_of_two() {
        let mut ages = EvictionAges::default();
        assert_eq!(ages.mean_ms(), 0);
        for age_ms in [0, 1, 2, 3, 1 << 60] {
            ages.note(age_ms);
        }
        assert_eq!(&ages.buckets[..3], &[1, 1, 2]);
        assert_eq!(
            (ages.buckets[AGE_BUCKETS - 1], ages.count, ages.last_ms),
            (1, 5, 1 << 60)
        );
        assert_eq!(ages.mean_ms(), ((1 << 60) + 6) / 5);
    }
}
