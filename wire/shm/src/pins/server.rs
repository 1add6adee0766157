//! The shard's look at all pins.

use crate::layout::{extent_of, pin_word, rw};
use crate::ring::{RingError, ServerRing};
use crate::sync::{Memory, Step};

/// The extents found pinned by one scan.
///
/// Lives on: owner shard; kept and reused from scan to scan. Sorted lists: no hashing that a
/// hostile client's pins could degrade. Memory: 8 bytes for each pin found, at most 16,640 pins and
/// 128 completions a session, and never more than the set's limit; 16 bytes for each extent that is
/// asked about, which are found whatever the limit.
#[derive(Debug)]
pub struct PinSet {
    words: Vec<u64>,
    sorted: bool,
    /// Most words kept.
    limit: usize,
    /// Extents that the scan is about, and whether each was seen; sorted.
    asked: Vec<(u64, bool)>,
}

impl Default for PinSet {
    fn default() -> Self {
        Self::new()
    }
}

impl PinSet {
    /// Makes an empty set that remembers every pin.
    pub const fn new() -> Self {
        Self::with_limit(usize::MAX)
    }

    /// Makes an empty set that remembers up to `limit` pins beside those asked about.
    pub const fn with_limit(limit: usize) -> Self {
        Self {
            words: Vec::new(),
            sorted: false,
            limit,
            asked: Vec::new(),
        }
    }

    /// Says which extents, by the byte of the arena where each starts, the next scan is about.
    /// Call it before [`PinScan::start`]. O(n log n).
    pub fn ask(&mut self, extents: impl IntoIterator<Item = u64>) {
        let words = extents.into_iter().map(|extent| (pin_word(extent), false));
        self.asked.clear();
        self.asked.extend(words);
        self.asked.sort_unstable();
    }

    /// Says whether one of the extents asked about was found pinned; of any other extent that it
    /// was, since nobody has looked. O(log n).
    pub fn was_pinned(&self, extent: u64) -> bool {
        let word = pin_word(extent);
        let place = self.asked.binary_search_by_key(&word, |&(asked, _)| asked);
        place.map_or(true, |place| self.asked[place].1)
    }

    /// Says whether the extent that starts at byte `extent` of the arena is pinned. O(log n). A set
    /// with a limit may have forgotten it.
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

    /// Answers how many distinct extents are pinned, up to the set's limit.
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
        let place = self.asked.binary_search_by_key(&word, |&(asked, _)| asked);
        if let Ok(place) = place {
            self.asked[place].1 = true;
        }
        if self.words.len() < self.limit {
            self.words.push(word);
            self.sorted = false;
        }
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
        for asked in &mut set.asked {
            asked.1 = false;
        }
        memory_of.client_memory().0.fence(Step::ScanFence);
        Self { set }
    }

    /// Goes on with a scan into `set` that was started in an earlier turn and is not finished.
    pub const fn resume(set: &'set mut PinSet) -> Self {
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
