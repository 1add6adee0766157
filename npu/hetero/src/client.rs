//! The face: what a program calls.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chariot_client::{Client, Error, GetOptions, SetOptions, Status};
use chariot_device::Device;
use chariot_shm::ForkGuard;
use chariot_transfer::DeviceCore;

use crate::accelerators::Accelerators;
use crate::arenas::Arenas;
use crate::background::{Background, Pending, Way};
use crate::blobs::BlobList;
use crate::flight::keep_for_ever;
use crate::{get, rules, set};

/// What became of a key that was to be written.
pub type SetOutcome = Result<Stored, Error>;
/// Whether a key's object was read (`true`), or there was none.
pub type GetOutcome = Result<bool, Error>;

/// A key that has a value now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// This call wrote it.
    Written,
    /// It had one, which stays: objects are not overwritten.
    Existed,
}

/// What the threads of asynchronous calls need.
#[derive(Debug)]
struct Inner {
    client: Client,
    accelerators: Accelerators,
    arenas: Arenas,
    /// The device cores that calls have used: one a card. They end with the client.
    cores: Mutex<Vec<Arc<DeviceCore>>>,
    fork: ForkGuard,
}

/// A client of one daemon for objects of device memory; shared by any number of threads.
///
/// Dropping it waits for the asynchronous calls under way. After a fork the child must make its
/// own: there every call answers an error.
///
/// ```no_run
/// use chariot_client::{Client, ConnectOptions, GetOptions, SetOptions, Target};
/// use chariot_hetero::{Accelerators, Backend, Blob, BlobList, HeteroClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let setting = |name: &str| std::env::var_os(name).map(Into::into);
/// let accelerators = Accelerators::find(Backend::Auto, setting);
/// let client = Client::connect(ConnectOptions::new(Target::Tcp("127.0.0.1:31501".into())))?;
/// let hetero = HeteroClient::new(client, &accelerators)?;
/// let card = accelerators.card(0)?;
/// let memory = card.alloc(1 << 20)?;
/// let blob = Blob { memory, at: 0, len: 1 << 20 };
/// let layers = BlobList::new(card, vec![blob])?;
/// hetero.mset_d2h(&[b"layer-0"], &[layers.clone()], &SetOptions::default())?;
/// hetero.mget_h2d(&[b"layer-0"], &[layers], &GetOptions::default())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HeteroClient {
    inner: Arc<Inner>,
    background: Background,
}

impl HeteroClient {
    /// Makes a client over a connection, for the accelerators of this process.
    ///
    /// # Errors
    ///
    /// [`Status::Internal`]: the kernel cannot mark memory for forks.
    pub fn new(client: Client, accelerators: &Accelerators) -> Result<Self, Error> {
        let fork = ForkGuard::here().map_err(|error| {
            let cause = format!("the kernel cannot mark memory for forks: {error}");
            Error::new(Status::Internal, cause)
        })?;
        let inner = Inner {
            client,
            accelerators: accelerators.clone(),
            arenas: Arenas::default(),
            cores: Mutex::default(),
            fork,
        };
        Ok(Self {
            inner: Arc::new(inner),
            background: Background::default(),
        })
    }

    /// The connection, for everything that is not about cards.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The accelerators.
    pub fn accelerators(&self) -> &Accelerators {
        &self.inner.accelerators
    }

    /// The device core of a card, for its counters: which way bytes went.
    ///
    /// # Errors
    ///
    /// The driver's own.
    pub fn core(&self, device: &Device) -> Result<Arc<DeviceCore>, Error> {
        self.inner.core(device)
    }

