//! Copies and checksums over a working set that no cache holds.
//!
//! The same walk as the load of `kv`: small pieces at random slots of a large region, the other
//! side a few warm buffers. Safe code: `copy_from_slice` of a length unknown to the compiler is
//! libc's memcpy.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::Measured;
use crate::pinning;
use crate::random::Random;

/// Bytes copied between two looks at the clock.
const LOOK_EVERY: usize = 256 << 10;
/// Bytes of warm buffers on the small side of a copy.
const WARM_BYTES: usize = 256 << 10;

/// Which side of the copy is the large region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From the region into a buffer, as `get`.
    Read,
    /// From a buffer into the region, as `set`.
    Write,
}

/// What to copy.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub kind: Kind,
    pub size: usize,
    /// Bytes of all regions together.
    pub working_set: usize,
    pub threads: usize,
    /// CPUs of the threads; empty leaves them free.
    pub cpus: Vec<usize>,
    pub duration: Duration,
}

/// Copies with libc's memcpy.
pub(crate) fn memcpy(load: &Load) -> Measured {
    measure(load, "memcpy", |target, source| {
        target.copy_from_slice(source);
    })
}

/// Copies past the cache, as the SDK writes large values.
pub(crate) fn nontemporal(load: &Load) -> Measured {
    measure(
        load,
        "copy_nontemporal",
        chariot_shm::copy::copy_nontemporal_slice,
    )
}

/// Runs a copy on all threads at once and adds up their rates.
pub(crate) fn measure(
    load: &Load,
    name: &'static str,
    copy: impl Fn(&mut [u8], &[u8]) + Sync,
) -> Measured {
    assert!(load.size > 0 && load.threads > 0, "a load copies something");
    let start = Barrier::new(load.threads);
    let walk = |index: usize| {
        // A CPU that refused its client would have been reported before; here it costs precision.
        let pinned = pinning::pin_client(&load.cpus, index);
        drop(pinned);
        let mut region = Region::new(load, index as u64);
        start.wait();
        region.walk(load, &copy)
    };
    let rates: Vec<f64> = std::thread::scope(|scope| {
        let walk = &walk;
        let threads: Vec<_> = (0..load.threads)
            .map(|index| scope.spawn(move || walk(index)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, f64>| {
            thread.join().expect("a copying thread does not panic")
        };
        threads.into_iter().map(join).collect()
    });
    let ops_per_s: f64 = rates.iter().sum();
    Measured {
        name,
        size_bytes: load.size,
        threads: load.threads,
        seconds: load.duration.as_secs_f64(),
        ops_per_s: Some(ops_per_s),
        bytes_per_s: Some(ops_per_s * load.size as f64),
        lat_us: None,
    }
}

/// Memory of one thread.
struct Region {
    large: Vec<u8>,
    warm: Vec<u8>,
    random: Random,
}

impl Region {
    /// Every page is touched here, not in the measurement.
    fn new(load: &Load, seed: u64) -> Self {
        let slots = (load.working_set / load.threads / load.size).max(1);
        let buffers = (WARM_BYTES / load.size).max(1);
        Self {
            large: vec![1; slots * load.size],
            warm: vec![2; buffers * load.size],
            random: Random::new(seed),
        }
    }

    /// Copies until the time is over; answers copies per second.
    fn walk(&mut self, load: &Load, copy: &impl Fn(&mut [u8], &[u8])) -> f64 {
        let size = load.size;
        let slots = (self.large.len() / size) as u64;
        let buffers = self.warm.len() / size;
        let burst = (LOOK_EVERY / size).max(1);
        let start = Instant::now();
        let mut copies = 0_usize;
        loop {
            for _ in 0..burst {
                let slot = usize::try_from(self.random.below(slots)).expect("slots are in memory");
                let large = &mut self.large[slot * size..][..size];
                let warm = &mut self.warm[copies % buffers * size..][..size];
                match load.kind {
                    Kind::Read => copy(black_box(warm), black_box(large)),
                    Kind::Write => copy(black_box(large), black_box(warm)),
                }
                copies += 1;
            }
            let elapsed = start.elapsed();
            if elapsed >= load.duration {
                return copies as f64 / elapsed.as_secs_f64();
            }
        }
    }
}

/// Computes CRC32C over pieces of the working set, one thread.
pub(crate) fn checksum(size: usize, working_set: usize, duration: Duration) -> Measured {
    let load = Load {
        kind: Kind::Read,
        size,
        working_set,
        threads: 1,
        cpus: Vec::new(),
        duration,
    };
    measure(&load, "crc32c", |_, source| {
        black_box(crc32c::crc32c(source));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_copy_what_they_say() {
        for kind in [Kind::Read, Kind::Write] {
            let load = Load {
                kind,
                size: 4096,
                working_set: 1 << 20,
                threads: 1,
                cpus: Vec::new(),
                duration: Duration::from_millis(1),
            };
            let mut region = Region::new(&load, 1);
            assert!(region.walk(&load, &|target, source| target.copy_from_slice(source)) > 0.0);
            let (changed, value) = match kind {
                Kind::Read => (&region.warm, 1),
                Kind::Write => (&region.large, 2),
            };
            assert!(changed.contains(&value), "{kind:?}");
        }
    }
}
