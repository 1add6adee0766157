//! What becomes of each record of a segment that is cleaned.
//!
//! | record | and | then |
//! |---|---|---|
//! | live | worth it, or kept | copied, checksum verified |
//! | live | expired, cold, damaged | given up; a tombstone where older records are left |
//! | tombstone in force | older records are left | written anew |
//! | tombstone in force | none left | goes with the segment |
//! | dead | nothing newer on a device yet | a tombstone where other records are left |
//! | dead | something newer on a device | goes with the segment |
//!
//! Lives on: owner shard.

use super::super::{LaneName, SsdStore, is_kept};
use super::{Job, Manner, Phase, ROWS_PER_TURN, signed};
use crate::effects::{Now, Part};
use crate::format::{RECORD_HEADER_BYTES, RecordHeader, RecordKind, Row};
use crate::gather::{Fill, Push, Role};
use crate::index::{Entry, Kind, Place};
use crate::limits::CLEAN_IO_BYTES_MAX;
use crate::mutate::{Mutation, is_planted};

/// Least bytes of one read of record headers and packed values.
const HEAD_READ_BYTES: u32 = 128 << 10;
/// Payloads this far apart are read together.
const GAP_BYTES: u32 = 32 << 10;
/// Copies gathered before the cleaner waits for them to be written.
const COPIES_MAX: u64 = 4 << 20;

/// A run of bytes of the segment in memory.
#[derive(Debug, Default)]
struct Window {
    at: u32,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&self, at: u32, len: u32) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.bytes.get(from..from.checked_add(len as usize)?)
    }
}

/// What the front job has read of its segment.
#[derive(Debug, Default)]
pub(super) struct Copying {
    heads: Window,
    payloads: Window,
    /// The payload of the current row, as far as it is read.
    value: Vec<u8>,
    /// What the read under way is for.
    is_payload: bool,
    wanted_at: u32,
}

impl Copying {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let window = if self.is_payload {
            &mut self.payloads
        } else {
            &mut self.heads
        };
        window.at = self.wanted_at;
        window.bytes.clear();
        window.bytes.extend_from_slice(bytes);
    }
}

enum Fate {
    /// Nothing to do.
    Gone,
    Copy(Entry),
    GiveUp(Entry),
    /// The tombstone in force, to be written anew.
    Renew(Entry),
    /// A tombstone that keeps other records of the hash dead.
    Protect,
    /// The tombstone in force, not needed any more.
    Forget(Entry),
}

impl Fate {
    fn writes(&self) -> bool {
        match self {
            Self::Gone | Self::Forget(_) => false,
            Self::GiveUp(entry) => entry.records() > 1,
            Self::Copy(_) | Self::Renew(_) | Self::Protect => true,
        }
    }
}

enum Copied {
    Yes,
    Damaged,
    Read { at: u32, len: u32 },
}

impl SsdStore {
    /// Deals with rows until something has to be read or written first.
    pub(super) fn work(&mut self, job: &mut Job, now: Now) {
        for _ in 0..ROWS_PER_TURN {
            let Some(&row) = job.rows.get(job.cursor) else {
                job.phase = Phase::Draining;
                return;
            };
            if self.urgent.bytes() >= COPIES_MAX {
                return;
            }
            let fate = self.fate(job, &row, now);
            if job.manner == Manner::Silent && fate.writes() {
                job.is_failed = true;
                return;
            }
            match fate {
                Fate::Gone => {},
                Fate::Copy(entry) => match self.copy(job, &row, &entry, now) {
                    Copied::Yes => {},
                    Copied::Damaged => {
                        self.stats.corrupt_values += 1;
                        self.drop_live(job, entry, now);
                    },
                    Copied::Read { at, len } => {
                        self.clean_read(job.segment, at, len, now);
                        return;
                    },
                },
                Fate::GiveUp(entry) => {
                    if entry.is_expired(now.unix_ms) {
                        self.stats.expired += 1;
                    } else {
                        self.stats.dropped += 1;
                    }
                    self.drop_live(job, entry, now);
                },
                Fate::Renew(entry) => {
                    let from = entry.place().expect("it lies in this segment");
                    let role = Role::Relocate { from, job: job.id };
                    job.outstanding += 1;
                    self.push_tombstone(LaneName::Urgent, role, row.hash, row.version, now);
                },
                Fate::Protect => self.protect(job, &row, row.version, now),
                Fate::Forget(mut entry) => {
                    entry.set_place(None);
                    self.index.set(entry);
                },
            }
            job.cursor += 1;
            job.copy.value = Vec::new();
        }
        self.again = true;
    }

