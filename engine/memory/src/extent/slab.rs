//! Chunks: runs of units cut into slots of one size class, with a bit and a tag per slot.
//!
//! A chunk is cut from the space of large extents when a class has company, sized to an eighth of
//! the class's population, and returned the moment it is empty: so an unpopular class never holds
//! much more than its objects, and a popular one pays 4 bytes and a bit per slot.

use chariot_base::RecordId;

use super::class::{CLASS_COUNT, slot_len};

/// Most slots of a chunk, so that its bitmap is 16 words and a search of it constant.
pub(super) const CHUNK_SLOTS_MAX: u32 = 1024;
/// Most bytes of a chunk.
pub(super) const CHUNK_BYTES_MAX: u64 = 1 << 20;

const NIL: u32 = u32::MAX;
const WORD_BITS: u32 = 64;

#[derive(Debug)]
pub(super) struct Chunk {
    /// The block that holds the chunk; the space's `NIL` when this entry is unused.
    pub(super) node: u32,
    previous: u32,
    next: u32,
    pub(super) slots: u16,
    pub(super) live: u16,
    pub(super) class: u8,
    list: List,
    bits: Box<[u64]>,
    tags: Box<[u32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Unused,
    Partial,
    Full,
    /// In a closing granule: nobody allocates here.
    Closed,
}

/// One class's lists and counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    partial: u32,
    full: u32,
    /// Live objects of the class, those in blocks of their own included.
    pub(super) live: u32,
}

#[derive(Debug)]
pub(super) struct Slabs {
    chunks: Vec<Chunk>,
    unused: u32,
    classes: Box<[Class]>,
    tag_bytes: u64,
}

impl Chunk {
    pub(super) fn is_live(&self, slot: u32) -> bool {
        self.bits[(slot / WORD_BITS) as usize] & (1 << (slot % WORD_BITS)) != 0
    }

    pub(super) fn live_slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..u32::from(self.slots)).filter(|&slot| self.is_live(slot))
    }

    pub(super) fn tag(&self, slot: u32) -> Option<RecordId> {
        RecordId::new(self.tags[slot as usize])
    }

    pub(super) fn set_tag(&mut self, slot: u32, tag: Option<RecordId>) {
        assert!(self.is_live(slot), "only a live slot has a tag");
        self.tags[slot as usize] = tag.map_or(0, RecordId::get);
    }

    fn set_live(&mut self, slot: u32, live: bool) {
        assert!(slot < u32::from(self.slots));
        assert!(
            self.is_live(slot) != live,
            "a slot is allocated and freed in turn"
        );
        self.bits[(slot / WORD_BITS) as usize] ^= 1 << (slot % WORD_BITS);
        self.tags[slot as usize] = 0;
        self.live = if live { self.live + 1 } else { self.live - 1 };
    }

    fn first_free(&self) -> Option<u32> {
        let word = self.bits.iter().position(|&word| word != u64::MAX)?;
        let slot =
            u32::try_from(word).expect("16 words") * WORD_BITS + self.bits[word].trailing_ones();
        (slot < u32::from(self.slots)).then_some(slot)
    }

    /// The free slots of 64, from slot `word * 64` on.
    fn free_bits(&self, word: u32) -> u64 {
        let exist = u32::from(self.slots) - word * WORD_BITS;
        let all = u64::MAX >> (WORD_BITS - exist.min(WORD_BITS));
        !self.bits[word as usize] & all
    }
}

/// Free slots of one chunk, or some of them, among 64 neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct FreeSlots {
    pub(super) chunk: u32,
    /// The slot of bit 0, a multiple of 64.
    pub(super) first: u32,
    /// Not 0.
    pub(super) bits: u64,
}

impl FreeSlots {
    pub(super) fn count(&self) -> u32 {
        self.bits.count_ones()
    }

    /// The lowest `most` of them.
    pub(super) fn at_most(self, most: u32) -> Self {
        assert!(most > 0, "a set has a slot");
        let mut bits = self.bits;
        // At most 63 turns; the usual request is for 64 and takes none.
        while bits.count_ones() > most {
            bits ^= 1 << (WORD_BITS - 1 - bits.leading_zeros());
        }
        Self { bits, ..self }
    }
}

