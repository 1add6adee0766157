//! The shard's side of a session's rings: reads once, copies, validates, answers.

use crate::doorbell;
use crate::layout::{RING_ENTRIES, pin_word, ro, ro_area, rw, rw_area};
use crate::mapped::MappedMemory;
use crate::pins::PinSet;
use crate::ring::{CompletionFlags, CompletionWords, RingError, SubmissionWords};
use crate::sync::{Memory, Step};

/// One submission in private memory. Its payload stays in the byte ring until the next
/// [`ServerRing::flush`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The words as the client wrote them; only the payload's length and place are validated.
    pub words: SubmissionWords,
    position: u32,
}

/// The shard's end of the rings of one session.
///
/// Lives on: owner shard. Everything read here was written by the client and may be nonsense:
/// it ends in a [`RingError`], after which the session is expelled.
#[derive(Debug)]
pub struct ServerRing<M: Memory = MappedMemory> {
    rw: M,
    ro: M,
    rw_area: usize,
    ro_area: usize,
    /// The client's tail as last read, submissions taken, and how many of them it knows about.
    tail_seen: u32,
    taken: u32,
    released: u32,
    /// Completions posted, of which `flushed` are visible, of which `consumed` came back.
    posted: u32,
    flushed: u32,
    consumed: u32,
    byte_head: u32,
    notes_read: u32,
    /// Pin words of the extents that posted completions name, by entry; 0 for none.
    outstanding: Box<[u64]>,
}

impl<M: Memory> ServerRing<M> {
    /// Makes the only shard end of `shard`'s rings in a session's two memories, both fresh.
    pub(crate) fn new(rw: M, ro: M, shard: u16) -> Self {
        assert!(M::ENTRIES <= RING_ENTRIES);
        Self {
            rw,
            ro,
            rw_area: rw_area(shard),
            ro_area: ro_area(shard),
            tail_seen: 0,
            taken: 0,
            released: 0,
            posted: 0,
            flushed: 0,
            consumed: 0,
            byte_head: 0,
            notes_read: 0,
            outstanding: vec![0; M::ENTRIES as usize].into_boxed_slice(),
        }
    }

    /// Says whether the client has published something that was not taken. One load.
    pub fn pending(&self) -> bool {
        let tail = self.rw_area + rw::SQ_TAIL;
        self.rw.load32_acquire(tail, Step::SeeSubmissions) != self.taken
    }

    /// Takes the next submission into private memory, if there is one.
    ///
    /// # Errors
    ///
    /// A [`RingError`] when the client's words are nonsense; expel the session.
    pub fn take(&mut self) -> Result<Option<Submission>, RingError> {
        if self.tail_seen == self.taken && !self.look_for_submissions()? {
            return Ok(None);
        }
        if self.taken.wrapping_sub(self.consumed) >= M::ENTRIES {
            self.refresh_consumed()?;
            if self.taken.wrapping_sub(self.consumed) >= M::ENTRIES {
                return Err(RingError::InFlight { limit: M::ENTRIES });
            }
        }
        let entry = (self.taken & (M::ENTRIES - 1)) as usize;
        let line = self
            .rw
            .load_line(self.rw_area + rw::SUBMISSIONS + entry * 64);
        let words = SubmissionWords::decode(&line);
        let len = words.payload_len();
        if len > u64::from(M::PAYLOAD_MAX) {
            return Err(RingError::Payload {
                len,
                limit: M::PAYLOAD_MAX,
            });
        }
        if words.byte_pos != self.byte_head {
            let (position, expected) = (words.byte_pos, self.byte_head);
            return Err(RingError::BytePosition { position, expected });
        }
        let position = self.taken;
        self.taken = self.taken.wrapping_add(1);
        self.byte_head = self.byte_head.wrapping_add(payload_len32(&words));
        Ok(Some(Submission { words, position }))
    }

    /// Copies a submission's payload (key, then inline value) to the start of `target` and answers
    /// its length in bytes.
    ///
    /// # Panics
    ///
    /// When `target` is shorter than the payload, or the payload was given back by a flush.
    pub fn copy_payload(&self, submission: &Submission, target: &mut [u8]) -> usize {
        let len = payload_len32(&submission.words) as usize;
        // Not given back yet: its position is one of those taken since the last flush.
        let age = self.taken.wrapping_sub(submission.position);
        assert!(age >= 1 && age <= self.taken.wrapping_sub(self.released));
        let target = &mut target[..len];
        let start = (submission.words.byte_pos & (M::BYTES - 1)) as usize;
        let until_end = M::BYTES as usize - start;
        let (first, second) = target.split_at_mut(len.min(until_end));
        let bytes = self.rw_area + rw::BYTES;
        self.rw.read_bytes(bytes + start, first);
        self.rw.read_bytes(bytes, second);
        len
    }

    /// Replaces `target` by a submission's payload. Allocates only when `target` is too small for
    /// the longest payload.
    ///
    /// # Panics
    ///
    /// When the payload was given back by a flush.
    pub fn payload(&self, submission: &Submission, target: &mut Vec<u8>) {
        target.clear();
        target.resize(payload_len32(&submission.words) as usize, 0);
        self.copy_payload(submission, target);
    }

