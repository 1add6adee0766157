//! The maxima of the engine that more than one crate relies on, each with the sum behind it.
//!
//! A crate's private bounds stand in that crate. Relations between the numbers are asserted here at
//! compile time.

/// Bytes of one granule, the unit in which shards hold memory: 64 MiB.
///
/// Large enough that the page map of a granule (64 KiB) is a thousandth of it, small enough that
/// 2 GiB on 16 shards still gives each shard two.
pub const GRANULE_BYTES: u64 = 64 << 20;

/// Bytes of the allocator's unit above the size classes: 4 KiB, the block of direct I/O.
///
/// Not the page of the operating system, which may be 64 KiB on aarch64.
pub const ALLOCATION_UNIT_BYTES: u64 = 4 << 10;

/// Allocation units in one granule.
pub const UNITS_PER_GRANULE: u32 = 16_384;

/// Alignment of every extent: one cache line, and the unit of the pin word.
pub const EXTENT_ALIGN_BYTES: u64 = 64;

/// Values below this length live in size-class slabs when their class has company: 256 KiB.
pub const SLAB_LEN_MAX: u64 = 256 << 10;

/// Most sessions of one node; the next one is answered `Busy`.
pub const SESSIONS_MAX: usize = 1024;

/// Most shards (cores) of one node.
pub const SHARDS_MAX: usize = 64;

/// Most tenants of one node.
pub const TENANTS_MAX: usize = 256;

/// Most idle lease bytes that one session may hold on one shard: 32 MiB.
pub const IDLE_LEASE_BYTES_MAX: u64 = 32 << 20;

/// Granules of virtual arena per granule of memory.
///
/// A run of `n` adjacent granules must be found without evicting more than the `n` granules it
/// costs. With twice the space, the windows of `n` granules hold at most `n / 2` occupied ones on
/// average, so the best window never asks for more than the memory does.
pub const VIRTUAL_FACTOR: u32 = 2;

const _: () = assert!(GRANULE_BYTES == ALLOCATION_UNIT_BYTES * UNITS_PER_GRANULE as u64);
const _: () = assert!(SLAB_LEN_MAX.is_multiple_of(ALLOCATION_UNIT_BYTES));
const _: () = assert!(ALLOCATION_UNIT_BYTES.is_multiple_of(EXTENT_ALIGN_BYTES));
const _: () = assert!(IDLE_LEASE_BYTES_MAX <= GRANULE_BYTES);
