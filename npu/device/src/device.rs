//! A backend that was found, and its cards.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::batch::{CopyBatch, Direction, Keep};
use crate::capability::{BackendKind, Capabilities, DeviceStatus, MemoryUse};
use crate::driver::{Answer, Card, Driver};
use crate::error::DeviceError;
use crate::memory::{DeviceMemory, ExportKey, HostAccess, HostMemory};
use crate::stream::{Event, Stream};

/// A card that is open, shared by everything that was made on it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) card: Arc<dyn Card>,
    /// Runtime and ordinal.
    pub(crate) id: (u64, u32),
    lost: AtomicBool,
    /// The backend outlives its cards.
    _driver: Arc<dyn Driver>,
}

impl Opened {
    /// Passes an answer on and remembers that the card is lost.
    pub(crate) fn note<T>(&self, answer: Answer<T>) -> Answer<T> {
        if answer.as_ref().is_err_and(DeviceError::is_lost) {
            self.lost.store(true, Ordering::Release);
        }
        answer
    }

    /// Refuses work for a lost card before the driver hears of it.
    pub(crate) fn alive(&self) -> Answer<()> {
        if self.lost.load(Ordering::Acquire) {
            return Err(DeviceError::Lost {
                call: "an earlier call",
                code: 0,
            });
        }
        Ok(())
    }
}

/// A backend of this machine. Cloning is cheap. Lives on: any thread.
#[derive(Clone, Debug)]
pub struct Runtime {
    driver: Arc<dyn Driver>,
    id: u64,
    open: Arc<Mutex<BTreeMap<u32, Weak<Opened>>>>,
}

impl Runtime {
    pub(crate) fn new(driver: Arc<dyn Driver>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self {
            driver,
            id,
            open: Arc::default(),
        }
    }

    /// Which backend this is.
    #[must_use]
    pub fn kind(&self) -> BackendKind {
        self.driver.kind()
    }

    /// Libraries and their versions, one text each, for reports.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        self.driver.versions()
    }

    /// Number of cards that this process may use.
    ///
    /// # Errors
    /// The driver's own.
    pub fn device_count(&self) -> Result<u32, DeviceError> {
        self.driver.device_count()
    }

    /// The number of the card that the calling thread works with already, as a framework chose it;
    /// `None` where none was chosen. On the host backend always the first.
    ///
    /// # Errors
    /// The driver's own.
    pub fn current(&self) -> Result<Option<u32>, DeviceError> {
        self.driver.current()
    }

    /// Opens card `ordinal`, 0-based. Opening it again gives the same card.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: there is no such card; else the driver's own.
    pub fn open(&self, ordinal: u32) -> Result<Device, DeviceError> {
        let count = self.driver.device_count()?;
        if ordinal >= count {
            let text = format!("card {ordinal} of {count}");
            return Err(DeviceError::misuse(text));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = open.get(&ordinal).and_then(Weak::upgrade) {
            return Ok(Device { opened });
        }
        let opened = Arc::new(Opened {
            card: self.driver.open(ordinal)?,
            id: (self.id, ordinal),
            lost: AtomicBool::new(false),
            _driver: Arc::clone(&self.driver),
        });
        open.insert(ordinal, Arc::downgrade(&opened));
        Ok(Device { opened })
    }
}

/// An open card. Cloning is cheap; the card is given back with the last thing made on it. Lives on:
/// any thread.
#[derive(Clone, Debug)]
pub struct Device {
    opened: Arc<Opened>,
}

