//! Device memory as Python passes it: card, addresses and lengths.
//!
//! The packages above have checked types and signs; here numbers become memory of a card. Nothing
//! can tell whether an address is the program's: that is the promise of whoever calls.

use std::any::Any;
use std::sync::Arc;

use chariot_client::{Error, Status};
use chariot_device::Device;
use chariot_hetero::{Accelerators, BlobList};
use chariot_peer::{DeviceBlob, DeviceObject};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// One object: the ordinal of its card, and addresses with lengths in bytes.
type Ranges = (i32, Vec<(usize, usize)>);

/// Which card the ordinals of a call are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The accelerator of that ordinal.
    Card,
    /// The accelerator that the calling thread works with already; ordinals are not looked at.
    Current,
    /// Memory of this process, whatever the ordinal.
    Host,
}

impl Place {
    /// # Errors
    ///
    /// `ValueError` for any other word.
    fn of(word: &str) -> PyResult<Self> {
        Ok(match word {
            "card" => Self::Card,
            "current" => Self::Current,
            "host" => Self::Host,
            other => {
                let message = format!("a place is card, current or host, not {other:?}");
                return Err(PyValueError::new_err(message));
            },
        })
    }

    fn open(self, accelerators: &Accelerators, ordinal: i32) -> Result<Device, Error> {
        match self {
            Self::Card => accelerators.card(ordinal),
            Self::Current => accelerators.current(),
            Self::Host => accelerators.host(),
        }
    }
}

/// The memory of a call: the word for its place, its objects, and the Python object that owns it.
#[derive(Debug, FromPyObject)]
pub(crate) struct Given(String, Vec<Ranges>, Py<PyAny>);

impl Given {
    /// Checks the word.
    ///
    /// # Errors
    ///
    /// As [`Place::of`].
    pub(crate) fn memory(self) -> PyResult<Memory> {
        let Self(place, objects, owner) = self;
        Ok(Memory {
            place: Place::of(&place)?,
            objects,
            keep: Arc::new(owner),
        })
    }
}

/// The memory of a call, to be opened where nothing holds the interpreter's lock.
pub(crate) struct Memory {
    place: Place,
    objects: Vec<Ranges>,
    /// What has to stand while the memory is used.
    keep: Arc<dyn Any + Send + Sync>,
}

impl Memory {
    /// Opens the cards of the objects; neighbours on one card open it once.
    fn cards(&self, accelerators: &Accelerators) -> Result<Vec<Device>, Error> {
        let mut cards: Vec<Device> = Vec::with_capacity(self.objects.len());
        for (at, (ordinal, _)) in self.objects.iter().enumerate() {
            let before = at.checked_sub(1);
            let is_alike =
                |before: &usize| self.place != Place::Card || self.objects[*before].0 == *ordinal;
            let card = match before.filter(is_alike) {
                Some(before) => cards[before].clone(),
                None => self.place.open(accelerators, *ordinal)?,
            };
            cards.push(card);
        }
        Ok(cards)
    }

    /// Makes the lists of a copy between card and cache.
    ///
    /// # Errors
    ///
    /// [`Status::InvalidArgument`]: no such card, or a range that is none;
    /// [`Status::NotSupported`]: no accelerator.
    pub(crate) fn lists(&self, accelerators: &Accelerators) -> Result<Vec<BlobList>, Error> {
        let cards = self.cards(accelerators)?;
        let list = |((_, ranges), card): (&Ranges, Device)| {
            // SAFETY: the program says that these are memory of the card which nobody else uses
            // during the call (README, "Device memory"); `keep` holds what owns it.
            unsafe { BlobList::foreign(card, ranges, &self.keep) }
        };
        self.objects.iter().zip(cards).map(list).collect()
    }

    /// Makes the objects of a transfer between cards, and answers the card that all lie on.
    ///
    /// # Errors
    ///
    /// As [`Self::lists`]; [`Status::InvalidArgument`] also for objects on several cards, and for
    /// other numbers of keys and objects.
    pub(crate) fn objects(
        &self,
        accelerators: &Accelerators,
        keys: &[&[u8]],
    ) -> Result<(Device, Vec<DeviceObject>), Error> {
        if keys.len() != self.objects.len() {
            let cause = "The size of objectKeys and devBlobList does not match";
            return Err(Error::new(Status::InvalidArgument, cause));
        }
        let lists = self.lists(accelerators)?;
        let Some(device) = lists.first().map(|list| list.device().clone()) else {
            return Err(Error::new(Status::InvalidArgument, "The keys are empty"));
        };
        if let Some(other) = lists.iter().find(|list| !list.device().is(&device)) {
            let (wrong, right) = (other.device().ordinal(), device.ordinal());
            let cause = format!(
                "The input deviceIdx({wrong}) is not the same as the deviceIdx which client \
                 used({right})."
            );
            return Err(Error::new(Status::InvalidArgument, cause));
        }
        let blob = |blob: &chariot_hetero::Blob| DeviceBlob {
            memory: blob.memory.clone(),
            at: blob.at,
            len: blob.len,
        };
        let object = |(key, list): (&&[u8], &BlobList)| DeviceObject {
            key: key.to_vec(),
            blobs: list.blobs().iter().map(blob).collect(),
        };
        let objects = keys.iter().zip(&lists).map(object).collect();
        Ok((device, objects))
    }
}
