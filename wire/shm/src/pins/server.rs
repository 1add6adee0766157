//! The shard's look at all pins.

use crate::layout::{extent_of, pin_word, rw};
use crate::ring::{RingError, ServerRing};
use crate::sync::{Memory, Step};

/// The extents found pinned by one scan.
///
/// Lives on: owner shard; kept and reused from scan to scan. A sorted list: no hashing that a
/// hostile client's pins could degrade. Memory: 8 bytes for each pin found, at most 16,640 pins and
/// 128 completions a session.
#[derive(Debug, Default)]
pub struct PinSet {
    words: Vec<u64>,
    sorted: bool,
}

impl PinSet {
    /// Makes an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the extent that starts at byte `extent` of the arena is pinned. O(log n).
    ///
    /// # Panics
    ///
    /// When a scan into this set was not finished.
    pub fn contains(&self, extent: u64) -> bool {
        assert!(
            self.sorted || self.words.is_empty(),
            "a scan is finished before it is asked"
        );
        self.words.binary_search(&pin_word(extent)).is_ok()
    }

    /// Answers how many distinct extents are pinned.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Says whether nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The byte offsets in the arena where the pinned extents start, in rising order.
    pub fn extents(&self) -> impl Iterator<Item = u64> + '_ {
        self.words.iter().map(|&word| extent_of(word))
    }

    pub(crate) fn insert_word(&mut self, word: u64) {
        self.words.push(word);
        self.sorted = false;
    }
}

/// One scan of the pins of all sessions on a shard.
///
/// Everything that was unlinked before [`Self::start`] and is not in the set after
/// [`Self::finish`] may be reused. A scan may be spread over many turns of the shard; then an
/// extent that the shard itself held for I/O at any time during the scan counts as pinned as well,
/// since its completion may have been posted after its session was scanned.
#[derive(Debug)]
pub struct PinScan<'set> {
    set: &'set mut PinSet,
}

impl<'set> PinScan<'set> {
    /// Empties `set`, fences after the unlinking of what is to be reused, and begins. `memory_of`
    /// is any ring of the shard: it says which memory to fence.
    pub fn start<M: Memory>(set: &'set mut PinSet, memory_of: &ServerRing<M>) -> Self {
        set.words.clear();
        set.sorted = true;
        memory_of.client_memory().0.fence(Step::ScanFence);
        Self { set }
    }

    /// Adds one session's pins and unconsumed completions. Answers how many slots were read.
    ///
    /// # Errors
    ///
    /// [`RingError`] when the session's words are nonsense: expel it; until its farewell or death
    /// the pins found so far, and all of its completions as last read, stay in the set.
    pub fn add<M: Memory>(&mut self, ring: &mut ServerRing<M>) -> Result<u32, RingError> {
        let keeps_order = ring.client_memory().0.keeps(Step::ConsumedBeforeScan);
        let mut refreshed = Ok(());
        if keeps_order {
            refreshed = ring.refresh_consumed();
        }
        let scanned = self.add_slots(ring);
        if !keeps_order {
            refreshed = ring.refresh_consumed();
        }
        if ring.client_memory().0.keeps(Step::CompletionsArePins) {
            ring.collect_outstanding(self.set);
        }
        refreshed.map(|()| scanned)
    }

    /// Makes the set ready to be asked.
    pub fn finish(self) {
        self.set.words.sort_unstable();
        self.set.words.dedup();
        self.set.sorted = true;
    }

    fn add_slots<M: Memory>(&mut self, ring: &ServerRing<M>) -> u32 {
        let (memory, area) = ring.client_memory();
        // A high water beyond the table is a hostile client's: the table is all there is.
        let count = memory.load32(area + rw::PIN_HIGH_WATER).min(M::PIN_SLOTS);
        for slot in 0..count {
            let offset = area + rw::PINS + slot as usize * 8;
            let word = memory.load64_acquire(offset, Step::SeePins);
            if word != 0 {
                self.set.insert_word(word);
            }
        }
        count
    }
}
