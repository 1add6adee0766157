//! `AscendCL` and HCCL, found at run time.
//!
//! A build needs no toolkit, and a start without one gets a [`LoadError`] that names the library,
//! the symbol and the remedy. [`sys`] is generated from `include/ascend_rt.h`, our own text;
//! [`AclApi`] and [`HcclApi`] are tables of the functions behind it, the required ones as plain
//! functions, those that came with a later CANN as options. Presence decides, never a version
//! number.
//!
//! Libraries are opened `RTLD_NOW | RTLD_LOCAL` and never closed: the runtime starts threads and
//! registers exit handlers of its own. Next on the path: `npu/device`, the safe interface.

mod api;
mod config;
mod load;
mod status;

/// Types and constants generated from `include/ascend_rt.h`, which documents them.
#[expect(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated from the header, whose names are those of the libraries"
)]
#[rustfmt::skip]
#[path = "bindings.rs"]
pub mod sys;

pub use api::{AclApi, HcclApi, Resolve};
pub use config::comm_config;
pub use load::{Libraries, LoadError, Search};
pub use status::{StatusClass, classify};
