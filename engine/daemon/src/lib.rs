//! `chariotd`: settings, checks before a start, the control thread and its admin endpoints.
//!
//! The binary (`main.rs`) is a few lines over this library, so that tests reach every part. Reading
//! order: [`settings`] (one declaration per setting), [`resolve`] (text to typed options, the only
//! validation), [`seam`] (what a node takes and gives), then `run.rs` (a start, step by step).
#![forbid(unsafe_code)]

pub mod credentials;
pub mod resolve;
pub mod settings;

/// What a node takes and gives; the server defines it.
pub use chariot_server::seam;
