//! Growth by linear hashing: one bucket is split at a time, readers never wait.
//!
//! (W. Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980.)
//!
//! A split (1) copies the entries that move into the new bucket, which nothing leads to yet, (2)
//! publishes the new table word, (3) rewrites the old chain without them. A reader that still
//! probes the old bucket finds the entry before (3), or sees the changed table word after it.

use super::bucket::{Bucket, Slot};
use super::layout::{LOAD, SLOTS, bit_by_tag};
use super::steps::{Step, kept};
use super::table::TableWord;
use super::writer::IndexWriter;

/// Most splits that one insert pays for.
const SPLITS_PER_INSERT: u32 = 2;

impl IndexWriter {
    /// Splits buckets while the load is above the target.
    pub(super) fn grow(&mut self) {
        for _ in 0..SPLITS_PER_INSERT {
            let buckets = self.word.buckets();
            let due = u64::from(self.usage.len) > u64::from(buckets) * u64::from(LOAD);
            if !due || buckets == self.table.geometry.buckets || !self.split() {
                return;
            }
        }
    }

    /// Splits the next bucket; false when too few overflow buckets are left.
    pub(super) fn split(&mut self) -> bool {
        let count = self.word.buckets();
        let old = count & !(1 << count.ilog2());
        let next = TableWord::new(count + 1, self.word.epoch().wrapping_add(1));
        let mut entries = std::mem::take(&mut self.scratch);
        self.collect(old, &mut entries);
        let overflow_needed = entries.len().div_ceil(SLOTS);
        if !self.overflow_left(u32::try_from(overflow_needed).unwrap_or(u32::MAX)) {
            self.scratch = entries;
            return false;
        }
        let bit = count.ilog2();
        for entry in &entries {
            if bit_by_tag(entry.tag, bit).is_none() {
                self.table.prefetch_record(entry.record);
            }
        }
        let moves = |writer: &Self, entry: &Slot| {
            bit_by_tag(entry.tag, bit).unwrap_or_else(|| {
                let record = writer.table.record(entry.record);
                let record = record.expect("slots hold valid ids");
                (record.hash().0 >> bit) & 1 == 1
            })
        };
        if !kept(Step::SplitOrder) {
            self.table.set_word(next);
        }
        for entry in &entries {
            if moves(self, entry) {
                self.link_into(count, *entry)
                    .expect("room for the new chain was checked");
            }
        }
        self.word = next;
        self.usage.buckets = count + 1;
        self.table.set_word(next);
        entries.retain(|entry| !moves(self, entry));
        self.rewrite(old, &entries);
        entries.clear();
        self.scratch = entries;
        true
    }

    /// The entries of a bucket's chain, in order.
    fn collect(&self, number: u32, entries: &mut Vec<Slot>) {
        entries.clear();
        let mut bucket = Some(self.bucket(number));
        while let Some(line) = bucket {
            entries.extend((0..SLOTS).filter_map(|slot| line.slot(slot)));
            bucket = self.next_bucket(line);
        }
    }

    /// Rewrites a chain so that it holds exactly `entries` (no more than it held), packed.
    fn rewrite(&mut self, number: u32, entries: &[Slot]) {
        let first = self.bucket(number);
        first.begin_rewrite();
        let mut bucket = first;
        let mut rest = entries;
        loop {
            let here = rest.len().min(SLOTS);
            store_slots(bucket, &rest[..here]);
            rest = &rest[here..];
            if rest.is_empty() {
                break;
            }
            bucket = self
                .next_bucket(bucket)
                .expect("the chain held more entries before");
        }
        let mut surplus = bucket.link();
        if surplus != 0 {
            bucket.set_link(0);
        }
        first.end_rewrite();
        while surplus != 0 {
            let next = self.overflow(surplus).link();
            self.free_overflow(surplus);
            surplus = next;
        }
    }
}

/// Makes a line hold exactly these slots, from the first on; stores only what changes.
fn store_slots(bucket: Bucket<'_>, entries: &[Slot]) {
    for slot in 0..SLOTS {
        let present = bucket.slot(slot);
        let wanted = entries.get(slot).copied();
        if present == wanted {
            continue;
        }
        if present.is_some() {
            bucket.clear(slot);
        }
        if let Some(contents) = wanted {
            bucket.fill(slot, contents);
        }
    }
}
