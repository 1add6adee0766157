//! Errors as Python sees them: `chariot.Error`, and the texts that old programs look for.

use chariot_client::{Error, Status};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The exception class, under the name that Python shows.
pub(crate) mod raised {
    pyo3::create_exception!(
        chariot,
        Error,
        pyo3::exceptions::PyException,
        "A call failed. `status` is the stable name, `code` its number, `cause` says what \
         happened, `remedy` what to do about it. A miss is no error."
    );
}

/// Makes a `chariot.Error`.
pub(crate) fn modern(py: Python<'_>, error: &Error) -> PyErr {
    let failure = raised::Error::new_err(error.to_string());
    let value = failure.value(py);
    let status = error.status();
    let filled = value
        .setattr("status", status.name())
        .and_then(|()| value.setattr("code", status.as_u16()))
        .and_then(|()| value.setattr("cause", error.cause()))
        .and_then(|()| value.setattr("remedy", error.remedy()));
    match filled {
        Ok(()) => failure,
        Err(failed) => failed,
    }
}

/// The number and the printed name that the old SDKs use for a status.
pub(crate) fn old_code(status: Status) -> (u16, &'static str) {
    match status {
        Status::Ok => (0, "OK"),
        Status::InvalidArgument | Status::KeyInvalid | Status::TooLarge | Status::Malformed => {
            (2, "Invalid parameter")
        },
        Status::NotFound => (3, "Key not found"),
        Status::Internal => (5, "Runtime error"),
        Status::OutOfMemory | Status::MetadataFull => (6, "Out of memory"),
        Status::ChecksumMismatch => (7, "IO error"),
        Status::NotAuthorized => (9, "Not authorized"),
        Status::RangeInvalid => (12, "Out of range"),
        Status::Again | Status::Busy | Status::Pinned => (19, "Try again"),
        Status::ShuttingDown => (21, "Shutting down"),
        Status::Expelled => (23, "Client and Worker disconnect"),
        Status::VersionMismatch => (28, "Client and worker version mismatch"),
        Status::NotSupported => (36, "Not supported"),
        Status::Timeout => (1001, "RPC deadline exceeded"),
        Status::Restarting => (1002, "RPC unavailable"),
        Status::Sealed => (2000, "Object already sealed error"),
        Status::Exists => (2004, "Object already exist error"),
    }
}

/// The text of a failure as the old SDKs print it.
pub(crate) fn old_text(status: Status, message: &str) -> String {
    let (_, name) = old_code(status);
    format!("code: [{name}], msg: [{message}]")
}

/// Makes the `RuntimeError` of the old SDKs.
pub(crate) fn old(status: Status, message: &str) -> PyErr {
    PyRuntimeError::new_err(old_text(status, message))
}
