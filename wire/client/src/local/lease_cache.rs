//! Memory lent to this session and shard, not yet written: cut into values without a round trip.
//!
//! A lease is a set of slots of one length (small values) or a single extent (large ones). A value
//! is written into a slot that is long enough and less than twice as long, so that at most half of
//! a slot is slack. When a class runs low, the next publish asks for more (`WANT_LEASE`), and its
//! completion brings it: a steady writer never waits for a grant.
//!
//! Lives in the lock of its port. Pure: no I/O, no time.

use std::collections::VecDeque;

/// Bytes of slots that a refill asks for.
const REFILL_BYTES: u64 = 1 << 20;
/// Most slots kept ahead; one grant brings 64 at most.
const REFILL_SLOTS_MAX: u64 = 256;
/// Longest slot that is leased ahead of its use; longer values are leased one by one, because an
/// idle lease of theirs would weigh more than the round trip it saves.
const AHEAD_LEN_MAX: u64 = 8 << 20;
/// Most classes kept; the one that lies idle the longest makes room.
const CLASSES_MAX: usize = 32;

/// A piece of leased memory that holds one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseSlot {
    /// Byte offset in the arena.
    pub offset: u64,
    /// Bytes of the slot.
    pub slot_len: u64,
    /// The class as the daemon named it.
    pub class: u8,
}

/// What to ask for along with a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refill {
    pub class: u8,
    pub count: u16,
    pub slot_len: u64,
}

#[derive(Debug)]
struct Run {
    offset: u64,
    /// Bit `i`: the slot at `offset + i * slot_len` is there. Never 0.
    slots: u64,
}

#[derive(Debug)]
struct Class {
    slot_len: u64,
    class: u8,
    runs: VecDeque<Run>,
    idle: u64,
    refill_pending: bool,
    used_at: u64,
}

/// The leases of one session and shard.
#[derive(Debug, Default)]
pub(super) struct LeaseCache {
    classes: Vec<Class>,
    clock: u64,
    /// The clock at the daemon's last recall.
    recalled_at: u64,
}

/// How many slots to ask for when values of `len` bytes are written.
pub(super) fn slots_for(len: u64) -> u16 {
    let count = (REFILL_BYTES / len.max(1)).clamp(1, REFILL_SLOTS_MAX);
    u16::try_from(count).expect("at most 256")
}

impl LeaseCache {
    /// Takes a slot for a value of `len` bytes: the shortest that fits, and less than twice as
    /// long.
    pub(super) fn take(&mut self, len: u64) -> Option<LeaseSlot> {
        self.clock += 1;
        let class = self
            .classes
            .iter_mut()
            .filter(|class| class.idle > 0 && fits(class.slot_len, len))
            .min_by_key(|class| class.slot_len)?;
        class.used_at = self.clock;
        class.idle -= 1;
        let run = class.runs.front_mut().expect("idle slots lie in runs");
        let first = u64::from(run.slots.trailing_zeros());
        run.slots &= run.slots - 1;
        let slot = LeaseSlot {
            offset: run.offset + first * class.slot_len,
            slot_len: class.slot_len,
            class: class.class,
        };
        if run.slots == 0 {
            class.runs.pop_front();
        }
        Some(slot)
    }

    /// Says what the publish of a slot should ask for: something when its class runs low and
    /// nothing is on its way. The caller reports the end of that with [`Self::refill_ended`].
    pub(super) fn refill_for(&mut self, slot: &LeaseSlot) -> Option<Refill> {
        let class = self.class_mut(slot.slot_len)?;
        let target = u64::from(slots_for(class.slot_len));
        let low = class.idle * 2 <= target && class.slot_len <= AHEAD_LEN_MAX;
        if !low || class.refill_pending {
            return None;
        }
        class.refill_pending = true;
        let count = u16::try_from(target).expect("at most 256");
        Some(Refill {
            class: class.class,
            count,
            slot_len: class.slot_len,
        })
    }

    /// Takes note that the completion of a publish that asked for a refill is there (or that the
    /// publish was never sent).
    pub(super) fn refill_ended(&mut self, slot_len: u64) {
        if let Some(class) = self.class_mut(slot_len) {
            class.refill_pending = false;
        }
    }

