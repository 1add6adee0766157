//! Partitions and their segments, as one shard sees them.
//!
//! ```text
//!   Unseen ─► Free ─open─► Active ─full─► Closing ─footer─► Sealed ─clean─► Erasing ─► Free
//!      └────► Sealed (found)                  └── error ──► Isolated ◄── error ──┘
//! ```
//! Lives on: owner shard.

use crate::format::SegmentHeader;
use crate::index::Place;
use crate::superblock::Superblock;

/// Where a segment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Recovery has not looked at it.
    Unseen,
    /// Holds nothing.
    Free,
    /// Groups are appended to it.
    Active,
    /// Full; its last groups or its footer are being written.
    Closing,
    /// Full, or found.
    Sealed,
    /// Its header is being overwritten.
    Erasing,
    /// Readable at best; never written again in this run.
    Isolated,
    /// Another shard's alone.
    Foreign,
}

/// One segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) state: State,
    /// As it was written; `None` when free since formatting.
    pub(crate) header: Option<SegmentHeader>,
    /// Written under another shard count: other shards may hold records in it.
    pub(crate) is_shared: bool,
    /// A job of the cleaner works on it.
    pub(crate) is_busy: bool,
    /// A row of it says that it was wrong: clean it again later, not now.
    pub(crate) tries: u8,
    /// Records that it is known to hold: whoever cleans it must find as many.
    pub(crate) rows: u32,
    pub(crate) live_bytes: u64,
    pub(crate) kept_bytes: u64,
    /// Live bytes without expiry.
    never_bytes: u64,
    expiry_min: u64,
    expiry_max: u64,
    /// Reads of hits under way.
    pub(crate) reads: u32,
    /// Shards that have released it, by bit (only where this shard erases it).
    pub(crate) released: u64,
}

impl Segment {
    fn new() -> Self {
        Self {
            state: State::Unseen,
            header: None,
            is_shared: false,
            is_busy: false,
            tries: 0,
            rows: 0,
            live_bytes: 0,
            kept_bytes: 0,
            never_bytes: 0,
            expiry_min: u64::MAX,
            expiry_max: 0,
            reads: 0,
            released: 0,
        }
    }

    /// Forgets everything but what is being read.
    pub(crate) fn reset(&mut self, state: State, header: Option<SegmentHeader>) {
        assert!(
            self.live_bytes == 0,
            "nothing lives in a segment that begins anew"
        );
        let reads = self.reads;
        *self = Self::new();
        self.state = state;
        self.header = header;
        self.reads = reads;
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.header.map_or(0, |header| header.sequence)
    }

    pub(crate) fn add_live(&mut self, bytes: u64, is_kept: bool, expiry_unix_ms: u64) {
        self.live_bytes += bytes;
        if is_kept {
            self.kept_bytes += bytes;
        }
        if expiry_unix_ms == 0 {
            self.never_bytes += bytes;
        } else {
            self.expiry_min = self.expiry_min.min(expiry_unix_ms);
            self.expiry_max = self.expiry_max.max(expiry_unix_ms);
        }
    }

    pub(crate) fn sub_live(&mut self, bytes: u64, is_kept: bool, expiry_unix_ms: u64) {
        self.live_bytes = self
            .live_bytes
            .checked_sub(bytes)
            .expect("live bytes were added");
        if is_kept {
            self.kept_bytes = self.kept_bytes.checked_sub(bytes).expect("kept were added");
        }
        if expiry_unix_ms == 0 {
            self.never_bytes = self.never_bytes.checked_sub(bytes).expect("were added");
        }
    }

    pub(crate) const fn has_expiring(&self) -> bool {
        self.live_bytes > self.never_bytes
    }

    /// Returns live bytes without those whose time is over, by estimate: expiry is taken to be
    /// even between the first and the last.
    pub(crate) fn live_estimate(&self, unix_ms: u64) -> u64 {
        let expiring = self.live_bytes - self.never_bytes;
        if expiring == 0 || unix_ms <= self.expiry_min {
            return self.live_bytes;
        }
        if unix_ms >= self.expiry_max {
            return self.never_bytes;
        }
        let left = u128::from(self.expiry_max - unix_ms);
        let span = u128::from(self.expiry_max - self.expiry_min);
        let alive = u128::from(expiring) * left / span;
        self.never_bytes + u64::try_from(alive).expect("at most what expires")
    }
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) superblock: Superblock,
    /// Number of its first segment over all partitions.
    pub(crate) base: u32,
    pub(crate) segments: Vec<Segment>,
    /// Writes that have completed.
    pub(crate) completed: u64,
    /// Of these, how many the last flush covers.
    pub(crate) flushed: u64,
    /// A flush under way covers so many.
    pub(crate) flushing: Option<u64>,
    pub(crate) last_flush_ns: u64,
    pub(crate) errors: u32,
    pub(crate) is_retired: bool,
    /// It was said that nothing is left in it.
    pub(crate) is_drained: bool,
}

impl Device {
    pub(crate) fn new(superblock: Superblock, base: u32) -> Self {
        Self {
            superblock,
            base,
            segments: (0..superblock.segment_count)
                .map(|_| Segment::new())
                .collect(),
            completed: 0,
            flushed: 0,
            flushing: None,
            last_flush_ns: 0,
            errors: 0,
            is_retired: false,
            is_drained: false,
        }
    }

    /// Returns the device offset of byte `at` of its segment `segment`.
    pub(crate) fn offset(&self, segment: u32, at: u32) -> u64 {
        assert!(at <= self.superblock.segment_bytes);
        crate::limits::RESERVED_BYTES
            + u64::from(segment) * u64::from(self.superblock.segment_bytes)
            + u64::from(at)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.completed > self.flushed
    }
}

/// All partitions of a store, their segments numbered through.
#[derive(Debug)]
pub(crate) struct Devices {
    pub(crate) list: Vec<Device>,
    /// Position of the own one.
    pub(crate) own: usize,
}

impl Devices {
    /// Returns the device of a segment and its number there.
    pub(crate) fn locate(&self, segment: u32) -> (usize, u32) {
        let after = self.list.partition_point(|device| device.base <= segment);
        let at = after
            .checked_sub(1)
            .expect("the first device begins at segment 0");
        (at, segment - self.list[at].base)
    }

    pub(crate) fn segment(&self, segment: u32) -> &Segment {
        let (device, number) = self.locate(segment);
        &self.list[device].segments[number as usize]
    }

    pub(crate) fn segment_mut(&mut self, segment: u32) -> &mut Segment {
        let (device, number) = self.locate(segment);
        &mut self.list[device].segments[number as usize]
    }

    /// Returns device and offset of a place.
    pub(crate) fn address(&self, place: Place) -> (usize, u64) {
        let (device, number) = self.locate(place.segment);
        (device, self.list[device].offset(number, place.at))
    }

    pub(crate) fn own(&self) -> &Device {
        &self.list[self.own]
    }

    /// Returns the position of a partition, if it is looked at.
    pub(crate) fn position(&self, partition: u16) -> Option<usize> {
        self.list
            .iter()
            .position(|device| device.superblock.partition == partition)
    }
}
