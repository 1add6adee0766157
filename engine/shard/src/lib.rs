//! The runtime of one shard: executor, data ring, bell, mailboxes, watchdog.
//!
//! This is the only crate that names glommio. A shard is one pinned thread with a glommio executor
//! (placement, local tasks) and one raw `io_uring` of its own, the data ring (everything that
//! carries payload). One *driver* loop per shard ([`ShardContext::run`]) turns the data ring, fires
//! timers and calls the shard's [`Pass`] (session rings, mailboxes), lets local tasks run in
//! between, spins for a bounded time and then sleeps on the shard's *bell*.
//!
//! ```text
//!  other shards ── Mailboxes ──┐                       ┌─ local tasks (connections) ─ ring futures
//!  control thread ─ Control ───┼─ BellHandle::ring ─▶ driver ── Pass::pass
//!  kernel (CQ eventfd) ────────┘       (eventfd)       └─ DataRing::turn ─ one io_uring_enter
//! ```
//!
//! Rails, each against a defect measured on glommio 0.9.0: no `Waker` leaves its thread (the queues
//! in here carry messages, the bell carries the wake); the preempt timer is so long that no
//! descheduling outlasts it, which removes the window in which the executor parks over runnable
//! tasks; a heartbeat while requests are in flight and a [`Watchdog`] rescue it should it happen
//! all the same; nothing uses glommio's files, sockets or timers on the data path.
//!
//! Files in reading order: `executor.rs`, `driver.rs`, `bell.rs`, `data_ring.rs` (and its folder),
//! `mailbox.rs`, `control.rs`, `timers.rs`, `spin.rs`, `wake_cost.rs`, `watchdog.rs`,
//! `capabilities.rs`.

mod bell;
mod capabilities;
mod clock;
mod control;
mod data_ring;
mod doors;
mod driver;
mod executor;
mod limits;
mod mailbox;
mod spin;
mod timers;
mod wake_cost;
mod watchdog;

pub use bell::BellHandle;
pub use capabilities::{KernelCapabilities, KernelVersion, ProbeError};
pub use clock::monotonic_ns;
pub use control::{
    ControlInbox, ControlOutbox, ControlReceiver, ControlSender, control_to_shard, shard_to_control,
};
pub use data_ring::{
    AlignedBuffer, DIRECT_ALIGN, DataRing, IoFd, IoSpan, OutOfBounds, Piece, PollHandle,
    ReadyEvent, RingError, RingMode, RingStats, SharedBuffer, StableMemory,
};
pub use doors::{free_bytes, listen, session_bell};
pub use driver::{DriverStats, Pass, Progress};
pub use executor::{
    LocalTask, Rails, ShardContext, ShardExecutor, ShardJoin, ShardSeat, ShardSpec, SpawnError,
};
pub use mailbox::{Delivery, MailboxFull, Mailboxes, mailboxes};
pub use spin::SpinSetting;
pub use timers::{Elapsed, Sleep};
pub use wake_cost::measure_spin_us;
pub use watchdog::{Watchdog, WatchdogStats};
