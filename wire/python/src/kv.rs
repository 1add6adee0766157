//! The calls behind `KVClient` of the old SDKs: their limits, their messages, their ways to fail.
//!
//! Failures are `RuntimeError("code: [<name>], msg: [<detail>]")`. Two generations share this file;
//! where they differ, `is_first` says that the caller is the package `datasystem` (0.1.6),
//! otherwise it is `yr.datasystem`. Types of arguments are checked in Python, before.

use std::collections::HashSet;
use std::time::Duration;

use chariot_client::{Client, Error, GetOptions, Place, SetOptions, SharedMemory, Status};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::arguments::{Items, Value, text_key};
use crate::error::{old, old_code};
use crate::objects::Objects;
use crate::options::{Connecting, old_set_options};
use crate::view::View;
use crate::write_buffer::WriteBuffer;
use crate::{bytes, old_rules};

/// Longest object, in bytes: as much as the protocol can carry.
const OBJECT_MAX: u64 = 1 << 40;

/// One connection of an old client. Lives on: any thread.
#[pyclass(module = "chariot._native", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct Kv {
    inner: Client,
    is_first: bool,
}

/// A batch read: one slot per key.
type Views = Vec<Option<chariot_client::View>>;

impl Kv {
    pub(crate) fn client(&self) -> &Client {
        &self.inner
    }

    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }

    /// Reads views; fails as the old SDKs do when there is not one value.
    fn read_views(&self, py: Python<'_>, keys: &[&[u8]], wait_ms: u64) -> PyResult<Views> {
        old_rules::check_keys(keys, self.is_first)?;
        let options = GetOptions {
            wait: (wait_ms > 0).then(|| old_rules::wait(wait_ms)),
            ..GetOptions::default()
        };
        if let [name] = keys {
            let answer = py.detach(|| self.inner.view_with(name, &options));
            return self.some(vec![answer]);
        }
        let answers = py.detach(|| self.inner.mview_with(keys, &options));
        self.some(answers)
    }

    /// Misses and failed keys become `None`, unless nothing at all was found.
    fn some<T>(&self, answers: Vec<Result<Option<T>, Error>>) -> PyResult<Vec<Option<T>>> {
        let mut failure = None;
        let values: Vec<Option<T>> = answers
            .into_iter()
            .map(|answer| {
                answer.unwrap_or_else(|failed| {
                    failure.get_or_insert(failed);
                    None
                })
            })
            .collect();
        if values.iter().any(Option::is_some) {
            return Ok(values);
        }
        if let Some(failed) = failure {
            let message = format!("Cannot get objects from worker: {}", failed.cause());
            return Err(old(failed.status(), &message));
        }
        self.check_daemon("Cannot get objects from worker")?;
        Err(old(
            Status::NotFound,
            "Cannot get objects from worker: Key not found",
        ))
    }

    /// A daemon that is away is no miss here: old programs tell the two apart.
    fn check_daemon(&self, what: &str) -> PyResult<()> {
        if self.inner.place() != Place::Away {
            return Ok(());
        }
        let message = format!("{what}: the daemon is away or restarting");
        Err(old(Status::Restarting, &message))
    }

    fn write_failed(&self, failed: &Error, options: &SetOptions) -> PyErr {
        old_rules::write_failed(failed, options.mode, self.is_first)
    }
}

#[pymethods]
impl Kv {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one line of Python calls it")]
    fn new(
        py: Python<'_>,
        address: &str,
        access_key: &str,
        secret_key: &str,
        tenant: &str,
        connect_timeout_ms: u64,
        request_timeout_ms: u64,
        is_first: bool,
    ) -> PyResult<Self> {
        let options = Connecting {
            address,
            access_key,
            secret_key,
            tenant,
            connect_timeout: Duration::from_millis(connect_timeout_ms),
            request_timeout: Duration::from_millis(request_timeout_ms),
            shared_memory: SharedMemory::Auto,
        }
        .options();
        match py.detach(|| Client::connect(options)) {
            Ok(inner) => Ok(Self { inner, is_first }),
            Err(failed) => Err(old(
                failed.status(),
                &format!(
                    "cannot connect to the worker at {address}: {}",
                    failed.cause()
                ),
            )),
        }
    }

