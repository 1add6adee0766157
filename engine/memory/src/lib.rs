//! Granules, extents, leases, quarantine: the daemon's side of the arena.
//!
//! ```text
//!  granule    who holds which 64 MiB          one ledger a node, on shard 0
//!    |  grants, vacate plans
//!  extent     where an object lies            one per tenant and shard
//!    |  extents, runs
//!  lease      who may write where             one per tenant and shard
//!    |  retired extents
//!  quarantine what may not be reused yet      with io_pins and the sessions' pins
//!    |  freed extents
//!  waiting    who waits for room              one per tenant and shard
//! ```
//!
//! All of these are pure state machines: events in, answers out, no memory touched, no clock. Only
//! `arena` and `populate` touch memory, and only they contain `unsafe`. Nothing here blocks, except
//! on the populate threads.
//!
//! When an allocation fails, in this order: take a granule ([`GranuleLedger::take`]); ask a colder
//! shard for one ([`GranuleLedger::donor_for`]); evict what [`ExtentAllocator::victims_for`] names,
//! priced by [`eviction_price`]; wait in the [`OutOfMemoryQueue`]. Evicting by age alone, until
//! something fits, leaves a fifth of a small arena unused.

#[forbid(unsafe_code)]
mod accounting;
mod arena;
#[forbid(unsafe_code)]
mod extent;
#[forbid(unsafe_code)]
mod granule;
#[forbid(unsafe_code)]
mod io_pins;
#[forbid(unsafe_code)]
mod lease;
mod populate;
#[forbid(unsafe_code)]
mod quarantine;
#[forbid(unsafe_code)]
mod waiting;

pub use accounting::MemoryReport;
pub use arena::{ArenaMemory, ArenaOptions};
pub use extent::{ExtentAllocator, ExtentStats, RUN_SLOTS_MAX, SlotSet, Victims, eviction_price};
pub use granule::{
    Grant, GranuleLedger, GranuleWork, LedgerOptions, LedgerStats, TakeOutcome, TakeTicket,
    VacatePlan,
};
pub use io_pins::IoPins;
pub use lease::{LeaseBook, LeaseError, SLOTS_PER_SESSION_MAX};
pub use populate::{
    AHEAD_QUEUE_MAX, Haste, POPULATE_SLICE_BYTES, PopulateDone, PopulateJob, PopulateThreads,
    URGENT_QUEUE_MAX,
};
pub use quarantine::{Quarantine, QuarantineReason, QuarantineStats, SweepPass, SweepTicket};
pub use waiting::{OVERTAKEN_MAX, OutOfMemoryQueue};
