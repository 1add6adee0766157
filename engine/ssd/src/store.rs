//! The store: what the caller sees, and the state that its parts share.
//!
//! ```text
//!  append, delete ─► lanes ─► write.rs ─► Write … on_written ─► index, Done
//!  open ─► recover.rs ─► Read … on_read ─► index                    │
//!  on_tick ─► clean.rs ─► Read … copies into a lane, erase ◄────────┘
//!          └► flush.rs ─► Flush … on_flushed, superblock, close
//! ```
//! Every call ends with [`SsdStore::pump`], which lets each part do what it can; a part does a
//! bounded number of steps and asks to be called again at once when it has more.
//!
//! Lives on: owner shard.

mod append;
mod clean;
mod flush;
mod read;
mod recover;
mod write;

use std::collections::{BTreeMap, VecDeque};

use chariot_proto::WriteMode;

use crate::device::{Device, Devices, State};
use crate::effects::{Done, Effect, IoFault, IoId, Now, Part, SpillFault};
use crate::error::OpenError;
use crate::format::{self, RecordKind};
use crate::gather::Lane;
use crate::ghost::Ghost;
use crate::index::{Entry, Index, Kind, Place};
use crate::limits::{GATHERED_BYTES_MAX, PACKED_LEN_MAX, PARTITIONS_MAX, SEGMENTS_MAX};
use crate::mutate::{Mutation, is_planted};
use crate::options::{Admission, PartitionShape, SsdOptions};
use crate::record::{ReadId, Ticket};
use crate::stats::SsdStats;

use clean::Cleaner;
use flush::Mark;
use read::Reading;
use recover::Recovery;
use write::{Active, Group, Log};

const COUNTER_BITS: u32 = 44;
/// Sequences begin with the epoch: a start opens far fewer than 2^44 segments.
const SEQUENCE_EPOCH_SHIFT: u32 = 44;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What an I/O under way is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Superblock,
    Group,
    Footer {
        segment: u32,
    },
    Erase {
        segment: u32,
    },
    Flush,
    /// Recovery's, of its header pass.
    Header {
        segment: u32,
        is_trailer: bool,
    },
    /// Recovery's, of a segment.
    Load {
        segment: u32,
    },
    /// The cleaner's only one.
    Clean,
}

#[derive(Debug, Clone, Copy)]
struct Io {
    purpose: Purpose,
    device: usize,
    /// Bytes, for reads.
    len: u32,
    deadline_ns: u64,
}

/// What one shard keeps on its SSD partition, as a state machine without I/O.
///
/// Lives on: owner shard.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "notes that are independent of each other, no state of a lifecycle"
)]
pub struct SsdStore {
    options: SsdOptions,
    devices: Devices,
    index: Index,
    effects: VecDeque<Effect>,
    ios: BTreeMap<IoId, Io>,
    reads: BTreeMap<ReadId, Reading>,
    next_number: u64,
    user: Lane,
    urgent: Lane,
    active: Option<Active>,
    in_flight: VecDeque<Group>,
    logs: BTreeMap<u32, Log>,
    next_sequence: u64,
    mark: Mark,
    recovery: Option<Recovery>,
    cleaner: Cleaner,
    ghost: Option<Ghost>,
    stats: SsdStats,
    kept_bytes: u64,
    live_bytes: u64,
    objects: u64,
    free: u32,
    opened_ns: u64,
    day: u64,
    retired: Option<IoFault>,
    is_closing: bool,
    /// An append was told `Busy` since room last came.
    wants_room: bool,
    /// There is more to do without waiting for anything.
    again: bool,
    /// Recovery met records that the index has no room for; they are misses, and stay.
    is_overfull: bool,
    /// Every free segment is still being read: the end of such a read clears it.
    is_kept_by_reads: bool,
}

/// Objects of mode `None` are in this node only and never given up.
fn is_kept(mode: WriteMode) -> bool {
    mode == WriteMode::None
}

fn record_kind(kind: Kind) -> RecordKind {
    match kind {
        Kind::Packed => RecordKind::Packed,
        Kind::Payload => RecordKind::Payload,
        Kind::Dead | Kind::Writing => unreachable!("only live entries have a value"),
    }
}

