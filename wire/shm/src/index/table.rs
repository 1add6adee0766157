//! The table as a whole: header words, and lines by number, each number compared with the geometry.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::bucket::Bucket;
use super::layout::{Geometry, TABLE, halves, high32, low32, owner_place};
use super::memory::Lines;
use super::record::Record;
use super::steps::{Step, kept, order};

/// Lines and where everything lies in them.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) lines: Lines,
    pub(crate) geometry: Geometry,
}

/// The table word: number of buckets (low half) and epoch (high half, one higher at each split).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableWord(pub(crate) u64);

impl TableWord {
    pub(crate) fn new(buckets: u32, epoch: u32) -> Self {
        Self(halves(buckets, epoch))
    }

    #[inline]
    pub(crate) fn buckets(self) -> u32 {
        low32(self.0)
    }

    pub(crate) fn epoch(self) -> u32 {
        high32(self.0)
    }
}

impl Table {
    #[inline]
    pub(crate) fn word(&self) -> TableWord {
        let line = self.lines.line(TABLE.0);
        TableWord(line.load(TABLE.1, order(Step::TableSee, Acquire)))
    }

    /// The table word again, after a fence.
    #[inline]
    pub(crate) fn word_again(&self) -> TableWord {
        TableWord(self.lines.line(TABLE.0).load(TABLE.1, Relaxed))
    }

    pub(crate) fn set_word(&self, word: TableWord) {
        assert!(word.buckets() >= 1);
        assert!(word.buckets() <= self.geometry.buckets);
        let line = self.lines.line(TABLE.0);
        line.store(TABLE.1, word.0, order(Step::TablePublish, Release));
    }

    #[inline]
    pub(crate) fn bucket(&self, number: u32) -> Option<Bucket<'_>> {
        self.geometry
            .bucket_line(number)
            .map(|line| Bucket(self.lines.line(line)))
    }

    #[inline]
    pub(crate) fn overflow(&self, number: u32) -> Option<Bucket<'_>> {
        self.geometry
            .overflow_line(number)
            .map(|line| Bucket(self.lines.line(line)))
    }

    #[inline]
    pub(crate) fn record(&self, id: u32) -> Option<Record<'_>> {
        self.geometry
            .record_line(id)
            .map(|line| Record(self.lines.line(line)))
    }

    #[inline]
    pub(crate) fn prefetch_bucket(&self, number: u32) {
        if let Some(line) = self.geometry.bucket_line(number) {
            self.lines.prefetch(line);
        }
    }

    #[inline]
    pub(crate) fn prefetch_record(&self, id: u32) {
        if let Some(line) = self.geometry.record_line(id) {
            self.lines.prefetch(line);
        }
    }

    pub(crate) fn set_count(&self, place: (usize, usize), count: u32) {
        self.lines
            .line(place.0)
            .store(place.1, u64::from(count), Relaxed);
    }

    /// Whether `owner`'s lease carries this generation and has time left at `now_ms`.
    ///
    /// "Until" is loaded first: an extended time is stored after the generation that it belongs to.
    #[inline]
    pub(crate) fn owner_lease_holds(&self, owner: u16, generation: u32, now_ms: u64) -> bool {
        if owner == 0 {
            return true;
        }
        let Some((line, word)) = owner_place(owner) else {
            return false;
        };
        let line = self.lines.line(line);
        let until_ms = line.load(word, order(Step::LeaseSee, Acquire));
        let current = line.load(word + 1, Relaxed);
        now_ms < until_ms && (current == u64::from(generation) || !kept(Step::LeaseRecheck))
    }

    pub(crate) fn set_owner_lease(&self, owner: u16, generation: u32, until_ms: u64) {
        assert!(owner != 0, "owner 0 needs no lease");
        let (line, word) = owner_place(owner).expect("the owner is below OWNER_COUNT");
        let line = self.lines.line(line);
        if !kept(Step::LeaseOrder) {
            line.store(word, until_ms, Release);
        }
        assert!(
            line.load(word + 1, Relaxed) <= u64::from(generation),
            "generations only rise"
        );
        line.store(word + 1, u64::from(generation), Relaxed);
        line.store(word, until_ms, order(Step::LeasePublish, Release));
    }
}
