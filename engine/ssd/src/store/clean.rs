//! Which segment is cleaned next, and the stages of a job after its records are dealt with.
//!
//! ```text
//!  choose ─► load table ─► each row: copy, give up, keep dead ─► written ─► flushed
//!     ─► erase header and trailer ─► flushed ─► records of the segment are no more: Free
//!  written under another shard count: … flushed ─► Released ─► all shards ─► erase ─► Erased
//! ```
//! One job loads and copies at a time, with one I/O; up to four wait for flushes behind it. What
//! keeps old versions dead is counted: an index entry knows how many records of its hash lie on
//! devices, and only a flushed erasure counts down.
//!
//! Lives on: owner shard. Neighbour: `clean/copy.rs` deals with the rows.

mod copy;

use std::collections::VecDeque;

use super::write::RESERVE_SEGMENTS;
use super::{Purpose, SsdStore};
use crate::device::{Devices, State};
use crate::effects::{Effect, Now, Part};
use crate::format::{Row, SegmentHeader};
use crate::index::Kind;
use crate::load::{Load, Step};
use crate::mutate::{Mutation, is_planted};
use crate::options::SsdOptions;

/// Jobs that wait for flushes and erasures of segments of this shard alone.
const WAITING_MAX: usize = 4;
/// Jobs that wait for other shards: their tables stay in memory.
const RELEASED_MAX: usize = 64;
/// Rows dealt with before other work has its turn.
const ROWS_PER_TURN: usize = 2048;
/// Failed attempts after which a segment is left alone.
const TRIES_MAX: u8 = 3;
const SCAN_INTERVAL_NS: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Working,
    /// Copies and tombstones are being written.
    Draining,
    /// They are written, and wait for a flush of so many writes.
    Flushing(u64),
    /// The segment is being erased, or waits for other shards.
    Erasing,
    /// It is erased: its rows are counted down.
    Finishing,
}

/// What becomes of live objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// They are copied.
    Copy,
    /// They are given up where that is allowed, unless they were read lately.
    Drop,
    /// There is no room to write: they are given up, and where something would have to be written
    /// the job gives up itself.
    Silent,
}

/// One segment being cleaned.
#[derive(Debug)]
struct Job {
    id: u64,
    segment: u32,
    phase: Phase,
    load: Option<Load>,
    rows: Vec<Row>,
    cursor: usize,
    manner: Manner,
    is_shared: bool,
    is_failed: bool,
    /// Records in lanes or under way.
    outstanding: u32,
    copy: copy::Copying,
}

/// A segment whose header and trailer are being overwritten.
#[derive(Debug)]
struct Erasing {
    segment: u32,
    writes_left: u8,
    is_failed: bool,
    /// Waits for a flush of so many writes.
    stamp: Option<u64>,
    is_shared: bool,
    sequence: u64,
}

