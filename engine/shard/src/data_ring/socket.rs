//! Operations on sockets: receive, send, gather, accept, connect.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::{opcode, squeue, types};

use super::op::Op;
use super::slots::Keep;
use super::{DataRing, IoFd, IoSpan, RingError};
use crate::limits::{GATHER_MAX, IO_MAX_BYTES};

/// One piece of a gathered send.
#[derive(Debug)]
pub enum Piece {
    /// Private bytes: a frame's header and body.
    Bytes(Vec<u8>),
    /// A range of shared memory: the payload.
    Span(IoSpan),
}

impl DataRing {
    /// Receives exactly `span.len()` bytes into `span`.
    ///
    /// Dropping the future cancels the receive; bytes that came by then are lost to the stream, so
    /// the caller closes the connection.
    ///
    /// # Errors
    /// [`RingError::EndOfStream`] when the peer closes before; [`RingError::Failed`] otherwise.
    pub async fn recv_exact(&self, fd: &IoFd, span: IoSpan) -> Result<(), RingError> {
        let wanted = span.len();
        let mut received = 0;
        while received < wanted {
            let len = (wanted - received).min(IO_MAX_BYTES);
            let part = span.slice(received, len);
            let entry = recv_entry(fd, part.as_ptr().as_ptr(), len, libc::MSG_WAITALL);
            let (result, _) = Op::new(&self.data, entry, Keep::Span(fd.clone(), part)).await;
            match count_of("recv", result)? {
                Some(0) => return Err(RingError::EndOfStream { received, wanted }),
                Some(count) => received += count,
                None => {},
            }
        }
        Ok(())
    }

    /// Receives at least one byte and at most `span.len()`; 0 when the peer has closed.
    ///
    /// # Errors
    /// [`RingError::Failed`].
    pub async fn recv_some(&self, fd: &IoFd, span: IoSpan) -> Result<usize, RingError> {
        let len = span.len().min(IO_MAX_BYTES);
        loop {
            let entry = recv_entry(fd, span.as_ptr().as_ptr(), len, 0);
            let (result, _) =
                Op::new(&self.data, entry, Keep::Span(fd.clone(), span.clone())).await;
            if let Some(count) = count_of("recv", result)? {
                return Ok(count);
            }
        }
    }

