//! The accelerators of this process: backends, cards, and one device core for each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chariot_ascend_rt_sys::Search;
use chariot_client::{Error, Status};
use chariot_device::{Ascend, BackendKind, Cuda, Device, Host, HostOptions, Runtime};
use chariot_transfer::{CoreOptions, DeviceCore};

use crate::fault;
use crate::flight::keep_for_ever;

/// Cards that the host backend pretends to have: as many as a host has at most.
const HOST_CARDS: u32 = 64;

/// Which accelerators to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Ascend where its libraries are found, else CUDA, else none.
    #[default]
    Auto,
    /// `AscendCL`.
    Ascend,
    /// The CUDA driver.
    Cuda,
    /// Host memory stands in for the cards'.
    Host,
}

/// The accelerators of a process, found once and shared by its clients: make one of them, since
/// each has device cores of its own. Cloning is cheap. Lives on: any thread.
#[derive(Clone, Debug)]
pub struct Accelerators {
    machine: Arc<Machine>,
}

#[derive(Debug)]
struct Machine {
    /// Or why there is none.
    cards: Result<Runtime, Error>,
    host: Runtime,
    options: CoreOptions,
    /// By backend and ordinal; a core lives as long as somebody uses it.
    cores: Mutex<BTreeMap<(bool, u32), Weak<DeviceCore>>>,
}

/// Those of this process, by the backend that was asked for, and whose process it was.
static SHARED: Mutex<Option<(u32, Backend, Accelerators)>> = Mutex::new(None);

impl Accelerators {
    /// The accelerators that all clients of this process share: found at the first call with the
    /// environment's variables, and again when another backend is asked for or after a fork, since
    /// a child has none of its parent's threads.
    #[must_use]
    pub fn shared(backend: Backend) -> Self {
        let here = std::process::id();
        let mut known = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((process, of, accelerators)) = &*known
            && (*process, *of) == (here, backend)
        {
            return accelerators.clone();
        }
        let found = Self::find(backend, |name| std::env::var_os(name).map(PathBuf::from));
        let before = known.replace((here, backend, found.clone()));
        if let Some((process, _, accelerators)) = before
            && process != here
        {
            // Its driver's handles are the parent's: nothing of it is to be ended here.
            keep_for_ever(accelerators);
        }
        found
    }

    /// Looks for accelerators. `variable` reads the environment variables that say where libraries
    /// are ([`Search::standard`]). Having none is no failure: calls that need one say why there is
    /// none.
    pub fn find(backend: Backend, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let host = host();
        let ascend = || Ascend::load(&Search::standard(&variable));
        let cards = match backend {
            Backend::Ascend => ascend(),
            Backend::Cuda => Cuda::load(None),
            Backend::Host => Ok(host.clone()),
            Backend::Auto => ascend().or_else(|missing| Cuda::load(None).map_err(|_cuda| missing)),
        };
        let cards = cards.map_err(|error| fault::of_device(&error));
        Self::with(cards, host, CoreOptions::default())
    }

    /// Takes a backend that was opened before, and how its device cores are to be.
    pub fn of(runtime: Runtime, options: CoreOptions) -> Self {
        let is_host = runtime.kind() == BackendKind::Host;
        let host = if is_host { runtime.clone() } else { host() };
        Self::with(Ok(runtime), host, options)
    }

    fn with(cards: Result<Runtime, Error>, host: Runtime, options: CoreOptions) -> Self {
        let cores = Mutex::default();
        Self {
            machine: Arc::new(Machine {
                cards,
                host,
                options,
                cores,
            }),
        }
    }

    /// The backend of the cards, or why there are none.
    ///
    /// # Errors
    ///
    /// [`Status::NotSupported`], with the library that is missing and what to do about it.
    pub fn backend(&self) -> Result<BackendKind, Error> {
        let cards = self.machine.cards.as_ref().map_err(Clone::clone)?;
        Ok(cards.kind())
    }

    /// Opens card `ordinal`, 0-based; again gives the same card.
    ///
    /// # Errors
    ///
    /// As [`Self::backend`]; [`Status::InvalidArgument`]: there is no such card; the driver's own.
    pub fn card(&self, ordinal: i32) -> Result<Device, Error> {
        let Ok(ordinal) = u32::try_from(ordinal) else {
            let cause = "Please set deviceIdx in datainfo.";
            return Err(Error::new(Status::InvalidArgument, cause));
        };
        let cards = self.machine.cards.as_ref().map_err(Clone::clone)?;
        cards
            .open(ordinal)
            .map_err(|error| fault::of_device(&error))
    }

    /// Opens the card that the calling thread works with already: the one that a framework chose.
    ///
    /// # Errors
    ///
    /// As [`Self::card`]; [`Status::InvalidArgument`]: none was chosen.
    pub fn current(&self) -> Result<Device, Error> {
        let cards = self.machine.cards.as_ref().map_err(Clone::clone)?;
        let current = cards.current().map_err(|error| fault::of_device(&error))?;
        let chosen = current.ok_or_else(|| {
            let cause = "this thread works with no card yet: choose one first (set_device)";
            Error::new(Status::InvalidArgument, cause)
        })?;
        let opened = cards.open(chosen);
        opened.map_err(|error| fault::of_device(&error))
    }

    /// Opens the host's own memory as if it were a card's: for tensors that lie there.
    ///
    /// # Errors
    ///
    /// [`Status::Internal`]: the process has no threads or memory left.
    pub fn host(&self) -> Result<Device, Error> {
        let opened = self.machine.host.open(0);
        opened.map_err(|error| fault::of_device(&error))
    }

    /// The device core of a card, started at its first use: that measures the card for some
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// The driver's own.
    pub fn core(&self, device: &Device) -> Result<Arc<DeviceCore>, Error> {
        let is_host = self.host()?.is_beside(device);
        let mut cores = self.cores();
        let slot = cores.entry((is_host, device.ordinal())).or_default();
        if let Some(core) = slot.upgrade() {
            return Ok(core);
        }
        let core = DeviceCore::start(device.clone(), self.machine.options);
        let core = Arc::new(core.map_err(|error| fault::of_device(&error))?);
        *slot = Arc::downgrade(&core);
        Ok(core)
    }

    fn cores(&self) -> std::sync::MutexGuard<'_, BTreeMap<(bool, u32), Weak<DeviceCore>>> {
        let cores = self.machine.cores.lock();
        cores.unwrap_or_else(PoisonError::into_inner)
    }
}

fn host() -> Runtime {
    Host::start(HostOptions {
        devices: HOST_CARDS,
        ..HostOptions::default()
    })
}
