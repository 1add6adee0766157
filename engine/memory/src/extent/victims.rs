//! Whom to evict so that a length fits: the cheapest run of neighbours, in a bounded scan.
//!
//! Evicting by policy alone frees bytes in many places, none of them long enough; on small arenas
//! that would empty half the memory for one long object. Here a window slides over the blocks in
//! address order, always just long enough, and the cheapest window wins. Free blocks cost nothing,
//! so the window prefers to grow existing holes.

use std::collections::VecDeque;

use chariot_base::limits::{SLAB_LEN_MAX, UNITS_PER_GRANULE};
use chariot_base::{GranuleIndex, RecordId};

use super::class::{class_of, slot_len};
use super::space::Kind;
use super::{ExtentAllocator, bytes_of, units_of};

/// Blocks and slots priced in one search that has found something; the next goes on from there.
const SCAN_MAX: usize = 8192;

/// Smallest slots in a unit: a search for many units may have to price so many objects.
const SLOTS_PER_UNIT: usize = 64;

/// Names the records whose eviction makes room, and what they cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victims {
    /// Records to evict, in address order; all of them must go.
    pub tags: Vec<RecordId>,
    /// Sum of the caller's prices.
    pub cost: u64,
}

/// Returns the price of evicting an object: its bytes, weighted by how recently it was used.
///
/// `age_eighths` is the time since its last use in eighths of the time that the population takes
/// to turn over (8: as old as the coldest); from 9 on nothing gets cheaper. Chosen by measurement
/// over flatter and steeper weights: with this one, 16 shards of two granules keep 95 % of their
/// memory useful and evict 12 % of the bytes before half a turnover; with plain bytes, 98 % and
/// 62 %; with eight doublings, 95 % and 18 %.
pub const fn eviction_price(bytes: u64, age_eighths: u64) -> u64 {
    let weight = 10 - if age_eighths < 9 { age_eighths } else { 9 };
    bytes.saturating_mul(weight * weight)
}

struct Priced {
    id: u32,
    units: u32,
    cost: u64,
}

/// Adjacent blocks, no more of them than suffice.
#[derive(Default)]
struct Window {
    blocks: VecDeque<Priced>,
    units: u64,
    cost: u64,
}

impl Window {
    fn push(&mut self, block: Priced, need: u32) {
        self.units += u64::from(block.units);
        self.cost += block.cost;
        self.blocks.push_back(block);
        while let Some(first) = self.blocks.front()
            && self.units - u64::from(first.units) >= u64::from(need)
        {
            self.units -= u64::from(first.units);
            self.cost -= first.cost;
            self.blocks.pop_front();
        }
    }
}

/// A window worth remembering.
struct Best {
    first: u32,
    count: usize,
    cost: u64,
}

