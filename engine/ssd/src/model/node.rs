//! A node of some shards over its disks, with every I/O and message held back until told.

use std::collections::BTreeMap;
use std::time::Duration;

use chariot_base::{Extent, Random, ShardId, SplitMix64};

use super::disk::{Disk, Write};
use crate::{
    Done, Effect, Found, Identity, IoFault, IoId, Now, Part, PartitionShape, ReadId, ReadLayout,
    ReadOutcome, ReadPlan, ReadResult, SUPERBLOCK_READ_BYTES, SsdOptions, SsdStore, Superblock,
    reconcile,
};

const SEGMENT_BYTES: u32 = 32 << 10;

#[derive(Debug)]
enum What {
    Write(Write),
    Read { offset: u64, len: usize },
    Flush { mark: usize },
}

#[derive(Debug)]
struct Pending {
    shard: usize,
    id: IoId,
    partition: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum Mail {
    Released {
        to: usize,
        partition: u16,
        segment: u32,
        sequence: u64,
        from: u16,
    },
    Erased {
        to: usize,
        partition: u16,
        segment: u32,
        sequence: u64,
    },
}

/// What the schedule hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Done(usize, Done),
    FlushAsked(usize),
    Flushed(usize),
    Closed(usize),
}

pub(super) struct Node {
    pub(super) disks: Vec<Disk>,
    pub(super) shards: Vec<SsdStore>,
    pub(super) now: Now,
    pub(super) events: Vec<Event>,
    pub(super) drained: Vec<u16>,
    pub(super) epoch: u32,
    pub(super) dropped: u64,
    ios: Vec<Pending>,
    reads: Vec<(usize, ReadPlan)>,
    mail: Vec<Mail>,
    arena: BTreeMap<u64, Vec<u8>>,
    next_extent: u64,
    boot: u8,
    segments: u32,
    tune: fn(&mut SsdOptions),
}

impl Node {
    pub(super) fn new(shards: u16, segments: u32, tune: fn(&mut SsdOptions)) -> Self {
        let mut node = Self {
            disks: Vec::new(),
            shards: Vec::new(),
            now: Now {
                ns: 1_000_000_000,
                unix_ms: 1_790_000_000_000,
            },
            events: Vec::new(),
            drained: Vec::new(),
            epoch: 0,
            dropped: 0,
            ios: Vec::new(),
            reads: Vec::new(),
            mail: Vec::new(),
            arena: BTreeMap::new(),
            next_extent: 64,
            boot: 1,
            segments,
            tune,
        };
        node.start(shards);
        node
    }

    /// Starts the node with so many shards over whatever the disks hold.
    pub(super) fn start(&mut self, count: u16) {
        assert!(self.shards.is_empty());
        while self.disks.len() < usize::from(count) {
            self.disks.push(Disk::default());
        }
        let size = 65_536 + u64::from(SEGMENT_BYTES) * u64::from(self.segments);
        let found: Vec<_> = self
            .disks
            .iter()
            .map(|disk| {
                let bytes = disk.read(0, SUPERBLOCK_READ_BYTES as usize);
                Superblock::read(&bytes, size).unwrap()
            })
            .collect();
        let ours: Vec<_> = found
            .iter()
            .filter_map(|found| match found {
                Found::Ours(superblock) => Some(*superblock),
                Found::Blank => None,
            })
            .collect();
        let identity = reconcile(&ours).unwrap().unwrap_or(Identity {
            node: [7; 16],
            secret: [8; 32],
            next_epoch: 1,
        });
        let is_void = ours.iter().any(|superblock| superblock.is_given_up);
        let mut shapes = Vec::new();
        for (partition, found) in (0_u16..).zip(&found) {
            let superblock = match found {
                Found::Ours(superblock) if is_void => {
                    let [.., low, high] = identity.next_epoch.to_be_bytes();
                    let mut format = [u8::try_from(partition).unwrap() + 40; 16];
                    format[..3].copy_from_slice(&[1, low, high]);
                    superblock.renewed(format)
                },
                Found::Ours(superblock) => *superblock,
                Found::Blank => {
                    let format = [u8::try_from(partition).unwrap() + 40; 16];
                    Superblock::plan(&identity, format, partition, size, SEGMENT_BYTES).unwrap()
                },
            };
            shapes.push(PartitionShape {
                partition,
                superblock,
            });
        }
        self.epoch = identity.next_epoch;
        for shard in 0..count {
            let mut options = SsdOptions::new(ShardId(shard), count, self.epoch, [self.boot; 16]);
            options.group_bytes = 8192;
            options.recovery_reads = 3;
            options.write_amplification_percent = 100_000;
            options.io_deadline = Duration::from_hours(1);
            (self.tune)(&mut options);
            self.shards
                .push(SsdStore::open(options, &shapes, self.now).unwrap());
        }
        for shard in 0..usize::from(count) {
            self.poll(shard);
        }
    }