impl SsdStore {
    /// Opens the store of a shard over its own partition and those of other shards.
    ///
    /// Give every partition of the node: those whose segments were written under this shard count
    /// are left to their shards. Recovery begins at once, by effects; objects are taken meanwhile.
    ///
    /// # Errors
    /// [`OpenError`]: a bug of the wiring, nothing was written.
    ///
    /// # Panics
    /// When an option is outside its range.
    pub fn open(
        options: SsdOptions,
        partitions: &[PartitionShape],
        now: Now,
    ) -> Result<Self, OpenError> {
        assert!(options.shard.0 < options.shard_count);
        assert!(options.epoch > 0 && options.epoch < 1 << 20);
        assert!(options.recovery_reads > 0);
        let devices = lay_out(&options, partitions)?;
        let own = devices.own().superblock;
        let group_bytes = options.group_bytes.min(own.segment_bytes / 4);
        let index = Index::new(options.entries_max);
        let mut store = Self {
            index,
            effects: VecDeque::new(),
            ios: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_number: 1,
            user: Lane::new(group_bytes, own.block_bytes),
            urgent: Lane::new(group_bytes, own.block_bytes),
            active: None,
            in_flight: VecDeque::new(),
            logs: BTreeMap::new(),
            // Never one that an earlier start may have written and a power cut hidden.
            next_sequence: u64::from(options.epoch) << SEQUENCE_EPOCH_SHIFT,
            mark: Mark::new(),
            recovery: None,
            cleaner: Cleaner::new(&options, own.segment_bytes, now),
            ghost: (options.admission == Admission::SecondHit).then(Ghost::new),
            stats: SsdStats::default(),
            kept_bytes: 0,
            live_bytes: 0,
            objects: 0,
            free: 0,
            opened_ns: now.ns,
            day: u64::from(own.day),
            retired: None,
            is_closing: false,
            wants_room: false,
            again: false,
            is_overfull: false,
            is_kept_by_reads: false,
            devices,
            options,
        };
        store.stats.day_bytes = own.day_bytes;
        store.start_recovery(own.epoch == 0);
        store.write_superblock(false, now);
        store.pump(now);
        Ok(store)
    }

    /// Takes the next thing to do. Call until `None` after every call of anything else.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns whether a value of `len` bytes is packed among others: `append` then wants
    /// [`crate::Source::Fill`], and a read gives [`crate::ReadLayout::Packed`].
    ///
    /// It is, unless whole blocks of its own would waste at most a quarter.
    pub fn is_packed(&self, len: u32) -> bool {
        let padded = len.next_multiple_of(self.block_bytes());
        len <= PACKED_LEN_MAX && u64::from(padded - len) * 4 > u64::from(len)
    }

    fn block_bytes(&self) -> u32 {
        self.devices.own().superblock.block_bytes
    }

    fn segment_bytes(&self) -> u32 {
        self.devices.own().superblock.segment_bytes
    }

    /// Takes a live entry out of the accounts of its segment; the entry itself is the caller's.
    fn bury(&mut self, entry: Option<&Entry>) {
        let Some(entry) = entry.filter(|entry| entry.is_live()) else {
            return;
        };
        let place = entry.place().expect("a live entry lies somewhere");
        let bytes = self.footprint(entry);
        let kept = is_kept(entry.mode());
        let segment = self.devices.segment_mut(place.segment);
        segment.sub_live(bytes, kept, entry.expiry_unix_ms());
        if segment.live_bytes == 0 && segment.state == State::Sealed {
            self.cleaner.note_dead(place.segment);
        }
        self.objects -= 1;
        self.live_bytes -= bytes;
        if kept {
            self.kept_bytes -= bytes;
        }
    }

    /// Puts a live entry into the accounts of its segment.
    fn raise(&mut self, entry: &Entry) {
        let place = entry.place().expect("a live entry lies somewhere");
        let bytes = self.footprint(entry);
        let kept = is_kept(entry.mode());
        let segment = self.devices.segment_mut(place.segment);
        segment.add_live(bytes, kept, entry.expiry_unix_ms());
        if entry.expiry_unix_ms() != 0 {
            self.cleaner.note_expiring();
        }
        self.objects += 1;
        self.live_bytes += bytes;
        if kept {
            self.kept_bytes += bytes;
        }
    }

