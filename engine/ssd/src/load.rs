//! Reads what a segment holds: its table when it has one, else every group of it.
//!
//! ```text
//!  trailer ──agrees with the header──► table ──CRC──► rows
//!     └──no──► scan: group after group, payloads checked; past damage block by block
//! ```
//! A scan holds one group in memory at a time (at most a segment). Bytes come in by `feed`, and
//! whatever they are, the answer is rows or nothing, never a panic.
//!
//! Lives on: owner shard. Neighbours: `recover.rs` and `clean.rs` drive it.

#[cfg(test)]
mod tests;

use crate::format::{
    GROUP_HEADER_BYTES, GroupHeader, RecordKind, Row, SegmentHeader, TRAILER_BYTES, Trailer,
    parse_head, parse_table,
};
use crate::limits::CLEAN_IO_BYTES_MAX;
use crate::mutate::{Mutation, is_planted};

/// What a load wants next.
#[derive(Debug)]
pub(crate) enum Step {
    /// These bytes of the segment, whole blocks.
    Read { at: u32, len: u32 },
    /// It is through.
    Done,
}

/// One segment being read.
#[derive(Debug)]
pub(crate) struct Load {
    header: SegmentHeader,
    tag: u64,
    segment_bytes: u32,
    block_bytes: u32,
    stage: Stage,
    /// What was found.
    pub(crate) rows: Vec<Row>,
    /// Whether the rows come from the segment's own table.
    pub(crate) has_footer: bool,
    /// End of the last group that was found.
    pub(crate) used: u32,
    /// Damaged structures that were seen.
    pub(crate) damaged: u32,
}

#[derive(Debug)]
enum Stage {
    Trailer,
    Table {
        trailer: Trailer,
        start: u32,
        bytes: Vec<u8>,
    },
    /// `bytes` are those from `at` on.
    Scan {
        at: u32,
        bytes: Vec<u8>,
        wanted: u32,
    },
    Done,
}

impl Load {
    pub(crate) fn new(header: SegmentHeader, segment_bytes: u32, block_bytes: u32) -> Self {
        Self {
            header,
            tag: tag_of(&header.format),
            segment_bytes,
            block_bytes,
            stage: Stage::Trailer,
            rows: Vec::new(),
            has_footer: false,
            used: block_bytes,
            damaged: 0,
        }
    }

    pub(crate) fn step(&self) -> Step {
        match &self.stage {
            Stage::Trailer => Step::Read {
                at: self.segment_bytes - self.block_bytes,
                len: self.block_bytes,
            },
            Stage::Table { start, bytes, .. } => {
                let at = start + as_u32(bytes.len());
                Step::Read {
                    at,
                    len: (self.segment_bytes - at).min(CLEAN_IO_BYTES_MAX),
                }
            },
            Stage::Scan { at, bytes, wanted } => {
                let from = at + as_u32(bytes.len());
                let least = wanted
                    .saturating_sub(as_u32(bytes.len()))
                    .max(self.block_bytes);
                let len = least.clamp(64 << 10, CLEAN_IO_BYTES_MAX);
                Step::Read {
                    at: from,
                    len: len
                        .next_multiple_of(self.block_bytes)
                        .min(self.segment_bytes - from),
                }
            },
            Stage::Done => Step::Done,
        }
    }