    fn fate(&self, job: &Job, row: &Row, now: Now) -> Fate {
        if job.is_shared && !self.is_mine(row.hash) {
            return Fate::Gone;
        }
        let Some(entry) = self.index.get(row.hash) else {
            return Fate::Gone;
        };
        let here = Place {
            segment: job.segment,
            at: row.place_at,
        };
        let has_others = entry.records() > 1;
        match entry.place() {
            Some(place) if place == here && entry.is_live() => {
                let is_wanted = is_kept(entry.mode())
                    || job.manner == Manner::Copy
                    || (job.manner == Manner::Drop && entry.hits() > 0 && self.cleaner.credit > 0);
                if is_wanted && !entry.is_expired(now.unix_ms) {
                    Fate::Copy(entry)
                } else {
                    Fate::GiveUp(entry)
                }
            },
            Some(place) if place == here => {
                if has_others && !is_planted(Mutation::TombstoneDropped) {
                    Fate::Renew(entry)
                } else {
                    Fate::Forget(entry)
                }
            },
            None if has_others => Fate::Protect,
            Some(_) | None => Fate::Gone,
        }
    }

    fn drop_live(&mut self, job: &mut Job, entry: Entry, now: Now) {
        let entry = self.give_up(entry);
        if entry.records() > 1 && !is_planted(Mutation::DropUnprotected) {
            let (hash, version) = (entry.hash(), entry.version());
            job.outstanding += 1;
            let role = Role::Protect { job: job.id };
            self.push_tombstone(LaneName::Urgent, role, hash, version, now);
        }
    }

    fn protect(&mut self, job: &mut Job, row: &Row, version: u64, now: Now) {
        job.outstanding += 1;
        let role = Role::Protect { job: job.id };
        self.push_tombstone(LaneName::Urgent, role, row.hash, version, now);
    }

