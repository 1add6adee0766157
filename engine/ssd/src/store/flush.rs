//! Flushes, the superblock, and the clean stop.
//!
//! A flush covers the writes that had completed when it was asked for. The cleaner waits for
//! flushes by such a count; everything else is flushed once per interval.
//!
//! Lives on: owner shard.

use super::{Purpose, SsdStore};
use crate::effects::{Effect, Now, Part, SpillFault};

/// Time between two superblocks while something is written: what the day's count may lose.
const MARK_INTERVAL_NS: u64 = 60 * 1_000_000_000;

/// Where the superblock stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first one of this start is being written.
    Opening,
    /// It is written, and waits for a flush that covers so many writes.
    Flushing(u64),
    /// Groups may be written.
    Ready,
    /// The clean one is being written.
    Ending,
    /// It is written, and waits for a flush.
    Ended(u64),
    /// All is done.
    Over,
}

/// The superblock's state machine.
#[derive(Debug)]
pub(super) struct Mark {
    stage: Stage,
    is_writing: bool,
    last_ns: u64,
    last_day_bytes: u64,
}

impl Mark {
    pub(super) const fn new() -> Self {
        Self {
            stage: Stage::Opening,
            is_writing: false,
            last_ns: 0,
            last_day_bytes: 0,
        }
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }
}

impl SsdStore {
    pub(super) fn write_superblock(&mut self, is_clean: bool, now: Now) {
        let own = self.devices.own;
        let options = self.options;
        let (day, day_bytes) = (self.day, self.stats.day_bytes);
        let superblock = &mut self.devices.list[own].superblock;
        superblock.generation += 1;
        superblock.shard_count = options.shard_count;
        superblock.epoch = options.epoch;
        superblock.boot_id = options.boot_id;
        superblock.is_clean = is_clean;
        superblock.day = u32::try_from(day).unwrap_or(u32::MAX);
        superblock.day_bytes = day_bytes;
        let (bytes, offset) = (superblock.encode(), superblock.offset());
        self.mark.is_writing = true;
        self.mark.last_ns = now.ns;
        self.mark.last_day_bytes = day_bytes;
        self.start_write_io(
            Purpose::Superblock,
            own,
            offset,
            vec![Part::Own(bytes)],
            now,
        );
    }

    pub(super) fn on_superblock(&mut self, is_written: bool, now: Now) {
        if self.retired.is_some() {
            return;
        }
        self.mark.is_writing = false;
        if !is_written {
            // What it overwrote may be torn: the next one goes there too, not over the valid copy.
            let own = self.devices.own;
            self.devices.list[own].superblock.generation += 1;
        }
        let stamp = self.devices.own().completed;
        match (self.mark.stage, is_written) {
            (Stage::Opening, true) => self.mark.stage = Stage::Flushing(stamp),
            (Stage::Ending, true) => self.mark.stage = Stage::Ended(stamp),
            (Stage::Opening, false) => self.write_superblock(false, now),
            (Stage::Ending, false) => self.write_superblock(true, now),
            _ => {},
        }
    }

    pub(super) fn pump_flushes(&mut self, now: Now) {
        if self.retired.is_some() {
            return;
        }
        let flushed = self.devices.own().flushed;
        if let Stage::Flushing(stamp) = self.mark.stage
            && flushed >= stamp
        {
            self.mark.stage = Stage::Ready;
            // Writes and cleaning have waited for this.
            self.pump_writes(now);
            self.again = true;
        }
        self.pump_mark(now);
        for at in 0..self.devices.list.len() {
            let device = &self.devices.list[at];
            let is_idle = device.flushing.is_none() && device.is_dirty() && !device.is_retired;
            if is_idle && (self.is_flush_awaited(at) || self.interval_end(at) <= now.ns) {
                let partition = device.superblock.partition;
                let id = self.start_io(Purpose::Flush, at, 0, now);
                let device = &mut self.devices.list[at];
                device.flushing = Some(device.completed);
                device.last_flush_ns = now.ns;
                self.effects.push_back(Effect::Flush { id, partition });
            }
        }
    }

    fn is_flush_awaited(&self, device: usize) -> bool {
        let is_own = device == self.devices.own;
        let waits = matches!(self.mark.stage, Stage::Flushing(_) | Stage::Ended(_));
        (is_own && waits) || self.is_closing || self.cleaner.awaits_flush(&self.devices, device)
    }

    fn interval_end(&self, device: usize) -> u64 {
        let interval = u64::try_from(self.options.flush_interval.as_nanos()).unwrap_or(u64::MAX);
        self.devices.list[device]
            .last_flush_ns
            .saturating_add(interval)
    }

    pub(super) fn flush_due_ns(&self) -> Option<u64> {
        (0..self.devices.list.len())
            .filter(|&at| {
                let device = &self.devices.list[at];
                device.is_dirty() && device.flushing.is_none() && !device.is_retired
            })
            .map(|at| self.interval_end(at))
            .min()
    }

    fn pump_mark(&mut self, now: Now) {
        if self.mark_due_ns().is_some_and(|due| due <= now.ns) {
            self.write_superblock(false, now);
        }
    }

    pub(super) fn mark_due_ns(&self) -> Option<u64> {
        let is_new = self.stats.day_bytes > self.mark.last_day_bytes + 4096;
        let may = self.mark.is_ready() && !self.mark.is_writing && !self.is_closing && is_new;
        may.then(|| self.mark.last_ns.saturating_add(MARK_INTERVAL_NS))
    }

    pub(super) fn pump_close(&mut self, now: Now) {
        if !self.is_closing || self.retired.is_some() {
            return;
        }
        match self.mark.stage {
            Stage::Ready => {
                if !self.can_write() {
                    return;
                }
                let is_stuck = self.in_flight.is_empty() && self.free == 0;
                if is_stuck {
                    self.fail_everything(SpillFault::Retired);
                }
                if !(self.user.is_empty() && self.urgent.is_empty() && self.in_flight.is_empty()) {
                    return;
                }
                if self.has_active() {
                    self.close_active();
                    self.again = true;
                }
                let is_quiet = self.logs.is_empty() && !self.mark.is_writing;
                if is_quiet && !self.devices.own().is_dirty() {
                    self.mark.stage = Stage::Ending;
                    self.write_superblock(true, now);
                }
            },
            Stage::Ended(stamp) if self.devices.own().flushed >= stamp => {
                self.mark.stage = Stage::Over;
                self.effects.push_back(Effect::Closed);
            },
            _ => {},
        }
    }
}
