//! Model time: real and scaled, or virtual.
//!
//! All times are nanoseconds of the model. With the real clock they are the kernel's monotonic time
//! divided by the scale, the same in all processes of the host, and whoever is early waits. With
//! the virtual clock each thread and each stream carries its own time; waiting for one another
//! takes the later of both, as messages between clocks do, and nobody ever sleeps.

use std::cell::Cell;

use crate::config::config;

thread_local! {
    /// This thread's time under the virtual clock; under the real one, until when it owes work.
    static OWN: Cell<u64> = const { Cell::new(0) };
}

/// Below this the wait is spun: a sleep is late by about as much.
const SPIN_NS: u64 = 60_000;

fn kernel_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists on every Linux, and the answer goes to a local.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert!(code == 0, "the monotonic clock is always there");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The calling thread's time.
pub(crate) fn now() -> u64 {
    if config().real {
        kernel_ns() / config().scale
    } else {
        OWN.get()
    }
}

/// The calling thread has learnt of something that happened at `time`.
pub(crate) fn reach(time: u64) {
    if !config().real {
        OWN.set(OWN.get().max(time));
    }
}

/// The calling thread works for `cost`.
pub(crate) fn charge(cost: u64) {
    if config().real {
        let until = now() + cost;
        wait_until(until);
    } else {
        OWN.set(OWN.get() + cost);
    }
}

/// Waits until the model's `time` has come; at once under the virtual clock.
pub(crate) fn wait_until(time: u64) {
    if !config().real {
        return;
    }
    let until = time * config().scale;
    loop {
        let left = until.saturating_sub(kernel_ns());
        if left == 0 {
            return;
        }
        if left > SPIN_NS {
            pause(left - SPIN_NS / 2);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Sleeps for `ns` of the kernel's time: the model's own waiting, never a synchronisation.
pub(crate) fn pause(ns: u64) {
    let time = libc::timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    };
    // SAFETY: both pointers are to nothing or to a local; an early end by a signal is harmless.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}
