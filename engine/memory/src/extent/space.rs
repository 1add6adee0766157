//! The tiling of held granules by blocks: splitting, coalescing, and the map from unit to block.
//!
//! ```text
//!  granule 4 (held)            granule 5 (held)            granule 6 (not held)
//! |free|chunk|---- extent ------|--- same extent ---|free| x
//!  ^ map names a block at its first unit, its last unit, and at every granule start inside it;
//!    a chunk is named by all of its units, so that a slot finds it by offset alone.
//! ```
//!
//! Invariants: blocks tile every run of adjacent held granules; no two neighbours are both free and
//! open (coalescing is complete, across granule boundaries too); a free block lies in its bin
//! unless its granule is closing ("parked"), and a parked block never crosses a granule boundary.
//! Map entries inside a block may be stale: a reader checks that the block covers what it asked.
//!
//! When blocks merge or split, the longer part keeps its node, so that the cost is bounded by the
//! granules of the shorter one.

use chariot_base::GranuleIndex;
use chariot_base::limits::UNITS_PER_GRANULE;

use super::bins::Bins;

/// No node: ids start at 1, so that a zeroed map is an empty one.
pub(super) const NIL: u32 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// On the list of unused nodes.
    Unused,
    /// Free and in its bin.
    Free,
    /// Free in a closing granule: in no bin, so nobody gets it.
    Parked,
    /// One object; `a` is its tag, `class` its size class plus one (0 above the classes).
    Direct,
    /// Slots of one class; `a` is the chunk's index.
    Chunk,
}

/// One block. 20 bytes; 16-bit links would not do for terabytes of 4 KiB units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) start: u32,
    pub(super) units: u32,
    pub(super) a: u32,
    pub(super) b: u32,
    pub(super) kind: Kind,
    pub(super) class: u8,
}

const _: () = assert!(size_of::<Node>() == 20);

#[derive(Debug)]
pub(super) struct Granule {
    map: Box<[u32]>,
    /// Units of this granule that belong to extents and chunks.
    pub(super) live_units: u32,
    pub(super) closing: bool,
}

/// Which end of a free block an allocation takes; the other end stays free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Low,
    High,
}

#[derive(Debug)]
pub(super) struct Space {
    granules: Vec<Option<Granule>>,
    /// Held granules in address order.
    pub(super) held: Vec<u32>,
    nodes: Vec<Node>,
    unused: u32,
    bins: Bins,
    closing: u32,
    pub(super) free_units: u64,
    pub(super) parked_units: u64,
}

impl Space {
    pub(super) fn new() -> Self {
        let nothing = Node {
            start: 0,
            units: 0,
            a: NIL,
            b: NIL,
            kind: Kind::Unused,
            class: 0,
        };
        Self {
            granules: Vec::new(),
            held: Vec::new(),
            nodes: vec![nothing],
            unused: NIL,
            bins: Bins::new(),
            closing: 0,
            free_units: 0,
            parked_units: 0,
        }
    }

    pub(super) fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    pub(super) fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub(super) fn granule(&self, index: u32) -> Option<&Granule> {
        self.granules.get(index as usize).and_then(Option::as_ref)
    }

    fn granule_mut(&mut self, index: u32) -> &mut Granule {
        self.granules[index as usize]
            .as_mut()
            .expect("a block lies in held granules")
    }

    pub(super) fn capacity_units(&self) -> u64 {
        self.held.len() as u64 * u64::from(UNITS_PER_GRANULE)
    }

    pub(super) fn largest_free_units(&self) -> u32 {
        self.bins.largest(&self.nodes)
    }

    /// Returns what the map says at a unit; `NIL` when its granule is not held.
    fn named_at(&self, unit: u32) -> u32 {
        self.granule(unit / UNITS_PER_GRANULE)
            .map_or(NIL, |granule| {
                granule.map[(unit % UNITS_PER_GRANULE) as usize]
            })
    }

