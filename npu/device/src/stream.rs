//! Streams and events: what runs, in which order, and what it holds.
//!
//! A stream notes the memory of every submission under a number. When the stream was seen past it
//! (idle, waited for, aborted, or by an event behind it), the memory is let go. Dropping a stream
//! waits, then aborts; if even that fails, what is still held is never freed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::batch::{CopyBatch, Direction, Keep};
use crate::device::Opened;
use crate::driver::{Answer, Entry, EventHandle, StreamHandle, Way};
use crate::error::DeviceError;
use crate::memory::DeviceMemory;

/// How long the drop of a stream waits for its work before it aborts it.
const DRAIN: Duration = Duration::from_secs(5);

/// Most submissions whose memory one stream holds: then `Full`, until somebody waits or asks.
const HELD_MAX: usize = 4096;

/// How the copies of a batch are given to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// One call a copy.
    Each,
    /// One call for all (as many as the driver takes at once); one a copy where there is none.
    Batch,
}

#[derive(Default)]
struct Held {
    /// Submissions so far.
    last: u64,
    queue: VecDeque<(u64, Vec<Keep>)>,
}

pub(crate) struct StreamInner {
    opened: Arc<Opened>,
    handle: Option<StreamHandle>,
    held: Mutex<Held>,
}

/// A queue of work on a card, in order. Submissions of several threads are in the order in which
/// the calls return. Lives on: any thread.
pub struct Stream(Arc<StreamInner>);

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Stream({:?}, {} held)",
            self.0.opened.id,
            self.0.lock().queue.len()
        )
    }
}

impl StreamInner {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self) -> &StreamHandle {
        self.handle.as_ref().expect("taken by drop alone")
    }

    /// Notes what the next submission touches, before the driver hears of it.
    fn hold(&self, keeps: Vec<Keep>) -> Answer<u64> {
        let mut held = self.lock();
        if held.queue.len() >= HELD_MAX {
            return Err(DeviceError::Full {
                what: "submissions of a stream",
            });
        }
        held.last += 1;
        let number = held.last;
        held.queue.push_back((number, keeps));
        Ok(number)
    }

    fn last(&self) -> u64 {
        self.lock().last
    }

    /// Lets go of everything up to a submission. What it frees is freed outside the lock.
    fn release(&self, up_to: u64) {
        let mut gone = Vec::new();
        let mut held = self.lock();
        while held
            .queue
            .front()
            .is_some_and(|(number, _)| *number <= up_to)
        {
            gone.extend(held.queue.pop_front());
        }
        drop(held);
    }

    fn is_idle(&self) -> Answer<bool> {
        let last = self.last();
        let idle = self
            .opened
            .note(self.opened.card.stream_is_idle(self.handle()))?;
        if idle {
            self.release(last);
        }
        Ok(idle)
    }

    fn wait(&self, most: Option<Duration>) -> Answer<()> {
        let last = self.last();
        let waited = self
            .opened
            .note(self.opened.card.stream_wait(self.handle(), most));
        match &waited {
            Ok(()) => self.release(last),
            Err(DeviceError::Timeout { .. }) => {},
            // Told of a failure: mostly nothing runs any more, and then asking lets go.
            Err(_) => drop(self.is_idle()),
        }
        waited
    }

    fn abort(&self) -> Answer<()> {
        let last = self.last();
        self.opened
            .note(self.opened.card.stream_abort(self.handle()))?;
        self.release(last);
        Ok(())
    }

    /// True when nothing runs any more.
    fn drain(&self) -> bool {
        if self.lock().queue.is_empty() || self.is_idle() == Ok(true) {
            return true;
        }
        self.wait(Some(DRAIN)).is_ok() || self.abort().is_ok() || self.lock().queue.is_empty()
    }
}

static FORGOTTEN: AtomicU64 = AtomicU64::new(0);