/// What the cleaner knows.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "three notes that are independent of each other, no state of a lifecycle"
)]
pub(super) struct Cleaner {
    is_started: bool,
    front: Option<Job>,
    waiting: VecDeque<Job>,
    erasing: Vec<Erasing>,
    /// Segments in which nothing lives.
    dead: VecDeque<u32>,
    /// Segments of other shard counts, in the order in which all shards drain them.
    shared: VecDeque<u32>,
    /// Releases heard before recovery knew the segments.
    early: Vec<(u16, u32, u64, u16)>,
    is_reading: bool,
    /// Bytes that may be read and written now.
    tokens: i64,
    tokens_max: i64,
    last_ns: u64,
    /// Bytes that may be copied by the bound of write amplification.
    credit: i64,
    credit_max: i64,
    next_job: u64,
    next_scan_ns: u64,
    /// Segments that could not go without a write while there was no room for one.
    stubborn: Vec<u32>,
    /// Something that expires lies in some segment: look once a second.
    has_expiring: bool,
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Cleaner {
    pub(super) fn new(options: &SsdOptions, segment_bytes: u32, now: Now) -> Self {
        let tokens_max = signed(options.clean_bytes_per_s / 10).max(4 << 20);
        let credit = if options.write_amplification_percent > 100 {
            i64::from(segment_bytes)
        } else {
            0
        };
        Self {
            is_started: false,
            front: None,
            waiting: VecDeque::new(),
            erasing: Vec::new(),
            dead: VecDeque::new(),
            shared: VecDeque::new(),
            early: Vec::new(),
            is_reading: false,
            tokens: tokens_max,
            tokens_max,
            last_ns: now.ns,
            credit,
            credit_max: 4 * i64::from(segment_bytes),
            next_job: 1,
            next_scan_ns: now.ns,
            stubborn: Vec::new(),
            has_expiring: false,
        }
    }

    /// Begins, once recovery knows what lies where.
    pub(super) fn start(&mut self, dead: Vec<u32>, shared: Vec<u32>) {
        self.is_started = true;
        self.dead = dead.into();
        self.shared = shared.into();
    }

    pub(super) fn stop(&mut self) {
        self.is_started = false;
        self.front = None;
        self.waiting.clear();
        self.erasing.clear();
    }

    pub(super) const fn note_expiring(&mut self) {
        self.has_expiring = true;
    }

    pub(super) fn note_dead(&mut self, segment: u32) {
        if self.is_started {
            self.dead.push_back(segment);
        }
    }

    /// Appended bytes earn copies.
    pub(super) fn credit(&mut self, bytes: u64, options: &SsdOptions) {
        let percent = u64::from(options.write_amplification_percent.saturating_sub(100));
        let earned = signed(bytes.saturating_mul(percent) / 100);
        self.credit = self.credit.saturating_add(earned).min(self.credit_max);
    }

    pub(super) fn member_done(&mut self, job: u64, is_written: bool) {
        let jobs = self.waiting.iter_mut().chain(self.front.as_mut());
        if let Some(job) = jobs.into_iter().find(|found| found.id == job) {
            job.outstanding -= 1;
            job.is_failed |= !is_written;
        }
    }

    pub(super) fn awaits_flush(&self, devices: &Devices, device: usize) -> bool {
        let is_own = device == devices.own;
        let flushed = devices.list[device].flushed;
        let jobs = self.waiting.iter().any(|job| match job.phase {
            Phase::Flushing(stamp) => is_own && stamp > flushed,
            _ => false,
        });
        let erasures = self.erasing.iter().any(|erasing| {
            devices.locate(erasing.segment).0 == device
                && erasing.stamp.is_some_and(|stamp| stamp > flushed)
        });
        jobs || erasures
    }

    fn refill(&mut self, rate: u64, now: Now) {
        let elapsed = now.ns.saturating_sub(self.last_ns);
        let earned = u128::from(elapsed) * u128::from(rate) / 1_000_000_000;
        if earned > 0 {
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(self.tokens_max);
            self.last_ns = now.ns;
        }
    }

    fn spend(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(signed(bytes));
    }

    /// Returns segments that will be free, and those of them that need no write for it any more.
    fn coming(&self) -> (usize, usize) {
        let own = self.waiting.iter().filter(|job| !job.is_shared);
        let sure = own
            .clone()
            .filter(|job| !matches!(job.phase, Phase::Loading | Phase::Working | Phase::Draining));
        (own.count(), sure.count())
    }
}

impl SsdStore {
    pub(super) fn cleaner_due_ns(&self) -> Option<u64> {
        let cleaner = &self.cleaner;
        if !cleaner.is_started || self.is_closing {
            return None;
        }
        let rate = self.options.clean_bytes_per_s.max(1);
        let lacks = cleaner.tokens <= 0 && cleaner.front.is_some() && !cleaner.is_reading;
        let refill = lacks.then(|| {
            let missing = u128::from(cleaner.tokens.unsigned_abs()) + 1;
            let wait = missing * 1_000_000_000 / u128::from(rate) + 1;
            cleaner
                .last_ns
                .saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
        });
        let scan = cleaner.has_expiring.then_some(cleaner.next_scan_ns);
        refill.or(scan)
    }

    pub(super) fn pump_cleaner(&mut self, now: Now) {
        if self.retired.is_some() || !self.cleaner.is_started || !self.can_write() {
            return;
        }
        self.cleaner.refill(self.options.clean_bytes_per_s, now);
        self.pump_erasing();
        if self.is_closing {
            return;
        }
        self.pump_waiting(now);
        self.replay_early(now);
        self.scan_expired(now);
        if self.cleaner.front.is_none() {
            self.choose(now);
        }
        if let Some(mut job) = self.cleaner.front.take() {
            self.pump_front(&mut job, now);
            if matches!(job.phase, Phase::Loading | Phase::Working) && !job.is_failed {
                self.cleaner.front = Some(job);
            } else {
                self.cleaner.waiting.push_back(job);
                self.again = true;
            }
        }
    }

