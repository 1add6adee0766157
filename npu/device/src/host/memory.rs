//! Memory of the host backend: files of their own for device memory, pages for locked memory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::capability::MemoryUse;
use crate::driver::{Answer, Entry, ImportHandle};
use crate::error::DeviceError;

#[derive(Debug, Default)]
struct Ranges {
    /// Device memory by address: its length and the file behind it.
    device: BTreeMap<usize, (usize, File)>,
    used: u64,
    /// Locked host ranges by address.
    host: BTreeMap<usize, usize>,
}

/// What one card has.
#[derive(Debug)]
pub(super) struct Blocks {
    limit: u64,
    ranges: Mutex<Ranges>,
}

/// Bytes of a page of this machine.
pub(super) fn page_bytes() -> usize {
    // SAFETY: sysconf takes a number and has no conditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

fn failed(call: &'static str) -> DeviceError {
    let error = std::io::Error::last_os_error();
    let text = format!(": {error}").into_boxed_str();
    DeviceError::Failed {
        call,
        code: error.raw_os_error().unwrap_or(0),
        text,
    }
}

/// Maps a file's first `len` bytes, shared; private pages without a file.
fn map(file: Option<&File>, len: usize) -> Option<usize> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let (flags, descriptor) = match file {
        Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
    };
    let null = std::ptr::null_mut();
    // SAFETY: a new mapping where the kernel likes takes nothing away from anybody.
    let at = unsafe { libc::mmap(null, len, protection, flags, descriptor, 0) };
    (at != libc::MAP_FAILED).then_some(at as usize)
}

fn unmap(address: usize, len: usize) {
    // SAFETY: callers pass an address and length that `map` gave, once.
    let code = unsafe { libc::munmap(address as *mut libc::c_void, len) };
    assert!(code == 0, "a mapping of ours can be undone");
}

/// Pages of this process, which pass for locked.
pub(super) fn allocate_pages(len: usize) -> Option<usize> {
    map(None, len)
}

/// Gives pages back.
pub(super) fn free_pages(address: usize, len: usize) {
    unmap(address, len);
}

/// Copies one entry.
///
/// # Safety
/// Both ranges are mapped, the destination writable, until this returns.
pub(super) unsafe fn copy(entry: &Entry) {
    let (from, to) = (entry.src as *const u8, entry.dst as *mut u8);
    // SAFETY: what the caller promises; ranges may overlap, as on a card.
    unsafe { std::ptr::copy(from, to, entry.len) };
}

/// Fills a range.
///
/// # Safety
/// The range is mapped and writable until this returns.
pub(super) unsafe fn fill(address: usize, len: usize, value: u8) {
    // SAFETY: what the caller promises.
    unsafe { std::ptr::write_bytes(address as *mut u8, value, len) };
}

impl Blocks {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            ranges: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ranges> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn memory_use(&self) -> MemoryUse {
        let used = self.lock().used;
        MemoryUse {
            free_bytes: self.limit - used,
            total_bytes: self.limit,
        }
    }

