//! Host memory that objects lie in, and its registration.
//!
//! Locking gigabytes takes seconds, so it is done in pieces, on a thread of its own, while the core
//! serves already: what lies in a piece that is registered is copied directly, the rest through
//! staging. Memory that is only partly there (a cache's arena is sparse) is registered by the
//! pieces that are asked for. One registration serves all cards of the backend in this process.
//! Where the driver refuses (read-only pages, a limit), what was registered stays, and the rest is
//! staged for good.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;

use chariot_device::{Device, DeviceError, HostKind, HostMemory};

/// How far registration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArenaState {
    /// Under way.
    Registering,
    /// All whole pieces are done.
    Registered,
    /// Given up, for this reason; what was done stays.
    Refused(DeviceError),
    /// Never tried: the memory was page-locked already, or is to be staged.
    AsGiven,
    /// Whenever a piece is asked for.
    OnDemand,
}

/// Makes a range's pages fit to be registered for as long as its result is held, or `None` when it
/// cannot.
pub type Prepare = Box<dyn Fn(Range<usize>) -> Option<Box<dyn Any>> + Send + Sync>;

/// Pieces that somebody asked for. At most as many as there are pieces.
#[derive(Default)]
struct Demand {
    /// Asked for and not begun.
    wanted: BTreeSet<usize>,
    /// A thread is there, at this piece if at any.
    running: bool,
    current: Option<usize>,
    /// `None`: nothing is registered on demand.
    how: Option<Arc<How>>,
}

/// How pieces are registered on demand.
struct How {
    device: Device,
    prepare: Prepare,
}

impl fmt::Debug for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demand")
            .field("wanted", &self.wanted)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// Host memory for objects. Lives on: any thread.
#[derive(Debug)]
pub struct Arena {
    memory: HostMemory,
    piece_bytes: usize,
    pieces: Vec<OnceLock<HostMemory>>,
    registered: AtomicU64,
    state: Mutex<ArenaState>,
    registrar: Mutex<Option<JoinHandle<()>>>,
    demand: Mutex<Demand>,
}

impl Arena {
    fn new(memory: HostMemory, piece_bytes: usize, state: ArenaState) -> Self {
        let count = memory.len().div_ceil(piece_bytes);
        Self {
            memory,
            piece_bytes,
            pieces: (0..count).map(|_| OnceLock::new()).collect(),
            registered: AtomicU64::new(0),
            state: Mutex::new(state),
            registrar: Mutex::default(),
            demand: Mutex::default(),
        }
    }

    /// Takes memory as it is: page-locked memory is copied directly, pageable memory is staged.
    #[must_use]
    pub fn as_given(memory: HostMemory) -> Arc<Self> {
        let len = memory.len();
        let arena = Self::new(memory.clone(), len, ArenaState::AsGiven);
        if memory.kind() != HostKind::Pageable {
            arena.registered.store(len as u64, Ordering::Relaxed);
            // The only piece, and nobody else has the arena yet.
            drop(arena.pieces[0].set(memory));
        }
        Arc::new(arena)
    }

    /// Takes pageable memory and registers it on a thread, in pieces of `piece_bytes`, which is a
    /// multiple of the page size. A last piece that is no multiple of it is staged.
    ///
    /// # Panics
    /// When `piece_bytes` is 0 or the memory is page-locked already.
    #[must_use]
    pub fn registering(device: &Device, memory: HostMemory, piece_bytes: usize) -> Arc<Self> {
        assert!(piece_bytes > 0, "pieces have a size");
        assert!(memory.kind() == HostKind::Pageable, "locked already");
        let arena = Arc::new(Self::new(memory, piece_bytes, ArenaState::Registering));
        let (weak, device) = (Arc::downgrade(&arena), device.clone());
        let work = move || register(&weak, &device);
        let thread = std::thread::Builder::new()
            .name("chariot-register".to_owned())
            .spawn(work);
        match thread {
            Ok(thread) => *arena.registrar() = Some(thread),
            Err(_) => arena.set_state(ArenaState::Refused(DeviceError::Full { what: "threads" })),
        }
        arena
    }

    /// Takes pageable memory and registers the pieces of it that [`Self::want`] names, on a thread
    /// that is there while there is something to do. `prepare` is called before each piece.
    ///
    /// # Panics
    /// As [`Self::registering`].
    #[must_use]
    pub fn on_demand(
        device: &Device,
        memory: HostMemory,
        piece_bytes: usize,
        prepare: Prepare,
    ) -> Arc<Self> {
        assert!(piece_bytes > 0, "pieces have a size");
        assert!(memory.kind() == HostKind::Pageable, "locked already");
        let arena = Self::new(memory, piece_bytes, ArenaState::OnDemand);
        let device = device.clone();
        arena.demand().how = Some(Arc::new(How { device, prepare }));
        Arc::new(arena)
    }