impl Slabs {
    pub(super) fn new() -> Self {
        let class = Class {
            partial: NIL,
            full: NIL,
            live: 0,
        };
        Self {
            chunks: Vec::new(),
            unused: NIL,
            classes: vec![class; CLASS_COUNT].into_boxed_slice(),
            tag_bytes: 0,
        }
    }

    pub(super) fn chunk(&self, index: u32) -> &Chunk {
        &self.chunks[index as usize]
    }

    pub(super) fn chunk_mut(&mut self, index: u32) -> &mut Chunk {
        &mut self.chunks[index as usize]
    }

    pub(super) fn class(&self, class: u8) -> &Class {
        &self.classes[usize::from(class)]
    }

    pub(super) fn class_mut(&mut self, class: u8) -> &mut Class {
        &mut self.classes[usize::from(class)]
    }

    fn head(&mut self, class: u8, list: List) -> Option<&mut u32> {
        let class = &mut self.classes[usize::from(class)];
        match list {
            List::Partial => Some(&mut class.partial),
            List::Full => Some(&mut class.full),
            List::Unused | List::Closed => None,
        }
    }

    /// Moves a chunk to the front of the list it now belongs to.
    fn relist(&mut self, index: u32, list: List) {
        let Chunk {
            class,
            previous,
            next,
            list: old,
            ..
        } = *self.chunk(index);
        if previous != NIL {
            self.chunk_mut(previous).next = next;
        } else if let Some(head) = self.head(class, old) {
            assert!(*head == index);
            *head = next;
        }
        if next != NIL {
            self.chunk_mut(next).previous = previous;
        }
        let first = self
            .head(class, list)
            .map_or(NIL, |head| std::mem::replace(head, index));
        if first != NIL {
            self.chunk_mut(first).previous = index;
        }
        let chunk = self.chunk_mut(index);
        (chunk.previous, chunk.next, chunk.list) = (NIL, first, list);
    }

    /// Makes an empty chunk over a block and lists it.
    pub(super) fn create(&mut self, node: u32, class: u8, slots: u32) -> u32 {
        assert!(slots > 0);
        assert!(slots <= CHUNK_SLOTS_MAX);
        self.tag_bytes += u64::from(slots) * 4 + u64::from(slots.div_ceil(WORD_BITS)) * 8;
        let chunk = Chunk {
            node,
            previous: NIL,
            next: NIL,
            slots: u16::try_from(slots).expect("at most 1,024"),
            live: 0,
            class,
            list: List::Closed,
            bits: vec![0; slots.div_ceil(WORD_BITS) as usize].into_boxed_slice(),
            tags: vec![0; slots as usize].into_boxed_slice(),
        };
        let index = if self.unused == NIL {
            self.chunks.push(chunk);
            u32::try_from(self.chunks.len() - 1).expect("fewer chunks than units")
        } else {
            let index = self.unused;
            self.unused = self.chunk(index).next;
            *self.chunk_mut(index) = chunk;
            index
        };
        self.relist(index, List::Partial);
        index
    }

    /// Forgets an empty chunk; the caller frees its block.
    pub(super) fn destroy(&mut self, index: u32) {
        assert!(self.chunk(index).live == 0);
        self.relist(index, List::Closed);
        let slots = u32::from(self.chunk(index).slots);
        self.tag_bytes -= u64::from(slots) * 4 + u64::from(slots.div_ceil(WORD_BITS)) * 8;
        let unused = self.unused;
        let chunk = self.chunk_mut(index);
        (chunk.next, chunk.list, chunk.node, chunk.slots) = (unused, List::Unused, 0, 0);
        chunk.bits = Box::default();
        chunk.tags = Box::default();
        self.unused = index;
    }

    /// Takes one slot of the class from a chunk that has one.
    pub(super) fn take_slot(&mut self, class: u8) -> Option<(u32, u32)> {
        let index = self.class(class).partial;
        if index == NIL {
            return None;
        }
        let slot = self
            .chunk(index)
            .first_free()
            .expect("a partial chunk has a free slot");
        self.take(FreeSlots {
            chunk: index,
            first: slot / WORD_BITS * WORD_BITS,
            bits: 1 << (slot % WORD_BITS),
        });
        Some((index, slot))
    }

