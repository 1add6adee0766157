//! The calls behind `HeteroClient` and `DsTensorClient` of the old SDKs that copy between a card
//! and the cache.
//!
//! ```text
//!   _compat/hetero.py, _compat/tensors.py ─▶ hetero.rs ─▶ chariot-hetero ─▶ device core, daemon
//!                                        └─▶ peer.rs ───▶ chariot-peer ──▶ links, daemon
//! ```
//! Accelerators are looked for at the first call that needs one, once a process: a client that only
//! asks whether keys exist opens no driver.

use chariot_client::{Client, Error, GetOptions, Place, Status};
use chariot_hetero::{Accelerators, Backend, GetOutcome, HeteroClient, SetOutcome};
use chariot_peer::Ports;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::Items;
use crate::blobs::Given;
use crate::device_future::{DeviceFuture, Waiting, all_failed};
use crate::error::old;
use crate::kv::Kv;
use crate::old_rules;
use crate::options::old_set_options;

/// The device calls of one connection. Lives on: any thread.
#[pyclass(module = "chariot._native", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct Hetero {
    /// `None` only while it is dropped.
    inner: Option<Inner>,
    pub(crate) is_first: bool,
}

/// What ends with the client.
#[derive(Debug)]
struct Inner {
    hetero: HeteroClient,
    ports: Ports,
}

impl Hetero {
    fn inner(&self) -> &Inner {
        self.inner.as_ref().expect("there until it is dropped")
    }

    pub(crate) fn client(&self) -> &Client {
        self.inner().hetero.client()
    }

    pub(crate) fn accelerators(&self) -> &Accelerators {
        self.inner().hetero.accelerators()
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.inner().ports
    }

    /// The words for a failure of a write.
    fn write_failed(&self, failed: &Error, mode: chariot_client::WriteMode) -> PyErr {
        old_rules::write_failed(failed, mode, self.is_first)
    }

    /// The words for a read of which nothing came about.
    fn read_failed(&self, first: &Error) -> PyErr {
        if first.status() == Status::NotFound && self.client().place() == Place::Away {
            let message = "Cannot get objects from worker: the daemon is away or restarting";
            return old(Status::Restarting, message);
        }
        all_failed(first)
    }
}

/// What a write's outcomes say about each key: one that has a value keeps it, which is no failure.
pub(crate) fn stored(outcomes: Vec<SetOutcome>) -> Vec<Result<(), Error>> {
    let plain = |outcome: SetOutcome| outcome.map(|_written_or_existed| ());
    outcomes.into_iter().map(plain).collect()
}

/// What a read's outcomes say about each key: a miss is a failure here.
pub(crate) fn found(outcomes: Vec<GetOutcome>) -> Vec<Result<(), Error>> {
    let plain = |outcome: GetOutcome| match outcome {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(Status::NotFound, "Key not found")),
        Err(error) => Err(error),
    };
    outcomes.into_iter().map(plain).collect()
}

fn get_options(wait_ms: u64) -> GetOptions {
    GetOptions {
        wait: (wait_ms > 0).then(|| old_rules::wait(wait_ms)),
        ..GetOptions::default()
    }
}

fn owned(keys: &[&[u8]]) -> Vec<Box<[u8]>> {
    keys.iter().map(|&key| key.into()).collect()
}

/// The Python objects of the keys, for a future.
pub(crate) fn unbound(names: &Items<'_>) -> Vec<Py<PyAny>> {
    let unbind = |name: &Bound<'_, PyAny>| name.clone().unbind();
    names.objects().iter().map(unbind).collect()
}

#[pymethods]
impl Hetero {
    /// Looks for accelerators: `backend` is auto, ascend, cuda or host.
    #[new]
    fn new(py: Python<'_>, kv: &Kv, backend: &str) -> PyResult<Self> {
        let backend = match backend {
            "" | "auto" => Backend::Auto,
            "ascend" => Backend::Ascend,
            "cuda" => Backend::Cuda,
            "host" => Backend::Host,
            other => {
                let message = format!(
                    "CHARIOT_DEVICE_BACKEND is auto, ascend, cuda or host, and not {other:?}"
                );
                return Err(PyValueError::new_err(message));
            },
        };
        let client = kv.client().clone();
        let ports = Ports::new(client.clone());
        let hetero = py.detach(|| HeteroClient::new(client, &Accelerators::shared(backend)));
        let hetero = hetero.map_err(|failed| old(failed.status(), failed.cause()))?;
        Ok(Self {
            inner: Some(Inner { hetero, ports }),
            is_first: kv.is_first(),
        })
    }

