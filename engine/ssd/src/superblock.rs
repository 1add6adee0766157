//! The first bytes of a partition: whose it is, how it is cut, and how it was last left.
//!
//! Two copies in blocks of 4 KiB, written in turn (by the lowest bit of `generation`), so that a
//! write torn by a power cut leaves the other. The valid copy with the higher generation counts.
//!
//! Lives on: control thread (formatting, reading), then owner shard (the store writes it).

use crate::cursor::{Reader, Writer, unseal};
use crate::error::FormatError;
use crate::limits::{
    PARTITIONS_MAX, RESERVED_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENTS_MAX,
};

/// Bytes to read from offset 0 before anything else: both copies.
pub const SUPERBLOCK_READ_BYTES: u32 = 2 * COPY_BYTES;

const COPY_BYTES: u32 = 4096;
const SEALED_BYTES: usize = 256;
const MAGIC: [u8; 8] = *b"chariot\x1e";
const FORMAT_VERSION: u32 = 1;
const SEGMENTS_MIN: u64 = 8;
/// Mark of a partition that its node gave up; 1 is clean, 0 neither.
const GIVEN_UP: u32 = 2;

const _: () = assert!(SUPERBLOCK_READ_BYTES as u64 <= RESERVED_BYTES);

/// What a partition says about itself. A plain value.
///
/// `Debug` does not print the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Rises with every write of it; even ones lie in the first copy.
    pub generation: u64,
    /// Drawn when the node's first partition was formatted; the same on all of its partitions.
    pub node: [u8; 16],
    /// Secret from which the tenants' key secrets are derived, so that hashes stay the same.
    pub secret: [u8; 32],
    /// Drawn when this partition was formatted; tells its segments from what lay there before.
    pub format: [u8; 16],
    /// Number of the partition.
    pub partition: u16,
    /// Shards of the node when this was written.
    pub shard_count: u16,
    /// Boot generation of the start that wrote this.
    pub epoch: u32,
    /// The kernel's boot id of that start.
    pub boot_id: [u8; 16],
    /// Whether everything was written and flushed before the stop.
    pub is_clean: bool,
    /// Whether its node gave it up after errors: overwritten and deleted keys left no tombstone
    /// here since, so nothing in any partition of the node counts any more.
    pub is_given_up: bool,
    /// Unit of I/O in bytes: 512 or 4,096.
    pub block_bytes: u32,
    /// Bytes of a segment; a power of two.
    pub segment_bytes: u32,
    /// Segments of the partition.
    pub segment_count: u32,
    /// Day of wall clock (since 1970) of `day_bytes`.
    pub day: u32,
    /// Bytes written to the device on that day, as of this write.
    pub day_bytes: u64,
}

impl std::fmt::Debug for Superblock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Superblock")
            .field("generation", &self.generation)
            .field("partition", &self.partition)
            .field("shard_count", &self.shard_count)
            .field("epoch", &self.epoch)
            .field("is_clean", &self.is_clean)
            .field("is_given_up", &self.is_given_up)
            .field("segment_bytes", &self.segment_bytes)
            .field("segment_count", &self.segment_count)
            .finish_non_exhaustive()
    }
}

/// What lies at the beginning of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Only zeros: it may be formatted.
    Blank,
    /// One of ours.
    Ours(Superblock),
}

/// How the store was left, judged by boot id and mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastStop {
    /// Nothing was there.
    Fresh,
    /// Everything was flushed.
    Clean,
    /// The process died; what was written is there.
    Killed,
    /// The machine restarted; what was flushed is there.
    PowerCut,
}

/// What the partitions of a node agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: [u8; 16],
    /// Its secret.
    pub secret: [u8; 32],
    /// The epoch to start with: one above the highest.
    pub next_epoch: u32,
}

/// Checks that all partitions belong to one node; `None` when there are none.
///
/// # Errors
/// [`FormatError::Mixed`]: tell the operator.
pub fn reconcile(partitions: &[Superblock]) -> Result<Option<Identity>, FormatError> {
    let Some(first) = partitions.first() else {
        return Ok(None);
    };
    let mut next_epoch = 0;
    for other in partitions {
        if other.node != first.node || other.secret != first.secret {
            return Err(FormatError::Mixed {
                first: first.partition,
                second: other.partition,
            });
        }
        next_epoch = next_epoch.max(other.epoch + 1);
    }
    Ok(Some(Identity {
        node: first.node,
        secret: first.secret,
        next_epoch,
    }))
}

