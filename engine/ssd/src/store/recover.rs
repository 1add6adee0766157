//! Rebuilding the index after a restart, while the store already serves.
//!
//! ```text
//!  headers of all segments ─► newest first: load ─► apply ─► … ─► Recovered
//! ```
//! Segments are applied by descending (epoch, sequence): of the records of a hash the first one
//! found is the newest, so that what is found may be served at once, and only what is not found is
//! unknown. Within an epoch a hash belongs to one shard, hence to one partition, so the order holds
//! over partitions too. Versions are compared all the same.
//!
//! Lives on: owner shard.

use std::collections::VecDeque;

use chariot_proto::KeyHash;

use super::{Purpose, SsdStore, clean};
use crate::device::State;
use crate::effects::{Effect, Now};
use crate::format::{RecordKind, Row, SegmentHeader, TRAILER_BYTES, Trailer, footer_bytes};
use crate::index::{Entry, Kind, Place};
use crate::load::{Load, Step};
use crate::mutate::{Mutation, is_planted};
use crate::stats::RecoveryProgress;

/// Rows applied before other work has its turn: about a millisecond.
const ROWS_PER_TURN: usize = 4096;
/// Rows whose keys are looked for at once: their 64 lines of the index fit the smallest cache.
const ROWS_AT_ONCE: usize = 32;

/// A segment being loaded.
#[derive(Debug)]
struct Loading {
    segment: u32,
    load: Load,
    is_reading: bool,
    is_failed: bool,
}

/// What recovery has still to do.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Headers to be read, in order.
    headers: VecDeque<u32>,
    trailers: VecDeque<u32>,
    headers_under_way: usize,
    /// Segments to be loaded, the newest last; filled when the header pass ends.
    order: Vec<u32>,
    loading: VecDeque<Loading>,
    /// How many rows of the first loaded segment are applied.
    applied: usize,
    is_first_pass: bool,
    /// The table of the index from which on room is to be given back.
    trimmed: usize,
    progress: RecoveryProgress,
}

impl Recovery {
    pub(super) const fn is_first_pass(&self) -> bool {
        self.is_first_pass
    }
}

impl SsdStore {
    pub(super) fn start_recovery(&mut self, is_fresh: bool) {
        let mut headers = VecDeque::new();
        for (at, device) in self.devices.list.iter_mut().enumerate() {
            let is_own = at == self.devices.own;
            if device.superblock.epoch == 0 {
                let state = if is_own { State::Free } else { State::Foreign };
                for segment in &mut device.segments {
                    segment.state = state;
                }
            } else {
                headers.extend(device.base..device.base + device.superblock.segment_count);
            }
        }
        if is_fresh {
            self.free = self.devices.own().superblock.segment_count;
        }
        self.index.begin_bulk();
        self.recovery = Some(Recovery {
            headers,
            trailers: VecDeque::new(),
            headers_under_way: 0,
            order: Vec::new(),
            loading: VecDeque::new(),
            applied: 0,
            is_first_pass: true,
            trimmed: 0,
            progress: RecoveryProgress::default(),
        });
    }

    pub(super) fn pump_recovery(&mut self, now: Now) {
        let Some(mut recovery) = self.recovery.take() else {
            return;
        };
        if recovery.is_first_pass {
            self.pump_headers(&mut recovery, now);
        }
        if !recovery.is_first_pass {
            self.pump_loads(&mut recovery, now);
            self.pump_apply(&mut recovery);
            self.pump_loads(&mut recovery, now);
            if recovery.order.is_empty() && recovery.loading.is_empty() {
                let Some(next) = self.index.trim(recovery.trimmed) else {
                    self.end_recovery(&recovery, now);
                    return;
                };
                recovery.trimmed = next;
                self.again = true;
            }
        }
        self.recovery = Some(recovery);
    }

    fn pump_headers(&mut self, recovery: &mut Recovery, now: Now) {
        let block = self.block_bytes();
        while recovery.headers_under_way < usize::from(self.options.recovery_reads) {
            let (segment, is_trailer) = match recovery.trailers.pop_front() {
                Some(segment) => (segment, true),
                None => match recovery.headers.pop_front() {
                    Some(segment) => (segment, false),
                    None => break,
                },
            };
            let (device, _) = self.devices.locate(segment);
            if self.devices.list[device].is_retired {
                self.devices.segment_mut(segment).state = State::Isolated;
                continue;
            }
            let end = self.devices.list[device].superblock.segment_bytes;
            let at = if is_trailer { end - block } else { 0 };
            recovery.headers_under_way += 1;
            let purpose = Purpose::Header {
                segment,
                is_trailer,
            };
            self.start_read_io(purpose, Place { segment, at }, block, now);
        }
        if recovery.headers_under_way == 0 {
            recovery.is_first_pass = false;
            self.sort_segments(recovery);
        }
    }

