//! [`Memory`] on loom's atomics and race-checked cells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::doorbell::Futex;
use crate::futex::WaitOutcome;
use crate::layout::{ro, ro_area, rw, rw_area};
use crate::sync::{Memory, Step};

/// Which words a memory has: those of shard 0 that the models touch.
#[derive(Clone, Copy)]
enum Kind {
    ReadWrite,
    ReadOnly,
    Index,
}

/// Two small memories of one session, or one word of an index, in loom's world.
#[derive(Clone, Debug)]
pub(super) struct ModelMemory {
    shared: Arc<Shared>,
    removed: Option<Step>,
}

#[derive(Debug)]
struct Shared {
    words32: BTreeMap<usize, AtomicU32>,
    words64: BTreeMap<usize, AtomicU64>,
    lines: BTreeMap<usize, UnsafeCell<[u64; 8]>>,
    bytes: Vec<UnsafeCell<u8>>,
    /// The kernel's queue of the one futex word: who sleeps, and who was woken.
    queue: Mutex<Queue>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    asleep: u32,
    woken: u32,
}

// SAFETY: loom runs one thread at a time and reports unordered access to the cells itself.
unsafe impl Send for Shared {}
// SAFETY: as for Send.
unsafe impl Sync for Shared {}

/// The word of [`ModelMemory::index`]: a record's generation.
pub(super) const GENERATION: usize = 0;
/// Pin slots that a model may use, in each of the two ranges.
const PIN_SLOTS: usize = 2;

impl ModelMemory {
    /// Makes the memory that both sides write.
    pub(super) fn read_write(removed: Option<Step>) -> Self {
        Self::new(Kind::ReadWrite, removed)
    }

    /// Makes the memory that only the daemon writes.
    pub(super) fn read_only(removed: Option<Step>) -> Self {
        Self::new(Kind::ReadOnly, removed)
    }

    /// Makes a stand-in for an index: one generation.
    pub(super) fn index(removed: Option<Step>) -> Self {
        Self::new(Kind::Index, removed)
    }

    /// Answers how many waiters sleep and were not woken.
    pub(super) fn still_asleep(&self) -> u32 {
        let queue = self.shared.queue.lock().unwrap();
        queue.asleep - queue.woken
    }

    fn new(kind: Kind, removed: Option<Step>) -> Self {
        let (rw, ro) = (rw_area(0), ro_area(0));
        let (words32, words64, lines, bytes) = match kind {
            Kind::ReadWrite => (
                vec![
                    rw::WAITING,
                    rw + rw::SQ_TAIL,
                    rw + rw::CQ_HEAD,
                    rw + rw::PIN_HIGH_WATER,
                ],
                (0..PIN_SLOTS)
                    .map(|slot| rw + rw::PINS + slot * 8)
                    .collect(),
                Some(rw + rw::SUBMISSIONS),
                Self::BYTES as usize,
            ),
            Kind::ReadOnly => (
                vec![
                    ro::DOORBELL,
                    ro + ro::SQ_HEAD,
                    ro + ro::CQ_TAIL,
                    ro + ro::SLEEPING,
                ],
                Vec::new(),
                Some(ro + ro::COMPLETIONS),
                0,
            ),
            Kind::Index => (Vec::new(), vec![GENERATION], None, 0),
        };
        let entries = 0..Self::ENTRIES as usize;
        let lines = lines
            .into_iter()
            .flat_map(|start| entries.clone().map(move |at| start + at * 64));
        let shared = Shared {
            words32: words32
                .into_iter()
                .map(|at| (at, AtomicU32::new(0)))
                .collect(),
            words64: words64
                .into_iter()
                .map(|at: usize| (at, AtomicU64::new(0)))
                .collect(),
            lines: lines.map(|at| (at, UnsafeCell::new([0; 8]))).collect(),
            bytes: (0..bytes).map(|_| UnsafeCell::new(0)).collect(),
            queue: Mutex::new(Queue::default()),
        };
        Self {
            shared: Arc::new(shared),
            removed,
        }
    }

    fn word32(&self, offset: usize) -> &AtomicU32 {
        self.shared
            .words32
            .get(&offset)
            .expect("a word of this model")
    }

    fn word64(&self, offset: usize) -> &AtomicU64 {
        self.shared
            .words64
            .get(&offset)
            .expect("a word of this model")
    }

