//! The load: objects of one shape, written beyond the memory, read back where they lie on SSD.

use std::time::{Duration, Instant};

use super::daemon::{Watched, whole};
use crate::cache::Cache;
use crate::content;
use crate::failure::Failure;
use crate::latency::{Latency, LatencyUs};
use crate::pace::wait_until;
use crate::random::{Random, mix};

/// What is written in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub name: &'static str,
    pub bytes: usize,
    /// Keys of one writing call.
    pub batch: usize,
}

/// Calls between two looks at the daemon.
const CALLS_A_LOOK: u32 = 16;
/// Longest wait for the device to take what is under way.
const DRAIN_MAX: Duration = Duration::from_mins(1);
/// Of the tier, the most that a run writes: cleaning begins beyond.
const CAPACITY_SHARE: f64 = 0.8;
/// Bytes at the front of a value that are its key's own.
const STAMP_BYTES: usize = 64;
/// Values of one read compared in full: one in so many.
const CHECK_EVERY: u64 = 16;

/// One shape of objects through one client.
#[derive(Debug)]
pub(super) struct Load<C> {
    pub shape: Shape,
    cache: C,
    /// Tells the keys of one load from those of another.
    salt: u64,
    /// Keys written so far: 0 to this.
    keys: u64,
    /// Bytes that all of them together may have.
    bytes_max: u64,
    values: Vec<Vec<u8>>,
    errors: u64,
    wrong_bytes: u64,
    missed: u64,
}

/// Times of gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    pub gets: u64,
    pub lat_us: LatencyUs,
}

