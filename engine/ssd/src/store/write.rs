//! Groups on their way to the device, and what their completion means.
//!
//! Groups of a segment are answered in the order of their places, whatever the device does: a
//! record counts as written only when everything in front of it in its segment is, so that a scan
//! after a crash finds it.
//!
//! Lives on: owner shard.

use super::{LaneName, Purpose, SsdStore};
use crate::device::State;
use crate::effects::{IoFault, IoId, Now, SpillFault};
use crate::format::{RecordKind, Row, SegmentHeader, encode_footer, footer_bytes};
use crate::gather::{Gather, Lane, Member, Role, Spot};
use crate::index::{Entry, Kind, Place};
use crate::limits::GROUPS_IN_FLIGHT_MAX;
use crate::load::tag_of;
use crate::mutate::{Mutation, is_planted};

/// Free segments that only tombstones and the cleaner's copies may take.
pub(super) const RESERVE_SEGMENTS: u32 = 2;

/// The segment that groups are appended to.
#[derive(Debug)]
pub(super) struct Active {
    segment: u32,
    number: u32,
    header: SegmentHeader,
    /// End of the last group.
    used: u32,
    /// Records of all groups, those under way included.
    records: u64,
}

/// A group write under way.
#[derive(Debug)]
pub(super) struct Group {
    id: IoId,
    outcome: Option<Result<(), IoFault>>,
    segment: u32,
    members: Vec<Member>,
    rows: Vec<Row>,
}

/// How far a segment without footer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Groups are appended.
    Open,
    /// Its last groups are under way.
    Closed,
    /// The footer waits for a flush of so many writes, lest a power cut keeps the footer and takes
    /// what it speaks of.
    Flushing(u64),
    /// The footer is being written.
    Footer,
}

/// The table of a segment that has no footer yet.
#[derive(Debug)]
pub(super) struct Log {
    header: SegmentHeader,
    rows: Vec<Row>,
    groups: u32,
    stage: Stage,
    is_broken: bool,
}

impl SsdStore {
    /// Returns whether anything may be written at all: the epoch must be on the device first, and
    /// recovery must know which segments are free.
    pub(super) fn can_write(&self) -> bool {
        self.mark.is_ready()
            && !self
                .recovery
                .as_ref()
                .is_some_and(super::Recovery::is_first_pass)
    }

    /// Returns when a group wants to be written; `None` while lanes are empty or wait for room.
    pub(super) fn lanes_due_ns(&self) -> Option<u64> {
        if !self.can_write() || self.in_flight.len() >= GROUPS_IN_FLIGHT_MAX {
            return None;
        }
        let delay = self.group_delay_ns();
        let due = |lane: &Lane, reserve: u32| {
            let (bytes, records) = lane.front()?;
            let is_free = self.free > reserve && !self.is_kept_by_reads;
            let has_room = self.fits_active(bytes, records) || is_free;
            has_room.then(|| lane.due_ns(delay)).flatten()
        };
        let user = due(&self.user, RESERVE_SEGMENTS);
        let urgent = due(&self.urgent, 0);
        user.into_iter().chain(urgent).min()
    }

