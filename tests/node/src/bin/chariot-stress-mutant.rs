//! A client of the stress test, on an SDK that leaves out the step that `CHARIOT_SWITCH` names:
//! the proof that the test can fail. Built by the test itself, with the feature `testing`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    chariot_tests_node::stress::main()
}
