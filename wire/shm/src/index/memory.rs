//! The lines of an index: shared memory, private memory, or (under loom) modelled atomics.
//!
//! All access goes through 64-bit atomics in 64-byte lines, so that the same code runs over a
//! mapping that another process writes and over a model checker's memory. A reader's mapping may be
//! read-only: nothing here stores on behalf of a reader.

use std::fmt;
use std::io;
#[cfg(not(loom))]
use std::num::TryFromIntError;
#[cfg(not(loom))]
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[cfg(not(loom))]
use std::sync::atomic::AtomicU64;

#[cfg(loom)]
use loom::sync::atomic::AtomicU64;

#[cfg(loom)]
use super::layout::LINE_BYTES;
use super::layout::{IndexOptions, WORDS_PER_LINE};
#[cfg(not(loom))]
use crate::{Mapping, Memfd};

/// One cache line of eight words.
#[repr(C, align(64))]
pub(crate) struct Line([AtomicU64; WORDS_PER_LINE]);

impl Line {
    /// Loads word `word` (0 to 7).
    #[inline]
    pub(crate) fn load(&self, word: usize, order: Ordering) -> u64 {
        #[cfg(all(test, not(loom)))]
        super::schedule::point();
        self.0[word].load(order)
    }

    /// Stores word `word` (0 to 7).
    #[inline]
    pub(crate) fn store(&self, word: usize, value: u64, order: Ordering) {
        #[cfg(all(test, not(loom)))]
        super::schedule::point();
        #[cfg(loom)]
        if !super::steps::death::permits_store() {
            return;
        }
        self.0[word].store(value, order);
    }
}

/// Why a memory cannot hold or be an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexMemoryError {
    /// The operating system gave no memory; the operator can free some.
    #[error("cannot map the index")]
    Map(#[source] io::Error),
    /// The memory is smaller than the options need; the caller sized it wrongly.
    #[error("index memory has {have} bytes, needs {need}")]
    TooSmall {
        /// Bytes there are.
        have: u64,
        /// Bytes needed.
        need: u64,
    },
    /// The memory holds no index of this layout; the peer is of another version or hostile.
    #[error("memory holds no index of a known layout")]
    NotAnIndex,
}