    /// Device memory: pages of a file that another process can open.
    pub(super) fn allocate(&self, len: usize) -> Answer<usize> {
        let full = DeviceError::DeviceMemory { bytes: len as u64 };
        let mut ranges = self.lock();
        if ranges
            .used
            .checked_add(len as u64)
            .is_none_or(|sum| sum > self.limit)
        {
            return Err(full);
        }
        // SAFETY: the name is a literal that ends with a zero.
        let descriptor = unsafe { libc::memfd_create(c"chariot-host".as_ptr(), libc::MFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(full);
        }
        // SAFETY: the descriptor was just made, and nobody else has it.
        let file = unsafe { File::from_raw_fd(descriptor) };
        if file.set_len(len as u64).is_err() {
            return Err(full);
        }
        let Some(address) = map(Some(&file), len) else {
            return Err(full);
        };
        ranges.used += len as u64;
        ranges.device.insert(address, (len, file));
        Ok(address)
    }

    pub(super) fn free(&self, address: usize) -> Answer<()> {
        let mut ranges = self.lock();
        let Some((len, file)) = ranges.device.remove(&address) else {
            return Err(DeviceError::misuse("a block that is not there"));
        };
        ranges.used -= len as u64;
        unmap(address, len);
        drop(file);
        Ok(())
    }

    pub(super) fn note_host(&self, address: usize, len: usize) -> usize {
        self.lock().host.insert(address, len);
        address
    }

    /// Notes a range unless it meets another.
    pub(super) fn register(&self, address: usize, len: usize) -> bool {
        let mut ranges = self.lock();
        let before = ranges.host.range(..address + len).next_back();
        if before.is_some_and(|(start, size)| start + size > address) {
            return false;
        }
        ranges.host.insert(address, len);
        true
    }

    /// Forgets a host range; returns its length.
    pub(super) fn forget_host(&self, address: usize) -> Answer<usize> {
        let len = self.lock().host.remove(&address);
        len.ok_or_else(|| DeviceError::misuse("a host range that is not there"))
    }

    /// Process, descriptor and length: enough to open the file behind a block.
    pub(super) fn export(&self, address: usize, len: usize) -> Answer<Vec<u8>> {
        let ranges = self.lock();
        let Some((whole, file)) = ranges.device.get(&address) else {
            return Err(DeviceError::misuse("a block that is not there"));
        };
        assert!(*whole == len, "blocks are exported whole");
        Ok(format!("{} {} {len}", std::process::id(), file.as_raw_fd()).into_bytes())
    }
}

/// The path and length that a key means.
fn parse_key(key: &[u8]) -> Option<(String, usize)> {
    let text = std::str::from_utf8(key).ok()?;
    let mut fields = text.split(' ').map(str::parse::<usize>);
    let (process, descriptor) = (fields.next()?.ok()?, fields.next()?.ok()?);
    let len = fields.next()?.ok().filter(|len| *len > 0)?;
    Some((format!("/proc/{process}/fd/{descriptor}"), len))
}

/// Maps what a key means.
pub(super) fn import(key: &[u8]) -> Answer<usize> {
    let (path, len) =
        parse_key(key).ok_or_else(|| DeviceError::misuse("no key of this backend"))?;
    let gone = |_| DeviceError::PeerBroken {
        call: "open",
        code: libc::ENOENT,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(gone)?;
    // A number that now means another file would be shorter, or no file of ours at all.
    let size = file.metadata().map_err(gone)?.len();
    if size != len as u64 {
        return Err(DeviceError::PeerBroken {
            call: "stat",
            code: libc::ESTALE,
        });
    }
    map(Some(&file), len).ok_or_else(|| failed("mmap"))
}

/// Ends an import.
pub(super) fn import_close(import: &ImportHandle) -> Answer<()> {
    let (_, len) = parse_key(&import.key).ok_or_else(|| DeviceError::misuse("no such import"))?;
    unmap(import.address, len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_nobody_made_are_refused() {
        for bad in [&b"1 2"[..], b"1 2 0", b"a b c", b"\xff", b""] {
            assert!(
                matches!(import(bad), Err(DeviceError::Misuse { .. })),
                "{bad:?}"
            );
        }
        let gone = import(b"1 9999 64");
        assert!(
            matches!(gone, Err(DeviceError::PeerBroken { .. })),
            "{gone:?}"
        );
    }

    #[test]
    fn ranges_that_meet_are_not_registered_twice() {
        let blocks = Blocks::new(0);
        assert!(blocks.register(0x1000, 0x1000));
        assert!(!blocks.register(0x1fff, 1));
        assert!(!blocks.register(0x0, 0x1001));
        assert!(blocks.register(0x2000, 0x1000));
        assert_eq!(blocks.forget_host(0x1000), Ok(0x1000));
        assert!(blocks.register(0x1000, 0x800));
    }
}