    /// Finds segments whose every record has expired.
    fn scan_expired(&mut self, now: Now) {
        if !self.cleaner.has_expiring || now.ns < self.cleaner.next_scan_ns {
            return;
        }
        self.cleaner.next_scan_ns = now.ns.saturating_add(SCAN_INTERVAL_NS);
        let own = self.devices.own();
        self.cleaner.has_expiring = false;
        for (segment, found) in (own.base..).zip(&own.segments) {
            self.cleaner.has_expiring |= found.has_expiring();
            let is_over = found.live_bytes > 0 && found.live_estimate(now.unix_ms) == 0;
            if is_over && is_candidate(found) {
                self.cleaner.dead.push_back(segment);
            }
        }
    }

    fn choose(&mut self, now: Now) {
        if self.cleaner.waiting.len() >= RELEASED_MAX {
            return;
        }
        let total = self.devices.own().superblock.segment_count;
        let low = (RESERVE_SEGMENTS + 2).max(total / 16) as usize;
        let (coming, sure) = self.cleaner.coming();
        let is_low = self.free as usize + coming < low;
        if self.free >= RESERVE_SEGMENTS {
            self.cleaner.stubborn.clear();
        } else if sure == 0 {
            return self.choose_without_room(now);
        }
        if coming >= WAITING_MAX || self.free == 0 {
            return;
        }
        if let Some(segment) = self.next_dead(now) {
            self.start_job(segment, Manner::Copy, now);
        } else if is_low && let Some((segment, manner)) = self.victim(now) {
            self.start_job(segment, manner, now);
        } else if self.free > RESERVE_SEGMENTS || coming == 0 {
            self.choose_shared(is_low, now);
        }
    }

    fn choose_shared(&mut self, is_low: bool, now: Now) {
        let next = self.cleaner.shared.iter().position(|&segment| {
            let found = self.devices.segment(segment);
            let (device, _) = self.devices.locate(segment);
            let is_there = !self.devices.list[device].is_retired;
            is_there && found.state == State::Sealed && !found.is_busy && found.tries < TRIES_MAX
        });
        if let Some(segment) = next.and_then(|at| self.cleaner.shared.remove(at)) {
            let manner = if is_low { Manner::Drop } else { Manner::Copy };
            self.start_job(segment, manner, now);
        }
    }

    /// Fewer segments are free than a copying job may need (a crash has cost the others): the
    /// oldest segment that can go without a write goes. What is dead in it needs no tombstone,
    /// because what killed it is younger.
    fn choose_without_room(&mut self, now: Now) {
        let own = self.devices.own();
        let silent = (own.base..)
            .zip(&own.segments)
            .filter(|(segment, found)| {
                is_candidate(found)
                    && found.kept_bytes == 0
                    && !self.cleaner.stubborn.contains(segment)
            })
            .min_by_key(|(_, found)| (found.live_bytes > 0, found.sequence()));
        if let Some((segment, _)) = silent {
            self.start_job(segment, Manner::Silent, now);
        } else if self.free > 0
            && self.cleaner.coming().0 == 0
            && let Some((segment, manner)) = self.victim(now)
        {
            self.start_job(segment, manner, now);
        }
    }

    fn next_dead(&mut self, now: Now) -> Option<u32> {
        while let Some(segment) = self.cleaner.dead.pop_front() {
            let found = self.devices.segment(segment);
            if is_candidate(found) && found.live_estimate(now.unix_ms) == 0 {
                return Some(segment);
            }
        }
        None
    }

