//! The native module behind the Python packages `chariot`, `datasystem` and `yr.datasystem`.
//!
//! ```text
//!   chariot.Client ──────────────▶ client.rs ┐
//!   datasystem.*, yr.datasystem.* ▶ kv.rs    ├▶ chariot-client (Rust SDK)
//!   views and buffers ───────────▶ view.rs, write_buffer.rs ┘
//!   HeteroClient, DsTensorClient ▶ hetero.rs, peer.rs ────▶ chariot-hetero, chariot-peer
//! ```
//! Python holds the interpreter's lock when it calls in. Whatever may wait for the daemon, and
//! every copy of more than 64 KiB, runs without it (`gil.rs`). Keys and values are borrowed from
//! their Python objects for the length of a call, without a copy (`arguments.rs`).
//!
//! A panic unwinds to the boundary and becomes Python's `PanicException`.

#![expect(
    clippy::result_large_err,
    reason = "the binding's error type; only raising calls move it"
)]

mod arguments;
mod blobs;
mod bytes;
mod client;
mod device_future;
mod error;
mod gil;
mod hetero;
mod kv;
mod objects;
mod old_rules;
mod options;
mod peer;
mod view;
mod write_buffer;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Error", module.py().get_type::<error::raised::Error>())?;
    module.add_class::<client::Client>()?;
    module.add_class::<kv::Kv>()?;
    module.add_class::<objects::Objects>()?;
    module.add_class::<hetero::Hetero>()?;
    module.add_class::<peer::Cards>()?;
    module.add_class::<device_future::DeviceFuture>()?;
    module.add_class::<view::View>()?;
    module.add_class::<write_buffer::WriteBuffer>()?;
    Ok(())
}
