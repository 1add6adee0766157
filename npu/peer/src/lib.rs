//! Transfers of objects from card to card, inside one host.
//!
//! ```text
//!   put ─▶ directory (the daemon, by key) ◀─ take ── get
//!              │ Serve                                 ▲ bytes
//!              ▼                                       │
//!   sender: link, announce chunk ─ ticket ─▶ Receive ─▶ receiver
//!           post send ═══════ link, card to card ═══════ post receive
//! ```
//! A [`PeerPort`] is one card of this process. Objects offered with [`PeerPort::put`] stay where
//! they are; [`PeerPort::get`] brings one into blobs of the same sizes on another card, of this or
//! of another process. Whoever gets an object provides it from its first chunk on, so that one
//! source and many receivers make a chain in which every card sends once. `publish` and `subscribe`
//! hand an object on to one receiver.
//!
//! What keeps it from waiting in a circle:
//! 1. A link leads one way. Its tickets are given out in one place, in the order in which the
//!    receiver hears of them, so that the nth send meets the nth receive.
//! 2. A ticket is only given for bytes that the sender has: what stands first in a link can move.
//! 3. A receiver is never given a source that gets the object from itself (the directory sees to
//!    it).
//! 4. Links are set up when they are first needed, each in a thread of its own; whose turn it is
//!    decides the directory, and nobody holds a card while it waits.
//!
//! Every wait ends: [`PeerOptions`] has the limits. A link that fails or stands still is broken at
//! both ends; the receiver asks for another provider and goes on with the chunk it lacks, until
//! its caller's deadline. A process that dies takes along what it alone had.
//!
//! The daemon is reached through [`Directory`]; another implementation of it (of a cluster) is all
//! that transfers beyond one host need of this crate.
//!
//! [`Ports`] are the cards of one client as the SDKs use them.
//!
//! Lives on: any thread. Reading order: `directory`, `object`, `port`, `fetch`, `send`, `receive`,
//! `orders`.

mod directory;
mod error;
mod fetch;
mod object;
mod orders;
mod port;
mod ports;
mod promise;
mod receive;
mod send;
mod state;

pub use chariot_client::device::{DeviceOrder, DevicePort, DeviceShape, Lifetime, ShapeError};

pub use directory::{Directory, Opened, Taken, Wish};
pub use error::PeerError;
pub use object::{DeviceBlob, DeviceObject};
pub use port::{MovedFuture, PeerOptions, PeerPort, PeerStats};
pub use ports::Ports;
pub use promise::{CALLS_MAX, Outcomes, Promise};
