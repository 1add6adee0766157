//! The timer wheel: which entries expire next, eight bytes an entry.
//!
//! ```text
//! tick = expiry / 100 ms, rounded up, 42 bits = seven digits of six bits
//! level 6 ... level 1   level 0        an entry lies on the level of the highest digit in which
//! [64 slots]  [64]      [64 slots]     its tick differs from `current`, in the slot of that digit
//!
//! link word:  |63 59|  58  |57 ........ 29|28 ......... 0|
//!             | --- | head | prev or slot |     next     |   0 = not on the wheel
//! ```
//! Hierarchical (Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987). One
//! bitmap a level finds the next slot that holds anything, so idle hours cost seven steps. Moving
//! a slot down a level and taking due entries both stop anywhere and go on with the next call:
//! while a slot of the current digit holds anything, time does not pass it.
//!
//! Invariants: an entry on level L shares all digits above L with `current`, and its digit L is
//! larger (equal only while that slot is being emptied); no entry is handed out before its time.
//!
//! Lives on: owner shard. Neighbours: `store.rs` removes what is handed out.

use crate::limits::{RECORDS_MAX, TICK_MS};

const ID_BITS: u32 = 29;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
const PREV_SHIFT: u32 = ID_BITS;
const IS_HEAD: u64 = 1 << (2 * ID_BITS);

const DIGIT_BITS: usize = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 7;

/// The largest expiry that has a place: 48 bits of milliseconds, 8,925 years.
pub(crate) const EXPIRY_MS_MAX: u64 = (1 << 48) - 1;

const _: () = assert!(EXPIRY_MS_MAX.div_ceil(TICK_MS) < 1 << (DIGIT_BITS * LEVELS));
const _: () = assert!(RECORDS_MAX as u64 == ID_MASK);

/// All timers of one store.
pub(crate) struct Wheel {
    words: Vec<u64>,
    /// First entry of each slot, level by level; 0 = none.
    heads: Vec<u32>,
    /// Which slots of a level hold anything.
    occupied: [u64; LEVELS],
    /// The tick up to which nothing is due any more, except what lies in slots of its own digits.
    current: u64,
    len: u32,
}

impl Wheel {
    /// Makes an empty wheel for ids `1..=records_max`.
    pub(crate) fn new(records_max: u32) -> Self {
        assert!(records_max <= RECORDS_MAX);
        Self {
            words: vec![0; records_max as usize + 1],
            heads: vec![0; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            current: 0,
            len: 0,
        }
    }

    /// Puts an entry on the wheel, or moves it; an `expiry_ms` of 0 takes it off.
    ///
    /// # Panics
    /// When `expiry_ms` is above [`EXPIRY_MS_MAX`].
    pub(crate) fn set(&mut self, id: u32, expiry_ms: u64) {
        assert!(id != 0);
        assert!(expiry_ms <= EXPIRY_MS_MAX);
        self.clear(id);
        if expiry_ms != 0 {
            self.link(id, expiry_ms.div_ceil(TICK_MS));
        }
    }

    /// Takes an entry off the wheel, if it is on it.
    pub(crate) fn clear(&mut self, id: u32) {
        let word = self.words[id as usize];
        if word == 0 {
            return;
        }
        let next = id_of(word);
        let prev = id_of(word >> PREV_SHIFT);
        if word & IS_HEAD == 0 {
            let before = &mut self.words[prev as usize];
            *before = *before & !ID_MASK | u64::from(next);
        } else {
            let slot = prev as usize;
            assert!(self.heads[slot] == id);
            self.heads[slot] = next;
            if next == 0 {
                self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
            }
        }
        if next != 0 {
            let back = word & ((ID_MASK << PREV_SHIFT) | IS_HEAD);
            self.words[next as usize] = self.words[next as usize] & ID_MASK | back;
        }
        self.words[id as usize] = 0;
        self.len -= 1;
    }

    /// Takes one due entry off the wheel and returns it, or `None` when nothing more is due at
    /// `now_ms` or `steps` ran out.
    ///
    /// `expiry_of` tells the expiry of an entry on the wheel. Each entry looked at and each slot
    /// opened takes one from `steps`; `None` with steps left means the wheel has caught up.
    pub(crate) fn pop_due(
        &mut self,
        now_ms: u64,
        steps: &mut u32,
        expiry_of: &dyn Fn(u32) -> u64,
    ) -> Option<u32> {
        let target = now_ms / TICK_MS;
        while target >= self.current {
            let Some(event) = self.next_event() else {
                self.current = target;
                return None;
            };
            if event.tick > target {
                self.current = target;
                return None;
            }
            if *steps == 0 {
                return None;
            }
            *steps -= 1;
            if event.tick > self.current {
                self.current = event.tick;
                continue;
            }
            let id = self.heads[event.slot];
            let expiry_ms = expiry_of(id);
            assert!(expiry_ms != 0, "an entry without expiry is on the wheel");
            self.clear(id);
            let tick = expiry_ms.div_ceil(TICK_MS);
            if tick <= self.current {
                return Some(id);
            }
            self.link(id, tick);
        }
        None
    }

    /// Returns a time before which nothing is due, in milliseconds; `None` when the wheel is
    /// empty. A lower bound: at that time there may be only a slot to move down.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.next_event().map(|event| event.tick * TICK_MS)
    }