    /// Hands out an extent that holds `value`, for one append.
    pub(super) fn extent(&mut self, value: &[u8]) -> Extent {
        let extent = Extent::new(self.next_extent, value.len() as u64);
        self.next_extent += (value.len() as u64).next_multiple_of(64);
        self.arena.insert(extent.offset, value.to_vec());
        extent
    }

    fn bytes_of(&self, parts: Vec<Part>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts {
            match part {
                Part::Own(own) => bytes.extend_from_slice(&own),
                Part::Extent {
                    extent,
                    padded_bytes,
                    ..
                } => {
                    bytes.extend_from_slice(&self.arena[&extent.offset]);
                    let pad = padded_bytes - extent.len;
                    bytes.resize(bytes.len() + usize::try_from(pad).unwrap(), 0xEE);
                },
            }
        }
        bytes
    }

    /// Takes the effects of a shard.
    pub(super) fn poll(&mut self, shard: usize) {
        while let Some(effect) = self.shards[shard].next_effect() {
            let count = self.shards.len();
            let from = u16::try_from(shard).unwrap();
            match effect {
                Effect::Write(io) => {
                    let bytes = self.bytes_of(io.parts);
                    let write = Write {
                        offset: io.offset,
                        bytes,
                    };
                    self.hold(shard, io.id, io.partition, What::Write(write));
                },
                Effect::Read(io) => {
                    assert!(io.len > 0 && io.len <= crate::limits::CLEAN_IO_BYTES_MAX);
                    let what = What::Read {
                        offset: io.offset,
                        len: io.len as usize,
                    };
                    self.hold(shard, io.id, io.partition, what);
                },
                Effect::Flush { id, partition } => {
                    let mark = self.disks[usize::from(partition)].flush_mark();
                    if partition == from {
                        self.events.push(Event::FlushAsked(shard));
                    }
                    self.hold(shard, id, partition, What::Flush { mark });
                },
                Effect::Done(done) => self.events.push(Event::Done(shard, done)),
                Effect::Released {
                    partition,
                    segment,
                    sequence,
                } => self.mail.push(Mail::Released {
                    to: usize::from(partition) % count,
                    partition,
                    segment,
                    sequence,
                    from,
                }),
                Effect::Erased {
                    partition,
                    segment,
                    sequence,
                } => self.mail.extend((0..count).map(|to| Mail::Erased {
                    to,
                    partition,
                    segment,
                    sequence,
                })),
                Effect::Drained { partition } => {
                    assert!(usize::from(partition) >= count);
                    self.drained.push(partition);
                },
                Effect::Closed => self.events.push(Event::Closed(shard)),
                Effect::Room | Effect::Progress(_) | Effect::Recovered | Effect::Retired(_) => {},
            }
        }
    }

    fn hold(&mut self, shard: usize, id: IoId, partition: u16, what: What) {
        let partition = usize::from(partition);
        self.ios.push(Pending {
            shard,
            id,
            partition,
            what,
        });
    }

    /// Where the writes under way go.
    pub(super) fn writes(&self) -> Vec<u64> {
        let writes = self.ios.iter().filter_map(|pending| match &pending.what {
            What::Write(write) => Some(write.offset),
            _ => None,
        });
        writes.collect()
    }

    /// A partition's I/O under way is never answered.
    pub(super) fn hang(&mut self, partition: usize) {
        self.ios.retain(|pending| pending.partition != partition);
    }

    pub(super) fn has_work(&self) -> bool {
        !self.ios.is_empty() || !self.mail.is_empty()
    }

    /// Completes a random I/O or delivers the first message; a fault instead when given.
    pub(super) fn complete_one(&mut self, random: &mut SplitMix64, fault: Option<IoFault>) {
        let count = (self.ios.len() + usize::from(!self.mail.is_empty())) as u64;
        if count == 0 {
            return;
        }
        let at = usize::try_from(random.below(count)).unwrap();
        if at == self.ios.len() {
            return self.deliver();
        }
        let pending = self.ios.swap_remove(at);
        let (shard, id, now) = (pending.shard, pending.id, self.now);
        let disk = &mut self.disks[pending.partition];
        let store = &mut self.shards[shard];
        let result = fault.map_or(Ok(()), Err);
        match pending.what {
            What::Write(write) => {
                if fault.is_none() {
                    disk.write(write);
                } else {
                    disk.fail(&write, random);
                }
                store.on_written(id, result, now);
            },
            What::Read { offset, len } => {
                let bytes = disk.read(offset, len);
                store.on_read(id, result.map(|()| &bytes[..]), now);
            },
            What::Flush { mark } => {
                if fault.is_none() {
                    disk.flush(mark);
                }
                if fault.is_none() && pending.partition == shard {
                    self.events.push(Event::Flushed(shard));
                }
                store.on_flushed(id, result, now);
            },
        }
        self.poll(shard);
    }

