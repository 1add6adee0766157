//! Links: pairs of sends and receives between two cards, in ticket order.
//!
//! A link is a communicator of two and a stream of its own. The coordinator of both ends gives
//! every transfer a ticket, 0, 1, 2, ... for each link, and says which end sends; both ends post
//! their halves under the ticket, in any order of calls, and the link submits them in order of
//! tickets. So the nth operation of one end is the partner of the nth of the other, and sends and
//! receives cannot cross, whatever the threads do. Tickets that come early wait in a window.
//!
//! Setting up takes long (hundreds of milliseconds on HCCL) and holds nothing but the card's own
//! turn: a second set-up on the same card is told [`DeviceError::LinkBusy`]. One byte passes before
//! the link is given out, since a communicator that has carried nothing disturbs the next one's
//! set-up (device facts, 2.1).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::device::Device;
use crate::driver::{Answer, CommHandle, Way};
use crate::error::DeviceError;
use crate::memory::DeviceMemory;
use crate::stream::Stream;

/// Most tickets that wait for an earlier one.
const WINDOW: usize = 64;
/// How often a wait for one ticket looks at the stream, when others go on behind it.
const LOOK: Duration = Duration::from_millis(1);

/// What both ends of a link are given; the first end makes it, and any channel carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation(Vec<u8>);

impl Invitation {
    /// Opaque bytes, zeros included: never a string.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes what the other end sent.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// Which end of a link this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkEnd {
    /// Made the invitation.
    First,
    /// Received it.
    Second,
}

/// One half of a transfer.
#[derive(Clone, Debug)]
pub enum LinkPart {
    /// Gives `len` bytes from `at` on.
    Send {
        /// Source.
        memory: DeviceMemory,
        /// First byte.
        at: usize,
        /// Number of bytes, the same at both ends, at least 1.
        len: usize,
    },
    /// Takes `len` bytes to `at`.
    Receive {
        /// Destination; unspecified until the ticket is over.
        memory: DeviceMemory,
        /// First byte.
        at: usize,
        /// Number of bytes, the same at both ends, at least 1.
        len: usize,
    },
}

/// What became of posting a ticket.
#[derive(Debug)]
pub enum LinkTurn {
    /// It is on the link's stream.
    Submitted,
    /// It waits for an earlier ticket.
    Early,
    /// Too many wait: here it is back, try again when some are over.
    Full(LinkPart),
}

#[derive(Debug, Default)]
struct Turns {
    next: u64,
    early: BTreeMap<u64, LinkPart>,
    /// Tickets below this are over, well.
    done: u64,
    broken: Option<DeviceError>,
}

#[derive(Debug)]
struct Comm {
    device: Device,
    handle: Option<CommHandle>,
}

impl Drop for Comm {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            // A refusal leaves the communicator to the end of the process.
            drop(self.device.opened().card.comm_destroy(handle));
        }
    }
}

/// A link between two cards, of one or two processes. Lives on: any thread.
#[derive(Debug)]
pub struct PeerLink {
    // Dropped first: it waits for what the communicator still does.
    stream: Stream,
    comm: Comm,
    turns: Mutex<Turns>,
    changed: Condvar,
}

impl Device {
    /// Checks that this card has what a link takes: a stream, and memory for the library's buffers.
    /// An end that fails to come leaves the other one inside the library, which cannot be told to
    /// stop (HCCL waits for two minutes, and the card sets up no other link meanwhile), so each end
    /// checks before either begins.
    ///
    /// # Errors
    /// What is missing; nothing is kept.
    pub fn check_link(&self) -> Result<(), DeviceError> {
        let stream = self.stream()?;
        let memory = self.alloc(64 + self.opened().card.link_bytes())?;
        drop((stream, memory));
        Ok(())
    }

    /// Makes what both ends of a new link need. Used once.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`]: no communication library was found.
    pub fn invite(&self) -> Result<Invitation, DeviceError> {
        self.opened().alive()?;
        let root = self.opened().note(self.opened().card.root_info())?;
        Ok(Invitation(root))
    }

    /// Meets the other end, at most for `most`. Blocks; call it from a thread that may wait.
    ///
    /// # Errors
    /// [`DeviceError::LinkBusy`]: this card is setting up another link. [`DeviceError::Timeout`]:
    /// the other end did not come; the library may hold the card's turn a little longer.
    pub fn link(
        &self,
        invitation: &Invitation,
        end: LinkEnd,
        most: Duration,
    ) -> Result<PeerLink, DeviceError> {
        self.opened().alive()?;
        let until = Instant::now() + most;
        let (stream, memory) = (self.stream()?, self.alloc(64)?);
        let comm = self.meet(invitation, end, most)?;
        let (turns, changed) = (Mutex::default(), Condvar::new());
        let link = PeerLink {
            stream,
            comm,
            turns,
            changed,
        };
        let part = match end {
            LinkEnd::First => LinkPart::Send {
                memory,
                at: 0,
                len: 1,
            },
            LinkEnd::Second => LinkPart::Receive {
                memory,
                at: 0,
                len: 1,
            },
        };
        link.submit(&part)?;
        let left = until.saturating_duration_since(Instant::now());
        if let Err(error) = link.stream.wait(Some(left)) {
            drop(link.stream.abort());
            return Err(error);
        }
        Ok(link)
    }

