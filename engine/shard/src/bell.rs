//! The bell of a shard: one eventfd, a `sleeping` word before it, and the counters that the
//! watchdog reads.
//!
//! Lives on: the shard sleeps on it; any thread rings it through a [`BellHandle`].
//!
//! The protocol is Dekker's. A sender stores its message, fences, and looks at `sleeping`; the
//! shard stores `sleeping`, fences, and looks at its queues. At least one of them sees the other,
//! so no wake is lost, and a shard that is awake costs its senders no system call. The kernel rings
//! the same eventfd for the data ring's completions (registered in `data_ring.rs`, armed only for
//! the sleep).
//!
//! A second eventfd, the *rescue*, belongs to the watchdog alone: several reads are always armed on
//! it, so that it wakes the executor even when the read on the bell was consumed by a wake that
//! glommio lost.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// What is written to an eventfd to count one.
#[expect(
    clippy::host_endian_bytes,
    reason = "an eventfd counts in the host's own byte order"
)]
pub(crate) const ONE: [u8; 8] = 1_u64.to_ne_bytes();

/// What a shard shows to other threads. Every word is on a line of its own where it is written
/// often.
#[derive(Debug)]
pub(crate) struct BellShared {
    sleeping: SleepWord,
    /// Rings so far, whether or not they cost a system call; the driver compares it with `seen`.
    posts: PaddedCounter,
    /// Value of `posts` when the driver last began a pass.
    seen: PaddedCounter,
    /// Rounds of the driver; stands still while it sleeps or hangs.
    passes: PaddedCounter,
    /// The shard owes somebody an answer, so that standing still is suspicious even when it sleeps.
    in_flight: AtomicBool,
    /// The driver runs; before and after, the watchdog has nothing to watch.
    running: AtomicBool,
    bell: File,
    rescue: File,
}

#[repr(align(128))]
#[derive(Debug, Default)]
struct PaddedCounter(AtomicU64);

#[repr(align(128))]
#[derive(Debug, Default)]
struct SleepWord(AtomicU32);

/// What the watchdog compares between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BellSample {
    pub(crate) passes: u64,
    /// The driver runs, and either is awake, or has requests in flight, or has not seen a ring.
    pub(crate) suspicious: bool,
}

impl BellShared {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            sleeping: SleepWord::default(),
            posts: PaddedCounter::default(),
            seen: PaddedCounter::default(),
            passes: PaddedCounter::default(),
            in_flight: AtomicBool::new(false),
            running: AtomicBool::new(false),
            bell: File::from(eventfd(0)?),
            rescue: File::from(eventfd(0)?),
        }))
    }

    /// Wakes the driver if it sleeps. Costs a fence and a load while it is awake.
    pub(crate) fn ring(&self) {
        self.posts.0.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.sleeping.0.load(Ordering::Relaxed) != 0
            && self.sleeping.0.swap(0, Ordering::AcqRel) != 0
        {
            self.write_bell();
        }
    }

    /// Writes the eventfd whatever the words say.
    pub(crate) fn write_bell(&self) {
        // A counter near its maximum would block; it is read far too often to come near it.
        (&self.bell)
            .write_all(&ONE)
            .expect("an eventfd takes eight bytes");
    }

    pub(crate) fn write_rescue(&self) {
        (&self.rescue)
            .write_all(&ONE)
            .expect("an eventfd takes eight bytes");
    }

    pub(crate) fn bell_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    pub(crate) fn duplicate_bell(&self) -> io::Result<OwnedFd> {
        self.bell.try_clone().map(OwnedFd::from)
    }

    pub(crate) fn duplicate_rescue(&self) -> io::Result<OwnedFd> {
        self.rescue.try_clone().map(OwnedFd::from)
    }

    /// Owner shard: one round begins. What was rung before this is seen by this round's polls.
    pub(crate) fn begin_pass(&self) {
        self.begin_beat();
        let posts = self.posts.0.load(Ordering::Acquire);
        if self.seen.0.load(Ordering::Relaxed) != posts {
            self.seen.0.store(posts, Ordering::Relaxed);
        }
    }

    /// Owner shard: the executor runs its tasks although the driver sleeps.
    pub(crate) fn begin_beat(&self) {
        let passes = self.passes.0.load(Ordering::Relaxed);
        self.passes
            .0
            .store(passes.wrapping_add(1), Ordering::Relaxed);
    }

    /// Owner shard: declares itself asleep; everything must be looked at again after this.
    pub(crate) fn fall_asleep(&self, in_flight: bool) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.sleeping.0.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Owner shard: awake again, so that senders save their system call.
    pub(crate) fn wake_up(&self) {
        self.sleeping.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }

    pub(crate) fn sample(&self) -> BellSample {
        let asleep = self.sleeping.0.load(Ordering::Relaxed) != 0;
        let unseen = self.posts.0.load(Ordering::Relaxed) != self.seen.0.load(Ordering::Relaxed);
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        BellSample {
            passes: self.passes.0.load(Ordering::Relaxed),
            suspicious: self.running.load(Ordering::Acquire) && (!asleep || unseen || in_flight),
        }
    }
}

/// Rings one shard. Cheap to clone; any thread may hold one.
///
/// Lives on: any thread.
#[derive(Clone)]
pub struct BellHandle {
    shared: Arc<BellShared>,
}

impl BellHandle {
    pub(crate) fn new(shared: Arc<BellShared>) -> Self {
        Self { shared }
    }

    /// Wakes the shard if it sleeps; call it after the message is where the shard will look.
    ///
    /// Costs a fence and a load of a shared line while the shard is awake, else one `write`.
    pub fn ring(&self) {
        self.shared.ring();
    }
}

impl fmt::Debug for BellHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BellHandle")
            .field("fd", &self.shared.bell_fd())
            .finish()
    }
}

/// Makes a close-on-exec eventfd in blocking mode unless `flags` says otherwise.
pub(crate) fn eventfd(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: eventfd(2) takes two integers and no memory.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was returned by eventfd(2) just now, is open, and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Empties a non-blocking eventfd; an empty one stays empty.
pub(crate) fn empty_eventfd(mut file: &File) {
    let mut count = [0_u8; 8];
    match file.read_exact(&mut count) {
        Ok(()) => {},
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {},
        Err(error) => unreachable!("an eventfd gives eight bytes or blocks: {error}"),
    }
}
