//! The structures inside a segment, as `FORMAT.md` draws them.
//!
//! ```text
//!  segment: │ header block │ group │ group │ ... │ (nothing) │ table │ trailer │
//!  group:   │ group header 64 │ record, record, ... │ pad to block │ payload │ payload │ ...
//!  record:  │ record header 64 │ value when packed │ key │ pad to 8 │
//! ```
//! Parsers take any bytes: they say `None`, they never panic, and what they give is in range.
//!
//! Lives on: any shard. Neighbours: `gather.rs` writes groups, `load.rs` reads segments.

use chariot_proto::{KeyHash, WriteMode};

use crate::cursor::{Reader, Writer, unseal};
use crate::index::Value;

/// Bytes of the sealed part of a segment header.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 128;
/// Bytes of a group header.
pub(crate) const GROUP_HEADER_BYTES: u32 = 64;
/// Bytes of a record header.
pub(crate) const RECORD_HEADER_BYTES: u32 = 64;
/// Bytes of one row of a segment's table.
pub(crate) const ROW_BYTES: u32 = 48;
/// Bytes of the trailer, the last of a segment.
pub(crate) const TRAILER_BYTES: usize = 128;

const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"chsegm\x01\x1e");
const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"chg\x1e");
const TRAILER_MAGIC: u64 = u64::from_le_bytes(*b"chtail\x01\x1e");

const KEY_LEN_MAX: u16 = chariot_proto::limits::KEY_MAX;

/// Says whose segment this is and which life of it; stands first and, once full, last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) format: [u8; 16],
    /// Number inside its partition.
    pub(crate) segment: u32,
    /// Shard that wrote it.
    pub(crate) shard: u16,
    /// Shards there were.
    pub(crate) shard_count: u16,
    /// Rises with every opening of a segment of the partition.
    pub(crate) sequence: u64,
    pub(crate) epoch: u32,
    pub(crate) is_erased: bool,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        let mut writer = Writer::new(&mut bytes);
        writer.u64(SEGMENT_MAGIC);
        self.fields(&mut writer);
        writer.zeros_to(SEGMENT_HEADER_BYTES - 4).seal();
        bytes
    }

    fn fields(&self, writer: &mut Writer<'_>) {
        writer.raw(&self.format).u32(self.segment).u16(self.shard);
        writer.u16(self.shard_count).u64(self.sequence);
        writer
            .u32(self.epoch)
            .u32(if self.is_erased { 2 } else { 1 });
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut body = unseal(bytes, SEGMENT_HEADER_BYTES)?;
        (body.u64()? == SEGMENT_MAGIC).then_some(())?;
        Self::parse_fields(&mut body)
    }

    fn parse_fields(body: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            format: body.array()?,
            segment: body.u32()?,
            shard: body.u16()?,
            shard_count: body.u16()?,
            sequence: body.u64()?,
            epoch: body.u32()?,
            is_erased: match body.u32()? {
                1 => false,
                2 => true,
                _ => return None,
            },
        })
    }
}

/// Stands in front of what one write brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) sequence: u64,
    /// First eight bytes of the partition's format id.
    pub(crate) tag: u64,
    pub(crate) segment: u32,
    /// First byte of the group inside its segment.
    pub(crate) at: u32,
    pub(crate) records: u32,
    /// Bytes of group header and records.
    pub(crate) head_bytes: u32,
    /// Bytes of the whole group, whole blocks.
    pub(crate) total_bytes: u32,
    /// CRC32C of the head behind this header.
    pub(crate) head_crc: u32,
}