    /// Returns the number of entries that will expire.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// The next slot that needs a hand: one under `current` first, else the earliest to come.
    fn next_event(&self) -> Option<Event> {
        let mut soonest = None;
        for level in (0..LEVELS).rev() {
            let shift = level * DIGIT_BITS;
            let digit = digit_of(self.current, level);
            let ahead = self.occupied[level] & (u64::MAX << digit);
            if ahead & (1 << digit) != 0 {
                return Some(Event {
                    tick: self.current,
                    slot: level * SLOTS + digit,
                });
            }
            if ahead != 0 {
                let found = ahead.trailing_zeros();
                // Digits below this level are zero, those above are those of `current`.
                let above = self.current >> shift >> DIGIT_BITS << DIGIT_BITS;
                let tick = (above | u64::from(found)) << shift;
                soonest = Some(Event {
                    tick,
                    slot: level * SLOTS + found as usize,
                });
            }
        }
        soonest
    }

    fn link(&mut self, id: u32, tick: u64) {
        assert!(self.words[id as usize] == 0);
        let tick = tick.max(self.current);
        let differing = (u64::BITS - (tick ^ self.current).leading_zeros()) as usize;
        let level = differing.saturating_sub(1) / DIGIT_BITS;
        let digit = digit_of(tick, level);
        let slot = level * SLOTS + digit;
        let next = self.heads[slot];
        let back = IS_HEAD | ((slot as u64) << PREV_SHIFT);
        self.words[id as usize] = back | u64::from(next);
        if next != 0 {
            self.words[next as usize] =
                self.words[next as usize] & ID_MASK | (u64::from(id) << PREV_SHIFT);
        }
        self.heads[slot] = id;
        self.occupied[level] |= 1 << digit;
        self.len += 1;
    }

    /// Checks places, links and counts; O(n).
    ///
    /// # Panics
    /// When anything is out of place.
    pub(crate) fn check_invariants(&self, expiry_of: &dyn Fn(u32) -> u64) {
        let mut len = 0;
        for (slot, &head) in self.heads.iter().enumerate() {
            let (level, index) = (slot / SLOTS, slot % SLOTS);
            assert_eq!(
                (self.occupied[level] >> index) & 1 == 1,
                head != 0,
                "bitmap of slot {slot}"
            );
            assert!(
                head == 0 || index >= digit_of(self.current, level),
                "slot {slot} is past"
            );
            let (mut at, mut back) = (head, IS_HEAD | ((slot as u64) << PREV_SHIFT));
            while at != 0 {
                let word = self.words[at as usize];
                assert_eq!(word & !ID_MASK, back, "timer {at} points back elsewhere");
                let tick = expiry_of(at).div_ceil(TICK_MS).max(self.current);
                let shift = level * DIGIT_BITS;
                let differs_above = (tick ^ self.current) >> shift >> DIGIT_BITS != 0;
                let is_half_emptied = index == digit_of(self.current, level);
                assert!(
                    !differs_above && (is_half_emptied || digit_of(tick, level) == index),
                    "timer {at} of tick {tick} is on level {level}, slot {index}"
                );
                len += 1;
                assert!(len <= self.len, "more timers than the count, or a ring");
                (back, at) = (u64::from(at) << PREV_SHIFT, id_of(word));
            }
        }
        assert_eq!(len, self.len);
    }
}

struct Event {
    tick: u64,
    slot: usize,
}

fn digit_of(tick: u64, level: usize) -> usize {
    let digit = (tick >> (level * DIGIT_BITS)) & (SLOTS as u64 - 1);
    usize::try_from(digit).expect("six bits are left")
}

