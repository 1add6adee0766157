//! What the black-box tests of one node stand on: a real daemon, client processes, raw sessions.
//!
//! Every test starts its own `chariotd` (built once per run by the same cargo, in the same target
//! directory and profile) on ports that the kernel chose, in a directory that is removed at the
//! end, and ends it by its process id. Nothing here sleeps to synchronise: [`wait::until`] polls a
//! condition against a deadline. `tests/README.md` says what each test asserts.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "the support of tests: whatever fails here fails the test, at the line that says so"
)]

pub mod board;
pub mod daemon;
pub mod ledger;
pub mod metrics;
pub mod pattern;
pub mod probe;
pub mod random;
pub mod raw;
pub mod signals;
pub mod stress;
pub mod volumes;
pub mod wait;
