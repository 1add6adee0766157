//! The calls behind `HeteroClient` of the old SDKs that move objects from card to card.

use std::sync::Arc;
use std::time::Duration;

use chariot_client::{Devices, Error, Status};
use chariot_device::{Device, DeviceError};
use chariot_peer::{DeviceObject, PeerError, PeerOptions, PeerPort};
use pyo3::prelude::*;

use crate::arguments::Items;
use crate::blobs::Given;
use crate::device_future::{DeviceFuture, Waiting, all_failed};
use crate::error::old;
use crate::hetero::{Hetero, TRANSFER_MAX, unbound};
use crate::old_rules;
use crate::promise::{Keeper, Outcomes, Promise};

/// How long a subscriber waits for one object, and for several of one call.
const SUBSCRIBE_ONE: Duration = Duration::from_secs(20);
const SUBSCRIBE_MANY: Duration = Duration::from_mins(1);

/// A failure between cards in the terms of the cache.
pub(crate) fn of_peer(error: &PeerError) -> Error {
    let status = match error {
        PeerError::Absent => return Error::new(Status::NotFound, "Key not found"),
        PeerError::Mismatch { sender, receiver } => {
            let cause = format!(
                "Blobs count mismatch in devBlobList between sender and receiver, sender count \
                 is: {sender}, receiver count is: {receiver}, or a blob has another size"
            );
            return Error::new(Status::InvalidArgument, cause);
        },
        PeerError::Exists => Status::Exists,
        PeerError::Invalid(_) => Status::InvalidArgument,
        PeerError::Closed => Status::ShuttingDown,
        PeerError::Directory { status, cause } => {
            return Error::new(*status, cause.clone().into_string());
        },
        PeerError::Device(DeviceError::Unavailable { .. } | DeviceError::Unsupported { .. }) => {
            Status::NotSupported
        },
        PeerError::Device(_) => Status::Internal,
    };
    Error::new(status, error.to_string())
}

/// What the outcomes say about each key, in the terms of the cache.
pub(crate) fn plain(outcomes: Outcomes) -> Vec<Result<(), Error>> {
    let outcomes = outcomes.into_iter();
    outcomes
        .map(|outcome| outcome.map_err(|error| of_peer(&error)))
        .collect()
}

/// The lengths of the blobs of objects on cards.
pub(crate) fn shapes(devices: &Devices, keys: &[&[u8]]) -> Vec<Result<Option<Vec<usize>>, Error>> {
    let lens = |key: &&[u8]| {
        let shape = devices.shape(devices.hash(key)?)?;
        let expand = |&(size, count): &(u64, u32)| {
            let size = usize::try_from(size).expect("what a card holds fits the address space");
            std::iter::repeat_n(size, count as usize)
        };
        Ok(shape.map(|shape| shape.runs().iter().flat_map(expand).collect()))
    };
    keys.iter().map(lens).collect()
}

/// The calls between cards of one connection. Lives on: any thread.
#[pyclass(module = "chariot._native", frozen)]
#[derive(Debug)]
pub(crate) struct Cards {
    hetero: Py<Hetero>,
}

/// A call's objects, checked, and the port of their card.
struct Call<'py> {
    names: Items<'py>,
    port: Arc<PeerPort>,
    objects: Vec<DeviceObject>,
}

impl Cards {
    fn hetero(&self) -> &Hetero {
        self.hetero.get()
    }

