//! What operations work on: descriptors and memory that cannot vanish under the kernel.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use chariot_shm::Mapping;

/// Memory that stays where it is, readable and writable, for as long as its value lives.
///
/// # Safety
/// `base()` and `size_bytes()` never change; every byte of that range is mapped readable and
/// writable until the value is dropped; no Rust reference to it exists, since the kernel and other
/// processes write there.
pub unsafe trait StableMemory: 'static {
    /// Returns the first byte.
    fn base(&self) -> NonNull<u8>;
    /// Returns how many bytes there are.
    fn size_bytes(&self) -> usize;
}

// SAFETY: an `Arc` keeps its value, whose implementation makes the promise, alive and in place.
unsafe impl<T: StableMemory> StableMemory for Arc<T> {
    fn base(&self) -> NonNull<u8> {
        T::base(self)
    }

    fn size_bytes(&self) -> usize {
        T::size_bytes(self)
    }
}

// SAFETY: a mapping stays where it is until it is dropped, hands out raw pointers only, and is made
// readable and writable; one that was protected since makes the kernel answer EFAULT.
unsafe impl StableMemory for Mapping {
    fn base(&self) -> NonNull<u8> {
        Self::base(self)
    }

    fn size_bytes(&self) -> usize {
        self.len()
    }
}

// SAFETY: an `Rc` keeps its value, whose implementation makes the promise, alive and in place.
unsafe impl<T: StableMemory> StableMemory for Rc<T> {
    fn base(&self) -> NonNull<u8> {
        T::base(self)
    }

    fn size_bytes(&self) -> usize {
        T::size_bytes(self)
    }
}

/// A range that does not lie in its memory. A bug of the caller, or an offset of a peer not
/// checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {offset} do not lie in a memory of {size} bytes")]
pub struct OutOfBounds {
    /// First byte asked for.
    pub offset: u64,
    /// Bytes asked for.
    pub len: u64,
    /// Bytes there are.
    pub size: u64,
}

/// A range of shared memory for one or more operations. Cheap to clone. Lives on: owner shard.
#[derive(Clone)]
pub struct IoSpan {
    memory: Rc<dyn StableMemory>,
    start: NonNull<u8>,
    len: usize,
    owner: Option<Rc<dyn Any>>,
}

impl IoSpan {
    /// Names `len` bytes at `offset` of `memory`.
    ///
    /// # Errors
    /// [`OutOfBounds`] when the range does not lie inside.
    pub fn new(memory: Rc<dyn StableMemory>, offset: u64, len: u64) -> Result<Self, OutOfBounds> {
        let size = memory.size_bytes();
        let outside = OutOfBounds {
            offset,
            len,
            size: size as u64,
        };
        let start = usize::try_from(offset).ok().filter(|start| *start <= size);
        let start = start.ok_or(outside)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= size - start);
        let len = len.ok_or(outside)?;
        // SAFETY: `start` is at most the size of the memory, which is one allocation by the trait's
        // promise, so the pointer stays inside it or one past its end.
        let first = unsafe { memory.base().add(start) };
        Ok(Self {
            memory,
            start: first,
            len,
            owner: None,
        })
    }

    /// Attaches what must not be dropped before the last operation on this range (or a part of it)
    /// has completed: an I/O pin, for example. Its `Drop` runs on this shard, outside of the ring.
    #[must_use]
    pub fn with_owner(mut self, owner: Rc<dyn Any>) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Returns how many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the first byte, for copies; valid as long as this span or a clone lives.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// Names `len` bytes at `offset` of this range, with the same owner.
    ///
    /// # Panics
    /// When they do not lie inside.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        assert!(offset <= self.len, "a slice begins inside its span");
        assert!(len <= self.len - offset, "a slice ends inside its span");
        // SAFETY: `offset` is at most `len`, and the span lies inside one allocation (`new`).
        let start = unsafe { self.start.add(offset) };
        Self {
            memory: Rc::clone(&self.memory),
            start,
            len,
            owner: self.owner.clone(),
        }
    }
}

impl fmt::Debug for IoSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoSpan")
            .field("start", &self.start)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// An open descriptor, shared by the operations that use it; closed with the last of them.
///
/// Sockets must be in blocking mode: on a non-blocking one the kernel answers `EAGAIN` instead of
/// waiting. Lives on: owner shard.
#[derive(Clone, Debug)]
pub struct IoFd {
    fd: Rc<OwnedFd>,
}

impl IoFd {
    /// Adopts a descriptor.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self {
            fd: Rc::new(fd.into()),
        }
    }

    /// Switches Nagle's algorithm off (a TCP socket's small replies must not wait for more).
    ///
    /// # Errors
    /// When the descriptor is no TCP socket.
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.set_option(libc::IPPROTO_TCP, libc::TCP_NODELAY)
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
        let one: libc::c_int = 1;
        let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("four bytes");
        // SAFETY: setsockopt(2) reads `size` bytes at the pointer: those of `one`, alive here.
        let failed =
            unsafe { libc::setsockopt(self.raw(), level, name, (&raw const one).cast(), size) };
        if failed == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for IoFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
