//! The churn that the allocator is judged by: a small cache of lengths without bytes.

use std::collections::VecDeque;

use chariot_base::limits::GRANULE_BYTES;
use chariot_base::{Extent, GranuleIndex, Random, RecordId, SplitMix64};
use chariot_memory::{ExtentAllocator, eviction_price};

/// Who leaves when an object does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// The cheapest neighbours, by bytes and age.
    Neighbours,
    /// The oldest, one after the other, until it fits.
    Fifo,
}

/// What a run measured, over its steady state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChurnReport {
    pub(crate) useful_mean: f64,
    pub(crate) useful_min: f64,
    pub(crate) evicted_per_allocated: f64,
    pub(crate) young_share: f64,
    pub(crate) metadata: f64,
}

struct Object {
    extent: Extent,
    born: u64,
}

struct Shard {
    allocator: ExtentAllocator,
    objects: Vec<Option<Object>>,
    spare: Vec<u32>,
    order: VecDeque<(u32, u64)>,
    live: u64,
    payload: u64,
    births: u64,
}

/// Several shards, each with granules of its own.
pub(crate) struct Churn {
    shards: Vec<Shard>,
    eviction: Eviction,
    random: SplitMix64,
    capacity: u64,
    evicted: u64,
    young: u64,
}

impl Shard {
    fn new(first: u32, granules: u32) -> Self {
        let mut allocator = ExtentAllocator::new();
        allocator.add_granules(GranuleIndex(first), granules);
        Self {
            allocator,
            objects: vec![None::<Object>],
            spare: Vec::new(),
            order: VecDeque::new(),
            live: 0,
            payload: 0,
            births: 0,
        }
    }

    fn insert(&mut self, extent: Extent) {
        let id = self.spare.pop().unwrap_or_else(|| {
            self.objects.push(None);
            u32::try_from(self.objects.len() - 1).expect("few objects")
        });
        self.allocator.set_tag(extent.offset, RecordId::new(id));
        self.objects[id as usize] = Some(Object {
            extent,
            born: self.births,
        });
        self.order.push_back((id, self.births));
        self.births += 1;
        self.live += 1;
        self.payload += extent.len;
    }

    /// Evicts one object; returns its bytes and its age in population lengths.
    fn evict(&mut self, id: u32) -> (u64, f64) {
        let object = self.objects[id as usize]
            .take()
            .expect("a live record is named");
        let age = (self.births - object.born) as f64 / self.live as f64;
        self.allocator.free(object.extent.offset);
        self.spare.push(id);
        self.live -= 1;
        self.payload -= object.extent.len;
        (object.extent.len, age)
    }

    fn evict_oldest(&mut self) -> (u64, f64) {
        loop {
            let (id, born) = self.order.pop_front().expect("something is live");
            if self.objects[id as usize]
                .as_ref()
                .is_some_and(|object| object.born == born)
            {
                return self.evict(id);
            }
        }
    }

    fn evict_neighbours(&mut self, len: u64) -> Vec<(u64, f64)> {
        let (objects, births, live) = (&self.objects, self.births, self.live.max(1));
        let victims = self.allocator.victims_for(len, |record, bytes| {
            let object = objects[record.get() as usize]
                .as_ref()
                .expect("tags name live records");
            let age = (births - object.born) * 8 / live;
            Some(eviction_price(bytes, age))
        });
        let victims = victims.expect("everything here can be evicted");
        victims
            .tags
            .iter()
            .map(|record| self.evict(record.get()))
            .collect()
    }
}

impl Churn {
    pub(crate) fn new(shards: u32, granules: u32, eviction: Eviction, seed: u64) -> Self {
        let shards: Vec<Shard> = (0..shards)
            .map(|shard| Shard::new(shard * granules * 2, granules))
            .collect();
        let capacity = shards.len() as u64 * u64::from(granules) * GRANULE_BYTES;
        Self {
            shards,
            eviction,
            random: SplitMix64::new(seed),
            capacity,
            evicted: 0,
            young: 0,
        }
    }

    fn draw_len(&mut self) -> u64 {
        let (low, high) = (4096_f64.ln(), f64::from(28 << 20).ln());
        let share = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "4 KiB to 28 MiB")]
        #[expect(clippy::cast_sign_loss, reason = "an exponential is positive")]
        let len = (low + share * (high - low)).exp() as u64;
        len.clamp(4096, 28 << 20)
    }

    /// Writes one object; returns its length.
    pub(crate) fn step(&mut self) -> u64 {
        let len = self.draw_len();
        let index = self.random.below(self.shards.len() as u64);
        let shard = &mut self.shards[usize::try_from(index).expect("few shards")];
        loop {
            if let Some(extent) = shard.allocator.allocate(len) {
                shard.insert(extent);
                return len;
            }
            let gone = match self.eviction {
                Eviction::Neighbours => shard.evict_neighbours(len),
                Eviction::Fifo => vec![shard.evict_oldest()],
            };
            for (bytes, age) in gone {
                self.evicted += bytes;
                self.young += if age < 0.5 { bytes } else { 0 };
            }
        }
    }

    pub(crate) fn useful(&self) -> f64 {
        self.shards.iter().map(|shard| shard.payload).sum::<u64>() as f64 / self.capacity as f64
    }

    pub(crate) fn run(&mut self, warm_up: u64, steps: u64) -> ChurnReport {
        for _ in 0..warm_up {
            self.step();
        }
        self.shards
            .iter()
            .for_each(|shard| shard.allocator.check_invariants());
        (self.evicted, self.young) = (0, 0);
        let (mut sum, mut least, mut allocated) = (0.0, 1.0_f64, 0);
        for _ in 0..steps {
            allocated += self.step();
            let useful = self.useful();
            sum += useful;
            least = least.min(useful);
        }
        let metadata: u64 = self
            .shards
            .iter()
            .map(|s| s.allocator.metadata_bytes())
            .sum();
        ChurnReport {
            useful_mean: sum / steps as f64,
            useful_min: least,
            evicted_per_allocated: self.evicted as f64 / allocated as f64,
            young_share: self.young as f64 / self.evicted as f64,
            metadata: metadata as f64 / self.capacity as f64,
        }
    }
}