impl Superblock {
    /// Plans a new partition; nothing is written until the store is opened over it.
    ///
    /// `format` is random and drawn for this call; `node` and `secret` are those of the node's
    /// other partitions, or random for the first. Epoch and generation are 0.
    ///
    /// # Errors
    /// [`FormatError::Shape`] when the sizes are out of range.
    pub fn plan(
        identity: &Identity,
        format: [u8; 16],
        partition: u16,
        size_bytes: u64,
        segment_bytes: u32,
    ) -> Result<Self, FormatError> {
        let shape = FormatError::Shape {
            size_bytes,
            segment_bytes,
        };
        let is_sound = segment_bytes.is_power_of_two()
            && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
            && usize::from(partition) < PARTITIONS_MAX;
        if !is_sound {
            return Err(shape);
        }
        let segments = size_bytes.saturating_sub(RESERVED_BYTES) / u64::from(segment_bytes);
        if !(SEGMENTS_MIN..=u64::from(SEGMENTS_MAX)).contains(&segments) {
            return Err(shape);
        }
        Ok(Self {
            generation: 0,
            node: identity.node,
            secret: identity.secret,
            format,
            partition,
            shard_count: 0,
            epoch: 0,
            boot_id: [0; 16],
            is_clean: true,
            is_given_up: false,
            block_bytes: 4096,
            segment_bytes,
            segment_count: u32::try_from(segments).map_err(|_above| shape)?,
            day: 0,
            day_bytes: 0,
        })
    }

    /// Returns a partition without contents in the place of this one: `format` is random and drawn
    /// for this call, so that no segment of before belongs to it.
    #[must_use]
    pub const fn renewed(&self, format: [u8; 16]) -> Self {
        Self {
            format,
            // Fresh, but for the generation: the next write must count against those of before.
            epoch: 0,
            boot_id: [0; 16],
            is_clean: true,
            is_given_up: false,
            ..*self
        }
    }

    /// Returns both copies, marked as given up, as one write to offset 0.
    pub(crate) fn give_up(&mut self) -> Vec<u8> {
        self.is_given_up = true;
        let mut copies = [Vec::new(), Vec::new()];
        for _ in 0..2 {
            self.generation += 1;
            copies[usize::from(!self.generation.is_multiple_of(2))] = self.encode();
        }
        copies.concat()
    }

    /// Returns how many bytes of the file or device are used.
    pub fn size_bytes(&self) -> u64 {
        RESERVED_BYTES + u64::from(self.segment_bytes) * u64::from(self.segment_count)
    }

