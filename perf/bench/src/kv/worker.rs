//! One client thread: its session, its keys, its values, its counts.

use std::time::{Duration, Instant};

use chariot_client::{Error, Version};
use indicatif::ProgressBar;

use super::Plan;
use super::keys::Key;
use super::values::{Chooser, Values};
use crate::args::Op;
use crate::cache::{Cache, CachePlace, Hits};
use crate::failure::Failure;
use crate::latency::Latency;
use crate::pace::Pace;

/// Of so many values read one is compared in full; all are checked for their length.
const VERIFY_EVERY: u64 = 64;
/// `mixed` writes once in so many calls.
const MIXED_WRITE_EVERY: u64 = 5;
/// Keys and bytes of one call while filling.
const FILL_BATCH: usize = 100;
const FILL_BYTES: usize = 4 << 20;
/// Time between two moves of the progress bar.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// What a client counted.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub ops: u64,
    pub bytes: u64,
    pub errors: u64,
    pub misses: u64,
    pub hits: Hits,
    pub verified: u64,
    pub wrong_bytes: u64,
    pub seconds: f64,
    pub latency: Latency,
    pub first_error: Option<String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            ops: 0,
            bytes: 0,
            errors: 0,
            misses: 0,
            hits: Hits::default(),
            verified: 0,
            wrong_bytes: 0,
            seconds: 0.0,
            latency: Latency::new(),
            first_error: None,
        }
    }

    /// Adds what another client counted in the same time.
    pub(crate) fn add(&mut self, other: &Self) {
        self.ops += other.ops;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.misses += other.misses;
        self.hits.all += other.hits.all;
        self.hits.ssd += other.hits.ssd;
        self.verified += other.verified;
        self.wrong_bytes += other.wrong_bytes;
        self.seconds = self.seconds.max(other.seconds);
        self.latency.add(&other.latency);
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    fn on_error(&mut self, error: &Error) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(error.to_string());
        }
    }

    fn on_written(&mut self, outcome: &Result<Version, Error>, size: usize) {
        match outcome {
            Ok(_) => self.bytes += size as u64,
            Err(error) => self.on_error(error),
        }
    }

    /// An answer without payload.
    fn on_found(&mut self, outcome: &Result<bool, Error>) {
        match outcome {
            Ok(true) => {},
            Ok(false) => self.misses += 1,
            Err(error) => self.on_error(error),
        }
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Worker<'p, C> {
    plan: &'p Plan,
    index: u32,
    cache: C,
    chooser: Chooser,
    values: Values,
    /// Keys of the call at hand, by number and as bytes.
    chosen: Vec<u64>,
    keys: Vec<Key>,
    /// Where values are read to, one place per key of a call.
    buffer: Vec<u8>,
    /// Whether the call at hand writes.
    writing: bool,
    /// Keys of this client's part that are deleted already, in `del`.
    deleted: u64,
    /// Values read, to choose the sample.
    reads: u64,
    tally: Tally,
}

