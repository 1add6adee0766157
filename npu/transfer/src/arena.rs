//! Host memory that objects lie in, and its registration.
//!
//! Locking gigabytes takes seconds, so it is done in pieces, on a thread of its own, while the core
//! serves already: what lies in a piece that is registered is copied directly, the rest through
//! staging. One registration serves all cards of the backend in this process. Where the driver
//! refuses (read-only pages, a limit), what was registered stays, and the rest is staged for good.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
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

    fn registrar(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
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
