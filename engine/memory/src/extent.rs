//! The extent allocator: where an object's bytes lie inside the granules that a shard holds.
//!
//! Lives on: owner shard, one per tenant and shard. Pure: it knows offsets, never memory.
//!
//! Lengths from 256 KiB on, and smaller ones whose class has no company, get blocks of their own in
//! units of 4 KiB by good fit over two-level bins (`bins`, `space`); other small ones share chunks
//! of slots (`slab`), cut from the same space and returned when empty. Allocating and freeing take
//! constant time (a chunk's birth and death write at most 256 map words, and an extent names each
//! granule it covers); freeing needs the offset alone. Neighbours coalesce across adjacent
//! granules, so an extent may be as long as the run of granules.
//!
//! Each live extent carries a tag, the record that lives there; without one (leased, in quarantine)
//! it is nobody's victim. When nothing fits, the caller evicts: first by its policy, then what
//! [`ExtentAllocator::victims_for`] names, the cheapest neighbours whose room together suffices.
//!
//! Neighbours in the path: `granule` gives memory, `lease` and the store own extents, `quarantine`
//! decides when an extent comes back.

use chariot_base::limits::{ALLOCATION_UNIT_BYTES, GRANULE_BYTES, SLAB_LEN_MAX, UNITS_PER_GRANULE};
use chariot_base::{Extent, GranuleIndex, RecordId};

mod bins;
mod class;
mod slab;
mod space;
#[cfg(test)]
mod tests;
mod victims;

use class::{class_of, slot_len};
use slab::{CHUNK_BYTES_MAX, CHUNK_SLOTS_MAX, Slabs};
use space::{Kind, Side, Space};

pub use victims::{Victims, eviction_price};

/// Most slots of one run, so that a lease's idle slots are one word.
pub const RUN_SLOTS_MAX: u32 = 64;

/// Population of a class per slot of its next chunk: an eighth may lie idle.
const POPULATION_PER_SLOT: u32 = 8;
/// From this length on, blocks are cut from the high end, away from small and short-lived ones.
const HIGH_SIDE_UNITS: u32 = 256;

/// Names up to 64 equal slots near each other, not all of them: the shape of a lease. A single
/// extent is a set of one. A set and not a run, because in a chunk that has been overwritten at
/// random for a while free slots lie between live ones: runs were 22 slots long where every second
/// slot was free.
///
/// Lives on: owner shard; its numbers travel to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSet {
    /// First byte of slot 0; a multiple of 64.
    pub offset: u64,
    /// Bytes of each slot, all usable.
    pub slot_len: u64,
    /// Bit `i` stands for the slot at `offset + i * slot_len`. Bit 0 is always set.
    pub slots: u64,
}

impl SlotSet {
    /// A set of one slot.
    pub const fn one(offset: u64, slot_len: u64) -> Self {
        Self {
            offset,
            slot_len,
            slots: 1,
        }
    }

    /// Returns how many slots it has, 1 to [`RUN_SLOTS_MAX`].
    pub const fn count(&self) -> u32 {
        self.slots.count_ones()
    }

    /// Returns the bytes of all its slots.
    pub const fn bytes(&self) -> u64 {
        self.slot_len * self.count() as u64
    }

    /// The first byte of each slot, ascending.
    pub fn offsets(self) -> impl Iterator<Item = u64> {
        let bits = (0..64_u64).filter(move |bit| (self.slots >> bit) & 1 == 1);
        bits.map(move |bit| self.offset + bit * self.slot_len)
    }
}

/// Says how a shard's memory is used, in bytes: `capacity = used + slack + free + parked`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtentStats {
    /// Granules held.
    pub capacity: u64,
    /// Slots and blocks given out, rounded up to what they occupy.
    pub used: u64,
    /// Free slots and tails of chunks: usable for objects of those classes only.
    pub slack: u64,
    /// Free for any length.
    pub free: u64,
    /// Free, but in granules on their way to another shard.
    pub parked: u64,
    /// The longest length that fits now, or up to a thirty-second less.
    pub largest_free: u64,
    /// Live extents and slots.
    pub live_count: u64,
}

