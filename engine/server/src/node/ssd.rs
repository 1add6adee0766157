//! The files of the SSD tier: found, locked, checked and opened before any shard runs.
//!
//! A path is a directory, where each shard has a file `chariot-NNNN.ssd`, or a block device, of
//! which each shard takes one. All partitions that are found are given to every shard: those of
//! another shard count are read by all and drained by cleaning. Nothing that is not ours, newer, or
//! of another node is written to; the refusal says what to do.
//!
//! Lives on: control thread; it blocks. Neighbour: `ssd/block.rs` knows block devices.

mod block;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chariot_base::ShardId;
use chariot_proto::KeySecret;
use chariot_shard::{AlignedBuffer, DIRECT_ALIGN};
use chariot_ssd::{
    Admission, Found, Identity, PartitionShape, SUPERBLOCK_READ_BYTES, SsdOptions, Superblock,
    reconcile,
};

use crate::control::random;
use crate::seam::{SsdTierOptions, StartError};

pub use block::SsdDevice;

/// How long a start waits for a partition: a killed daemon has died a moment before the kernel has
/// ended the last operation of its rings, which hold the file and its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits between two looks.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What one shard gets.
#[derive(Debug)]
pub(crate) struct ShardPartitions {
    /// Every partition of the node.
    pub(crate) shapes: Vec<PartitionShape>,
    /// Their files, by number of the partition.
    pub(crate) files: Vec<(u16, File)>,
}

/// All partitions of a node.
#[derive(Debug)]
pub(crate) struct Partitions {
    /// What the partitions agree on.
    pub(crate) identity: Identity,
    boot_id: [u8; 16],
    all: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    shape: PartitionShape,
    file: File,
}

/// A partition that was found or is to be made.
struct Candidate {
    path: PathBuf,
    /// By its name; a device has the number that its superblock says, or its place in the list.
    number: u16,
    file: File,
    size_bytes: u64,
    found: Found,
    is_device: bool,
}

