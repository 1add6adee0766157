//! `chariot.Client`: our own face, one native object whose methods are the operations.
//!
//! Single operations borrow the key in place and allocate nothing but the answer. Batches take
//! lists and answer lists in the same order. Every call gives the interpreter's lock back while it
//! may wait.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use chariot_client::{Error, GetOptions, Place, SetOptions, SharedMemory, Version};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arguments::{Items, Lent, Value, key};
use crate::options::{Connecting, optional_seconds, seconds, set_options};
use crate::view::View;
use crate::write_buffer::WriteBuffer;
use crate::{bytes, error};

/// A connection to one daemon. Lives on: any thread.
#[pyclass(module = "chariot", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct Client {
    address: String,
    /// `None` once closed.
    inner: RwLock<Option<chariot_client::Client>>,
}

impl Client {
    fn inner(&self) -> PyResult<chariot_client::Client> {
        self.inner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(|| PyValueError::new_err("this client is closed"))
    }
}

/// Options of a read.
fn get_options(wait: Option<f64>, offset: u64, size: Option<u64>) -> PyResult<GetOptions> {
    Ok(GetOptions {
        wait: optional_seconds("wait", wait)?,
        offset,
        len: size,
        deadline: None,
    })
}

/// Takes the answers of a batch apart: the first failure is raised.
fn all<T>(py: Python<'_>, answers: Vec<Result<T, Error>>) -> PyResult<Vec<T>> {
    answers
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|failed| error::modern(py, &failed))
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (
        address = "127.0.0.1:31501", *, access_key = "", secret_key = "", tenant = "",
        connect_timeout = 5.0, request_timeout = 5.0, shared_memory = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of the Python call")]
    fn new(
        py: Python<'_>,
        address: &str,
        access_key: &str,
        secret_key: &str,
        tenant: &str,
        connect_timeout: f64,
        request_timeout: f64,
        shared_memory: Option<bool>,
    ) -> PyResult<Self> {
        let options = Connecting {
            address,
            access_key,
            secret_key,
            tenant,
            connect_timeout: seconds("connect_timeout", connect_timeout)?,
            request_timeout: seconds("request_timeout", request_timeout)?,
            shared_memory: match shared_memory {
                None => SharedMemory::Auto,
                Some(true) => SharedMemory::Require,
                Some(false) => SharedMemory::Never,
            },
        }
        .options();
        let inner = py
            .detach(|| chariot_client::Client::connect(options))
            .map_err(|failed| error::modern(py, &failed))?;
        Ok(Self {
            address: address.to_owned(),
            inner: RwLock::new(Some(inner)),
        })
    }

    /// Writes a value and returns its version.
    #[pyo3(signature = (name, value, /, *, ttl = None, if_absent = false, mode = None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of the Python call")]
    fn set(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<f64>,
        if_absent: bool,
        mode: Option<&str>,
    ) -> PyResult<u64> {
        let inner = self.inner()?;
        let options = set_options(ttl, if_absent, mode)?;
        let name = key(name)?;
        let value = Value::of(value)?;
        let bytes = value.bytes();
        py.detach(|| inner.set(name, bytes, &options))
            .map(Version::raw)
            .map_err(|failed| error::modern(py, &failed))
    }

    /// Writes the values of a dict; not atomic.
    #[pyo3(signature = (items, /, *, ttl = None, if_absent = false, mode = None))]
    fn mset(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyDict>,
        ttl: Option<f64>,
        if_absent: bool,
        mode: Option<&str>,
    ) -> PyResult<()> {
        let inner = self.inner()?;
        let options = set_options(ttl, if_absent, mode)?;
        let names = Items::of(items.keys().as_any())?;
        let objects = Items::of(items.values().as_any())?;
        let names = names.keys()?;
        let values = objects.values()?;
        let pairs: Vec<(&[u8], &[u8])> = names
            .into_iter()
            .zip(values.iter().map(Value::bytes))
            .collect();
        let answers = py.detach(|| inner.mset(&pairs, &options));
        all(py, answers).map(drop)
    }

    /// Reads a value, or a range of it, into new bytes; None is a miss.
    #[pyo3(signature = (name, /, *, wait = None, offset = 0, size = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        wait: Option<f64>,
        offset: u64,
        size: Option<u64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let inner = self.inner()?;
        let options = get_options(wait, offset, size)?;
        let name = key(name)?;
        let view = py
            .detach(|| inner.view_with(name, &options))
            .map_err(|failed| error::modern(py, &failed))?;
        view.map(|view| bytes::copy_one(py, &view)).transpose()
    }

    /// Reads a value into a writable buffer and returns its length; None is a miss.
    #[pyo3(signature = (name, buffer, /, *, wait = None, offset = 0, size = None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of the Python call")]
    fn get_into(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        buffer: &Bound<'_, PyAny>,
        wait: Option<f64>,
        offset: u64,
        size: Option<u64>,
    ) -> PyResult<Option<usize>> {
        let inner = self.inner()?;
        let options = get_options(wait, offset, size)?;
        let name = key(name)?;
        let mut lent = Lent::of(buffer, ffi::PyBUF_WRITABLE)?;
        let target = lent.bytes_mut();
        py.detach(|| inner.get_into_with(name, target, &options))
            .map_err(|failed| error::modern(py, &failed))
    }

    /// Lends a value in place; None is a miss.
    #[pyo3(signature = (name, /, *, wait = None, offset = 0, size = None))]
    fn view(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        wait: Option<f64>,
        offset: u64,
        size: Option<u64>,
    ) -> PyResult<Option<View>> {
        let inner = self.inner()?;
        let options = get_options(wait, offset, size)?;
        let name = key(name)?;
        let view = py
            .detach(|| inner.view_with(name, &options))
            .map_err(|failed| error::modern(py, &failed))?;
        Ok(view.map(View::new))
    }

    /// Reads many values; a miss is None.
    #[pyo3(signature = (names, /, *, wait = None))]
    fn mget<'py>(
        &self,
        py: Python<'py>,
        names: &Bound<'py, PyAny>,
        wait: Option<f64>,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let inner = self.inner()?;
        let options = get_options(wait, 0, None)?;
        let names = Items::of(names)?;
        let names = names.keys()?;
        let answers = py.detach(|| inner.mview_with(&names, &options));
        bytes::copy_many(py, &all(py, answers)?)
    }

    /// Lends many values in place; a miss is None.
    #[pyo3(signature = (names, /, *, wait = None))]
    fn mview(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        wait: Option<f64>,
    ) -> PyResult<Vec<Option<View>>> {
        let inner = self.inner()?;
        let options = get_options(wait, 0, None)?;
        let names = Items::of(names)?;
        let names = names.keys()?;
        let answers = py.detach(|| inner.mview_with(&names, &options));
        let views = all(py, answers)?;
        Ok(views.into_iter().map(|view| view.map(View::new)).collect())
    }

    /// Lends memory of the cache to write a value in place.
    #[pyo3(signature = (name, size, /, *, ttl = None, if_absent = false, mode = None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of the Python call")]
    fn create(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        size: usize,
        ttl: Option<f64>,
        if_absent: bool,
        mode: Option<&str>,
    ) -> PyResult<WriteBuffer> {
        let inner = self.inner()?;
        let options: SetOptions = set_options(ttl, if_absent, mode)?;
        let name = key(name)?;
        py.detach(|| WriteBuffer::create(inner, name, size, options, false))
            .map_err(|failed| error::modern(py, &failed))
    }

    /// Tells whether a key has a value.
    #[pyo3(signature = (name, /))]
    fn exist(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        let inner = self.inner()?;
        let name = key(name)?;
        py.detach(|| inner.exist(name))
            .map_err(|failed| error::modern(py, &failed))
    }

    /// Tells for each key whether it has a value.
    #[pyo3(signature = (names, /))]
    fn mexist<'py>(
        &self,
        py: Python<'py>,
        names: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let inner = self.inner()?;
        let names = Items::of(names)?;
        let names = names.keys()?;
        let answers = py.detach(|| inner.mexist(&names));
        PyList::new(py, all(py, answers)?)
    }

    /// Returns how many keys, from the front without a gap, have a value.
    #[pyo3(signature = (names, /))]
    fn prefix(&self, py: Python<'_>, names: &Bound<'_, PyAny>) -> PyResult<usize> {
        let inner = self.inner()?;
        let names = Items::of(names)?;
        let names = names.keys()?;
        py.detach(|| inner.prefix(&names))
            .map_err(|failed| error::modern(py, &failed))
    }

    /// Returns the length of a value in bytes; None is a miss.
    #[pyo3(signature = (name, /))]
    fn size(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let inner = self.inner()?;
        let name = key(name)?;
        py.detach(|| inner.size(name))
            .map_err(|failed| error::modern(py, &failed))
    }

    /// Deletes a key and tells whether it had a value.
    #[pyo3(signature = (name, /))]
    fn delete(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        let inner = self.inner()?;
        let name = key(name)?;
        py.detach(|| inner.delete(name))
            .map_err(|failed| error::modern(py, &failed))
    }

    /// Deletes many keys and tells for each whether it had a value.
    #[pyo3(signature = (names, /))]
    fn mdelete(&self, py: Python<'_>, names: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
        let inner = self.inner()?;
        let names = Items::of(names)?;
        let names = names.keys()?;
        let answers = py.detach(|| inner.mdelete(&names));
        all(py, answers)
    }

    /// Replaces the life of a key (None: for ever) and tells whether it had a value.
    #[pyo3(signature = (name, ttl, /))]
    fn expire(&self, py: Python<'_>, name: &Bound<'_, PyAny>, ttl: Option<f64>) -> PyResult<bool> {
        let inner = self.inner()?;
        let ttl: Option<Duration> = optional_seconds("ttl", ttl)?;
        let name = key(name)?;
        py.detach(|| inner.expire(name, ttl))
            .map_err(|failed| error::modern(py, &failed))
    }

    /// Where bytes come from now: "shared-memory", "tcp" or "away".
    #[getter]
    fn place(&self) -> PyResult<&'static str> {
        Ok(match self.inner()?.place() {
            Place::SharedMemory => "shared-memory",
            Place::Tcp => "tcp",
            Place::Away => "away",
        })
    }

    /// The address that was given.
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// Ends this client; its views stay readable. Calls under way are finished.
    fn close(&self, py: Python<'_>) {
        let inner = self
            .inner
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        py.detach(|| drop(inner));
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __contains__(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.exist(py, name)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(format!(
            "a client cannot be pickled: connect to {} in the other process",
            self.address
        )))
    }

    fn __repr__(&self) -> String {
        format!("<chariot.Client of {}>", self.address)
    }
}
