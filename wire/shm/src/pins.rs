//! Pins: a session's claims that keep extents from being reused.
//!
//! A pin slot holds the pin word of one extent ([`crate::layout::pin_word`]) or zero. Clients store
//! and clear, shards only look: a shard that has unlinked a record fences, collects all pins and
//! all extents named by unconsumed completions into a [`PinSet`], and reuses what is not in it.
//!
//! ```text
//!   reader                                shard
//!   pin = extent                          generation += 1   (record unlinked)
//!   fence                                 fence
//!   generation unchanged? ─ no: unpin     pins and completions: is the extent there? ─ yes: later
//!   read                                  reuse
//!   pin = 0             (release)
//! ```
//!
//! Neighbours: `ring/server.rs` keeps the completions' extents, `index/` the generations.

mod client;
mod server;

pub use client::{PinSlot, PinTable};
pub use server::{PinScan, PinSet};

#[cfg(test)]
mod tests;
