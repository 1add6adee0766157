//! Descriptors that are made once, off the data path: listeners that shards share, bells that
//! clients ring.
//!
//! Lives on: control thread.

use std::ffi::CString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::data_ring::RawAddress;

/// Connections that wait to be accepted, per listener; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: libc::c_int = 1024;

/// Listens on an address that every shard of the process listens on, too (`SO_REUSEPORT`): the
/// kernel spreads connections over them. The descriptor is closed on exec and in blocking mode, as
/// the data ring wants it.
///
/// # Errors
/// The kernel's: the address is taken, or not this host's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: socket(2) takes no pointer; its result is checked.
    let raw = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` is a descriptor that the kernel has just made for this call alone.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_one(raw, libc::SO_REUSEADDR)?;
    set_one(raw, libc::SO_REUSEPORT)?;
    let name = RawAddress::new(address);
    // SAFETY: bind(2) reads `len()` bytes of the address, which lives until after the call.
    let bound = unsafe { libc::bind(raw, name.as_ptr(), name.len()) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: listen(2) takes no pointer; `raw` is open.
    if unsafe { libc::listen(raw, BACKLOG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpListener::from(socket))
}

fn set_one(raw: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let one: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("four bytes");
    // SAFETY: setsockopt(2) reads `size` bytes at the pointer: those of `one`, alive here.
    let failed =
        unsafe { libc::setsockopt(raw, libc::SOL_SOCKET, name, (&raw const one).cast(), size) };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the bell of a session on one shard: an eventfd that the client writes and the shard polls.
///
/// # Errors
/// The kernel's: no descriptor left.
pub fn session_bell() -> io::Result<OwnedFd> {
    crate::bell::eventfd(libc::EFD_NONBLOCK)
}

/// Returns how many bytes this user may still write where `path` lies.
///
/// # Errors
/// The kernel's: no such path.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a statvfs is integers; all zeros is a valid one.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: statvfs(3) reads the path up to its zero and writes one statvfs, both alive here.
    let failed = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(found.f_bavail * found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listeners_share_an_address_and_a_stranger_is_told() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let second = listen(address).unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
        assert!(
            TcpListener::bind(address).is_err(),
            "without the option it is taken"
        );
        assert!(
            listen("192.0.2.1:1".parse().unwrap()).is_err(),
            "not an address of this host"
        );
    }
}
