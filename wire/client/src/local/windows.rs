//! Writable windows over leased memory: a guard against accidents in a trusted process.
//!
//! The arena is mapped a second time for writing, read-only at first. The guard works by the chunk
//! of 2 MiB: while a chunk holds a slot that is leased and not yet published, it is writable. A
//! chunk that nobody uses any more stays open for its next lease, until more bytes lie open than
//! the bound says; then the idle ones are closed, the one unused for the longest time first. What
//! is open is so bounded by that plus what the session holds in leases.
//!
//! Chunks, because a lease is often no more than some hundred KiB of a place that was leased
//! before: with a window for each lease a third of a batched set went into `mprotect`, page faults
//! and a search among windows. Chunks are found by their number, and their pages are faulted in
//! once, when they open for the first time.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use chariot_shm::Mapping;

/// Bytes of a chunk: a granule (64 MiB) is a whole number of them, so that the pages of a chunk
/// with a lease in it are there; as large as a huge page, so that none is split.
const CHUNK: usize = 2 << 20;
/// Least bytes that stay open while nobody writes in them.
const OPEN_MIN_BYTES: usize = 64 << 20;
/// Most such bytes. An open chunk can cost two memory areas of the process, of which the kernel
/// allows 65,530: 2,048 chunks leave it most of them.
const OPEN_MAX_BYTES: usize = 4 << 30;

/// How many bytes stay open idle in a mapping of `len`: a sixteenth, within the bounds. The mapping
/// is twice as long as the node's memory, so that is an eighth of what can be written at all.
fn idle_open_max(len: usize) -> usize {
    (len / 16).clamp(OPEN_MIN_BYTES, OPEN_MAX_BYTES)
}

#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    /// Slots leased in it and not yet published.
    users: u32,
    /// When it was left last, for the queue of idle chunks.
    left_at: u32,
    is_open: bool,
    /// Its pages were faulted in before.
    is_touched: bool,
}

/// The windows of one arena mapping. Lives in a lock of its session.
#[derive(Debug)]
pub(super) struct Windows {
    chunks: Vec<Chunk>,
    open_count: usize,
    open_max: usize,
    clock: u32,
    /// Chunks left by their last user, in that order, each with its `left_at`. An element whose
    /// chunk was used again since means nothing. At most twice the chunks: then it is cleaned.
    idle: VecDeque<(u32, u32)>,
}

/// Takes and gives the right to write to a range; a port, so that tests need no memory.
pub(super) trait Protect {
    fn open(&self, start: usize, len: usize) -> io::Result<()>;
    fn close(&self, start: usize, len: usize) -> io::Result<()>;
    fn touch(&self, start: usize, len: usize);
}

impl Protect for Mapping {
    fn open(&self, start: usize, len: usize) -> io::Result<()> {
        self.protect_write(start, len)
    }

    fn close(&self, start: usize, len: usize) -> io::Result<()> {
        self.protect_read(start, len)
    }

    fn touch(&self, start: usize, len: usize) {
        // A hint only: a kernel or a page that refuses makes the copy fault page by page.
        drop(self.populate_write(start, len));
    }
}

impl Windows {
    /// No window is open in a mapping of `len` bytes.
    pub(super) fn new(len: usize) -> Self {
        let count = len.div_ceil(CHUNK);
        assert!(u32::try_from(count).is_ok(), "an arena has at most 8 PiB");
        Self {
            chunks: vec![Chunk::default(); count],
            open_count: 0,
            open_max: idle_open_max(len) / CHUNK,
            clock: 0,
            idle: VecDeque::new(),
        }
    }

    /// Makes leased slots of `slot_len` bytes writable: for each bit `i` of `slots` the one at
    /// `offset + i * slot_len`. What lies between two of them in one chunk opens with them.
    pub(super) fn open(
        &mut self,
        memory: &impl Protect,
        offset: usize,
        slot_len: usize,
        slots: u64,
    ) -> io::Result<()> {
        assert!(slot_len > 0, "a slot has a byte");
        assert!(slots != 0, "a lease has a slot");
        let span = (u64::BITS - slots.leading_zeros()) as usize * slot_len;
        self.open_closed(memory, chunks_of(offset, offset + span))?;
        let mut left = slots;
        while left != 0 {
            let start = offset + left.trailing_zeros() as usize * slot_len;
            for at in chunks_of(start, start + slot_len) {
                self.chunks[at].users += 1;
            }
            left &= left - 1;
        }
        self.close_idle(memory);
        Ok(())
    }