fn refused(cause: impl Into<String>, remedy: impl Into<String>) -> StartError {
    StartError {
        cause: cause.into(),
        remedy: remedy.into(),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StartError {
    refused(
        format!("cannot {what} {}: {error}", path.display()),
        "give a directory or block devices that this user may read and write with --ssd",
    )
}

impl Partitions {
    /// Opens everything that `options` name, for `shard_count` shards.
    pub(crate) fn open(options: &SsdTierOptions, shard_count: u16) -> Result<Self, StartError> {
        let candidates = find(options, shard_count)?;
        let known: Vec<Superblock> = candidates
            .iter()
            .filter_map(|candidate| match candidate.found {
                Found::Ours(superblock) => Some(superblock),
                Found::Blank => None,
            })
            .collect();
        let agreed = reconcile(&known)
            .map_err(|error| refused(error.to_string(), "list the paths of one node with --ssd"))?;
        let identity = match agreed {
            Some(identity) => identity,
            None => fresh_identity()
                .map_err(|error| refused(format!("random bytes: {error}"), "allow getrandom(2)"))?,
        };
        let is_void = known.iter().any(|superblock| superblock.is_given_up);
        if is_void {
            tracing::warn!(
                "a partition was given up after errors at the last start, and tombstones with it: \
                 the SSD tier starts empty"
            );
        }
        let mut all = Vec::new();
        for mut candidate in candidates {
            if let Found::Ours(superblock) = &mut candidate.found
                && is_void
            {
                *superblock = superblock.renewed(random_format()?);
            }
            all.push(prepare(candidate, &identity, options, shard_count)?);
        }
        let boot_id = read_boot_id()
            .map_err(|error| refused(format!("the kernel's boot id: {error}"), "mount /proc"))?;
        Ok(Self {
            identity,
            boot_id,
            all,
        })
    }

    /// What one shard needs of them.
    pub(crate) fn for_shard(&self) -> io::Result<ShardPartitions> {
        let mut files = Vec::new();
        for partition in &self.all {
            files.push((partition.shape.partition, partition.file.try_clone()?));
        }
        Ok(ShardPartitions {
            shapes: self.all.iter().map(|partition| partition.shape).collect(),
            files,
        })
    }

    /// The options of one shard's store.
    pub(crate) fn store_options(
        &self,
        shard: ShardId,
        shard_count: u16,
        options: &SsdTierOptions,
    ) -> SsdOptions {
        SsdOptions {
            admission: if options.second_hit {
                Admission::SecondHit
            } else {
                Admission::Always
            },
            day_budget_bytes: options.day_bytes / u64::from(shard_count),
            promote_on_hit: options.promote_hits,
            flush_interval: options.flush,
            clean_bytes_per_s: (options.clean_bytes_per_s / u64::from(shard_count)).max(1 << 20),
            ..SsdOptions::new(shard, shard_count, self.identity.next_epoch, self.boot_id)
        }
    }
}

/// The secret of a tenant's key hashes: the same at every start over the same partitions.
pub(crate) fn tenant_secret(secret: &[u8; 32], tenant: &str) -> KeySecret {
    let label = format!("chariot tenant {tenant}");
    let derived = chariot_proto::auth::make_proof(secret, &[0; 32], label.as_bytes());
    let (half, _) = derived.split_first_chunk().expect("32 bytes hold 16");
    KeySecret(*half)
}

fn fresh_identity() -> io::Result<Identity> {
    Ok(Identity {
        node: random::bytes()?,
        secret: random::bytes()?,
        next_epoch: 1,
    })
}

fn random_format() -> Result<[u8; 16], StartError> {
    random::bytes().map_err(|error| refused(format!("random bytes: {error}"), "allow getrandom(2)"))
}

fn read_boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(id.to_be_bytes())
}

fn name_of(number: u16) -> String {
    format!("chariot-{number:04}.ssd")
}

fn number_of(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("chariot-")?.strip_suffix(".ssd")?;
    let number = digits.parse().ok()?;
    (name_of(number) == name).then_some(number)
}

/// Finds the partitions that are there, and those that are to be made.
fn find(options: &SsdTierOptions, shard_count: u16) -> Result<Vec<Candidate>, StartError> {
    let mut directories = Vec::new();
    let mut devices = Vec::new();
    for path in &options.paths {
        let kind = std::fs::metadata(path).map_err(|error| failed("look at", path, &error))?;
        if kind.is_dir() {
            directories.push(path.clone());
        } else if kind.file_type().is_block_device() {
            devices.push(path.clone());
        } else {
            let cause = format!(
                "{} is neither a directory nor a block device",
                path.display()
            );
            return Err(refused(
                cause,
                "name directories or block devices with --ssd",
            ));
        }
    }
    if devices.is_empty() {
        return find_files(&directories, shard_count);
    }
    if !directories.is_empty() || devices.len() < usize::from(shard_count) {
        let cause = format!(
            "{} block devices and {} directories for {shard_count} shards",
            devices.len(),
            directories.len()
        );
        let remedy = "give at least one block device for each shard and nothing else, or \
                      directories";
        return Err(refused(cause, remedy));
    }
    let mut candidates = Vec::new();
    for (place, path) in (0_u16..).zip(&devices) {
        let mut candidate = look(path.clone(), place, true)?;
        if let Found::Ours(superblock) = candidate.found {
            candidate.number = superblock.partition;
        }
        candidates.push(candidate);
    }
    let mut numbers: Vec<u16> = candidates.iter().map(|one| one.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() < candidates.len() {
        let cause = "two of the block devices have the same number";
        return Err(refused(
            cause,
            "list them in the order of their first start",
        ));
    }
    check_complete(
        &candidates,
        "wipe the others with blkdiscard or dd: the node starts with an empty tier",
    )?;
    Ok(candidates)
}

/// Refuses a start without a partition that was there at the last one: what it holds would be
/// missing, and come back with its old versions and deleted keys when it is found again.
fn check_complete(found: &[Candidate], last_resort: &str) -> Result<(), StartError> {
    let superblocks = found.iter().filter_map(|candidate| match candidate.found {
        Found::Ours(superblock) => Some((superblock.shard_count, &candidate.path)),
        Found::Blank => None,
    });
    let Some((count, path)) = superblocks.max_by_key(|(count, _)| *count) else {
        return Ok(());
    };
    let is_there = |number| found.iter().any(|candidate| candidate.number == number);
    let Some(missing) = (0..count).find(|&number| !is_there(number)) else {
        return Ok(());
    };
    let cause = format!(
        "{} was written by a node of {count} shards, and partition {missing} of it is not there",
        path.display()
    );
    let remedy = format!(
        "mount or list with --ssd what holds {}; if it is lost for good, {last_resort}",
        name_of(missing)
    );
    Err(refused(cause, remedy))
}

fn find_files(directories: &[PathBuf], shard_count: u16) -> Result<Vec<Candidate>, StartError> {
    let mut paths: Vec<(u16, PathBuf)> = Vec::new();
    for directory in directories {
        let list =
            std::fs::read_dir(directory).map_err(|error| failed("list", directory, &error))?;
        for entry in list {
            let entry = entry.map_err(|error| failed("list", directory, &error))?;
            if let Some(number) = entry.file_name().to_str().and_then(number_of) {
                paths.push((number, entry.path()));
            }
        }
    }
    paths.sort();
    if let Some(pair) = paths.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let cause = format!(
            "{} and {} have one number",
            pair[0].1.display(),
            pair[1].1.display()
        );
        return Err(refused(cause, "move one of them away"));
    }
    let candidates = paths
        .into_iter()
        .map(|(number, path)| look(path, number, false));
    let mut candidates: Vec<Candidate> = candidates.collect::<Result<_, _>>()?;
    // Before anything is made: a refusal leaves the directories as they were.
    check_complete(
        &candidates,
        "remove the other chariot-NNNN.ssd files: the node starts with an empty tier",
    )?;
    for number in 0..shard_count {
        if !candidates.iter().any(|found| found.number == number) {
            let directory = &directories[usize::from(number) % directories.len()];
            candidates.push(look(directory.join(name_of(number)), number, false)?);
        }
    }
    candidates.sort_by_key(|candidate| candidate.number);
    Ok(candidates)
}

/// Locks a partition and reads what is in front.
fn look(path: PathBuf, number: u16, is_device: bool) -> Result<Candidate, StartError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(!is_device)
        .mode(0o600);
    let plain = options
        .open(&path)
        .map_err(|error| failed("open", &path, &error))?;
    options.create(false);
    let direct = if is_device {
        block::check_blocks(&path)?;
        block::open_alone(&path, &plain, &options)
    } else {
        options.custom_flags(libc::O_DIRECT).open(&path)
    };
    let file = match direct {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::warn!(path = %path.display(), "no O_DIRECT here: the page cache takes part");
            plain
                .try_clone()
                .map_err(|error| failed("open", &path, &error))?
        },
        Err(error) if is_device && error.raw_os_error() == Some(libc::EBUSY) => {
            return Err(block::in_use(&path, &plain));
        },
        Err(error) => return Err(failed("open", &path, &error)),
    };
    lock(&file, &path)?;
    let (found, size_bytes) = front_of(&path, &plain, is_device)?;
    Ok(Candidate {
        path,
        number,
        file,
        size_bytes,
        found,
        is_device,
    })
}

