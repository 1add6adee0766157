//! Descriptors over unix sockets, and who is at the other end.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Most descriptors in one message: one index per shard (64) and the session's own.
pub const DESCRIPTORS_MAX: usize = 96;

/// Who connected, as the kernel saw it at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id, in this process's pid namespace; 0 when the peer lives outside of it.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Sends `bytes` and descriptors as one message; the receiver owns duplicates. Answers how many
/// bytes were taken; the descriptors go with the first one.
///
/// # Errors
///
/// The kernel's; `WouldBlock` on a full non-blocking socket, then nothing was sent.
///
/// # Panics
///
/// When `bytes` is empty while there are descriptors, or there are more than [`DESCRIPTORS_MAX`].
pub fn send_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let _ = (socket, bytes, descriptors);
    Err(io::ErrorKind::Unsupported.into())
}

/// Receives bytes into `buffer` and the descriptors that came with them (close-on-exec). Zero bytes
/// are the end of the stream.
///
/// # Errors
///
/// The kernel's; `InvalidData` when there were more descriptors than [`DESCRIPTORS_MAX`] (all are
/// closed).
pub fn recv_with_fds(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let _ = (socket, buffer);
    Err(io::ErrorKind::Unsupported.into())
}

/// Answers who connected a unix socket.
///
/// # Errors
///
/// The kernel's; for one, not a unix socket.
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let _ = socket;
    Err(io::ErrorKind::Unsupported.into())
}

/// Answers a descriptor of the peer's process, readable once it has died: `SO_PEERPIDFD`, or
/// `pidfd_open` of the peer's pid before kernel 6.5.
///
/// # Errors
///
/// The kernel's; `ESRCH` when the peer is already gone.
pub fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let _ = socket;
    Err(io::ErrorKind::Unsupported.into())
}