    /// Finds the block that covers a unit, where the map is exact (see the module's head).
    pub(super) fn covering(&self, unit: u32) -> Option<u32> {
        let id = self.named_at(unit);
        let node = self.nodes.get(id as usize)?;
        let covers = node.kind != Kind::Unused && unit.wrapping_sub(node.start) < node.units;
        (id != NIL && covers).then_some(id)
    }

    fn name(&mut self, unit: u32, id: u32) {
        self.granule_mut(unit / UNITS_PER_GRANULE).map[(unit % UNITS_PER_GRANULE) as usize] = id;
    }

    /// Names a block in the map at its ends and at the granule starts within `start..start +
    /// units`.
    fn stamp(&mut self, id: u32, start: u32, units: u32) {
        let Node {
            start: first,
            units: all,
            ..
        } = *self.node(id);
        self.name(first, id);
        self.name(first + (all - 1), id);
        let mut granule = start.div_ceil(UNITS_PER_GRANULE);
        while u64::from(granule) * u64::from(UNITS_PER_GRANULE)
            < u64::from(start) + u64::from(units)
        {
            self.name(granule * UNITS_PER_GRANULE, id);
            granule += 1;
        }
    }

    /// Names a chunk at all of its units.
    pub(super) fn stamp_all(&mut self, id: u32) {
        let Node { start, units, .. } = *self.node(id);
        for unit in start..start + units {
            self.name(unit, id);
        }
    }

    fn new_node(&mut self, start: u32, units: u32, kind: Kind) -> u32 {
        let node = Node {
            start,
            units,
            a: NIL,
            b: NIL,
            kind,
            class: 0,
        };
        if self.unused == NIL {
            let id = u32::try_from(self.nodes.len()).expect("fewer blocks than units");
            self.nodes.push(node);
            return id;
        }
        let id = self.unused;
        self.unused = self.nodes[id as usize].a;
        self.nodes[id as usize] = node;
        id
    }

    fn drop_node(&mut self, id: u32) {
        self.nodes[id as usize].kind = Kind::Unused;
        self.nodes[id as usize].a = self.unused;
        self.unused = id;
    }

    /// Adds `units` to (or takes them from) the live counts of the granules under a range.
    fn count_live(&mut self, start: u32, units: u32, born: bool) {
        let mut unit = start;
        let mut left = units;
        while left > 0 {
            let here = left.min(UNITS_PER_GRANULE - unit % UNITS_PER_GRANULE);
            let granule = self.granule_mut(unit / UNITS_PER_GRANULE);
            if born {
                granule.live_units += here;
                debug_assert!(granule.live_units <= UNITS_PER_GRANULE);
            } else {
                granule.live_units = granule
                    .live_units
                    .checked_sub(here)
                    .expect("live units were counted at birth");
            }
            left -= here;
            if left > 0 {
                unit += here;
            }
        }
    }

    /// Takes a block of exactly `units` from a free one; the caller sets its kind and tag.
    pub(super) fn allocate(&mut self, units: u32, side: Side) -> Option<u32> {
        assert!(units > 0);
        let id = self.bins.find(&self.nodes, units)?;
        self.bins.remove(&mut self.nodes, id);
        let Node {
            start, units: have, ..
        } = *self.node(id);
        assert!(have >= units);
        let rest = have - units;
        let taken = if rest == 0 {
            id
        } else {
            self.split_taken(id, units, side)
        };
        debug_assert!(start <= self.node(taken).start);
        self.node_mut(taken).kind = Kind::Direct;
        self.free_units -= u64::from(units);
        let start = self.node(taken).start;
        self.count_live(start, units, true);
        Some(taken)
    }

