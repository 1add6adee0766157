//! What the threads of a port share, behind one lock; whoever changes it wakes all that wait.
//!
//! ```text
//!   orders (1)   takes what the directory says and puts it where it belongs
//!   sender       one for each port that is sent to: its link, its serves
//!   receiver     one for each link that ends here: its receives
//!   callers      wait for what they get
//! ```
//! Lock order: this one is never held over a call to the directory or the card.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use chariot_client::device::DevicePort;
use chariot_device::{Device, DeviceError};

use crate::directory::Directory;
use crate::object::Held;
use crate::port::{KEYS_MAX, PeerOptions};

/// A key as the tables name it.
pub(crate) type Name = (u64, u64);

/// An object on its way here.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) object: Arc<Held>,
    /// Who sends, once it is known.
    pub(crate) provider: Option<DevicePort>,
    /// When something happened last.
    pub(crate) moved: Instant,
    /// Its provider or link is gone.
    pub(crate) failed: bool,
    /// The link on which receives into its blobs are posted.
    pub(crate) posted: Option<u64>,
}

/// One object to one receiver.
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) object: Arc<Held>,
    pub(crate) number: u64,
    pub(crate) next: u64,
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.object.served();
    }
}

/// What a sender thread is told.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// To be taken over by the thread.
    pub(crate) serves: VecDeque<Serve>,
    /// Transfers that ended at the other end.
    pub(crate) stopped: Vec<u64>,
    /// Its turn to set up this link.
    pub(crate) connect: Option<u64>,
    /// Links that are no more.
    pub(crate) broken: Vec<u64>,
    /// Every link is no more.
    pub(crate) all_broken: bool,
}

/// Chunks that come under tickets from `ticket` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receive {
    pub(crate) number: u64,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) ticket: u64,
}

/// What a receiver thread is told.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    pub(crate) receives: VecDeque<Receive>,
    pub(crate) broken: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) closing: bool,
    /// The directory has lost what it knew of this port.
    pub(crate) lost: bool,
    pub(crate) objects: BTreeMap<Name, Arc<Held>>,
    /// Objects offered for one receiver that has them now.
    pub(crate) moved: Vec<Name>,
    pub(crate) incoming: BTreeMap<u64, Incoming>,
    pub(crate) outgoing: BTreeMap<DevicePort, Outgoing>,
    pub(crate) arriving: BTreeMap<u64, Arriving>,
    /// Why this card could not receive from a port, though that may send: no other provider would
    /// mend it. Of the last link from there.
    pub(crate) unfit: BTreeMap<DevicePort, DeviceError>,
    pub(crate) threads: Vec<JoinHandle<()>>,
}

/// A port, as its threads have it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: Device,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) options: PeerOptions,
    pub(crate) numbers: AtomicU64,
    pub(crate) links_made: AtomicU64,
    pub(crate) links_broken: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn new(device: Device, directory: Arc<dyn Directory>, options: PeerOptions) -> Self {
        Self {
            device,
            directory,
            options,
            numbers: AtomicU64::new(1),
            links_made: AtomicU64::new(0),
            links_broken: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn card(&self) -> u32 {
        self.device.ordinal()
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes who waits.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    /// Waits for a change, at most until `until`.
    pub(crate) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Instant,
    ) -> MutexGuard<'a, State> {
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout(state, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Starts a thread of the port, and forgets those that have ended.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        state: &mut State,
        name: &str,
        body: impl FnOnce(Arc<Self>) + Send + 'static,
    ) -> bool {
        let shared = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || body(shared));
        state.threads.retain(|thread| !thread.is_finished());
        match spawned {
            Ok(thread) => {
                state.threads.push(thread);
                true
            },
            Err(_) => false,
        }
    }

    /// The card is gone, with every object on it: nobody shall ask for them here. What comes in
    /// ends by its links.
    pub(crate) fn lose_all(&self) {
        let objects = self.change(|state| std::mem::take(&mut state.objects));
        let hashes: Vec<_> = objects.values().map(|held| held.hash).collect();
        for some in hashes.chunks(KEYS_MAX) {
            drop(self.directory.leave(self.card(), some));
        }
    }

    /// Ends a link at both ends. It may have ended already.
    pub(crate) fn break_link(&self, link: u64) {
        self.links_broken.fetch_add(1, Ordering::Relaxed);
        drop(self.directory.break_link(self.card(), link));
    }
}