    fn copy(&mut self, job: &mut Job, row: &Row, entry: &Entry, now: Now) -> Copied {
        let packed = if row.kind == RecordKind::Packed {
            row.value.len
        } else {
            0
        };
        let key_max = u32::from(chariot_proto::limits::KEY_MAX);
        let end = row.header_at + RECORD_HEADER_BYTES + packed + key_max;
        let head_len = end.min(self.segment_bytes_of(job.segment)) - row.header_at;
        if job.copy.heads.get(row.header_at, head_len).is_none() {
            return self.want_heads(job, row.header_at, head_len);
        }
        if row.kind == RecordKind::Payload
            && let Some(read) = self.fetch_payload(job, row)
        {
            return read;
        }
        let head = job
            .copy
            .heads
            .get(row.header_at, head_len)
            .expect("it was just there");
        let Some(found) = check(head, row, entry, &job.copy.value) else {
            return Copied::Damaged;
        };
        let (record, key, value) = found;
        let padded = value
            .len()
            .next_multiple_of(self.devices.own().superblock.block_bytes as usize);
        let mut fill = |target: &mut [u8]| target.copy_from_slice(value);
        let is_packed = row.kind == RecordKind::Packed;
        let payload = (!is_packed).then(|| {
            let mut bytes = value.to_vec();
            bytes.resize(padded, 0);
            Part::Own(bytes)
        });
        let from = entry.place().expect("a copied record lies somewhere");
        let push = Push {
            role: Role::Relocate { from, job: job.id },
            record,
            key,
            packed: is_packed.then_some(&mut fill as Fill<'_>),
            payload,
        };
        self.urgent.push(push, now.ns);
        job.outstanding += 1;
        let bytes = row.footprint(self.devices.own().superblock.block_bytes);
        self.stats.cleaned_bytes += bytes;
        self.cleaner.spend(bytes);
        self.cleaner.credit = self.cleaner.credit.saturating_sub(signed(bytes));
        Copied::Yes
    }

    fn segment_bytes_of(&self, segment: u32) -> u32 {
        let (device, _) = self.devices.locate(segment);
        self.devices.list[device].superblock.segment_bytes
    }

    fn want_heads(&self, job: &mut Job, at: u32, least: u32) -> Copied {
        let block = self.block_bytes();
        let from = at - at % block;
        let wanted = (at - from + least)
            .max(HEAD_READ_BYTES)
            .next_multiple_of(block);
        job.copy.is_payload = false;
        job.copy.wanted_at = from;
        Copied::Read {
            at: from,
            len: wanted.min(self.segment_bytes_of(job.segment) - from),
        }
    }

    /// Brings the whole payload together; returns what has to be read first.
    fn fetch_payload(&self, job: &mut Job, row: &Row) -> Option<Copied> {
        let have = u32::try_from(job.copy.value.len()).expect("below a segment");
        let at = row.place_at + have;
        let left = row.value.len - have;
        if left == 0 {
            return None;
        }
        let window = &job.copy.payloads;
        let end = window.at + u32::try_from(window.bytes.len()).expect("below a segment");
        if (window.at..end).contains(&at) {
            let there = left.min(end - at);
            let bytes = window
                .get(at, there)
                .expect("the window covers it")
                .to_vec();
            job.copy.value.extend_from_slice(&bytes);
            if there == left {
                return None;
            }
            return self.fetch_payload(job, row);
        }
        let len = self.run_bytes(job, row, at);
        job.copy.is_payload = true;
        job.copy.wanted_at = at;
        Some(Copied::Read { at, len })
    }

    /// Returns how much to read from `at` on: the rest of the payload, and those that follow it
    /// closely and live.
    fn run_bytes(&self, job: &Job, row: &Row, at: u32) -> u32 {
        let block = self.block_bytes();
        let mut end = row.place_at + row.value.len.next_multiple_of(block);
        for next in job.rows[job.cursor..].iter().skip(1).take(256) {
            let is_near = next.kind == RecordKind::Payload
                && next.place_at >= end
                && next.place_at - end <= GAP_BYTES;
            let here = Place {
                segment: job.segment,
                at: next.place_at,
            };
            let is_live = is_near
                && self.index.get(next.hash).is_some_and(|entry| {
                    entry.kind() == Kind::Payload && entry.place() == Some(here)
                });
            if is_live {
                end = next.place_at + next.value.len.next_multiple_of(block);
            }
            if end - at >= CLEAN_IO_BYTES_MAX {
                break;
            }
        }
        (end - at).min(CLEAN_IO_BYTES_MAX)
    }
}

/// Returns header, key and value of a record, if they are what the table and the index say.
fn check<'a>(
    head: &'a [u8],
    row: &Row,
    entry: &Entry,
    payload: &'a [u8],
) -> Option<(RecordHeader, &'a [u8], &'a [u8])> {
    let record = RecordHeader::parse(head)?;
    let rest = head.get(RECORD_HEADER_BYTES as usize..)?;
    let (value, rest) = match record.kind {
        RecordKind::Packed => rest.split_at_checked(record.value.len as usize)?,
        _ => (payload, rest),
    };
    let key = rest.get(..usize::from(record.key_len))?;
    let is_it = record.hash == row.hash
        && record.version == entry.version()
        && record.kind == row.kind
        && record.value.len as usize == value.len()
        && crc32c::crc32c(value) == record.value.crc
        && record.value.crc == entry.crc();
    is_it.then_some((record, key, value))
}
