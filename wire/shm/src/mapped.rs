//! [`Memory`] on a shared mapping: what the product runs on.
//!
//! Words are atomics in place; lines are eight relaxed atomic loads or stores (plain moves on
//! x86-64 and aarch64); bytes are copied by pointer. Nothing here forms a reference to memory
//! except to single atomic words, and nothing trusts a value: every offset is checked against the
//! mapping's length.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::doorbell::Futex;
use crate::futex::{self, WaitOutcome};
use crate::layout::{BYTE_RING_SIZE, PAYLOAD_MAX, PIN_SLOTS, PIN_SLOTS_TRANSIENT, RING_ENTRIES};
use crate::map::Mapping;
use crate::sync::{Memory, Step};

/// A shared mapping as protocol memory. Clones share the mapping, which lives as long as any.
#[derive(Clone, Debug)]
pub struct MappedMemory {
    base: NonNull<u8>,
    len: usize,
    mapping: Arc<Mapping>,
}

// SAFETY: `base` points into `mapping`, which is Send + Sync and outlives it; all access is by
// atomics, or by byte copies that the protocols order.
unsafe impl Send for MappedMemory {}
// SAFETY: as for Send.
unsafe impl Sync for MappedMemory {}

impl MappedMemory {
    /// Wraps a mapping.
    ///
    /// # Panics
    ///
    /// When the mapping does not start at a multiple of 64 bytes, which no mapping does.
    pub fn new(mapping: Mapping) -> Self {
        let (base, len) = (mapping.base(), mapping.len());
        assert!(base.as_ptr().addr().is_multiple_of(64));
        Self {
            base,
            len,
            mapping: Arc::new(mapping),
        }
    }

    /// Lends the mapping under it.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Answers the length in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty mapping cannot be made"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Lends a 32-bit word, for example to wait on it.
    ///
    /// # Panics
    ///
    /// When `offset` is not a multiple of 4 within the mapping.
    #[inline]
    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4));
        let address = self.address(offset, 4).cast();
        // SAFETY: in bounds and aligned (the base is a multiple of 64), valid while `self` keeps
        // the mapping; whoever else accesses these bytes does it atomically, as the layout says.
        unsafe { AtomicU32::from_ptr(address) }
    }

    /// Lends a 64-bit word.
    ///
    /// # Panics
    ///
    /// When `offset` is not a multiple of 8 within the mapping.
    #[inline]
    pub fn word64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8));
        let address = self.address(offset, 8).cast();
        // SAFETY: as in `word32`, with eight bytes.
        unsafe { AtomicU64::from_ptr(address) }
    }

    #[inline]
    fn line(&self, offset: usize) -> &[AtomicU64; 8] {
        assert!(offset.is_multiple_of(64));
        let address: *const [AtomicU64; 8] = self.address(offset, 64).cast_const().cast();
        // SAFETY: in bounds and aligned, valid while `self` keeps the mapping; an array of atomics
        // allows others to write the same bytes atomically.
        unsafe { &*address }
    }

    #[inline]
    fn address(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(len <= self.len && offset <= self.len - len);
        // SAFETY: `offset + len` is within the mapping, checked above.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

impl Memory for MappedMemory {
    const ENTRIES: u32 = RING_ENTRIES;
    const BYTES: u32 = BYTE_RING_SIZE;
    const PAYLOAD_MAX: u32 = PAYLOAD_MAX;
    const PIN_SLOTS_TRANSIENT: u32 = PIN_SLOTS_TRANSIENT;
    const PIN_SLOTS: u32 = PIN_SLOTS;

    #[inline]
    fn keeps(&self, _step: Step) -> bool {
        true
    }

    #[inline]
    fn fence(&self, _step: Step) {
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn load32(&self, offset: usize) -> u32 {
        self.word32(offset).load(Ordering::Relaxed)
    }

    #[inline]
    fn load32_acquire(&self, offset: usize, _step: Step) -> u32 {
        self.word32(offset).load(Ordering::Acquire)
    }

    #[inline]
    fn store32(&self, offset: usize, value: u32) {
        self.word32(offset).store(value, Ordering::Relaxed);
    }

    #[inline]
    fn store32_release(&self, offset: usize, value: u32, _step: Step) {
        self.word32(offset).store(value, Ordering::Release);
    }

    #[inline]
    fn add32(&self, offset: usize, value: u32) -> u32 {
        self.word32(offset).fetch_add(value, Ordering::Relaxed)
    }

    #[inline]
    fn max32(&self, offset: usize, value: u32) -> u32 {
        self.word32(offset).fetch_max(value, Ordering::Relaxed)
    }

    #[inline]
    fn load64(&self, offset: usize) -> u64 {
        self.word64(offset).load(Ordering::Relaxed)
    }

    #[inline]
    fn load64_acquire(&self, offset: usize, _step: Step) -> u64 {
        self.word64(offset).load(Ordering::Acquire)
    }

    #[inline]
    fn store64(&self, offset: usize, value: u64) {
        self.word64(offset).store(value, Ordering::Relaxed);
    }

    #[inline]
    fn store64_release(&self, offset: usize, value: u64, _step: Step) {
        self.word64(offset).store(value, Ordering::Release);
    }

    #[inline]
    fn load_line(&self, offset: usize) -> [u64; 8] {
        self.line(offset)
            .each_ref()
            .map(|word| u64::from_le(word.load(Ordering::Relaxed)))
    }

    #[inline]
    fn store_line(&self, offset: usize, line: &[u64; 8]) {
        for (word, value) in self.line(offset).iter().zip(line) {
            word.store(value.to_le(), Ordering::Relaxed);
        }
    }

    #[inline]
    fn read_bytes(&self, offset: usize, target: &mut [u8]) {
        let source = self.address(offset, target.len());
        // SAFETY: the source is in bounds and outside every Rust object, so it cannot overlap the
        // target; what another process writes meanwhile can only garble the copy.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) };
    }

    #[inline]
    fn write_bytes(&self, offset: usize, source: &[u8]) {
        let target = self.address(offset, source.len());
        // SAFETY: the target is in bounds of our mapping, to which no reference exists, and outside
        // every Rust object.
        unsafe { target.copy_from_nonoverlapping(source.as_ptr(), source.len()) };
    }
}

impl Futex for MappedMemory {
    fn wait(&self, offset: usize, expected: u32, timeout: Option<Duration>) -> WaitOutcome {
        futex::wait(self.word32(offset), expected, timeout)
    }

    fn wake_all(&self, offset: usize) {
        futex::wake(self.word32(offset), u32::MAX);
    }
}