    /// Splits `units` off one side of a block that is in no bin; bins the rest, returns the part.
    fn split_taken(&mut self, id: u32, units: u32, side: Side) -> u32 {
        let Node {
            start, units: have, ..
        } = *self.node(id);
        let rest = have - units;
        let (taken_start, rest_start) = if side == Side::Low {
            (start, start + units)
        } else {
            (start + rest, start)
        };
        // The longer part keeps the node: its granule starts are named already.
        let (taken, rest_id) = if units > rest {
            (id, self.new_node(rest_start, rest, Kind::Free))
        } else {
            (self.new_node(taken_start, units, Kind::Direct), id)
        };
        let node = self.node_mut(taken);
        (node.start, node.units) = (taken_start, units);
        let node = self.node_mut(rest_id);
        (node.start, node.units, node.kind) = (rest_start, rest, Kind::Free);
        let (short, short_start, short_units) = if units > rest {
            (rest_id, rest_start, rest)
        } else {
            (taken, taken_start, units)
        };
        self.stamp(short, short_start, short_units);
        self.stamp(taken, taken_start, 0);
        self.stamp(rest_id, rest_start, 0);
        self.bins.insert(&mut self.nodes, rest_id);
        taken
    }

    /// Frees a block, coalescing with free neighbours; in closing granules the parts are parked.
    pub(super) fn release(&mut self, id: u32) {
        let Node {
            start, units, kind, ..
        } = *self.node(id);
        assert!(
            matches!(kind, Kind::Direct | Kind::Chunk),
            "only live blocks are freed"
        );
        self.count_live(start, units, false);
        if self.closing == 0 {
            self.free_units += u64::from(units);
            self.join_neighbours(id);
            return;
        }
        self.drop_node(id);
        self.insert_pieces(start, units);
    }

    /// Makes free blocks of a range that no node covers, cut where open and closing granules meet.
    fn insert_pieces(&mut self, start: u32, units: u32) {
        let end = u64::from(start) + u64::from(units);
        let mut from = u64::from(start);
        let mut pieces = Vec::new();
        while from < end {
            let closing = self.is_closing_at(from);
            let mut to = from;
            // A parked piece ends with its granule; an open one where a closing granule begins.
            loop {
                to = ((to / u64::from(UNITS_PER_GRANULE) + 1) * u64::from(UNITS_PER_GRANULE))
                    .min(end);
                if to == end || closing || self.is_closing_at(to) {
                    break;
                }
            }
            let first = u32::try_from(from).expect("units are 32 bits");
            let count = u32::try_from(to - from).expect("units are 32 bits");
            let id = self.new_node(first, count, Kind::Parked);
            self.stamp(id, first, count);
            pieces.push((id, closing));
            from = to;
        }
        // Joined only when all are named: the map must not show a neighbour what was there before.
        for (id, closing) in pieces {
            let count = u64::from(self.node(id).units);
            if closing {
                self.parked_units += count;
                self.join_parked(id);
            } else {
                self.free_units += count;
                self.join_neighbours(id);
            }
        }
    }

    fn is_closing_at(&self, unit: u64) -> bool {
        let index = u32::try_from(unit / u64::from(UNITS_PER_GRANULE)).expect("few granules");
        self.granule(index).is_some_and(|granule| granule.closing)
    }

    fn before(&self, start: u32) -> u32 {
        start.checked_sub(1).map_or(NIL, |unit| self.named_at(unit))
    }

    fn after(&self, id: u32) -> u32 {
        let Node { start, units, .. } = *self.node(id);
        start
            .checked_add(units)
            .map_or(NIL, |unit| self.named_at(unit))
    }

    /// Merges a block that is in no bin with free neighbours and bins the result.
    fn join_neighbours(&mut self, mut id: u32) {
        self.node_mut(id).kind = Kind::Free;
        let before = self.before(self.node(id).start);
        if before != NIL && self.node(before).kind == Kind::Free {
            self.bins.remove(&mut self.nodes, before);
            id = self.merge(before, id);
        }
        let after = self.after(id);
        if after != NIL && self.node(after).kind == Kind::Free {
            self.bins.remove(&mut self.nodes, after);
            id = self.merge(id, after);
        }
        self.bins.insert(&mut self.nodes, id);
    }