    /// Writes one value.
    fn set(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        mode: u8,
        ttl_s: u32,
    ) -> PyResult<()> {
        let options = old_set_options(mode, ttl_s, false)?;
        let name = text_key(name)?;
        old_rules::check_key(name, self.is_first)?;
        let value = Value::of(value)?;
        let bytes = value.bytes();
        old_rules::check_value(bytes)?;
        match py.detach(|| self.inner.set(name, bytes, &options)) {
            Ok(_version) => Ok(()),
            Err(failed) => Err(self.write_failed(&failed, &options)),
        }
    }

    /// Writes many values and returns the keys that failed: later ones of equal keys do.
    #[expect(clippy::too_many_arguments, reason = "one line of Python calls it")]
    fn mset(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        mode: u8,
        ttl_s: u32,
        if_absent: bool,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let options = old_set_options(mode, ttl_s, if_absent)?;
        let names = Items::of(names)?;
        let objects = Items::of(values)?;
        let keys = names.text_keys()?;
        let values = objects.values()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let pairs = old_rules::check_pairs(&keys, &values, self.is_first)?;
        let answers = py.detach(|| self.inner.mset(&pairs, &options));
        let mut seen = HashSet::with_capacity(keys.len());
        let mut failed = Vec::new();
        let mut failure = None;
        for ((name, object), answer) in keys.iter().zip(names.objects()).zip(answers) {
            if !seen.insert(*name) {
                failed.push(object.clone().unbind());
                continue;
            }
            match answer {
                Ok(_version) => {},
                Err(exists) if if_absent && exists.status() == Status::Exists => {},
                Err(error) => {
                    failed.push(object.clone().unbind());
                    failure.get_or_insert(error);
                },
            }
        }
        match failure {
            Some(error) if failed.len() == keys.len() => Err(old_rules::batch_failed(
                "Cannot set all the objects from worker, status:",
                &error,
                options.mode,
                self.is_first,
            )),
            _ => Ok(failed),
        }
    }

