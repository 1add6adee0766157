//! What can be refused, one enum per operation.

/// Why a partition cannot be used as it is. The operator can mend it; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The first bytes are neither blank nor a superblock of ours.
    #[error(
        "the partition holds something else; give another path, or wipe its first 64 KiB if \
         what it holds may go"
    )]
    Foreign,
    /// A newer version of this program wrote it.
    #[error(
        "the partition has format version {found}, this program knows {known}; start the newer \
         program again, or wipe the first 64 KiB of the partition to give up its contents"
    )]
    Newer {
        /// Version on the device.
        found: u32,
        /// Newest version that this program reads.
        known: u32,
    },
    /// Both copies of the superblock are damaged.
    #[error(
        "both superblocks of the partition are damaged; wipe its first 64 KiB to give up its \
         contents"
    )]
    Damaged,
    /// The file is smaller than the superblock says.
    #[error(
        "the partition is {actual} bytes, its superblock says {expected}; restore its size, or \
         wipe its first 64 KiB to give up its contents"
    )]
    Shrunk {
        /// Bytes there are.
        actual: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// Two partitions belong to two different nodes.
    #[error(
        "partitions {first} and {second} belong to different nodes; give each node its own \
         directory"
    )]
    Mixed {
        /// One of them.
        first: u16,
        /// The other.
        second: u16,
    },
    /// A size is out of range.
    #[error(
        "a partition of {size_bytes} bytes with segments of {segment_bytes} bytes cannot be made; \
         segments are a power of two of 32 KiB to 1 GiB, and a partition holds 8 to 2^20 of them"
    )]
    Shape {
        /// Bytes of the partition.
        size_bytes: u64,
        /// Bytes of a segment.
        segment_bytes: u32,
    },
}

/// Why a store cannot be opened over its partitions. The daemon's wiring is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The shard's own partition is not among them.
    #[error("partition {shard} of this shard is not among those given")]
    NoOwnPartition {
        /// The shard.
        shard: u16,
    },
    /// Two partitions have one number, or there are too many of them or of their segments.
    #[error("the partitions given cannot be looked at together")]
    Partitions,
    /// The epoch does not rise above that of a superblock.
    #[error("epoch {epoch} is not above {last} of a superblock")]
    EpochNotRising {
        /// The epoch given.
        epoch: u32,
        /// Epoch of the last start.
        last: u32,
    },
}

/// Why an object is not taken; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room until a write or the cleaner is through: wait for [`crate::Effect::Room`].
    #[error("no room until a write completes or a segment is cleaned")]
    Busy,
    /// Kept objects fill the partition: kept ones are refused until some are deleted.
    #[error("kept objects fill the partition")]
    Full,
    /// The object does not fit in a segment.
    #[error("an object of {len} bytes does not fit in a segment")]
    TooLarge {
        /// Its bytes.
        len: u64,
    },
    /// The policy does not want it now: first sight under `second-hit`, or the day's bytes are
    /// written.
    #[error("the admission policy does not take it")]
    NotAdmitted,
    /// A version at least as new was written or deleted before.
    #[error("a newer version is known")]
    Stale,
    /// The index is full.
    #[error("the index holds as many entries as it may")]
    IndexFull,
    /// The device was given up, or the store is closing.
    #[error("the store takes nothing any more")]
    Retired,
}
