//! The bounds of the server's own queues and tables, each with its arithmetic.
//!
//! Bounds of memory files and rings are in `wire/shm/src/layout.rs`, those of frames in
//! `wire/proto/src/limits.rs`.

/// Submissions taken from one ring in one pass: a quarter of the ring, so that 4 passes empty it
/// and other sessions get their turn within about 32 × 0.5 µs each.
pub(crate) const SUBMISSIONS_PER_PASS: u32 = 32;
/// Submissions taken from all rings in one pass: about half a millisecond, after which sockets,
/// mailboxes and timers have their turn.
pub(crate) const RING_SUBMISSIONS_PER_PASS: u32 = 512;
/// Messages handled in one pass, from all mailboxes.
pub(crate) const MESSAGES_PER_PASS: usize = 64;
/// How long a ring is polled after its last submission, in nanoseconds (design §6: one
/// millisecond).
pub(crate) const RING_ACTIVE_NS: u64 = 1_000_000;
/// Waiters for memory per tenant and shard.
pub(crate) const MEMORY_WAITERS_MAX: usize = 4096;
/// Retired extents that make a pin scan worth its price before the pass ends.
pub(crate) const SWEEP_BATCH: usize = 64;
/// Room in bytes below which a shard asks the home for another granule ahead of need: a quarter of
/// a granule, about 6 ms of writing at 10 GB/s, while a grant takes two mailbox hops (tens of
/// microseconds).
pub(crate) const GRANULE_AHEAD_BYTES: u64 = 16 << 20;
/// Rounds of eviction tried for one allocation before the caller queues for memory.
pub(crate) const EVICTION_ROUNDS: u32 = 8;
/// Entries expired in one pass.
pub(crate) const EXPIRIES_PER_PASS: u32 = 256;
/// Waiting gets answered in one pass, over all keys that were published: each is a lookup and a
/// completion (0.5 µs), so that a key that 65,536 wait for holds nobody up by more than 130 µs.
pub(crate) const WAKES_PER_PASS: u32 = 256;
/// Share of the evictable bytes that counts as free for the idle leases of all sessions: a full
/// cache keeps lending ahead, and at most a sixty-fourth of it lies idle.
pub(crate) const LEASE_SHARE_OF_EVICTABLE: u64 = 64;
/// Leased extents of a dead session stay this long, for device transfers under way (design §6).
pub(crate) const DEAD_LEASE_GRACE_MS: u64 = 1_000;
/// Calls in flight of one TCP connection: a window of keys of one batch.
pub(crate) const CALLS_PER_CONNECTION: usize = 64;
/// TCP connections per shard.
pub(crate) const CONNECTIONS_MAX: usize = 1024;
/// Nested keys that one call of a connection holds: as many as one request of a ring has room for,
/// each of them a message to another shard.
pub(crate) const NESTED_PER_CALL: usize = 64;
/// How long a connection waits for a latch before it is told to ask again, in milliseconds: while
/// it waits it does not notice that its peer is gone, and what a peer held is released within a
/// second.
pub(crate) const LATCH_SLICE_MS: u64 = 400;
/// Latches answered, transactions asked about, and references and latches of ended sessions
/// released in one pass, each: at about 0.2 µs apiece near 50 µs.
pub(crate) const OBJECTS_PER_PASS: u32 = 256;
/// Payload slice in bytes that a shard copies without letting others run (runtime facts §8: 256 KiB
/// ≈ 20 µs).
pub(crate) const COPY_SLICE_BYTES: usize = 256 << 10;
/// The server's own bound on a wait for memory where the request names none, in nanoseconds.
pub(crate) const RESERVE_WAIT_NS: u64 = 5_000_000_000;
/// How long a peer may take over its handshake, in milliseconds.
pub(crate) const HANDSHAKE_MS: u64 = 5_000;
/// How long a peer may keep a request waiting for its next bytes, or an answer for room, in
/// milliseconds.
pub(crate) const PEER_STALL_MS: u64 = 30_000;
/// Slowest transfer that a connection may hold memory for, in bytes per millisecond (1 MB/s).
pub(crate) const PEER_SLOWEST_BYTES_PER_MS: u64 = 1_000;
/// Bytes of a frame's body taken before more room is made for it: a header alone costs no memory.
pub(crate) const BODY_STEP_BYTES: usize = 256 << 10;
/// Most staging bytes of a strict session; what it got is the largest value it can write.
pub(crate) const STAGING_BYTES: u64 = 256 << 20;
/// Least staging bytes of a strict session: a window for the copies of a batch of small values. A
/// node that cannot give that much answers `Busy`.
pub(crate) const STAGING_MIN_BYTES: u64 = 1 << 20;
/// Bytes of the default of `--session-memory` beyond the rings and pins of every session: what
/// strict sessions stage in.
pub(crate) const STAGING_ALL_BYTES: u64 = 2 << 30;
const _: () = assert!(SUBMISSIONS_PER_PASS <= chariot_shm::layout::RING_ENTRIES);