    /// Posts one completion, invisible to the client until [`Self::flush`]. From here on until the
    /// client consumes it, the extent it names counts as pinned.
    ///
    /// # Panics
    ///
    /// When more completions are posted than submissions were taken.
    pub fn post(&mut self, words: &CompletionWords) {
        assert!(
            self.posted != self.taken,
            "one completion for each submission"
        );
        assert!(self.posted.wrapping_sub(self.consumed) < M::ENTRIES);
        let entry = (self.posted & (M::ENTRIES - 1)) as usize;
        self.ro
            .store_line(self.ro_area + ro::COMPLETIONS + entry * 64, &words.encode());
        let names = words.flags & CompletionFlags::NAMES_EXTENT != 0;
        self.outstanding[entry] = if names { pin_word(words.extent) } else { 0 };
        self.posted = self.posted.wrapping_add(1);
    }

    /// Gives back the submissions taken and makes the completions posted visible. Says whether
    /// there are new completions, after which the caller wakes the client
    /// ([`Self::wake_if_waiting`]). Copy payloads out before.
    pub fn flush(&mut self) -> bool {
        if self.released != self.taken {
            self.released = self.taken;
            self.ro.store32(self.ro_area + ro::SQ_HEAD, self.released);
        }
        if self.flushed == self.posted {
            return false;
        }
        self.flushed = self.posted;
        let tail = self.ro_area + ro::CQ_TAIL;
        self.ro
            .store32_release(tail, self.flushed, Step::PublishCompletions);
        true
    }

    /// Wakes the session's waiting threads, if there are any. The fence is inside.
    pub fn wake_if_waiting(&self) -> bool
    where
        M: doorbell::Futex,
    {
        doorbell::wake_if_waiting(&self.rw, &self.ro)
    }

    /// Tells the client whether the shard polls this ring. After `true` the shard fences
    /// ([`Self::fence_before_recheck`], once for many rings), looks at [`Self::pending`] again, and
    /// only then relies on the session's bell.
    pub fn set_sleeping(&self, sleeping: bool) {
        self.ro
            .store32(self.ro_area + ro::SLEEPING, u32::from(sleeping));
    }

    /// Fences between [`Self::set_sleeping`] of any number of rings and the re-check of each.
    pub fn fence_before_recheck(&self) {
        self.rw.fence(Step::SleepFence);
    }

    /// Stops polling this one ring, unless something is pending: says whether it may sleep.
    pub fn try_sleep(&self) -> bool {
        self.set_sleeping(true);
        self.fence_before_recheck();
        if self.rw.keeps(Step::SleepRecheck) && self.pending() {
            self.set_sleeping(false);
            return false;
        }
        true
    }

    /// Answers how many taken submissions have no completion yet.
    pub fn unanswered(&self) -> u32 {
        self.taken.wrapping_sub(self.posted)
    }

    /// Answers how many completions the client has not consumed, as last read.
    pub fn outstanding(&self) -> u32 {
        self.posted.wrapping_sub(self.consumed)
    }

    /// Reads how far the client has consumed completions; their extents are no longer held by them.
    ///
    /// # Errors
    ///
    /// [`RingError::Head`]: nonsense; expel the session.
    pub fn refresh_consumed(&mut self) -> Result<(), RingError> {
        let head = self
            .rw
            .load32_acquire(self.rw_area + rw::CQ_HEAD, Step::SeeConsumed);
        let published = self.flushed;
        if head.wrapping_sub(self.consumed) > published.wrapping_sub(self.consumed) {
            return Err(RingError::Head {
                head,
                consumed: self.consumed,
                published,
            });
        }
        self.consumed = head;
        Ok(())
    }

    /// Adds the extents named by unconsumed completions to `set`, as last refreshed.
    pub(crate) fn collect_outstanding(&self, set: &mut PinSet) {
        let mut position = self.consumed;
        while position != self.posted {
            let word = self.outstanding[(position & (M::ENTRIES - 1)) as usize];
            if word != 0 {
                set.insert_word(word);
            }
            position = position.wrapping_add(1);
        }
    }

    /// Answers the client's memory and where this shard's area starts in it.
    pub(crate) fn client_memory(&self) -> (&M, usize) {
        (&self.rw, self.rw_area)
    }

    /// Passes the client's unread recency notes to `hear`, at most a ring of them, and answers how
    /// many were lost since the last call. Notes are hints that any client may forge.
    pub fn drain_notes(&mut self, hear: impl FnMut(crate::Note)) -> u32 {
        let lost = crate::notes::drain(&self.rw, self.rw_area, &mut self.notes_read, hear);
        self.ro
            .store32(self.ro_area + ro::NOTE_HEAD, self.notes_read);
        lost
    }

    fn look_for_submissions(&mut self) -> Result<bool, RingError> {
        let tail = self
            .rw
            .load32_acquire(self.rw_area + rw::SQ_TAIL, Step::SeeSubmissions);
        if tail == self.taken {
            return Ok(false);
        }
        if tail.wrapping_sub(self.taken) > M::ENTRIES {
            return Err(RingError::Tail {
                tail,
                head: self.taken,
                limit: M::ENTRIES,
            });
        }
        self.tail_seen = tail;
        Ok(true)
    }
}

fn payload_len32(words: &SubmissionWords) -> u32 {
    u32::try_from(words.payload_len()).expect("take has bounded the payload")
}
