//! The rules of the simulator, each by a planted bug that it has to find. Which tests are of which
//! rule says `table.rs`, which is compared with what there is.
//!
//! A rule runs in a process of its own (the test runs itself again), with a directory of its own,
//! since a runtime is initialised once a process. Rules that need several processes start more of
//! them.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::exit,
    clippy::infinite_loop,
    clippy::print_stdout,
    clippy::semicolon_if_nothing_returned,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "an integration test is a test module; lengths here are small"
)]

#[macro_use]
mod support;

mod comms;
mod copies;
mod devices;
mod faults;
mod memory;
mod numa;
mod peers;
mod streams;
mod table;