    /// Returns the segment whose cleaning pays most, and how.
    ///
    /// Cost and benefit as in log-structured file systems: free space gained times age, over what
    /// is read and written (Rosenblum and Ousterhout, 1992). Where copying would gain less than a
    /// fifth, or the bound of write amplification forbids it, the oldest that may go goes.
    fn victim(&self, now: Now) -> Option<(u32, Manner)> {
        let own = self.devices.own();
        let size = f64::from(own.superblock.segment_bytes);
        let mut copy: Option<(f64, u32)> = None;
        let mut drop: Option<(f64, u32)> = None;
        for (segment, found) in (own.base..).zip(&own.segments) {
            if !is_candidate(found) {
                continue;
            }
            let live = found.live_estimate(now.unix_ms);
            let used = (live as f64 / size).min(1.0);
            let kept = (found.kept_bytes as f64 / size).min(1.0);
            let age = (self.next_sequence - found.sequence()) as f64;
            if used <= 0.8 && signed(live) <= self.cleaner.credit {
                let score = (1.0 - used) * age / (1.0 + used);
                if copy.is_none_or(|(best, _)| score > best) {
                    copy = Some((score, segment));
                }
            }
            let score = (1.0 - kept) * age;
            if kept <= 0.9 && drop.is_none_or(|(best, _)| score > best) {
                drop = Some((score, segment));
            }
        }
        let copy = copy.map(|(_, segment)| (segment, Manner::Copy));
        let drop = drop.map(|(_, segment)| (segment, Manner::Drop));
        copy.or(drop)
    }

    fn start_job(&mut self, segment: u32, manner: Manner, now: Now) {
        let load = self.load_of(segment);
        let found = self.devices.segment_mut(segment);
        found.is_busy = true;
        let is_shared = found.is_shared;
        let id = self.cleaner.next_job;
        self.cleaner.next_job += 1;
        let mut job = Job {
            id,
            segment,
            phase: Phase::Loading,
            load: Some(load),
            rows: Vec::new(),
            cursor: 0,
            manner,
            is_shared,
            is_failed: false,
            outstanding: 0,
            copy: copy::Copying::default(),
        };
        self.pump_front(&mut job, now);
        self.cleaner.front = Some(job);
    }

    fn pump_front(&mut self, job: &mut Job, now: Now) {
        // One that has failed must not read again: the answer would reach the job after it.
        if self.cleaner.is_reading || job.is_failed {
            return;
        }
        if job.phase == Phase::Loading {
            let load = job.load.as_mut().expect("a loading job has a load");
            match load.step() {
                Step::Read { at, len } => self.clean_read(job.segment, at, len, now),
                Step::Done => {
                    job.rows = std::mem::take(&mut load.rows);
                    job.load = None;
                    job.phase = Phase::Working;
                    let known = self.devices.segment(job.segment).rows;
                    if job.rows.len() < known as usize {
                        // Damage hides records. To erase it would take what still lives there, and
                        // tombstones that keep other records dead.
                        self.stats.corrupt_metadata += 1;
                        job.is_failed = true;
                        return;
                    }
                },
            }
        }
        if job.phase == Phase::Working {
            self.work(job, now);
        }
    }

    /// Reads for the front job, when the bandwidth allows it.
    fn clean_read(&mut self, segment: u32, at: u32, len: u32, now: Now) {
        assert!(!self.cleaner.is_reading);
        if self.cleaner.tokens <= 0 {
            return;
        }
        self.cleaner.spend(u64::from(len));
        self.cleaner.is_reading = true;
        let place = crate::index::Place { segment, at };
        self.start_read_io(Purpose::Clean, place, len, now);
    }

    pub(super) fn on_clean(&mut self, bytes: Option<&[u8]>) {
        self.cleaner.is_reading = false;
        let Some(job) = self.cleaner.front.as_mut() else {
            return;
        };
        match (bytes, job.load.as_mut()) {
            (Some(bytes), Some(load)) => load.feed(bytes),
            (Some(bytes), None) => job.copy.feed(bytes),
            (None, _) => job.is_failed = true,
        }
    }

    fn pump_waiting(&mut self, now: Now) {
        let mut left = std::mem::take(&mut self.cleaner.waiting);
        while let Some(mut job) = left.pop_front() {
            if !self.pump_job(&mut job, now) {
                self.cleaner.waiting.push_back(job);
            }
        }
    }

