//! The lossy recency ring: "this record was read", from any thread of the client to the shard.
//!
//! A writer takes a position and stores one word; nobody waits for the reader. A reader that is
//! more than a ring behind skips to what is still there and counts the rest as lost. A note that is
//! read before its writer has stored it is the note of 512 positions ago (or zero, which is
//! skipped): a stale hint, which is all that a note ever is.

use crate::layout::{NOTE_ENTRIES, rw, rw_area};
use crate::mapped::MappedMemory;
use crate::ring::{high, low};
use crate::sync::Memory;

/// One hint: a record and the low half of its generation when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Record id in the index of the ring's shard; not validated.
    pub record: u32,
    /// Low 32 bits of the record's generation.
    pub generation: u32,
}

/// The client's end of a session's recency ring on one shard.
///
/// Lives on: any threads of the client process, all at once.
#[derive(Debug)]
pub struct NoteWriter<M: Memory = MappedMemory> {
    rw: M,
    area: usize,
}

impl<M: Memory> NoteWriter<M> {
    pub(crate) fn new(rw: M, shard: u16) -> Self {
        Self {
            rw,
            area: rw_area(shard),
        }
    }

    /// Leaves a note that `record` was read at `generation`. Never waits; may be lost.
    #[inline]
    pub fn note(&self, record: u32, generation: u64) {
        let position = self.rw.add32(self.area + rw::NOTE_TAIL, 1);
        let word = (u64::from(record) << 32) | (generation & u64::from(u32::MAX));
        self.rw
            .store64(self.area + rw::NOTES + slot(position), word);
    }
}

/// Passes unread notes to `hear` and answers how many were lost.
pub(crate) fn drain<M: Memory>(
    rw: &M,
    area: usize,
    read: &mut u32,
    mut hear: impl FnMut(Note),
) -> u32 {
    let tail = rw.load32(area + rw::NOTE_TAIL);
    let unread = tail.wrapping_sub(*read);
    let lost = unread.saturating_sub(NOTE_ENTRIES);
    let mut position = read.wrapping_add(lost);
    while position != tail {
        let word = rw.load64(area + rw::NOTES + slot(position));
        if word != 0 {
            hear(Note {
                record: high(word),
                generation: low(word),
            });
        }
        position = position.wrapping_add(1);
    }
    *read = tail;
    lost
}

fn slot(position: u32) -> usize {
    (position & (NOTE_ENTRIES - 1)) as usize * 8
}

#[cfg(test)]
mod tests;
