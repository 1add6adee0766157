//! How long an idle shard polls before it sleeps.
//!
//! A sleep and its wake cost the client a system call and both sides a wake, a spin costs the core.
//! `auto` polls for about as long as a sleep would cost (`wake_cost.rs` measures it at the start):
//! that is never more than twice as dear as knowing when the next request comes. Where requests
//! keep coming just after that, it learns to poll longer: each sleep that a poll of at most 400 us
//! would have spared doubles the budget, each longer one halves it down to what was measured
//! (Linux's `halt_poll_ns` grows and shrinks alike). A copy of 1 MiB between two requests is such a
//! case: its client waited for a wake each time, and reached half of what it reaches now.
//!
//! It polls as long as the core is the shard's own, and stops when somebody else needs it: when the
//! thread, while it was awake, had lost the CPU by force often and for more than a fifth of the
//! time. On a shared core a spinning server was measured to make a same-core client 28 times
//! slower. Switches alone say too little (kernel threads and interrupts cause hundreds a second and
//! cost nothing), and so does time alone (a hypervisor takes some, and spinning less does not bring
//! it back).
//!
//! Lives on: owner shard.

use std::mem::MaybeUninit;

use crate::limits::{SPIN_AUTO_MAX_US, SPIN_AUTO_MIN_US, SPIN_MAX_US};

/// `--spin-us`: how long a shard polls after its last work before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpinSetting {
    /// From so long to 400 us while the core is the shard's own, not at all while contended.
    Auto {
        /// Microseconds, at most 400.
        spin_us: u32,
    },
    /// So many microseconds (at most 1,000), contended or not.
    Fixed {
        /// Microseconds; 0 never spins.
        spin_us: u32,
    },
}

impl Default for SpinSetting {
    fn default() -> Self {
        Self::Auto {
            spin_us: SPIN_AUTO_MIN_US,
        }
    }
}

/// The thread's use of its CPU is looked at once in so long.
const SAMPLE_NS: u64 = 100_000_000;
/// More involuntary switches than this in a sample may mean that the core is shared: kernel threads
/// and interrupts alone cause a few per second.
const SWITCHES_MAX: u64 = 5;
/// A shard that had the CPU for less than so many hundredths of its time awake shares it: one
/// competitor takes half, interrupts and a crowded hypervisor were seen to take a tenth.
const ON_CPU_MIN_PERCENT: u64 = 80;
/// A contended core is not spun on for so long after the first sign of contention: the birth of a
/// session competes for some milliseconds, and then no more.
const BACK_OFF_MIN_NS: u64 = SAMPLE_NS;
/// Each further sign doubles that up to here: a tenth of the time goes into samples of polling.
const BACK_OFF_MAX_NS: u64 = 1_000_000_000;

/// Decides, round by round, whether an idle shard polls on.
#[derive(Debug)]
pub(crate) struct SpinGovernor {
    /// How long is polled now, from `least_ns` to `most_ns`.
    budget_ns: u64,
    least_ns: u64,
    most_ns: u64,
    adaptive: bool,
    /// Slept since the last work.
    has_slept: bool,
    sampled_ns: u64,
    sampled: Usage,
    /// Time asleep since the last sample.
    slept_ns: u64,
    contended_until_ns: u64,
    /// 0 while the core is the shard's own.
    back_off_ns: u64,
}

/// What the kernel has counted about one thread since its start.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// How often it lost its CPU by force.
    switches: u64,
    /// How long it had one.
    cpu_ns: u64,
}

impl SpinGovernor {
    pub(crate) fn new(setting: SpinSetting) -> Self {
        let (least_us, most_us, adaptive) = match setting {
            SpinSetting::Auto { spin_us } => {
                (spin_us.min(SPIN_AUTO_MAX_US), SPIN_AUTO_MAX_US, true)
            },
            SpinSetting::Fixed { spin_us } => {
                let fixed = spin_us.min(SPIN_MAX_US);
                (fixed, fixed, false)
            },
        };
        let (least_ns, most_ns) = (u64::from(least_us) * 1000, u64::from(most_us) * 1000);
        Self {
            budget_ns: least_ns,
            least_ns,
            most_ns,
            adaptive,
            has_slept: false,
            sampled_ns: 0,
            sampled: Usage::default(),
            slept_ns: 0,
            contended_until_ns: 0,
            back_off_ns: 0,
        }
    }

