//! Objects of device memory through a real daemon: bytes, outcomes, ways, faults, leaks.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an integration test is a test module"
)]

mod faults;
mod process;
mod random;
mod rig;
mod semantics;
mod ways;
