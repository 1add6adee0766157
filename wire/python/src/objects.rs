//! The calls behind `ObjectClient` of the old SDKs, and transactions over several keys.
//!
//! What an object is on top of a value lives in the daemon (`chariot_client::objects`). Here a
//! buffer of the old SDKs is private memory that is copied when it is published: memoryviews of it
//! may live on and be written, which published memory would not allow.

use std::time::Duration;

use chariot_client::{Client, Error, LatchKind, Status, TX_KEYS_MAX, WriteMode};
use pyo3::prelude::*;

use crate::arguments::{Items, Value, text_key};
use crate::error::old;
use crate::old_rules;
use crate::options::old_set_options;

/// The object calls of one connection. Lives on: any thread.
#[pyclass(module = "chariot._native", frozen)]
#[derive(Debug)]
pub(crate) struct Objects {
    inner: Client,
    is_first: bool,
}

impl Objects {
    pub(crate) fn new(inner: Client, is_first: bool) -> Self {
        Self { inner, is_first }
    }

    fn failed(&self, failed: &Error, mode: WriteMode) -> PyErr {
        if failed.status() == Status::Sealed {
            return old(Status::Sealed, "The client object has already been sealed.");
        }
        old_rules::write_failed(failed, mode, self.is_first)
    }

    fn change_refs(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        is_more: bool,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let answers = py.detach(|| {
            let objects = self.inner.objects();
            if is_more {
                objects.increase_refs(&keys)
            } else {
                objects.decrease_refs(&keys)
            }
        });
        let (failed, failure) = names.failed(answers.into_iter());
        match failure {
            Some(error) if failed.len() == keys.len() => Err(old(error.status(), error.cause())),
            _ => Ok(failed),
        }
    }
}

#[pymethods]
impl Objects {
    /// Stores up to 8 values where none exists, all or none.
    #[expect(clippy::too_many_arguments, reason = "one line of Python calls it")]
    fn msettx(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        mode: u8,
        ttl_s: u32,
        if_absent: bool,
    ) -> PyResult<()> {
        let options = old_set_options(mode, ttl_s, true)?;
        let names = Items::of(names)?;
        let objects = Items::of(values)?;
        let keys = names.text_keys()?;
        let values = objects.values()?;
        old_rules::check_keys(&keys, self.is_first)?;
        if keys.len() > TX_KEYS_MAX {
            let message = format!("The maximum size of keys in single operation is {TX_KEYS_MAX}.");
            return Err(old(Status::InvalidArgument, &message));
        }
        if !if_absent {
            let message = "The MSetTx only supports set not existence key now.";
            return Err(old(Status::InvalidArgument, message));
        }
        old_rules::check_no_duplicate(&keys)?;
        // A transaction has no limit on its values' lengths.
        let pairs = old_rules::check_pairs(&keys, &values, false)?;
        py.detach(|| self.inner.multi_set_tx(&pairs, &options))
            .map_err(|failed| self.failed(&failed, options.mode))
    }

    /// Publishes an object's bytes, with nested keys; `is_last` seals it.
    #[expect(clippy::too_many_arguments, reason = "one line of Python calls it")]
    fn publish(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        nested: &Bound<'_, PyAny>,
        mode: u8,
        is_last: bool,
    ) -> PyResult<()> {
        let options = old_set_options(mode, 0, false)?;
        let name = text_key(name)?;
        old_rules::check_key(name, self.is_first)?;
        let nested = Items::of(nested)?;
        let nested = nested.text_keys()?;
        let value = Value::of(value)?;
        let bytes = value.bytes();
        old_rules::check_value(bytes)?;
        let published = py.detach(|| {
            let objects = self.inner.objects();
            if !is_last {
                return objects.put(name, bytes, &nested, &options).map(drop);
            }
            let mut draft = objects.create(name, bytes.len(), &options)?;
            draft.data_mut()?.copy_from_slice(bytes);
            draft.seal(&nested).map(drop)
        });
        published.map_err(|failed| self.failed(&failed, options.mode))
    }

    /// Adds a reference to each key and returns the keys that failed.
    fn increase(&self, py: Python<'_>, names: &Bound<'_, PyAny>) -> PyResult<Vec<Py<PyAny>>> {
        self.change_refs(py, names, true)
    }

    /// Drops a reference to each key and returns the keys that failed.
    fn decrease(&self, py: Python<'_>, names: &Bound<'_, PyAny>) -> PyResult<Vec<Py<PyAny>>> {
        self.change_refs(py, names, false)
    }

    /// How many clients refer to a key.
    fn references(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<u64> {
        let name = text_key(name)?;
        old_rules::check_key(name, self.is_first)?;
        py.detach(|| self.inner.objects().global_refs(name))
            .map_err(|failed| old(failed.status(), failed.cause()))
    }

    /// Takes a latch and returns its number.
    fn latch(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        is_exclusive: bool,
        wait_s: u64,
    ) -> PyResult<u64> {
        let name = text_key(name)?;
        let (kind, word) = if is_exclusive {
            (LatchKind::Exclusive, "Wlatch timeout")
        } else {
            (LatchKind::Shared, "Rlatch timeout")
        };
        py.detach(|| {
            let wait = Duration::from_secs(wait_s);
            self.inner.objects().latch(name, kind, wait)
        })
        .map_err(|failed| match failed.status() {
            Status::Timeout => old(Status::Internal, word),
            status => old(status, failed.cause()),
        })
    }

    /// Releases a latch and tells whether it was held.
    fn unlatch(&self, py: Python<'_>, name: &Bound<'_, PyAny>, latch: u64) -> PyResult<bool> {
        let name = text_key(name)?;
        py.detach(|| self.inner.objects().unlatch(name, latch))
            .map_err(|failed| old(failed.status(), failed.cause()))
    }
}
