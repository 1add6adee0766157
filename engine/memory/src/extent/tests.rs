use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn allocator(granules: u32) -> ExtentAllocator {
    let mut allocator = ExtentAllocator::new();
    allocator.add_granules(GranuleIndex(4), granules);
    allocator
}

fn record(raw: u32) -> RecordId {
    RecordId::new(raw).expect("records start at 1")
}

/// What is live, as intervals: the truth that the allocator is compared with.
#[derive(Default)]
struct Model {
    live: BTreeMap<u64, (u64, Option<RecordId>)>,
}

impl Model {
    fn insert(&mut self, offset: u64, len: u64) {
        let before = self.live.range(..offset).next_back();
        assert!(
            before.is_none_or(|(&at, &(len, _))| at + len <= offset),
            "overlap below"
        );
        let after = self.live.range(offset..).next();
        assert!(
            after.is_none_or(|(&at, _)| offset + len <= at),
            "overlap above"
        );
        self.live.insert(offset, (len, None));
    }

    fn nth(&self, choice: u16) -> Option<u64> {
        let index = usize::from(choice) % self.live.len().max(1);
        self.live.keys().nth(index).copied()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Allocate(u64),
    Run(u64, u32),
    Free(u16),
    FreeMany(u16),
    Tag(u16, u32),
    Add(u32),
    Vacate(u16),
    Cancel,
    Remove,
    Victims(u64),
}

fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 1..4096_u64,
        4 => 4096..300_000_u64,
        3 => (1..2000_u64).prop_map(|units| units * 4096),
        2 => (20..40_u64).prop_map(|mebibytes| mebibytes << 20),
        1 => (60..140_u64).prop_map(|mebibytes| mebibytes << 20),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => lengths().prop_map(Op::Allocate),
        3 => (1..300_000_u64, 1..80_u32).prop_map(|(len, count)| Op::Run(len, count)),
        8 => any::<u16>().prop_map(Op::Free),
        1 => any::<u16>().prop_map(Op::FreeMany),
        6 => (any::<u16>(), 1..u32::MAX).prop_map(|(choice, tag)| Op::Tag(choice, tag)),
        1 => (0..8_u32).prop_map(Op::Add),
        1 => any::<u16>().prop_map(Op::Vacate),
        1 => Just(Op::Cancel),
        1 => Just(Op::Remove),
        2 => lengths().prop_map(Op::Victims),
    ]
}

struct Run {
    allocator: ExtentAllocator,
    model: Model,
    closing: Vec<GranuleIndex>,
}

impl Run {
    fn check_room(&self, offset: u64, len: u64) {
        let granule = |at: u64| GranuleIndex::of_offset(at);
        for index in granule(offset).0..=granule(offset + len - 1).0 {
            let index = GranuleIndex(index);
            assert!(
                self.allocator.granules().any(|(held, _)| held == index),
                "held memory only"
            );
            assert!(
                !self.closing.contains(&index),
                "nothing is born where it must leave"
            );
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Allocate(len) => {
                if let Some(extent) = self.allocator.allocate(len) {
                    assert_eq!(extent.len, len);
                    let occupied = self.allocator.block_len(extent.offset).expect("live");
                    assert!(occupied >= len);
                    self.check_room(extent.offset, occupied);
                    self.model.insert(extent.offset, occupied);
                }
            },
            Op::Run(len, count) => {
                if let Some(set) = self.allocator.allocate_set(len, count) {
                    assert!(set.count() >= 1 && set.count() <= count.min(RUN_SLOTS_MAX));
                    assert_eq!(set.slots & 1, 1, "the first slot is one of them");
                    assert!(set.slot_len >= len);
                    for offset in set.offsets() {
                        assert_eq!(self.allocator.block_len(offset), Some(set.slot_len));
                        self.check_room(offset, set.slot_len);
                        self.model.insert(offset, set.slot_len);
                    }
                }
            },
            Op::Free(choice) => self.free(choice),
            Op::FreeMany(choice) => {
                for step in 0..40 {
                    self.free(choice.wrapping_add(step * 7));
                }
            },
            Op::Tag(choice, tag) => {
                if let Some(offset) = self.model.nth(choice) {
                    self.allocator.set_tag(offset, RecordId::new(tag));
                    self.model.live.get_mut(&offset).expect("live").1 = RecordId::new(tag);
                }
            },
            Op::Add(index) => {
                if !self.allocator.granules().any(|(held, _)| held.0 == index) {
                    self.allocator.add_granules(GranuleIndex(index), 1);
                }
            },
            Op::Vacate(choice) => self.vacate(choice),
            Op::Cancel => {
                if let Some(granule) = self.closing.pop() {
                    self.allocator.cancel_vacate(granule);
                }
            },
            Op::Remove => {
                let empty = self.allocator.empty_granules().next();
                if let Some(granule) = empty {
                    self.allocator.remove_granule(granule);
                    self.closing.retain(|&closing| closing != granule);
                }
            },
            Op::Victims(len) => self.evict(len),
        }
    }