impl Drop for StreamInner {
    fn drop(&mut self) {
        let drained = self.drain();
        if let Some(handle) = self.handle.take() {
            let ended = self.opened.card.stream_destroy(handle, !drained);
            // A forced end that succeeded has ended the work, too.
            if !drained && ended.is_err() {
                let left = std::mem::take(&mut self.lock().queue);
                FORGOTTEN.fetch_add(left.len() as u64, Ordering::Relaxed);
                for (_, keeps) in left {
                    #[expect(clippy::mem_forget, reason = "the card may still write it")]
                    std::mem::forget(keeps);
                }
            }
        }
    }
}

impl Stream {
    pub(crate) fn new(opened: Arc<Opened>, handle: StreamHandle) -> Self {
        let (handle, held) = (Some(handle), Mutex::new(Held::default()));
        Self(Arc::new(StreamInner {
            opened,
            handle,
            held,
        }))
    }

    /// Submissions of this process whose memory was given up, because their work could neither be
    /// waited for nor aborted.
    #[must_use]
    pub fn forgotten() -> u64 {
        FORGOTTEN.load(Ordering::Relaxed)
    }

    fn card(&self) -> &dyn crate::driver::Card {
        &*self.0.opened.card
    }

    /// Queues a batch. An empty one is nothing.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: the batch is of another card, or names pageable memory, which only
    /// [`crate::Device::copy_now`] takes. Other errors are the driver's; part of the batch may then
    /// have been queued, and its memory is held until the stream is past it.
    pub fn submit(&self, batch: CopyBatch, how: Submission) -> Result<(), DeviceError> {
        if !batch.on_card(self.0.opened.id) {
            return Err(DeviceError::misuse("a batch of another card"));
        }
        if batch.is_pageable() {
            return Err(DeviceError::misuse(
                "pageable memory on a stream: register it, or stage",
            ));
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.0.opened.alive()?;
        self.0.hold(batch.keeps().to_vec())?;
        let direction = batch.direction();
        let form = self.card().batch_form();
        let local = direction == Direction::DeviceToDevice;
        let outcome = if how == Submission::Each || !form.queued || local {
            self.copy_each(direction, batch.entries())
        } else {
            self.copy_batch(direction, batch.entries(), form.entries_max)
        };
        drop(batch.into_keeps());
        self.0.opened.note(outcome)
    }

    fn copy_each(&self, direction: Direction, entries: &[Entry]) -> Answer<()> {
        // SAFETY: the stream holds the memory of both sides since `hold`, and lets it go when it
        // was seen past; directions were checked when the entries were made.
        unsafe { self.card().copy_each(self.0.handle(), direction, entries) }
    }

    fn copy_batch(&self, direction: Direction, entries: &[Entry], most: usize) -> Answer<()> {
        for part in entries.chunks(most) {
            // SAFETY: as for single copies, the memory of every part is held since `hold`.
            match unsafe { self.card().copy_batch(self.0.handle(), direction, part) } {
                // The driver has the symbol and refuses it: it said so before it took anything.
                Err(DeviceError::Unsupported { .. }) => self.copy_each(direction, part)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Queues filling all of `memory` with a byte.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn fill(&self, memory: &DeviceMemory, value: u8) -> Result<(), DeviceError> {
        if memory.card() != self.0.opened.id {
            return Err(DeviceError::misuse("memory of another card"));
        }
        self.0.opened.alive()?;
        self.0.hold(vec![memory.keep()])?;
        let (address, len) = (memory.address(), memory.len());
        // SAFETY: the whole block, which the stream holds since the line before last.
        let outcome = unsafe { self.card().fill(self.0.handle(), address, len, value) };
        self.0.opened.note(outcome)
    }

    /// Queues one half of a pair.
    pub(crate) fn post(
        &self,
        comm: &crate::driver::CommHandle,
        way: Way,
        (memory, at, len): (&DeviceMemory, usize, usize),
    ) -> Answer<()> {
        let address = memory.range(at, len)?;
        self.0.opened.alive()?;
        self.0.hold(vec![memory.keep()])?;
        // SAFETY: the range is inside the memory, which is held until the stream is past the pair.
        let outcome = unsafe {
            self.card()
                .comm_post(comm, self.0.handle(), way, address, len)
        };
        self.0.opened.note(outcome)
    }

    /// Marks this point of the stream in `event`; an earlier mark is replaced.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: the event is another card's.
    pub fn record(&self, event: &Event) -> Result<(), DeviceError> {
        event.of(&self.0.opened)?;
        let handle = event.handle();
        let mark = Mark {
            stream: Arc::downgrade(&self.0),
            number: self.0.last(),
        };
        self.0
            .opened
            .note(self.card().event_record(handle, self.0.handle()))?;
        *event.mark() = Some(mark);
        Ok(())
    }

    /// Lets what is submitted from now on wait for the event's mark.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: the event has no mark, or is another card's.
    pub fn wait_event(&self, event: &Event) -> Result<(), DeviceError> {
        event.of(&self.0.opened)?;
        if event.mark().is_none() {
            return Err(DeviceError::misuse("an event that was never recorded"));
        }
        let waited = self
            .card()
            .stream_wait_event(self.0.handle(), event.handle());
        self.0.opened.note(waited)
    }

    /// True when everything that was submitted before is over; its memory is let go then.
    ///
    /// # Errors
    /// [`DeviceError::Lost`] and the driver's own.
    pub fn is_idle(&self) -> Result<bool, DeviceError> {
        self.0.is_idle()
    }

    /// Waits until everything that was submitted before is over, at most `most`; for ever without.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`]: the work goes on and holds its memory; wait again or abort. Any
    /// other error is what became of the work since the last wait.
    pub fn wait(&self, most: Option<Duration>) -> Result<(), DeviceError> {
        self.0.wait(most)
    }

    /// Drops what is queued and returns when nothing runs any more: the memory is the callers'
    /// again. Whoever waits for this stream is told [`DeviceError::Aborted`].
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where the driver cannot; the work goes on.
    pub fn abort(&self) -> Result<(), DeviceError> {
        self.0.abort()
    }
}

/// Where an event was recorded last.
struct Mark {
    stream: Weak<StreamInner>,
    number: u64,
}

/// A mark in a stream. Lives on: any thread.
pub struct Event {
    opened: Arc<Opened>,
    handle: Option<EventHandle>,
    mark: Mutex<Option<Mark>>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event({:?})", self.opened.id)
    }
}

impl Event {
    pub(crate) fn new(opened: Arc<Opened>, handle: EventHandle) -> Self {
        Self {
            opened,
            handle: Some(handle),
            mark: Mutex::new(None),
        }
    }

    fn handle(&self) -> &EventHandle {
        self.handle.as_ref().expect("taken by drop alone")
    }

    fn mark(&self) -> MutexGuard<'_, Option<Mark>> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, opened: &Arc<Opened>) -> Answer<()> {
        if Arc::ptr_eq(&self.opened, opened) {
            return Ok(());
        }
        Err(DeviceError::misuse("an event of another card"))
    }

    /// True when its stream is past the mark; the memory of what was submitted before it is let go.
    ///
    /// # Errors
    /// [`DeviceError::Misuse`]: it was never recorded.
    pub fn is_reached(&self) -> Result<bool, DeviceError> {
        let mark = self.mark();
        let Some(Mark { stream, number }) = mark.as_ref() else {
            return Err(DeviceError::misuse("an event that was never recorded"));
        };
        let (stream, number) = (stream.upgrade(), *number);
        drop(mark);
        let reached = self
            .opened
            .note(self.opened.card.event_is_reached(self.handle()))?;
        if reached && let Some(stream) = stream {
            stream.release(number);
        }
        Ok(reached)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        drop(
            self.handle
                .take()
                .map(|handle| self.opened.card.event_destroy(handle)),
        );
    }
}
