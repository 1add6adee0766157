//! Finding and reading objects.

use chariot_proto::KeyHash;

use super::SsdStore;
use crate::device::State;
use crate::effects::{IoFault, Now};
use crate::format::{RECORD_HEADER_BYTES, RecordHeader};
use crate::index::{Entry, Kind, Place};
use crate::limits::READS_IN_FLIGHT_MAX;
use crate::mutate::{Mutation, is_planted};
use crate::record::{Lookup, ReadId, ReadLayout, ReadOutcome, ReadPlan, ReadResult, SsdHit};

/// A read of a hit under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    hash: KeyHash,
    version: u64,
    place: Place,
    kind: Kind,
    len: u32,
    crc: u32,
    /// First byte of the record in what is read.
    at: u32,
    /// Bytes that are read.
    read_bytes: u32,
}

impl SsdStore {
    /// Finds an object; what expired is absent. Counts a hit or a miss.
    ///
    /// # Panics
    /// Never: what was just found is there.
    pub fn lookup(&mut self, hash: KeyHash, now: Now) -> Lookup {
        let found = self.peek(hash, now);
        match found {
            Lookup::Hit(_) => {
                self.stats.hits += 1;
                let mut entry = self.index.get(hash).expect("a hit is in the index");
                entry.set_hits(entry.hits().saturating_add(1));
                self.index.set(entry);
                return Lookup::Hit(self.hit_of(&entry));
            },
            Lookup::Unknown => self.stats.unknown += 1,
            Lookup::Absent | Lookup::Writing => self.stats.misses += 1,
        }
        found
    }

    /// Finds an object without any trace.
    pub fn peek(&self, hash: KeyHash, now: Now) -> Lookup {
        let Some(entry) = self.index.get(hash) else {
            return if self.recovery.is_some() {
                Lookup::Unknown
            } else {
                Lookup::Absent
            };
        };
        match entry.kind() {
            Kind::Dead => Lookup::Absent,
            Kind::Writing => Lookup::Writing,
            Kind::Packed | Kind::Payload if entry.is_expired(now.unix_ms) => Lookup::Absent,
            Kind::Packed | Kind::Payload if self.is_out_of_reach(&entry) => Lookup::Absent,
            Kind::Packed | Kind::Payload => Lookup::Hit(self.hit_of(&entry)),
        }
    }

    /// Whether a live entry lies on a device that was given up.
    fn is_out_of_reach(&self, entry: &Entry) -> bool {
        let place = entry.place().expect("a live entry lies somewhere");
        let (device, _) = self.devices.locate(place.segment);
        self.devices.list[device].is_retired
    }

    fn hit_of(&self, entry: &Entry) -> SsdHit {
        SsdHit {
            hash: entry.hash(),
            version: entry.version(),
            len: entry.len(),
            expiry_unix_ms: entry.expiry_unix_ms(),
            crc: entry.crc(),
            has_checksum: entry.has_checksum(),
            mode: entry.mode(),
            promote: entry.hits() >= self.options.promote_on_hit.min(3),
        }
    }

    /// Plans the read of a hit; `None` when the object has changed since, its device was given up,
    /// or too many reads are under way. End it with [`Self::finish_read`].
    ///
    /// # Panics
    /// Never: a live entry lies somewhere.
    pub fn start_read(&mut self, hit: &SsdHit, _now: Now) -> Option<ReadPlan> {
        let entry = self.index.get(hit.hash)?;
        if !entry.is_live() || entry.version() != hit.version {
            return None;
        }
        let place = entry.place().expect("a live entry lies somewhere");
        let (device, number) = self.devices.locate(place.segment);
        if self.devices.list[device].is_retired || self.reads.len() >= READS_IN_FLIGHT_MAX {
            return None;
        }
        let block = self.block_bytes();
        let (layout, first, end) = if entry.kind() == Kind::Payload {
            (ReadLayout::Payload, place.at, place.at + entry.len())
        } else {
            let end = place.at + RECORD_HEADER_BYTES + entry.len();
            (ReadLayout::Packed, place.at - place.at % block, end)
        };
        let len = end.next_multiple_of(block) - first;
        let id = ReadId(self.number());
        let reading = Reading {
            hash: hit.hash,
            version: hit.version,
            place,
            kind: entry.kind(),
            len: entry.len(),
            crc: entry.crc(),
            at: place.at - first,
            read_bytes: len,
        };
        self.reads.insert(id, reading);
        self.devices.segment_mut(place.segment).reads += 1;
        let found = &self.devices.list[device];
        Some(ReadPlan {
            id,
            partition: found.superblock.partition,
            offset: found.offset(number, first),
            len,
            layout,
            hit: self.hit_of(&entry),
        })
    }