/// Locks a partition, waiting a moment for a daemon that was killed.
fn lock(file: &File, path: &Path) -> Result<(), StartError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => pause(),
            Err(TryLockError::WouldBlock) => {
                let cause = format!("{} is used by another daemon", path.display());
                return Err(refused(cause, "give each daemon an --ssd path of its own"));
            },
            Err(TryLockError::Error(error)) => return Err(failed("lock", path, &error)),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nobody tells when a lock is free again, and no shard runs before it is"
)]
fn pause() {
    std::thread::sleep(LOCK_PAUSE);
}

fn size_of(file: &File, is_device: bool) -> io::Result<u64> {
    if is_device {
        return io::Seek::seek(&mut &*file, io::SeekFrom::End(0));
    }
    Ok(file.metadata()?.len())
}

fn read_front(file: &File, front: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < front.len() {
        match file.read_at(&mut front[done..], done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(())
}

/// Plans what is blank, and tries the way that the shards will read.
fn prepare(
    candidate: Candidate,
    identity: &Identity,
    options: &SsdTierOptions,
    shard_count: u16,
) -> Result<Partition, StartError> {
    let Candidate {
        path, number, file, ..
    } = candidate;
    let superblock = match candidate.found {
        Found::Ours(superblock) if superblock.partition == number => superblock,
        Found::Ours(superblock) => {
            let cause = format!(
                "{} is partition {} by what it says",
                path.display(),
                superblock.partition
            );
            return Err(refused(cause, "give it its old name back"));
        },
        Found::Blank => {
            let share = options.size_bytes / u64::from(shard_count);
            let size_bytes = if candidate.is_device {
                share.min(candidate.size_bytes)
            } else {
                share
            };
            let format = random_format()?;
            let segment_bytes = options.segment_bytes;
            Superblock::plan(identity, format, number, size_bytes, segment_bytes)
                .map_err(|error| refused(error.to_string(), "give more with --ssd-size"))?
        },
    };
    if !candidate.is_device && candidate.size_bytes < superblock.size_bytes() {
        file.set_len(superblock.size_bytes())
            .map_err(|error| failed("size", &path, &error))?;
    }
    let mut block = AlignedBuffer::new(DIRECT_ALIGN);
    file.read_exact_at(block.bytes_mut(), 0)
        .map_err(|error| failed("read in blocks of 4 KiB", &path, &error))?;
    Ok(Partition {
        shape: PartitionShape {
            partition: number,
            superblock,
        },
        file,
    })
}

/// What the paths of an SSD tier are good for, without touching them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SsdExamination {
    /// Partitions of ours that are there.
    pub partitions: usize,
    /// Bytes that are still to be taken from file systems.
    pub needed_bytes: u64,
    /// Bytes that the fullest of them has.
    pub free_bytes: u64,
    /// Whether every path takes direct I/O.
    pub is_direct: bool,
    /// The block devices among the paths.
    pub devices: Vec<SsdDevice>,
}

/// Looks at the paths of an SSD tier; nothing is made, locked or written.
///
/// # Errors
/// [`StartError`]: a path that cannot be used, with the remedy.
pub fn examine_ssd(
    options: &SsdTierOptions,
    shard_count: u16,
) -> Result<SsdExamination, StartError> {
    let mut examined = SsdExamination {
        free_bytes: u64::MAX,
        is_direct: true,
        ..SsdExamination::default()
    };
    for path in &options.paths {
        let kind = std::fs::metadata(path).map_err(|error| failed("look at", path, &error))?;
        if kind.is_dir() {
            examine_directory(path, &mut examined)?;
        } else {
            examined.is_direct &= opens_direct(path, 0);
            let is_device = kind.file_type().is_block_device();
            if is_device {
                let device = block::examine(path)?;
                examined.partitions += usize::from(device.is_ours);
                examined.devices.push(device);
            } else {
                examined.partitions += usize::from(is_ours(path, false)?);
            }
        }
    }
    let is_files = examined.free_bytes < u64::MAX;
    let missing = usize::from(shard_count).saturating_sub(examined.partitions) as u64;
    if is_files {
        examined.needed_bytes = options.size_bytes / u64::from(shard_count) * missing;
    }
    Ok(examined)
}

fn examine_directory(path: &Path, examined: &mut SsdExamination) -> Result<(), StartError> {
    let free = chariot_shard::free_bytes(path);
    let free = free.map_err(|error| failed("measure", path, &error))?;
    examined.free_bytes = examined.free_bytes.min(free);
    examined.is_direct &= opens_direct(path, libc::O_TMPFILE);
    for entry in std::fs::read_dir(path).map_err(|error| failed("list", path, &error))? {
        let entry = entry.map_err(|error| failed("list", path, &error))?;
        if entry.file_name().to_str().and_then(number_of).is_some() {
            examined.partitions += usize::from(is_ours(&entry.path(), false)?);
        }
    }
    Ok(())
}

fn opens_direct(path: &Path, flags: i32) -> bool {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
        .custom_flags(libc::O_DIRECT | flags)
        .open(path)
        .is_ok()
}

fn is_ours(path: &Path, is_device: bool) -> Result<bool, StartError> {
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    let found = front_of(path, &file, is_device)?.0;
    Ok(matches!(found, Found::Ours(_)))
}

/// Reads what is in front of a partition, and its size.
fn front_of(path: &Path, file: &File, is_device: bool) -> Result<(Found, u64), StartError> {
    let size_bytes = size_of(file, is_device).map_err(|error| failed("measure", path, &error))?;
    let mut front = vec![0; SUPERBLOCK_READ_BYTES as usize];
    read_front(file, &mut front).map_err(|error| failed("read", path, &error))?;
    let found = Superblock::read(&front, size_bytes).map_err(|error| {
        let cause = format!("{} cannot be used", path.display());
        refused(cause, error.to_string())
    })?;
    if is_device && found == Found::Blank {
        block::check_blank(path, file, size_bytes)?;
    }
    Ok((found, size_bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(path: &Path) -> SsdTierOptions {
        SsdTierOptions {
            paths: vec![path.to_owned()],
            size_bytes: 64 << 20,
            segment_bytes: 1 << 20,
            flush: Duration::from_millis(100),
            second_hit: false,
            day_bytes: 0,
            clean_bytes_per_s: 1 << 30,
            promote_hits: 1,
            drain: Duration::ZERO,
        }
    }

    #[test]
    fn new_partitions_are_made_and_locked() {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path());
        let first = Partitions::open(&options, 2).unwrap();
        assert_eq!(first.all.len(), 2);
        let second = Partitions::open(&options, 2).unwrap_err();
        assert!(second.cause.contains("another daemon"), "{second}");
        drop(first);
        let examined = examine_ssd(&options, 3).unwrap();
        assert!(examined.free_bytes > 0);
        assert_eq!(examined.partitions, 0, "they are blank");
        assert_eq!(Partitions::open(&options, 1).unwrap().all.len(), 2);
    }

    #[test]
    fn a_partition_that_was_there_and_is_not_refuses_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path());
        let two = Partitions::open(&options, 2).unwrap();
        for partition in &two.all {
            // As the store writes it at its first start.
            let superblock = Superblock {
                shard_count: 2,
                epoch: 1,
                ..partition.shape.superblock
            };
            let path = directory.path().join(name_of(superblock.partition));
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&superblock.encode(), 0).unwrap();
        }
        drop(two);
        assert_eq!(Partitions::open(&options, 1).unwrap().all.len(), 2);
        let (there, away) = (
            directory.path().join(name_of(0)),
            directory.path().join("x"),
        );
        std::fs::rename(&there, &away).unwrap();
        for shards in 1..4 {
            let refused = Partitions::open(&options, shards).unwrap_err();
            assert!(
                refused.cause.contains("partition 0 of it is not there"),
                "{refused}"
            );
            assert!(refused.remedy.contains("chariot-0000.ssd"), "{refused}");
            assert!(!there.exists(), "nothing was made");
        }
        std::fs::rename(&away, &there).unwrap();
        assert_eq!(Partitions::open(&options, 3).unwrap().all.len(), 3);
    }

    #[test]
    fn a_foreign_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name_of(0));
        std::fs::write(&path, b"somebody's diary").unwrap();
        let refused = Partitions::open(&options(directory.path()), 1).unwrap_err();
        assert!(refused.remedy.contains("wipe"), "{refused}");
        let examined = examine_ssd(&options(directory.path()), 1);
        assert_eq!(examined.unwrap_err().remedy, refused.remedy);
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody's diary");
    }

    #[test]
    fn names_tell_numbers_both_ways() {
        assert_eq!(number_of("chariot-0007.ssd"), Some(7));
        assert_eq!(number_of("chariot-7.ssd"), None);
        assert_eq!(number_of("other-0007.ssd"), None);
    }

    #[test]
    fn secrets_of_tenants_differ_and_stay() {
        let one = tenant_secret(&[7; 32], "one");
        assert!(one == tenant_secret(&[7; 32], "one"));
        assert!(one != tenant_secret(&[7; 32], "two"));
        assert!(one != tenant_secret(&[8; 32], "one"));
    }
}