    /// Adds a lease: for each bit `i` of `slots` the slot at `offset + i * slot_len`. The caller
    /// has validated it.
    pub(super) fn add(&mut self, offset: u64, slot_len: u64, slots: u64, class: u8) {
        assert!(slots != 0, "a lease has at least one slot");
        assert!(slot_len > 0, "a slot has at least one byte");
        self.clock += 1;
        let at = self.clock;
        let run = Run { offset, slots };
        let count = slots.count_ones();
        if let Some(known) = self.class_mut(slot_len) {
            known.idle += u64::from(count);
            known.class = class;
            known.runs.push_back(run);
            known.used_at = at;
            return;
        }
        self.classes.push(Class {
            slot_len,
            class,
            runs: VecDeque::from([run]),
            idle: u64::from(count),
            refill_pending: false,
            used_at: at,
        });
    }

    /// Puts a slot back that was taken and not published.
    pub(super) fn put_back(&mut self, slot: LeaseSlot) {
        self.add(slot.offset, slot.slot_len, 1, slot.class);
        self.note_unwanted(slot.slot_len);
    }

    /// Takes note that nobody waits for the slots of a length: they may be surplus at once.
    pub(super) fn note_unwanted(&mut self, slot_len: u64) {
        if let Some(class) = self.class_mut(slot_len) {
            class.used_at = 0;
        }
    }

    /// Takes one slot out of a class that has not been used for the longest time, when too many
    /// classes or too many bytes lie idle; it is to be returned to the daemon. What came or was
    /// used last is no surplus: a single slot may be larger than all that may lie idle, and whoever
    /// asked for it has not taken it yet.
    pub(super) fn take_surplus(&mut self, idle_max_bytes: u64) -> Option<LeaseSlot> {
        self.classes
            .retain(|class| class.idle > 0 || class.refill_pending);
        let now = self.clock;
        let old = self.classes.iter().filter(|class| class.used_at < now);
        let old_bytes: u64 = old.map(|class| class.idle * class.slot_len).sum();
        // What is too long to be leased ahead, and that nobody waits for, is of no use to keep.
        let is_unwanted =
            |class: &&Class| class.slot_len > AHEAD_LEN_MAX && class.idle > 0 && class.used_at == 0;
        if let Some(slot_len) = self
            .classes
            .iter()
            .find(is_unwanted)
            .map(|class| class.slot_len)
        {
            return self.take_unwanted(slot_len);
        }
        if self.classes.len() <= CLASSES_MAX && old_bytes <= idle_max_bytes {
            return None;
        }
        let idle = self.classes.iter().filter(|class| class.idle > 0);
        let oldest = idle.min_by_key(|class| class.used_at)?;
        if oldest.used_at == now {
            return None;
        }
        let slot_len = oldest.slot_len;
        self.take_unwanted(slot_len)
    }

    /// Takes note that the daemon recalls leases.
    pub(super) fn recall(&mut self) {
        self.recalled_at = self.clock;
        self.clock += 1;
    }

    /// Takes one slot that the daemon recalled: out of the class that has not been used for the
    /// longest time. The last slot of a class that came or was used just before the recall stays
    /// until the next one: whoever asked for it may not have taken it yet.
    pub(super) fn take_recalled(&mut self) -> Option<LeaseSlot> {
        let recalled_at = self.recalled_at;
        let spare = self
            .classes
            .iter()
            .filter(|class| class.idle > u64::from(class.used_at >= recalled_at));
        let slot_len = spare.min_by_key(|class| class.used_at)?.slot_len;
        self.take_unwanted(slot_len)
    }

    /// Takes a slot to return it, which is no use: neither the class nor the clock gets younger.
    fn take_unwanted(&mut self, slot_len: u64) -> Option<LeaseSlot> {
        let now = self.clock;
        let used_at = self.class_mut(slot_len)?.used_at;
        let slot = self.take(slot_len);
        self.clock = now;
        if let Some(class) = self.class_mut(slot_len) {
            class.used_at = used_at;
        }
        slot
    }

    /// Bytes leased and not in use.
    #[cfg(test)]
    pub(super) fn idle_bytes(&self) -> u64 {
        self.classes
            .iter()
            .map(|class| class.idle * class.slot_len)
            .sum()
    }

    fn class_mut(&mut self, slot_len: u64) -> Option<&mut Class> {
        self.classes
            .iter_mut()
            .find(|class| class.slot_len == slot_len)
    }
}

/// The daemon's shortest slot in bytes: there is nothing better for what is shorter.
const SLOT_LEN_MIN: u64 = 64;

