//! How old is a version: the time at which its counter was given, without a word per entry.
//!
//! Versions count up, so a few marks (counter, time) tell when any of them was given. The marks are
//! dense for the near past and thin out backwards: when all are taken, the one goes whose absence
//! costs the least relative to its age. With 256 marks the error stays near 5 % of the age, and at
//! worst one interval of 100 ms.
//!
//! Rejected: a time stamp per entry (4 more bytes each, only for a metric).

const MARKS: usize = 256;
const INTERVAL_MS: u64 = 100;

#[derive(Debug, Clone, Copy)]
struct Mark {
    counter: u64,
    ms: u64,
}

/// The marks of one store, oldest first.
#[derive(Debug)]
pub(crate) struct Ages {
    marks: Vec<Mark>,
}

impl Ages {
    pub(crate) fn new() -> Self {
        Self {
            marks: Vec::with_capacity(MARKS),
        }
    }

    /// Notes that `counter` was given at `now_ms`; both only rise. O(256) once per 100 ms.
    pub(crate) fn note(&mut self, counter: u64, now_ms: u64) {
        if let Some(last) = self.marks.last() {
            assert!(counter > last.counter);
            if now_ms < last.ms + INTERVAL_MS {
                return;
            }
        }
        if self.marks.len() == MARKS {
            self.marks.remove(self.least_missed(now_ms));
        }
        self.marks.push(Mark {
            counter,
            ms: now_ms,
        });
    }

    /// Returns the milliseconds since `counter` was given.
    pub(crate) fn age_ms(&self, counter: u64, now_ms: u64) -> u64 {
        let after = self.marks.partition_point(|mark| mark.counter <= counter);
        let mark = self.marks.get(after.saturating_sub(1));
        mark.map_or(0, |mark| now_ms.saturating_sub(mark.ms))
    }

    fn least_missed(&self, now_ms: u64) -> usize {
        let cost = |at: usize| {
            let gap_ms = self.marks[at + 1].ms - self.marks[at - 1].ms;
            let age_ms = now_ms - self.marks[at + 1].ms + INTERVAL_MS;
            gap_ms.saturating_mul(1024) / age_ms
        };
        // The oldest mark stays: it answers for everything before it.
        (1..self.marks.len() - 1)
            .min_by_key(|&at| cost(at))
            .expect("there are 256 marks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_right_within_a_tenth_after_a_long_time() {
        let mut ages = Ages::new();
        // Ten versions a second for a day.
        let last = 864_000;
        for counter in 1..=last {
            ages.note(counter, counter * 100);
        }
        assert!(ages.marks.len() <= MARKS);
        let now_ms = last * 100;
        for ago in [1, 5, 20, 100, 1_000, 10_000, 100_000, 800_000] {
            let age_ms = ages.age_ms(last - ago, now_ms);
            let error = age_ms.abs_diff(ago * 100);
            assert!(
                error <= ago * 10 + INTERVAL_MS,
                "{ago} intervals ago, off by {error} ms"
            );
        }
    }

    #[test]
    fn age_is_zero_before_anything_happened() {
        assert_eq!(Ages::new().age_ms(5, 1_000), 0);
    }
}
