//! One seed's work, and what must hold.

use std::collections::BTreeMap;

use chariot_base::{Random, SplitMix64, TenantId};
use chariot_proto::{KeyHash, WriteMode};

use super::node::{Event, Node};
use crate::{Append, AppendError, Delete, IoFault, Lookup, NewRecord, ReadResult, Source, Ticket};

/// What a schedule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Room for everything, crashes only.
    Calm,
    /// Far more data than room.
    Full,
    /// Another shard count at every restart.
    Shards,
    /// Errors and bit rot.
    Faults,
}

/// What is known of one key.
#[derive(Debug, Clone, Default)]
struct Key {
    /// Every version that was ever appended, and when it expires.
    issued: BTreeMap<u64, u64>,
    /// No version up to here may come back.
    dead: u64,
    /// The same after a power cut.
    stable_dead: u64,
    /// This version must be there.
    must: Option<u64>,
    stable_must: Option<u64>,
    /// Changes with every append or delete.
    touched: u64,
    /// What the flush under way will make stable.
    flushing: Option<(u64, Option<u64>, u64)>,
}

enum Op {
    Spill { key: usize, version: u64 },
    Delete { key: usize, kills: u64 },
}

type Verdict = Result<(), String>;

struct Schedule {
    flavour: Flavour,
    random: SplitMix64,
    node: Node,
    keys: Vec<Key>,
    ops: BTreeMap<(usize, Ticket), Op>,
    counter: u64,
    had_fault: bool,
}

fn hash_of(key: usize) -> KeyHash {
    let mut random = SplitMix64::new(key as u64 + 1);
    KeyHash {
        hi: random.next_u64(),
        lo: random.next_u64(),
    }
}

fn value_of(key: usize, version: u64) -> Vec<u8> {
    let mut random = SplitMix64::new(version ^ ((key as u64) << 50));
    let len = match random.below(8) {
        0 => 1,
        1..=3 => 1 + random.below(700),
        4 => 1500 + random.below(3000),
        5 => 4096,
        6 => 8192 - random.below(500),
        _ => 4000 + random.below(9000),
    };
    let word = random.next_u64().to_le_bytes();
    let mut value = word.repeat(usize::try_from(len).unwrap() / 8 + 1);
    value.truncate(usize::try_from(len).unwrap());
    value
}

/// Runs one schedule; the error says what is wrong.
pub(super) fn run(flavour: Flavour, seed: u64) -> Verdict {
    let mut random = SplitMix64::new(seed);
    let shards = if flavour == Flavour::Shards {
        1 + small(random.below(3))
    } else {
        1
    };
    let (keys, segments) = match flavour {
        Flavour::Full => (24, 8),
        _ => (8, 14),
    };
    let node = Node::new(shards, segments, |_options| {});
    let mut schedule = Schedule {
        flavour,
        random,
        node,
        keys: vec![Key::default(); keys],
        ops: BTreeMap::new(),
        counter: 0,
        had_fault: false,
    };
    schedule.work()
}

fn small(value: u64) -> u16 {
    u16::try_from(value).unwrap()
}