    /// Takes note that a slot is published or given back.
    pub(super) fn leave(&mut self, offset: usize, slot_len: usize) {
        assert!(slot_len > 0, "a slot has a byte");
        for at in chunks_of(offset, offset + slot_len) {
            let chunk = &mut self.chunks[at];
            assert!(chunk.users > 0, "a slot leaves its chunks once");
            chunk.users -= 1;
            if chunk.users == 0 {
                self.clock = self.clock.wrapping_add(1);
                chunk.left_at = self.clock;
                self.idle.push_back((index(at), self.clock));
            }
        }
        if self.idle.len() > 2 * self.chunks.len() {
            let chunks = &self.chunks;
            self.idle
                .retain(|&(at, left_at)| is_idle(&chunks[at as usize], left_at));
        }
    }

    /// Opens what is closed of a range, neighbours with one call.
    fn open_closed(&mut self, memory: &impl Protect, range: Range<usize>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let is_open = |chunk: &Chunk| chunk.is_open;
            let same = self.chunks[at..range.end]
                .iter()
                .take_while(|chunk| is_open(chunk) == is_open(&self.chunks[at]))
                .count();
            if !self.chunks[at].is_open {
                memory.open(at * CHUNK, same * CHUNK)?;
                self.note_open(memory, at..at + same);
            }
            at += same;
        }
        Ok(())
    }

    fn note_open(&mut self, memory: &impl Protect, opened: Range<usize>) {
        self.open_count += opened.len();
        for at in opened {
            self.chunks[at].is_open = true;
            if !std::mem::replace(&mut self.chunks[at].is_touched, true) {
                memory.touch(at * CHUNK, CHUNK);
            }
        }
    }

    fn close_idle(&mut self, memory: &impl Protect) {
        while self.open_count > self.open_max {
            let Some((at, left_at)) = self.idle.pop_front() else {
                return;
            };
            let chunk = &mut self.chunks[at as usize];
            if is_idle(chunk, left_at) {
                chunk.is_open = false;
                self.open_count -= 1;
                // A chunk that stays writable is a lesser guard, not a fault.
                drop(memory.close(at as usize * CHUNK, CHUNK));
            }
        }
    }
}

fn is_idle(chunk: &Chunk, left_at: u32) -> bool {
    chunk.users == 0 && chunk.is_open && chunk.left_at == left_at
}