    fn line(&self, offset: usize) -> &UnsafeCell<[u64; 8]> {
        self.shared
            .lines
            .get(&offset)
            .expect("a line of this model")
    }

    fn byte(&self, offset: usize) -> &UnsafeCell<u8> {
        &self.shared.bytes[offset - rw_area(0) - rw::BYTES]
    }

    fn acquire(&self, step: Step) -> Ordering {
        if self.keeps(step) {
            Ordering::Acquire
        } else {
            Ordering::Relaxed
        }
    }

    fn release(&self, step: Step) -> Ordering {
        if self.keeps(step) {
            Ordering::Release
        } else {
            Ordering::Relaxed
        }
    }
}

impl Memory for ModelMemory {
    const ENTRIES: u32 = 2;
    const BYTES: u32 = 16;
    const PAYLOAD_MAX: u32 = 8;
    const PIN_SLOTS_TRANSIENT: u32 = 64;
    const PIN_SLOTS: u32 = 128;

    fn keeps(&self, step: Step) -> bool {
        self.removed != Some(step)
    }

    fn fence(&self, step: Step) {
        if self.keeps(step) {
            fence(Ordering::SeqCst);
        }
    }

    fn load32(&self, offset: usize) -> u32 {
        self.word32(offset).load(Ordering::Relaxed)
    }

    fn load32_acquire(&self, offset: usize, step: Step) -> u32 {
        self.word32(offset).load(self.acquire(step))
    }

    fn store32(&self, offset: usize, value: u32) {
        self.word32(offset).store(value, Ordering::Relaxed);
    }

    fn store32_release(&self, offset: usize, value: u32, step: Step) {
        self.word32(offset).store(value, self.release(step));
    }

    fn add32(&self, offset: usize, value: u32) -> u32 {
        if std::thread::panicking() {
            // A failed model unwinds through destructors, outside of loom's world.
            return 0;
        }
        self.word32(offset).fetch_add(value, Ordering::Relaxed)
    }

    fn max32(&self, offset: usize, value: u32) -> u32 {
        self.word32(offset).fetch_max(value, Ordering::Relaxed)
    }

    fn load64(&self, offset: usize) -> u64 {
        self.word64(offset).load(Ordering::Relaxed)
    }

    fn load64_acquire(&self, offset: usize, step: Step) -> u64 {
        self.word64(offset).load(self.acquire(step))
    }

    fn store64(&self, offset: usize, value: u64) {
        self.word64(offset).store(value, Ordering::Relaxed);
    }

    fn store64_release(&self, offset: usize, value: u64, step: Step) {
        self.word64(offset).store(value, self.release(step));
    }

    fn load_line(&self, offset: usize) -> [u64; 8] {
        // SAFETY: loom reports any write that this read is not ordered with.
        self.line(offset).with(|line| unsafe { *line })
    }

    fn store_line(&self, offset: usize, line: &[u64; 8]) {
        // SAFETY: loom reports any access that this write is not ordered with.
        self.line(offset)
            .with_mut(|target| unsafe { *target = *line });
    }

    fn read_bytes(&self, offset: usize, target: &mut [u8]) {
        for (index, target) in target.iter_mut().enumerate() {
            // SAFETY: as in `load_line`.
            *target = self.byte(offset + index).with(|byte| unsafe { *byte });
        }
    }

    fn write_bytes(&self, offset: usize, source: &[u8]) {
        for (index, &source) in source.iter().enumerate() {
            // SAFETY: as in `store_line`.
            self.byte(offset + index)
                .with_mut(|byte| unsafe { *byte = source });
        }
    }
}

impl Futex for ModelMemory {
    /// Compares and queues under the kernel's lock, and does not block: a waiter that nobody wakes
    /// is found by [`ModelMemory::still_asleep`].
    fn wait(&self, offset: usize, expected: u32, _timeout: Option<Duration>) -> WaitOutcome {
        let mut queue = self.shared.queue.lock().unwrap();
        if self.word32(offset).load(Ordering::Relaxed) != expected {
            return WaitOutcome::Changed;
        }
        queue.asleep += 1;
        WaitOutcome::Woken
    }

    fn wake_all(&self, _offset: usize) {
        let mut queue = self.shared.queue.lock().unwrap();
        queue.woken = queue.asleep;
    }
}