impl Device {
    /// The card's number.
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.opened.id.1
    }

    /// Whether both are the same card.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.opened.id == other.opened.id
    }

    /// Whether both are cards of one backend, which share registrations of host memory.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        self.opened.id.0 == other.opened.id.0
    }

    /// What the card offers.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.opened.card.capabilities()
    }

    /// Asks how the card is.
    ///
    /// # Errors
    /// The driver's own; a lost card is a status, no error.
    pub fn status(&self) -> Result<DeviceStatus, DeviceError> {
        if self.opened.alive().is_err() {
            return Ok(DeviceStatus::Lost);
        }
        self.opened.card.status()
    }

    /// Asks how much memory the card has.
    ///
    /// # Errors
    /// [`DeviceError::Lost`] and the driver's own.
    pub fn memory_use(&self) -> Result<MemoryUse, DeviceError> {
        self.opened.note(self.opened.card.memory_use())
    }

    /// Makes a stream.
    ///
    /// # Errors
    /// [`DeviceError::Full`]: the card has all the streams it can have.
    pub fn stream(&self) -> Result<Stream, DeviceError> {
        let handle = self.opened.note(self.opened.card.stream_create())?;
        Ok(Stream::new(Arc::clone(&self.opened), handle))
    }

    /// Makes an event.
    ///
    /// # Errors
    /// [`DeviceError::Full`]: the process has all the events it can have.
    pub fn event(&self) -> Result<Event, DeviceError> {
        let handle = self.opened.note(self.opened.card.event_create())?;
        Ok(Event::new(Arc::clone(&self.opened), handle))
    }

    /// Allocates `len` bytes on the card, aligned to 64, of unspecified content. Slow: keep it.
    ///
    /// # Errors
    /// [`DeviceError::DeviceMemory`]: the card is full.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn alloc(&self, len: usize) -> Result<DeviceMemory, DeviceError> {
        assert!(len > 0, "an allocation has bytes");
        self.opened.alive()?;
        let block = self.opened.note(self.opened.card.device_alloc(len))?;
        Ok(DeviceMemory::own(Arc::clone(&self.opened), block, len))
    }

    /// Whether a call on this card has told that it is gone; never asks the driver.
    ///
    /// # Errors
    /// [`DeviceError::Lost`]: it is.
    pub fn check_alive(&self) -> Result<(), DeviceError> {
        self.opened.alive()
    }

    /// Allocates `len` page-locked bytes on the host, aligned to 64, of unspecified content. Slow.
    ///
    /// # Errors
    /// [`DeviceError::PinnedMemory`]: the host cannot lock that much.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn alloc_host(&self, len: usize) -> Result<HostMemory, DeviceError> {
        assert!(len > 0, "an allocation has bytes");
        let pinned = self.opened.note(self.opened.card.host_alloc(len))?;
        Ok(HostMemory::pinned(Arc::clone(&self.opened), pinned, len))
    }

    /// Locks `range` of pageable `memory` for direct copies and returns it as memory of its own,
    /// which is unlocked when the last clone goes. Start and length are multiples of the page size.
    /// Takes long (it locks pages): never on a path of requests.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`]: the driver cannot, or not for this access, or does it without
    /// effect; [`DeviceError::PinnedMemory`]: a limit of locked memory; [`DeviceError::Misuse`]:
    /// the range is no range of whole pages, or registered already.
    pub fn register(
        &self,
        memory: &HostMemory,
        range: Range<usize>,
    ) -> Result<HostMemory, DeviceError> {
        let address = memory.page_aligned_part(&range)?;
        let readonly = memory.access() == HostAccess::ReadOnly;
        let form = self.capabilities().register;
        if !(if readonly {
            form.readonly
        } else {
            form.writable
        }) {
            return Err(DeviceError::Unsupported {
                what: "registering such memory",
            });
        }
        // SAFETY: the range is inside `memory`, of which the result holds a clone until after it
        // was unregistered.
        let handle = unsafe {
            self.opened
                .card
                .host_register(address, range.len(), readonly)
        };
        let handle = self.opened.note(handle)?;
        let opened = Arc::clone(&self.opened);
        Ok(HostMemory::registered(
            opened,
            handle,
            range.len(),
            memory.clone(),
        ))
    }

    /// Takes device memory that somebody else allocated, such as a framework's tensor.
    ///
    /// # Panics
    /// When `address` or `len` is 0.
    ///
    /// # Safety
    /// `[address, address + len)` is memory of this card for as long as `keep` is held.
    #[must_use]
    pub unsafe fn foreign(&self, address: usize, len: usize, keep: Keep) -> DeviceMemory {
        assert!(address != 0, "no card has memory at 0");
        DeviceMemory::foreign(Arc::clone(&self.opened), address, len, keep)
    }

    /// Copies a batch between host and card on the calling thread, and returns when it is done: in
    /// no order with any stream. Pageable memory is taken, slowly.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: a batch of another card, or within devices. Others are the
    /// driver's; destinations are unspecified then.
    ///
    /// # Panics
    /// Never: a driver takes at least one entry at once.
    pub fn copy_now(&self, batch: CopyBatch) -> Result<(), DeviceError> {
        if !batch.on_card(self.opened.id) || batch.direction() == Direction::DeviceToDevice {
            return Err(DeviceError::misuse(
                "a batch of another card, or within devices",
            ));
        }
        self.opened.alive()?;
        let most = self.opened.card.batch_form().entries_max;
        assert!(most > 0, "a call takes an entry");
        for part in batch.entries().chunks(most) {
            // SAFETY: the batch holds the memory of both sides until after the calls, which return
            // when the copies are done.
            let outcome = unsafe { self.opened.card.copy_direct(batch.direction(), part) };
            self.opened.note(outcome)?;
        }
        drop(batch);
        Ok(())
    }

    /// Lets copies go from this card's memory to card `peer`'s without the host.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`]: these two cannot.
    pub fn enable_peer(&self, peer: &Self) -> Result<(), DeviceError> {
        if self.opened.id.0 != peer.opened.id.0 {
            return Err(DeviceError::misuse("a card of another backend"));
        }
        if self.ordinal() == peer.ordinal() {
            return Ok(());
        }
        self.opened
            .note(self.opened.card.enable_peer(peer.ordinal()))
    }

    /// Takes memory that another process exported ([`DeviceMemory::export`]). It can be copied
    /// within and between devices, not to the host.
    ///
    /// # Errors
    /// [`DeviceError::PeerBroken`]: the exporter is gone; [`DeviceError::Unsupported`].
    pub fn import(&self, key: &ExportKey) -> Result<DeviceMemory, DeviceError> {
        if key.len == 0 {
            return Err(DeviceError::misuse("a key to nothing"));
        }
        self.opened.alive()?;
        let import = self.opened.note(self.opened.card.import(&key.key))?;
        Ok(DeviceMemory::imported(
            Arc::clone(&self.opened),
            import,
            key.len,
        ))
    }

    pub(crate) fn opened(&self) -> &Arc<Opened> {
        &self.opened
    }
}
