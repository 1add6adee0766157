//! The replay itself: one client, one request after the other.
//!
//! ```text
//! request:  prefix(keys) -> mget(found, into one buffer) -> mset(the rest)      the clock runs
//!           check every byte read                                              the clock stands
//! ```
//! A block's bytes follow from its hash and a block's key from its hash and size, so a cache that
//! holds blocks of an earlier run is no error. What is read short, damaged or of another block
//! counts byte by byte in `wrong_bytes` and is written again; nothing here panics over what a cache
//! answers.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chariot_client::Error;
use indicatif::ProgressBar;

use super::plot::{COLUMNS, Stretch};
use super::trace::Request;
use crate::cache::Cache;
use crate::content;
use crate::latency::Latency;
use crate::pace::wait_until;
use crate::random::mix;

/// Most keys of one call, as the protocol has it.
const BATCH_MAX: usize = 10_000;
/// Most bytes of one call: longer prefixes are read in several.
const CALL_BYTES_MAX: usize = 256 << 20;
/// Keeps the seeds of blocks apart from those of other content.
const BLOCK_SALT: u64 = 0x6B76_2D62_6C6F_636B;

/// What a replay counted.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub requests: u64,
    pub block_lookups: u64,
    pub block_hits: u64,
    /// Blocks of those that came from the node's SSD.
    pub hits_ssd: u64,
    pub sets: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub errors: u64,
    pub wrong_bytes: u64,
    /// Blocks that this replay had written and found gone, at least.
    pub gone: u64,
    pub seconds: f64,
    /// Time inside calls of the cache.
    pub in_calls: Duration,
    /// Per request, and per kind of call.
    pub latency: Latency,
    pub prefix: Latency,
    pub mget: Latency,
    pub mset: Latency,
    pub first_error: Option<String>,
    pub stretches: Vec<Stretch>,
}

impl Tally {
    fn new() -> Self {
        Self {
            requests: 0,
            block_lookups: 0,
            block_hits: 0,
            hits_ssd: 0,
            sets: 0,
            bytes_read: 0,
            bytes_written: 0,
            errors: 0,
            wrong_bytes: 0,
            gone: 0,
            seconds: 0.0,
            in_calls: Duration::ZERO,
            latency: Latency::new(),
            prefix: Latency::new(),
            mget: Latency::new(),
            mset: Latency::new(),
            first_error: None,
            stretches: Vec::new(),
        }
    }

    fn on_error(&mut self, error: &Error) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(error.to_string());
        }
    }
}

/// How to replay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub block_bytes: usize,
    /// How many times as fast as the trace; `None` sends each request when the last is done.
    pub time_scale: Option<f64>,
}

/// One replay under way.
#[derive(Debug)]
pub(crate) struct Player<C> {
    cache: C,
    settings: Settings,
    tally: Tally,
    buffer: Vec<u8>,
    /// Blocks acknowledged and not found gone since.
    written: HashSet<u64>,
}

impl<C: Cache> Player<C> {
    pub(crate) fn new(cache: C, settings: Settings) -> Self {
        assert!(settings.block_bytes > 0, "a block has bytes");
        Self {
            cache,
            settings,
            tally: Tally::new(),
            buffer: Vec::new(),
            written: HashSet::new(),
        }
    }

    /// Replays all requests.
    pub(crate) fn play(mut self, requests: &[Request], bar: &ProgressBar) -> (C, Tally) {
        let columns = requests.len().min(COLUMNS);
        self.tally.stretches = vec![Stretch::default(); columns];
        let before = self.cache.hits();
        let start = Instant::now();
        for (number, request) in requests.iter().enumerate() {
            let due = self.settings.time_scale.map(|scale| {
                let offset = Duration::from_millis(request.timestamp_ms).div_f64(scale);
                start + offset
            });
            if let Some(due) = due {
                wait_until(due);
            }
            let (hits, lookups) = (self.tally.block_hits, self.tally.block_lookups);
            self.request(request, due);
            let stretch = &mut self.tally.stretches[number * columns / requests.len()];
            stretch.hits += self.tally.block_hits - hits;
            stretch.lookups += self.tally.block_lookups - lookups;
            bar.inc(1);
        }
        self.tally.seconds = start.elapsed().as_secs_f64();
        self.tally.hits_ssd = self.cache.hits().since(before).ssd;
        (self.cache, self.tally)
    }

