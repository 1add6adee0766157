//! The maxima of this crate, each with the sum behind it.

/// Most records of one store (one tenant on one shard): 2^29 - 1.
///
/// A link word of 64 bits holds two record ids and six bits of state, so an id has 29 bits. The
/// records alone would then take 32 GiB, more than one shard's share of any metadata memory.
pub const RECORDS_MAX: u32 = (1 << 29) - 1;

/// Candidates that one call of `evict` looks at: 256.
///
/// A candidate costs one record read (a cache miss) and a pin question, about 0.2 µs; 256 of them
/// stay near 50 µs, the longest slice that a shard may spend without looking at its rings.
pub const EVICT_STEPS_MAX: u32 = 256;

/// Candidates that an insert looks at when the record slab is full, before it takes the next one
/// whatever its standing: 32.
pub const METADATA_STEPS_MAX: u32 = 32;

/// Entries that an insert gives up for one record when the index keeps refusing: 4.
pub const METADATA_VICTIMS_MAX: u32 = 4;

/// Waiting gets of one shard: 65,536; the next one is answered `Busy`.
pub const WATCHERS_MAX: u32 = 65_536;

/// Latches held and waiting of one tenant on one shard: 65,536, a few MiB when all are in use; the
/// next one is answered `Busy`.
pub const LATCHES_MAX: u32 = 65_536;

/// Latches of one key, held and waiting: 1,024, one for each session of a node; the next one is
/// answered `Busy`.
///
/// A key's are looked through one by one: 65,536 waits of one key that end in one round, the last
/// first, would be 2^31 steps. So they are at most 2^26 with all keys together.
pub const LATCHES_PER_KEY_MAX: usize = 1024;

/// References of clients of one tenant on one shard: 2^20, some 100 MiB when all are in use; the
/// next one is answered `Busy`.
pub const REFERENCES_MAX: u32 = 1 << 20;

/// Nested keys of one parent: the public API's bound of a batch.
pub const NESTED_PER_PARENT_MAX: usize = 10_000;

/// Nested keys of all parents of one tenant on one shard: as many as [`REFERENCES_MAX`], and so at
/// most 2^26 holds on one child's shard in a node of 64 shards.
pub const NESTED_MAX: u32 = REFERENCES_MAX;

/// Sealed objects of one tenant on one shard: 2^18, at 16 bytes 4 MiB and the table's slack.
pub const SEALED_MAX: usize = 1 << 18;

/// Keys that transactions have reserved, of one tenant on one shard: 4,096.
pub const RESERVED_MAX: usize = 4096;

/// Transactions that one shard decides at a time, of one tenant: 1,024.
pub const OPEN_MAX: usize = 1024;

/// Milliseconds of one tick of the timer wheel.
///
/// Readers check the expiry word themselves, so a tick delays only the reuse of memory.
pub const TICK_MS: u64 = 100;

/// Private bytes of an entry beside its record and its share of the index: policy links 8, timer
/// links 8.
pub const PRIVATE_BYTES_PER_ENTRY: u64 = 16;

/// Further private bytes of an entry under `s3fifo`: one 16-bit fingerprint of an evicted key for
/// each entry of the main queue.
pub const GHOST_BYTES_PER_ENTRY: u64 = 2;

const _: () = assert!(METADATA_STEPS_MAX < EVICT_STEPS_MAX);
// Design §5: at most 128 bytes an object beyond payload, of which record 64, index share 16 and
// allocator 16 lie elsewhere.
const _: () = assert!(64 + 16 + 16 + PRIVATE_BYTES_PER_ENTRY + GHOST_BYTES_PER_ENTRY <= 128);