    fn fits_active(&self, bytes: u64, records: u64) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let footer = footer_bytes(active.records + records, self.block_bytes());
            u64::from(active.used) + bytes + footer <= u64::from(self.segment_bytes())
        })
    }

    pub(super) fn pump_writes(&mut self, now: Now) {
        if self.retired.is_some() || !self.can_write() {
            return;
        }
        let delay = if self.is_closing {
            0
        } else {
            self.group_delay_ns()
        };
        while self.in_flight.len() < GROUPS_IN_FLIGHT_MAX {
            let urgent = self.urgent.due_ns(delay).is_some_and(|due| due <= now.ns);
            if urgent && self.pump_lane(LaneName::Urgent, now) {
                continue;
            }
            let user = self.user.due_ns(delay).is_some_and(|due| due <= now.ns);
            if !(user && self.pump_lane(LaneName::User, now)) {
                return;
            }
        }
    }

    /// Writes the first group of a lane; returns whether there was room for it.
    fn pump_lane(&mut self, name: LaneName, now: Now) -> bool {
        let lane = match name {
            LaneName::User => &self.user,
            LaneName::Urgent => &self.urgent,
        };
        let (bytes, records) = lane.front().expect("a due lane has a group");
        if !self.fits_active(bytes, records) {
            let reserve = match name {
                LaneName::User if !self.is_closing => RESERVE_SEGMENTS,
                _ => 0,
            };
            if !self.open_segment(reserve) {
                return false;
            }
        }
        let lane = match name {
            LaneName::User => &mut self.user,
            LaneName::Urgent => &mut self.urgent,
        };
        let gather = lane.pop().expect("a due lane has a group");
        self.issue(gather, now);
        true
    }

    /// Makes a free segment the active one, if more than `reserve` are free.
    fn open_segment(&mut self, reserve: u32) -> bool {
        let own = self.devices.own();
        let number = own.segments.iter().position(|segment| {
            let is_read = segment.reads > 0 && !is_planted(Mutation::ReuseUnderRead);
            segment.state == State::Free && !is_read
        });
        // Without this mark a due group would ask for rounds until the last of those reads ends.
        self.is_kept_by_reads = self.free > reserve && number.is_none();
        let Some(number) = number.filter(|_| self.free > reserve) else {
            return false;
        };
        let number = u32::try_from(number).expect("at most 2^20 segments");
        let segment = own.base + number;
        let header = SegmentHeader {
            format: own.superblock.format,
            segment: number,
            shard: self.options.shard.0,
            shard_count: self.options.shard_count,
            sequence: self.next_sequence,
            epoch: self.options.epoch,
            is_erased: false,
        };
        self.close_active();
        self.next_sequence += 1;
        self.free -= 1;
        self.devices
            .segment_mut(segment)
            .reset(State::Active, Some(header));
        self.logs.insert(
            segment,
            Log {
                header,
                rows: Vec::new(),
                groups: 0,
                stage: Stage::Open,
                is_broken: false,
            },
        );
        self.active = Some(Active {
            segment,
            number,
            header,
            used: 0,
            records: 0,
        });
        true
    }

    fn issue(&mut self, mut gather: Gather, now: Now) {
        for member in &mut gather.members {
            member.record.is_void |= self.is_void(member);
        }
        let block = self.block_bytes();
        let active = self.active.as_mut().expect("room was found");
        let mut front = Vec::new();
        if active.used == 0 {
            front = active.header.encode();
            front.resize(block as usize, 0);
        }
        let write_at = active.used;
        let at = active.used.max(block);
        let spot = Spot {
            sequence: active.header.sequence,
            tag: tag_of(&active.header.format),
            segment: active.number,
            at,
        };
        let total = u32::try_from(gather.total_bytes()).expect("a group is below a segment");
        let encoded = gather.encode(&spot, &front);
        active.used = at + total;
        active.records += encoded.rows.len() as u64;
        let (segment, number) = (active.segment, active.number);
        let log = self
            .logs
            .get_mut(&segment)
            .expect("the active segment has a log");
        log.groups += 1;
        let own = self.devices.own;
        let offset = self.devices.own().offset(number, write_at);
        let id = self.start_write_io(Purpose::Group, own, offset, encoded.parts, now);
        self.in_flight.push_back(Group {
            id,
            outcome: None,
            segment,
            members: gather.members,
            rows: encoded.rows,
        });
    }

    /// Returns whether a record was overtaken while it waited: it must not look newer in the log
    /// than what overtook it.
    fn is_void(&self, member: &Member) -> bool {
        let entry = self.index.get(member.record.hash);
        match member.role {
            Role::Append(_) => !entry.is_some_and(|entry| {
                entry.kind() == Kind::Writing && entry.version() == member.record.version
            }),
            Role::Relocate { from, .. } => {
                let is_value = member.record.kind != RecordKind::Tombstone;
                is_value && entry.and_then(|entry| entry.place()) != Some(from)
            },
            Role::Tombstone(_) | Role::Protect { .. } => false,
        }
    }

    pub(super) fn on_group(&mut self, id: IoId, result: Result<(), IoFault>, now: Now) {
        if self.retired.is_some() {
            return;
        }
        let group = self.in_flight.iter_mut().find(|group| group.id == id);
        group.expect("a group is answered once").outcome = Some(result);
        while let Some(outcome) = self.in_flight.front().and_then(|group| group.outcome) {
            let group = self.in_flight.pop_front().expect("it was just looked at");
            self.complete(group, outcome, now);
        }
    }

    fn complete(&mut self, group: Group, outcome: Result<(), IoFault>, now: Now) {
        let segment = group.segment;
        for (member, mut row) in group.members.iter().zip(group.rows) {
            if outcome.is_err() {
                row.is_void = true;
            }
            let place = Place {
                segment,
                at: row.place_at,
            };
            self.complete_member(member, &row, place, outcome, now);
            let log = self
                .logs
                .get_mut(&segment)
                .expect("groups under way keep the log");
            log.rows.push(row);
        }
        let log = self
            .logs
            .get_mut(&segment)
            .expect("groups under way keep the log");
        log.groups -= 1;
        log.is_broken |= outcome.is_err();
        if outcome.is_err() && self.active.as_ref().is_some_and(|a| a.segment == segment) {
            self.close_active();
        } else {
            self.try_footer(segment);
        }
    }

    /// Every record that may be on the device is counted, whether its write succeeded or not.
    fn complete_member(
        &mut self,
        member: &Member,
        row: &Row,
        place: Place,
        outcome: Result<(), IoFault>,
        now: Now,
    ) {
        let hash = row.hash;
        let mut entry = self.index.get(hash).unwrap_or_else(|| {
            let entry = Entry::dead(hash, 0);
            // A key whose entry went with its last record; without room its tombstone is lost.
            self.index.insert(entry);
            entry
        });
        entry.add_record();
        if self.index.get(hash).is_some() {
            self.index.set(entry);
        } else {
            self.stats.dropped += 1;
            if let Role::Relocate { job, .. } | Role::Protect { job } = member.role {
                self.cleaner.member_done(job, outcome.is_ok());
            }
            return;
        }
        match member.role {
            Role::Append(ticket) => {
                let result = self.complete_append(entry, row, place, outcome, now);
                self.done(ticket, result);
            },
            Role::Tombstone(ticket) => match outcome {
                Ok(()) => {
                    self.settle(entry, row, place);
                    if let Some(ticket) = ticket {
                        self.done(ticket, Ok(()));
                    }
                },
                Err(_) => {
                    self.push_tombstone(LaneName::Urgent, member.role, hash, row.version, now);
                },
            },
            Role::Relocate { from, job } => {
                self.cleaner.member_done(job, outcome.is_ok());
                let is_current = entry.place() == Some(from) && entry.version() == row.version;
                if outcome.is_ok() && !row.is_void && is_current {
                    self.bury(Some(&entry));
                    entry.set_place(Some(place));
                    self.index.set(entry);
                    if entry.is_live() {
                        self.raise(&entry);
                    }
                }
            },
            Role::Protect { job } => {
                self.cleaner.member_done(job, outcome.is_ok());
                if outcome.is_ok() && !entry.is_queued() {
                    self.settle(entry, row, place);
                }
            },
        }
    }

    /// A tombstone is on the device: the entry says where, unless something newer stands there.
    fn settle(&mut self, mut entry: Entry, row: &Row, place: Place) {
        let is_its =
            entry.kind() == Kind::Dead && entry.place().is_none() && row.version >= entry.version();
        if is_its {
            entry.set_version(row.version);
            entry.set_place(Some(place));
            entry.set_queued(false);
            self.index.set(entry);
        }
    }

    fn complete_append(
        &mut self,
        mut entry: Entry,
        row: &Row,
        place: Place,
        outcome: Result<(), IoFault>,
        now: Now,
    ) -> Result<(), SpillFault> {
        let is_current = entry.kind() == Kind::Writing && entry.version() == row.version;
        if !is_current {
            return Err(SpillFault::Superseded);
        }
        match outcome {
            Ok(()) => {
                entry.set_place(Some(place));
                entry.set_kind(match row.kind {
                    RecordKind::Packed => Kind::Packed,
                    _ => Kind::Payload,
                });
                self.index.set(entry);
                self.raise(&entry);
                Ok(())
            },
            Err(fault) => {
                // Part of it may be there after all: a crash must not bring it to life.
                entry.set_kind(Kind::Dead);
                entry.set_queued(true);
                self.index.set(entry);
                let (hash, version) = (entry.hash(), entry.version());
                self.push_tombstone(LaneName::Urgent, Role::Tombstone(None), hash, version, now);
                Err(SpillFault::Write(fault))
            },
        }
    }

    pub(super) const fn has_active(&self) -> bool {
        self.active.is_some()
    }

    /// Ends appending to the active segment.
    pub(super) fn close_active(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        self.devices.segment_mut(active.segment).state = State::Closing;
        let log = self
            .logs
            .get_mut(&active.segment)
            .expect("the active segment has a log");
        log.stage = Stage::Closed;
        self.try_footer(active.segment);
    }

    fn try_footer(&mut self, segment: u32) {
        let completed = self.devices.own().completed;
        let log = self
            .logs
            .get_mut(&segment)
            .expect("a segment without footer has a log");
        if log.stage == Stage::Closed && log.groups == 0 {
            log.stage = Stage::Flushing(completed);
        }
    }

    /// Lets a found segment have its footer, once a flush of this start covers what was read.
    pub(super) fn queue_footer(&mut self, segment: u32, header: SegmentHeader, rows: Vec<Row>) {
        let log = Log {
            header,
            rows,
            groups: 0,
            stage: Stage::Flushing(self.devices.own().completed.max(1)),
            is_broken: false,
        };
        self.logs.insert(segment, log);
    }

    /// Writes the footers whose time has come.
    pub(super) fn pump_footers(&mut self, now: Now) {
        let flushed = self.devices.own().flushed;
        let due: Vec<u32> = self
            .logs
            .iter()
            .filter(|(_, log)| matches!(log.stage, Stage::Flushing(stamp) if stamp <= flushed))
            .map(|(&segment, _)| segment)
            .collect();
        for segment in due {
            let block = self.block_bytes();
            let log = self.logs.get_mut(&segment).expect("it was just listed");
            log.stage = Stage::Footer;
            let bytes = encode_footer(&log.header, &log.rows, block);
            let rows =
                u32::try_from(log.rows.len()).expect("a segment has fewer than 2^32 records");
            log.rows = Vec::new();
            let number = log.header.segment;
            self.devices.segment_mut(segment).rows = rows;
            let at = self.segment_bytes() - u32::try_from(bytes.len()).expect("below a segment");
            let own = self.devices.own;
            let offset = self.devices.own().offset(number, at);
            let parts = vec![crate::effects::Part::Own(bytes)];
            self.start_write_io(Purpose::Footer { segment }, own, offset, parts, now);
        }
    }

    pub(super) fn on_footer(&mut self, segment: u32, is_written: bool) {
        if self.retired.is_some() {
            return;
        }
        let log = self.logs.remove(&segment);
        let is_sound = is_written && !log.is_some_and(|log| log.is_broken);
        let found = self.devices.segment_mut(segment);
        found.state = if is_sound {
            State::Sealed
        } else {
            State::Isolated
        };
        if is_sound && found.live_bytes == 0 {
            self.cleaner.note_dead(segment);
        }
    }

    /// Ends every append and delete that has not ended, without success.
    pub(super) fn fail_everything(&mut self, fault: SpillFault) {
        let mut members = Vec::new();
        for group in self.in_flight.drain(..) {
            members.extend(group.members);
        }
        for lane in [&mut self.user, &mut self.urgent] {
            while let Some(gather) = lane.pop() {
                members.extend(gather.members);
            }
        }
        for member in members {
            match member.role {
                Role::Append(ticket) | Role::Tombstone(Some(ticket)) => {
                    self.done(ticket, Err(fault));
                },
                _ => {},
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chariot_base::{ShardId, TenantId};
    use chariot_proto::{KeyHash, WriteMode};

    use super::*;
    use crate::effects::Effect;
    use crate::options::{PartitionShape, SsdOptions};
    use crate::record::{Append, NewRecord, Source};
    use crate::superblock::{Identity, Superblock};

    /// Answers all that the store asks for; says how many groups it wrote.
    fn settle(store: &mut SsdStore, now: Now) -> u32 {
        let mut groups = 0;
        while let Some(effect) = store.next_effect() {
            match effect {
                Effect::Write(write) => {
                    let purpose = store.ios[&write.id].purpose;
                    groups += u32::from(purpose == Purpose::Group);
                    store.on_written(write.id, Ok(()), now);
                },
                Effect::Flush { id, .. } => store.on_flushed(id, Ok(()), now),
                _ => {},
            }
        }
        groups
    }

    #[test]
    fn a_group_that_waits_for_reads_of_free_segments_asks_for_no_rounds() {
        let identity = Identity {
            node: [1; 16],
            secret: [2; 32],
            next_epoch: 1,
        };
        let superblock = Superblock::plan(&identity, [3; 16], 0, 1 << 20, 32 << 10).unwrap();
        let shapes = [PartitionShape {
            partition: 0,
            superblock,
        }];
        let mut now = Now {
            ns: 1_000_000_000,
            unix_ms: 1_790_000_000_000,
        };
        let options = SsdOptions::new(ShardId(0), 1, 1, [4; 16]);
        let mut store = SsdStore::open(options, &shapes, now).unwrap();
        for _ in 0..10 {
            settle(&mut store, now);
            store.on_tick(now);
        }
        assert!(store.can_write() && !store.is_recovering());
        for number in 0..store.devices.own().superblock.segment_count {
            store.devices.segment_mut(number).reads = 1;
        }
        let record = NewRecord {
            hash: KeyHash { hi: 5, lo: 6 },
            tenant: TenantId(0),
            key: b"key",
            version: (1 << 44) | 1,
            expiry_unix_ms: 0,
            len: 300,
            crc: 7,
            has_checksum: true,
            mode: WriteMode::NoneEvict,
        };
        let mut fill = |to: &mut [u8]| to.fill(1);
        let appended = store.append(&record, Source::Fill(&mut fill), now);
        assert!(matches!(appended, Ok(Append::Queued(_))));
        now.ns += store.group_delay_ns();
        assert_eq!(store.lanes_due_ns(), Some(now.ns), "not tried yet");
        store.on_tick(now);
        assert_eq!(settle(&mut store, now), 0);
        assert_eq!(store.lanes_due_ns(), None, "only a read's end can help");
        for number in 0..store.devices.own().superblock.segment_count {
            store.devices.segment_mut(number).reads = 0;
        }
        store.is_kept_by_reads = false;
        assert_eq!(store.lanes_due_ns(), Some(now.ns));
        store.on_tick(now);
        assert_eq!(settle(&mut store, now), 1);
    }
}