impl<C: Cache> Load<C> {
    pub(super) fn new(shape: Shape, cache: C) -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let salt = mix(clock.map_or(1, |time| time.subsec_nanos().into()) ^ shape.bytes as u64);
        Self {
            shape,
            cache,
            salt,
            keys: 0,
            bytes_max: u64::MAX,
            values: vec![filled(salt, shape.bytes); shape.batch],
            errors: 0,
            wrong_bytes: 0,
            missed: 0,
        }
    }

    /// Errors and wrong bytes.
    pub(super) fn flaws(&self) -> u64 {
        self.errors + self.wrong_bytes
    }

    /// Reads that found nothing.
    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    fn key(&self, number: u64) -> Vec<u8> {
        format!("ssd/{:016x}/{number:012}", self.salt).into_bytes()
    }

    fn stamp(&self, number: u64) -> u64 {
        mix(self.salt ^ number)
    }

    /// One writing call of the next keys.
    fn write(&mut self) {
        let first = self.keys;
        let count = self.shape.batch as u64;
        let keys: Vec<Vec<u8>> = (first..first + count)
            .map(|number| self.key(number))
            .collect();
        for (number, value) in (first..).zip(&mut self.values) {
            // The key's own bytes stand in front; all others are the same in every value.
            content::fill(mix(self.salt ^ number), &mut value[..STAMP_BYTES]);
        }
        let items: Vec<(&[u8], &[u8])> = keys
            .iter()
            .zip(&self.values)
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
            .collect();
        let answers = self.cache.mset(&items);
        self.errors += answers.iter().filter(|answer| answer.is_err()).count() as u64;
        self.keys += count;
    }

    fn has_room(&self) -> bool {
        self.keys * (self.shape.bytes as u64) < self.bytes_max
    }

    /// Writes the keys below `count`, anew where they are there.
    pub(super) fn write_keys(&mut self, count: u64) -> Result<(), Failure> {
        self.keys = 0;
        while self.keys < count {
            self.write();
        }
        self.check_errors()
    }

    /// Writes until the daemon spills, and `least` objects of this load at least lie on SSD.
    pub(super) fn fill_beyond_memory(
        &mut self,
        watched: &Watched,
        least: u64,
    ) -> Result<(), Failure> {
        let first = watched.look()?;
        let free = first.capacity * CAPACITY_SHARE - first.live;
        self.bytes_max = self.keys * self.shape.bytes as u64 + whole(free);
        let enough = first.objects + least.max(256);
        loop {
            for _ in 0..CALLS_A_LOOK {
                self.write();
            }
            self.check_errors()?;
            if watched.look()?.objects >= enough {
                return Ok(());
            }
            if !self.has_room() {
                return Err(Failure::new(
                    format!(
                        "the SSD tier filled up before {} reached it",
                        self.shape.name
                    ),
                    "give the daemon an empty tier, several times its --memory",
                ));
            }
        }
    }

    fn check_errors(&self) -> Result<(), Failure> {
        if self.errors == 0 {
            return Ok(());
        }
        let cause = format!("{} writes of {} failed", self.errors, self.shape.name);
        Err(Failure::new(cause, "look at the daemon's log"))
    }

    /// Writes new keys for so long, at most what the tier holds.
    pub(super) fn write_for(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            if !self.has_room() {
                return Err(Failure::new(
                    "the SSD tier filled up while it was measured",
                    "give the daemon a larger --ssd-size, or fewer --seconds",
                ));
            }
            self.write();
        }
        self.check_errors()
    }

    /// Keys, counted from the first, that lie on SSD, the oldest written first.
    fn on_ssd(&self, objects: u64) -> u64 {
        self.keys.min(objects).max(1)
    }

    /// Reads at random for so long, `depth` keys a call.
    pub(super) fn read_for(&mut self, duration: Duration, depth: u32, objects: u64) {
        let depth = depth as usize;
        let mut order = Order::new(self.on_ssd(objects), self.salt);
        let mut buffers = vec![vec![0; self.shape.bytes]; depth];
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let numbers: Vec<u64> = (0..depth).map(|_| order.next()).collect();
            let keys: Vec<Vec<u8>> = numbers.iter().map(|number| self.key(*number)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let mut into: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
            let answers = self.cache.mget_into(&keys, &mut into);
            for ((answer, number), buffer) in answers.iter().zip(numbers).zip(&buffers) {
                match answer {
                    Ok(Some(len)) => self.check(number, &buffer[..*len]),
                    Ok(None) => self.missed += 1,
                    Err(_) => self.errors += 1,
                }
            }
        }
    }

    fn check(&mut self, number: u64, bytes: &[u8]) {
        if bytes.len() != self.shape.bytes {
            self.wrong_bytes += 1;
        } else if number.is_multiple_of(CHECK_EVERY) {
            let (own, rest) = bytes.split_at(STAMP_BYTES);
            self.wrong_bytes += content::wrong_bytes(self.stamp(number), STAMP_BYTES, own);
            self.wrong_bytes += u64::from(rest != &self.values[0][STAMP_BYTES..]);
        }
    }

    /// Times single gets of what lies on SSD, each after a rest where one is given.
    pub(super) fn time_gets(
        &mut self,
        duration: Duration,
        rest: Option<Duration>,
        objects: u64,
    ) -> Timed {
        // Another order each time: what a run before it read last may be in memory.
        let mut order = Order::new(self.on_ssd(objects) / 2, self.salt);
        if rest.is_some() {
            order.skip_half();
        }
        self.time(duration, rest, &mut order)
    }

    /// Times gets of all keys, which lie in memory.
    pub(super) fn time_hot(&mut self, duration: Duration) -> Timed {
        let mut order = Order::new(self.keys, self.salt);
        self.time(duration, None, &mut order)
    }

    fn time(&mut self, duration: Duration, rest: Option<Duration>, order: &mut Order) -> Timed {
        let mut buffer = vec![0; self.shape.bytes];
        let mut latency = Latency::new();
        let mut gets = 0;
        let end = Instant::now() + duration;
        while Instant::now() < end {
            if let Some(rest) = rest {
                wait_until(Instant::now() + rest);
            }
            let number = order.next();
            let key = self.key(number);
            let start = Instant::now();
            let answer = self.cache.get_into(&key, &mut buffer);
            latency.record(start.elapsed());
            gets += 1;
            match answer {
                Ok(Some(len)) => self.check(number, &buffer[..len]),
                Ok(None) => self.missed += 1,
                Err(_) => self.errors += 1,
            }
        }
        Timed {
            gets,
            lat_us: latency.summary(),
        }
    }
}

/// Waits until nothing is on its way to the device.
pub(super) fn drain(watched: &Watched) -> Result<(), Failure> {
    let end = Instant::now() + DRAIN_MAX;
    while watched.look()?.spilling > 0.0 {
        if Instant::now() > end {
            let cause = "the daemon did not finish writing to its SSD";
            return Err(Failure::new(cause, "look at its log and at the device"));
        }
        wait_until(Instant::now() + Duration::from_millis(20));
    }
    Ok(())
}

/// A value that is like no other load's.
fn filled(salt: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    content::fill(salt, &mut value);
    value
}

/// All numbers below a bound in a random order, again and again.
#[derive(Debug)]
pub(super) struct Order {
    numbers: Vec<u64>,
    next: usize,
}

impl Order {
    pub(super) fn new(count: u64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut numbers: Vec<u64> = (0..count.max(1)).collect();
        for at in (1..numbers.len()).rev() {
            let other = usize::try_from(random.below(at as u64 + 1)).expect("below a length");
            numbers.swap(at, other);
        }
        Self { numbers, next: 0 }
    }

    fn skip_half(&mut self) {
        self.next = self.numbers.len() / 2;
    }

    pub(super) fn next(&mut self) -> u64 {
        let number = self.numbers[self.next];
        self.next = (self.next + 1) % self.numbers.len();
        number
    }
}
