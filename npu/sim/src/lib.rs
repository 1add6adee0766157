//! A simulated CANN: `libascendcl.so` and `libhccl.so` with the real symbols and the real rules.
//!
//! The product does not know it: only the library path differs. [`install()`] puts one shared
//! object under all names into a directory, which `ASCEND_RT_LIB_DIR` then names. The rules are
//! those of section 5.2 of the device facts; each is tested by a planted bug that it finds
//! (`tests/`).
//!
//! ```text
//! export/*   the C symbols: arguments, faults on order, panics -> codes
//!   state    tables of this process under one lock: contexts, streams, events, host ranges
//!   stream   one thread a stream, tasks in order          transfer   what a copy may do, and costs
//!   memory   a card's addresses and the bytes behind      link, clock   model time
//!   numa     nodes of host memory and of cards
//!   hccl/*   communicators, pairs, who waits for whom     board   what processes of a host share
//! ```
//! Settings are environment variables, listed in `config.rs`; faults in `fault.rs`. Figures of the
//! link model show what merging saves. They are never a device's performance.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a C interface with signed sizes and addresses as numbers; 64-bit targets alone"
)]
#![expect(
    clippy::map_err_ignore,
    reason = "the C interface has codes, which hold no cause"
)]
#![expect(
    clippy::or_fun_call,
    clippy::let_underscore_must_use,
    clippy::struct_excessive_bools,
    clippy::fn_params_excessive_bools,
    reason = "settings and reads of settings; files that may be gone already"
)]

mod audit;
mod board;
mod clock;
mod config;
mod export;
mod fault;
mod hccl;
mod install;
mod link;
mod memory;
mod numa;
mod state;
mod stream;
mod transfer;

pub use install::{Profile, install};

/// A status code of either interface; never 0.
pub(crate) type Code = i32;

/// Says something to whoever runs the test.
#[expect(
    clippy::print_stderr,
    reason = "a stand-in library has no other channel"
)]
pub(crate) fn log(text: &str) {
    eprintln!("ascend-sim: {text}");
}

/// Counts an occurrence that `asim_count` reads.
pub(crate) fn count(name: &'static str) {
    audit::count(name, 1);
}
