//! The binary chariot-bench; see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    chariot_bench::run(std::env::args_os())
}