/// Shared ownership of the lines.
#[derive(Clone)]
pub(crate) struct Lines {
    #[cfg(not(loom))]
    base: NonNull<Line>,
    #[cfg(not(loom))]
    count: usize,
    #[cfg(not(loom))]
    _storage: Arc<Storage>,
    #[cfg(loom)]
    lines: Arc<Vec<Line>>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

#[cfg(not(loom))]
// SAFETY: the lines are atomics only, and the storage behind `base` lives as long as any clone.
unsafe impl Send for Lines {}

#[cfg(not(loom))]
// SAFETY: as above; every access through a shared reference is an atomic one.
unsafe impl Sync for Lines {}

#[cfg(not(loom))]
impl Lines {
    /// The lines of a mapping; trailing bytes that fill no line are not used.
    pub(crate) fn of_mapping(mapping: Mapping) -> Self {
        let base = mapping.base().cast();
        let count = mapping.len() / size_of::<Line>();
        Self {
            base,
            count,
            _storage: Arc::new(Storage::Mapped(mapping)),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The line `index`.
    #[inline]
    pub(crate) fn line(&self, index: usize) -> &Line {
        assert!(index < self.count);
        // SAFETY: `index` was just compared with the count, and `count` lines lie inside the
        // storage.
        let line = unsafe { self.base.add(index) };
        // SAFETY: the line is mapped while `self._storage` lives, aligned (the base is
        // page-aligned), and consists of atomics, so that stores by other threads and processes are
        // no data race.
        unsafe { line.as_ref() }
    }

    /// Asks the processor to fetch the line `index` (no effect when out of range).
    #[inline]
    pub(crate) fn prefetch(&self, index: usize) {
        if index < self.count {
            // SAFETY: as in `line`: the line lies inside the storage.
            let line = unsafe { self.base.add(index) };
            prefetch(line.as_ptr().cast());
        }
    }
}

#[cfg(loom)]
impl Lines {
    pub(crate) fn count(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn line(&self, index: usize) -> &Line {
        &self.lines[index]
    }

    #[expect(clippy::unused_self, reason = "the twin of the real one")]
    pub(crate) fn prefetch(&self, _index: usize) {}
}

#[cfg(not(loom))]
#[inline]
fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: a prefetch never faults, whatever the address, and changes no register or memory.
        unsafe {
            std::arch::asm!(
                "prfm pldl1keep, [{}]",
                in(reg) place,
                options(nostack, preserves_flags, readonly),
            );
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}

/// A size beyond the address space of a 32-bit machine.
#[cfg(not(loom))]
fn unaddressable(error: TryFromIntError) -> IndexMemoryError {
    IndexMemoryError::Map(io::Error::new(io::ErrorKind::OutOfMemory, error))
}

/// What keeps the lines mapped.
#[cfg(not(loom))]
#[derive(Debug)]
enum Storage {
    Private(#[expect(dead_code, reason = "held for its Drop")] Private),
    Mapped(#[expect(dead_code, reason = "held for its Drop")] Mapping),
}

/// Zeroed private memory, populated on first touch.
#[cfg(not(loom))]
#[derive(Debug)]
struct Private {
    base: NonNull<u8>,
    size: usize,
}

#[cfg(not(loom))]
// SAFETY: the struct only owns a mapping; nothing is tied to a thread.
unsafe impl Send for Private {}

#[cfg(not(loom))]
// SAFETY: shared references allow nothing but reading the address.
unsafe impl Sync for Private {}

#[cfg(not(loom))]
impl Private {
    fn new(size: usize) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, size })
    }
}

#[cfg(not(loom))]
impl Drop for Private {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this base and size and is unmapped once, here.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
        debug_assert_eq!(result, 0);
    }
}

/// Memory for one index, all zero.
///
/// Lives on: any shard; handed to [`IndexWriter::new`](super::IndexWriter::new).
#[derive(Debug)]
pub struct IndexMemory {
    pub(crate) lines: Lines,
}

impl IndexMemory {
    /// Private memory for models, unit tests and shards without clients; sparse like the shared
    /// one.
    ///
    /// # Errors
    /// [`IndexMemoryError::Map`]: the address space is exhausted.
    #[cfg(not(loom))]
    pub fn heap(options: &IndexOptions) -> Result<Self, IndexMemoryError> {
        let bytes = options.memory_size_bytes();
        let size = usize::try_from(bytes).map_err(unaddressable)?;
        let memory = Private::new(size).map_err(IndexMemoryError::Map)?;
        let base = memory.base.cast();
        let count = size / size_of::<Line>();
        let storage = Arc::new(Storage::Private(memory));
        Ok(Self {
            lines: Lines {
                base,
                count,
                _storage: storage,
            },
        })
    }

    /// Shared memory: a fresh memory file of at least [`IndexOptions::memory_size_bytes`]. The
    /// caller keeps the file and passes read-only descriptors of it to clients.
    ///
    /// # Errors
    /// [`IndexMemoryError::Map`]: the kernel refused the mapping.
    #[cfg(not(loom))]
    pub fn shared(memfd: &Memfd) -> Result<Self, IndexMemoryError> {
        let len = usize::try_from(memfd.size()).map_err(unaddressable)?;
        let mapping = Mapping::read_write(memfd.fd(), 0, len).map_err(IndexMemoryError::Map)?;
        Ok(Self {
            lines: Lines::of_mapping(mapping),
        })
    }

    /// Modelled memory.
    #[cfg(loom)]
    pub fn heap(options: &IndexOptions) -> Result<Self, IndexMemoryError> {
        let count = usize::try_from(options.memory_size_bytes() / LINE_BYTES).expect("small");
        let line = || Line(std::array::from_fn(|_| AtomicU64::new(0)));
        Ok(Self {
            lines: Lines {
                lines: Arc::new((0..count).map(|_| line()).collect()),
            },
        })
    }
}
