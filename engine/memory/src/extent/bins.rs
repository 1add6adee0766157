//! Two-level segregated bins of free blocks: good fit in constant time.
//!
//! The first level is the power of two of a block's length in allocation units, the second cuts it
//! into 32 equal parts; one bit per bin tells which hold anything (Masmano, Ripoll, Crespo, Real:
//! TLSF, ECRTS 2004). Lists are linked through the nodes themselves, outside the arena.

use super::space::{NIL, Node};

const SUB_BITS: u32 = 5;
const SUB_COUNT: usize = 1 << SUB_BITS;
/// Lengths below 2^32 units: 32 - 5 powers above the exact bins, and those.
const LEVEL_COUNT: usize = 28;
/// Blocks looked at in the bin of the length itself, where not every block is long enough.
const PEEK_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Bins {
    levels: u32,
    subs: [u32; LEVEL_COUNT],
    heads: Box<[[u32; SUB_COUNT]; LEVEL_COUNT]>,
}

fn bin_of(units: u32) -> (usize, usize) {
    debug_assert!(units > 0);
    if units < 1 << SUB_BITS {
        return (0, units as usize);
    }
    let log = units.ilog2();
    let sub = (units >> (log - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    ((log - SUB_BITS + 1) as usize, sub as usize)
}

impl Bins {
    pub(super) fn new() -> Self {
        Self {
            levels: 0,
            subs: [0; LEVEL_COUNT],
            heads: Box::new([[NIL; SUB_COUNT]; LEVEL_COUNT]),
        }
    }

    pub(super) fn insert(&mut self, nodes: &mut [Node], id: u32) {
        let (level, sub) = bin_of(nodes[id as usize].units);
        let head = self.heads[level][sub];
        nodes[id as usize].a = head;
        nodes[id as usize].b = NIL;
        if head != NIL {
            nodes[head as usize].b = id;
        }
        self.heads[level][sub] = id;
        self.subs[level] |= 1 << sub;
        self.levels |= 1 << level;
    }

    pub(super) fn remove(&mut self, nodes: &mut [Node], id: u32) {
        let Node {
            units,
            a: next,
            b: previous,
            ..
        } = nodes[id as usize];
        let (level, sub) = bin_of(units);
        if previous == NIL {
            assert!(
                self.heads[level][sub] == id,
                "a block without a predecessor heads its bin"
            );
            self.heads[level][sub] = next;
        } else {
            nodes[previous as usize].a = next;
        }
        if next != NIL {
            nodes[next as usize].b = previous;
        }
        if self.heads[level][sub] == NIL {
            self.subs[level] &= !(1 << sub);
            if self.subs[level] == 0 {
                self.levels &= !(1 << level);
            }
        }
    }

    /// Finds a block of at least `units`, nearly the smallest; it stays in its bin.
    pub(super) fn find(&self, nodes: &[Node], units: u32) -> Option<u32> {
        let (level, sub) = bin_of(units);
        self.peek(nodes, level, sub, units)
            .or_else(|| self.first_above(level, sub))
    }

    fn peek(&self, nodes: &[Node], level: usize, sub: usize, units: u32) -> Option<u32> {
        let mut best = None;
        let mut best_units = u32::MAX;
        let mut id = self.heads[level][sub];
        for _ in 0..PEEK_MAX {
            if id == NIL {
                break;
            }
            let node = &nodes[id as usize];
            if node.units >= units && node.units < best_units {
                best = Some(id);
                best_units = node.units;
            }
            id = node.a;
        }
        best
    }

    fn first_above(&self, level: usize, sub: usize) -> Option<u32> {
        let above = self.subs[level] & (u32::MAX << sub << 1);
        if above != 0 {
            return Some(self.heads[level][above.trailing_zeros() as usize]);
        }
        let levels = self.levels & (u32::MAX << level << 1);
        if levels == 0 {
            return None;
        }
        let level = levels.trailing_zeros() as usize;
        Some(self.heads[level][self.subs[level].trailing_zeros() as usize])
    }

    /// Returns the length of a block that is the largest within one part in 32, 0 when none is
    /// free.
    pub(super) fn largest(&self, nodes: &[Node]) -> u32 {
        if self.levels == 0 {
            return 0;
        }
        let level = self.levels.ilog2() as usize;
        let sub = self.subs[level].ilog2() as usize;
        let mut largest = 0;
        let mut id = self.heads[level][sub];
        for _ in 0..PEEK_MAX {
            if id == NIL {
                break;
            }
            largest = largest.max(nodes[id as usize].units);
            id = nodes[id as usize].a;
        }
        largest
    }

    /// Counts the blocks in all bins, checking that each lies in the bin of its length.
    pub(super) fn check_count(&self, nodes: &[Node]) -> usize {
        let mut count = 0;
        for (level, subs) in self.heads.iter().enumerate() {
            for (sub, &head) in subs.iter().enumerate() {
                assert_eq!(head != NIL, self.subs[level] & (1 << sub) != 0);
                let mut id = head;
                while id != NIL {
                    assert_eq!(bin_of(nodes[id as usize].units), (level, sub));
                    count += 1;
                    id = nodes[id as usize].a;
                }
            }
            assert_eq!(self.subs[level] != 0, self.levels & (1 << level) != 0);
        }
        count
    }
}