    /// One request. At a rate its time counts from the moment it was due, so that one that had to
    /// wait for the one before it shows that (no coordinated omission).
    fn request(&mut self, request: &Request, due: Option<Instant>) {
        let waited = due.map_or(Duration::ZERO, |due| due.elapsed());
        let before = self.tally.in_calls;
        let ids = &request.hash_ids;
        let keys: Vec<String> = ids.iter().map(|id| self.key(*id)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let found = self.prefix(&keys);
        let mut missing = self.read(&ids[..found], &keys[..found]);
        self.tally.block_hits += (found - missing.len()) as u64;
        self.tally.block_lookups += ids.len() as u64;
        // The block behind the prefix is not there; those further on are not known.
        let absent = missing
            .iter()
            .copied()
            .chain((found < ids.len()).then_some(found));
        for position in absent {
            self.tally.gone += u64::from(self.written.remove(&ids[position]));
        }
        missing.extend(found..ids.len());
        self.write(&missing, ids, &keys);
        self.tally.requests += 1;
        self.tally
            .latency
            .record(waited + self.tally.in_calls.saturating_sub(before));
    }

    fn key(&self, id: u64) -> String {
        format!("replay:{}@rank:0@{id:016x}", self.settings.block_bytes)
    }

    /// Blocks of one call.
    fn chunk(&self) -> usize {
        (CALL_BYTES_MAX / self.settings.block_bytes).clamp(1, BATCH_MAX)
    }

    fn prefix(&mut self, keys: &[&[u8]]) -> usize {
        let mut found = 0;
        for chunk in keys.chunks(BATCH_MAX) {
            let start = Instant::now();
            let outcome = self.cache.prefix(chunk);
            let time = start.elapsed();
            self.tally.in_calls += time;
            self.tally.prefix.record(time);
            match outcome {
                Ok(count) => {
                    found += count.min(chunk.len());
                    if count < chunk.len() {
                        break;
                    }
                },
                Err(error) => {
                    self.tally.on_error(&error);
                    break;
                },
            }
        }
        found
    }

    /// Reads and checks blocks; answers the positions that were not had.
    fn read(&mut self, ids: &[u64], keys: &[&[u8]]) -> Vec<usize> {
        let size = self.settings.block_bytes;
        let mut missing = Vec::new();
        let chunk = self.chunk();
        for (number, (ids, keys)) in ids.chunks(chunk).zip(keys.chunks(chunk)).enumerate() {
            self.reserve(ids.len());
            let mut buffers: Vec<&mut [u8]> = self.buffer[..ids.len() * size]
                .chunks_exact_mut(size)
                .collect();
            let start = Instant::now();
            let outcomes = self.cache.mget_into(keys, &mut buffers);
            let time = start.elapsed();
            self.tally.in_calls += time;
            self.tally.mget.record(time);
            for (position, outcome) in outcomes.into_iter().enumerate() {
                if !self.check(position, ids[position], outcome) {
                    missing.push(number * chunk + position);
                }
            }
        }
        missing
    }

    /// Checks one answer; true for a block that is all right.
    fn check(&mut self, position: usize, id: u64, outcome: Result<Option<usize>, Error>) -> bool {
        let size = self.settings.block_bytes;
        match outcome {
            Ok(Some(len)) => {
                let found = &self.buffer[position * size..][..len.min(size)];
                let surplus = len.saturating_sub(size) as u64;
                let wrong = content::wrong_bytes(block_seed(id), size, found) + surplus;
                self.tally.bytes_read += len as u64;
                self.tally.wrong_bytes += wrong;
                wrong == 0
            },
            Ok(None) => false,
            Err(error) => {
                self.tally.on_error(&error);
                false
            },
        }
    }

    /// Makes and writes the blocks at `positions`.
    fn write(&mut self, positions: &[usize], ids: &[u64], keys: &[&[u8]]) {
        let size = self.settings.block_bytes;
        for chunk in positions.chunks(self.chunk()) {
            self.reserve(chunk.len());
            for (position, block) in chunk.iter().zip(self.buffer.chunks_exact_mut(size)) {
                content::fill(block_seed(ids[*position]), block);
            }
            let blocks = self.buffer.chunks_exact(size);
            let items: Vec<(&[u8], &[u8])> = chunk
                .iter()
                .map(|position| keys[*position])
                .zip(blocks)
                .collect();
            let start = Instant::now();
            let outcomes = self.cache.mset(&items);
            let time = start.elapsed();
            self.tally.in_calls += time;
            self.tally.mset.record(time);
            for (position, outcome) in chunk.iter().zip(&outcomes) {
                self.tally.sets += 1;
                match outcome {
                    Ok(_) => {
                        self.tally.bytes_written += size as u64;
                        self.written.insert(ids[*position]);
                    },
                    Err(error) => self.tally.on_error(error),
                }
            }
        }
    }

    fn reserve(&mut self, blocks: usize) {
        let bytes = blocks * self.settings.block_bytes;
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
    }
}

/// The seed of a block's bytes.
fn block_seed(id: u64) -> u64 {
    mix(id ^ BLOCK_SALT)
}
