//! The client's side of a session's rings on one shard.

use crate::layout::{ro, ro_area, rw, rw_area};
use crate::mapped::MappedMemory;
use crate::ring::{CompletionWords, RingError, SubmissionWords};
use crate::sync::{Memory, Step};

/// Says that as many requests are in flight as the ring has entries: consume a completion first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The client's end of the rings of one session and shard.
///
/// Lives on: any thread of the client process, one at a time (the SDK keeps it in a lock).
#[derive(Debug)]
pub struct ClientRing<M: Memory = MappedMemory> {
    rw: M,
    ro: M,
    rw_area: usize,
    ro_area: usize,
    /// Submissions written, of which `published` are visible to the shard.
    submitted: u32,
    published: u32,
    /// Completions read, of which `consumed` are given back to the shard.
    popped: u32,
    consumed: u32,
    byte_tail: u32,
}

impl<M: Memory> ClientRing<M> {
    /// Makes the only client end of `shard`'s rings in a session's two memories, both fresh.
    pub(crate) fn new(rw: M, ro: M, shard: u16) -> Self {
        Self {
            rw,
            ro,
            rw_area: rw_area(shard),
            ro_area: ro_area(shard),
            submitted: 0,
            published: 0,
            popped: 0,
            consumed: 0,
            byte_tail: 0,
        }
    }

    /// Writes one submission and its payload (the key's bytes, then the inline value's), invisible
    /// to the shard until [`Self::publish`]. `byte_pos` is filled in here.
    ///
    /// # Errors
    ///
    /// [`Full`]: the ring's entries are all in flight; consume a completion, then try again.
    ///
    /// # Panics
    ///
    /// When `payload` is not as long as `words` say, or longer than a submission may carry.
    pub fn try_submit(&mut self, words: &SubmissionWords, payload: &[u8]) -> Result<(), Full> {
        assert!(payload.len() as u64 == words.payload_len());
        assert!(payload.len() as u64 <= u64::from(M::PAYLOAD_MAX));
        if self.in_flight() >= M::ENTRIES && self.rw.keeps(Step::BoundInFlight) {
            return Err(Full);
        }
        let mut words = *words;
        words.byte_pos = self.byte_tail;
        self.write_payload(payload);
        let entry = (self.submitted & (M::ENTRIES - 1)) as usize;
        self.rw
            .store_line(self.rw_area + rw::SUBMISSIONS + entry * 64, &words.encode());
        self.submitted = self.submitted.wrapping_add(1);
        Ok(())
    }

    /// Makes all submissions written so far visible to the shard. The caller then asks
    /// [`Self::must_ring_bell`].
    pub fn publish(&mut self) {
        if self.published != self.submitted {
            self.published = self.submitted;
            let tail = self.rw_area + rw::SQ_TAIL;
            self.rw
                .store32_release(tail, self.published, Step::PublishSubmissions);
        }
    }

    /// Says whether the shard may have stopped polling before it could see what was published, so
    /// that the session's bell must be rung. Costs one fence; ask once per batch.
    pub fn must_ring_bell(&self) -> bool {
        self.rw.fence(Step::BellFence);
        self.ro.load32(self.ro_area + ro::SLEEPING) != 0
    }

    /// Says whether the shard does not poll this ring, without a fence: a hint that it may be worth
    /// waking early. What is published asks [`Self::must_ring_bell`] all the same.
    pub fn shard_sleeps(&self) -> bool {
        self.ro.load32(self.ro_area + ro::SLEEPING) != 0
    }

    /// Reads the next completion, if any, without giving its entry back: until [`Self::consume`] it
    /// is a pin on the extent that it names.
    ///
    /// # Errors
    ///
    /// [`RingError::Tail`]: the daemon wrote nonsense; close the session.
    pub fn pop(&mut self) -> Result<Option<CompletionWords>, RingError> {
        let tail = self
            .ro
            .load32_acquire(self.ro_area + ro::CQ_TAIL, Step::SeeCompletions);
        if tail == self.popped {
            return Ok(None);
        }
        let limit = self.published.wrapping_sub(self.popped);
        if tail.wrapping_sub(self.popped) > limit {
            return Err(RingError::Tail {
                tail,
                head: self.popped,
                limit,
            });
        }
        let entry = (self.popped & (M::ENTRIES - 1)) as usize;
        let line = self
            .ro
            .load_line(self.ro_area + ro::COMPLETIONS + entry * 64);
        self.popped = self.popped.wrapping_add(1);
        Ok(Some(CompletionWords::decode(&line)))
    }

    /// Gives every completion read so far back to the shard. Whoever still reads an extent named by
    /// one of them has stored a pin of its own before.
    pub fn consume(&mut self) {
        if self.consumed != self.popped {
            self.consumed = self.popped;
            let head = self.rw_area + rw::CQ_HEAD;
            self.rw
                .store32_release(head, self.consumed, Step::ConsumeCompletions);
        }
    }

    /// Answers how many requests are submitted and not yet consumed, 0 to the ring's entries.
    pub fn in_flight(&self) -> u32 {
        self.submitted.wrapping_sub(self.consumed)
    }

    /// Answers how many completions are read and not yet given back.
    pub fn unconsumed(&self) -> u32 {
        self.popped.wrapping_sub(self.consumed)
    }

    /// Answers how many more submissions find room now.
    pub fn room(&self) -> u32 {
        M::ENTRIES.saturating_sub(self.in_flight())
    }

    fn write_payload(&mut self, payload: &[u8]) {
        let start = (self.byte_tail & (M::BYTES - 1)) as usize;
        let until_end = M::BYTES as usize - start;
        let (first, second) = payload.split_at(payload.len().min(until_end));
        let bytes = self.rw_area + rw::BYTES;
        self.rw.write_bytes(bytes + start, first);
        self.rw.write_bytes(bytes, second);
        self.byte_tail = self.byte_tail.wrapping_add(length32(payload));
    }
}

fn length32(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).expect("a payload is at most a few KiB")
}
