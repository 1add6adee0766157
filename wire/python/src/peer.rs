//! The calls behind `HeteroClient` of the old SDKs that move objects from card to card.

use chariot_client::Error;
use chariot_device::Device;
use chariot_peer::{DeviceObject, Outcomes, PeerError};
use pyo3::prelude::*;

use crate::arguments::Items;
use crate::blobs::Given;
use crate::device_future::{DeviceFuture, Waiting, all_failed};
use crate::error::old;
use crate::hetero::{Hetero, unbound};
use crate::old_rules;

/// Outcomes in the terms of the cache.
pub(crate) fn plain(outcomes: Outcomes) -> Vec<Result<(), Error>> {
    let convert = |outcome: Result<(), PeerError>| Ok(outcome?);
    outcomes.into_iter().map(convert).collect()
}

fn raise(failed: &Error) -> PyErr {
    old(failed.status(), failed.cause())
}

/// The calls between cards of one connection. Lives on: any thread.
#[pyclass(module = "chariot._native", frozen)]
#[derive(Debug)]
pub(crate) struct Cards {
    hetero: Py<Hetero>,
}

/// A call's objects, checked, and the card that all lie on.
struct Call<'py> {
    names: Items<'py>,
    device: Device,
    objects: Vec<DeviceObject>,
}

impl Cards {
    fn hetero(&self) -> &Hetero {
        self.hetero.get()
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        names: &Bound<'py, PyAny>,
        given: Given,
    ) -> PyResult<Call<'py>> {
        let memory = given.memory()?;
        let names = Items::of(names)?;
        let opened = {
            let keys = names.text_keys()?;
            old_rules::check_keys(&keys, self.hetero().is_first)?;
            py.detach(|| memory.objects(self.hetero().accelerators(), &keys))
        };
        let (device, objects) = opened.map_err(|failed| raise(&failed))?;
        Ok(Call {
            names,
            device,
            objects,
        })
    }

    /// The keys that failed; raises when all did.
    fn failed_of(names: &Items<'_>, outcomes: Outcomes) -> PyResult<Vec<Py<PyAny>>> {
        let count = outcomes.len();
        match names.failed(plain(outcomes).into_iter()) {
            (failed, Some(first)) if failed.len() == count => Err(all_failed(&first)),
            (failed, _) => Ok(failed),
        }
    }
}

#[pymethods]
impl Cards {
    #[new]
    fn new(hetero: Py<Hetero>) -> Self {
        Self { hetero }
    }

    /// Offers objects to every card and returns the keys that failed.
    fn dev_mset(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let call = self.call(py, names, given)?;
        let ports = self.hetero().ports();
        let outcomes = py.detach(|| ports.put(&call.device, &call.objects));
        Self::failed_of(&call.names, outcomes.map_err(|failed| raise(&failed))?)
    }

    /// Gets objects into a card and returns the keys that failed.
    fn dev_mget(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
        wait_ms: u64,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let call = self.call(py, names, given)?;
        let (ports, wait) = (self.hetero().ports(), old_rules::wait(wait_ms));
        let outcomes = py.detach(|| ports.get(&call.device, &call.objects, wait));
        Self::failed_of(&call.names, outcomes.map_err(|failed| raise(&failed))?)
    }

    /// Offers objects to one receiver each: a future a key.
    fn dev_publish(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
    ) -> PyResult<Vec<DeviceFuture>> {
        let call = self.call(py, names, given)?;
        let ports = self.hetero().ports();
        let published = py.detach(|| ports.publish(&call.device, &call.objects));
        let published = published.map_err(|failed| raise(&failed))?;
        let mut futures = Vec::with_capacity(published.len());
        for (key, outcome) in unbound(&call.names).into_iter().zip(published) {
            let future = outcome.map_err(|error| raise(&error.into()))?;
            futures.push(DeviceFuture::new(Waiting::Moved(future), vec![key]));
        }
        Ok(futures)
    }

    /// Receives objects that were published: a future a key, which is ready when its object is
    /// here, or when the call is over.
    fn dev_subscribe(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
    ) -> PyResult<Vec<DeviceFuture>> {
        let call = self.call(py, names, given)?;
        let keys = unbound(&call.names);
        let ports = self.hetero().ports();
        let promise = py.detach(|| ports.subscribe(&call.device, call.objects));
        let promise = promise.map_err(|failed| raise(&failed))?;
        let future =
            |(at, key)| DeviceFuture::new(Waiting::Received(promise.clone(), at), vec![key]);
        Ok(keys.into_iter().enumerate().map(future).collect())
    }

    /// Removes objects everywhere, or from this client's cards, and returns the keys that failed.
    fn dev_delete(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        is_local: bool,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let names = Items::of(names)?;
        let keys = names.text_keys()?;
        old_rules::check_keys(&keys, self.hetero().is_first)?;
        let ports = self.hetero().ports();
        let outcomes = py.detach(|| {
            if is_local {
                ports.local_delete(&keys)
            } else {
                ports.delete(&keys)
            }
        });
        Self::failed_of(&names, outcomes)
    }

    /// As `dev_delete` everywhere, on another thread.
    fn async_dev_delete(&self, names: &Bound<'_, PyAny>) -> PyResult<DeviceFuture> {
        let names = Items::of(names)?;
        let owned = {
            let keys = names.text_keys()?;
            old_rules::check_keys(&keys, self.hetero().is_first)?;
            keys.iter().map(|&key| key.into()).collect()
        };
        let promise = self.hetero().ports().delete_later(owned);
        let promise = promise.map_err(|failed| raise(&failed))?;
        Ok(DeviceFuture::new(
            Waiting::Deleted(promise),
            unbound(&names),
        ))
    }
}
