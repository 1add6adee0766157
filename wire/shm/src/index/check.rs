//! The index's invariants, checked as a whole; for tests and the simulator. O(buckets + records).

use super::bucket::Bucket;
use super::layout::{SLOTS, bucket_of, tag_of};
use super::writer::IndexWriter;

impl IndexWriter {
    /// Checks every chain and count.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub fn check_invariants(&self) {
        let count = self.word.buckets();
        assert_eq!(self.table.word(), self.word);
        assert_eq!(self.usage.buckets, count);
        let mut seen = vec![false; self.usage.records_high as usize + 1];
        let mut overflow = 0;
        let mut entries = 0;
        for number in 0..count {
            let mut bucket = Some(self.bucket(number));
            assert!(
                self.bucket(number).head().is_multiple_of(2),
                "no rewrite is under way"
            );
            let mut first = true;
            while let Some(line) = bucket {
                let next = self.next_bucket(line);
                entries += self.check_line(number, line, &mut seen);
                let used = (0..SLOTS).filter(|&slot| line.slot(slot).is_some()).count();
                assert!(next.is_none() || used == SLOTS, "chains are packed");
                assert!(first || used > 0, "overflow buckets are not empty");
                overflow += u32::from(!first);
                first = false;
                bucket = next;
            }
        }
        assert_eq!(entries, self.usage.len, "every entry is counted");
        assert_eq!(
            overflow, self.usage.overflow,
            "every overflow bucket is counted"
        );
        assert_eq!(
            self.free_records() + self.usage.len,
            self.usage.records_high,
            "every record is linked or free"
        );
    }

    fn check_line(&self, number: u32, line: Bucket<'_>, seen: &mut [bool]) -> u32 {
        let mut entries = 0;
        for slot in (0..SLOTS).filter_map(|slot| line.slot(slot)) {
            let record = self.table.record(slot.record).expect("ids are in range");
            let (hi, _) = record.hash();
            assert_eq!(
                bucket_of(hi, self.word.buckets()),
                number,
                "its key's bucket"
            );
            assert_eq!(tag_of(hi), slot.tag, "its key's tag");
            assert!(
                record.generation().is_multiple_of(2),
                "no write is under way"
            );
            let seen = &mut seen[slot.record as usize];
            assert!(!*seen, "each record is linked once");
            *seen = true;
            entries += 1;
        }
        entries
    }
}
