//! The native module behind the Python packages `chariot`, `datasystem` and `yr.datasystem`.
//!
//! ```text
//!   chariot.Client ──────────────▶ client.rs ┐
//!   datasystem.*, yr.datasystem.* ▶ kv.rs    ├▶ chariot-client (Rust SDK)
//!   views and buffers ───────────▶ view.rs, write_buffer.rs ┘
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
mod bytes;
mod client;
mod error;
mod gil;
mod kv;
mod objects;
mod old_rules;
mod options;
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
    module.add_class::<view::View>()?;
    module.add_class::<write_buffer::WriteBuffer>()?;
    Ok(())
}