    /// Reads the first [`SUPERBLOCK_READ_BYTES`] of a partition of `size_bytes` bytes (a shorter
    /// file: what there is, padded with zeros).
    ///
    /// # Errors
    /// [`FormatError`]: nothing may be written there; tell the operator.
    ///
    /// # Panics
    /// When `bytes` has another length.
    pub fn read(bytes: &[u8], size_bytes: u64) -> Result<Found, FormatError> {
        assert!(bytes.len() == SUPERBLOCK_READ_BYTES as usize);
        let (first, second) = bytes.split_at(COPY_BYTES as usize);
        let copies = [parse(first), parse(second)];
        let newest = copies
            .iter()
            .filter_map(|copy| match copy {
                Copy::Valid(superblock) => Some(*superblock),
                _ => None,
            })
            .max_by_key(|superblock| superblock.generation);
        // A newer program writes both copies in turn: one of ours may still stand beside it.
        for copy in &copies {
            if let Copy::Newer(found) = copy {
                return Err(FormatError::Newer {
                    found: *found,
                    known: FORMAT_VERSION,
                });
            }
        }
        if let Some(superblock) = newest {
            if superblock.size_bytes() > size_bytes {
                return Err(FormatError::Shrunk {
                    actual: size_bytes,
                    expected: superblock.size_bytes(),
                });
            }
            return Ok(Found::Ours(superblock));
        }
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(Found::Blank);
        }
        if copies.iter().any(|copy| matches!(copy, Copy::Damaged)) {
            return Err(FormatError::Damaged);
        }
        Err(FormatError::Foreign)
    }

    /// Tells how the store was left, seen from a start under `boot_id`.
    pub fn last_stop(&self, boot_id: [u8; 16]) -> LastStop {
        match (self.epoch, self.is_clean) {
            (0, _) => LastStop::Fresh,
            (_, true) => LastStop::Clean,
            (_, false) if self.boot_id == boot_id => LastStop::Killed,
            (_, false) => LastStop::PowerCut,
        }
    }

    /// Returns where this generation is written.
    pub(crate) fn offset(&self) -> u64 {
        (self.generation % 2) * u64::from(COPY_BYTES)
    }

    /// Returns the bytes of one copy: 4 KiB.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(COPY_BYTES as usize);
        let mut writer = Writer::new(&mut bytes);
        writer.raw(&MAGIC).u32(FORMAT_VERSION).u32(self.epoch);
        writer.u64(self.generation).raw(&self.node);
        writer.raw(&self.secret).raw(&self.format);
        writer.u16(self.partition).u16(self.shard_count);
        let mark = match (self.is_given_up, self.is_clean) {
            (true, _) => GIVEN_UP,
            (false, is_clean) => u32::from(is_clean),
        };
        writer.u32(mark).raw(&self.boot_id);
        writer.u32(self.block_bytes).u32(self.segment_bytes);
        writer.u32(self.segment_count).u32(self.day);
        writer.u64(self.day_bytes);
        writer.zeros_to(SEALED_BYTES - 4).seal();
        bytes.resize(COPY_BYTES as usize, 0);
        bytes
    }
}

/// What one copy is.
enum Copy {
    Valid(Superblock),
    Newer(u32),
    Damaged,
    Other,
}

fn parse(bytes: &[u8]) -> Copy {
    let mut head = Reader::new(bytes);
    if head.array() != Some(MAGIC) {
        return Copy::Other;
    }
    let Some(mut body) = unseal(bytes, SEALED_BYTES) else {
        // A newer format may seal other bytes: believe its version if it says one.
        return match head.u32() {
            Some(version) if version > FORMAT_VERSION => Copy::Newer(version),
            _ => Copy::Damaged,
        };
    };
    match fields(&mut body) {
        Some((version, _)) if version > FORMAT_VERSION => Copy::Newer(version),
        Some((FORMAT_VERSION, superblock)) if is_sound(&superblock) => Copy::Valid(superblock),
        _ => Copy::Damaged,
    }
}

fn fields(body: &mut Reader<'_>) -> Option<(u32, Superblock)> {
    let _magic: [u8; 8] = body.array()?;
    let version = body.u32()?;
    let epoch = body.u32()?;
    let mark;
    let superblock = Superblock {
        generation: body.u64()?,
        node: body.array()?,
        secret: body.array()?,
        format: body.array()?,
        partition: body.u16()?,
        shard_count: body.u16()?,
        is_clean: {
            mark = body.u32()?;
            mark == 1
        },
        is_given_up: mark == GIVEN_UP,
        boot_id: body.array()?,
        epoch,
        block_bytes: body.u32()?,
        segment_bytes: body.u32()?,
        segment_count: body.u32()?,
        day: body.u32()?,
        day_bytes: body.u64()?,
    };
    Some((version, superblock))
}

