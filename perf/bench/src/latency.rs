//! Distributions of call times, in nanoseconds with three digits, at most an hour.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time told apart; longer ones count as this one.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits kept.
const DIGITS: u8 = 3;

/// A distribution of times.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        Self {
            histogram: histogram.expect("constant bounds that the crate takes"),
        }
    }

    /// Records the time of one call.
    #[inline]
    pub(crate) fn record(&mut self, time: Duration) {
        self.histogram.saturating_record(clamp(time));
    }

    /// Records the time of one call of a sequence that should start every `interval`. A call longer
    /// than that kept others from starting; they count with the time that they would have waited
    /// (correction for coordinated omission).
    pub(crate) fn record_at_rate(&mut self, time: Duration, interval: Duration) {
        self.histogram
            .record_correct(clamp(time), clamp(interval))
            .expect("the time is within the bounds");
    }

    /// Adds another distribution.
    pub(crate) fn add(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all distributions have the same bounds");
    }

    /// Records held, those of the correction included.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The percentiles that every report shows.
    pub(crate) fn summary(&self) -> LatencyUs {
        let at = |quantile| micros(self.histogram.value_at_quantile(quantile));
        LatencyUs {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(self.histogram.max()),
        }
    }
}

/// Percentiles in microseconds, as the reports name them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct LatencyUs {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

#[inline]
fn clamp(time: Duration) -> u64 {
    u64::try_from(time.as_nanos())
        .unwrap_or(LONGEST_NS)
        .clamp(1, LONGEST_NS)
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn percentiles_of_known_times() {
        let mut latency = Latency::new();
        for time in 1..=1000 {
            latency.record(Duration::from_micros(time));
        }
        let summary = latency.summary();
        let near =
            |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 0.002, "{found}");
        near(summary.p50, 500.0);
        near(summary.p90, 900.0);
        near(summary.p99, 990.0);
        near(summary.p999, 999.0);
        near(summary.max, 1000.0);
    }

    #[test]
    fn stall_at_a_rate_counts_the_calls_it_kept_from_starting() {
        let mut plain = Latency::new();
        let mut corrected = Latency::new();
        for time in std::iter::repeat_n(ms(1), 99).chain([ms(1000)]) {
            plain.record(time);
            corrected.record_at_rate(time, ms(10));
        }
        assert_eq!(plain.count(), 100);
        // 1,000 ms at one call every 10 ms: 99 more that would have waited 990, 980, … 10 ms.
        assert_eq!(corrected.count(), 199);
        assert!(plain.summary().p90 < 2_000.0, "{:?}", plain.summary());
        assert!(
            corrected.summary().p90 > 700_000.0,
            "{:?}",
            corrected.summary()
        );
    }

    #[test]
    fn times_beyond_the_bounds_are_kept_at_the_bound() {
        let mut latency = Latency::new();
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(100_000));
        assert_eq!(latency.count(), 2);
        assert!(latency.summary().max >= 3.5e9, "{:?}", latency.summary());
    }

    #[test]
    fn sums_hold_both_parts() {
        let (mut left, mut right) = (Latency::new(), Latency::new());
        left.record(ms(1));
        right.record(ms(9));
        left.add(&right);
        assert_eq!(left.count(), 2);
    }
}
