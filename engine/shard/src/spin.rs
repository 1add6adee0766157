//! How long an idle shard polls before it sleeps.
//!
//! A sleep and its wake cost 40 to 60 µs of latency, a spin costs the core. `auto` spins as long as
//! the core is the shard's own, and stops when the kernel takes the CPU away from it by force
//! (`ru_nivcsw` rises): then somebody else needs the core, and on a shared core a spinning server
//! was measured to make a same-core client 28 times slower. Lives on: owner shard.

use std::mem::MaybeUninit;

use crate::limits::{SPIN_AUTO_US, SPIN_MAX_US};

/// `--spin-us`: how long a shard polls after its last work before it sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpinSetting {
    /// 50 µs while the core is the shard's own, none while it is contended.
    #[default]
    Auto,
    /// So many microseconds (at most 100), contended or not.
    Fixed {
        /// Microseconds; 0 never spins.
        spin_us: u32,
    },
}

/// The involuntary switches are looked at once in so long.
const SAMPLE_NS: u64 = 100_000_000;
/// More involuntary switches than this in a sample mean that the core is shared: kernel threads and
/// interrupts alone cause a few per second.
const SWITCHES_MAX: u64 = 5;
/// A contended core is not spun on for so long after the last sign of contention.
const BACK_OFF_NS: u64 = 1_000_000_000;

/// Decides, round by round, whether an idle shard polls on.
#[derive(Debug)]
pub(crate) struct SpinGovernor {
    budget_ns: u64,
    adaptive: bool,
    sampled_ns: u64,
    switches: u64,
    contended_until_ns: u64,
}

impl SpinGovernor {
    pub(crate) fn new(setting: SpinSetting) -> Self {
        let (budget_us, adaptive) = match setting {
            SpinSetting::Auto => (SPIN_AUTO_US, true),
            SpinSetting::Fixed { spin_us } => (u64::from(spin_us).min(SPIN_MAX_US), false),
        };
        Self {
            budget_ns: budget_us * 1000,
            adaptive,
            sampled_ns: 0,
            switches: 0,
            contended_until_ns: 0,
        }
    }

    /// Says whether a shard whose last work was at `last_work_ns` polls on at `now_ns`.
    pub(crate) fn may_spin(&mut self, now_ns: u64, last_work_ns: u64) -> bool {
        if now_ns.saturating_sub(last_work_ns) >= self.budget_ns {
            return false;
        }
        if self.adaptive && now_ns.saturating_sub(self.sampled_ns) >= SAMPLE_NS {
            self.observe(now_ns, involuntary_switches());
        }
        now_ns >= self.contended_until_ns
    }

    /// Takes one sample of the thread's involuntary switches since its start.
    fn observe(&mut self, now_ns: u64, switches: u64) {
        let first = self.sampled_ns == 0;
        let elapsed_ns = now_ns.saturating_sub(self.sampled_ns);
        // A long sleep between two samples stretches the allowance with it.
        let allowed = (SWITCHES_MAX * (elapsed_ns / SAMPLE_NS)).min(SWITCHES_MAX * 10);
        if !first && switches.saturating_sub(self.switches) > allowed {
            self.contended_until_ns = now_ns + BACK_OFF_NS;
        }
        self.sampled_ns = now_ns;
        self.switches = switches;
    }
}

/// Returns how often the calling thread has lost its CPU by force.
fn involuntary_switches() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage(2) asks for writable memory of one rusage: `usage`.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    assert_eq!(failed, 0, "RUSAGE_THREAD exists since Linux 2.6.26");
    // SAFETY: getrusage returned 0, so it has written the whole struct.
    let usage = unsafe { usage.assume_init() };
    u64::try_from(usage.ru_nivcsw).expect("counts are never negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn fixed_spins_for_its_budget_and_not_longer() {
        let mut governor = SpinGovernor::new(SpinSetting::Fixed { spin_us: 30 });
        assert!(governor.may_spin(1_029_999, 1_000_000));
        assert!(!governor.may_spin(1_030_000, 1_000_000));
        assert!(!SpinGovernor::new(SpinSetting::Fixed { spin_us: 0 }).may_spin(5, 5));
    }

    #[test]
    fn fixed_is_capped_at_the_longest_spin() {
        let mut governor = SpinGovernor::new(SpinSetting::Fixed { spin_us: 1_000_000 });
        assert!(!governor.may_spin(SPIN_MAX_US * 1000, 0));
    }

    #[test]
    fn auto_stops_spinning_while_the_core_is_contended_and_comes_back() {
        let mut governor = SpinGovernor::new(SpinSetting::Auto);
        governor.observe(1000 * MS, 10);
        governor.observe(1100 * MS, 11);
        assert_eq!(
            governor.contended_until_ns, 0,
            "a few switches are nobody's contention"
        );
        governor.observe(1200 * MS, 200);
        governor.sampled_ns = 1201 * MS;
        assert!(!governor.may_spin(1201 * MS, 1201 * MS));
        governor.sampled_ns = 2300 * MS;
        assert!(governor.may_spin(2300 * MS, 2300 * MS));
    }
}