    fn free(&mut self, choice: u16) {
        if let Some(offset) = self.model.nth(choice) {
            let (len, tag) = self
                .model
                .live
                .remove(&offset)
                .expect("chosen among the live");
            assert_eq!(self.allocator.tag(offset), tag);
            assert_eq!(self.allocator.free(offset), len);
            assert_eq!(self.allocator.block_len(offset), None, "freed once");
        }
    }

    fn vacate(&mut self, choice: u16) {
        let held: Vec<GranuleIndex> = self.allocator.granules().map(|(held, _)| held).collect();
        if held.is_empty() {
            return;
        }
        let granule = held[usize::from(choice) % held.len()];
        if !self.closing.contains(&granule) {
            self.allocator.begin_vacate(granule);
            self.closing.push(granule);
            let mut tags = Vec::new();
            let untagged = self.allocator.tags_in(granule, &mut tags);
            let whole = granule.offset()..granule.offset() + GRANULE_BYTES;
            let inside = self
                .model
                .live
                .iter()
                .filter(|&(&at, &(len, _))| at < whole.end && at + len > whole.start);
            assert!(tags.len() as u64 + untagged >= inside.count() as u64);
        }
    }

    /// What is named must be live and tagged, and its eviction must make the room promised.
    fn evict(&mut self, len: u64) {
        let mut by_tag = BTreeMap::new();
        for (&offset, &(_, tag)) in &self.model.live {
            let unique = tag.map(|tag| by_tag.insert(tag, offset).is_none());
            if unique == Some(false) {
                return;
            }
        }
        let victims = self.allocator.victims_for(len, |tag, bytes| {
            assert!(by_tag.contains_key(&tag));
            (!tag.get().is_multiple_of(5)).then_some(bytes)
        });
        if let Some(victims) = victims {
            for tag in victims.tags {
                assert!(!tag.get().is_multiple_of(5), "what must stay is not named");
                let offset = by_tag[&tag];
                self.model.live.remove(&offset);
                self.allocator.free(offset);
            }
            let extent = self.allocator.allocate(len).expect("the victims made room");
            self.model.insert(
                extent.offset,
                self.allocator.block_len(extent.offset).expect("live"),
            );
        }
    }

    fn check(&self) {
        self.allocator.check_invariants();
        let stats = self.allocator.stats();
        assert_eq!(
            stats.used,
            self.model.live.values().map(|&(len, _)| len).sum::<u64>()
        );
        assert_eq!(stats.live_count, self.model.live.len() as u64);
        for (&offset, &(len, tag)) in &self.model.live {
            assert_eq!(self.allocator.block_len(offset), Some(len));
            assert_eq!(self.allocator.tag(offset), tag);
        }
    }
}

