//! Shared-memory layouts and both sides of their protocols.

pub mod index;
