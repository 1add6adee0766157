//! A device that keeps what it promised and nothing else.

use std::collections::BTreeMap;
use std::rc::Rc;

use chariot_base::{Random, SplitMix64};

pub(super) const BLOCK: usize = 4096;

type Blocks = BTreeMap<u64, Rc<[u8; BLOCK]>>;

/// Bytes for a place; not yet on the device, or not yet flushed.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// A device. Writes change `now`; flushes bring `stable` up to it.
#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    now: Blocks,
    stable: Blocks,
    unflushed: Vec<Write>,
}

fn put(blocks: &mut Blocks, write: &Write) {
    for (number, chunk) in (write.offset / BLOCK as u64..).zip(write.bytes.chunks(BLOCK)) {
        blocks.insert(number, Rc::new(chunk.try_into().unwrap()));
    }
}

impl Disk {
    pub(super) fn write(&mut self, write: Write) {
        assert!(write.offset.is_multiple_of(BLOCK as u64));
        assert!(write.bytes.len().is_multiple_of(BLOCK));
        put(&mut self.now, &write);
        self.unflushed.push(write);
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        assert!(offset.is_multiple_of(BLOCK as u64));
        assert!(len.is_multiple_of(BLOCK));
        let mut bytes = Vec::with_capacity(len);
        for number in offset / BLOCK as u64..(offset + len as u64) / BLOCK as u64 {
            bytes.extend_from_slice(self.now.get(&number).map_or(&[0; BLOCK], |block| &**block));
        }
        bytes
    }

    /// Returns how many writes a flush asked for now covers.
    pub(super) fn flush_mark(&self) -> usize {
        self.unflushed.len()
    }

    /// Completes a flush that covers the first `count` writes.
    pub(super) fn flush(&mut self, count: usize) {
        for write in self.unflushed.drain(..count) {
            put(&mut self.stable, &write);
        }
    }

    /// The process dies: what is under way may be there, in part, or not.
    pub(super) fn kill(&mut self, under_way: &[Write], random: &mut SplitMix64) {
        for write in under_way {
            tear(&mut self.now, write, random);
        }
        self.settle();
    }

    /// A write fails: any part of it may have been done.
    pub(super) fn fail(&mut self, write: &Write, random: &mut SplitMix64) {
        tear(&mut self.now, write, random);
        tear(&mut self.stable, write, random);
    }

    /// The power goes: of what no flush covers, any block may be there, in part, or not.
    pub(super) fn cut(&mut self, under_way: &[Write], random: &mut SplitMix64) {
        let mut blocks = std::mem::take(&mut self.stable);
        for write in self.unflushed.iter().chain(under_way) {
            tear(&mut blocks, write, random);
        }
        self.now = blocks;
        self.settle();
    }

    /// What a restart finds is there for good.
    fn settle(&mut self) {
        self.unflushed.clear();
        self.stable = self.now.clone();
    }

    /// Flips a bit of a byte, wherever it is.
    pub(super) fn flip(&mut self, offset: u64) {
        let number = offset / BLOCK as u64;
        let mut bytes = *self.now[&number];
        bytes[usize::try_from(offset % BLOCK as u64).unwrap()] ^= 1;
        self.now.insert(number, Rc::new(bytes));
    }

    /// Flips a bit of a random block that was written.
    pub(super) fn rot(&mut self, random: &mut SplitMix64) {
        let count = self.now.len() as u64;
        if count < 3 {
            return;
        }
        let nth = usize::try_from(random.below(count)).unwrap();
        let (&number, block) = self.now.iter().nth(nth).unwrap();
        if number < 2 {
            return;
        }
        let mut bytes = **block;
        let at = usize::try_from(random.below(BLOCK as u64)).unwrap();
        bytes[at] ^= 1 << random.below(8);
        self.now.insert(number, Rc::new(bytes));
    }
}

/// All of a write, none of it, its beginning, or any blocks of it, some of them half.
fn tear(blocks: &mut Blocks, write: &Write, random: &mut SplitMix64) {
    let count = write.bytes.len() / BLOCK;
    let manner = random.below(4);
    let cut = usize::try_from(random.below(count as u64 + 1)).unwrap();
    for at in 0..count {
        let keeps = match manner {
            0 => true,
            1 => false,
            2 => at < cut,
            _ => random.below(2) == 0,
        };
        if !keeps {
            continue;
        }
        let number = write.offset / BLOCK as u64 + at as u64;
        let mut block = *blocks.get(&number).map_or(&[0; BLOCK], |block| &**block);
        let is_half = manner == 3 && random.below(4) == 0;
        let end = if is_half { BLOCK / 2 } else { BLOCK };
        block[..end].copy_from_slice(&write.bytes[at * BLOCK..at * BLOCK + end]);
        blocks.insert(number, Rc::new(block));
    }
}
