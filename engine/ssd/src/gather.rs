//! Records on their way to the device: gathered into groups, one write each.
//!
//! ```text
//!  append ─► gather ─(full or old enough)─► queue ─(a segment has room)─► write ─► on_written
//! ```
//! Two lanes: values (and what must not overtake them) and what cannot wait for room: tombstones
//! and the cleaner's copies, which may use the last free segments.
//!
//! Lives on: owner shard. Neighbours: `write.rs` issues groups, `format.rs` says what they look
//! like.

use std::collections::VecDeque;

use crate::effects::Part;
use crate::format::{
    Found, GROUP_HEADER_BYTES, GroupHeader, RECORD_HEADER_BYTES, RecordHeader, RecordKind, Row, low,
};
use crate::index::Place;
use crate::record::Ticket;

/// Why a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The caller's object.
    Append(Ticket),
    /// A delete's, or the store's own.
    Tombstone(Option<Ticket>),
    /// The cleaner moves a record.
    Relocate { from: Place, job: u64 },
    /// The cleaner keeps older records dead.
    Protect { job: u64 },
}

/// One record of a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) record: RecordHeader,
    /// First byte of its header inside the head.
    head_at: u32,
}

/// Fills in the bytes of a packed value.
pub(crate) type Fill<'f> = &'f mut dyn FnMut(&mut [u8]);

/// A group that is not written yet.
#[derive(Debug)]
pub(crate) struct Gather {
    head: Vec<u8>,
    pub(crate) members: Vec<Member>,
    payloads: Vec<Part>,
    payload_bytes: u64,
    pub(crate) since_ns: u64,
    block_bytes: u32,
}

/// A group as it is written.
pub(crate) struct Encoded {
    pub(crate) parts: Vec<Part>,
    pub(crate) rows: Vec<Row>,
}

/// Where a group is written.
pub(crate) struct Spot {
    pub(crate) sequence: u64,
    pub(crate) tag: u64,
    pub(crate) segment: u32,
    pub(crate) at: u32,
}

fn as_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a group is smaller than a segment")
}

impl Gather {
    fn new(block_bytes: u32, now_ns: u64) -> Self {
        Self {
            head: vec![0; GROUP_HEADER_BYTES as usize],
            members: Vec::new(),
            payloads: Vec::new(),
            payload_bytes: 0,
            since_ns: now_ns,
            block_bytes,
        }
    }

    /// Returns the bytes of the write, whole blocks.
    pub(crate) fn total_bytes(&self) -> u64 {
        (self.head.len() as u64).next_multiple_of(u64::from(self.block_bytes)) + self.payload_bytes
    }

    /// Adds a record; `packed` fills in its value, `payload` is its value in blocks.
    fn push(
        &mut self,
        role: Role,
        record: RecordHeader,
        key: &[u8],
        packed: Option<Fill<'_>>,
        payload: Option<Part>,
    ) {
        let header = RECORD_HEADER_BYTES as usize;
        let block = self.block_bytes as usize;
        let inline = if packed.is_some() {
            record.value.len as usize
        } else {
            0
        };
        let (used, wanted) = (self.head.len() % block, header + inline);
        // One block per read where that costs little: start in the next one.
        let crosses = used + wanted > block && wanted <= block;
        if crosses && block - used <= block / 8 {
            self.head.resize(self.head.len().next_multiple_of(block), 0);
        }
        let head_at = self.head.len();
        self.head.resize(head_at + wanted, 0);
        if let Some(fill) = packed {
            fill(&mut self.head[head_at + header..]);
        }
        self.head.extend_from_slice(key);
        self.head.resize(self.head.len().next_multiple_of(8), 0);
        if let Some(part) = payload {
            self.payload_bytes += part.size_bytes();
            self.payloads.push(part);
        }
        self.members.push(Member {
            role,
            record,
            head_at: as_u32(head_at),
        });
    }