    /// Writes objects from one card: for each key the outcome, in order. Keys that have a value
    /// keep it. At most 10,000 keys, all lists on one card. The options' `if_absent` is always on.
    /// A key's bytes are visible before the call returns, not all at once.
    ///
    /// # Errors
    ///
    /// [`Status::InvalidArgument`], [`Status::TooLarge`]: nothing was begun. [`Status::Internal`]
    /// and others of the driver: the card cannot be opened. Of a key: as [`Client::set`];
    /// [`Status::Timeout`]: not written, also if the card was slow; [`Status::Internal`]: the card
    /// failed or is lost.
    pub fn mset_d2h(
        &self,
        keys: &[&[u8]],
        lists: &[BlobList],
        options: &SetOptions,
    ) -> Result<Vec<SetOutcome>, Error> {
        self.inner.mset_d2h(keys, lists, options)
    }

    /// Reads objects into one card: for each key whether there was one, in order. With
    /// [`GetOptions::wait`] absent keys are waited for. Ranges are not taken.
    ///
    /// # Errors
    ///
    /// As [`Self::mset_d2h`]. Of a key: [`Status::InvalidArgument`]: the value is no object of
    /// blobs, or of other numbers or lengths; the card's memory is as it was then. After other
    /// errors it is unspecified.
    pub fn mget_h2d(
        &self,
        keys: &[&[u8]],
        lists: &[BlobList],
        options: &GetOptions,
    ) -> Result<Vec<GetOutcome>, Error> {
        self.inner.mget_h2d(keys, lists, options)
    }

    /// As [`Self::mset_d2h`], on a thread of this client's, in the order of the calls; deadlines
    /// count from now. The device memory has to stand until the outcome is there.
    ///
    /// # Errors
    ///
    /// [`Status::Busy`]: 256 calls wait.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the call outlives its caller's frame: it takes all it needs"
    )]
    pub fn async_mset_d2h(
        &self,
        keys: Vec<Box<[u8]>>,
        lists: Vec<BlobList>,
        options: SetOptions,
    ) -> Result<Pending<SetOutcome>, Error> {
        let (inner, asked) = (self.inner()?, Instant::now());
        let whole = options.deadline;
        self.background.run(Way::Set, move || {
            let left = inner.left(asked, whole, Duration::ZERO)?;
            let options = SetOptions {
                deadline: Some(left),
                ..options
            };
            inner.mset_d2h(&borrow(&keys), &lists, &options)
        })
    }

    /// As [`Self::mget_h2d`], on another thread of this client's, in the order of the calls.
    ///
    /// # Errors
    ///
    /// As [`Self::async_mset_d2h`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the call outlives its caller's frame: it takes all it needs"
    )]
    pub fn async_mget_h2d(
        &self,
        keys: Vec<Box<[u8]>>,
        lists: Vec<BlobList>,
        options: GetOptions,
    ) -> Result<Pending<GetOutcome>, Error> {
        let (inner, asked) = (self.inner()?, Instant::now());
        let (whole, wait) = (options.deadline, options.wait.unwrap_or_default());
        self.background.run(Way::Get, move || {
            let left = inner.left(asked, whole, wait)?;
            let options = GetOptions {
                wait: options.wait.map(|wait| wait.min(left)),
                deadline: Some(left.saturating_sub(wait).max(Duration::from_millis(1))),
                ..options
            };
            inner.mget_h2d(&borrow(&keys), &lists, &options)
        })
    }

    /// Tells for each key whether it has a value; at most 100,000.
    ///
    /// # Errors
    ///
    /// [`Status::TooLarge`]: more keys. Of a key: as [`Client::exist`].
    pub fn exist(&self, keys: &[&[u8]]) -> Result<Vec<Result<bool, Error>>, Error> {
        rules::check_questions(keys.len())?;
        Ok(self.inner.client.mexist(keys))
    }

    /// Deletes keys; each result tells whether the key had a value.
    ///
    /// # Errors
    ///
    /// [`Status::InvalidArgument`]: no keys; [`Status::TooLarge`]: more than 10,000. Of a key: as
    /// [`Client::delete`].
    pub fn delete(&self, keys: &[&[u8]]) -> Result<Vec<Result<bool, Error>>, Error> {
        rules::check_keys(keys.len())?;
        Ok(self.inner.client.mdelete(keys))
    }

    /// Tells the lengths of each object's blobs; `None` is a miss.
    ///
    /// # Errors
    ///
    /// As [`Self::delete`]. Of a key: [`Status::InvalidArgument`]: its value is no object of blobs.
    #[expect(
        clippy::type_complexity,
        reason = "one list for each key, which may be none or fail"
    )]
    pub fn get_meta_info(
        &self,
        keys: &[&[u8]],
    ) -> Result<Vec<Result<Option<Vec<usize>>, Error>>, Error> {
        rules::check_keys(keys.len())?;
        let client = &self.inner.client;
        Ok(keys.iter().map(|key| get::meta(client, key)).collect())
    }

    fn inner(&self) -> Result<Arc<Inner>, Error> {
        self.inner.check_process()?;
        Ok(Arc::clone(&self.inner))
    }
}

