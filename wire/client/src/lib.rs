//! The Rust SDK of Chariot: a cache client that reads and writes shared memory when the daemon is
//! on this host, and speaks TCP when it is not.
//!
//! One core, two transports behind one internal port (`transport.rs`). `local` keeps a session over
//! the daemon's unix socket: shared-memory rings, leases to write into, pins to read under.
//! `remote` sends frames with the payload inline. A client given host and port finds shared memory
//! by itself when the host is its own.
//!
//! A miss is never an error. While the daemon is away reads are misses and writes answer
//! [`Status::Restarting`]; the next call reconnects, with a bounded back-off.
//!
//! A process may hold any number of clients, of one daemon or of several: each is a session of its
//! own (at most 1,024 a node), with its own leases, pins and counters, and they share nothing. A
//! client and its clones are one session, used by any number of threads at the same time: calls are
//! independent, and whoever has seen a write return, in whatever thread or client, reads it or a
//! newer one. Views and write buffers may be dropped on any thread.
//!
//! ```no_run
//! use chariot_client::{Client, ConnectOptions, GetOptions, SetOptions, Target};
//!
//! # fn main() -> Result<(), chariot_client::Error> {
//! let client = Client::connect(ConnectOptions::new(Target::Tcp("127.0.0.1:31501".into())))?;
//! client.set(b"answer", b"42", &SetOptions::default())?;
//! assert_eq!(client.get(b"answer", &GetOptions::default())?, Some(b"42".to_vec()));
//! # Ok(())
//! # }
//! ```

mod affinity;
mod async_client;
mod backoff;
mod bytes;
mod calls;
mod client;
mod core;
mod devices;
mod error;
mod handshake;
mod local;
mod mode;
mod objects;
mod options;
mod ranges;
mod region;
mod remote;
mod sink;
mod stats;
mod transport;
mod view;
mod write_buffer;

pub use chariot_proto::{KeyHash, Status, StatusClass, WriteMode, device};

pub use crate::async_client::AsyncClient;
pub use crate::client::{Client, Place};
pub use crate::devices::{DeviceLinkOpened, DevicePut, DeviceTake, DeviceTaken, Devices};
pub use crate::error::Error;
pub use crate::objects::{
    AsyncObjects, LatchKind, NESTED_KEYS_MAX, ObjectBuffer, Objects, TX_KEYS_MAX,
};
pub use crate::options::{
    ConnectOptions, GetOptions, ReadPath, Secret, SetOptions, SharedMemory, Target, Version,
};
pub use crate::region::{OpenPages, Placement, Region};
pub use crate::stats::ClientStats;
pub use crate::view::View;
pub use crate::write_buffer::WriteBuffer;
