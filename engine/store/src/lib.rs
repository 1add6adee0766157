//! Entries, eviction and expiry as pure state machines.
//!
//! Role: what one shard holds for one tenant. [`Store`] keeps the entries of its keys in the shared
//! index, orders them by an eviction [`Policy`], expires them by a timer wheel, and says what
//! became free as [`Effects`]. [`Watchers`] are the gets that wait for a key.
//!
//! Lives on: owner shard. No clock, no I/O, no thread: time is passed in (milliseconds of the
//! coarse monotonic clock), events come in as calls, effects go out to the caller.
//!
//! Invariants:
//! 1. A store is the only writer of its index; each extent of a live entry is named by exactly one
//!    record, and leaves by exactly one [`Retired`] effect.
//! 2. Kept entries (write mode `None`) are on no eviction list, so no hand ever reaches them.
//! 3. Versions only rise, over all keys of a store and over its restarts (epoch).
//! 4. Every call does a bounded number of steps; beside the record, an entry costs 8 bytes of
//!    policy links and 8 of timer links.
//!
//! Neighbours: `chariot_shm::index` (the records), `chariot_memory` (frees what is retired, names
//! victims by record), `engine/server/handlers` (calls all of it).

#![forbid(unsafe_code)]

pub mod limits;

mod effects;
mod entry;
mod ages;
mod latches;
mod links;
mod nesting;
mod policy;
mod references;
mod share;
mod stats;
mod store;
mod transactions;
mod watchers;
mod wheel;

pub use effects::{Effects, LastWords, RetireReason, Retired};
pub use entry::{EntryView, InsertError, Inserted, NewEntry, RecordFlags};
pub use latches::{Known, Latch, LatchKind, Latches, Released, Taken};
pub use nesting::{Nesting, NestingFull};
pub use policy::Policy;
pub use references::{Dropped, References, ReferencesFull};
pub use stats::{AGE_BUCKETS, EvictionAges, StoreStats};
pub use store::{Advanced, Blocked, Evicted, Store, StoreOptions, entries_for};
pub use transactions::{Decisions, Reservations, Reserved, TxId, TxRefused};
pub use watchers::{WatcherId, Watchers, WatchersFull, Woken};