    /// Says whether a shard whose last work was at `last_work_ns` polls on at `now_ns`.
    pub(crate) fn may_spin(&mut self, now_ns: u64, last_work_ns: u64) -> bool {
        if now_ns.saturating_sub(last_work_ns) >= self.budget_ns {
            return false;
        }
        if self.adaptive && now_ns.saturating_sub(self.sampled_ns) >= SAMPLE_NS {
            self.observe(now_ns, Usage::of_this_thread());
        }
        now_ns >= self.contended_until_ns
    }

    /// Takes note that the shard was asleep for so long.
    pub(crate) fn slept(&mut self, asleep_ns: u64) {
        self.slept_ns = self.slept_ns.saturating_add(asleep_ns);
        self.has_slept = true;
    }

    /// Takes note of work at `now_ns`, the last one before having been at `last_work_ns`: would a
    /// longer poll have met it awake?
    pub(crate) fn worked(&mut self, now_ns: u64, last_work_ns: u64) {
        if !std::mem::take(&mut self.has_slept) || !self.adaptive {
            return;
        }
        let gap_ns = now_ns.saturating_sub(last_work_ns);
        self.budget_ns = if gap_ns <= self.most_ns {
            (self.budget_ns * 2).min(self.most_ns)
        } else {
            (self.budget_ns / 2).max(self.least_ns)
        };
        debug_assert!(
            (self.least_ns..=self.most_ns).contains(&self.budget_ns),
            "grows and shrinks within its bounds"
        );
    }

    /// Takes one sample of what the thread used since its start.
    fn observe(&mut self, now_ns: u64, usage: Usage) {
        let first = self.sampled_ns == 0;
        let elapsed_ns = now_ns.saturating_sub(self.sampled_ns);
        // A long sleep between two samples stretches the allowance with it.
        let allowed = (SWITCHES_MAX * (elapsed_ns / SAMPLE_NS)).min(SWITCHES_MAX * 10);
        let is_pushed = usage.switches.saturating_sub(self.sampled.switches) > allowed;
        let awake_ns = elapsed_ns.saturating_sub(self.slept_ns);
        let on_cpu_ns = usage.cpu_ns.saturating_sub(self.sampled.cpu_ns);
        let is_short = on_cpu_ns < awake_ns / 100 * ON_CPU_MIN_PERCENT;
        if !first && is_pushed && is_short {
            self.back_off_ns = (self.back_off_ns * 2).clamp(BACK_OFF_MIN_NS, BACK_OFF_MAX_NS);
            self.contended_until_ns = now_ns + self.back_off_ns;
        } else if self.sampled_ns >= self.contended_until_ns {
            // A whole sample of polling without competition; one of a back-off says nothing.
            self.back_off_ns = 0;
        }
        self.sampled_ns = now_ns;
        self.sampled = usage;
        self.slept_ns = 0;
    }
}

