//! `chariotd`: settings, checks before a start, the control thread and its admin endpoints.
//!
//! The binary (`main.rs`) is a few lines over this library, so that tests reach every part. Reading
//! order: [`settings`] (one declaration per setting), [`resolve`] (text to typed options, the only
//! validation), [`seam`] (what a node takes and gives), [`run`] (a start, step by step),
//! [`control`] (the admin endpoints) and [`metrics`] (the table of all metrics).
#![forbid(unsafe_code)]

pub mod address;
pub mod build;
pub mod control;
pub mod credentials;
pub mod doctor;
pub mod membership;
pub mod metrics;
pub mod operate;
pub mod probes;
pub mod resolve;
pub mod run;
pub mod settings;

/// What a node takes and gives; the server defines it.
pub use chariot_server::seam;