fn fits(slot_len: u64, len: u64) -> bool {
    slot_len >= len && (slot_len <= SLOT_LEN_MIN || slot_len / 2 < len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_picks_the_shortest_slot_that_fits() {
        let mut cache = LeaseCache::default();
        cache.add(0, 8192, 1, 2);
        cache.add(65536, 4096, 0b11, 1);
        assert_eq!(cache.take(4096).unwrap().offset, 65536);
        assert_eq!(cache.take(4096).unwrap().offset, 65536 + 4096);
        assert_eq!(cache.take(4096), None, "8 KiB is not less than twice 4 KiB");
        assert_eq!(cache.take(4097).unwrap().offset, 0);
        assert_eq!(cache.idle_bytes(), 0);
    }

    #[test]
    fn slots_between_others_stay_untouched() {
        let mut cache = LeaseCache::default();
        cache.add(4096, 64, (1 << 63) | 0b101, 1);
        let taken = std::iter::from_fn(|| cache.take(64).map(|slot| slot.offset));
        assert!(taken.eq([4096, 4096 + 2 * 64, 4096 + 63 * 64]));
    }

    #[test]
    fn refill_is_asked_once_until_it_ends() {
        let mut cache = LeaseCache::default();
        cache.add(0, 4096, 0b101, 1);
        let slot = cache.take(4096).unwrap();
        let refill = cache.refill_for(&slot).unwrap();
        assert_eq!((refill.class, refill.count), (1, 256));
        assert_eq!(cache.refill_for(&slot), None);
        cache.refill_ended(4096);
        assert!(cache.refill_for(&slot).is_some());
    }

    #[test]
    fn no_refill_for_values_too_long_to_lease_ahead() {
        let mut cache = LeaseCache::default();
        cache.add(0, 1 << 30, 1, 0);
        let slot = cache.take(1 << 30).unwrap();
        assert_eq!(cache.refill_for(&slot), None);
    }

    #[test]
    fn surplus_comes_from_the_class_idle_the_longest() {
        let mut cache = LeaseCache::default();
        cache.add(0, 4096, 0b1111, 1);
        cache.add(1 << 20, 65536, 0b1111, 2);
        assert_eq!(cache.take_surplus(1 << 20), None);
        assert_eq!(cache.take_surplus(1 << 13).unwrap().slot_len, 4096);
    }

    #[test]
    fn a_recall_leaves_the_slot_that_just_came_to_the_next_one() {
        let mut cache = LeaseCache::default();
        cache.add(0, 4096, 0b11, 1);
        cache.add(1 << 20, 65536, 0b11, 2);
        cache.recall();
        let lens = std::iter::from_fn(|| cache.take_recalled()).map(|slot| slot.slot_len);
        assert_eq!(lens.collect::<Vec<_>>(), [4096, 4096, 65536]);
        assert_eq!(cache.idle_bytes(), 65536);
        cache.recall();
        assert!(cache.take_recalled().is_some());
        assert_eq!(cache.idle_bytes(), 0);
    }

    #[test]
    fn a_large_slot_that_nobody_took_is_surplus_however_little_lies_idle() {
        let mut cache = LeaseCache::default();
        cache.add(0, 12 << 20, 1, 0);
        assert_eq!(cache.take_surplus(16 << 20), None, "it was just granted");
        let slot = cache.take(12 << 20).unwrap();
        cache.put_back(slot);
        assert_eq!(cache.take_surplus(16 << 20), Some(slot));
    }

    #[test]
    fn slot_larger_than_the_idle_limit_is_surplus_only_when_nobody_wants_it() {
        let mut cache = LeaseCache::default();
        cache.add(0, 70 << 20, 1, 0);
        assert_eq!(cache.take_surplus(32 << 20), None, "it was just granted");
        let slot = cache.take(70 << 20).unwrap();
        cache.put_back(slot);
        assert_eq!(cache.take_surplus(32 << 20), Some(slot), "given back");
        cache.add(0, 70 << 20, 1, 0);
        cache.add(70 << 20, 4096, 1, 1);
        assert_eq!(cache.take_surplus(32 << 20), Some(slot), "left behind");
    }

    #[test]
    fn slot_put_back_is_taken_again() {
        let mut cache = LeaseCache::default();
        cache.add(128, 64, 1, 1);
        let slot = cache.take(64).unwrap();
        cache.put_back(slot);
        assert_eq!(cache.take(64), Some(slot));
    }

    #[test]
    fn shortest_slot_takes_any_value_that_fits() {
        let mut cache = LeaseCache::default();
        cache.add(0, 64, 1, 1);
        assert!(cache.take(1).is_some());
    }
}
