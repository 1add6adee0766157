//! `dscli`: starts and stops nodes with the flags of chariot-ds 0.1.6 and its successors, shows the
//! members of a cluster, and writes configurations.
//!
//! Exit status: 0 done, 1 failed. `[INFO]` and `[WARNING]` go to stdout, `[ERROR]` to stderr.
//! Reading order: `arguments.rs` (the command line), `flags.rs` (every flag of a worker),
//! `mapping.rs` (flags to settings of `chariotd`), `start.rs`, `stop.rs`, `status.rs`,
//! `generate.rs`, `nodes.rs` (running daemons, found by their command lines).
#![forbid(unsafe_code)]

mod arguments;
mod error;
mod flags;
mod generate;
mod mapping;
mod nodes;
mod start;
mod status;
mod stop;

use std::io::Write as _;
use std::process::ExitCode;

use crate::arguments::Command;
use crate::error::CliError;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect();
    match arguments::parse(arguments).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error.to_string());
            ExitCode::FAILURE
        },
    }
}

fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Text(text) => {
            say(&text);
            Ok(())
        },
        Command::Start(order) => start::run(&order),
        Command::Stop(order) => stop::run(&order),
        Command::Status(order) => status::run(&order),
        Command::GenerateConfig { directory } => generate::run(&directory),
        Command::NotYet { name, why } => Err(CliError::NotYet { name, why }),
    }
}

/// Writes one line to stdout; a reader that has gone away is no failure of ours.
fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

fn say_info(text: &str) {
    say(&format!("[INFO] {text}"));
}

fn say_warning(text: &str) {
    say(&format!("[WARNING] {text}"));
}

fn say_error(text: &str) {
    drop(writeln!(std::io::stderr(), "[ERROR] {text}"));
}