impl Schedule {
    fn work(&mut self) -> Verdict {
        let lives = 2 + self.random.below(3);
        for _ in 0..lives {
            let steps = 20 + self.random.below(100);
            for _ in 0..steps {
                self.step()?;
            }
            self.restart()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Verdict {
        let key = usize::try_from(self.random.below(self.keys.len() as u64)).unwrap();
        match self.random.below(20) {
            0..=4 => self.put(key),
            5 => self.delete(key),
            6..=8 => self.read(key)?,
            9..=14 => {
                for _ in 0..=self.random.below(3) {
                    let fault = self.fault();
                    self.node.complete_one(&mut self.random, fault);
                    self.hear()?;
                }
            },
            15 | 16 => self.finish_read()?,
            17 => {
                let ns = self.random.below(300_000_000);
                self.node.advance(ns);
            },
            18 => self.node.advance(600_000),
            _ => {
                if self.random.below(4) == 0 {
                    self.node.settle(&mut self.random, 40);
                }
                if self.flavour == Flavour::Faults && self.random.below(4) == 0 {
                    self.had_fault = true;
                    self.node.disks[0].rot(&mut self.random);
                }
            },
        }
        self.hear()
    }

    fn fault(&mut self) -> Option<IoFault> {
        if self.flavour != Flavour::Faults || self.random.below(25) > 0 {
            return None;
        }
        self.had_fault = true;
        let faults = [
            IoFault::Io,
            IoFault::Short,
            IoFault::NoSpace,
            IoFault::Shrunk,
        ];
        Some(faults[usize::try_from(self.random.below(4)).unwrap()])
    }

    fn shard_of(&self, key: usize) -> usize {
        usize::from(hash_of(key).shard(small(self.node.shards.len() as u64)))
    }

    /// Overwrites a key: its older versions die first, then the new one is written.
    fn put(&mut self, key: usize) {
        self.delete(key);
        self.counter += 1;
        let version = (u64::from(self.node.epoch) << 44) | self.counter;
        let value = value_of(key, version);
        let expiry = match self.random.below(6) {
            0 => self.node.now.unix_ms + self.random.below(400),
            _ => 0,
        };
        let name = format!("key/{key}");
        let mode = if self.random.below(4) == 0 {
            WriteMode::None
        } else {
            WriteMode::NoneEvict
        };
        let record = NewRecord {
            hash: hash_of(key),
            tenant: TenantId(0),
            key: name.as_bytes(),
            version,
            expiry_unix_ms: expiry,
            len: u32::try_from(value.len()).unwrap(),
            crc: crc32c::crc32c(&value),
            has_checksum: true,
            mode,
        };
        let shard = self.shard_of(key);
        let is_packed = self.node.shards[shard].is_packed(record.len);
        let extent = self.node.extent(&value);
        let mut fill = |target: &mut [u8]| target.copy_from_slice(&value);
        let source = if is_packed {
            Source::Fill(&mut fill)
        } else {
            Source::Extent(extent)
        };
        match self.node.shards[shard].append(&record, source, self.node.now) {
            Ok(Append::Queued(ticket)) => {
                let known = &mut self.keys[key];
                known.issued.insert(version, expiry);
                known.touched += 1;
                self.ops.insert((shard, ticket), Op::Spill { key, version });
            },
            Ok(Append::Present) => panic!("a new version is not there yet"),
            Err(AppendError::Busy | AppendError::Full | AppendError::Retired) => {},
            Err(error) => panic!("{error}"),
        }
        self.node.poll(shard);
    }

    fn delete(&mut self, key: usize) {
        let shard = self.shard_of(key);
        let known = &mut self.keys[key];
        known.touched += 1;
        known.must = None;
        known.stable_must = None;
        let kills = known
            .issued
            .last_key_value()
            .map_or(0, |(&version, _)| version);
        match self.node.shards[shard].delete(hash_of(key), self.node.now) {
            Delete::Absent => known.dead = known.dead.max(kills),
            Delete::Queued(ticket) => {
                self.ops.insert((shard, ticket), Op::Delete { key, kills });
            },
            Delete::Refused => {},
        }
        self.node.poll(shard);
    }

    fn read(&mut self, key: usize) -> Verdict {
        let shard = self.shard_of(key);
        let now = self.node.now;
        let store = &mut self.node.shards[shard];
        let Lookup::Hit(hit) = store.lookup(hash_of(key), now) else {
            return Ok(());
        };
        if let Some(plan) = store.start_read(&hit, now) {
            self.node.start_read(shard, plan);
        }
        self.check_hit(key, hit.version)
    }

    fn check_hit(&mut self, key: usize, version: u64) -> Verdict {
        let known = &mut self.keys[key];
        let Some(&expiry) = known.issued.get(&version) else {
            return Err(format!("key {key}: version {version:x} was never written"));
        };
        if version <= known.dead {
            return Err(format!(
                "key {key}: version {version:x} is back from the dead"
            ));
        }
        if expiry != 0 && self.node.now.unix_ms >= expiry {
            return Err(format!("key {key}: version {version:x} has expired"));
        }
        known.dead = known.dead.max(version - 1);
        Ok(())
    }

    fn finish_read(&mut self) -> Verdict {
        let fault = self.fault();
        let Some((plan, result, value)) = self.node.finish_read(&mut self.random, fault) else {
            return Ok(());
        };
        let key = (0..self.keys.len())
            .find(|&key| hash_of(key) == plan.hit.hash)
            .unwrap();
        match result {
            ReadResult::Value { .. } => {
                if value != value_of(key, plan.hit.version) {
                    return Err(format!("key {key}: wrong bytes"));
                }
            },
            ReadResult::Corrupt if !self.had_fault => {
                return Err(format!("key {key}: damaged without a fault {plan:?}"));
            },
            ReadResult::Corrupt | ReadResult::Failed => {},
        }
        Ok(())
    }

    fn hear(&mut self) -> Verdict {
        for event in std::mem::take(&mut self.node.events) {
            match event {
                Event::Done(shard, done) => {
                    let Some(op) = self.ops.remove(&(shard, done.ticket)) else {
                        return Err("an unknown ticket ended".to_owned());
                    };
                    self.on_done(&op, done.result.is_ok());
                },
                Event::FlushAsked(shard) => self.snapshot(shard),
                Event::Flushed(shard) => self.on_flushed(shard),
                Event::Closed(_) => {},
            }
        }
        Ok(())
    }

    fn on_done(&mut self, op: &Op, is_ok: bool) {
        match *op {
            Op::Spill { key, version } if is_ok => {
                let known = &mut self.keys[key];
                let newest = known.issued.last_key_value().map(|(&version, _)| version);
                if version > known.dead && newest == Some(version) && !self.deletes(key) {
                    self.keys[key].must = Some(version);
                }
            },
            Op::Delete { key, kills } if is_ok => {
                let known = &mut self.keys[key];
                known.dead = known.dead.max(kills);
            },
            _ => {},
        }
    }

    /// Returns whether a delete of the key's newest version is under way.
    fn deletes(&self, key: usize) -> bool {
        let newest = self.keys[key]
            .issued
            .last_key_value()
            .map_or(0, |(&version, _)| version);
        self.ops.values().any(|op| match op {
            Op::Delete { key: of, kills } => *of == key && *kills >= newest,
            Op::Spill { .. } => false,
        })
    }

    fn snapshot(&mut self, shard: usize) {
        for key in 0..self.keys.len() {
            if self.shard_of(key) == shard {
                let known = &mut self.keys[key];
                known.flushing = Some((known.dead, known.must, known.touched));
            }
        }
    }

    fn on_flushed(&mut self, shard: usize) {
        for key in 0..self.keys.len() {
            let mine = self.shard_of(key) == shard;
            let known = &mut self.keys[key];
            if let Some((dead, must, touched)) = known.flushing.take_if(|_| mine) {
                known.stable_dead = known.stable_dead.max(dead);
                if touched == known.touched {
                    known.stable_must = must;
                }
            }
        }
    }

    /// Stops in some manner, starts in some shape, and looks at everything.
    fn restart(&mut self) -> Verdict {
        let manner = self.random.below(5);
        if manner == 0 {
            while self.node.has_reads() {
                self.finish_read()?;
            }
            for store in &mut self.node.shards {
                store.close(self.node.now);
            }
            for shard in 0..self.node.shards.len() {
                self.node.poll(shard);
            }
            self.node.settle(&mut self.random, 200);
            let closed = self
                .node
                .events
                .iter()
                .filter(|event| matches!(event, Event::Closed(_)));
            if closed.count() != self.node.shards.len() && !self.had_fault {
                return Err("a clean stop does not end".to_owned());
            }
            self.hear()?;
            self.node.stop();
        } else {
            self.crash(manner < 3)?;
        }
        self.ops.clear();
        if self.had_fault {
            // A tombstone may have been lost with what was damaged.
            for known in &mut self.keys {
                known.dead = 0;
                known.stable_dead = 0;
            }
        }
        let count = match self.flavour {
            Flavour::Shards => 1 + small(self.random.below(3)),
            _ => 1,
        };
        self.node.start(count);
        // Some work before recovery has ended.
        for _ in 0..self.random.below(12) {
            let key = usize::try_from(self.random.below(self.keys.len() as u64)).unwrap();
            match self.random.below(4) {
                0 => self.read(key)?,
                1 => self.delete(key),
                _ => self.node.complete_one(&mut self.random, None),
            }
            self.hear()?;
        }
        self.node.settle(&mut self.random, 400);
        self.hear()?;
        self.look_at_everything()
    }

    fn crash(&mut self, is_power_cut: bool) -> Verdict {
        self.hear()?;
        self.node.crash(is_power_cut, &mut self.random);
        for known in &mut self.keys {
            known.flushing = None;
            if is_power_cut {
                known.dead = known.stable_dead;
                known.must = known.stable_must;
            }
        }
        Ok(())
    }

    fn look_at_everything(&mut self) -> Verdict {
        for shard in &self.node.shards {
            if shard.is_recovering() {
                return Err("recovery does not end".to_owned());
            }
        }
        let lost = self.had_fault || self.node.dropped() > 0;
        for key in 0..self.keys.len() {
            let shard = self.shard_of(key);
            let now = self.node.now;
            let found = self.node.shards[shard].peek(hash_of(key), now);
            let known = &self.keys[key];
            let newest = known
                .issued
                .last_key_value()
                .map_or(0, |(&version, _)| version);
            let must = known.must.filter(|version| {
                let expiry = known.issued[version];
                !lost && (expiry == 0 || expiry > now.unix_ms + 64)
            });
            match found {
                Lookup::Hit(hit) => {
                    self.check_hit(key, hit.version)?;
                    if must.is_some_and(|must| must != hit.version) {
                        return Err(format!("key {key}: {:x}, not {must:x?}", hit.version));
                    }
                    let known = &mut self.keys[key];
                    known.must = Some(hit.version);
                    known.stable_must = known.must;
                    known.stable_dead = known.dead;
                    self.read(key)?;
                    self.finish_read()?;
                },
                Lookup::Absent => {
                    if let Some(must) = must {
                        return Err(format!("key {key}: {must:x} was written, and is gone"));
                    }
                    let known = &mut self.keys[key];
                    known.must = None;
                    known.stable_must = None;
                    let is_pending = self.ops.values().any(|op| match op {
                        Op::Spill { key: of, .. } | Op::Delete { key: of, .. } => *of == key,
                    });
                    if !lost && !is_pending {
                        known.dead = known.dead.max(newest);
                        known.stable_dead = known.stable_dead.max(newest);
                    }
                },
                Lookup::Unknown | Lookup::Writing => {
                    return Err(format!("key {key}: {found:?} after everything has settled"));
                },
            }
        }
        Ok(())
    }
}