impl GroupHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(GROUP_HEADER_BYTES as usize);
        let mut writer = Writer::new(&mut bytes);
        writer
            .u32(GROUP_MAGIC)
            .u32(self.records)
            .u64(self.sequence)
            .u64(self.tag);
        writer.u32(self.segment).u32(self.at);
        writer
            .u32(self.head_bytes)
            .u32(self.total_bytes)
            .u32(self.head_crc);
        writer.zeros_to(GROUP_HEADER_BYTES as usize - 4).seal();
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut body = unseal(bytes, GROUP_HEADER_BYTES as usize)?;
        (body.u32()? == GROUP_MAGIC).then_some(())?;
        let header = Self {
            records: body.u32()?,
            sequence: body.u64()?,
            tag: body.u64()?,
            segment: body.u32()?,
            at: body.u32()?,
            head_bytes: body.u32()?,
            total_bytes: body.u32()?,
            head_crc: body.u32()?,
        };
        let is_sound = header.head_bytes >= GROUP_HEADER_BYTES
            && header.head_bytes <= header.total_bytes
            && header.records <= header.head_bytes / RECORD_HEADER_BYTES;
        is_sound.then_some(header)
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Packed,
    Payload,
    Tombstone,
}

/// One record, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) hash: KeyHash,
    pub(crate) version: u64,
    pub(crate) value: Value,
    pub(crate) kind: RecordKind,
    /// Was dead when it was written, or its write failed: counts as a tombstone.
    pub(crate) is_void: bool,
    /// First byte of the value, from the start of its group; 0 for a tombstone.
    pub(crate) value_at: u32,
    pub(crate) tenant: u16,
    pub(crate) key_len: u16,
    /// Low half of the segment's sequence.
    pub(crate) sequence_low: u32,
}

impl RecordHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_HEADER_BYTES as usize);
        let mut writer = Writer::new(&mut bytes);
        writer.hash(self.hash).u64(self.version);
        writer.u64(self.value.expiry_unix_ms);
        writer
            .u32(self.value_at)
            .u32(self.value.len)
            .u32(self.value.crc);
        writer.u16(self.tenant).u16(self.key_len);
        writer.u16(flags_of(self)).u16(0);
        writer.u32(self.sequence_low);
        writer.zeros_to(RECORD_HEADER_BYTES as usize - 4).seal();
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut body = unseal(bytes, RECORD_HEADER_BYTES as usize)?;
        let hash = body.hash()?;
        let version = body.u64()?;
        let expiry_unix_ms = body.u64()?;
        let value_at = body.u32()?;
        let (len, crc) = (body.u32()?, body.u32()?);
        let (tenant, key_len) = (body.u16()?, body.u16()?);
        let flags = Flags::parse(body.u16()?)?;
        let _zero = body.u16()?;
        let sequence_low = body.u32()?;
        let is_value = flags.kind != RecordKind::Tombstone;
        let is_sound = key_len <= KEY_LEN_MAX && is_value == (len > 0) && len < 1 << 30;
        is_sound.then_some(Self {
            hash,
            version,
            value: Value {
                len,
                crc,
                expiry_unix_ms,
                has_checksum: flags.has_checksum,
                mode: flags.mode,
            },
            kind: flags.kind,
            is_void: flags.is_void,
            value_at,
            tenant,
            key_len,
            sequence_low,
        })
    }

    /// Returns the bytes that the record takes in the head.
    pub(crate) fn head_bytes(&self) -> u32 {
        let packed = match self.kind {
            RecordKind::Packed => self.value.len,
            RecordKind::Payload | RecordKind::Tombstone => 0,
        };
        (RECORD_HEADER_BYTES + packed + u32::from(self.key_len)).next_multiple_of(8)
    }
}

struct Flags {
    kind: RecordKind,
    mode: WriteMode,
    has_checksum: bool,
    is_void: bool,
}

impl Flags {
    fn parse(word: u16) -> Option<Self> {
        let [low, high] = word.to_le_bytes();
        Some(Self {
            kind: match low & 3 {
                1 => RecordKind::Packed,
                2 => RecordKind::Payload,
                3 => RecordKind::Tombstone,
                _ => return None,
            },
            has_checksum: low & 4 != 0,
            is_void: low & 8 != 0,
            mode: WriteMode::from_u8(high)?,
        })
    }
}

fn flags_word(kind: RecordKind, value: &Value, is_void: bool) -> u16 {
    let kind = match kind {
        RecordKind::Packed => 1,
        RecordKind::Payload => 2,
        RecordKind::Tombstone => 3,
    };
    let low = kind | (u8::from(value.has_checksum) << 2) | (u8::from(is_void) << 3);
    u16::from_le_bytes([low, value.mode as u8])
}