proptest! {
    #[test]
    fn allocator_agrees_with_the_interval_model(ops in prop::collection::vec(ops(), 1..250)) {
        let mut run = Run { allocator: allocator(3), model: Model::default(), closing: Vec::new() };
        for (step, op) in ops.into_iter().enumerate() {
            run.apply(&op);
            if step % 8 == 0 {
                run.check();
            }
        }
        run.check();
        while !run.model.live.is_empty() {
            run.free(0);
        }
        run.check();
        let empty: Vec<GranuleIndex> = run.allocator.empty_granules().collect();
        prop_assert_eq!(empty.len(), run.allocator.granules().count());
        for granule in empty {
            run.allocator.remove_granule(granule);
        }
        prop_assert_eq!(run.allocator.stats(), ExtentStats::default());
    }
}

#[test]
fn extent_spans_adjacent_granules_and_coalesces_back() {
    let mut allocator = allocator(3);
    let whole = 3 * GRANULE_BYTES;
    assert_eq!(allocator.stats().largest_free, whole);
    let extents: Vec<Extent> = (0..3)
        .filter_map(|_| allocator.allocate(50 << 20))
        .collect();
    assert_eq!(extents.len(), 3);
    assert_eq!(allocator.allocate(50 << 20), None);
    for extent in extents {
        assert_eq!(allocator.free(extent.offset), 50 << 20);
    }
    assert_eq!(
        allocator.allocate(whole).map(|extent| extent.len),
        Some(whole)
    );
    allocator.check_invariants();
}

#[test]
fn granules_apart_do_not_join() {
    let mut allocator = allocator(1);
    allocator.add_granules(GranuleIndex(6), 1);
    assert_eq!(allocator.allocate(GRANULE_BYTES + 1), None);
    allocator.add_granules(GranuleIndex(5), 1);
    assert!(allocator.allocate(3 * GRANULE_BYTES).is_some());
    allocator.check_invariants();
}

#[test]
fn whole_units_from_four_kibibytes_on_are_aligned_for_direct_io() {
    let mut allocator = allocator(1);
    for _ in 0..50 {
        for len in [4096, 8192, 64 << 10, 1 << 20] {
            let extent = allocator.allocate(len).expect("room");
            assert!(extent.offset.is_multiple_of(4096));
        }
    }
}

#[test]
fn many_small_objects_take_at_most_sixteen_bytes_of_books_each() {
    let mut allocator = allocator(16);
    let mut count = 0_u64;
    while allocator.allocate(4096).is_some() {
        count += 1;
    }
    assert!(count * 4096 > 16 * GRANULE_BYTES * 99 / 100, "{count}");
    let each = allocator.metadata_bytes() as f64 / count as f64;
    assert!(each <= 16.0, "{each}");
    allocator.check_invariants();
}

#[test]
fn empty_chunks_return_to_the_common_space() {
    let mut allocator = allocator(1);
    let small: Vec<Extent> = std::iter::from_fn(|| allocator.allocate(100))
        .take(50_000)
        .collect();
    assert_eq!(small.len(), 50_000);
    assert_eq!(allocator.allocate(GRANULE_BYTES), None);
    for extent in small {
        assert_eq!(allocator.free(extent.offset), 128);
    }
    assert!(allocator.allocate(GRANULE_BYTES).is_some());
}

#[test]
fn closing_granule_empties_and_leaves() {
    let mut allocator = allocator(2);
    let extents: Vec<Extent> = (0..4)
        .filter_map(|_| allocator.allocate(30 << 20))
        .collect();
    for (raw, extent) in (1..).zip(&extents) {
        allocator.set_tag(extent.offset, RecordId::new(raw));
    }
    let granule = allocator.vacate_candidate().expect("two are held");
    allocator.begin_vacate(granule);
    let mut tags = Vec::new();
    assert_eq!(allocator.tags_in(granule, &mut tags), 0);
    for tag in &tags {
        allocator.free(extents[tag.get() as usize - 1].offset);
    }
    allocator.remove_granule(granule);
    assert_eq!(allocator.stats().capacity, GRANULE_BYTES);
    allocator.check_invariants();
}

