//! Descriptors over unix sockets, and who is at the other end.

use std::io;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys;

/// Most descriptors in one message: one index per shard (64), the session's own, and some to spare.
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

/// One control message with room for the most descriptors: what `CMSG_SPACE` would reserve.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    descriptors: [libc::c_int; DESCRIPTORS_MAX],
}

// The kernel puts the first descriptor right behind the header, aligned to a machine word.
const _: () = assert!(offset_of!(Control, descriptors) == size_of::<libc::cmsghdr>());
const _: () = assert!(size_of::<libc::cmsghdr>().is_multiple_of(size_of::<usize>()));
const _: () = assert!(size_of::<Control>().is_multiple_of(size_of::<usize>()));

/// Bytes of a control message with `count` descriptors, header included.
const fn control_len(count: usize) -> usize {
    size_of::<libc::cmsghdr>() + count * size_of::<libc::c_int>()
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
    assert!(descriptors.len() <= DESCRIPTORS_MAX);
    assert!(descriptors.is_empty() || !bytes.is_empty());
    let mut control = empty_control();
    for (slot, descriptor) in control.descriptors.iter_mut().zip(descriptors) {
        *slot = descriptor.as_raw_fd();
    }
    control.header.cmsg_level = libc::SOL_SOCKET;
    control.header.cmsg_type = libc::SCM_RIGHTS;
    control.header.cmsg_len = kernel_len(control_len(descriptors.len()));
    // The kernel only reads the bytes of a message that is sent.
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut message = empty_message(&mut part);
    if !descriptors.is_empty() {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = kernel_len(control_len(descriptors.len()));
    }
    // SAFETY: `message` points to `part` and `control`, live and as long as it says; the
    // descriptors are open for as long as they are borrowed.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
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
    let mut control = empty_control();
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = empty_message(&mut part);
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = kernel_len(size_of::<Control>());
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` points to `part` (which is `buffer`, borrowed mutably) and `control`, live
    // and as long as it says.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let received = usize::try_from(received).map_err(|_negative| io::Error::last_os_error())?;
    let descriptors = adopt_descriptors(&message, &control);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("more than {DESCRIPTORS_MAX} descriptors in one message"),
        ));
    }
    Ok((received, descriptors))
}

/// Answers who connected a unix socket.
///
/// # Errors
///
/// The kernel's; for one, not a unix socket.
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let none = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let found = socket_option(socket, libc::SO_PEERCRED, none)?;
    Ok(PeerCredentials {
        pid: found.pid,
        uid: found.uid,
        gid: found.gid,
    })
}

/// Answers a descriptor of the peer's process, readable once it has died: `SO_PEERPIDFD`, or
/// `pidfd_open` of the peer's pid before kernel 6.5.
///
/// # Errors
///
/// The kernel's; `ESRCH` when the peer is already gone.
pub fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    match socket_option(socket, SO_PEERPIDFD, -1) {
        // SAFETY: the kernel has just opened this descriptor for us alone.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            // The pid may have been reused since the peer connected: a window that only kernels
            // before 6.5 have.
            pidfd_open(peer_credentials(socket)?.pid)
        },
        Err(error) => Err(error),
    }
}

/// Kills (SIGKILL) the process that a pidfd names: this one and no other, also when its number has
/// been given away meanwhile.
///
/// # Errors
///
/// The kernel's; `ESRCH` when it has ended already, `EPERM` when it belongs to another user.
pub fn kill_process(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let no_details: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: takes numbers and a null pointer, which stands for "no details"; touches no memory of
    // ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            no_details,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers, touches no memory of ours. Descriptors of processes are always
    // close-on-exec.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = libc::c_int::try_from(fd).expect("descriptors are ints");
    sys::check(fd)?;
    // SAFETY: the kernel has just opened this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads a socket option of plain-number type `T` over `value`.
fn socket_option<T: Copy>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    mut value: T,
) -> io::Result<T> {
    let mut len = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    let target = (&raw mut value).cast();
    // SAFETY: `target` has room for `len` bytes; both types that are read here (an int, a ucred)
    // are plain numbers that any bytes are valid for.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            target,
            &raw mut len,
        )
    };
    sys::check(result).map(|_| value)
}

/// Takes ownership of the descriptors that the kernel has put into a received message.
fn adopt_descriptors(message: &libc::msghdr, control: &Control) -> Vec<OwnedFd> {
    let header = &control.header;
    let rights = header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS;
    if rust_len(message.msg_controllen) < control_len(0) || !rights {
        return Vec::new();
    }
    let bytes = rust_len(header.cmsg_len).saturating_sub(control_len(0));
    let count = (bytes / size_of::<libc::c_int>()).min(DESCRIPTORS_MAX);
    let received = control.descriptors[..count].iter();
    // SAFETY: the kernel has opened each of these for us and told nobody else.
    received
        .map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect()
}

fn empty_control() -> Control {
    // SAFETY: a cmsghdr is three numbers (and padding on some C libraries), which may all be zero.
    let header = unsafe { MaybeUninit::<libc::cmsghdr>::zeroed().assume_init() };
    Control {
        header,
        descriptors: [-1; DESCRIPTORS_MAX],
    }
}

fn empty_message(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: a msghdr is numbers and pointers (and padding on some C libraries), all zero or null.
    let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}

/// A length in the type that this C library uses for control messages.
#[cfg(target_env = "musl")]
fn kernel_len(len: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(len).expect("control messages are small")
}

/// A length in the type that this C library uses for control messages.
#[cfg(not(target_env = "musl"))]
fn kernel_len(len: usize) -> usize {
    len
}

#[cfg(target_env = "musl")]
fn rust_len(len: libc::socklen_t) -> usize {
    len as usize
}

#[cfg(not(target_env = "musl"))]
fn rust_len(len: usize) -> usize {
    len
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::layout::PAGE_MAX;
    use crate::map::{Mapping, Memfd, MemfdOptions};
    use crate::{MappedMemory, Memory};

    #[test]
    fn descriptors_cross_a_socket_and_name_the_same_memory() {
        let (left, right) = UnixStream::pair().unwrap();
        let memory = Memfd::create("pass", PAGE_MAX as u64, MemfdOptions::default()).unwrap();
        let ours = MappedMemory::new(Mapping::read_write(memory.fd(), 0, PAGE_MAX).unwrap());
        ours.store64(64, 0xfeed);
        let read_only = memory.read_only().unwrap();
        let many = vec![read_only.as_fd(); DESCRIPTORS_MAX];
        assert!(send_with_fds(left.as_fd(), b"welcome", &many).unwrap() == 7);

        let mut buffer = [0; 16];
        let (count, received) = recv_with_fds(right.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"welcome");
        assert_eq!(received.len(), DESCRIPTORS_MAX);
        let last = received.last().unwrap();
        let theirs = MappedMemory::new(Mapping::read_only(last.as_fd(), 0, PAGE_MAX).unwrap());
        assert_eq!(theirs.load64(64), 0xfeed);
        // SAFETY: asks for a number about an open descriptor.
        let flags = unsafe { libc::fcntl(last.as_raw_fd(), libc::F_GETFD) };
        assert!(flags & libc::FD_CLOEXEC != 0);
    }

    #[test]
    fn bytes_alone_and_the_end_of_the_stream_bring_no_descriptors() {
        let (left, right) = UnixStream::pair().unwrap();
        assert_eq!(send_with_fds(left.as_fd(), b"plain", &[]).unwrap(), 5);
        drop(left);
        let mut buffer = [0; 16];
        let (count, received) = recv_with_fds(right.as_fd(), &mut buffer).unwrap();
        assert_eq!((count, received.len()), (5, 0));
        let (count, received) = recv_with_fds(right.as_fd(), &mut buffer).unwrap();
        assert_eq!((count, received.len()), (0, 0));
    }

    #[test]
    fn more_descriptors_than_a_message_holds_are_refused_and_closed() {
        let (left, right) = UnixStream::pair().unwrap();
        let own = left.as_fd();
        // The kernel takes up to 253 in one message; a hostile peer does not use our sender.
        let count = DESCRIPTORS_MAX + 1;
        let mut words = vec![0_u64; control_len(count).div_ceil(8)];
        let mut bytes = Vec::from([0_u8; 16]);
        bytes[..8].copy_from_slice(&(control_len(count) as u64).to_le_bytes());
        bytes[8..12].copy_from_slice(&libc::SOL_SOCKET.to_le_bytes());
        bytes[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_le_bytes());
        for _ in 0..count {
            bytes.extend(own.as_raw_fd().to_le_bytes());
        }
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(padded);
        }
        let mut payload = *b"x";
        let mut part = libc::iovec {
            iov_base: payload.as_mut_ptr().cast(),
            iov_len: 1,
        };
        let mut message = empty_message(&mut part);
        message.msg_control = words.as_mut_ptr().cast();
        message.msg_controllen = kernel_len(control_len(count));
        // SAFETY: `message` points to `part` and `words`, live and as long as it says.
        let sent = unsafe { libc::sendmsg(own.as_raw_fd(), &raw const message, 0) };
        assert_eq!(sent, 1);

        let mut buffer = [0; 4];
        let error = recv_with_fds(right.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn credentials_and_pidfd_name_this_process() {
        let (left, _right) = UnixStream::pair().unwrap();
        let peer = peer_credentials(left.as_fd()).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        // SAFETY: asks for a number.
        assert_eq!(peer.uid, unsafe { libc::geteuid() });
        assert!(!readable(&peer_pidfd(left.as_fd()).unwrap(), 0));
    }

    #[test]
    fn pidfd_fires_when_the_process_is_killed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!readable(&pidfd, 0));
        kill_process(pidfd.as_fd()).unwrap();
        assert!(readable(&pidfd, 10_000));
        child.wait().unwrap();
        let gone = kill_process(pidfd.as_fd()).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    }

    fn readable(fd: &OwnedFd, timeout_ms: libc::c_int) -> bool {
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `poll` is one live pollfd.
        unsafe { libc::poll(&raw mut poll, 1, timeout_ms) == 1 }
    }
}
