//! Shared-memory layouts and both sides of their protocols.
//!
//! Everything that a daemon and the clients of its host share is laid out and spoken here: a
//! session's rings, pins and recency notes, the index of entries, the life word, the descriptors
//! that carry them, and the copies in and out. `wire/SHARED-MEMORY.md` draws every byte and says
//! for each step which interleaving it defends against.
//!
//! Rules of this crate:
//! 1. A word that another process can write is read once, copied and validated. No reference is
//!    ever formed to such memory, except to single atomic words.
//! 2. Nonsense from the other side is an error value, never a panic and never an access out of
//!    bounds. A panic means a bug on this side.
//! 3. Each protocol is written once over [`Memory`] and checked by models (`--cfg loom`) with the
//!    same code; each [`Step`] of it has a mutation that makes a model fail.
//! 4. The paths of requests neither allocate nor call the kernel, except to wait and to wake.

pub mod clock;
pub mod copy;
pub mod fds;
pub mod futex;
pub mod index;
pub mod layout;
pub mod sync;

mod doorbell;
mod fork;
mod life;
mod map;
mod mapped;
#[cfg(test)]
#[cfg(loom)]
mod model;
mod notes;
#[cfg(test)]
mod page;
mod pins;
mod ring;
mod session;
mod sys;

pub use doorbell::{Futex, Waiter};
pub use fork::ForkGuard;
pub use life::{LifeThread, LifeView};
pub use map::{Mapping, Memfd, MemfdOptions};
pub use mapped::MappedMemory;
pub use notes::{Note, NoteWriter};
pub use pins::{PinScan, PinSet, PinSlot, PinTable};
pub use ring::{
    ClientRing, CompletionFlags, CompletionWords, Full, RingError, ServerRing, Submission,
    SubmissionFlags, SubmissionWords, VALUE_INLINE_LEN_MAX,
};
pub use session::{AttachError, ClientSession, ServerSession, SessionDescriptors, SessionGeometry};
pub use sync::{Memory, Step};
