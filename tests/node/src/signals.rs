//! Signals to processes by id, through one long-lived shell: its built-in `kill` starts no process.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A shell that sends signals.
#[derive(Debug)]
pub struct Signals {
    shell: Child,
    input: Option<ChildStdin>,
}

impl Signals {
    /// Starts the shell.
    pub fn start() -> Self {
        let mut shell = Command::new("sh").stdin(Stdio::piped()).spawn().unwrap();
        let input = shell.stdin.take();
        Self { shell, input }
    }

    /// Sends the signal called `name` (such as `STOP`) to a process. It is on its way when this
    /// returns, not yet delivered.
    pub fn send(&mut self, process: u32, name: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "kill -s {name} {process}").unwrap();
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // The end of its input ends the shell, after all that was written.
        drop(self.input.take());
        drop(self.shell.wait());
    }
}

/// Sends one signal and waits until it was sent.
pub fn send(process: u32, name: &str) {
    let mut signals = Signals::start();
    signals.send(process, name);
}

/// The state letter of a process, as in `/proc/PID/stat`; `None` when it is gone.
pub fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
