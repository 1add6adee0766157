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

/// Blocks and slots priced in one search; the next search goes on where this one ended.
const SCAN_MAX: usize = 8192;

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

struct Best {
    blocks: Vec<u32>,
    cost: u64,
}

impl ExtentAllocator {
    /// Names the cheapest neighbours to evict so that `len` bytes fit, within a bounded scan.
    ///
    /// `cost(record, bytes)` prices one eviction (for example bytes weighted by recency); `None`
    /// keeps the record (pinned, or written to stay). Untagged extents always stay. Scans at most
    /// 8,192 blocks and slots, from where the last call ended. `None` when no run that long can be
    /// freed there: the caller asks for granules, or waits.
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

    fn cheapest_run(
        &mut self,
        need: u32,
        cost: &mut impl FnMut(RecordId, u64) -> Option<u64>,
    ) -> Option<Best> {
        let count = self.space.held.len();
        let start = self
            .space
            .held
            .partition_point(|&index| index < self.victim_granule);
        let mut best: Option<Best> = None;
        let mut window = VecDeque::new();
        let (mut sum, mut total) = (0_u64, 0_u64);
        let mut budget = SCAN_MAX;
        for turn in 0..count {
            let index = self.space.held[(start + turn) % count];
            let previous = window.back().map(|block: &Priced| block.id);
            let mut block = self.space.first_block_of(GranuleIndex(index));
            if block != previous || block.is_none() {
                // A gap, or the wrap to the lowest granule: the window cannot go on.
                if previous.and_then(|id| self.space.next_block(id)) != block {
                    (sum, total) = (0, 0);
                    window.clear();
                }
            } else {
                block = block.and_then(|id| self.space.next_block(id));
            }
            let end = (u64::from(index) + 1) * u64::from(UNITS_PER_GRANULE);
            while let Some(id) = block.filter(|&id| u64::from(self.space.node(id).start) < end) {
                block = self.space.next_block(id);
                let Some(priced) = self.price(id, &mut budget, cost) else {
                    (sum, total) = (0, 0);
                    window.clear();
                    continue;
                };
                sum += u64::from(priced.units);
                total += priced.cost;
                window.push_back(priced);
                while window
                    .front()
                    .is_some_and(|first| sum - u64::from(first.units) >= u64::from(need))
                {
                    let first = window.pop_front().expect("just seen");
                    sum -= u64::from(first.units);
                    total -= first.cost;
                }
                if sum >= u64::from(need) && best.as_ref().is_none_or(|best| total < best.cost) {
                    best = Some(Best {
                        blocks: window.iter().map(|b| b.id).collect(),
                        cost: total,
                    });
                }
            }
            if budget == 0 {
                self.victim_granule = index + 1;
                break;
            }
        }
        best
    }

    /// Prices a block; `None` when something in it must stay.
    fn price(
        &self,
        id: u32,
        budget: &mut usize,
        cost: &mut impl FnMut(RecordId, u64) -> Option<u64>,
    ) -> Option<Priced> {
        let node = self.space.node(id);
        *budget = budget.saturating_sub(1);
        if self.space.touches_closing(id) {
            return None;
        }
        let total = match node.kind {
            Kind::Free => 0,
            Kind::Direct => cost(RecordId::new(node.a)?, bytes_of(node.units))?,
            Kind::Chunk => {
                let chunk = self.slabs.chunk(node.a);
                *budget = budget.saturating_sub(usize::from(chunk.live));
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
        for &id in &best.blocks {
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