    /// Merges a parked block with parked neighbours of its own granule.
    fn join_parked(&mut self, mut id: u32) {
        let home = self.node(id).start / UNITS_PER_GRANULE;
        let joins = |space: &Self, other: u32| {
            other != NIL
                && space.node(other).kind == Kind::Parked
                && space.node(other).start / UNITS_PER_GRANULE == home
        };
        let before = self.before(self.node(id).start);
        if joins(self, before) {
            id = self.merge(before, id);
        }
        let after = self.after(id);
        if joins(self, after) {
            self.merge(id, after);
        }
    }

    /// Joins two adjacent blocks that are in no bin; the longer one's node lives on.
    fn merge(&mut self, low: u32, high: u32) -> u32 {
        let (a, b) = (*self.node(low), *self.node(high));
        assert!(a.start + a.units == b.start);
        let (kept, lost, gone) = if a.units >= b.units {
            (low, b, high)
        } else {
            (high, a, low)
        };
        self.drop_node(gone);
        let node = self.node_mut(kept);
        (node.start, node.units) = (a.start, a.units + b.units);
        self.stamp(kept, lost.start, lost.units);
        kept
    }

    /// Takes a new, empty granule in.
    pub(super) fn add_granule(&mut self, index: u32) {
        let slot = index as usize;
        if self.granules.len() <= slot {
            self.granules.resize_with(slot + 1, || None);
        }
        assert!(
            self.granules[slot].is_none(),
            "granule {index} is held already"
        );
        let map = vec![NIL; UNITS_PER_GRANULE as usize].into_boxed_slice();
        self.granules[slot] = Some(Granule {
            map,
            live_units: 0,
            closing: false,
        });
        let place = self.held.partition_point(|&held| held < index);
        self.held.insert(place, index);
        self.insert_pieces(index * UNITS_PER_GRANULE, UNITS_PER_GRANULE);
    }

    /// Stops handing out a granule's units: its free blocks leave the bins.
    pub(super) fn close_granule(&mut self, index: u32) {
        assert!(
            !self.granule_mut(index).closing,
            "granule {index} is closing already"
        );
        let free = self.free_blocks_in(index, Kind::Free);
        for &id in &free {
            self.bins.remove(&mut self.nodes, id);
        }
        self.granule_mut(index).closing = true;
        self.closing += 1;
        for id in free {
            let Node { start, units, .. } = *self.node(id);
            self.drop_node(id);
            self.free_units -= u64::from(units);
            self.insert_pieces(start, units);
        }
    }

    /// Takes a closing granule back into use.
    pub(super) fn reopen_granule(&mut self, index: u32) {
        assert!(self.granule_mut(index).closing, "granule {index} is open");
        let parked = self.free_blocks_in(index, Kind::Parked);
        self.granule_mut(index).closing = false;
        self.closing -= 1;
        for id in parked {
            let units = u64::from(self.node(id).units);
            self.parked_units -= units;
            self.free_units += units;
            self.join_neighbours(id);
        }
    }

    /// Gives up a granule without live units.
    pub(super) fn remove_granule(&mut self, index: u32) {
        if !self.granule_mut(index).closing {
            self.close_granule(index);
        }
        assert!(
            self.granule_mut(index).live_units == 0,
            "granule {index} holds live extents"
        );
        let id = self
            .covering(index * UNITS_PER_GRANULE)
            .expect("an empty granule is one block");
        let Node {
            start, units, kind, ..
        } = *self.node(id);
        assert!(kind == Kind::Parked);
        assert!(start == index * UNITS_PER_GRANULE);
        assert!(units == UNITS_PER_GRANULE);
        self.drop_node(id);
        self.parked_units -= u64::from(units);
        self.closing -= 1;
        self.granules[index as usize] = None;
        let place = self.held.binary_search(&index).expect("held until now");
        self.held.remove(place);
    }

    fn free_blocks_in(&self, index: u32, kind: Kind) -> Vec<u32> {
        self.blocks_in(index)
            .filter(|&id| self.node(id).kind == kind)
            .collect()
    }

