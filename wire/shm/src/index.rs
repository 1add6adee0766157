//! The shared index: which keys a shard holds, readable by clients without a round trip.
//!
//! One index per tenant and shard, in one sparse memory that has its maximum size from the start.
//! The daemon's shard writes it ([`IndexWriter`]); clients map it read-only and look keys up
//! ([`IndexReader`]).
//!
//! Buckets (one cache line: nine tags, nine record ids, a sequence word, a link to an overflow
//! bucket) point to records (one cache line each). Records never move and never serve another
//! purpose, and the generation of a record only rises, so that a reader can tell at any later time
//! whether what it saw still holds. The table grows by linear hashing: one bucket is split per few
//! inserts, nothing is ever rehashed as a whole.
//!
//! Invariants:
//! 1. A record id found in a bucket is only a hint: the reader believes the 128-bit hash inside the
//!    record, read under
//!    the record's generation.
//! 2. "Absent" is final only when neither the table word nor the bucket's sequence changed during
//!    the probe.
//! 3. An extent may be read only while it is pinned, and only if the record's generation was
//!    unchanged after the pin
//!    was stored and fenced ([`IndexReader::recheck`]).
//! 4. Nothing read from the memory is used as an address before it was compared with the geometry
//!    taken at the start.
//!
//! Reading order: `layout` (every byte), `record`, `bucket`, `reader`, `writer`, `grow`. The models
//! are in `model`.

mod layout;
mod memory;
mod steps;
mod record;
mod bucket;
mod table;
mod reader;
mod writer;
mod grow;
mod check;
#[cfg(test)]
#[cfg(loom)]
mod model;
#[cfg(test)]
#[cfg(not(loom))]
mod random;
#[cfg(test)]
#[cfg(not(loom))]
mod schedule;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

pub use layout::{IndexOptions, OWNER_COUNT, RecordState};
pub use memory::{IndexMemory, IndexMemoryError};
pub use reader::{Candidate, IndexReader, Lookup};
pub use record::{RecordId, RecordWords};
pub use writer::{IndexFull, IndexUsage, IndexWriter};
