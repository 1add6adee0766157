//! What it costs on this machine that a shard sleeps: measured at the start, for `--spin-us auto`.
//!
//! A thread on the shard's CPU sleeps on a futex until its CPU is idle; another one wakes it and
//! both look at the clock. Hardware wakes an idle core in a few microseconds, a hypervisor that
//! runs the virtual CPU as a thread of its own in tens to hundreds. Runs on: the starting thread,
//! before the shards exist.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::{SPIN_AUTO_MAX_US, SPIN_AUTO_MIN_US};

/// Wakes that are measured; the median counts. With the rests between them about 5 ms.
const ROUNDS: usize = 15;
/// How long the sleeper is left alone, so that its CPU goes idle as a shard's does.
const REST: Duration = Duration::from_micros(200);
/// A sleeper that takes so long says that the CPU is busy: then the bound holds anyway.
const PATIENCE: Duration = Duration::from_millis(20);

/// Measures how long a shard on CPU `cpu` should poll before it sleeps, in microseconds: what the
/// two wakes of a request cost that finds it asleep (its own and, since the client then sleeps as
/// well, the client's), from 50 to 400. Takes 5 to 50 ms; any thread.
///
/// Polling for as long as the sleep would cost is the deterministic answer to the ski-rental
/// problem (Karlin and others, "Competitive snoopy caching", 1988): at most twice the optimum.
pub fn measure_spin_us(cpu: Option<usize>) -> u32 {
    let wake = median_wake(cpu).unwrap_or(Duration::ZERO);
    let both_us = u32::try_from(2 * wake.as_micros()).unwrap_or(u32::MAX);
    both_us.clamp(SPIN_AUTO_MIN_US, SPIN_AUTO_MAX_US)
}

fn median_wake(cpu: Option<usize>) -> Option<Duration> {
    let (tell, told) = sync_channel::<Instant>(1);
    let is_resting = AtomicBool::new(false);
    let is_done = AtomicBool::new(false);
    let mut wakes = Vec::with_capacity(ROUNDS);
    thread::scope(|scope| {
        let sleep = || sleep_and_tell(cpu, &is_resting, &is_done, &tell);
        let name = "chariot-wake".to_owned();
        let sleeper = thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, sleep)
            .ok()?;
        for _ in 0..ROUNDS {
            let since = Instant::now();
            while !is_resting.swap(false, Ordering::AcqRel) && since.elapsed() < PATIENCE {
                thread::yield_now();
            }
            // Nothing comes yet: this is the rest.
            let _early = told.recv_timeout(REST);
            let rung = Instant::now();
            sleeper.thread().unpark();
            if let Ok(awake) = told.recv_timeout(PATIENCE) {
                wakes.push(awake.saturating_duration_since(rung));
            }
        }
        is_done.store(true, Ordering::Release);
        drop(told);
        sleeper.thread().unpark();
        Some(())
    })?;
    wakes.sort_unstable();
    wakes.get(wakes.len() / 2).copied()
}

fn sleep_and_tell(
    cpu: Option<usize>,
    is_resting: &AtomicBool,
    is_done: &AtomicBool,
    tell: &SyncSender<Instant>,
) {
    if let Some(cpu) = cpu {
        pin(cpu);
    }
    while !is_done.load(Ordering::Acquire) {
        is_resting.store(true, Ordering::Release);
        // Any wake will do: one without reason makes one sample too short.
        thread::park();
        if tell.send(Instant::now()).is_err() {
            return;
        }
    }
}

/// Pins the calling thread; where that is refused the figure is that of another CPU.
fn pin(cpu: usize) {
    if cpu >= libc::CPU_SETSIZE.cast_unsigned() as usize {
        return;
    }
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all zeroes is a valid, empty set.
    let set = unsafe { set.assume_init_mut() };
    // SAFETY: `cpu` is below CPU_SETSIZE, checked above.
    unsafe { libc::CPU_SET(cpu, set) };
    // SAFETY: `set` is live and as long as said; 0 names the calling thread.
    let _refused = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_is_measured_and_bounded() {
        let wake = median_wake(None).unwrap();
        assert!(wake > Duration::ZERO, "a wake takes time");
        let spin_us = measure_spin_us(Some(0));
        assert!((SPIN_AUTO_MIN_US..=SPIN_AUTO_MAX_US).contains(&spin_us));
    }

    #[test]
    fn cpu_that_does_not_exist_is_no_failure() {
        assert!(measure_spin_us(Some(usize::MAX)) >= SPIN_AUTO_MIN_US);
    }
}