    /// Receives into `buffer[from..]` until it is full, and gives the buffer back.
    ///
    /// # Errors
    /// As [`Self::recv_exact`]; the buffer comes back with what had come by then.
    ///
    /// # Panics
    /// When `from` lies beyond the buffer.
    pub async fn recv_exact_bytes(
        &self,
        fd: &IoFd,
        mut buffer: Vec<u8>,
        from: usize,
    ) -> (Result<(), RingError>, Vec<u8>) {
        let wanted = buffer.len() - from;
        let mut received = 0;
        while received < wanted {
            let (result, held) = self
                .recv_bytes(fd, buffer, from + received, libc::MSG_WAITALL)
                .await;
            buffer = held;
            match result {
                Ok(Some(0)) => {
                    return (Err(RingError::EndOfStream { received, wanted }), buffer);
                },
                Ok(Some(count)) => received += count,
                Ok(None) => {},
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Receives at least one byte into `buffer[from..]`; 0 when the peer has closed.
    ///
    /// # Errors
    /// [`RingError::Failed`].
    ///
    /// # Panics
    /// When `from` lies beyond the buffer.
    pub async fn recv_some_bytes(
        &self,
        fd: &IoFd,
        mut buffer: Vec<u8>,
        from: usize,
    ) -> (Result<usize, RingError>, Vec<u8>) {
        loop {
            let (result, held) = self.recv_bytes(fd, buffer, from, 0).await;
            buffer = held;
            match result {
                Ok(Some(count)) => return (Ok(count), buffer),
                Ok(None) => {},
                Err(error) => return (Err(error), buffer),
            }
        }
    }

    async fn recv_bytes(
        &self,
        fd: &IoFd,
        mut buffer: Vec<u8>,
        from: usize,
        flags: libc::c_int,
    ) -> (Result<Option<usize>, RingError>, Vec<u8>) {
        let rest = &mut buffer[from..];
        let entry = recv_entry(fd, rest.as_mut_ptr(), rest.len().min(IO_MAX_BYTES), flags);
        let (result, keep) = Op::new(&self.data, entry, Keep::Bytes(fd.clone(), buffer)).await;
        (count_of("recv", result), keep.into_bytes())
    }

    /// Sends all of `span`. The peer's closing is an error, never a signal.
    ///
    /// Dropping the future may leave a part sent: the caller closes the connection.
    ///
    /// # Errors
    /// [`RingError::Failed`].
    pub async fn send_all(&self, fd: &IoFd, span: IoSpan) -> Result<(), RingError> {
        let mut sent = 0;
        while sent < span.len() {
            let len = (span.len() - sent).min(IO_MAX_BYTES);
            let part = span.slice(sent, len);
            let entry = send_entry(fd, part.as_ptr().as_ptr(), len);
            let (result, _) = Op::new(&self.data, entry, Keep::Span(fd.clone(), part)).await;
            sent += count_of("send", result)?.unwrap_or(0);
        }
        Ok(())
    }

    /// Sends all of `buffer` and gives it back.
    ///
    /// # Errors
    /// [`RingError::Failed`].
    pub async fn send_all_bytes(
        &self,
        fd: &IoFd,
        mut buffer: Vec<u8>,
    ) -> (Result<(), RingError>, Vec<u8>) {
        let mut sent = 0;
        while sent < buffer.len() {
            let rest = &buffer[sent..];
            let entry = send_entry(fd, rest.as_ptr(), rest.len().min(IO_MAX_BYTES));
            let (result, keep) = Op::new(&self.data, entry, Keep::Bytes(fd.clone(), buffer)).await;
            buffer = keep.into_bytes();
            match count_of("send", result) {
                Ok(count) => sent += count.unwrap_or(0),
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Sends all pieces in order with as few system calls as the socket takes: a reply's frame and
    /// its payload leave together, uncopied.
    ///
    /// # Errors
    /// [`RingError::Failed`].
    ///
    /// # Panics
    /// When there are more than 64 pieces.
    pub async fn send_gather(&self, fd: &IoFd, pieces: Vec<Piece>) -> Result<(), RingError> {
        assert!(
            pieces.len() <= GATHER_MAX,
            "a gathered send has at most {GATHER_MAX} pieces"
        );
        let mut gather = Box::new(Gather::new(pieces));
        while let Some(message) = gather.rest() {
            let entry = opcode::SendMsg::new(types::Fd(fd.raw()), message)
                .flags(libc::MSG_NOSIGNAL.cast_unsigned())
                .build();
            let (result, keep) = Op::new(&self.data, entry, Keep::Gather(fd.clone(), gather)).await;
            gather = keep.into_gather();
            gather.advance(count_of("sendmsg", result)?.unwrap_or(0));
        }
        Ok(())
    }

    /// Accepts one connection; the descriptor is closed on exec.
    ///
    /// # Errors
    /// [`RingError::Failed`]; a full descriptor table (`EMFILE`) among them.
    pub async fn accept(&self, listener: &IoFd) -> Result<IoFd, RingError> {
        loop {
            let nowhere = std::ptr::null_mut();
            let entry =
                opcode::Accept::new(types::Fd(listener.raw()), nowhere, std::ptr::null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build();
            let (result, _) = Op::new(&self.data, entry, Keep::Accept(listener.clone())).await;
            match result? {
                raw if raw >= 0 => {
                    // SAFETY: the kernel has just returned this descriptor to this operation alone.
                    return Ok(IoFd::new(unsafe { OwnedFd::from_raw_fd(raw) }));
                },
                result if is_transient(result) || result == -libc::ECONNABORTED => {},
                result => {
                    return Err(RingError::Failed {
                        operation: "accept",
                        errno: -result,
                    });
                },
            }
        }
    }

    /// Connects to `address` by TCP.
    ///
    /// # Errors
    /// [`RingError::Failed`].
    pub async fn connect(&self, address: SocketAddr) -> Result<IoFd, RingError> {
        let failed = |error: &io::Error| RingError::Failed {
            operation: "socket",
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        };
        let fd = tcp_socket(&address).map_err(|error| failed(&error))?;
        let target = Box::new(RawAddress::new(address));
        let entry =
            opcode::Connect::new(types::Fd(fd.raw()), target.as_ptr(), target.len()).build();
        let (result, _) = Op::new(&self.data, entry, Keep::Other(fd.clone(), target)).await;
        match result? {
            0 => Ok(fd),
            result => Err(RingError::Failed {
                operation: "connect",
                errno: -result,
            }),
        }
    }
}

fn recv_entry(fd: &IoFd, to: *mut u8, len: usize, flags: libc::c_int) -> squeue::Entry {
    let len = u32::try_from(len).expect("at most IO_MAX_BYTES");
    opcode::Recv::new(types::Fd(fd.raw()), to, len)
        .flags(flags)
        .build()
}

fn send_entry(fd: &IoFd, from: *const u8, len: usize) -> squeue::Entry {
    let len = u32::try_from(len).expect("at most IO_MAX_BYTES");
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    opcode::Send::new(types::Fd(fd.raw()), from, len)
        .flags(flags)
        .build()
}

fn is_transient(result: i32) -> bool {
    result == -libc::EINTR
}

/// Turns a raw result into a count; `None` means: try again.
pub(super) fn count_of(
    operation: &'static str,
    result: Result<i32, RingError>,
) -> Result<Option<usize>, RingError> {
    let result = result?;
    match usize::try_from(result) {
        Ok(count) => Ok(Some(count)),
        Err(_) if is_transient(result) => Ok(None),
        Err(_) => Err(RingError::Failed {
            operation,
            errno: -result,
        }),
    }
}

fn tcp_socket(address: &SocketAddr) -> io::Result<IoFd> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    // SAFETY: socket(2) takes three integers and no memory.
    let raw = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was returned by socket(2) just now, is open, and has no other owner.
    Ok(IoFd::new(unsafe { OwnedFd::from_raw_fd(raw) }))
}

/// A socket address as the kernel reads it.
pub(crate) enum RawAddress {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl RawAddress {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let family = |family: libc::c_int| libc::sa_family_t::try_from(family).expect("small");
        match address {
            SocketAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: address.port().to_be(),
                // Octets lie in memory in network order whatever the host's is.
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*address.ip()).to_be(),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            }),
        }
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        match self {
            Self::V4(address) => (&raw const *address).cast(),
            Self::V6(address) => (&raw const *address).cast(),
        }
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        let size = match self {
            Self::V4(_) => size_of::<libc::sockaddr_in>(),
            Self::V6(_) => size_of::<libc::sockaddr_in6>(),
        };
        libc::socklen_t::try_from(size).expect("a few bytes")
    }
}

/// The pieces of a gathered send, and how far it has come. Boxed: the kernel reads it in place.
pub(super) struct Gather {
    pieces: Vec<Piece>,
    vectors: Vec<libc::iovec>,
    /// First vector that is not all sent.
    next: usize,
    message: libc::msghdr,
}

impl Gather {
    fn new(mut pieces: Vec<Piece>) -> Self {
        let vectors = pieces
            .iter_mut()
            .map(|piece| match piece {
                Piece::Bytes(bytes) => libc::iovec {
                    iov_base: bytes.as_mut_ptr().cast(),
                    iov_len: bytes.len(),
                },
                Piece::Span(span) => libc::iovec {
                    iov_base: span.as_ptr().as_ptr().cast(),
                    iov_len: span.len(),
                },
            })
            .collect();
        // SAFETY: a msghdr is integers and pointers; all zeros is the valid empty message.
        let message = unsafe { std::mem::zeroed() };
        Self {
            pieces,
            vectors,
            next: 0,
            message,
        }
    }

    /// Returns the message of what is not sent yet; `None` when all is. Valid until `self` changes.
    fn rest(&mut self) -> Option<*const libc::msghdr> {
        while self
            .vectors
            .get(self.next)
            .is_some_and(|vector| vector.iov_len == 0)
        {
            self.next += 1;
        }
        let rest = &mut self.vectors[self.next..];
        if rest.is_empty() {
            return None;
        }
        self.message.msg_iov = rest.as_mut_ptr();
        #[cfg_attr(
            target_env = "gnu",
            expect(clippy::useless_conversion, reason = "musl differs")
        )]
        {
            self.message.msg_iovlen = rest.len().try_into().expect("at most GATHER_MAX");
        }
        Some(&raw const self.message)
    }

    fn advance(&mut self, mut count: usize) {
        for vector in &mut self.vectors[self.next..] {
            let taken = count.min(vector.iov_len);
            vector.iov_base = vector.iov_base.wrapping_byte_add(taken);
            vector.iov_len -= taken;
            count -= taken;
            if count == 0 {
                break;
            }
        }
        assert_eq!(count, 0, "the kernel sends no more than it was given");
        debug_assert!(self.pieces.len() == self.vectors.len());
    }
}
