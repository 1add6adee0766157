//! Every bound of the protocol, with where its number comes from.
//!
//! A bound is checked before the memory it bounds is held, and again by `validate` when a message
//! is read. All of them are in the limits table of `wire/PROTOCOL.md`.

/// Longest key in bytes; the promise of the public API (1 to 1,024 bytes).
pub const KEY_MAX: u16 = 1024;
/// Most keys of one batch; the public API's own bound.
pub const BATCH_MAX: u32 = 10_000;
/// Most keys of one `Exist` or `Prefix`; more than [`BATCH_MAX`] because the answers are small.
///
/// The body limit bounds it too: 100,000 keys fit when they average at most 165 bytes.
pub const EXIST_BATCH_MAX: u32 = 100_000;
/// Longest value in bytes that rides in the byte ring of a local session.
pub const INLINE_MAX: u32 = 1024;
/// Most sessions of a node; the next one is answered `Busy`.
pub const SESSIONS_MAX: u32 = 1024;
/// Most shards of a node.
pub const SHARDS_MAX: u16 = 64;
/// Submissions that a ring of one session and shard holds.
pub const RING_ENTRIES: u32 = 128;
/// Bytes of the ring for keys and inline values: every entry may carry the longest key and the
/// longest inline value at once.
pub const BYTE_RING_SIZE: u32 = 256 << 10;
/// Pin slots per session and shard for reads that copy and let go at once.
pub const PIN_SLOTS_TRANSIENT: u32 = 256;
/// Pin slots per session and shard for views.
pub const PIN_SLOTS_VIEW: u32 = 16_384;
/// Bytes of a granule, the unit in which shards hold the arena.
pub const GRANULE: u64 = 64 << 20;
/// Alignment in bytes of every extent.
pub const EXTENT_ALIGN: u64 = 64;
/// Hash slots of a cluster: 14 bits of the key's hash.
pub const SLOT_COUNT: u16 = 16_384;

/// Longest frame body in bytes. A batch of [`BATCH_MAX`] keys of [`KEY_MAX`] bytes, with 40 bytes
/// of request and answer each, is 10.7 MB; the next power of two leaves room for later fields.
pub const BODY_MAX: u32 = 16 << 20;
/// Longest payload in bytes that any peer may announce, whatever its node's arena: 2^48, the width
/// of a length in an index record. A receiver sets a smaller one in [`crate::FrameLimits`].
pub const PAYLOAD_MAX: u64 = 1 << 48;
/// Longest name in bytes: tenant, access key, software version.
pub const NAME_MAX: u32 = 256;
/// Longest path in bytes of a unix socket (`sun_path` less its zero byte).
pub const SOCKET_PATH_MAX: u32 = 107;
/// Longest text in bytes of a refusal.
pub const REFUSAL_TEXT_MAX: u32 = 1024;
/// Most counters of one `Stats` answer.
pub const STATS_MAX: u32 = 4096;
/// Longest wait in milliseconds that a request may ask for: one day.
pub const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Longest time to live in milliseconds: the 48 bits of an index record hold it after any uptime.
pub const TTL_MS_MAX: u64 = 1 << 47;

const _: () = assert!(SLOT_COUNT.is_power_of_two());
const _: () = assert!(BODY_MAX as u64 >= BATCH_MAX as u64 * (KEY_MAX as u64 + 2 + 40) + 4096);
const _: () = assert!(EXIST_BATCH_MAX >= BATCH_MAX);
const _: () = assert!(BYTE_RING_SIZE >= RING_ENTRIES * (KEY_MAX as u32 + INLINE_MAX));
const _: () = assert!(GRANULE.is_multiple_of(EXTENT_ALIGN));
const _: () = assert!(BODY_MAX as u64 <= PAYLOAD_MAX);