    fn deliver(&mut self) {
        let now = self.now;
        let to = match self.mail.remove(0) {
            Mail::Released {
                to,
                partition,
                segment,
                sequence,
                from,
            } => {
                self.shards[to].on_released(partition, segment, sequence, from, now);
                to
            },
            Mail::Erased {
                to,
                partition,
                segment,
                sequence,
            } => {
                self.shards[to].on_erased(partition, segment, sequence, now);
                to
            },
        };
        self.poll(to);
    }

    /// Moves time by `ns` and ticks every shard.
    pub(super) fn advance(&mut self, ns: u64) {
        self.now.ns += ns;
        self.now.unix_ms = 1_790_000_000_000 + self.now.ns / 1_000_000;
        for shard in 0..self.shards.len() {
            self.shards[shard].on_tick(self.now);
            self.poll(shard);
        }
    }

    /// Lets everything end that can: I/O, messages, what is due soon.
    pub(super) fn settle(&mut self, random: &mut SplitMix64, turns: u32) {
        for _ in 0..turns {
            while self.has_work() {
                self.complete_one(random, None);
            }
            let wakes = self.shards.iter().filter_map(SsdStore::next_wake_ns);
            let Some(wake) = wakes.min() else {
                return;
            };
            let wait = wake.saturating_sub(self.now.ns);
            if wait > 200_000_000 {
                return;
            }
            self.advance(wait);
        }
    }

    pub(super) fn start_read(&mut self, shard: usize, plan: ReadPlan) {
        self.reads.push((shard, plan));
    }

    pub(super) fn has_reads(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Reads for a random hit; returns what was asked for and what came.
    pub(super) fn finish_read(
        &mut self,
        random: &mut SplitMix64,
        fault: Option<IoFault>,
    ) -> Option<(ReadPlan, ReadResult, Vec<u8>)> {
        let at = usize::try_from(random.below((self.reads.len() as u64).max(1))).unwrap();
        if at >= self.reads.len() {
            return None;
        }
        let (shard, plan) = self.reads.swap_remove(at);
        let disk = &self.disks[usize::from(plan.partition)];
        let bytes = disk.read(plan.offset, plan.len as usize);
        let len = plan.hit.len as usize;
        let outcome = match (fault, plan.layout) {
            (Some(fault), _) => ReadOutcome::Failed(fault),
            (None, ReadLayout::Payload) => ReadOutcome::Checksum(crc32c::crc32c(&bytes[..len])),
            (None, ReadLayout::Packed) => ReadOutcome::Bytes(&bytes),
        };
        let id: ReadId = plan.id;
        let result = self.shards[shard].finish_read(id, outcome, self.now);
        self.poll(shard);
        let value = match result {
            ReadResult::Value { at } => bytes[at as usize..at as usize + len].to_vec(),
            _ => Vec::new(),
        };
        Some((plan, result, value))
    }

    /// Ends the process, or the power; returns the node stopped.
    pub(super) fn crash(&mut self, is_power_cut: bool, random: &mut SplitMix64) {
        for (number, disk) in self.disks.iter_mut().enumerate() {
            let writes: Vec<_> = self
                .ios
                .iter()
                .filter_map(|pending| match &pending.what {
                    What::Write(write) if pending.partition == number => Some(write.clone()),
                    _ => None,
                })
                .collect();
            if is_power_cut {
                disk.cut(&writes, random);
            } else {
                disk.kill(&writes, random);
            }
        }
        if is_power_cut {
            self.boot += 1;
        }
        self.stop();
    }

    /// Forgets the process.
    pub(super) fn stop(&mut self) {
        for store in &self.shards {
            let stats = store.stats();
            self.dropped += stats.dropped;
        }
        self.shards.clear();
        self.ios.clear();
        self.reads.clear();
        self.mail.clear();
        self.events.clear();
        self.arena.clear();
    }

    pub(super) fn dropped(&self) -> u64 {
        let now: u64 = self.shards.iter().map(|store| store.stats().dropped).sum();
        self.dropped + now
    }
}