/// Gives out extents of the granules that one shard holds for one tenant.
///
/// Lives on: owner shard.
#[derive(Debug)]
pub struct ExtentAllocator {
    space: Space,
    slabs: Slabs,
    used_bytes: u64,
    chunk_bytes: u64,
    slot_bytes: u64,
    live_count: u64,
    victim_unit: u32,
}

/// What lives at an offset.
#[derive(Clone, Copy)]
enum Place {
    Direct { node: u32 },
    Slot { chunk: u32, slot: u32 },
}

fn units_of(len: u64) -> Option<u32> {
    u32::try_from(len.div_ceil(ALLOCATION_UNIT_BYTES)).ok()
}

fn bytes_of(units: u32) -> u64 {
    u64::from(units) * ALLOCATION_UNIT_BYTES
}

impl Default for ExtentAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl ExtentAllocator {
    /// Makes an allocator that holds no granule yet.
    pub fn new() -> Self {
        Self {
            space: Space::new(),
            slabs: Slabs::new(),
            used_bytes: 0,
            chunk_bytes: 0,
            slot_bytes: 0,
            live_count: 0,
            victim_unit: 0,
        }
    }

    /// Takes in `count` adjacent granules, empty and this shard's from now on. O(granules).
    ///
    /// # Panics
    /// When one of them is held already.
    pub fn add_granules(&mut self, first: GranuleIndex, count: u32) {
        assert!(count > 0);
        let end = first
            .0
            .checked_add(count)
            .expect("granules are numbered in 32 bits");
        // Unit numbers are 32 bits, the end of the last granule included: 16 TiB less 64 MiB.
        assert!(end < u32::MAX / UNITS_PER_GRANULE);
        for index in first.0..end {
            self.space.add_granule(index);
        }
        self.debug_check();
    }

