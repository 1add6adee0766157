//! Links of the host backend: a socket between two ends, of one process or two.
//!
//! The first end listens under a name that nobody can guess; the invitation is that name. A pair is
//! the length, from both ends, then the bytes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::driver::{Answer, CommHandle, Way};
use crate::error::DeviceError;

/// How often a blocked end looks at whether it was aborted.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes that go through the bounce buffer at once.
const CHUNK: usize = 256 << 10;
/// Most invitations that nobody followed up.
const LISTENERS_MAX: usize = 256;

/// One end of a link.
#[derive(Debug)]
pub(super) struct Socket(UnixStream);

fn broken(call: &'static str, error: &std::io::Error) -> DeviceError {
    DeviceError::PeerBroken {
        call,
        code: error.raw_os_error().unwrap_or(0),
    }
}

impl Socket {
    /// Repeats a socket call while it only came to its look-around time.
    fn patient(
        call: &'static str,
        stopped: &dyn Fn() -> bool,
        mut attempt: impl FnMut() -> std::io::Result<usize>,
    ) -> Answer<usize> {
        loop {
            match attempt() {
                Ok(0) => {
                    return Err(DeviceError::PeerBroken {
                        call,
                        code: libc::EPIPE,
                    });
                },
                Ok(count) => return Ok(count),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {},
                    _ => return Err(broken(call, &error)),
                },
            }
            if stopped() {
                return Err(DeviceError::Aborted);
            }
        }
    }

    fn write(&self, mut bytes: &[u8], stopped: &dyn Fn() -> bool) -> Answer<()> {
        while !bytes.is_empty() {
            let count = Self::patient("write", stopped, || (&self.0).write(bytes))?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn read(&self, mut bytes: &mut [u8], stopped: &dyn Fn() -> bool) -> Answer<()> {
        while !bytes.is_empty() {
            let count = Self::patient("read", stopped, || (&self.0).read(bytes))?;
            bytes = &mut bytes[count..];
        }
        Ok(())
    }

    /// Does one half of a pair. An error leaves the link out of step, so it is closed.
    ///
    /// # Safety
    /// `[address, address + len)` is mapped, and writable for a receive, until this returns.
    pub(super) unsafe fn run(
        &self,
        way: Way,
        address: usize,
        len: usize,
        stopped: &dyn Fn() -> bool,
    ) -> Answer<()> {
        // SAFETY: what the caller promises.
        let outcome = unsafe { self.pair(way, address, len, stopped) };
        if outcome.is_err() {
            drop(self.0.shutdown(std::net::Shutdown::Both));
        }
        outcome
    }

    /// # Safety
    /// As for `run`.
    unsafe fn pair(
        &self,
        way: Way,
        address: usize,
        len: usize,
        stopped: &dyn Fn() -> bool,
    ) -> Answer<()> {
        let mut head = [0; 9];
        head[0] = u8::from(way == Way::Send);
        head[1..].copy_from_slice(&(len as u64).to_le_bytes());
        self.write(&head, stopped)?;
        let mut theirs = [0; 9];
        self.read(&mut theirs, stopped)?;
        if theirs[0] == head[0] || theirs[1..] != head[1..] {
            return Err(DeviceError::PeerBroken {
                call: "pair",
                code: libc::EPROTO,
            });
        }
        // Through a buffer, so that no reference over device memory is formed.
        let mut bounce = vec![0; CHUNK.min(len)];
        let mut at = 0;
        while at < len {
            let part = &mut bounce[..CHUNK.min(len - at)];
            if way == Way::Send {
                let from = (address + at) as *const u8;
                // SAFETY: inside the range that the caller keeps; the buffer is our own.
                unsafe { std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), part.len()) };
                self.write(part, stopped)?;
            } else {
                self.read(part, stopped)?;
                let to = (address + at) as *mut u8;
                // SAFETY: the other way round, inside the same range.
                unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len()) };
            }
            at += part.len();
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Ends {
    last: usize,
    listeners: BTreeMap<Vec<u8>, UnixListener>,
    sockets: BTreeMap<usize, Arc<Socket>>,
}

/// Links of one card.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Ends>);

impl Links {
    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn root_info(&self) -> Answer<Vec<u8>> {
        let full = DeviceError::Full {
            what: "invitations",
        };
        let mut ends = self.lock();
        if ends.listeners.len() >= LISTENERS_MAX {
            return Err(full);
        }
        let numbers = [0_u64, 1].map(|salt| RandomState::new().hash_one(salt));
        let name = format!("chariot-link-{:016x}{:016x}", numbers[0], numbers[1]).into_bytes();
        let listener = SocketAddr::from_abstract_name(&name)
            .and_then(|address| UnixListener::bind_addr(&address));
        let Ok(listener) = listener else {
            return Err(full);
        };
        ends.listeners.insert(name.clone(), listener);
        Ok(name)
    }

    pub(super) fn meet(&self, root: &[u8], rank: u32, most: Duration) -> Answer<CommHandle> {
        let until = Instant::now() + most;
        let socket = if rank == 0 {
            let listener = self.lock().listeners.remove(root);
            let listener = listener.ok_or_else(|| DeviceError::misuse("no invitation of ours"))?;
            accept(&listener, until)?
        } else {
            connect(root)?
        };
        let timeouts = socket
            .set_read_timeout(Some(LOOK))
            .and_then(|()| socket.set_write_timeout(Some(LOOK)));
        timeouts.map_err(|error| broken("setsockopt", &error))?;
        let mut ends = self.lock();
        ends.last += 1;
        let id = ends.last;
        ends.sockets.insert(id, Arc::new(Socket(socket)));
        Ok(CommHandle { raw: id, rank })
    }

    pub(super) fn socket(&self, comm: &CommHandle) -> Answer<Arc<Socket>> {
        let found = self.lock().sockets.get(&comm.raw).cloned();
        found.ok_or_else(|| DeviceError::misuse("a link that is not there"))
    }

    pub(super) fn destroy(&self, comm: &CommHandle) {
        self.lock().sockets.remove(&comm.raw);
    }
}

/// Waits for the other end.
fn accept(listener: &UnixListener, until: Instant) -> Answer<UnixStream> {
    use std::os::fd::AsRawFd;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(DeviceError::Timeout {
                what: "the other end of a link",
            });
        }
        let (fd, events) = (listener.as_raw_fd(), libc::POLLIN);
        let mut wanted = libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        let most = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: one entry, a local, and the count says so.
        let ready = unsafe { libc::poll(&raw mut wanted, 1, most) };
        if ready > 0 {
            let accepted = listener.accept().map(|(socket, _)| socket);
            return accepted.map_err(|error| broken("accept", &error));
        }
    }
}

/// The listener was there before the invitation was: one attempt.
fn connect(root: &[u8]) -> Answer<UnixStream> {
    let socket =
        SocketAddr::from_abstract_name(root).and_then(|address| UnixStream::connect_addr(&address));
    socket.map_err(|error| broken("connect", &error))
}
