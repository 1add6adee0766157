//! The cards of one client: a port for each that a call has named, and the calls of the SDKs.
//!
//! Here the words of [`PeerError`] become statuses of the cache, as programs of the SDKs see them.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chariot_client::{Client, Devices, Error, Status};
use chariot_device::{Device, DeviceError};

use crate::error::PeerError;
use crate::object::DeviceObject;
use crate::port::{MovedFuture, PeerOptions, PeerPort};
use crate::promise::{CALLS_MAX, Keeper, Outcomes, Promise};

/// How long a subscriber waits for one object, and for several of one call.
const SUBSCRIBE_ONE: Duration = Duration::from_secs(20);
const SUBSCRIBE_MANY: Duration = Duration::from_mins(1);
/// Longest time of a transfer once it has begun.
const TRANSFER_MAX: Duration = Duration::from_mins(1);

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        let status = match &error {
            PeerError::Absent => return Self::new(Status::NotFound, "Key not found"),
            PeerError::Mismatch { sender, receiver } => {
                let cause = format!(
                    "Blobs count mismatch in devBlobList between sender and receiver, sender \
                     count is: {sender}, receiver count is: {receiver}, or a blob has another size"
                );
                return Self::new(Status::InvalidArgument, cause);
            },
            PeerError::Exists => Status::Exists,
            PeerError::Invalid(_) => Status::InvalidArgument,
            PeerError::Closed => Status::ShuttingDown,
            PeerError::Directory { status, cause } => {
                return Self::new(*status, cause.clone().into_string());
            },
            PeerError::Device(
                DeviceError::Unavailable { .. } | DeviceError::Unsupported { .. },
            ) => Status::NotSupported,
            PeerError::Device(_) => Status::Internal,
        };
        Self::new(status, error.to_string())
    }
}

/// The ports of one client. Lives on: any thread.
#[derive(Debug)]
pub struct Ports {
    client: Client,
    /// One a card; as many as a host has cards.
    open: Mutex<Vec<Arc<PeerPort>>>,
    /// Whose threads they have.
    process: u32,
}

impl Ports {
    /// Opens none yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            open: Mutex::default(),
            process: std::process::id(),
        }
    }

    fn open(&self) -> Vec<Arc<PeerPort>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clone()
    }

    fn devices(&self) -> Devices {
        self.client.devices()
    }

    fn port(&self, device: &Device) -> Result<Arc<PeerPort>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = open.iter().find(|port| port.device().is(device)) {
            return Ok(Arc::clone(port));
        }
        let is_alike = |port: &Arc<PeerPort>| port.device().ordinal() == device.ordinal();
        if open.iter().any(is_alike) {
            // The daemon knows the cards of a client by their ordinals alone.
            let cause = "memory of the host and of a card do not both move between cards";
            return Err(Error::new(Status::InvalidArgument, cause));
        }
        let directory = Arc::new(self.devices());
        let port = PeerPort::open(device.clone(), directory, PeerOptions::default())?;
        let port = Arc::new(port);
        open.push(Arc::clone(&port));
        Ok(port)
    }

    /// As [`PeerPort::put`].
    ///
    /// # Errors
    /// The card cannot have a port: the process has no threads left.
    pub fn put(&self, device: &Device, objects: &[DeviceObject]) -> Result<Outcomes, Error> {
        Ok(self.port(device)?.put(objects))
    }

    /// As [`PeerPort::get_within`]: waits for providers, and a minute for the transfers.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn get(
        &self,
        device: &Device,
        objects: &[DeviceObject],
        wait: Duration,
    ) -> Result<Outcomes, Error> {
        let limit = wait.saturating_add(TRANSFER_MAX);
        Ok(self.port(device)?.get_within(objects, wait, limit))
    }

    /// As [`PeerPort::publish`].
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn publish(
        &self,
        device: &Device,
        objects: &[DeviceObject],
    ) -> Result<Vec<Result<MovedFuture, PeerError>>, Error> {
        Ok(self.port(device)?.publish(objects))
    }

    /// As [`PeerPort::subscribe_within`], on a thread of its own: waits 20 s for one object, 60 s
    /// for several, and a minute for the transfers. Each object's outcome is known as soon as it is
    /// here.
    ///
    /// # Errors
    /// As [`Self::put`]; [`Status::Busy`]: 256 calls are under way.
    pub fn subscribe(&self, device: &Device, objects: Vec<DeviceObject>) -> Result<Promise, Error> {
        let port = self.port(device)?;
        let wait = if objects.len() == 1 {
            SUBSCRIBE_ONE
        } else {
            SUBSCRIBE_MANY
        };
        let (limit, count) = (wait + TRANSFER_MAX, objects.len());
        let received = move |keeper: &Keeper| {
            let told = &mut |key| keeper.keep(key, Ok(()));
            port.subscribe_within(&objects, wait, limit, told)
        };
        begun(Promise::run(count, received))
    }

    /// Removes objects from all cards: from this client's first, so that a key may be offered anew
    /// at once. A key that was not there is no failure.
    #[must_use]
    pub fn delete(&self, keys: &[&[u8]]) -> Outcomes {
        delete(&self.open(), &self.devices(), keys)
    }

    /// As [`Self::delete`], on a thread of its own.
    ///
    /// # Errors
    /// [`Status::Busy`]: 256 calls are under way.
    pub fn delete_later(&self, keys: Vec<Box<[u8]>>) -> Result<Promise, Error> {
        let (open, devices) = (self.open(), self.devices());
        let count = keys.len();
        let deleted = move |_: &Keeper| {
            let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
            delete(&open, &devices, &keys)
        };
        begun(Promise::run(count, deleted))
    }

    /// Provides objects no longer from this client's cards; as [`PeerPort::local_delete`].
    #[must_use]
    pub fn local_delete(&self, keys: &[&[u8]]) -> Outcomes {
        let mut outcomes: Outcomes = vec![Ok(()); keys.len()];
        for port in self.open() {
            for (kept, one) in outcomes.iter_mut().zip(port.local_delete(keys)) {
                let before = std::mem::replace(kept, Ok(()));
                *kept = before.and_then(|()| one.map(drop));
            }
        }
        outcomes
    }

    /// The lengths of the blobs of objects on cards; `None` is a miss.
    #[must_use]
    pub fn lens(&self, keys: &[&[u8]]) -> Vec<Result<Option<Vec<usize>>, Error>> {
        let devices = self.devices();
        let lens = |key: &&[u8]| {
            let shape = devices.shape(devices.hash(key)?)?;
            let expand = |&(size, count): &(u64, u32)| {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                std::iter::repeat_n(size, count as usize)
            };
            Ok(shape.map(|shape| shape.runs().iter().flat_map(expand).collect()))
        };
        keys.iter().map(lens).collect()
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        let is_own = self.process == std::process::id();
        for port in self.open() {
            if is_own {
                // Calls under way on other threads hold it too: they end now.
                port.close();
            } else {
                // In a forked child there are none of its threads to wait for.
                let _the_parents = ManuallyDrop::new(port);
            }
        }
    }
}

fn begun(promise: Option<Promise>) -> Result<Promise, Error> {
    promise.ok_or_else(|| {
        let cause = format!("{CALLS_MAX} calls between cards are under way: wait for some of them");
        Error::new(Status::Busy, cause)
    })
}

/// An order of the daemon to drop what this client provides would come a moment later, and could
/// meet what was offered anew under the same key: it leaves before.
fn delete(open: &[Arc<PeerPort>], devices: &Devices, keys: &[&[u8]]) -> Outcomes {
    for port in open {
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