    /// Finds free slots of the class among 64 neighbours: the first with `want`, else the most
    /// seen.
    pub(super) fn find_free(&self, class: u8, want: u32) -> Option<FreeSlots> {
        // Chunks looked at, of 16 words each at most.
        const LOOK_MAX: usize = 4;
        let mut best: Option<FreeSlots> = None;
        let mut index = self.class(class).partial;
        for _ in 0..LOOK_MAX {
            if index == NIL {
                break;
            }
            let slots = u32::from(self.chunk(index).slots);
            for word in 0..slots.div_ceil(WORD_BITS) {
                let bits = self.chunk(index).free_bits(word);
                if bits.count_ones() > best.map_or(0, |free| free.count()) {
                    best = Some(FreeSlots {
                        chunk: index,
                        first: word * WORD_BITS,
                        bits,
                    });
                }
                if best.is_some_and(|free| free.count() >= want) {
                    return best;
                }
            }
            index = self.chunk(index).next;
        }
        best
    }

    /// The free slots among the first 64 of a chunk that was made just now.
    pub(super) fn first_free(&self, chunk: u32) -> FreeSlots {
        let bits = self.chunk(chunk).free_bits(0);
        assert!(bits != 0, "a new chunk is empty");
        FreeSlots {
            chunk,
            first: 0,
            bits,
        }
    }

    /// Marks slots live that are free now.
    pub(super) fn take(&mut self, free: FreeSlots) {
        let chunk = self.chunk_mut(free.chunk);
        let mut bits = free.bits;
        while bits != 0 {
            chunk.set_live(free.first + bits.trailing_zeros(), true);
            bits &= bits - 1;
        }
        let (class, full) = (chunk.class, chunk.live == chunk.slots);
        if full {
            self.relist(free.chunk, List::Full);
        }
        self.class_mut(class).live += free.count();
    }

    /// Frees a live slot; tells whether the chunk is empty now.
    pub(super) fn free_slot(&mut self, index: u32, slot: u32) -> bool {
        let chunk = self.chunk_mut(index);
        chunk.set_live(slot, false);
        let (class, list, empty) = (chunk.class, chunk.list, chunk.live == 0);
        if list == List::Full {
            self.relist(index, List::Partial);
        }
        let live = &mut self.class_mut(class).live;
        *live = live.checked_sub(1).expect("slots were counted when taken");
        empty
    }

    /// Stops or resumes allocation from a chunk.
    pub(super) fn set_closed(&mut self, index: u32, closed: bool) {
        let Chunk {
            list, live, slots, ..
        } = *self.chunk(index);
        if closed {
            self.relist(index, List::Closed);
        } else if list == List::Closed {
            self.relist(
                index,
                if live == slots {
                    List::Full
                } else {
                    List::Partial
                },
            );
        }
    }

    /// Returns a full chunk of the class and moves on to the next, for victim searches.
    pub(super) fn next_full(&mut self, class: u8) -> Option<u32> {
        let index = self.class(class).full;
        if index == NIL {
            return None;
        }
        // The next search starts at the following chunk: the front one goes to the far end by
        // swapping roles with the head, which costs no walk because order carries no meaning.
        let next = self.chunk(index).next;
        if next != NIL {
            self.relist(next, List::Full);
        }
        Some(index)
    }

    /// Counts bytes of private memory that chunks take now.
    pub(super) fn metadata_bytes(&self) -> u64 {
        (self.chunks.capacity() * size_of::<Chunk>()) as u64 + self.tag_bytes
    }

    /// Checks counts and lists; O(chunks). Returns (chunks, live slot bytes).
    pub(super) fn check_invariants(&self) -> (usize, u64) {
        let mut chunks = 0;
        let mut live_bytes = 0;
        for (index, chunk) in self.chunks.iter().enumerate() {
            if chunk.list == List::Unused {
                continue;
            }
            chunks += 1;
            assert_eq!(chunk.live_slots().count(), usize::from(chunk.live));
            assert!(chunk.live > 0, "an empty chunk is returned at once");
            live_bytes += u64::from(chunk.live) * slot_len(chunk.class);
            let full = chunk.live == chunk.slots;
            assert!(chunk.list == List::Closed || full == (chunk.list == List::Full));
            let index = u32::try_from(index).expect("few chunks");
            if chunk.previous != NIL {
                assert_eq!(self.chunk(chunk.previous).next, index);
            }
            if chunk.next != NIL {
                assert_eq!(self.chunk(chunk.next).previous, index);
            }
        }
        (chunks, live_bytes)
    }
}
