//! The life word: says to every reader whether the daemon that owns the shared memory lives.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::map::Memfd;
use crate::session::AttachError;

/// The daemon's thread that owns the life word. It lives as long as the listeners; dropping it
/// declares the daemon dead first.
///
/// Lives on: control thread.
#[derive(Debug)]
pub struct LifeThread {}

impl LifeThread {
    /// Makes the life page, starts the thread and waits until it owns the word. The caller holds the
    /// node's lock file already. Send [`Memfd::read_only`] descriptors of the page to clients.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory file, no thread.
    pub fn start(boot_id: u64, generation: u64) -> io::Result<(Self, Memfd)> {
        let _ = (boot_id, generation);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A reader's view of the life page.
///
/// Lives on: any thread.
#[derive(Debug)]
pub struct LifeView {}

impl LifeView {
    /// Maps the page behind a read-only descriptor.
    ///
    /// # Errors
    ///
    /// [`AttachError`]: no life page of a known version.
    pub fn attach(fd: BorrowedFd<'_>) -> Result<Self, AttachError> {
        let _ = fd;
        Err(AttachError::Kernel(io::ErrorKind::Unsupported.into()))
    }

    /// Says whether the daemon lives. One load (acquire): whatever is read after a "yes" was valid at
    /// least until that load.
    pub fn is_alive(&self) -> bool {
        false
    }

    /// Answers the random number of the daemon's start.
    pub fn boot_id(&self) -> u64 {
        0
    }

    /// Answers the node's boot generation, which rises with every start.
    pub fn generation(&self) -> u64 {
        0
    }

    /// Waits until the daemon is dead, at most `timeout`, and says whether it is.
    pub fn wait_dead(&self, timeout: Option<Duration>) -> bool {
        let _ = timeout;
        true
    }
}