    /// Walks the blocks that overlap a held granule, in address order.
    pub(super) fn blocks_in(&self, index: u32) -> impl Iterator<Item = u32> + '_ {
        let end = (u64::from(index) + 1) * u64::from(UNITS_PER_GRANULE);
        let first = self.covering(index * UNITS_PER_GRANULE);
        std::iter::successors(first, move |&id| {
            let node = self.node(id);
            let next = u64::from(node.start) + u64::from(node.units);
            (next < end).then(|| self.named_at(u32::try_from(next).expect("inside the granule")))
        })
    }

    /// Returns the block behind this one when it is adjacent and held.
    pub(super) fn next_block(&self, id: u32) -> Option<u32> {
        let after = self.after(id);
        (after != NIL).then_some(after)
    }

    /// Tells whether any unit of the block lies in a closing granule.
    pub(super) fn touches_closing(&self, id: u32) -> bool {
        if self.closing == 0 {
            return false;
        }
        let Node { start, units, .. } = *self.node(id);
        let last = start + (units - 1);
        (start / UNITS_PER_GRANULE..=last / UNITS_PER_GRANULE)
            .any(|index| self.granule(index).is_some_and(|granule| granule.closing))
    }

    /// Returns the first block start at or after a granule's start, for walks.
    pub(super) fn first_block_of(&self, granule: GranuleIndex) -> Option<u32> {
        self.covering(granule.0 * UNITS_PER_GRANULE)
    }

    /// Counts bytes of private memory that nodes, bins and maps take now.
    pub(super) fn metadata_bytes(&self) -> u64 {
        let nodes = self.nodes.capacity() * size_of::<Node>();
        let maps = self.held.len() * UNITS_PER_GRANULE as usize * size_of::<u32>();
        let tables = self.granules.capacity() * size_of::<Option<Granule>>();
        (nodes + maps + tables + size_of::<Self>()) as u64
    }

    /// Checks the invariants of the module's head; O(blocks).
    pub(super) fn check_invariants(&self) {
        let mut free = 0_u64;
        let mut parked = 0_u64;
        let mut free_blocks = 0;
        let mut seen = 0;
        for &index in &self.held {
            let granule = self.granule(index).expect("held granules have a map");
            let first = index * UNITS_PER_GRANULE;
            let mut covered = 0;
            let mut live = 0;
            for id in self.blocks_in(index) {
                let node = self.node(id);
                let from = node.start.max(first);
                let here = (node.start + node.units).min(first + UNITS_PER_GRANULE) - from;
                assert_eq!(from, first + covered, "blocks tile the granule");
                covered += here;
                match node.kind {
                    Kind::Free | Kind::Parked => {
                        assert_eq!(granule.closing, node.kind == Kind::Parked);
                    },
                    Kind::Direct | Kind::Chunk => live += here,
                    Kind::Unused => panic!("an unused node is named in the map"),
                }
                if node.start < first {
                    continue;
                }
                seen += 1;
                self.check_block(id);
                if node.kind == Kind::Free {
                    free += u64::from(node.units);
                    free_blocks += 1;
                } else if node.kind == Kind::Parked {
                    parked += u64::from(node.units);
                }
            }
            assert_eq!(covered, UNITS_PER_GRANULE, "blocks tile the granule");
            assert_eq!(live, granule.live_units);
        }
        assert_eq!(free, self.free_units);
        assert_eq!(parked, self.parked_units);
        assert_eq!(free_blocks, self.bins.check_count(&self.nodes));
        let used = self
            .nodes
            .iter()
            .filter(|node| node.kind != Kind::Unused)
            .count();
        assert_eq!(seen, used, "no node leaks");
    }

    fn check_block(&self, id: u32) {
        let node = self.node(id);
        assert_eq!(self.named_at(node.start), id);
        assert_eq!(self.named_at(node.start + (node.units - 1)), id);
        if node.kind == Kind::Free {
            let after = self.after(id);
            assert!(
                after == NIL || self.node(after).kind != Kind::Free,
                "coalescing is complete"
            );
        }
        if node.kind == Kind::Chunk {
            assert!((node.start..node.start + node.units).all(|unit| self.named_at(unit) == id));
        }
    }
}
