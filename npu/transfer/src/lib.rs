//! The device core: moves objects between host memory and one accelerator.
//!
//! ```text
//!  caller ──try_submit──► queue of a direction ──► lane (thread, stream, staging) ──► card
//!    ▲   Full: later        bounded, parts           two a direction: one prepares while
//!    └──── Handle ◄──────────────── outcome an object ◄──── the other's bytes move
//!                    core thread: deadlines, calibration        registrar: pieces of the arena
//! ```
//! An object is one host range and a list of fragments of device memory. Its parts are queued per
//! direction; a lane takes as many as make a good batch, joins neighbours, asks the planner
//! ([`plan()`], a pure function over the measured [`CostModel`]) for the way, and moves them. Host
//! memory that is not registered (yet) goes through the lane's page-locked staging.
//!
//! What a caller may rely on: an outcome for every object at the latest a moment after the deadline
//! ([`OBJECT_GRACE`]); memory of an object is its owner's again when the outcome is there, except
//! [`TransferError::Stuck`], where the core keeps what the card may still write; one object's
//! failure is not another's.
//!
//! Reading order: `object`, `plan`, `cost`, `arena`, `core`, `lane`, `staging`.

mod arena;
mod device_core;
mod cost;
mod lane;
mod numa;
mod object;
mod plan;
mod probe;
mod queue;
mod staging;
mod table;

pub use arena::{Arena, ArenaState, Prepare};
pub use cost::{Calibration, CallCost, CostModel};
pub use device_core::{CoreOptions, DeviceCore, OBJECT_GRACE, Submit};
pub use object::{Fragment, Handle, HostRange, ObjectCopy, Transfer, TransferError};
pub use plan::{Path, Piece, Plan, Span, plan};
pub use probe::{PathCount, Probe};
pub use table::{BlobTable, TableError};