fn borrow(keys: &[Box<[u8]>]) -> Vec<&[u8]> {
    keys.iter().map(|key| &**key).collect()
}

impl Inner {
    fn check_process(&self) -> Result<(), Error> {
        if self.fork.is_same_process() {
            return Ok(());
        }
        let cause = "this client was opened before a fork, by the parent process";
        Err(Error::new(Status::InvalidArgument, cause))
    }

    fn core(&self, device: &Device) -> Result<Arc<DeviceCore>, Error> {
        let mut cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(core) = cores.iter().find(|core| core.device().is(device)) {
            return Ok(Arc::clone(core));
        }
        let core = self.accelerators.core(device)?;
        cores.push(Arc::clone(&core));
        Ok(core)
    }

    fn budget(&self, chosen: Option<Duration>) -> Duration {
        chosen.unwrap_or_else(|| self.client.options().request_timeout)
    }

    /// What is left of a call that was asked for at `asked`.
    fn left(
        &self,
        asked: Instant,
        chosen: Option<Duration>,
        wait: Duration,
    ) -> Result<Duration, Error> {
        let whole = self.budget(chosen).saturating_add(wait);
        let left = whole.saturating_sub(asked.elapsed());
        if left.is_zero() {
            return Err(crate::fault::late());
        }
        Ok(left)
    }

    fn mset_d2h(
        &self,
        keys: &[&[u8]],
        lists: &[BlobList],
        options: &SetOptions,
    ) -> Result<Vec<SetOutcome>, Error> {
        self.check_process()?;
        rules::check_mode(options.mode)?;
        let device = rules::check_lists(keys.len(), lists)?;
        let deadline = after(self.budget(options.deadline));
        let core = self.core(device)?;
        let with = (&core, &self.arenas);
        Ok(set::run(
            &self.client,
            with,
            (keys, lists),
            options,
            deadline,
        ))
    }

    fn mget_h2d(
        &self,
        keys: &[&[u8]],
        lists: &[BlobList],
        options: &GetOptions,
    ) -> Result<Vec<GetOutcome>, Error> {
        self.check_process()?;
        if options.offset != 0 || options.len.is_some() {
            let cause = "an object is read as a whole";
            return Err(Error::new(Status::InvalidArgument, cause));
        }
        let device = rules::check_lists(keys.len(), lists)?;
        let wait = options.wait.unwrap_or_default();
        let deadline = after(self.budget(options.deadline).saturating_add(wait));
        let core = self.core(device)?;
        let with = (&core, &self.arenas);
        Ok(get::run(
            &self.client,
            with,
            (keys, lists),
            options,
            deadline,
        ))
    }
}

/// Longest deadline: what a clock can add.
const BUDGET_MAX: Duration = Duration::from_hours(24 * 365);

fn after(budget: Duration) -> Instant {
    Instant::now() + budget.min(BUDGET_MAX)
}

impl Drop for HeteroClient {
    fn drop(&mut self) {
        if self.inner.fork.is_same_process() {
            self.background.stop();
        } else {
            self.background.forget();
            // Threads and the driver's handles are the parent's: nothing of them is to be ended.
            keep_for_ever(Arc::clone(&self.inner));
        }
    }
}
