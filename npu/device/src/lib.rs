//! One safe interface to accelerators: device, stream, event, memory, batch copy, peer links.
//!
//! ```text
//! Runtime ──open──► Device ──► Stream, Event       what runs, and marks in it
//!   ascend | cuda | host    ──► DeviceMemory        bytes on the card
//!                           ──► HostMemory          page-locked, registered or plain bytes
//!                           ──► PeerLink            sends and receives in ticket order
//! CopyBatch (device range ◄► host range, ...) ──submit──► Stream
//! ```
//! What keeps it safe: memory is counted, and a stream holds what its unfinished copies touch until
//! it has been seen past them; dropping a stream waits, then aborts, and what still may be written
//! is never freed. Which card is a thread's own is settled inside every call and put back after it,
//! so handles may be used on any thread, beside a framework that has its own idea of the card.
//!
//! Capabilities are data ([`Capabilities`]), never `cfg`. A backend is three things: functions
//! behind `driver::Driver` and `driver::Card`, a probe that says why it is absent, and the
//! conformance suite (`tests/conformance`), which is one for all.
//!
//! Reading order: `capability`, `memory`, `batch`, `stream`, `device`, `peer`; then `driver` and a
//! backend.

mod ascend;
mod batch;
mod capability;
mod cuda;
mod device;
mod driver;
mod error;
mod host;
mod memory;
mod peer;
mod stream;

pub use ascend::Ascend;
pub use batch::{CopyBatch, Direction};
pub use capability::{
    BackendKind, BatchForm, Capabilities, DeviceStatus, LinkForm, MemoryUse, PairForm, RegisterForm,
};
pub use cuda::Cuda;
pub use device::{Device, Runtime};
pub use error::DeviceError;
pub use host::{Host, HostOptions};
pub use memory::{DeviceMemory, ExportKey, HostAccess, HostKind, HostMemory};
pub use peer::{Invitation, LinkEnd, LinkPart, LinkTurn, PeerLink};
pub use stream::{Event, Stream, Submission};
