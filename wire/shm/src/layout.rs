//! Where every word of a session's two memories lies, drawn in `wire/SHARED-MEMORY.md` §3.
//!
//! Words that different parties write, or that are written at different times, are 128 bytes
//! apart: two 64-byte lines, because x86 prefetches lines in pairs and some aarch64 caches have
//! lines of 128. Areas start at multiples of 64 KiB where another protection or another owner
//! begins, so that kernels with 64 KiB pages work like those with 4 KiB.

/// Version of these layouts; raised by any change of a word's place or meaning.
pub const LAYOUT_VERSION: u32 = 2;
/// First word of the session memory that both sides write: `CHRTSRW1`.
pub const SESSION_RW_MAGIC: u64 = u64::from_le_bytes(*b"CHRTSRW1");
/// First word of the session memory that only the daemon writes: `CHRTSRO1`.
pub const SESSION_RO_MAGIC: u64 = u64::from_le_bytes(*b"CHRTSRO1");
/// First word of the life page: `CHRTLIF1`.
pub const LIFE_MAGIC: u64 = u64::from_le_bytes(*b"CHRTLIF1");

/// Shards of a node, at most: one bit each in a `u64` mask.
pub const SHARDS_MAX: u16 = 64;
/// Entries of the submission ring and of the completion ring, per session and shard.
pub const RING_ENTRIES: u32 = 128;
/// Longest key in bytes.
pub const KEY_MAX: u32 = 1024;
/// Longest value in bytes that travels in the byte ring.
pub const INLINE_MAX: u32 = 1024;
/// Longest payload of one submission in bytes: one key and one inline value.
pub const PAYLOAD_MAX: u32 = KEY_MAX + INLINE_MAX;
/// Bytes of the byte ring, per session and shard.
pub const BYTE_RING_SIZE: u32 = 256 * 1024;
/// Notes of the lossy recency ring, per session and shard.
pub const NOTE_ENTRIES: u32 = 512;
/// Pin slots for copies, which hold a pin for microseconds.
pub const PIN_SLOTS_TRANSIENT: u32 = 256;
/// Pin slots for views, which hold a pin for as long as their owner wants.
pub const PIN_SLOTS_VIEW: u32 = 16_384;
/// All pin slots of a session and shard.
pub const PIN_SLOTS: u32 = PIN_SLOTS_TRANSIENT + PIN_SLOTS_VIEW;
/// Extents start at multiples of this many bytes.
pub const EXTENT_ALIGN: u64 = 64;
/// The largest page size these layouts support, in bytes.
pub const PAGE_MAX: usize = 64 * 1024;

// A byte ring that holds the longest payload of every entry can never be full while an entry is
// free, so that the client needs no second reason to wait.
const _: () = assert!(RING_ENTRIES * PAYLOAD_MAX <= BYTE_RING_SIZE);
const _: () = assert!(RING_ENTRIES.is_power_of_two());
const _: () = assert!(BYTE_RING_SIZE.is_power_of_two());
const _: () = assert!(NOTE_ENTRIES.is_power_of_two());
// Whole words of the client's bitmap.
const _: () = assert!(PIN_SLOTS_TRANSIENT.is_multiple_of(64));
const _: () = assert!(PIN_SLOTS.is_multiple_of(64));

/// Bytes of the header in front of the shards' areas, in both memories.
pub const HEADER_SIZE: usize = PAGE_MAX;

/// The memory that client and daemon both write (all of it hostile to the daemon).
pub mod rw {
    /// Magic, `u64`.
    pub const MAGIC: usize = 0x00;
    /// Layout version, `u32`.
    pub const LAYOUT: usize = 0x08;
    /// Number of shards, `u32`.
    pub const SHARD_COUNT: usize = 0x0c;
    /// Client's flags, `u32`; none is defined yet.
    pub const CLIENT_FLAGS: usize = 0x10;
    /// Client threads that wait or are about to, `u32`.
    pub const WAITING: usize = 0x80;

