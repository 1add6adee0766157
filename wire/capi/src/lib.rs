//! `libchariot`: the C ABI over the Rust SDK.
//!
//! ```text
//!  C, C++ ─▶ chariot.h ─▶ call.rs (one call) | batch.rs (many keys) | object.rs ─▶ chariot-client
//!                           │  every body runs in boundary::guard: no panic leaves
//!                           ├─ view.rs, buffer.rs: handles that own a pin or a lease
//!                           └─ hetero.rs, cards.rs, future.rs ─▶ chariot-hetero, chariot-peer
//! ```
//! Nothing is decided here: arguments are checked, calls are passed on, results become a status
//! number, and the words of a failure wait in the thread that met it. `include/chariot.h` is
//! generated from these files and checked in; a test compares. A function once released keeps its
//! name, arguments and meaning; structs carry their size, so that they may grow at the end.
//!
//! Threads: a client may be used by any number of threads at once. A view may be read by any number
//! of threads; a buffer belongs to one thread at a time. Whoever closes, releases, publishes or
//! discards a handle must be the last to use it.

pub mod batch;
pub mod boundary;
pub mod buffer;
pub mod call;
pub mod cards;
pub mod client;
pub mod future;
pub mod hetero;
pub mod object;
pub mod options;
pub mod status;
pub mod view;
