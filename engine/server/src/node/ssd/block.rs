//! Block devices under the SSD tier: what may be taken, and what is somebody else's.
//!
//! A device is opened `O_EXCL`: the kernel refuses it while a file system, a swap area, a RAID or
//! another daemon holds it, and refuses them while we do. Besides, a device counts as blank only
//! when its first MiB and its last 128 KiB are zeros: file systems, volume managers and partition
//! tables have their marks there (btrfs at 64 KiB, ZFS in both, RAID 1.0 and GPT at the end).
//!
//! I/O is in blocks of 4 KiB whatever the device says, which suits logical blocks of 512 bytes and
//! of 4 KiB; larger ones are refused.
//!
//! Lives on: control thread; it blocks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use chariot_shard::DIRECT_ALIGN;

use super::{LOCK_PATIENCE, failed, pause, refused};
use crate::seam::StartError;

/// Bytes at the beginning that must be zeros.
const FIRST_BYTES: u64 = 1 << 20;
/// Bytes at the end that must be zeros: RAID 0.90 has its mark up to 128 KiB before it.
const LAST_BYTES: u64 = 128 << 10;
/// Bytes looked at together; both of the above are multiples.
const STEP_BYTES: usize = 64 << 10;

/// What a block device under the SSD tier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SsdDevice {
    /// Its path.
    pub path: PathBuf,
    /// Its bytes.
    pub size_bytes: u64,
    /// Its logical block in bytes; 0 where the kernel does not tell.
    pub block_bytes: u32,
    /// Whether it holds a partition of ours, else nothing.
    pub is_ours: bool,
    /// Whether somebody holds it, a running daemon or a mount.
    pub is_in_use: bool,
}

/// Looks at a device; nothing is written.
pub(super) fn examine(path: &Path) -> Result<SsdDevice, StartError> {
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    let size_bytes =
        super::size_of(&file, true).map_err(|error| failed("measure", path, &error))?;
    let block_bytes = check_blocks(path)?;
    let mut options = OpenOptions::new();
    let alone = options.read(true).custom_flags(libc::O_EXCL).open(path);
    let is_in_use = alone.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
    if is_in_use && file.try_lock().is_ok() {
        return Err(in_use(path, &file));
    }
    let is_ours = super::is_ours(path, true)?;
    Ok(SsdDevice {
        path: path.to_owned(),
        size_bytes,
        block_bytes,
        is_ours,
        is_in_use,
    })
}

/// Opens a device for this process alone, past the page cache, waiting a moment for a daemon that
/// was killed.
pub(super) fn open_alone(path: &Path, plain: &File, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    options.custom_flags(libc::O_DIRECT | libc::O_EXCL);
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let opened = options.open(path);
        let is_busy = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
        // Who mounts a device does not lock it: that will not be over in a moment.
        let is_held = opened.as_ref().is_err_and(is_busy) && plain.try_lock().is_err();
        if !is_held || Instant::now() >= deadline {
            // A lock of `plain` would be in the way of the one of what was opened.
            plain.unlock()?;
            return opened;
        }
        pause();
    }
}

/// Why a device cannot be taken, by whether another daemon has locked it.
pub(super) fn in_use(path: &Path, file: &File) -> StartError {
    if file.try_lock().is_err() {
        let cause = format!("{} is used by another daemon", path.display());
        return refused(cause, "give each daemon an --ssd path of its own");
    }
    let cause = format!(
        "{} is mounted, or in use by swap, RAID or a volume",
        path.display()
    );
    let remedy = "give a device that nothing else uses with --ssd, or unmount it; lsblk says who \
                  has it";
    refused(cause, remedy)
}

/// Refuses a device without superblock in which anything else is.
pub(super) fn check_blank(path: &Path, file: &File, size_bytes: u64) -> Result<(), StartError> {
    let ends = [
        (0, FIRST_BYTES.min(size_bytes)),
        (size_bytes.saturating_sub(LAST_BYTES), size_bytes),
    ];
    for (start, end) in ends {
        let found = find_nonzero(file, start, end);
        if let Some(at) = found.map_err(|error| failed("read", path, &error))? {
            let cause = format!("{} holds something else at byte {at}", path.display());
            let remedy = "give another device, or wipe its first MiB and its last 128 KiB \
                          (wipefs --all, blkdiscard) if what it holds may go";
            return Err(refused(cause, remedy));
        }
    }
    Ok(())
}

fn find_nonzero(file: &File, start: u64, end: u64) -> io::Result<Option<u64>> {
    let mut bytes = vec![0; STEP_BYTES];
    let mut at = start;
    while at < end {
        let step = usize::try_from(end - at).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
        file.read_exact_at(&mut bytes[..step], at)?;
        if let Some(place) = bytes[..step].iter().position(|&byte| byte != 0) {
            return Ok(Some(at + place as u64));
        }
        at += step as u64;
    }
    Ok(None)
}

/// Refuses a device whose logical blocks are larger than ours; returns their bytes.
pub(super) fn check_blocks(path: &Path) -> Result<u32, StartError> {
    let block_bytes = logical_block_bytes(path);
    if block_bytes as usize > DIRECT_ALIGN {
        let cause = format!(
            "{} has logical blocks of {block_bytes} bytes, the tier writes {DIRECT_ALIGN}",
            path.display()
        );
        let remedy = "format the device with logical blocks of 512 or 4,096 bytes, or make a file \
                      system on it and give its directory with --ssd";
        return Err(refused(cause, remedy));
    }
    Ok(block_bytes)
}

/// The device's logical block in bytes, of a partition that of its disk; 0: not told.
fn logical_block_bytes(path: &Path) -> u32 {
    let Ok(metadata) = std::fs::metadata(path) else {
        return 0;
    };
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    let own = format!("/sys/dev/block/{major}:{minor}");
    let places = ["queue", "../queue"].map(|queue| format!("{own}/{queue}/logical_block_size"));
    let mut texts = places
        .iter()
        .filter_map(|place| std::fs::read_to_string(place).ok());
    texts
        .next()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_mark_at_either_end_is_somebody_elses_and_one_between_is_not() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let size = 4 << 20;
        file.as_file().set_len(size).unwrap();
        let blank = |file: &tempfile::NamedTempFile| check_blank(file.path(), file.as_file(), size);
        blank(&file).unwrap();
        file.as_file().write_all_at(&[1], 2 << 20).unwrap();
        blank(&file).unwrap();
        // GPT, btrfs, RAID 0.90, RAID 1.0, the last byte.
        for at in [
            512,
            (64 << 10) + 64,
            size - (128 << 10),
            size - 8192,
            size - 1,
        ] {
            file.as_file().write_all_at(&[1], at).unwrap();
            let refused = blank(&file).unwrap_err();
            assert!(refused.cause.contains(&format!("byte {at}")), "{refused}");
            assert!(refused.remedy.contains("wipe"), "{refused}");
            file.as_file().write_all_at(&[0], at).unwrap();
        }
        file.flush().unwrap();
        blank(&file).unwrap();
    }

    #[test]
    fn a_file_that_is_no_device_has_no_logical_block() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(check_blocks(file.path()).unwrap(), 0);
    }
}