    /// Gives out room for `len` bytes, untagged; `None` when nothing fits.
    ///
    /// The extent's length is `len`; it occupies up to a slot or unit more.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn allocate(&mut self, len: u64) -> Option<Extent> {
        assert!(len > 0);
        let offset = if len < SLAB_LEN_MAX {
            self.allocate_small(class_of(len), len)?
        } else {
            self.allocate_direct(units_of(len)?, 0)?
        };
        self.debug_check();
        Some(Extent::new(offset, len))
    }

    /// Gives out up to `max_slots` slots near each other for objects of up to `class_len` bytes.
    ///
    /// From 256 KiB on, and when memory is short, there are fewer, down to one slot.
    ///
    /// # Panics
    /// When `class_len` or `max_slots` is 0.
    pub fn allocate_set(&mut self, class_len: u64, max_slots: u32) -> Option<SlotSet> {
        assert!(class_len > 0);
        assert!(max_slots > 0);
        let want = max_slots.min(RUN_SLOTS_MAX);
        if class_len >= SLAB_LEN_MAX || want == 1 {
            let extent = self.allocate(class_len)?;
            let slot_len = self.block_len(extent.offset).expect("just allocated");
            return Some(SlotSet::one(extent.offset, slot_len));
        }
        let class = class_of(class_len);
        let mut found = self.slabs.find_free(class, want);
        if found.is_none_or(|free| free.count() * 2 < want) {
            let chunk = self.create_chunk(class, want.max(self.next_chunk_slots(class)));
            found = chunk.map(|index| self.slabs.first_free(index)).or(found);
        }
        let Some(free) = found else {
            let offset = self.allocate_small(class, class_len)?;
            let slot_len = self.block_len(offset).expect("just allocated");
            return Some(SlotSet::one(offset, slot_len));
        };
        let taken = free.at_most(want);
        self.slabs.take(taken);
        self.note_slots(class, taken.count(), true);
        self.debug_check();
        let first = taken.bits.trailing_zeros();
        Some(SlotSet {
            offset: self.slot_offset(taken.chunk, taken.first + first),
            slot_len: slot_len(class),
            slots: taken.bits >> first,
        })
    }

    fn allocate_small(&mut self, class: u8, len: u64) -> Option<u64> {
        let taken = self.slabs.take_slot(class).or_else(|| {
            let slots = self.next_chunk_slots(class);
            if slots > 1 {
                self.create_chunk(class, slots)?;
            }
            self.slabs.take_slot(class)
        });
        if let Some((chunk, slot)) = taken {
            self.note_slots(class, 1, true);
            return Some(self.slot_offset(chunk, slot));
        }
        self.allocate_direct(units_of(len).expect("less than 256 KiB"), class + 1)
    }

    fn allocate_direct(&mut self, units: u32, class_mark: u8) -> Option<u64> {
        let side = if units >= HIGH_SIDE_UNITS {
            Side::High
        } else {
            Side::Low
        };
        let id = self.space.allocate(units, side)?;
        let node = self.space.node_mut(id);
        (node.a, node.class) = (0, class_mark);
        let offset = bytes_of_start(node.start);
        if class_mark > 0 {
            self.slabs.class_mut(class_mark - 1).live += 1;
        }
        self.used_bytes += bytes_of(units);
        self.live_count += 1;
        Some(offset)
    }

    /// Returns how many slots the class's next chunk should have; 1 means a block of its own.
    fn next_chunk_slots(&self, class: u8) -> u32 {
        let len = slot_len(class);
        let page = u32::try_from(ALLOCATION_UNIT_BYTES / len).expect("at most 64");
        let most = u32::try_from(CHUNK_BYTES_MAX / len).expect("at most 16,384");
        (self.slabs.class(class).live / POPULATION_PER_SLOT)
            .clamp(1, most.min(CHUNK_SLOTS_MAX))
            .max(page)
    }

    /// Makes a chunk of `slots`, or of fewer when nothing that long is free.
    fn create_chunk(&mut self, class: u8, mut slots: u32) -> Option<u32> {
        let len = slot_len(class);
        slots = slots.min(CHUNK_SLOTS_MAX);
        let id = loop {
            let units = units_of(u64::from(slots) * len).expect("at most 16 MiB");
            if let Some(id) = self.space.allocate(units, Side::Low) {
                break id;
            }
            if slots == 1 {
                return None;
            }
            slots /= 2;
        };
        let units = self.space.node(id).units;
        let fits = u32::try_from(bytes_of(units) / len).expect("at most 16,384");
        let chunk = self.slabs.create(id, class, fits.min(CHUNK_SLOTS_MAX));
        let node = self.space.node_mut(id);
        (node.kind, node.a) = (Kind::Chunk, chunk);
        self.space.stamp_all(id);
        self.chunk_bytes += bytes_of(units);
        Some(chunk)
    }

    fn note_slots(&mut self, class: u8, count: u32, born: bool) {
        let bytes = u64::from(count) * slot_len(class);
        if born {
            self.used_bytes += bytes;
            self.slot_bytes += bytes;
            self.live_count += u64::from(count);
        } else {
            self.used_bytes -= bytes;
            self.slot_bytes -= bytes;
            self.live_count -= u64::from(count);
        }
    }

    fn slot_offset(&self, chunk: u32, slot: u32) -> u64 {
        let chunk = self.slabs.chunk(chunk);
        bytes_of_start(self.space.node(chunk.node).start) + u64::from(slot) * slot_len(chunk.class)
    }

    /// Finds the live extent that begins at an offset, for any offset whatever.
    fn place(&self, offset: u64) -> Option<Place> {
        let unit = u32::try_from(offset / ALLOCATION_UNIT_BYTES).ok()?;
        let id = self.space.covering(unit)?;
        let node = self.space.node(id);
        let inside = offset - bytes_of_start(node.start);
        match node.kind {
            Kind::Direct => (inside == 0).then_some(Place::Direct { node: id }),
            Kind::Chunk => {
                let chunk = self.slabs.chunk(node.a);
                let len = slot_len(chunk.class);
                let slot = u32::try_from(inside / len).expect("a chunk has few slots");
                let live = inside.is_multiple_of(len)
                    && slot < u32::from(chunk.slots)
                    && chunk.is_live(slot);
                live.then_some(Place::Slot {
                    chunk: node.a,
                    slot,
                })
            },
            Kind::Unused | Kind::Free | Kind::Parked => None,
        }
    }

    /// Takes back the extent that begins at `offset`; returns the bytes it occupied.
    ///
    /// # Panics
    /// When no live extent begins there: the caller's books are wrong, and reuse would corrupt.
    pub fn free(&mut self, offset: u64) -> u64 {
        let place = self
            .place(offset)
            .expect("a live extent begins at the offset freed");
        let freed = match place {
            Place::Direct { node } => {
                let space::Node { units, class, .. } = *self.space.node(node);
                if class > 0 {
                    self.slabs.class_mut(class - 1).live -= 1;
                }
                self.space.release(node);
                self.used_bytes -= bytes_of(units);
                self.live_count -= 1;
                bytes_of(units)
            },
            Place::Slot { chunk, slot } => {
                let slab::Chunk { class, node, .. } = *self.slabs.chunk(chunk);
                if self.slabs.free_slot(chunk, slot) {
                    self.slabs.destroy(chunk);
                    self.chunk_bytes -= bytes_of(self.space.node(node).units);
                    self.space.release(node);
                }
                self.note_slots(class, 1, false);
                slot_len(class)
            },
        };
        self.debug_check();
        freed
    }

    /// Returns the bytes that the live extent at `offset` occupies; `None` when none begins there.
    ///
    /// Safe to call with a number from outside.
    pub fn block_len(&self, offset: u64) -> Option<u64> {
        self.place(offset).map(|place| match place {
            Place::Direct { node } => bytes_of(self.space.node(node).units),
            Place::Slot { chunk, .. } => slot_len(self.slabs.chunk(chunk).class),
        })
    }

    /// Says which record lives at `offset` (`None`: nobody, so never a victim).
    ///
    /// # Panics
    /// When no live extent begins there.
    pub fn set_tag(&mut self, offset: u64, tag: Option<RecordId>) {
        match self
            .place(offset)
            .expect("a live extent begins at the offset tagged")
        {
            Place::Direct { node } => {
                self.space.node_mut(node).a = tag.map_or(0, RecordId::get);
            },
            Place::Slot { chunk, slot } => self.slabs.chunk_mut(chunk).set_tag(slot, tag),
        }
    }

    /// Returns the record that lives at `offset`; `None` without a tag or a live extent there.
    pub fn tag(&self, offset: u64) -> Option<RecordId> {
        match self.place(offset)? {
            Place::Direct { node } => RecordId::new(self.space.node(node).a),
            Place::Slot { chunk, slot } => self.slabs.chunk(chunk).tag(slot),
        }
    }

    /// Lists held granules in which nothing lives, in address order. O(granules).
    pub fn empty_granules(&self) -> impl Iterator<Item = GranuleIndex> + '_ {
        self.granules()
            .filter(|&(_, live)| live == 0)
            .map(|(index, _)| index)
    }

    /// Lists held granules with the bytes that live in them. O(granules).
    pub fn granules(&self) -> impl Iterator<Item = (GranuleIndex, u64)> + '_ {
        self.space.held.iter().map(|&index| {
            let live = self
                .space
                .granule(index)
                .map_or(0, |granule| granule.live_units);
            (GranuleIndex(index), bytes_of(live))
        })
    }

    /// Returns the open granule with the fewest live bytes: the cheapest to give away. O(granules).
    pub fn vacate_candidate(&self) -> Option<GranuleIndex> {
        let open = self
            .space
            .held
            .iter()
            .filter(|&&index| !self.is_closing(GranuleIndex(index)));
        let live = |index: u32| {
            self.space
                .granule(index)
                .map_or(0, |granule| granule.live_units)
        };
        open.copied()
            .min_by_key(|&index| live(index))
            .map(GranuleIndex)
    }

    /// Returns whether a granule is being vacated.
    pub fn is_closing(&self, index: GranuleIndex) -> bool {
        self.space
            .granule(index.0)
            .is_some_and(|granule| granule.closing)
    }

    /// Stops allocating from a granule, so that it empties as its extents are freed. O(blocks).
    ///
    /// # Panics
    /// When the granule is not held, or closing already.
    pub fn begin_vacate(&mut self, index: GranuleIndex) {
        self.space.close_granule(index.0);
        self.for_chunks_of(index, |slabs, chunk, _| slabs.set_closed(chunk, true));
        self.debug_check();
    }

    /// Takes a granule that was being vacated back into use. O(blocks).
    ///
    /// # Panics
    /// When the granule is not being vacated.
    pub fn cancel_vacate(&mut self, index: GranuleIndex) {
        self.space.reopen_granule(index.0);
        self.for_chunks_of(index, |slabs, chunk, closed| {
            slabs.set_closed(chunk, closed);
        });
        self.debug_check();
    }

    fn for_chunks_of(&mut self, index: GranuleIndex, change: impl Fn(&mut Slabs, u32, bool)) {
        let blocks = self.space.blocks_in(index.0);
        let chunks: Vec<u32> = blocks
            .filter(|&id| self.space.node(id).kind == Kind::Chunk)
            .collect();
        for id in chunks {
            let chunk = self.space.node(id).a;
            change(&mut self.slabs, chunk, self.space.touches_closing(id));
        }
    }

    /// Appends who lives in a granule to `tags`; returns how many live there untagged. O(blocks).
    ///
    /// The untagged ones (leased, in quarantine) leave by themselves when their owners let go.
    ///
    /// # Panics
    /// When the granule is not held.
    pub fn tags_in(&self, index: GranuleIndex, tags: &mut Vec<RecordId>) -> u64 {
        assert!(self.space.granule(index.0).is_some());
        let mut untagged = 0;
        let mut note = |tag: Option<RecordId>| match tag {
            Some(tag) => tags.push(tag),
            None => untagged += 1,
        };
        for id in self.space.blocks_in(index.0) {
            let node = self.space.node(id);
            match node.kind {
                Kind::Direct => note(RecordId::new(node.a)),
                Kind::Chunk => {
                    let chunk = self.slabs.chunk(node.a);
                    chunk.live_slots().for_each(|slot| note(chunk.tag(slot)));
                },
                Kind::Unused | Kind::Free | Kind::Parked => {},
            }
        }
        untagged
    }

    /// Gives up an empty granule.
    ///
    /// # Panics
    /// When it is not held or something lives in it.
    pub fn remove_granule(&mut self, index: GranuleIndex) {
        self.space.remove_granule(index.0);
        self.debug_check();
    }

    /// Returns how the memory is used now.
    ///
    /// # Panics
    /// When the counts do not add up, in debug builds.
    pub fn stats(&self) -> ExtentStats {
        let stats = ExtentStats {
            capacity: self.space.held.len() as u64 * GRANULE_BYTES,
            used: self.used_bytes,
            slack: self.chunk_bytes - self.slot_bytes,
            free: self.space.free_units * ALLOCATION_UNIT_BYTES,
            parked: self.space.parked_units * ALLOCATION_UNIT_BYTES,
            largest_free: bytes_of(self.space.largest_free_units()),
            live_count: self.live_count,
        };
        debug_assert_eq!(
            stats.capacity,
            stats.used + stats.slack + stats.free + stats.parked,
            "every byte is counted once"
        );
        stats
    }

    /// Returns the bytes of private memory that the allocator takes now.
    pub fn metadata_bytes(&self) -> u64 {
        self.space.metadata_bytes() + self.slabs.metadata_bytes()
    }

    fn debug_check(&self) {
        debug_assert!(self.slot_bytes <= self.chunk_bytes);
        debug_assert!(self.slot_bytes <= self.used_bytes);
        debug_assert!(
            self.space.free_units <= self.space.capacity_units(),
            "no more is free than is held"
        );
    }

    /// Checks every invariant of tiling, bins, chunks and counts; O(everything).
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check_invariants(&self) {
        self.space.check_invariants();
        let (chunks, slot_bytes) = self.slabs.check_invariants();
        assert_eq!(slot_bytes, self.slot_bytes);
        let mut chunk_blocks = 0;
        let mut direct_bytes = 0;
        for &index in &self.space.held {
            for id in self.space.blocks_in(index) {
                let node = self.space.node(id);
                if node.start / UNITS_PER_GRANULE != index {
                    continue;
                }
                match node.kind {
                    Kind::Direct => direct_bytes += bytes_of(node.units),
                    Kind::Chunk => {
                        chunk_blocks += 1;
                        assert_eq!(self.slabs.chunk(node.a).node, id);
                    },
                    Kind::Unused | Kind::Free | Kind::Parked => {},
                }
            }
        }
        assert_eq!(chunks, chunk_blocks);
        assert_eq!(direct_bytes + slot_bytes, self.used_bytes);
        let stats = self.stats();
        assert_eq!(
            stats.capacity,
            stats.used + stats.slack + stats.free + stats.parked
        );
    }
}

fn bytes_of_start(unit: u32) -> u64 {
    u64::from(unit) * ALLOCATION_UNIT_BYTES
}
