//! A client of the stress test, on the product's SDK: `stress.rs` says what it does.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    chariot_tests_node::stress::main()
}
