//! The facade between the protocols and the memory they run on.
//!
//! Every protocol of this crate is written once, generic over [`Memory`]: in the product it runs on
//! a shared mapping ([`crate::MappedMemory`]), in the model tests (`--cfg loom`) on loom's atomics
//! and race-checked cells, with the very same steps. Each ordering, fence and re-check that a
//! protocol relies on has a name here ([`Step`]); the model takes them away one at a time and
//! asserts that the protocol then fails, so that no step can be lost unnoticed and none is kept
//! without a reason.
//!
//! Neighbours: `mapped.rs` implements the product's side, `model.rs` the checker's, and
//! `wire/SHARED-MEMORY.md` lists for each step the interleaving it defends against.

/// Atomics in private memory that only threads of one process share: loom's where a model runs.
pub(crate) mod private {
    #[cfg(all(test, loom))]
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    #[cfg(not(all(test, loom)))]
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

/// Names each step of a shared-memory protocol that memory order or a re-check makes safe.
///
/// In the product every step is kept. A model test may take one away ([`Memory::keeps`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client stores `sq_tail` with release, after the words and bytes it publishes.
    PublishSubmissions,
    /// The shard loads `sq_tail` with acquire, before it copies words and bytes out.
    SeeSubmissions,
    /// The shard stores `cq_tail` with release, after the completions and after its own reads.
    PublishCompletions,
    /// The client loads `cq_tail` with acquire, before it reads a completion or reuses an entry.
    SeeCompletions,
    /// The client stores `cq_head` with release, after it has read the completion and stored its
    /// pin.
    ConsumeCompletions,
    /// The shard loads `cq_head` with acquire, before it reuses a completion or forgets its extent.
    SeeConsumed,
    /// The client counts what is in flight and submits nothing beyond the ring's size.
    BoundInFlight,
    /// The client fences between its store of `sq_tail` and its load of `sleeping`.
    BellFence,
    /// The shard fences between its store of `sleeping` and its re-check of `sq_tail`.
    SleepFence,
    /// The shard looks at `sq_tail` again after that fence.
    SleepRecheck,
    /// The shard fences between its store of `cq_tail` and its load of `waiting`.
    WakeFence,
    /// The client fences between its increment of `waiting` and its re-check of `cq_tail`.
    WaitFence,
    /// The client looks at `cq_tail` again after that fence.
    WaitRecheck,
    /// The client reads `doorbell` before that re-check, not after it.
    SeenBeforeRecheck,
    /// The shard changes `doorbell` before it wakes.
    RaiseDoorbell,
    /// The reader fences between its store of a pin and its re-check of the record's generation.
    PinFence,
    /// The reader checks the record's generation again after that fence.
    PinRecheck,
    /// The shard fences between its unlinking of the record and its scan of the pins.
    ScanFence,
    /// The shard reads `cq_head` before the pin slots, not after them.
    ConsumedBeforeScan,
    /// The client stores its own pin before it consumes the completion that names the extent.
    PinBeforeConsume,
    /// The client raises `pin_high_water` before it uses a slot beyond it.
    RaiseHighWater,
    /// The client clears a pin with release, after its last read of the extent.
    ReleasePin,
    /// The shard loads pins with acquire, before it reuses an extent.
    SeePins,
    /// A client thread gives a slot back with release, after it has cleared the pin.
    GiveSlotBack,
    /// A client thread takes a free slot with acquire, before it stores its pin.
    TakeSlot,
    /// The shard counts extents named by unconsumed completions as pinned.
    CompletionsArePins,
}

impl Step {
    /// Every step, so that a test can ask for the mutation of each.
    pub const ALL: [Self; 26] = [
        Self::PublishSubmissions,
        Self::SeeSubmissions,
        Self::PublishCompletions,
        Self::SeeCompletions,
        Self::ConsumeCompletions,
        Self::SeeConsumed,
        Self::BoundInFlight,
        Self::BellFence,
        Self::SleepFence,
        Self::SleepRecheck,
        Self::WakeFence,
        Self::WaitFence,
        Self::WaitRecheck,
        Self::SeenBeforeRecheck,
        Self::RaiseDoorbell,
        Self::PinFence,
        Self::PinRecheck,
        Self::ScanFence,
        Self::ConsumedBeforeScan,
        Self::PinBeforeConsume,
        Self::RaiseHighWater,
        Self::ReleasePin,
        Self::SeePins,
        Self::GiveSlotBack,
        Self::TakeSlot,
        Self::CompletionsArePins,
    ];
}

// Every variant stands in `ALL`, at its place.
const _: () = assert!(Step::CompletionsArePins as usize + 1 == Step::ALL.len());

/// Memory that two parties share: words with an order, lines and bytes without one.
///
/// Offsets are in bytes from the start of the memory. Implementations panic on an offset outside
/// the memory (a bug of this process, as offsets never come from the other party).
pub trait Memory {
    /// Entries of each ring; a power of two.
    const ENTRIES: u32;
    /// Bytes of the byte ring; a power of two.
    const BYTES: u32;
    /// Longest payload of one submission in bytes; `ENTRIES * PAYLOAD_MAX <= BYTES`.
    const PAYLOAD_MAX: u32;
    /// Pin slots for copies; a multiple of 64.
    const PIN_SLOTS_TRANSIENT: u32;
    /// All pin slots; a multiple of 64.
    const PIN_SLOTS: u32;

    /// Says whether `step` is taken. Always true in the product.
    fn keeps(&self, step: Step) -> bool;
    /// Takes a sequentially consistent fence, unless `step` is taken away.
    fn fence(&self, step: Step);
    /// Loads a 32-bit word without order.
    fn load32(&self, offset: usize) -> u32;
    /// Loads a 32-bit word with acquire (relaxed when `step` is taken away).
    fn load32_acquire(&self, offset: usize, step: Step) -> u32;
    /// Stores a 32-bit word without order.
    fn store32(&self, offset: usize, value: u32);
    /// Stores a 32-bit word with release (relaxed when `step` is taken away).
    fn store32_release(&self, offset: usize, value: u32, step: Step);
    /// Adds to a 32-bit word (wrapping, relaxed) and returns what it was.
    fn add32(&self, offset: usize, value: u32) -> u32;
    /// Raises a 32-bit word to at least `value` (relaxed) and returns what it was.
    fn max32(&self, offset: usize, value: u32) -> u32;
    /// Loads a 64-bit word without order.
    fn load64(&self, offset: usize) -> u64;
    /// Loads a 64-bit word with acquire (relaxed when `step` is taken away).
    fn load64_acquire(&self, offset: usize, step: Step) -> u64;
    /// Stores a 64-bit word without order.
    fn store64(&self, offset: usize, value: u64);
    /// Stores a 64-bit word with release (relaxed when `step` is taken away).
    fn store64_release(&self, offset: usize, value: u64, step: Step);
    /// Copies a 64-byte line out, each word read once. Order comes from the words around it.
    fn load_line(&self, offset: usize) -> [u64; 8];
    /// Stores a 64-byte line. Order comes from the words around it.
    fn store_line(&self, offset: usize, line: &[u64; 8]);
    /// Copies bytes out of the memory.
    fn read_bytes(&self, offset: usize, target: &mut [u8]);
    /// Copies bytes into the memory.
    fn write_bytes(&self, offset: usize, source: &[u8]);
}