#[test]
fn victims_are_the_cheapest_neighbours_and_never_what_must_stay() {
    let mut allocator = allocator(1);
    for raw in 1..=64 {
        let extent = allocator.allocate(1 << 20).expect("room for 64");
        allocator.set_tag(extent.offset, RecordId::new(raw));
    }
    // Cheap: 10 to 13; the cheapest of all, 12, has a neighbour that must stay.
    let price = |tag: RecordId, _bytes: u64| match tag.get() {
        12 => Some(1),
        11 => None,
        20..=21 => Some(3),
        _ => Some(100),
    };
    let one = allocator
        .victims_for(1 << 20, price)
        .expect("one is enough");
    assert_eq!(one.tags, [record(12)]);
    let two = allocator
        .victims_for(2 << 20, price)
        .expect("two neighbours");
    assert_eq!(two.cost, 6);
    let all = allocator
        .victims_for(GRANULE_BYTES, |_, bytes| Some(bytes))
        .expect("everything");
    assert_eq!(all.tags.len(), 64);
    assert_eq!(allocator.victims_for(GRANULE_BYTES, price), None);
    assert_eq!(
        allocator.victims_for(GRANULE_BYTES + 1, |_, b| Some(b)),
        None
    );
}

#[test]
fn victim_of_a_small_length_is_one_slot_of_its_class() {
    let mut allocator = allocator(1);
    let mut raw = 0;
    while let Some(extent) = allocator.allocate(4096) {
        raw += 1;
        allocator.set_tag(extent.offset, RecordId::new(raw));
    }
    for _ in 0..100 {
        let victims = allocator
            .victims_for(4096, |_, bytes| Some(bytes))
            .expect("any will do");
        assert_eq!(victims.tags.len(), 1);
    }
}

#[test]
fn numbers_from_outside_are_answered_not_believed() {
    let mut allocator = allocator(1);
    let extent = allocator.allocate(1 << 20).expect("room");
    for offset in [
        0,
        1,
        extent.offset + 1,
        extent.offset + 4096,
        64 << 30,
        u64::MAX,
    ] {
        assert_eq!(allocator.block_len(offset), None);
        assert_eq!(allocator.tag(offset), None);
    }
    assert_eq!(allocator.allocate(u64::MAX), None);
}

#[test]
#[should_panic(expected = "a live extent begins at the offset freed")]
fn freeing_twice_is_a_bug() {
    let mut allocator = allocator(1);
    let extent = allocator.allocate(1 << 20).expect("room");
    allocator.free(extent.offset);
    allocator.free(extent.offset);
}

#[test]
#[should_panic(expected = "holds live extents")]
fn granule_in_use_cannot_leave() {
    let mut allocator = allocator(1);
    allocator.allocate(1).expect("room");
    allocator.remove_granule(GranuleIndex(4));
}

#[test]
fn checker_sees_a_broken_tiling_a_lost_byte_and_a_stray_tag_count() {
    let breaks: [fn(&mut ExtentAllocator); 4] = [
        |allocator| allocator.space.free_units -= 1,
        |allocator| allocator.used_bytes += 64,
        |allocator| {
            let id = allocator
                .space
                .first_block_of(GranuleIndex(4))
                .expect("held");
            allocator.space.node_mut(id).units -= 1;
        },
        |allocator| allocator.slot_bytes += 64,
    ];
    for (index, damage) in breaks.into_iter().enumerate() {
        let mut allocator = allocator(1);
        for _ in 0..10 {
            allocator.allocate(1000).expect("room");
        }
        allocator.check_invariants();
        damage(&mut allocator);
        let checked = std::panic::catch_unwind(|| allocator.check_invariants());
        assert!(checked.is_err(), "damage {index} goes unnoticed");
    }
}
