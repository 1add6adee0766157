//! Granules, extents, leases, quarantine: the daemon's side of the arena.

mod accounting;
mod extent;
mod granule;
mod io_pins;
mod lease;
mod quarantine;
mod waiting;

pub use accounting::MemoryReport;
pub use extent::{ExtentAllocator, ExtentStats, RUN_SLOTS_MAX, SlotRun, Victims, eviction_price};
pub use granule::{
    Grant, GranuleLedger, GranuleWork, LedgerOptions, LedgerStats, TakeOutcome, TakeTicket,
    VacatePlan,
};
pub use io_pins::IoPins;
pub use lease::{LeaseBook, LeaseError, RUNS_PER_SESSION_MAX};
pub use quarantine::{Quarantine, QuarantineReason, QuarantineStats, SweepTicket};
pub use waiting::{OVERTAKEN_MAX, OutOfMemoryQueue};