impl ExtentAllocator {
    /// Names the cheapest neighbours to evict so that `len` bytes fit, within a bounded scan.
    ///
    /// `cost(record, bytes)` prices one eviction (for example bytes weighted by recency); `None`
    /// keeps the record (pinned, or written to stay). Untagged extents always stay. Prices about
    /// 8,192 blocks and slots, from where the last call ended, and goes on only while it has found
    /// nothing. `None` when no run that long can be freed: the caller asks for granules, or waits.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn victims_for(
        &mut self,
        len: u64,
        mut cost: impl FnMut(RecordId, u64) -> Option<u64>,
    ) -> Option<Victims> {
        assert!(len > 0);
        let run = self.cheapest_run(units_of(len)?, &mut cost);
        let slot = if len < SLAB_LEN_MAX {
            self.cheapest_slot(class_of(len), &mut cost)
        } else {
            None
        };
        match (run, slot) {
            (Some(run), Some(slot)) if run.cost < slot.cost => Some(self.name_victims(&run)),
            (_, Some(slot)) => Some(slot),
            (Some(run), None) => Some(self.name_victims(&run)),
            (None, None) => None,
        }
    }

    /// Prices the slots of one full chunk of the class: its room is exactly what is asked for.
    fn cheapest_slot(
        &mut self,
        class: u8,
        cost: &mut impl FnMut(RecordId, u64) -> Option<u64>,
    ) -> Option<Victims> {
        let index = self.slabs.next_full(class)?;
        let chunk = self.slabs.chunk(index);
        let priced = chunk.live_slots().filter_map(|slot| {
            let tag = chunk.tag(slot)?;
            Some((cost(tag, slot_len(class))?, tag))
        });
        let (cost, tag) = priced.min_by_key(|&(cost, _)| cost)?;
        Some(Victims {
            tags: vec![tag],
            cost,
        })
    }

    /// Slides a window over the blocks from the cursor on, around the end and back to it.
    fn cheapest_run(
        &mut self,
        need: u32,
        cost: &mut impl FnMut(RecordId, u64) -> Option<u64>,
    ) -> Option<Best> {
        let mut best: Option<Best> = None;
        let mut window = Window::default();
        // Past the starting point the walk goes on for one window, so that none is missed.
        let end = self.space.capacity_units() + u64::from(need);
        let patience = SCAN_MAX + SLOTS_PER_UNIT * need as usize;
        let (mut seen, mut priced) = (0_u64, 0_usize);
        let mut place = self.first_of_walk();
        while let Some((id, adjacent)) = place {
            if seen >= end || priced >= patience || (priced >= SCAN_MAX && best.is_some()) {
                self.victim_unit = self.space.node(id).start;
                break;
            }
            seen += u64::from(self.space.node(id).units);
            if !adjacent {
                window = Window::default();
            }
            match self.price(id, &mut priced, cost) {
                Some(block) => window.push(block, need),
                None => window = Window::default(),
            }
            if window.units >= u64::from(need)
                && best.as_ref().is_none_or(|best| window.cost < best.cost)
            {
                let first = window
                    .blocks
                    .front()
                    .expect("a window that suffices has blocks")
                    .id;
                best = Some(Best {
                    first,
                    count: window.blocks.len(),
                    cost: window.cost,
                });
            }
            place = self.next_of_walk(id);
        }
        best
    }

    fn first_of_walk(&self) -> Option<(u32, bool)> {
        let index = self.victim_unit / UNITS_PER_GRANULE;
        if let Some(id) = self.space.covering(self.victim_unit) {
            return Some((id, false));
        }
        self.granule_of_walk(index)
    }

    /// Returns the first block of the first held granule from `index` on, around the end.
    fn granule_of_walk(&self, index: u32) -> Option<(u32, bool)> {
        let place = self.space.held.partition_point(|&held| held < index);
        let held = self
            .space
            .held
            .get(place)
            .or_else(|| self.space.held.first())?;
        Some((self.space.first_block_of(GranuleIndex(*held))?, false))
    }

    /// Returns the block behind one, and whether the two are adjacent.
    fn next_of_walk(&self, id: u32) -> Option<(u32, bool)> {
        if let Some(next) = self.space.next_block(id) {
            return Some((next, true));
        }
        let node = self.space.node(id);
        self.granule_of_walk((node.start + node.units).div_ceil(UNITS_PER_GRANULE))
    }

    /// Prices a block; `None` when something in it must stay.
    fn price(
        &self,
        id: u32,
        priced: &mut usize,
        cost: &mut impl FnMut(RecordId, u64) -> Option<u64>,
    ) -> Option<Priced> {
        let node = self.space.node(id);
        *priced += 1;
        if self.space.touches_closing(id) {
            return None;
        }
        let total = match node.kind {
            Kind::Free => 0,
            Kind::Direct => cost(RecordId::new(node.a)?, bytes_of(node.units))?,
            Kind::Chunk => {
                let chunk = self.slabs.chunk(node.a);
                *priced += usize::from(chunk.live);
                let mut total = 0_u64;
                for slot in chunk.live_slots() {
                    total += cost(chunk.tag(slot)?, slot_len(chunk.class))?;
                }
                total
            },
            Kind::Unused | Kind::Parked => return None,
        };
        Some(Priced {
            id,
            units: node.units,
            cost: total,
        })
    }

    fn name_victims(&self, best: &Best) -> Victims {
        let mut tags = Vec::new();
        let blocks = std::iter::successors(Some(best.first), |&id| self.space.next_block(id));
        for id in blocks.take(best.count) {
            let node = self.space.node(id);
            match node.kind {
                Kind::Direct => tags.extend(RecordId::new(node.a)),
                Kind::Chunk => {
                    let chunk = self.slabs.chunk(node.a);
                    tags.extend(chunk.live_slots().filter_map(|slot| chunk.tag(slot)));
                },
                Kind::Unused | Kind::Free | Kind::Parked => {},
            }
        }
        Victims {
            tags,
            cost: best.cost,
        }
    }
}
