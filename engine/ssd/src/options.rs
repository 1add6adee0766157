//! What a store is made for.

use std::time::Duration;

use chariot_base::ShardId;

use crate::superblock::Superblock;

/// Which evicted objects are written at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// Every one.
    #[default]
    Always,
    /// Those that were evicted before, not too long ago.
    SecondHit,
}

/// Options of one store. Resolved by the daemon; nothing here reads the environment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SsdOptions {
    /// This shard.
    pub shard: ShardId,
    /// Shards of the node, 1 or more.
    pub shard_count: u16,
    /// Boot generation of this start: above that of every superblock (`Identity::next_epoch`).
    pub epoch: u32,
    /// The kernel's boot id (`/proc/sys/kernel/random/boot_id`), 16 bytes.
    pub boot_id: [u8; 16],
    /// What is written.
    pub admission: Admission,
    /// Most bytes written in one day of wall clock, 0 = no limit.
    pub day_budget_bytes: u64,
    /// A hit says `promote` from this hit on; 0 and 1 mean from the first.
    pub promote_on_hit: u8,
    /// How long small records wait for company before their group is written.
    pub group_delay: Duration,
    /// A group is written once it has this many bytes.
    pub group_bytes: u32,
    /// Time between flushes while there is something to flush.
    pub flush_interval: Duration,
    /// Most bytes that the cleaner reads and writes in a second.
    pub clean_bytes_per_s: u64,
    /// Bound of written bytes per appended bytes, in percent: 100 copies nothing, 200 copies as
    /// much as is appended. Kept objects and tombstones are copied beyond it.
    pub write_amplification_percent: u32,
    /// After this many errors the device is given up.
    pub errors_max: u32,
    /// An I/O that takes longer means that the device hangs: it is given up.
    pub io_deadline: Duration,
    /// Most objects of the index; 0 = [`crate::limits::ENTRIES_MAX`].
    pub entries_max: u64,
    /// Reads that recovery has under way at a time, 1 or more.
    pub recovery_reads: u16,
}

impl SsdOptions {
    /// Returns the defaults for shard `shard` of `shard_count`.
    pub const fn new(shard: ShardId, shard_count: u16, epoch: u32, boot_id: [u8; 16]) -> Self {
        Self {
            shard,
            shard_count,
            epoch,
            boot_id,
            admission: Admission::Always,
            day_budget_bytes: 0,
            promote_on_hit: 1,
            group_delay: Duration::from_micros(500),
            group_bytes: 1 << 20,
            flush_interval: Duration::from_millis(100),
            clean_bytes_per_s: 256 << 20,
            write_amplification_percent: 200,
            errors_max: 16,
            io_deadline: Duration::from_secs(10),
            entries_max: 0,
            recovery_reads: 8,
        }
    }
}

/// One partition that a store looks at: its own, and every other one that holds segments written
/// under another shard count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionShape {
    /// Number of the partition: the shard that appends to it, when there is one.
    pub partition: u16,
    /// What was read from it, or what it was just formatted with.
    pub superblock: Superblock,
}