    /// Distance between two shards' areas.
    pub const STRIDE: usize = 0x8_0000;
    /// Submissions published by the client, `u32`, wraps.
    pub const SQ_TAIL: usize = 0x000;
    /// Completions consumed by the client, `u32`, wraps.
    pub const CQ_HEAD: usize = 0x080;
    /// Pin slots that may be in use: all below this index, `u32`.
    pub const PIN_HIGH_WATER: usize = 0x100;
    /// Notes written by the client, `u32`, wraps.
    pub const NOTE_TAIL: usize = 0x180;
    /// Submissions, 128 × 64 bytes.
    pub const SUBMISSIONS: usize = 0x1000;
    /// Notes, 512 × `u64`.
    pub const NOTES: usize = 0x3000;
    /// Pin slots, 16,640 × `u64`.
    pub const PINS: usize = 0x4000;
    /// The byte ring, 256 KiB.
    pub const BYTES: usize = 0x4_0000;

    const _: () = assert!(SUBMISSIONS + super::RING_ENTRIES as usize * 64 <= NOTES);
    const _: () = assert!(NOTES + super::NOTE_ENTRIES as usize * 8 <= PINS);
    const _: () = assert!(PINS + super::PIN_SLOTS as usize * 8 <= BYTES);
    const _: () = assert!(BYTES + super::BYTE_RING_SIZE as usize <= STRIDE);
    const _: () = assert!(STRIDE.is_multiple_of(super::PAGE_MAX));
}

/// The memory that only the daemon writes; the client's descriptor is read-only.
pub mod ro {
    /// Magic, `u64`.
    pub const MAGIC: usize = 0x00;
    /// Layout version, `u32`.
    pub const LAYOUT: usize = 0x08;
    /// Number of shards, `u32`.
    pub const SHARD_COUNT: usize = 0x0c;
    /// Session id, `u64`.
    pub const SESSION_ID: usize = 0x10;
    /// Not zero once the daemon refuses this session's requests, `u32`.
    pub const EXPELLED: usize = 0x18;
    /// The futex that the client waits on, `u32`, wraps.
    pub const DOORBELL: usize = 0x80;

    /// Distance between two shards' areas.
    pub const STRIDE: usize = 0x4000;
    /// Submissions that the shard has taken, `u32`, wraps. For diagnosis: nothing relies on it.
    pub const SQ_HEAD: usize = 0x000;
    /// Completions published by the shard, `u32`, wraps.
    pub const CQ_TAIL: usize = 0x080;
    /// 1 while the shard does not poll this ring, `u32`.
    pub const SLEEPING: usize = 0x100;
    /// Notes that the shard has read or lost, `u32`, wraps. For diagnosis.
    pub const NOTE_HEAD: usize = 0x180;
    /// Completions, 128 × 64 bytes.
    pub const COMPLETIONS: usize = 0x2000;

    const _: () = assert!(COMPLETIONS + super::RING_ENTRIES as usize * 64 <= STRIDE);
}

/// The life page.
pub mod life {
    /// Bytes of the page that are in use; the memfd is [`super::PAGE_MAX`] long.
    pub const SIZE: usize = 4096;
    /// Magic, `u64`.
    pub const MAGIC: usize = 0x00;
    /// Layout version, `u32`.
    pub const LAYOUT: usize = 0x08;
    /// Random number of this start of the daemon, `u64`.
    pub const BOOT_ID: usize = 0x10;
    /// Boot generation of the node, `u64`; rises with every start.
    pub const GENERATION: usize = 0x18;
    /// The robust futex word, `u32`.
    pub const WORD: usize = 0x40;
}

/// Answers where a shard's area of the read-write memory starts.
pub const fn rw_area(shard: u16) -> usize {
    HEADER_SIZE + shard as usize * rw::STRIDE
}

/// Answers where a shard's area of the read-only memory starts.
pub const fn ro_area(shard: u16) -> usize {
    HEADER_SIZE + shard as usize * ro::STRIDE
}

/// Answers the pin word of an extent: its offset in units of 64 bytes, plus one. Zero is free.
pub const fn pin_word(extent_offset: u64) -> u64 {
    (extent_offset >> EXTENT_ALIGN.trailing_zeros()) + 1
}

/// Answers the byte offset of the extent that a pin word names. A word that a hostile client wrote
/// names any place, also one beyond the arena.
pub const fn extent_of(pin_word: u64) -> u64 {
    pin_word.wrapping_sub(1) << EXTENT_ALIGN.trailing_zeros()
}