    /// Fills in what was not known while gathering: places, sequence, checksums.
    ///
    /// `front` is written in front of the group (the segment's header), with the same write.
    pub(crate) fn encode(&mut self, spot: &Spot, front: &[u8]) -> Encoded {
        let block = self.block_bytes;
        let head_bytes = as_u32(self.head.len());
        let mut value_at = head_bytes.next_multiple_of(block);
        let mut rows = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            let record = &mut member.record;
            record.sequence_low = low(spot.sequence);
            match record.kind {
                RecordKind::Packed => record.value_at = member.head_at + RECORD_HEADER_BYTES,
                RecordKind::Tombstone => record.value_at = 0,
                RecordKind::Payload => {
                    record.value_at = value_at;
                    value_at += record.value.len.next_multiple_of(block);
                },
            }
            let at = member.head_at as usize;
            self.head[at..at + RECORD_HEADER_BYTES as usize].copy_from_slice(&record.encode());
            let found = Found {
                record: *record,
                header_at: spot.at + member.head_at,
            };
            rows.push(found.row(spot.at));
        }
        assert!(
            u64::from(value_at) == self.total_bytes(),
            "payloads are where the head says"
        );
        let header = GroupHeader {
            sequence: spot.sequence,
            tag: spot.tag,
            segment: spot.segment,
            at: spot.at,
            records: as_u32(self.members.len()),
            head_bytes,
            total_bytes: value_at,
            head_crc: crc32c::crc32c(&self.head[GROUP_HEADER_BYTES as usize..]),
        };
        self.head[..GROUP_HEADER_BYTES as usize].copy_from_slice(&header.encode());
        let mut own = front.to_vec();
        own.append(&mut self.head);
        own.resize(own.len().next_multiple_of(block as usize), 0);
        let mut parts = vec![Part::Own(own)];
        parts.append(&mut self.payloads);
        Encoded { parts, rows }
    }
}

/// A record to be gathered.
pub(crate) struct Push<'k, 'f> {
    pub(crate) role: Role,
    pub(crate) record: RecordHeader,
    pub(crate) key: &'k [u8],
    pub(crate) packed: Option<Fill<'f>>,
    pub(crate) payload: Option<Part>,
}

/// Groups in the order in which they are to be written.
#[derive(Debug)]
pub(crate) struct Lane {
    open: Option<Gather>,
    queue: VecDeque<Gather>,
    /// Bytes of `queue` and `open`.
    bytes: u64,
    group_bytes: u64,
    block_bytes: u32,
}

impl Lane {
    pub(crate) fn new(group_bytes: u32, block_bytes: u32) -> Self {
        Self {
            open: None,
            queue: VecDeque::new(),
            bytes: 0,
            group_bytes: u64::from(group_bytes),
            block_bytes,
        }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, push: Push<'_, '_>, now_ns: u64) {
        let adds = u64::from(RECORD_HEADER_BYTES)
            + u64::from(push.record.value.len)
            + u64::from(self.block_bytes);
        let is_full = self
            .open
            .as_ref()
            .is_some_and(|open| open.total_bytes() + adds > self.group_bytes);
        if is_full {
            self.queue.extend(self.open.take());
        }
        let block_bytes = self.block_bytes;
        let open = self
            .open
            .get_or_insert_with(|| Gather::new(block_bytes, now_ns));
        let before = if open.members.is_empty() {
            0
        } else {
            open.total_bytes()
        };
        open.push(push.role, push.record, push.key, push.packed, push.payload);
        self.bytes += open.total_bytes() - before;
        if open.total_bytes() >= self.group_bytes {
            self.queue.extend(self.open.take());
        }
    }

    /// Returns when the first group is to be written; `None` when there is none.
    pub(crate) fn due_ns(&self, delay_ns: u64) -> Option<u64> {
        if !self.queue.is_empty() {
            return Some(0);
        }
        self.open.as_ref().map(|open| open.since_ns + delay_ns)
    }

    /// Returns bytes and records of the first group.
    pub(crate) fn front(&self) -> Option<(u64, u64)> {
        let first = self.queue.front().or(self.open.as_ref())?;
        Some((first.total_bytes(), first.members.len() as u64))
    }

    pub(crate) fn pop(&mut self) -> Option<Gather> {
        let first = self.queue.pop_front().or_else(|| self.open.take())?;
        self.bytes -= first.total_bytes();
        Some(first)
    }
}
