//! At least nine tenths of the memory stay useful under a churn of 4 KiB to 28 MiB objects.
//!
//! Smoke size; `cargo run --release --example churn` prints the figures of the full one.

#[path = "support/churn.rs"]
mod churn;

#[cfg(test)]
mod tests {
    use super::churn::{Churn, Eviction};

    #[test]
    fn one_shard_of_two_gibibytes_stays_nine_tenths_useful() {
        let mut churn = Churn::new(1, 32, Eviction::Neighbours, 1);
        let report = churn.run(3000, 3000);
        assert!(report.useful_mean >= 0.95, "{report:?}");
        assert!(report.useful_min >= 0.90, "{report:?}");
        assert!(
            (report.evicted_per_allocated - 1.0).abs() < 0.1,
            "steady: {report:?}"
        );
        assert!(report.metadata < 0.002, "{report:?}");
        assert!(report.young_share < 0.25, "{report:?}");
    }

    #[test]
    fn sixteen_shards_of_two_granules_stay_nine_tenths_useful() {
        let mut churn = Churn::new(16, 2, Eviction::Neighbours, 2);
        let report = churn.run(3000, 3000);
        assert!(report.useful_mean >= 0.93, "{report:?}");
        assert!(report.useful_min >= 0.90, "{report:?}");
        assert!(
            (report.evicted_per_allocated - 1.0).abs() < 0.1,
            "steady: {report:?}"
        );
        assert!(report.metadata < 0.002, "{report:?}");
        assert!(report.young_share < 0.25, "{report:?}");
    }

    #[test]
    fn eviction_by_age_alone_does_not_keep_nine_tenths() {
        let mut churn = Churn::new(16, 2, Eviction::Fifo, 3);
        let report = churn.run(3000, 1000);
        assert!(
            report.useful_mean < 0.90,
            "the comparison that asks for neighbours: {report:?}"
        );
    }
}
