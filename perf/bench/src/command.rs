//! From arguments to an exit status: 0 done, 1 wrong bytes or errors, 2 refused or failed.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::{device, kv, limits, replay, ssd};

/// How a run that came to its end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to complain about.
    Clean,
    /// The report says what: errors, or bytes that were wrong.
    Flawed,
}

/// Runs the tool with the arguments of a process, its name included.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // Help and refusals: clap knows which stream each belongs to.
        Err(answer) => {
            let refused = answer.use_stderr();
            if answer.print().is_err() || refused {
                return ExitCode::from(2);
            }
            return ExitCode::SUCCESS;
        },
    };
    let outcome = match &cli.command {
        Command::Kv(args) => kv::command(args),
        Command::Replay(args) => replay::command(args),
        Command::Limits(args) => limits::command(args),
        Command::Device(args) => device::command(args),
        Command::Ssd(args) => ssd::command(args),
    };
    match outcome {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Flawed) => ExitCode::from(1),
        Err(failure) => {
            note(&format!("chariot-bench: {failure}"));
            ExitCode::from(2)
        },
    }
}

/// Writes a report to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    written.map_err(|error| {
        Failure::new(
            format!("cannot write the report ({error})"),
            "check standard output",
        )
    })
}

/// Writes a line to standard error; if even that fails, there is nobody to tell.
pub(crate) fn note(text: &str) {
    let written = writeln!(io::stderr().lock(), "{text}");
    drop(written);
}

/// A progress bar on standard error, drawn only when a terminal watches.
pub(crate) fn progress(what: &'static str, length: u64) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let style = ProgressStyle::with_template("{msg:8} [{bar:40}] {percent:>3} % {eta:>4} left");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}

/// Serialises a report as one JSON line.
pub(crate) fn json_line(report: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(report).map_err(|error| {
        Failure::new(
            format!("cannot write the report as JSON ({error})"),
            "report this as a bug",
        )
    })
}

/// Checks a number of seconds.
pub(crate) fn seconds(value: f64) -> Result<std::time::Duration, Failure> {
    const LONGEST: f64 = 86_400.0;
    if value.is_finite() && value > 0.0 && value <= LONGEST {
        return Ok(std::time::Duration::from_secs_f64(value));
    }
    let cause = format!("--seconds {value} is no duration");
    Err(Failure::new(
        cause,
        format!("give more than 0 and at most {LONGEST}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_without_sense_are_refused() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(
                seconds(value)
                    .unwrap_err()
                    .to_string()
                    .contains("--seconds"),
                "{value}"
            );
        }
        assert_eq!(seconds(0.25).unwrap().as_millis(), 250);
    }

    #[test]
    fn progress_is_hidden_where_no_terminal_watches() {
        // Standard error of a test is a terminal only for a person who asked for it.
        assert_eq!(
            progress("testing", 10).is_hidden(),
            !io::stderr().is_terminal()
        );
    }
}