    pub(super) fn on_header(&mut self, segment: u32, is_trailer: bool, bytes: Option<&[u8]>) {
        let Some(recovery) = self.recovery.as_mut() else {
            return;
        };
        recovery.headers_under_way -= 1;
        let (at, number) = self.devices.locate(segment);
        let device = &self.devices.list[at];
        let Some(bytes) = bytes else {
            self.devices.segment_mut(segment).state = State::Isolated;
            return;
        };
        let header = if is_trailer {
            Trailer::parse(&bytes[bytes.len() - TRAILER_BYTES..]).map(|trailer| trailer.header)
        } else {
            SegmentHeader::parse(bytes)
        };
        let header = header
            .filter(|header| header.format == device.superblock.format && header.segment == number);
        match header {
            Some(header) => {
                if is_trailer {
                    self.stats.corrupt_metadata += 1;
                }
                self.classify(segment, at, header);
            },
            None if is_trailer => self.classify_free(segment, at, None),
            None => recovery.trailers.push_back(segment),
        }
    }

    fn classify_free(&mut self, segment: u32, device: usize, header: Option<SegmentHeader>) {
        let is_own = device == self.devices.own;
        self.free += u32::from(is_own);
        let state = if is_own { State::Free } else { State::Foreign };
        self.devices.segment_mut(segment).reset(state, header);
    }

    fn classify(&mut self, segment: u32, device: usize, header: SegmentHeader) {
        let is_own = device == self.devices.own;
        if is_own {
            self.next_sequence = self.next_sequence.max(header.sequence + 1);
        }
        if header.is_erased {
            self.classify_free(segment, device, Some(header));
            return;
        }
        let is_shared = header.shard_count != self.options.shard_count;
        let is_mine = is_own || is_shared;
        let state = if is_mine {
            State::Sealed
        } else {
            State::Foreign
        };
        let found = self.devices.segment_mut(segment);
        found.reset(state, Some(header));
        found.is_shared = is_shared && is_mine;
    }

    fn sort_segments(&mut self, recovery: &mut Recovery) {
        for device in &self.devices.list {
            for (segment, found) in (device.base..).zip(&device.segments) {
                if found.state == State::Sealed {
                    recovery.order.push(segment);
                }
            }
        }
        recovery.order.sort_by_key(|&segment| {
            let header = self
                .devices
                .segment(segment)
                .header
                .expect("it was found by its header");
            (header.epoch, header.sequence)
        });
        recovery.progress.segments_total =
            u32::try_from(recovery.order.len()).expect("at most 2^20 segments");
    }

    fn pump_loads(&mut self, recovery: &mut Recovery, now: Now) {
        while recovery.loading.len() < usize::from(self.options.recovery_reads) {
            let Some(segment) = recovery.order.pop() else {
                break;
            };
            recovery.loading.push_back(Loading {
                segment,
                load: self.load_of(segment),
                is_reading: false,
                is_failed: false,
            });
        }
        for loading in &mut recovery.loading {
            if loading.is_reading || loading.is_failed {
                continue;
            }
            let (device, _) = self.devices.locate(loading.segment);
            if self.devices.list[device].is_retired {
                loading.is_failed = true;
                continue;
            }
            if let Step::Read { at, len } = loading.load.step() {
                let segment = loading.segment;
                loading.is_reading = true;
                let place = Place { segment, at };
                self.start_read_io(Purpose::Load { segment }, place, len, now);
            }
        }
    }

    pub(super) fn load_of(&self, segment: u32) -> Load {
        let (device, _) = self.devices.locate(segment);
        let superblock = &self.devices.list[device].superblock;
        let header = self
            .devices
            .segment(segment)
            .header
            .expect("a used segment has a header");
        Load::new(header, superblock.segment_bytes, superblock.block_bytes)
    }

    pub(super) fn on_load(&mut self, segment: u32, bytes: Option<&[u8]>) {
        let Some(recovery) = self.recovery.as_mut() else {
            return;
        };
        let found = recovery
            .loading
            .iter_mut()
            .find(|loading| loading.segment == segment);
        let loading = found.expect("a load is under way until it is applied");
        loading.is_reading = false;
        match bytes {
            Some(bytes) => loading.load.feed(bytes),
            None => loading.is_failed = true,
        }
    }

    fn pump_apply(&mut self, recovery: &mut Recovery) {
        let Some(loading) = recovery.loading.front() else {
            return;
        };
        let is_done = matches!(loading.load.step(), Step::Done);
        if loading.is_failed {
            let failed = recovery.loading.pop_front().expect("it was just looked at");
            self.devices.segment_mut(failed.segment).state = State::Isolated;
            self.end_segment(recovery);
        } else if is_done {
            let rows = &loading.load.rows[recovery.applied..];
            let turn = rows.len().min(ROWS_PER_TURN);
            for some in rows[..turn].chunks(ROWS_AT_ONCE) {
                self.index.warm(some.iter().map(|row| row.hash));
                for row in some {
                    self.apply(loading.segment, row);
                }
            }
            recovery.applied += turn;
            recovery.progress.records += turn as u64;
            if recovery.applied == loading.load.rows.len() {
                recovery.applied = 0;
                let loaded = recovery.loading.pop_front().expect("it was just looked at");
                self.end_load(loaded);
                self.end_segment(recovery);
            }
        } else {
            return;
        }
        self.again = true;
    }

