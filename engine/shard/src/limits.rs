//! The maxima of this crate, each with the sum that gives it.

/// Submission entries of a data ring: one batch of a pass; more are submitted in several enters.
pub(crate) const RING_SUBMISSIONS: u32 = 256;
/// Operations of one data ring that the kernel holds at a time; further ones wait in the backlog.
///
/// 1,024 session bells, 1,024 idle connections that each await a header, as many sends, and a
/// quarter to spare for files, accepts and timeouts.
pub(crate) const RING_IN_FLIGHT_MAX: usize = 4096;
/// Completion entries of a data ring: every operation once, and as many again for multishot polls.
pub(crate) const RING_COMPLETIONS: u32 = 8192;
/// Operations of one ring, those in the backlog included; one more is a bug or a flood and fails.
pub(crate) const RING_OPERATIONS_MAX: usize = 65_536;
/// Most bytes of one receive, send, read or write: the kernel's own limit is 2 GiB less a page.
pub(crate) const IO_MAX_BYTES: usize = 1 << 30;
/// Most pieces of one gathered send.
pub(crate) const GATHER_MAX: usize = 64;

/// Sleeping timers of one shard: one for each operation that may be awaited with a deadline.
pub(crate) const TIMERS_MAX: usize = RING_OPERATIONS_MAX;

/// Messages that wait for room in a full mailbox, for each receiver; beyond that the sender is
/// told.
pub(crate) const MAILBOX_OVERFLOW_MAX: usize = 16_384;

/// Shortest spin before sleeping that `auto` chooses on a core of its own.
pub(crate) const SPIN_AUTO_MIN_US: u32 = 50;
/// Longest one: what sleep and wake cost where a CPU is a thread of a busy hypervisor.
pub(crate) const SPIN_AUTO_MAX_US: u32 = 400;
/// Longest spin that may be asked for: a longer one starves what shares the core.
pub(crate) const SPIN_MAX_US: u32 = 1000;

/// Reads that are armed on the rescue eventfd: each saves the executor once, before it must run.
pub(crate) const RESCUE_READS: usize = 3;
/// A shard that stands still for so long while it is busy is rung by the watchdog.
pub(crate) const WATCHDOG_STALL_NS: u64 = 20_000_000;
/// Distance of heartbeats while requests are in flight.
pub(crate) const HEARTBEAT_MS: u64 = 10;

/// Smallest locked-memory limit with which glommio starts.
pub(crate) const MEMLOCK_MIN_BYTES: u64 = 512 << 10;
/// Memory for glommio's own I/O, which the data path never uses; its smallest.
pub(crate) const GLOMMIO_IO_BYTES: usize = 64 << 10;

const _: () = assert!(RING_COMPLETIONS as usize >= 2 * RING_IN_FLIGHT_MAX);
const _: () = assert!(RING_OPERATIONS_MAX > RING_IN_FLIGHT_MAX);
const _: () = assert!(SPIN_AUTO_MIN_US <= SPIN_AUTO_MAX_US);
const _: () = assert!(SPIN_AUTO_MAX_US <= SPIN_MAX_US);
const _: () = assert!(IO_MAX_BYTES < (2 << 30) - (64 << 10));