fn is_sound(superblock: &Superblock) -> bool {
    superblock.segment_bytes.is_power_of_two()
        && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&superblock.segment_bytes)
        && matches!(superblock.block_bytes, 512 | 4096)
        && (SEGMENTS_MIN..=u64::from(SEGMENTS_MAX)).contains(&u64::from(superblock.segment_count))
        && usize::from(superblock.partition) < PARTITIONS_MAX
        && superblock.epoch < 1 << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned() -> Superblock {
        let identity = Identity {
            node: [1; 16],
            secret: [2; 32],
            next_epoch: 1,
        };
        Superblock::plan(&identity, [3; 16], 4, 64 << 20, 1 << 20).unwrap()
    }

    fn disk(copies: &[&Superblock]) -> Vec<u8> {
        let mut bytes = vec![0; SUPERBLOCK_READ_BYTES as usize];
        for copy in copies {
            let at = usize::try_from(copy.offset()).unwrap();
            bytes[at..at + COPY_BYTES as usize].copy_from_slice(&copy.encode());
        }
        bytes
    }

    #[test]
    fn newest_copy_counts() {
        let old = Superblock {
            generation: 6,
            epoch: 3,
            ..planned()
        };
        let new = Superblock {
            generation: 7,
            epoch: 4,
            is_clean: false,
            ..old
        };
        let mut bytes = disk(&[&old, &new]);
        assert_eq!(Superblock::read(&bytes, 64 << 20), Ok(Found::Ours(new)));
        bytes[COPY_BYTES as usize + 40] ^= 1;
        assert_eq!(Superblock::read(&bytes, 64 << 20), Ok(Found::Ours(old)));
        bytes[40] ^= 1;
        assert_eq!(
            Superblock::read(&bytes, 64 << 20),
            Err(FormatError::Damaged)
        );
    }

    #[test]
    fn blank_may_be_formatted_and_others_may_not() {
        let mut bytes = vec![0; SUPERBLOCK_READ_BYTES as usize];
        assert_eq!(Superblock::read(&bytes, 0), Ok(Found::Blank));
        bytes[5000] = 1;
        assert_eq!(
            Superblock::read(&bytes, 64 << 20),
            Err(FormatError::Foreign)
        );
    }

    #[test]
    fn newer_format_is_refused_even_beside_ours() {
        let ours = planned();
        let mut bytes = disk(&[&ours]);
        let at = COPY_BYTES as usize;
        bytes[at..at + 8].copy_from_slice(&MAGIC);
        bytes[at + 8] = 2;
        let refused = Superblock::read(&bytes, 64 << 20);
        assert_eq!(refused, Err(FormatError::Newer { found: 2, known: 1 }));
        assert!(refused.unwrap_err().to_string().contains("wipe"));
    }

    #[test]
    fn shrunk_file_is_refused() {
        let ours = planned();
        assert_eq!(
            Superblock::read(&disk(&[&ours]), 60 << 20),
            Err(FormatError::Shrunk {
                actual: 60 << 20,
                expected: ours.size_bytes()
            })
        );
    }

    #[test]
    fn shapes_out_of_range_are_refused() {
        let identity = reconcile(&[planned()]).unwrap().unwrap();
        for (size, segment) in [
            (1 << 20, 1 << 20),
            (64 << 20, 3 << 20),
            (64 << 20, 1 << 10),
            (1 << 50, 32 << 10),
        ] {
            let refused = Superblock::plan(&identity, [0; 16], 0, size, segment);
            assert!(matches!(refused, Err(FormatError::Shape { .. })), "{size}");
        }
    }

    #[test]
    fn partitions_of_two_nodes_are_not_mixed() {
        let first = Superblock {
            epoch: 8,
            ..planned()
        };
        let second = Superblock {
            partition: 5,
            epoch: 3,
            ..first
        };
        let identity = reconcile(&[first, second]).unwrap().unwrap();
        assert_eq!(identity.next_epoch, 9);
        assert_eq!(reconcile(&[]), Ok(None));
        let other = Superblock {
            node: [9; 16],
            ..second
        };
        assert_eq!(
            reconcile(&[first, other]),
            Err(FormatError::Mixed {
                first: 4,
                second: 5
            })
        );
    }

    #[test]
    fn boot_id_tells_a_kill_from_a_power_cut() {
        let fresh = planned();
        assert_eq!(fresh.last_stop([1; 16]), LastStop::Fresh);
        let ran = Superblock {
            epoch: 1,
            is_clean: false,
            boot_id: [1; 16],
            ..fresh
        };
        assert_eq!(ran.last_stop([1; 16]), LastStop::Killed);
        assert_eq!(ran.last_stop([2; 16]), LastStop::PowerCut);
        let stopped = Superblock {
            is_clean: true,
            ..ran
        };
        assert_eq!(stopped.last_stop([2; 16]), LastStop::Clean);
    }

    #[test]
    fn secret_is_not_printed() {
        assert!(!format!("{:?}", planned()).contains("secret"));
    }
}
