//! What a store tells about itself.

/// How far recovery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryProgress {
    /// Segments that are done.
    pub segments_done: u32,
    /// Segments there are to look at; grows while headers are read.
    pub segments_total: u32,
    /// Records seen so far.
    pub records: u64,
}

/// Counters since the store was opened, and what it holds now. All sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SsdStats {
    /// Objects that can be found.
    pub objects: u64,
    /// Entries of the index, tombstones included.
    pub entries: u64,
    /// Bytes of the device that live records take, padding and headers included.
    pub live_bytes: u64,
    /// Of these, bytes of records that are never given up.
    pub kept_bytes: u64,
    /// Bytes of all segments of the own partition.
    pub capacity_bytes: u64,
    /// Segments that nothing is in.
    pub segments_free: u32,
    /// Segments of the own partition.
    pub segments_total: u32,
    /// Segments set aside after an error.
    pub segments_isolated: u32,
    /// Bytes of the index in memory.
    pub index_bytes: u64,
    /// Lookups that hit.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Lookups answered `Unknown`.
    pub unknown: u64,
    /// Objects written.
    pub appended: u64,
    /// Value bytes written.
    pub appended_bytes: u64,
    /// All bytes written to the device: groups, headers, footers, copies.
    pub written_bytes: u64,
    /// Bytes read for hits.
    pub read_bytes: u64,
    /// Bytes read by cleaner and recovery.
    pub scanned_bytes: u64,
    /// Bytes copied by the cleaner.
    pub cleaned_bytes: u64,
    /// Segments erased.
    pub segments_erased: u64,
    /// Objects given up because room was needed.
    pub dropped: u64,
    /// Objects found expired.
    pub expired: u64,
    /// Tombstones written.
    pub tombstones: u64,
    /// Appends refused by the admission policy.
    pub not_admitted: u64,
    /// Appends refused for lack of room.
    pub refused: u64,
    /// Bytes written in the current day of wall clock.
    pub day_bytes: u64,
    /// Errors of reads.
    pub read_errors: u64,
    /// Errors of writes and flushes.
    pub write_errors: u64,
    /// Values whose checksum was wrong.
    pub corrupt_values: u64,
    /// Headers, groups and footers that were damaged.
    pub corrupt_metadata: u64,
    /// I/Os that passed their deadline.
    pub hung: u64,
    /// Whether the device was given up.
    pub is_retired: bool,
    /// Milliseconds from opening to the end of recovery.
    pub recovery_ms: u64,
    /// Records that recovery saw.
    pub recovered_records: u64,
}

impl SsdStats {
    /// Returns written bytes per appended value byte, in percent; 100 before anything was appended.
    pub fn write_amplification_percent(&self) -> u64 {
        if self.appended_bytes == 0 {
            return 100;
        }
        let percent = u128::from(self.written_bytes) * 100 / u128::from(self.appended_bytes);
        u64::try_from(percent).unwrap_or(u64::MAX)
    }
}