    fn footprint(&self, entry: &Entry) -> u64 {
        format::footprint(record_kind(entry.kind()), entry.len(), self.block_bytes())
    }

    /// Gives a live entry up: it is a miss from now on. Its records stay where they are.
    fn give_up(&mut self, mut entry: Entry) -> Entry {
        self.bury(Some(&entry));
        entry.set_kind(Kind::Dead);
        entry.set_place(None);
        self.index.set(entry);
        entry
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn done(&mut self, ticket: Ticket, result: Result<(), SpillFault>) {
        self.effects
            .push_back(Effect::Done(Done { ticket, result }));
    }

    fn start_io(&mut self, purpose: Purpose, device: usize, len: u32, now: Now) -> IoId {
        let id = IoId(self.number());
        let deadline = u64::try_from(self.options.io_deadline.as_nanos()).unwrap_or(u64::MAX);
        let io = Io {
            purpose,
            device,
            len,
            deadline_ns: now.ns.saturating_add(deadline),
        };
        self.ios.insert(id, io);
        id
    }

    /// Reads `len` bytes at byte `at` of a segment.
    fn start_read_io(&mut self, purpose: Purpose, place: Place, len: u32, now: Now) {
        let (device, offset) = self.devices.address(place);
        let id = self.start_io(purpose, device, len, now);
        self.effects.push_back(Effect::Read(crate::effects::ReadIo {
            id,
            partition: self.devices.list[device].superblock.partition,
            offset,
            len,
        }));
    }

    fn start_write_io(
        &mut self,
        purpose: Purpose,
        device: usize,
        offset: u64,
        parts: Vec<Part>,
        now: Now,
    ) -> IoId {
        let id = self.start_io(purpose, device, 0, now);
        let bytes: u64 = parts.iter().map(Part::size_bytes).sum();
        self.stats.written_bytes += bytes;
        self.turn_day(now);
        self.stats.day_bytes += bytes;
        self.effects
            .push_back(Effect::Write(crate::effects::WriteIo {
                id,
                partition: self.devices.list[device].superblock.partition,
                offset,
                parts,
            }));
        id
    }

    /// Answers a [`Effect::Write`].
    pub fn on_written(&mut self, id: IoId, result: Result<(), IoFault>, now: Now) {
        let Some(io) = self.ios.remove(&id) else {
            return;
        };
        match result {
            Ok(()) => self.devices.list[io.device].completed += 1,
            Err(fault) => self.count_write_fault(io.device, fault),
        }
        if self.retired.is_some() {
            return;
        }
        match io.purpose {
            Purpose::Superblock => self.on_superblock(result.is_ok(), now),
            Purpose::Group => self.on_group(id, result, now),
            Purpose::Footer { segment } => self.on_footer(segment, result.is_ok()),
            Purpose::Erase { segment } => self.on_erase(segment, result.is_ok()),
            _ => unreachable!("a write's purpose"),
        }
        self.pump(now);
    }

    /// Answers a [`Effect::Read`]; on success with exactly the bytes asked for.
    pub fn on_read(&mut self, id: IoId, result: Result<&[u8], IoFault>, now: Now) {
        let Some(io) = self.ios.remove(&id) else {
            return;
        };
        let result = match result {
            Ok(bytes) if bytes.len() == io.len as usize => {
                self.stats.scanned_bytes += u64::from(io.len);
                Ok(bytes)
            },
            Ok(_) => Err(IoFault::Short),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = result {
            self.count_read_fault(io.device, fault);
        }
        if self.retired.is_some() {
            return;
        }
        match io.purpose {
            Purpose::Header {
                segment,
                is_trailer,
            } => {
                self.on_header(segment, is_trailer, result.ok());
            },
            Purpose::Load { segment } => self.on_load(segment, result.ok()),
            Purpose::Clean => self.on_clean(result.ok()),
            _ => unreachable!("a read's purpose"),
        }
        self.pump(now);
    }

    /// Answers a [`Effect::Flush`].
    ///
    /// # Panics
    /// When the id is that of another kind of I/O.
    pub fn on_flushed(&mut self, id: IoId, result: Result<(), IoFault>, now: Now) {
        let Some(io) = self.ios.remove(&id) else {
            return;
        };
        assert!(io.purpose == Purpose::Flush);
        let covered = self.devices.list[io.device].flushing.take();
        match result {
            Ok(()) => {
                let device = &mut self.devices.list[io.device];
                device.flushed = device.flushed.max(covered.expect("a flush was under way"));
            },
            Err(fault) => self.count_write_fault(io.device, fault),
        }
        self.pump(now);
    }

    /// Does what is due at `now`: group writes, flushes, cleaning, deadlines of I/Os.
    pub fn on_tick(&mut self, now: Now) {
        self.check_deadlines(now);
        self.pump(now);
    }

    fn check_deadlines(&mut self, now: Now) {
        while let Some((&id, io)) = self.ios.first_key_value() {
            if io.deadline_ns > now.ns {
                return;
            }
            let device = io.device;
            let io = self.ios.remove(&id).expect("it was just looked at");
            self.stats.hung += 1;
            self.retire_device(device, IoFault::TimedOut);
            if self.retired.is_none() {
                self.fail_hung(&io);
            }
        }
    }

    /// Another device's I/O gets no answer any more: who waits for it goes on without.
    fn fail_hung(&mut self, io: &Io) {
        match io.purpose {
            Purpose::Header {
                segment,
                is_trailer,
            } => self.on_header(segment, is_trailer, None),
            Purpose::Load { segment } => self.on_load(segment, None),
            Purpose::Clean => self.on_clean(None),
            Purpose::Erase { segment } => self.on_erase(segment, false),
            Purpose::Flush => self.devices.list[io.device].flushing = None,
            Purpose::Superblock | Purpose::Group | Purpose::Footer { .. } => {
                unreachable!("only the own device is written so, and it takes the store with it")
            },
        }
    }

    fn count_write_fault(&mut self, device: usize, fault: IoFault) {
        self.stats.write_errors += 1;
        self.count_fault(device, fault);
    }

    fn count_read_fault(&mut self, device: usize, fault: IoFault) {
        self.stats.read_errors += 1;
        self.count_fault(device, fault);
    }

    fn count_fault(&mut self, device: usize, fault: IoFault) {
        self.devices.list[device].errors += 1;
        if self.devices.list[device].errors >= self.options.errors_max {
            self.retire_device(device, fault);
        }
    }

    /// Gives a device up. The own one takes the whole store with it; another one's objects become
    /// misses when they are read.
    fn retire_device(&mut self, device: usize, fault: IoFault) {
        self.devices.list[device].is_retired = true;
        if device != self.devices.own || self.retired.is_some() {
            return;
        }
        self.retired = Some(fault);
        self.effects.push_back(Effect::Retired(fault));
        self.fail_everything(SpillFault::Retired);
        self.ios.clear();
        if !is_planted(Mutation::GivenUpUnmarked) {
            self.mark_given_up();
        }
        self.logs.clear();
        self.active = None;
        self.index.clear();
        (self.live_bytes, self.kept_bytes, self.objects) = (0, 0, 0);
        self.cleaner.stop();
        if self.recovery.take().is_some() {
            self.effects.push_back(Effect::Recovered);
        }
        if self.is_closing {
            self.effects.push_back(Effect::Closed);
        }
    }

    /// Says on the device that it was given up: from now on no tombstone is written, so what lies
    /// there must not be found again. Nobody waits for this write, and it may fail like others.
    fn mark_given_up(&mut self) {
        let superblock = &mut self.devices.list[self.devices.own].superblock;
        let (partition, copies) = (superblock.partition, superblock.give_up());
        let id = IoId(self.number());
        self.effects
            .push_back(Effect::Write(crate::effects::WriteIo {
                id,
                partition,
                offset: 0,
                parts: vec![Part::Own(copies)],
            }));
    }

    /// Lets every part do what it can.
    fn pump(&mut self, now: Now) {
        self.again = false;
        if self.retired.is_some() {
            return;
        }
        self.pump_recovery(now);
        self.pump_writes(now);
        self.pump_cleaner(now);
        self.pump_writes(now);
        self.pump_footers(now);
        self.pump_flushes(now);
        self.pump_close(now);
        let has_room =
            self.user.bytes() * 2 < GATHERED_BYTES_MAX.min(u64::from(self.segment_bytes()));
        if self.wants_room && has_room {
            self.wants_room = false;
            self.effects.push_back(Effect::Room);
        }
    }

    /// Returns when `on_tick` wants to be called, monotonic nanoseconds; 0 = at once, `None` = not
    /// before something else happens.
    pub fn next_wake_ns(&self) -> Option<u64> {
        if self.retired.is_some() {
            return None;
        }
        if self.again {
            return Some(0);
        }
        let dues = [
            self.ios.first_key_value().map(|(_, io)| io.deadline_ns),
            self.flush_due_ns(),
            self.cleaner_due_ns(),
            self.mark_due_ns(),
            self.lanes_due_ns(),
        ];
        dues.into_iter().flatten().min()
    }

    fn group_delay_ns(&self) -> u64 {
        u64::try_from(self.options.group_delay.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Begins a clean stop: writes what is gathered, closes the segment, flushes, marks the
    /// superblock clean, then [`Effect::Closed`]. Nothing is taken from here on.
    pub fn close(&mut self, now: Now) {
        if self.is_closing {
            return;
        }
        self.is_closing = true;
        if self.retired.is_some() {
            self.effects.push_back(Effect::Closed);
        }
        self.pump(now);
    }

    /// Returns whether recovery is still under way.
    pub fn is_recovering(&self) -> bool {
        self.recovery.is_some()
    }

    /// Returns what the store tells about itself. Cost: the number of segments, and of the 4,096
    /// tables of the index.
    pub fn stats(&self) -> SsdStats {
        let own = self.devices.own();
        let isolated = self.devices.list.iter().flat_map(|device| &device.segments);
        let isolated = isolated
            .filter(|segment| segment.state == State::Isolated)
            .count();
        SsdStats {
            objects: self.objects,
            entries: self.index.len(),
            live_bytes: self.live_bytes,
            kept_bytes: self.kept_bytes,
            capacity_bytes: u64::from(own.superblock.segment_bytes)
                * u64::from(own.superblock.segment_count),
            segments_free: self.free,
            segments_total: own.superblock.segment_count,
            segments_isolated: u32::try_from(isolated).unwrap_or(u32::MAX),
            index_bytes: self.index.size_bytes(),
            is_retired: self.retired.is_some(),
            ..self.stats
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneName {
    User,
    Urgent,
}

fn lay_out(options: &SsdOptions, partitions: &[PartitionShape]) -> Result<Devices, OpenError> {
    let mut list: Vec<Device> = Vec::with_capacity(partitions.len());
    let mut base = 0_u32;
    for shape in partitions {
        let superblock = shape.superblock;
        let is_double = list
            .iter()
            .any(|device| device.superblock.partition == superblock.partition);
        let count = superblock.segment_count;
        let end = base.checked_add(count).filter(|&end| end <= SEGMENTS_MAX);
        if is_double || superblock.partition != shape.partition || list.len() == PARTITIONS_MAX {
            return Err(OpenError::Partitions);
        }
        if superblock.epoch >= options.epoch {
            return Err(OpenError::EpochNotRising {
                epoch: options.epoch,
                last: superblock.epoch,
            });
        }
        list.push(Device::new(superblock, base));
        base = end.ok_or(OpenError::Partitions)?;
    }
    let shard = options.shard.0;
    let own = list
        .iter()
        .position(|device| device.superblock.partition == shard)
        .ok_or(OpenError::NoOwnPartition { shard })?;
    let block = list[own].superblock.block_bytes;
    if list
        .iter()
        .any(|device| device.superblock.block_bytes != block)
    {
        return Err(OpenError::Partitions);
    }
    Ok(Devices { list, own })
}