    /// Ends a read and says whether its value may be served.
    ///
    /// # Panics
    /// When no such read is under way.
    pub fn finish_read(&mut self, id: ReadId, outcome: ReadOutcome<'_>, now: Now) -> ReadResult {
        let reading = self.reads.remove(&id).expect("the read is under way");
        let segment = self.devices.segment_mut(reading.place.segment);
        segment.reads -= 1;
        // A free segment may be written again, and a shared one be released.
        let is_awaited = segment.state == State::Free || segment.is_shared;
        let was_last = segment.reads == 0 && is_awaited;
        let result = match outcome {
            ReadOutcome::Cancelled => ReadResult::Failed,
            ReadOutcome::Failed(fault) => {
                let (device, _) = self.devices.locate(reading.place.segment);
                if fault == IoFault::TimedOut {
                    // As of any other I/O that hangs: the next ones would be waited for as long.
                    self.stats.hung += 1;
                    self.retire_device(device, fault);
                } else {
                    self.count_read_fault(device, fault);
                }
                self.forget(&reading);
                ReadResult::Failed
            },
            ReadOutcome::Checksum(_) | ReadOutcome::Bytes(_) => self.judge(&reading, outcome),
        };
        if was_last {
            self.is_kept_by_reads = false;
            self.pump(now);
        }
        result
    }

    fn judge(&mut self, reading: &Reading, outcome: ReadOutcome<'_>) -> ReadResult {
        self.stats.read_bytes += u64::from(reading.read_bytes);
        let at = match outcome {
            ReadOutcome::Checksum(crc) => {
                assert!(
                    reading.kind == Kind::Payload,
                    "a packed value is told by its bytes"
                );
                (crc == reading.crc).then_some(0)
            },
            ReadOutcome::Bytes(bytes) => check(reading, bytes),
            _ => None,
        };
        let at = if is_planted(Mutation::ChecksumIgnored) {
            at.or(Some(0))
        } else {
            at
        };
        if let Some(at) = at {
            return ReadResult::Value { at };
        }
        self.stats.corrupt_values += 1;
        self.forget(reading);
        ReadResult::Corrupt
    }

    /// Gives up what could not be read, unless it has changed or moved meanwhile.
    fn forget(&mut self, reading: &Reading) {
        let entry = self.index.get(reading.hash);
        let same = entry.filter(|entry| {
            entry.is_live()
                && entry.version() == reading.version
                && entry.place() == Some(reading.place)
        });
        if let Some(entry) = same {
            self.give_up(entry);
        }
    }
}

/// Returns where the value begins, if the bytes are what was written.
fn check(reading: &Reading, bytes: &[u8]) -> Option<u32> {
    let len = reading.len as usize;
    if reading.kind == Kind::Payload {
        let value = bytes.get(..len)?;
        return (crc32c::crc32c(value) == reading.crc).then_some(0);
    }
    let rest = bytes.get(reading.at as usize..)?;
    let record = RecordHeader::parse(rest)?;
    let value = rest.get(RECORD_HEADER_BYTES as usize..)?.get(..len)?;
    let is_it = record.hash == reading.hash
        && record.version == reading.version
        && record.value.len == reading.len
        && crc32c::crc32c(value) == record.value.crc
        && record.value.crc == reading.crc;
    is_it.then_some(reading.at + RECORD_HEADER_BYTES)
}
