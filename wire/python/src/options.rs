//! Options as Python passes them.

use std::time::Duration;

use chariot_client::{ConnectOptions, Secret, SetOptions, SharedMemory, Target, WriteMode};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// Turns seconds into a duration; `name` is for the message.
///
/// # Errors
///
/// `ValueError` for a negative, infinite or absurd number.
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| {
        PyValueError::new_err(format!(
            "{name} is a number of seconds, not {value}: {error}"
        ))
    })
}

/// As [`seconds`], for what may be left out.
pub(crate) fn optional_seconds(name: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    value.map(|value| seconds(name, value)).transpose()
}

/// The name of a write mode.
///
/// # Errors
///
/// `ValueError` for any other name.
pub(crate) fn mode(name: &str) -> PyResult<WriteMode> {
    Ok(match name {
        "evict" => WriteMode::NoneEvict,
        "keep" => WriteMode::None,
        "write_through" => WriteMode::WriteThrough,
        "write_back" => WriteMode::WriteBack,
        "write_back_evict" => WriteMode::WriteBackEvict,
        other => {
            return Err(PyValueError::new_err(format!(
                "mode is evict, keep, write_through, write_back or write_back_evict, not {other:?}"
            )));
        },
    })
}

/// Options of a write.
pub(crate) fn set_options(
    ttl: Option<f64>,
    if_absent: bool,
    mode_name: Option<&str>,
) -> PyResult<SetOptions> {
    let ttl = optional_seconds("ttl", ttl)?;
    if ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Err(PyValueError::new_err(
            "ttl is more than zero; None lives for ever",
        ));
    }
    Ok(SetOptions {
        ttl,
        if_absent,
        mode: mode_name.map_or(Ok(WriteMode::NoneEvict), mode)?,
        deadline: None,
    })
}

/// Options of a write of the old SDKs: a write mode by its number, a life in seconds or 0.
///
/// # Errors
///
/// `OverflowError` for a number that is no mode.
pub(crate) fn old_set_options(mode: u8, ttl_s: u32, if_absent: bool) -> PyResult<SetOptions> {
    let Some(mode) = WriteMode::from_u8(mode) else {
        return Err(PyOverflowError::new_err(format!("{mode} is no write mode")));
    };
    Ok(SetOptions {
        ttl: (ttl_s > 0).then(|| Duration::from_secs(ttl_s.into())),
        if_absent,
        mode,
        deadline: None,
    })
}

/// How to connect: the settings that both faces share.
#[derive(Debug)]
pub(crate) struct Connecting<'a> {
    pub address: &'a str,
    pub access_key: &'a str,
    pub secret_key: &'a str,
    pub tenant: &'a str,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub shared_memory: SharedMemory,
}

impl Connecting<'_> {
    /// The options of the Rust SDK. An address that begins with `/` is a unix socket.
    pub(crate) fn options(&self) -> ConnectOptions {
        let target = if self.address.starts_with('/') {
            Target::Unix(self.address.into())
        } else {
            Target::Tcp(self.address.to_owned())
        };
        ConnectOptions {
            access_key: self.access_key.to_owned(),
            secret_key: Secret::new(self.secret_key.as_bytes()),
            tenant: self.tenant.to_owned(),
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            shared_memory: self.shared_memory,
            ..ConnectOptions::new(target)
        }
    }
}