    fn port(&self, device: &Device) -> Result<Arc<PeerPort>, Error> {
        self.hetero().port(device, |directory| {
            let port = PeerPort::open(device.clone(), directory, PeerOptions::default());
            port.map_err(|error| of_peer(&error))
        })
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
            py.detach(|| {
                let accelerators = self.hetero().accelerators();
                let (device, objects) = memory.objects(accelerators, &keys)?;
                Ok((self.port(&device)?, objects))
            })
        };
        let (port, objects) =
            opened.map_err(|failed: Error| old(failed.status(), failed.cause()))?;
        Ok(Call {
            names,
            port,
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

/// Removes objects from all cards, in one question.
/// Removes objects everywhere: from this client's own ports first. An order of the daemon to drop
/// them would come later, and meet what was offered anew under the same key.
fn delete(ports: &[Arc<PeerPort>], devices: &Devices, keys: &[&[u8]]) -> Outcomes {
    for port in ports {
        drop(port.local_delete(keys));
    }
    let mut hashes = Vec::with_capacity(keys.len());
    let hashed: Outcomes = keys
        .iter()
        .map(|key| {
            hashes.push(devices.hash(key)?);
            Ok(())
        })
        .collect();
    let mut deleted = devices.delete(&hashes).into_iter();
    let answer = |hashed: Result<(), PeerError>| {
        hashed?;
        deleted.next().expect("an answer a key")?;
        Ok(())
    };
    hashed.into_iter().map(answer).collect()
}

fn busy() -> PyErr {
    old(
        Status::Busy,
        "256 calls between cards are under way: collect their futures first",
    )
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
        let outcomes = py.detach(|| call.port.put(&call.objects));
        Self::failed_of(&call.names, outcomes)
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
        let wait = old_rules::wait(wait_ms);
        let outcomes = py.detach(|| {
            call.port
                .get_within(&call.objects, wait, wait + TRANSFER_MAX)
        });
        Self::failed_of(&call.names, outcomes)
    }

    /// Offers objects to one receiver each: a future a key.
    fn dev_publish(
        &self,
        py: Python<'_>,
        names: &Bound<'_, PyAny>,
        given: Given,
    ) -> PyResult<Vec<DeviceFuture>> {
        let call = self.call(py, names, given)?;
        let published = py.detach(|| call.port.publish(&call.objects));
        let mut futures = Vec::with_capacity(published.len());
        for (key, outcome) in unbound(&call.names).into_iter().zip(published) {
            let future = outcome.map_err(|error| {
                let error = of_peer(&error);
                old(error.status(), error.cause())
            })?;
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
        let (port, objects) = (call.port, call.objects);
        let wait = if objects.len() == 1 {
            SUBSCRIBE_ONE
        } else {
            SUBSCRIBE_MANY
        };
        let received = move |keeper: &Keeper| {
            let told = &mut |at| keeper.keep(at, Ok(()));
            port.subscribe_within(&objects, wait, wait + TRANSFER_MAX, told)
        };
        let keys = unbound(&call.names);
        let promise = Promise::run(keys.len(), received).ok_or_else(busy)?;
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
        let outcomes = py.detach(|| {
            let ports = self.hetero().ports();
            if !is_local {
                return delete(&ports, &self.hetero().client().devices(), &keys);
            }
            let mut outcomes: Outcomes = vec![Ok(()); keys.len()];
            for port in &ports {
                for (kept, one) in outcomes.iter_mut().zip(port.local_delete(&keys)) {
                    let before = std::mem::replace(kept, Ok(()));
                    *kept = before.and_then(|()| one.map(drop));
                }
            }
            outcomes
        });
        Self::failed_of(&names, outcomes)
    }

    /// As `dev_delete` everywhere, on another thread.
    fn async_dev_delete(&self, names: &Bound<'_, PyAny>) -> PyResult<DeviceFuture> {
        let names = Items::of(names)?;
        let owned: Vec<Vec<u8>> = {
            let keys = names.text_keys()?;
            old_rules::check_keys(&keys, self.hetero().is_first)?;
            keys.iter().map(|key| key.to_vec()).collect()
        };
        let devices = self.hetero().client().devices();
        let ports = self.hetero().ports();
        let deleted = move |_: &Keeper| {
            let keys: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
            delete(&ports, &devices, &keys)
        };
        let keys = unbound(&names);
        let promise = Promise::run(keys.len(), deleted).ok_or_else(busy)?;
        Ok(DeviceFuture::new(Waiting::Deleted(promise), keys))
    }
}