    /// Lets a job that waits go on; returns whether it is over.
    fn pump_job(&mut self, job: &mut Job, now: Now) -> bool {
        if matches!(job.phase, Phase::Loading | Phase::Working | Phase::Draining) {
            if job.outstanding > 0 {
                return false;
            }
            if job.is_failed {
                self.abandon(job);
                return true;
            }
            job.phase = Phase::Flushing(self.devices.own().completed);
        }
        if let Phase::Flushing(stamp) = job.phase {
            let is_flushed = self.devices.own().flushed >= stamp;
            if !is_flushed && !is_planted(Mutation::EraseBeforeFlush) {
                return false;
            }
            // The shard that erases it does not know of this one's reads; nothing is left in it, so
            // no new ones begin, and the last of them lets this go on.
            if job.is_shared && self.devices.segment(job.segment).reads > 0 {
                return false;
            }
            job.phase = Phase::Erasing;
            if job.is_shared {
                self.release(job.segment);
            } else {
                self.erase(job.segment, now);
            }
        }
        if job.phase == Phase::Finishing {
            return self.finish(job);
        }
        false
    }

    fn abandon(&mut self, job: &Job) {
        let found = self.devices.segment_mut(job.segment);
        found.is_busy = false;
        if job.manner == Manner::Silent {
            self.cleaner.stubborn.push(job.segment);
            return;
        }
        found.tries += 1;
        if found.tries >= TRIES_MAX {
            found.state = State::Isolated;
        } else if found.is_shared {
            self.cleaner.shared.push_back(job.segment);
        }
    }

    fn release(&mut self, segment: u32) {
        let (device, number) = self.devices.locate(segment);
        self.effects.push_back(Effect::Released {
            partition: self.devices.list[device].superblock.partition,
            segment: number,
            sequence: self.devices.segment(segment).sequence(),
        });
    }

    /// Overwrites header and trailer, so that neither speaks for the segment any more.
    fn erase(&mut self, segment: u32, now: Now) {
        let (device, number) = self.devices.locate(segment);
        let block = self.block_bytes();
        let found = self.devices.segment_mut(segment);
        assert!(
            found.state == State::Sealed,
            "only full segments are erased"
        );
        found.state = State::Erasing;
        let old = found.header.expect("a used segment has a header");
        let is_shared = found.is_shared;
        let header = SegmentHeader {
            is_erased: true,
            ..old
        };
        let mut bytes = header.encode();
        bytes.resize(block as usize, 0);
        let blank = vec![0; block as usize];
        let end = self.devices.list[device].superblock.segment_bytes;
        for (at, bytes) in [(0, bytes), (end - block, blank)] {
            let offset = self.devices.list[device].offset(number, at);
            let parts = vec![Part::Own(bytes)];
            self.start_write_io(Purpose::Erase { segment }, device, offset, parts, now);
        }
        self.cleaner.erasing.push(Erasing {
            segment,
            writes_left: 2,
            is_failed: false,
            stamp: None,
            is_shared,
            sequence: old.sequence,
        });
    }

    pub(super) fn on_erase(&mut self, segment: u32, is_written: bool) {
        if self.retired.is_some() {
            return;
        }
        let (device, _) = self.devices.locate(segment);
        let completed = self.devices.list[device].completed;
        let erasing = self.cleaner.erasing.iter_mut();
        let erasing = erasing
            .into_iter()
            .find(|erasing| erasing.segment == segment);
        let erasing = erasing.expect("an erasure is answered twice");
        erasing.writes_left -= 1;
        erasing.is_failed |= !is_written;
        if erasing.writes_left == 0 {
            erasing.stamp = Some(completed);
        }
    }

    fn pump_erasing(&mut self) {
        let mut over = Vec::new();
        let devices = &self.devices;
        self.cleaner.erasing.retain(|erasing| {
            let flushed = devices.list[devices.locate(erasing.segment).0].flushed;
            let is_over = erasing
                .stamp
                .is_some_and(|stamp| flushed >= stamp || is_planted(Mutation::EraseBeforeFlush));
            if is_over {
                over.push((
                    erasing.segment,
                    erasing.is_shared,
                    erasing.is_failed,
                    erasing.sequence,
                ));
            }
            !is_over
        });
        for (segment, is_shared, is_failed, sequence) in over {
            if is_failed {
                self.devices.segment_mut(segment).state = State::Isolated;
                self.cleaner.waiting.retain(|job| job.segment != segment);
            } else if is_shared {
                let (device, number) = self.devices.locate(segment);
                self.effects.push_back(Effect::Erased {
                    partition: self.devices.list[device].superblock.partition,
                    segment: number,
                    sequence,
                });
            } else {
                self.start_finish(segment);
            }
        }
    }

