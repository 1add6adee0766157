//! Random bytes of the kernel, for nonces, secrets and identities.

use std::fs::File;
use std::io::{self, Read as _};

/// Returns `N` fresh random bytes. Reads the kernel's generator, which never blocks after boot.
///
/// # Errors
///
/// The kernel's, where `/dev/urandom` is missing from the container: provide it.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