fn flags_of(record: &RecordHeader) -> u16 {
    flags_word(record.kind, &record.value, record.is_void)
}

/// One row of a segment's table: what recovery needs of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) hash: KeyHash,
    pub(crate) version: u64,
    pub(crate) value: Value,
    pub(crate) kind: RecordKind,
    pub(crate) is_void: bool,
    /// First byte of the record's header inside the segment.
    pub(crate) header_at: u32,
    /// What an index entry names: the payload's first byte, or `header_at`.
    pub(crate) place_at: u32,
}

const EXPIRY_BITS: u32 = 48;

impl Row {
    fn encode(&self, writer: &mut Writer<'_>) {
        let expiry = self.value.expiry_unix_ms.min((1 << EXPIRY_BITS) - 1);
        let flags = u64::from(flags_word(self.kind, &self.value, self.is_void));
        writer.hash(self.hash).u64(self.version);
        writer.u64(expiry | (flags << EXPIRY_BITS));
        writer.u32(self.header_at).u32(self.place_at);
        writer.u32(self.value.len).u32(self.value.crc);
    }

    fn parse(body: &mut Reader<'_>) -> Option<Self> {
        let hash = body.hash()?;
        let version = body.u64()?;
        let word = body.u64()?;
        let flags = Flags::parse(u16::try_from(word >> EXPIRY_BITS).ok()?)?;
        let (header_at, place_at) = (body.u32()?, body.u32()?);
        let (len, crc) = (body.u32()?, body.u32()?);
        let is_sound = place_at.is_multiple_of(8) && header_at.is_multiple_of(8) && len < 1 << 30;
        is_sound.then_some(Self {
            hash,
            version,
            value: Value {
                len,
                crc,
                expiry_unix_ms: word & ((1 << EXPIRY_BITS) - 1),
                has_checksum: flags.has_checksum,
                mode: flags.mode,
            },
            kind: flags.kind,
            is_void: flags.is_void,
            header_at,
            place_at,
        })
    }

    /// Returns the bytes of the device that the record takes, padding of the head left out.
    pub(crate) fn footprint(&self, block_bytes: u32) -> u64 {
        footprint(self.kind, self.value.len, block_bytes)
    }
}

/// Returns the bytes of the device that a record takes; its key is not counted.
pub(crate) fn footprint(kind: RecordKind, len: u32, block_bytes: u32) -> u64 {
    let value = match kind {
        RecordKind::Packed => len.next_multiple_of(8),
        RecordKind::Payload => len.next_multiple_of(block_bytes),
        RecordKind::Tombstone => 0,
    };
    u64::from(RECORD_HEADER_BYTES) + u64::from(value)
}

/// Ends a full segment: repeats its header and seals its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) header: SegmentHeader,
    pub(crate) rows: u32,
    pub(crate) table_crc: u32,
}

impl Trailer {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut body = unseal(bytes, TRAILER_BYTES)?;
        (body.u64()? == TRAILER_MAGIC).then_some(())?;
        Some(Self {
            header: SegmentHeader::parse_fields(&mut body)?,
            rows: body.u32()?,
            table_crc: body.u32()?,
        })
    }

    /// Returns the bytes of the table in front of it.
    pub(crate) fn table_bytes(&self) -> u64 {
        u64::from(self.rows) * u64::from(ROW_BYTES)
    }
}

/// Returns the bytes that table and trailer take, whole blocks.
pub(crate) fn footer_bytes(rows: u64, block_bytes: u32) -> u64 {
    (rows * u64::from(ROW_BYTES) + TRAILER_BYTES as u64).next_multiple_of(u64::from(block_bytes))
}