    /// Libraries wait for the other end in their own time, so they do it on a thread that can be
    /// left behind; it ends what comes of it.
    fn meet(&self, invitation: &Invitation, end: LinkEnd, most: Duration) -> Answer<Comm> {
        let (device, root) = (self.clone(), invitation.0.clone());
        let rank = match end {
            LinkEnd::First => 0,
            LinkEnd::Second => 1,
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        let met = move || {
            let handle = device.opened().card.comm_init(&root, rank, most);
            let comm = handle.map(|handle| Comm {
                device,
                handle: Some(handle),
            });
            // Nobody listens any more: the communicator is dropped here.
            drop(sender.send(comm));
        };
        let spawned = std::thread::Builder::new()
            .name("chariot-link".to_owned())
            .spawn(met);
        if spawned.is_err() {
            return Err(DeviceError::Full {
                what: "threads of the process",
            });
        }
        let met = receiver.recv_timeout(most);
        let met = met.unwrap_or(Err(DeviceError::Timeout {
            what: "the other end of a link",
        }));
        self.opened().note(met)
    }
}

impl PeerLink {
    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, part: &LinkPart) -> Answer<()> {
        let comm = self.comm.handle.as_ref().expect("taken by drop alone");
        match part {
            LinkPart::Send { memory, at, len } => {
                self.stream.post(comm, Way::Send, (memory, *at, *len))
            },
            LinkPart::Receive { memory, at, len } => {
                self.stream.post(comm, Way::Receive, (memory, *at, *len))
            },
        }
    }

    /// Posts this end's half of a ticket. Submits it, and those that waited for it, in order.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: the ticket was posted before, or the range leaves its memory or is
    /// empty. Any error of the link: it is broken, and every later ticket gets the same.
    pub fn post(&self, ticket: u64, part: LinkPart) -> Result<LinkTurn, DeviceError> {
        let (LinkPart::Send { memory, at, len } | LinkPart::Receive { memory, at, len }) = &part;
        memory.range(*at, *len)?;
        if *len == 0 {
            return Err(DeviceError::misuse("a transfer of nothing"));
        }
        let mut turns = self.lock();
        if let Some(error) = &turns.broken {
            return Err(error.clone());
        }
        if ticket < turns.next || turns.early.contains_key(&ticket) {
            let text = format!("ticket {ticket} was posted before");
            return Err(DeviceError::misuse(text));
        }
        if ticket > turns.next {
            if turns.early.len() >= WINDOW {
                return Ok(LinkTurn::Full(part));
            }
            turns.early.insert(ticket, part);
            return Ok(LinkTurn::Early);
        }
        let mut due = Some(part);
        while let Some(part) = due {
            if let Err(error) = self.submit(&part) {
                turns.broken = Some(error.clone());
                self.changed.notify_all();
                return Err(error);
            }
            turns.next += 1;
            let next = turns.next;
            due = turns.early.remove(&next);
        }
        self.changed.notify_all();
        Ok(LinkTurn::Submitted)
    }

    /// Waits until a ticket and all before it are over, at most until `deadline`.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`]: not over yet; wait again, or drop the link, which aborts it. Other
    /// errors break the link: build it anew.
    pub fn wait(&self, ticket: u64, deadline: Instant) -> Result<(), DeviceError> {
        let late = DeviceError::Timeout {
            what: "a ticket of a link",
        };
        let mut turns = self.lock();
        loop {
            if turns.done > ticket {
                return Ok(());
            }
            if let Some(error) = &turns.broken {
                return Err(error.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late);
            }
            if turns.next <= ticket {
                let waited = self.changed.wait_timeout(turns, left);
                turns = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let next = turns.next;
            drop(turns);
            // The stream waits for everything on it, in slices, so that tickets behind this one
            // do not hold it up for longer than a slice.
            let waited = self.stream.wait(Some(left.min(LOOK)));
            turns = self.lock();
            match waited {
                Ok(()) => turns.done = turns.done.max(next),
                Err(DeviceError::Timeout { .. }) => {},
                Err(error) => {
                    turns.broken.get_or_insert(error);
                    self.changed.notify_all();
                },
            }
        }
    }

    /// The number of the next ticket that is not submitted yet.
    #[must_use]
    pub fn next_ticket(&self) -> u64 {
        self.lock().next
    }

    /// Ends what is under way, so that a link whose other end is silent lets go of its memory.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where streams cannot be aborted.
    pub fn abort(&self) -> Result<(), DeviceError> {
        self.lock().broken.get_or_insert(DeviceError::Aborted);
        self.changed.notify_all();
        self.stream.abort()
    }
}

/// What is left of a link may go to another thread.
const _: fn() = || {
    fn on_any_thread<T: Send + Sync>() {}
    on_any_thread::<Arc<PeerLink>>();
};