    /// Reads values into new `bytes` or `str` objects; a miss is None.
    fn get<'py>(
        &self,
        py: Python<'py>,
        names: &Bound<'py, PyAny>,
        is_text: bool,
        wait_ms: u64,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let names = Items::of(names)?;
        let views = self.read_views(py, &names.text_keys()?, wait_ms)?;
        let mut values = bytes::copy_many(py, &views)?;
        if is_text {
            for value in values.iter_mut().flatten() {
                *value = bytes::to_text(value)?;
            }
        }
        Ok(values)
    }

    /// Lends values in place; a miss is None.
    fn views(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        wait_ms: u64,
    ) -> PyResult<Vec<Option<View>>> {
        let names = Items::of(names)?;
        let views = self.read_views(py, &names.text_keys()?, wait_ms)?;
        Ok(views.into_iter().map(|view| view.map(View::new)).collect())
    }

    /// Lends a range of each value in place: (first byte, bytes), 0 bytes reads to the end.
    fn read(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        ranges: Vec<(u64, u64)>,
    ) -> PyResult<Vec<Option<View>>> {
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        if keys.len() != ranges.len() {
            return Err(old(Status::InvalidArgument, "a range is missing"));
        }
        old_rules::check_keys(&keys, self.is_first)?;
        old_rules::check_no_duplicate(&keys)?;
        for (offset, size) in &ranges {
            if offset.checked_add(*size).is_none() {
                let message = format!("The read offset {offset} and size {size} overflow");
                return Err(old(Status::InvalidArgument, &message));
            }
        }
        let views = self.read_views(py, &keys, 0)?;
        views
            .into_iter()
            .zip(ranges)
            .map(|(view, range)| {
                view.map(|view| old_rules::range_of(view, range))
                    .transpose()
            })
            .collect()
    }

    /// Deletes keys; missing ones count as deleted. Returns the keys that failed.
    fn delete(&self, py: Python<'_>, names: &Bound<'_, PyAny>) -> PyResult<Vec<Py<PyAny>>> {
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let answers = py.detach(|| self.inner.mdelete(&keys));
        let (failed, failure) = names.failed(answers.into_iter().map(|one| one.map(drop)));
        match failure {
            Some(error) if failed.len() == keys.len() => Err(old(
                error.status(),
                &format!("Delete failed: {}", error.cause()),
            )),
            _ => Ok(failed),
        }
    }

    /// Tells for each key whether it has a value.
    fn exist<'py>(
        &self,
        py: Python<'py>,
        names: &Bound<'py, PyAny>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_batch(&keys, limit, self.is_first)?;
        let answers = if let [name] = keys[..] {
            vec![py.detach(|| self.inner.exist(name))]
        } else {
            py.detach(|| self.inner.mexist(&keys))
        };
        let mut found = Vec::with_capacity(answers.len());
        for answer in answers {
            found.push(match answer {
                Ok(found) => found,
                // A key that is none exists nowhere.
                Err(invalid) if invalid.status() == Status::KeyInvalid => false,
                Err(failed) => return Err(old(failed.status(), failed.cause())),
            });
        }
        if !found.contains(&true) {
            self.check_daemon("Cannot ask the worker")?;
        }
        PyList::new(py, found)
    }

    /// Replaces the lives of keys (0: for ever). Returns the keys that failed: missing ones do.
    fn expire(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        ttl_s: u32,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let ttl = (ttl_s > 0).then(|| Duration::from_secs(ttl_s.into()));
        let answers = py.detach(|| self.inner.mexpire(&keys, ttl));
        let missing = || Error::new(Status::NotFound, "Key not found");
        let answers = answers
            .into_iter()
            .map(|answer| answer.and_then(|found| if found { Ok(()) } else { Err(missing()) }));
        let (failed, failure) = names.failed(answers);
        match failure {
            Some(error) if failed.len() == keys.len() => Err(old(error.status(), error.cause())),
            _ => Ok(failed),
        }
    }

    /// Lends memory for many values.
    fn mcreate(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        sizes: Vec<usize>,
        mode: u8,
        ttl_s: u32,
    ) -> PyResult<Vec<WriteBuffer>> {
        let options = old_set_options(mode, ttl_s, false)?;
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        for name in &keys {
            old_rules::check_key(name, self.is_first)?;
        }
        old_rules::check_sizes(&keys, &sizes)?;
        let created: Result<Vec<WriteBuffer>, Error> = py.detach(|| {
            keys.iter()
                .zip(sizes)
                .map(|(name, size)| {
                    WriteBuffer::create(self.inner.clone(), name, size, options.clone(), true)
                })
                .collect()
        });
        created.map_err(|failed| self.write_failed(&failed, &options))
    }

    /// Publishes buffers of `mcreate`; all are tried, one that fails is told.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "extracted from the caller's list"
    )]
    fn publish(&self, py: Python<'_>, buffers: Vec<Py<WriteBuffer>>) -> PyResult<()> {
        let mut failure = None;
        for buffer in &buffers {
            let buffer = buffer.get();
            if let Err(failed) = buffer.publish_now(py) {
                let name = String::from_utf8_lossy(buffer.key()).into_owned();
                failure.get_or_insert((name, failed));
            }
        }
        match failure {
            None => Ok(()),
            Some((name, failed)) => {
                let message = format!("cannot set {name}: {}", failed.cause());
                Err(old_rules::write_failed(
                    &Error::new(failed.status(), message),
                    chariot_client::WriteMode::None,
                    self.is_first,
                ))
            },
        }
    }

    /// Checks what a key and a length must be, without asking the daemon.
    fn check_key(&self, name: &Bound<'_, PyAny>, size: u64) -> PyResult<()> {
        old_rules::check_key(text_key(name)?, self.is_first)?;
        if size > OBJECT_MAX {
            let message = format!("Shared memory no space in arena: {size} bytes");
            return Err(old(Status::OutOfMemory, &message));
        }
        Ok(())
    }

    /// The object calls of this connection.
    fn objects(&self) -> Objects {
        Objects::new(self.inner.clone(), self.is_first)
    }

    /// Asks for a sign of life, connecting again if need be: (number, printed name, detail).
    fn health(&self, py: Python<'_>) -> (u16, &'static str, String) {
        let answer = py.detach(|| self.inner.exist(b"chariot"));
        let failed = match answer {
            Err(failed) => failed,
            Ok(_) if self.inner.place() == Place::Away => {
                Error::new(Status::Restarting, "the daemon is away or restarting")
            },
            Ok(_) => return (0, "OK", String::new()),
        };
        let (number, name) = old_code(failed.status());
        (number, name, failed.cause().to_owned())
    }
}