fn chunks_of(start: usize, end: usize) -> Range<usize> {
    start / CHUNK..end.div_ceil(CHUNK)
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("checked when the table was made")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const MIB: usize = 1 << 20;

    /// Which chunks are writable, and how often they were faulted in.
    struct Pages {
        open: RefCell<Vec<bool>>,
        touches: RefCell<Vec<u32>>,
        opens: Cell<u32>,
        refuses: Cell<bool>,
    }

    impl Pages {
        fn new(len: usize) -> Self {
            Self {
                open: RefCell::new(vec![false; len / CHUNK]),
                touches: RefCell::new(vec![0; len / CHUNK]),
                opens: Cell::new(0),
                refuses: Cell::new(false),
            }
        }

        fn is_open(&self, offset: usize) -> bool {
            self.open.borrow()[offset / CHUNK]
        }
    }

    impl Protect for Pages {
        fn open(&self, start: usize, len: usize) -> io::Result<()> {
            assert!(start.is_multiple_of(CHUNK) && len.is_multiple_of(CHUNK));
            if self.refuses.get() {
                return Err(io::Error::other("refused"));
            }
            self.opens.set(self.opens.get() + 1);
            self.open.borrow_mut()[start / CHUNK..(start + len) / CHUNK].fill(true);
            Ok(())
        }

        fn close(&self, start: usize, len: usize) -> io::Result<()> {
            self.open.borrow_mut()[start / CHUNK..(start + len) / CHUNK].fill(false);
            Ok(())
        }

        fn touch(&self, start: usize, len: usize) {
            for touches in &mut self.touches.borrow_mut()[start / CHUNK..(start + len) / CHUNK] {
                *touches += 1;
            }
        }
    }

    fn leave_all(windows: &mut Windows, offset: usize, slot_len: usize, count: usize) {
        for slot in 0..count {
            windows.leave(offset + slot * slot_len, slot_len);
        }
    }

    #[test]
    fn idle_chunks_close_oldest_first_and_only_over_the_bound() {
        let pages = Pages::new(256 * MIB);
        let mut windows = Windows::new(256 * MIB);
        windows.open(&pages, 64 * MIB, 32 * MIB, 1).unwrap();
        windows.open(&pages, 0, 32 * MIB, 1).unwrap();
        windows.leave(0, 32 * MIB);
        windows.leave(64 * MIB, 32 * MIB);
        assert!(
            pages.is_open(0) && pages.is_open(64 * MIB),
            "64 MiB may stay open"
        );
        windows.open(&pages, 128 * MIB, MIB, 1).unwrap();
        assert!(!pages.is_open(0), "left first");
        assert!(pages.is_open(2 * MIB) && pages.is_open(64 * MIB) && pages.is_open(128 * MIB));
    }

    #[test]
    fn chunk_in_use_stays_open_over_the_bound() {
        let pages = Pages::new(256 * MIB);
        let mut windows = Windows::new(256 * MIB);
        windows.open(&pages, 0, 64 * MIB, 1).unwrap();
        windows.open(&pages, 128 * MIB, MIB, 1).unwrap();
        assert!(pages.is_open(0));
    }

    #[test]
    fn slot_across_two_chunks_keeps_both_open_until_it_leaves() {
        let pages = Pages::new(256 * MIB);
        let mut windows = Windows::new(256 * MIB);
        let slot_len = 3 * 4096;
        let first = CHUNK - 30 * slot_len - 4096;
        windows
            .open(&pages, first, slot_len, u64::MAX >> 3)
            .unwrap();
        for slot in (0..61).filter(|&slot| slot != 30) {
            windows.leave(first + slot * slot_len, slot_len);
        }
        windows.open(&pages, 128 * MIB, 64 * MIB, 1).unwrap();
        assert!(
            pages.is_open(0) && pages.is_open(2 * MIB),
            "one slot is left in both"
        );
        windows.leave(first + 30 * slot_len, slot_len);
        windows.leave(128 * MIB, 64 * MIB);
        windows.open(&pages, 192 * MIB, 64 * MIB, 1).unwrap();
        assert!(!pages.is_open(0) && !pages.is_open(2 * MIB));
    }

    #[test]
    fn open_chunk_is_used_again_without_a_call() {
        let pages = Pages::new(64 * MIB);
        let mut windows = Windows::new(64 * MIB);
        windows.open(&pages, 0, 4096, u64::MAX).unwrap();
        leave_all(&mut windows, 0, 4096, 64);
        windows.open(&pages, MIB, 4096, u64::MAX).unwrap();
        assert_eq!(pages.opens.get(), 1);
    }

    #[test]
    fn pages_are_touched_when_a_chunk_opens_for_the_first_time_only() {
        let pages = Pages::new(256 * MIB);
        let mut windows = Windows::new(256 * MIB);
        for round in 0..3 {
            for at in (0..256).step_by(2) {
                windows.open(&pages, at * MIB, MIB, 0b11).unwrap();
                leave_all(&mut windows, at * MIB, MIB, 2);
            }
            assert!(
                pages.opens.get() >= 96 * (round + 1),
                "they do close in between"
            );
        }
        assert!(pages.touches.borrow().iter().all(|&touches| touches == 1));
    }

    #[test]
    fn refusal_leaves_nothing_counted() {
        let pages = Pages::new(64 * MIB);
        let mut windows = Windows::new(64 * MIB);
        pages.refuses.set(true);
        assert!(windows.open(&pages, 0, 4096, 0b11).is_err());
        assert_eq!((windows.open_count, windows.chunks[0].users), (0, 0));
    }

    #[test]
    fn queue_of_idle_chunks_is_bounded() {
        let pages = Pages::new(64 * MIB);
        let mut windows = Windows::new(64 * MIB);
        for _ in 0..10_000 {
            windows.open(&pages, 0, 4096, 1).unwrap();
            windows.leave(0, 4096);
        }
        assert!(windows.idle.len() <= 2 * windows.chunks.len() + 1);
    }

    #[test]
    #[should_panic(expected = "a slot leaves its chunks once")]
    fn leaving_twice_is_a_bug() {
        let pages = Pages::new(64 * MIB);
        let mut windows = Windows::new(64 * MIB);
        windows.open(&pages, 0, 4096, 1).unwrap();
        windows.leave(0, 4096);
        windows.leave(0, 4096);
    }
}