impl<'p, C: Cache> Worker<'p, C> {
    pub(crate) fn new(plan: &'p Plan, index: u32, cache: C) -> Self {
        let values = Values::new(plan.size, plan.batch, plan.keys);
        let seed = plan
            .seed
            .wrapping_mul(0x1_0000)
            .wrapping_add(u64::from(index));
        let reads = !matches!(plan.op, Op::Set | Op::Mset | Op::Exist | Op::Del);
        Self {
            plan,
            index,
            cache,
            chooser: Chooser::new(seed, plan.keys, values.slots()),
            values,
            chosen: Vec::with_capacity(plan.batch),
            keys: Vec::with_capacity(plan.batch),
            buffer: vec![0; if reads { plan.size * plan.batch } else { 0 }],
            writing: false,
            deleted: 0,
            reads: 0,
            tally: Tally::new(),
        }
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn place(&self) -> CachePlace {
        self.cache.place()
    }

    /// Writes all keys of this client's part.
    ///
    /// A value that finds no room is no failure unless none of a call does: reads then miss it.
    pub(crate) fn fill(&mut self, bar: &ProgressBar) -> Result<(), Failure> {
        let part = self.plan.part(self.index);
        let fitting = (FILL_BYTES / self.plan.size).clamp(1, FILL_BATCH) as u64;
        let count = fitting.min(self.values.slots());
        let mut first = part.start;
        while first < part.end {
            let last = (first + count).min(part.end);
            self.choose(first..last);
            self.stamp();
            let outcomes = self
                .cache
                .mset(&items(&self.chosen, &self.keys, &self.values));
            if let Some(Err(error)) = outcomes.iter().find(|outcome| outcome.is_err())
                && outcomes.iter().all(Result::is_err)
            {
                let cause = format!("cannot write the keys to be read ({})", error.cause());
                return Err(Failure::new(cause, error.remedy()));
            }
            bar.inc(last - first);
            first = last;
        }
        Ok(())
    }

    /// Calls until the time is over, counted from `start`.
    pub(crate) fn measure(&mut self, start: Instant, bar: &ProgressBar) -> Tally {
        let mut pace = self
            .plan
            .interval
            .map(|interval| Pace::new(interval, start));
        let mut deadline = start + self.plan.duration;
        let mut paused = Duration::ZERO;
        let mut shown = start;
        let hits = self.cache.hits();
        loop {
            if self.plan.op == Op::Del && !self.enough_to_delete() {
                let from = Instant::now();
                // What could not be written again is a miss below.
                drop(self.fill(&ProgressBar::hidden()));
                self.deleted = 0;
                let pause = from.elapsed();
                paused += pause;
                deadline += pause;
            }
            self.prepare();
            if let Some(pace) = &mut pace {
                pace.wait();
            }
            let (from, to) = self.call();
            match &pace {
                Some(pace) => self
                    .tally
                    .latency
                    .record_at_rate(to - from, pace.interval()),
                None => self.tally.latency.record(to - from),
            }
            if to - shown >= SHOW_EVERY {
                bar.inc(u64::try_from((to - shown).as_millis()).unwrap_or(0));
                shown = to;
            }
            if to >= deadline {
                self.tally.seconds = to
                    .duration_since(start)
                    .saturating_sub(paused)
                    .as_secs_f64();
                self.tally.hits = self.cache.hits().since(hits);
                return self.tally.clone();
            }
        }
    }

    /// Chooses the keys of the next call and makes the values ready that it writes.
    fn prepare(&mut self) {
        self.writing = match self.plan.op {
            Op::Set | Op::Mset => true,
            Op::Mixed => self.chooser.one_of(MIXED_WRITE_EVERY),
            _ => false,
        };
        let batch = self.plan.batch as u64;
        if self.plan.op == Op::Del {
            let first = self.plan.part(self.index).start + self.deleted;
            self.choose(first..first + batch);
            self.deleted += batch;
        } else {
            self.chosen.clear();
            self.chosen.extend((0..batch).map(|_| {
                let index = self.chooser.next();
                // Numbers from the first unwritten one on have keys as well.
                let absent =
                    self.plan.absent > 0 && self.chooser.percent_of_draws(self.plan.absent);
                index + if absent { self.plan.keys } else { 0 }
            }));
            self.keys.clear();
            self.keys
                .extend(self.chosen.iter().map(|index| Key::of(*index)));
        }
        if self.writing {
            self.stamp();
        }
    }

    fn choose(&mut self, range: std::ops::Range<u64>) {
        self.chosen.clear();
        self.chosen.extend(range);
        self.keys.clear();
        self.keys
            .extend(self.chosen.iter().map(|index| Key::of(*index)));
    }

    fn enough_to_delete(&self) -> bool {
        let part = self.plan.part(self.index);
        self.deleted + self.plan.batch as u64 <= part.end - part.start
    }

    fn stamp(&mut self) {
        for index in &self.chosen {
            self.values.stamp(*index);
        }
    }

    /// Runs the call; answers when it began and when it was over. What prepares it and what follows
    /// is not its time.
    fn call(&mut self) -> (Instant, Instant) {
        self.tally.ops += self.plan.batch as u64;
        match self.plan.op {
            _ if self.writing => self.write(),
            Op::View | Op::Mview => self.view(),
            Op::Exist => self.ask(C::exist, C::mexist),
            Op::Del => self.ask(C::delete, C::mdelete),
            Op::Set | Op::Mset | Op::Get | Op::Mget | Op::Mixed => self.read(),
        }
    }

    fn write(&mut self) -> (Instant, Instant) {
        let size = self.plan.size;
        if let ([index], [key]) = (&self.chosen[..], &self.keys[..]) {
            let start = Instant::now();
            let outcome = self.cache.set(key.bytes(), self.values.value(*index));
            let end = Instant::now();
            self.tally.on_written(&outcome, size);
            return (start, end);
        }
        let items = items(&self.chosen, &self.keys, &self.values);
        let start = Instant::now();
        let outcomes = self.cache.mset(&items);
        let end = Instant::now();
        for outcome in &outcomes {
            self.tally.on_written(outcome, size);
        }
        (start, end)
    }

    fn read(&mut self) -> (Instant, Instant) {
        if let [key] = &self.keys[..] {
            let start = Instant::now();
            let outcome = self.cache.get_into(key.bytes(), &mut self.buffer);
            let end = Instant::now();
            let len = self.length(outcome);
            self.check(0, len);
            return (start, end);
        }
        let keys: Vec<&[u8]> = self.keys.iter().map(Key::bytes).collect();
        let mut buffers: Vec<&mut [u8]> = self.buffer.chunks_exact_mut(self.plan.size).collect();
        let start = Instant::now();
        let outcomes = self.cache.mget_into(&keys, &mut buffers);
        let end = Instant::now();
        for (position, outcome) in outcomes.into_iter().enumerate() {
            let len = self.length(outcome);
            self.check(position, len);
        }
        (start, end)
    }

    /// Counts an answer; its length where there is a value.
    fn length(&mut self, outcome: Result<Option<usize>, Error>) -> Option<usize> {
        match outcome {
            Ok(Some(len)) => return Some(len),
            Ok(None) => self.tally.misses += 1,
            Err(error) => self.tally.on_error(&error),
        }
        None
    }

    /// Checks the value read for key `position` of the call.
    fn check(&mut self, position: usize, len: Option<usize>) {
        let Some(len) = len else { return };
        let size = self.plan.size;
        let index = self.chosen[position];
        let found = &self.buffer[position * size..][..len.min(size)];
        self.tally.bytes += len as u64;
        self.reads += 1;
        if len == size && !self.reads.is_multiple_of(VERIFY_EVERY) {
            return;
        }
        self.tally.verified += 1;
        self.tally.wrong_bytes += self.values.wrong_bytes(index, found);
    }

    fn view(&mut self) -> (Instant, Instant) {
        if let [key] = &self.keys[..] {
            let start = Instant::now();
            let outcome = self.cache.view(key.bytes());
            let end = Instant::now();
            self.check_view(0, outcome);
            return (start, end);
        }
        let keys: Vec<&[u8]> = self.keys.iter().map(Key::bytes).collect();
        let start = Instant::now();
        let outcomes = self.cache.mview(&keys);
        let end = Instant::now();
        for (position, outcome) in outcomes.into_iter().enumerate() {
            self.check_view(position, outcome);
        }
        (start, end)
    }

    fn check_view(&mut self, position: usize, outcome: Result<Option<C::View>, Error>) {
        let view = match outcome {
            Ok(Some(view)) => view,
            Ok(None) => {
                self.tally.misses += 1;
                return;
            },
            Err(error) => {
                self.tally.on_error(&error);
                return;
            },
        };
        self.tally.bytes += view.len() as u64;
        self.reads += 1;
        if view.len() != self.plan.size || self.reads.is_multiple_of(VERIFY_EVERY) {
            self.tally.verified += 1;
            self.tally.wrong_bytes += self.values.wrong_bytes(self.chosen[position], &view);
        }
    }

    /// An operation that answers yes or no for each key.
    fn ask(
        &mut self,
        one: impl Fn(&C, &[u8]) -> Result<bool, Error>,
        many: impl Fn(&C, &[&[u8]]) -> Vec<Result<bool, Error>>,
    ) -> (Instant, Instant) {
        if let [key] = &self.keys[..] {
            let start = Instant::now();
            let outcome = one(&self.cache, key.bytes());
            let end = Instant::now();
            self.tally.on_found(&outcome);
            return (start, end);
        }
        let keys: Vec<&[u8]> = self.keys.iter().map(Key::bytes).collect();
        let start = Instant::now();
        let outcomes = many(&self.cache, &keys);
        let end = Instant::now();
        for outcome in &outcomes {
            self.tally.on_found(outcome);
        }
        (start, end)
    }
}

/// Keys with their values, as a batch write takes them.
fn items<'a>(chosen: &[u64], keys: &'a [Key], values: &'a Values) -> Vec<(&'a [u8], &'a [u8])> {
    let pairs = keys.iter().zip(chosen);
    pairs
        .map(|(key, index)| (key.bytes(), values.value(*index)))
        .collect()
}