    /// Takes the bytes that `step` asked for.
    pub(crate) fn feed(&mut self, fed: &[u8]) {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Trailer => self.on_trailer(fed),
            Stage::Table {
                trailer,
                start,
                mut bytes,
            } => {
                bytes.extend_from_slice(fed);
                if start + as_u32(bytes.len()) < self.segment_bytes {
                    self.stage = Stage::Table {
                        trailer,
                        start,
                        bytes,
                    };
                } else {
                    self.on_table(&trailer, &bytes);
                }
            },
            Stage::Scan { at, mut bytes, .. } => {
                bytes.extend_from_slice(fed);
                self.scan(at, &bytes);
            },
            Stage::Done => {},
        }
    }

    fn on_trailer(&mut self, fed: &[u8]) {
        let trailer = fed
            .len()
            .checked_sub(TRAILER_BYTES)
            .and_then(|at| Trailer::parse(&fed[at..]));
        let room = u64::from(self.segment_bytes - self.block_bytes) - TRAILER_BYTES as u64;
        match trailer {
            Some(trailer) if trailer.header == self.header && trailer.table_bytes() <= room => {
                let table = u32::try_from(trailer.table_bytes()).expect("below a segment");
                let start = self.segment_bytes - as_u32(TRAILER_BYTES) - table;
                self.stage = Stage::Table {
                    trailer,
                    start: start - start % self.block_bytes,
                    bytes: Vec::new(),
                };
            },
            _ => self.start_scan(),
        }
    }

    fn on_table(&mut self, trailer: &Trailer, bytes: &[u8]) {
        let end = bytes.len() - TRAILER_BYTES;
        let table = usize::try_from(trailer.table_bytes()).expect("below a segment");
        let table = &bytes[end - table..end];
        let rows = if is_planted(Mutation::FooterCrcIgnored) {
            let believed = Trailer {
                table_crc: crc32c::crc32c(table),
                ..*trailer
            };
            parse_table(table, &believed)
        } else {
            parse_table(table, trailer)
        };
        let rows = rows.filter(|rows| rows.iter().all(|row| self.is_inside(row)));
        if let Some(rows) = rows {
            self.rows = rows;
            self.has_footer = true;
        } else {
            self.damaged += 1;
            self.start_scan();
        }
    }

    fn is_inside(&self, row: &Row) -> bool {
        let value = match row.kind {
            RecordKind::Tombstone => 0,
            RecordKind::Packed => u64::from(row.value.len) + 64,
            RecordKind::Payload => u64::from(row.value.len.next_multiple_of(self.block_bytes)),
        };
        let is_aligned =
            row.kind != RecordKind::Payload || row.place_at.is_multiple_of(self.block_bytes);
        is_aligned
            && u64::from(row.place_at) + value <= u64::from(self.segment_bytes)
            && u64::from(row.header_at) + 64 <= u64::from(self.segment_bytes)
    }

    fn start_scan(&mut self) {
        self.stage = Stage::Scan {
            at: self.block_bytes,
            bytes: Vec::new(),
            wanted: 0,
        };
    }

    /// Takes all whole groups off the front of `bytes`, which begin at `at` of the segment.
    fn scan(&mut self, mut at: u32, bytes: &[u8]) {
        let mut from = 0_usize;
        loop {
            let rest = &bytes[from..];
            let left = self.segment_bytes - at;
            if left < self.block_bytes {
                self.stage = Stage::Done;
                return;
            }
            let wanted = if rest.len() < self.block_bytes as usize {
                self.block_bytes
            } else if let Some(group) = self.group_at(rest, at) {
                if rest.len() >= group.total_bytes as usize {
                    let skip = self.take_group(&group, rest, at);
                    at += skip;
                    from += skip as usize;
                    continue;
                }
                group.total_bytes
            } else {
                at += self.block_bytes;
                from += self.block_bytes as usize;
                continue;
            };
            self.stage = Stage::Scan {
                at,
                bytes: bytes[from..].to_vec(),
                wanted,
            };
            return;
        }
    }

    fn group_at(&self, bytes: &[u8], at: u32) -> Option<GroupHeader> {
        let group = GroupHeader::parse(bytes.get(..GROUP_HEADER_BYTES as usize)?)?;
        let is_here = group.sequence == self.header.sequence
            && group.tag == self.tag
            && group.segment == self.header.segment
            && group.at == at
            && group.total_bytes.is_multiple_of(self.block_bytes)
            && group.total_bytes <= self.segment_bytes - at;
        is_here.then_some(group)
    }

    /// Takes the records of a whole group; returns how far to go on.
    fn take_group(&mut self, group: &GroupHeader, bytes: &[u8], at: u32) -> u32 {
        let head = &bytes[..group.head_bytes as usize];
        let Some(found) = parse_head(head, group, self.block_bytes) else {
            self.damaged += 1;
            return self.block_bytes;
        };
        for record in &found {
            let value_at = record.record.value_at as usize;
            let value = &bytes[value_at..value_at + record.record.value.len as usize];
            let is_whole = record.record.kind == RecordKind::Tombstone
                || crc32c::crc32c(value) == record.record.value.crc
                || is_planted(Mutation::TornTailAccepted);
            if is_whole {
                self.rows.push(record.row(at));
            } else {
                self.damaged += 1;
            }
        }
        self.used = at + group.total_bytes;
        group.total_bytes
    }
}

/// Returns what every group of a partition carries of its format id.
pub(crate) fn tag_of(format: &[u8; 16]) -> u64 {
    let (tag, _) = format
        .split_first_chunk()
        .expect("sixteen bytes hold eight");
    u64::from_le_bytes(*tag)
}

fn as_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a load holds at most a segment")
}