/// Returns the bytes of table and trailer; they end with the segment.
pub(crate) fn encode_footer(header: &SegmentHeader, rows: &[Row], block_bytes: u32) -> Vec<u8> {
    let size = usize::try_from(footer_bytes(rows.len() as u64, block_bytes)).expect("a segment");
    let table_bytes = rows.len() * ROW_BYTES as usize;
    let mut bytes = vec![0; size - TRAILER_BYTES - table_bytes];
    bytes.reserve_exact(table_bytes + TRAILER_BYTES);
    let table_at = bytes.len();
    for row in rows {
        row.encode(&mut Writer::new(&mut bytes));
    }
    let table_crc = crc32c::crc32c(&bytes[table_at..]);
    let mut writer = Writer::new(&mut bytes);
    writer.u64(TRAILER_MAGIC);
    header.fields(&mut writer);
    writer.u32(u32::try_from(rows.len()).expect("a segment has fewer than 2^32 records"));
    writer.u32(table_crc);
    writer.zeros_to(TRAILER_BYTES - 4).seal();
    assert!(bytes.len() == size);
    bytes
}

/// Reads a table; `None` when it is not what its trailer says.
pub(crate) fn parse_table(bytes: &[u8], trailer: &Trailer) -> Option<Vec<Row>> {
    let is_whole =
        bytes.len() as u64 == trailer.table_bytes() && crc32c::crc32c(bytes) == trailer.table_crc;
    if !is_whole {
        return None;
    }
    let mut body = Reader::new(bytes);
    (0..trailer.rows).map(|_| Row::parse(&mut body)).collect()
}

/// One record of a group's head, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) record: RecordHeader,
    /// First byte of its header inside the segment.
    pub(crate) header_at: u32,
}

impl Found {
    /// Returns the row of a record in the group at `group_at`.
    pub(crate) fn row(&self, group_at: u32) -> Row {
        let record = &self.record;
        Row {
            hash: record.hash,
            version: record.version,
            value: record.value,
            kind: record.kind,
            is_void: record.is_void,
            header_at: self.header_at,
            place_at: match record.kind {
                RecordKind::Payload => group_at + record.value_at,
                RecordKind::Packed | RecordKind::Tombstone => self.header_at,
            },
        }
    }
}

/// Reads the records of a head (all `head_bytes` of it); `None` when anything is not as it should
/// be. `block_bytes` is what payloads are aligned to.
pub(crate) fn parse_head(head: &[u8], group: &GroupHeader, block_bytes: u32) -> Option<Vec<Found>> {
    let body = head.get(GROUP_HEADER_BYTES as usize..)?;
    let is_whole =
        head.len() as u64 == u64::from(group.head_bytes) && crc32c::crc32c(body) == group.head_crc;
    if !is_whole {
        return None;
    }
    let mut found = Vec::with_capacity(group.records as usize);
    let mut at = GROUP_HEADER_BYTES;
    for _ in 0..group.records {
        let mut rest = head.get(at as usize..)?;
        // Records that fit one block do not cross into the next: zeros stand before them.
        if rest.first_chunk() == Some(&[0_u8; 8]) && RecordHeader::parse(rest).is_none() {
            at = (at + 1).next_multiple_of(block_bytes);
            rest = head.get(at as usize..)?;
        }
        let record = RecordHeader::parse(rest)?;
        let takes = record.head_bytes();
        (rest.len() as u64 >= u64::from(takes)).then_some(())?;
        let is_sound = match record.kind {
            RecordKind::Packed => record.value_at == at + RECORD_HEADER_BYTES,
            RecordKind::Tombstone => record.value_at == 0,
            RecordKind::Payload => {
                let end = u64::from(record.value_at) + u64::from(record.value.len);
                record.value_at.is_multiple_of(block_bytes)
                    && record.value_at >= group.head_bytes
                    && end <= u64::from(group.total_bytes)
            },
        };
        let fits = is_sound && record.sequence_low == low(group.sequence);
        fits.then_some(())?;
        found.push(Found {
            record,
            header_at: group.at.checked_add(at)?,
        });
        at += takes;
    }
    Some(found)
}

/// Returns the low half of a sequence number.
pub(crate) fn low(sequence: u64) -> u32 {
    u32::try_from(sequence & u64::from(u32::MAX)).expect("32 bits")
}