impl Usage {
    fn of_this_thread() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: getrusage(2) asks for writable memory of one rusage: `usage`.
        let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
        assert_eq!(failed, 0, "RUSAGE_THREAD exists since Linux 2.6.26");
        // SAFETY: getrusage returned 0, so it has written the whole struct.
        let usage = unsafe { usage.assume_init() };
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: clock_gettime(2) asks for writable memory of one timespec: `time`.
        let failed =
            unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
        assert_eq!(failed, 0, "the clock of a thread exists since Linux 2.6.12");
        // SAFETY: clock_gettime returned 0, so it has written the whole struct.
        let time = unsafe { time.assume_init() };
        let unsigned = |count: i64| u64::try_from(count).expect("counts are never negative");
        Self {
            switches: unsigned(usage.ru_nivcsw),
            cpu_ns: unsigned(time.tv_sec) * 1_000_000_000 + unsigned(time.tv_nsec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn auto() -> SpinGovernor {
        SpinGovernor::new(SpinSetting::Auto { spin_us: 50 })
    }

    /// A sample in which the thread was awake for 100 ms and had the CPU for `on_cpu_ms` of them.
    fn sample(governor: &mut SpinGovernor, at_ms: u64, switches: u64, on_cpu_ms: u64) {
        let cpu_ns = governor.sampled.cpu_ns + on_cpu_ms * MS;
        governor.observe(at_ms * MS, Usage { switches, cpu_ns });
    }

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
        assert!(!governor.may_spin(u64::from(SPIN_MAX_US) * 1000, 0));
    }

    #[test]
    fn auto_stops_spinning_while_the_core_is_contended_and_comes_back() {
        let mut governor = auto();
        sample(&mut governor, 1000, 10, 0);
        sample(&mut governor, 1100, 200, 95);
        assert_eq!(
            governor.contended_until_ns, 0,
            "short interruptions are nobody's contention"
        );
        sample(&mut governor, 1200, 201, 40);
        assert_eq!(
            governor.contended_until_ns, 0,
            "time lost without a switch went to the hypervisor"
        );
        sample(&mut governor, 1300, 400, 50);
        assert!(!governor.may_spin(1301 * MS, 1301 * MS));
        governor.sampled_ns = 1400 * MS;
        assert!(governor.may_spin(1400 * MS, 1400 * MS));
    }

    #[test]
    fn lasting_contention_is_backed_off_from_longer_and_a_clean_sample_forgets_it() {
        let mut governor = auto();
        sample(&mut governor, 1000, 0, 0);
        let (mut at_ms, mut switches) = (1000, 0);
        let mut seen = Vec::new();
        for _ in 0..6 {
            at_ms += 100;
            switches += 200;
            sample(&mut governor, at_ms, switches, 50);
            seen.push(governor.back_off_ns / MS);
            // Nothing is polled meanwhile, so nobody is in the way: that is no reason to forget.
            at_ms += 100;
            sample(&mut governor, at_ms, switches, 100);
            assert_eq!(governor.back_off_ns / MS, *seen.last().unwrap());
            governor.sampled_ns = governor.contended_until_ns;
            at_ms = governor.contended_until_ns / MS;
        }
        assert_eq!(seen, [100, 200, 400, 800, 1000, 1000]);
        sample(&mut governor, at_ms + 100, switches, 100);
        assert_eq!(governor.back_off_ns, 0);
    }

    #[test]
    fn auto_polls_longer_where_that_spares_sleeps_and_shorter_where_it_does_not() {
        let mut governor = auto();
        let budget_us = |governor: &SpinGovernor| governor.budget_ns / 1000;
        // Work that a poll met: nothing to learn.
        governor.worked(1_040_000, 1_000_000);
        assert_eq!(budget_us(&governor), 50);
        let mut seen = Vec::new();
        for _ in 0..5 {
            governor.slept(80_000);
            governor.worked(1_130_000, 1_000_000);
            seen.push(budget_us(&governor));
        }
        assert_eq!(seen, [100, 200, 400, 400, 400]);
        assert!(governor.may_spin(1_399_999, 1_000_000));
        seen.clear();
        for _ in 0..4 {
            governor.slept(MS);
            governor.worked(1_400_001, 1_000_000);
            seen.push(budget_us(&governor));
        }
        assert_eq!(seen, [200, 100, 50, 50]);
    }

    #[test]
    fn a_fixed_spin_learns_nothing() {
        let mut governor = SpinGovernor::new(SpinSetting::Fixed { spin_us: 30 });
        governor.slept(80_000);
        governor.worked(1_130_000, 1_000_000);
        assert_eq!(governor.budget_ns, 30_000);
    }

    #[test]
    fn time_asleep_is_not_time_lost() {
        let mut governor = auto();
        sample(&mut governor, 1000, 10, 0);
        governor.slept(90 * MS);
        sample(&mut governor, 1100, 200, 9);
        assert_eq!(governor.contended_until_ns, 0);
        governor.slept(90 * MS);
        sample(&mut governor, 1200, 400, 4);
        assert!(governor.contended_until_ns > 0, "half of the 10 ms awake");
    }

    #[test]
    fn usage_of_this_thread_rises() {
        let before = Usage::of_this_thread();
        let mut sum = 0_u64;
        while Usage::of_this_thread().cpu_ns < before.cpu_ns + MS {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(Usage::of_this_thread().switches >= before.switches);
    }
}