    fn end_segment(&mut self, recovery: &mut Recovery) {
        recovery.progress.segments_done += 1;
        // As if the rest were like what was seen: keys that come again and those of other shards
        // are left out of it by themselves. Too much costs nothing, too little a copy.
        let progress = recovery.progress;
        let total = u128::from(self.index.len()) * u128::from(progress.segments_total);
        let entries = total / u128::from(progress.segments_done);
        self.index
            .expect(u64::try_from(entries).unwrap_or(u64::MAX));
        self.effects.push_back(Effect::Progress(recovery.progress));
    }

    fn end_load(&mut self, loaded: Loading) {
        let load = loaded.load;
        let rows = u32::try_from(load.rows.len()).expect("a segment has fewer than 2^32 records");
        // What the index does not know of a segment cannot be judged: it is not cleaned.
        let known = if self.is_overfull { u32::MAX } else { rows };
        self.devices.segment_mut(loaded.segment).rows = known;
        self.stats.corrupt_metadata += u64::from(load.damaged);
        let (device, _) = self.devices.locate(loaded.segment);
        let footer = footer_bytes(load.rows.len() as u64, self.block_bytes());
        let fits = u64::from(load.used) + footer <= u64::from(self.segment_bytes());
        if !load.has_footer && fits && device == self.devices.own {
            let found = self.devices.segment_mut(loaded.segment);
            found.state = State::Closing;
            let header = found.header.expect("a used segment has a header");
            self.queue_footer(loaded.segment, header, load.rows);
        }
    }

    /// Returns whether a hash belongs to this shard; asked for segments of other shard counts.
    pub(super) fn is_mine(&self, hash: KeyHash) -> bool {
        hash.shard(self.options.shard_count) == self.options.shard.0
    }

    /// Takes one record that lies on a device.
    fn apply(&mut self, segment: u32, row: &Row) {
        self.stats.recovered_records += 1;
        if self.devices.segment(segment).is_shared && !self.is_mine(row.hash) {
            return;
        }
        let old = self.index.get(row.hash);
        let mut entry = match old {
            Some(entry) => entry,
            None if !self.is_overfull && self.index.has_room(row.hash) => Entry::dead(row.hash, 0),
            None => {
                // Room may come later, and with it an older record of a hash whose newest one, or
                // whose tombstone, found none: nothing new is taken from here on.
                self.is_overfull = true;
                self.stats.dropped += 1;
                return;
            },
        };
        entry.add_record();
        if !wins(row, old.as_ref()) {
            self.put(old.is_some(), entry);
            return;
        }
        self.bury(old.as_ref());
        entry.set_version(row.version);
        entry.set_hits(0);
        entry.set_place(Some(Place {
            segment,
            at: row.place_at,
        }));
        entry.set_value(&row.value);
        entry.set_kind(match row.kind {
            _ if row.is_void => Kind::Dead,
            RecordKind::Packed => Kind::Packed,
            RecordKind::Payload => Kind::Payload,
            RecordKind::Tombstone => Kind::Dead,
        });
        self.put(old.is_some(), entry);
        if entry.is_live() {
            self.raise(&entry);
        }
    }

    fn end_recovery(&mut self, recovery: &Recovery, now: Now) {
        self.stats.recovery_ms = (now.ns - self.opened_ns) / 1_000_000;
        self.effects.push_back(Effect::Progress(recovery.progress));
        self.effects.push_back(Effect::Recovered);
        let mut dead = Vec::new();
        let mut shared = Vec::new();
        for device in &self.devices.list {
            for (segment, found) in (device.base..).zip(&device.segments) {
                if found.state != State::Sealed && found.state != State::Closing {
                    continue;
                }
                if found.is_shared {
                    shared.push(segment);
                } else if found.live_bytes == 0 {
                    dead.push(segment);
                }
            }
        }
        self.cleaner.start(dead, shared);
        clean::note_drained(self);
        self.again = true;
    }
}

/// Tells whether a record counts more than what was found before. A void one (it was dead when it
/// was written, or its write failed) counts as a tombstone: what it replaced is dead as well.
fn wins(row: &Row, old: Option<&Entry>) -> bool {
    let Some(old) = old else {
        return true;
    };
    if is_planted(Mutation::VersionInverted) {
        return row.version < old.version();
    }
    if row.version == old.version() {
        return (row.is_void || row.kind == RecordKind::Tombstone) && old.is_live();
    }
    row.version > old.version()
}
