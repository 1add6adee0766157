//! The bounds of this crate, each with the sum behind it.

/// Bytes in front of the first segment of a partition: two superblocks of 4 KiB, and room to grow.
pub const RESERVED_BYTES: u64 = 64 << 10;

/// Smallest segment; tests use it, production does not.
pub const SEGMENT_BYTES_MIN: u32 = 32 << 10;

/// Largest segment: 1 GiB, so that an offset in units of 8 bytes takes 27 bits of an index entry.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Most segments over all partitions that one shard looks at: 20 bits of an index entry.
pub const SEGMENTS_MAX: u32 = (1 << 20) - 1;

/// Most partitions one shard looks at: its own, and those of other shard counts.
pub const PARTITIONS_MAX: usize = chariot_base::limits::SHARDS_MAX;

/// Most bytes of one read or write of the cleaner and of recovery: 1 MiB.
///
/// It is what may stand in front of a foreground read on the device: 0.5 ms at 2 GB/s.
pub const CLEAN_IO_BYTES_MAX: u32 = 1 << 20;

/// Values whose padding to whole blocks would waste more than a quarter are packed, up to here.
///
/// Above four blocks padding is below a quarter anyway: (4 × 4096 + 1) wastes 4095.
pub const PACKED_LEN_MAX: u32 = 16 << 10;

/// Most entries of the index: 4,096 tables of 65,535.
pub const ENTRIES_MAX: u64 = 4096 * 65_535;

/// Most group writes under way for one store; what is appended meanwhile is gathered.
pub const GROUPS_IN_FLIGHT_MAX: usize = 16;

/// Most bytes gathered for groups that have not been written yet: 64 MiB or a segment.
pub const GATHERED_BYTES_MAX: u64 = 64 << 20;

/// Most reads of hits under way; the next one is a miss that says busy.
pub const READS_IN_FLIGHT_MAX: usize = 4096;