    fn start_finish(&mut self, segment: u32) {
        let job = self
            .cleaner
            .waiting
            .iter_mut()
            .find(|job| job.segment == segment);
        if let Some(job) = job {
            job.phase = Phase::Finishing;
            job.cursor = 0;
            self.again = true;
        }
    }

    /// Counts the records of an erased segment down; returns whether it is through.
    fn finish(&mut self, job: &mut Job) -> bool {
        let end = job.rows.len().min(job.cursor + ROWS_PER_TURN);
        for row in &job.rows[job.cursor..end] {
            if job.is_shared && !self.is_mine(row.hash) {
                continue;
            }
            let Some(mut entry) = self.index.get(row.hash) else {
                continue;
            };
            entry.drop_record();
            let lies_here = entry
                .place()
                .is_some_and(|place| place.segment == job.segment);
            assert!(!lies_here, "everything has left an erased segment");
            let is_over = entry.records() == 0
                && entry.kind() == Kind::Dead
                && entry.place().is_none()
                && !entry.is_queued();
            if is_over {
                self.index.remove(row.hash);
            } else {
                self.index.set(entry);
            }
        }
        job.cursor = end;
        if end < job.rows.len() {
            self.again = true;
            return false;
        }
        self.stats.segments_erased += 1;
        let (device, _) = self.devices.locate(job.segment);
        let header = self.devices.segment(job.segment).header;
        let is_own = device == self.devices.own;
        let state = if is_own { State::Free } else { State::Foreign };
        self.free += u32::from(is_own);
        self.devices.segment_mut(job.segment).reset(state, header);
        self.again = true;
        note_drained(self);
        true
    }

    /// Hears that shard `from` has released a segment of a partition that this shard erases
    /// (`partition % shard_count` is this shard).
    ///
    /// # Panics
    /// When it was brought to the wrong shard.
    pub fn on_released(
        &mut self,
        partition: u16,
        segment: u32,
        sequence: u64,
        from: u16,
        now: Now,
    ) {
        assert!(from < self.options.shard_count);
        assert!(partition % self.options.shard_count == self.options.shard.0);
        self.cleaner
            .early
            .push((partition, segment, sequence, from));
        self.pump(now);
    }

    fn replay_early(&mut self, now: Now) {
        for (partition, number, sequence, from) in std::mem::take(&mut self.cleaner.early) {
            let Some(device) = self.devices.position(partition) else {
                continue;
            };
            let segment = self.devices.list[device].base + number;
            let found = self.devices.segment_mut(segment);
            if found.state != State::Sealed || found.sequence() != sequence {
                continue;
            }
            found.released |= 1 << from;
            let all = u64::MAX >> (64 - u32::from(self.options.shard_count));
            let is_mine_alone =
                from == self.options.shard.0 && is_planted(Mutation::OtherShardsIgnored);
            if found.released == all || is_mine_alone {
                self.erase(segment, now);
            }
        }
    }

    /// Hears that a segment written under another shard count is gone.
    pub fn on_erased(&mut self, partition: u16, segment: u32, sequence: u64, now: Now) {
        if let Some(device) = self.devices.position(partition) {
            let segment = self.devices.list[device].base + segment;
            if self.devices.segment(segment).sequence() == sequence {
                self.start_finish(segment);
            }
        }
        self.pump(now);
    }
}

fn is_candidate(segment: &crate::device::Segment) -> bool {
    segment.state == State::Sealed
        && !segment.is_shared
        && !segment.is_busy
        && segment.tries < TRIES_MAX
}

/// Says of partitions beyond the shard count that nothing is left in them.
pub(super) fn note_drained(store: &mut SsdStore) {
    let (shard, count) = (store.options.shard.0, store.options.shard_count);
    for device in &mut store.devices.list {
        let partition = device.superblock.partition;
        let is_beyond = partition >= count && partition % count == shard && !device.is_drained;
        let is_empty = device
            .segments
            .iter()
            .all(|segment| segment.state == State::Foreign);
        if is_beyond && is_empty {
            device.is_drained = true;
            store.effects.push_back(Effect::Drained { partition });
        }
    }
}
