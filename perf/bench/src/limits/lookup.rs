//! A bare lookup in a private map: the limit of operations that move no payload.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use super::Measured;
use crate::random::Random;

/// Most keys put into the map; more would only measure memory that the report has anyway.
const KEYS_MAX: u64 = 1_000_000;
/// Lookups between two looks at the clock.
const BURST: u64 = 1024;

/// Looks up random keys as `key` makes them.
pub(crate) fn measure<K: AsRef<[u8]>>(
    keys: u64,
    duration: Duration,
    key: impl Fn(u64) -> K,
) -> Measured {
    let keys = keys.clamp(1, KEYS_MAX);
    let map: HashMap<Box<[u8]>, u64> = (0..keys)
        .map(|index| (key(index).as_ref().into(), index))
        .collect();
    let mut random = Random::new(1);
    let start = Instant::now();
    let mut lookups = 0;
    let elapsed = loop {
        for _ in 0..BURST {
            let index = random.below(keys);
            let found = map.get(key(index).as_ref());
            assert!(black_box(found).is_some(), "every key was put in");
        }
        lookups += BURST;
        let elapsed = start.elapsed();
        if elapsed >= duration {
            break elapsed;
        }
    };
    Measured {
        name: "lookup",
        size_bytes: 0,
        threads: 1,
        seconds: elapsed.as_secs_f64(),
        ops_per_s: Some(lookups as f64 / elapsed.as_secs_f64()),
        bytes_per_s: None,
        lat_us: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_are_counted() {
        let measured = measure(100, Duration::from_millis(1), u64::to_le_bytes);
        assert!(measured.ops_per_s.unwrap() > 0.0);
    }
}