    /// The backend's name; raises when there is none, and says why.
    fn backend(&self) -> PyResult<String> {
        let kind = self.accelerators().backend();
        let kind = kind.map_err(|failed| old(failed.status(), failed.cause()))?;
        Ok(kind.to_string())
    }

    /// Copies objects of a card into the cache; keys that have a value keep it.
    fn mset_d2h(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
        mode: u8,
        ttl_s: u32,
    ) -> PyResult<()> {
        let options = old_set_options(mode, ttl_s, true)?;
        let memory = given.memory()?;
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let answers = py.detach(|| {
            let lists = memory.lists(self.accelerators())?;
            self.inner().hetero.mset_d2h(&keys, &lists, &options)
        });
        let answers = answers.map_err(|failed| self.write_failed(&failed, options.mode))?;
        match names.failed(stored(answers).into_iter()).1 {
            Some(first) => Err(self.write_failed(&first, options.mode)),
            None => Ok(()),
        }
    }

    /// Copies objects of the cache into a card and returns the keys that failed.
    fn mget_h2d(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
        wait_ms: u64,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let options = get_options(wait_ms);
        let memory = given.memory()?;
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let answers = py.detach(|| {
            let lists = memory.lists(self.accelerators())?;
            self.inner().hetero.mget_h2d(&keys, &lists, &options)
        });
        let answers = answers.map_err(|failed| old(failed.status(), failed.cause()))?;
        match names.failed(found(answers).into_iter()) {
            (failed, Some(first)) if failed.len() == keys.len() => Err(self.read_failed(&first)),
            (failed, _) => Ok(failed),
        }
    }

    /// As `mset_d2h`, on another thread; the owner is held until it is over.
    fn async_mset_d2h(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
        mode: u8,
        ttl_s: u32,
    ) -> PyResult<DeviceFuture> {
        let options = old_set_options(mode, ttl_s, true)?;
        let memory = given.memory()?;
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let pending = py.detach(|| {
            let lists = memory.lists(self.accelerators())?;
            let hetero = &self.inner().hetero;
            hetero.async_mset_d2h(owned(&keys), lists, options.clone())
        });
        let pending = pending.map_err(|failed| self.write_failed(&failed, options.mode))?;
        Ok(DeviceFuture::new(Waiting::Set(pending), unbound(&names)))
    }

    /// As `mget_h2d`, on another thread; the owner is held until it is over.
    fn async_mget_h2d(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
        wait_ms: u64,
    ) -> PyResult<DeviceFuture> {
        let options = get_options(wait_ms);
        let memory = given.memory()?;
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let pending = py.detach(|| {
            let lists = memory.lists(self.accelerators())?;
            let hetero = &self.inner().hetero;
            hetero.async_mget_h2d(owned(&keys), lists, options)
        });
        let pending = pending.map_err(|failed| old(failed.status(), failed.cause()))?;
        Ok(DeviceFuture::new(Waiting::Get(pending), unbound(&names)))
    }

    /// The lengths of each object's blobs, and the keys that have none.
    #[expect(clippy::type_complexity, reason = "a pair of lists")]
    fn meta(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        of_card: bool,
    ) -> PyResult<(Vec<Py<PyAny>>, Vec<Vec<usize>>)> {
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.is_first)?;
        let answers = py.detach(|| {
            if of_card {
                return Ok(self.ports().lens(&keys));
            }
            self.inner().hetero.get_meta_info(&keys)
        });
        let answers = answers.map_err(|failed| old(failed.status(), failed.cause()))?;
        let (mut failed, mut metas, mut first) = (Vec::new(), Vec::new(), None);
        for (name, answer) in names.objects().iter().zip(answers) {
            let miss = Error::new(Status::NotFound, "Key not found");
            match answer.and_then(|lens| lens.ok_or(miss)) {
                Ok(lens) => metas.push(lens),
                Err(error) => {
                    failed.push(name.clone().unbind());
                    metas.push(Vec::new());
                    first.get_or_insert(error);
                },
            }
        }
        match first {
            Some(error) if failed.len() == keys.len() => Err(self.read_failed(&error)),
            _ => Ok((failed, metas)),
        }
    }
}

impl Drop for Hetero {
    fn drop(&mut self) {
        // Waits for the calls under way: other threads of the program go on meanwhile.
        let inner = self.inner.take();
        let mut held = Some(inner);
        let dropped = Python::try_attach(|py| py.detach(|| drop(held.take())));
        if dropped.is_none() {
            drop(held);
        }
    }
}
