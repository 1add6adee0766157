//! Symbols that no CANN has, for tests that know what they load.

use std::ffi::c_char;

use crate::{audit, clock, fault, state};

/// Takes a list of faults. Answers 0, or 1 when it is not understood.
#[unsafe(no_mangle)]
extern "C" fn asim_fault(list: *const c_char) -> i32 {
    let understood = super::text(list).is_ok_and(|list| fault::order(&list));
    i32::from(!understood)
}

/// Reads a counter; 0 for one that nobody counted.
#[unsafe(no_mangle)]
extern "C" fn asim_count(name: *const c_char) -> u64 {
    super::text(name).map_or(0, |name| audit::counted(&name))
}

/// How many kinds of things are not given back at this moment.
#[unsafe(no_mangle)]
extern "C" fn asim_leaks() -> u64 {
    audit::leaks(&state::lock()).lines().count() as u64
}

/// The calling thread's time of the model, in nanoseconds.
#[unsafe(no_mangle)]
extern "C" fn asim_now() -> u64 {
    clock::now()
}
