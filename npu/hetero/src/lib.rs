//! Objects of device memory in the cache: the host half of the SDK for accelerators.
//!
//! ```text
//!  mset_d2h ─▶ exist? ─▶ lease ─▶ device core: card ─▶ leased extent ─▶ publish     (no host copy)
//!  mget_h2d ─▶ pinned view ─▶ blob table ─▶ device core: extent ─▶ card
//!                 ▲ chariot-client                  ▲ chariot-transfer
//! ```
//! An object is a list of fragments (blobs) of one card's memory. In the cache it is one value, a
//! blob table and the blobs behind it without gaps ([`chariot_transfer::BlobTable`]), in the key
//! space of all other values: existence, deletion, expiry and views are theirs too.
//!
//! **Who copies.** The card's own engines, straight from and to shared memory where the driver can
//! lock it (`arenas`), through page-locked staging where it cannot or has not yet. No processor
//! reads the bytes: such values carry no checksum until they leave the host.
//!
//! **What a caller may rely on.** One outcome for each key, at the latest a moment after the
//! deadline; one key's failure is not another's; a key that has a value is never overwritten;
//! memory of the caller is its own again when the call (or what an asynchronous call promised) is
//! over. What is written on a card by a framework's own stream is not waited for: synchronise it
//! before.
//!
//! No thread of its own but for asynchronous calls, two at the first of them; the device core has
//! its own.
//!
//! Reading order: `client`, `blobs`, `set`, `get`, `arenas`, `accelerators`.

mod accelerators;
mod arenas;
mod background;
mod blobs;
mod client;
mod fault;
mod flight;
mod get;
mod rules;
mod set;

pub use accelerators::{Accelerators, Backend};
pub use background::Pending;
pub use blobs::{Blob, BlobList};
pub use client::{GetOutcome, HeteroClient, SetOutcome, Stored};