fn id_of(word: u64) -> u32 {
    u32::try_from(word & ID_MASK).expect("29 bits are left")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chariot_base::{Random, SplitMix64};

    use super::*;

    fn drain(wheel: &mut Wheel, now_ms: u64, expiries: &BTreeMap<u32, u64>) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut steps = u32::MAX;
        while let Some(id) = wheel.pop_due(now_ms, &mut steps, &|id| expiries[&id]) {
            ids.push(id);
        }
        ids.sort_unstable();
        ids
    }

    #[test]
    fn timer_is_due_within_a_tick_and_never_early() {
        for expiry_ms in [
            1,
            99,
            100,
            101,
            6_399,
            6_401,
            409_600,
            1 << 31,
            EXPIRY_MS_MAX,
        ] {
            let mut wheel = Wheel::new(4);
            let expiries = BTreeMap::from([(1, expiry_ms)]);
            wheel.set(1, expiry_ms);
            assert_eq!(drain(&mut wheel, expiry_ms - 1, &expiries), [0_u32; 0]);
            assert_eq!(wheel.len(), 1);
            wheel.check_invariants(&|id| expiries[&id]);
            assert_eq!(drain(&mut wheel, expiry_ms + TICK_MS - 1, &expiries), [1]);
            assert_eq!((wheel.len(), wheel.next_due_ms()), (0, None));
        }
    }

    #[test]
    fn timer_moves_both_ways_and_goes() {
        let mut wheel = Wheel::new(4);
        wheel.set(1, 1_000_000);
        wheel.set(1, 500);
        wheel.set(2, 500);
        wheel.set(2, 2_000_000);
        wheel.set(3, 500);
        wheel.set(3, 0);
        let expiries = BTreeMap::from([(1, 500), (2, 2_000_000)]);
        assert_eq!(drain(&mut wheel, 1_900_000, &expiries), [1]);
        assert_eq!(drain(&mut wheel, 2_000_000, &expiries), [2]);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn clock_that_goes_back_is_ignored() {
        let mut wheel = Wheel::new(4);
        let mut expiries = BTreeMap::new();
        assert_eq!(drain(&mut wheel, 10_000, &expiries), [0_u32; 0]);
        expiries.insert(1, 5_000);
        wheel.set(1, 5_000);
        assert_eq!(drain(&mut wheel, 4_000, &expiries), [0_u32; 0]);
        assert_eq!(drain(&mut wheel, 10_000, &expiries), [1]);
    }

    #[test]
    fn steps_bound_every_call_and_nothing_is_lost() {
        let mut wheel = Wheel::new(5_000);
        let mut expiries = BTreeMap::new();
        for id in 1..=5_000 {
            // All in one far slot, so that it is moved down several times.
            expiries.insert(id, 30_000_000 + u64::from(id % 700));
            wheel.set(id, expiries[&id]);
        }
        let (mut popped, mut calls) = (0, 0);
        while popped < 5_000 {
            let mut steps = 16;
            while wheel
                .pop_due(40_000_000, &mut steps, &|id| expiries[&id])
                .is_some()
            {
                popped += 1;
            }
            wheel.check_invariants(&|id| expiries[&id]);
            calls += 1;
        }
        // At most seven looks at an entry, and few slots.
        assert!(
            (5_000 / 16..7 * 5_000 / 16).contains(&calls),
            "{calls} calls"
        );
    }

    /// A number of at most `bits` bits, small ones as likely as large ones.
    fn ttl_below(random: &mut SplitMix64, bits: u64) -> u64 {
        let bound = 1 << random.below(bits);
        random.below(bound)
    }

    /// Random timers against a sorted map: each is handed out in the first call that may do so.
    #[test]
    fn wheel_agrees_with_sorted_map() {
        for seed in 0..20 {
            let mut random = SplitMix64::new(seed);
            let mut wheel = Wheel::new(200);
            let mut expiries: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now_ms = random.below(1 << 40);
            for _ in 0..2_000 {
                let id = u32::try_from(random.below(200)).unwrap() + 1;
                match random.below(4) {
                    0 | 1 => {
                        let ttl_ms = ttl_below(&mut random, 34);
                        expiries.insert(id, now_ms + ttl_ms + 1);
                        wheel.set(id, now_ms + ttl_ms + 1);
                    },
                    2 => {
                        expiries.remove(&id);
                        wheel.clear(id);
                    },
                    _ => {
                        now_ms += ttl_below(&mut random, 30);
                        let soonest = expiries.values().min();
                        let soonest = soonest.map(|expiry| expiry.div_ceil(100) * 100);
                        assert!(wheel.next_due_ms() <= soonest, "a lower bound");
                        assert_eq!(wheel.next_due_ms().is_some(), soonest.is_some());
                        let mut due: Vec<u32> = expiries
                            .iter()
                            .filter(|(_, expiry)| expiry.div_ceil(TICK_MS) <= now_ms / TICK_MS)
                            .map(|(&id, _)| id)
                            .collect();
                        due.sort_unstable();
                        assert_eq!(drain(&mut wheel, now_ms, &expiries), due, "seed {seed}");
                        expiries.retain(|id, _| !due.contains(id));
                    },
                }
                assert_eq!(wheel.len() as usize, expiries.len());
            }
            wheel.check_invariants(&|id| expiries[&id]);
        }
    }

    #[test]
    #[should_panic(expected = "is on level")]
    fn checker_finds_a_timer_in_the_wrong_place() {
        let mut wheel = Wheel::new(4);
        wheel.set(1, 5_000);
        wheel.check_invariants(&|_| 500_000);
    }

    #[test]
    #[should_panic(expected = "bitmap of slot")]
    fn checker_finds_a_wrong_bitmap() {
        let mut wheel = Wheel::new(4);
        wheel.set(1, 5_000);
        wheel.occupied[0] = 0;
        wheel.check_invariants(&|_| 5_000);
    }

    #[test]
    #[should_panic(expected = "expiry_ms <= EXPIRY_MS_MAX")]
    fn expiry_beyond_48_bits_is_refused() {
        Wheel::new(4).set(1, EXPIRY_MS_MAX + 1);
    }
}
