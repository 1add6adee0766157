//! The staging memory of a strict session: where values lie until the shard has copied them.
//!
//! A first-fit list of free ranges, coalescing, in the order of their offsets. Staging is small and
//! its users few, so that the list stays short. Lives in a lock of its session.

use std::collections::BTreeMap;

/// Alignment in bytes of what is handed out.
const ALIGN: u64 = 64;

/// Free ranges of the staging memory: offset to length, in bytes.
#[derive(Debug)]
pub(super) struct Staging {
    size: u64,
    free: BTreeMap<u64, u64>,
}

impl Staging {
    /// All of `size` bytes are free.
    pub(super) fn new(size: u64) -> Self {
        let size = size & !(ALIGN - 1);
        Self {
            size,
            free: BTreeMap::from([(0, size)]),
        }
    }

    /// Bytes of the whole staging memory: the longest value that can ever be written.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Takes `len` bytes, or `None` while no free range is long enough.
    pub(super) fn take(&mut self, len: u64) -> Option<u64> {
        let len = len.max(1).checked_next_multiple_of(ALIGN)?;
        let (&offset, &free) = self.free.iter().find(|&(_, &free)| free >= len)?;
        self.free.remove(&offset);
        if free > len {
            self.free.insert(offset + len, free - len);
        }
        Some(offset)
    }

    /// Gives back what [`Self::take`] answered for `len`.
    pub(super) fn give_back(&mut self, offset: u64, len: u64) {
        let mut start = offset;
        let mut end = offset + len.max(1).next_multiple_of(ALIGN);
        assert!(end <= self.size, "the range came from here");
        if let Some((&before, &len)) = self.free.range(..start).next_back() {
            assert!(before + len <= start, "given back once");
            if before + len == start {
                self.free.remove(&before);
                start = before;
            }
        }
        if let Some((&after, &len)) = self.free.range(offset..).next() {
            assert!(end <= after, "given back once");
            if after == end {
                self.free.remove(&after);
                end += len;
            }
        }
        self.free.insert(start, end - start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memory_comes_back_as_one_range() {
        let mut staging = Staging::new(1 << 20);
        let taken: Vec<u64> = (1..=40)
            .map(|len| staging.take(len * 100).unwrap())
            .collect();
        for (index, &offset) in taken.iter().enumerate().rev().step_by(2) {
            staging.give_back(offset, (index as u64 + 1) * 100);
        }
        for (index, &offset) in taken.iter().enumerate().rev().skip(1).step_by(2) {
            staging.give_back(offset, (index as u64 + 1) * 100);
        }
        assert_eq!(staging.take(1 << 20), Some(0));
        assert_eq!(staging.take(1), None);
    }

    #[test]
    #[should_panic(expected = "given back once")]
    fn giving_back_twice_is_a_bug() {
        let mut staging = Staging::new(4096);
        let offset = staging.take(64).unwrap();
        staging.give_back(offset, 64);
        staging.give_back(offset, 64);
    }
}