    /// Asks for the pieces of `[at, at + len)` to be registered, if this is done on demand and was
    /// not refused. Returns at once; meanwhile they are staged.
    pub fn want(self: &Arc<Self>, at: usize, len: usize) {
        if len == 0 || self.is_direct(at, len) {
            return;
        }
        let mut demand = self.demand();
        if demand.how.is_none() {
            return;
        }
        let pieces = at / self.piece_bytes..=(at + len - 1) / self.piece_bytes;
        // A last piece that is no whole one is staged.
        let whole = self.len() / self.piece_bytes;
        let current = demand.current;
        let open = pieces.filter(|piece| {
            *piece < whole && Some(*piece) != current && self.piece(*piece).is_none()
        });
        demand.wanted.extend(open);
        if demand.running || demand.wanted.is_empty() {
            return;
        }
        let weak = Arc::downgrade(self);
        let thread = std::thread::Builder::new()
            .name("chariot-register".to_owned())
            .spawn(move || register_wanted(&weak));
        match thread {
            Ok(thread) => {
                demand.running = true;
                // The one before has nothing more to do than to end.
                drop(self.registrar().replace(thread));
            },
            Err(_) => self.refuse(&mut demand, DeviceError::Full { what: "threads" }),
        }
    }

    /// Nothing more is registered on demand.
    fn refuse(&self, demand: &mut Demand, error: DeviceError) {
        demand.how = None;
        demand.wanted.clear();
        self.set_state(ArenaState::Refused(error));
    }

    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next piece that is wanted, or ends the thread's time.
    fn next_wanted(&self) -> Option<(usize, Arc<How>)> {
        let mut demand = self.demand();
        let next = demand.wanted.pop_first().zip(demand.how.clone());
        demand.running = next.is_some();
        demand.current = next.as_ref().map(|(piece, _)| *piece);
        next
    }

    fn registrar(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.registrar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, state: ArenaState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// How far registration is.
    #[must_use]
    pub fn state(&self) -> ArenaState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until registration is over, one way or the other.
    pub fn settle(&self) {
        let thread = self.registrar().take();
        if let Some(thread) = thread {
            // A registrar that panicked has registered what it has.
            drop(thread.join());
        }
    }

    /// Bytes that are copied directly.
    #[must_use]
    pub fn registered_bytes(&self) -> u64 {
        self.registered.load(Ordering::Relaxed)
    }

    /// Length in bytes, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// The memory below.
    #[must_use]
    pub fn memory(&self) -> &HostMemory {
        &self.memory
    }

    pub(crate) fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    /// The piece with that number, if copies may name it.
    pub(crate) fn piece(&self, piece: usize) -> Option<&HostMemory> {
        self.pieces.get(piece)?.get()
    }

    /// Whether copies may name all of `[at, at + len)`.
    pub(crate) fn is_direct(&self, at: usize, len: usize) -> bool {
        let last = at + len.max(1) - 1;
        (at / self.piece_bytes..=last / self.piece_bytes).all(|piece| self.piece(piece).is_some())
    }
}

/// The registrar: piece by piece, for as long as somebody has the arena.
fn register(weak: &Weak<Arena>, device: &Device) {
    let mut piece = 0;
    loop {
        let Some(arena) = weak.upgrade() else {
            return;
        };
        let range = piece * arena.piece_bytes..(piece + 1) * arena.piece_bytes;
        if range.end > arena.len() {
            arena.set_state(ArenaState::Registered);
            return;
        }
        match device.register(&arena.memory, range) {
            Ok(memory) => {
                let len = memory.len() as u64;
                if arena.pieces[piece].set(memory).is_ok() {
                    arena.registered.fetch_add(len, Ordering::Relaxed);
                }
            },
            Err(error) => {
                arena.set_state(ArenaState::Refused(error));
                return;
            },
        }
        piece += 1;
    }
}

/// The registrar of an arena on demand: what is wanted, for as long as somebody has the arena.
fn register_wanted(weak: &Weak<Arena>) {
    while let Some(arena) = weak.upgrade() {
        let Some((piece, how)) = arena.next_wanted() else {
            return;
        };
        let range = piece * arena.piece_bytes..(piece + 1) * arena.piece_bytes;
        let prepared = (how.prepare)(range.clone());
        let registered = match prepared {
            Some(_held) => how.device.register(&arena.memory, range),
            None => Err(DeviceError::Unsupported {
                what: "registering these pages",
            }),
        };
        match registered {
            Ok(memory) => {
                let len = memory.len() as u64;
                if arena.pieces[piece].set(memory).is_ok() {
                    arena.registered.fetch_add(len, Ordering::Relaxed);
                }
            },
            Err(error) => arena.refuse(&mut arena.demand(), error),
        }
    }
}
