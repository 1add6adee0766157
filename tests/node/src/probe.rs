//! A client process under a test's control: `src/bin/chariot-probe.rs` says what it obeys.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::signals;

/// A client process; killed on drop.
#[derive(Debug)]
pub struct Probe {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Probe {
    /// Starts `program` (the test's `CARGO_BIN_EXE_chariot-probe`) on a socket and waits for its
    /// session; panics when that is refused.
    #[track_caller]
    pub fn start(program: &str, socket: &Path) -> Self {
        let (probe, answer) = Self::try_start(program.as_ref(), socket, &[], None);
        assert_eq!(answer, "ok");
        probe
    }

    /// Starts `program`, with credentials and as another user if given; answers what became of its
    /// session.
    pub fn try_start(
        program: &Path,
        socket: &Path,
        credentials: &[&str],
        uid: Option<u32>,
    ) -> (Self, String) {
        let mut command = Command::new(program);
        command
            .arg(socket)
            .args(credentials)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid).current_dir("/");
        }
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut probe = Self { child, answers };
        let answer = probe.answer();
        (probe, answer)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives a command and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Gives a command.
    pub fn tell(&mut self, command: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{command}").unwrap();
    }

    /// Waits for an answer; empty when the process has ended.
    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Kills it, whatever it is doing, and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it, and waits until all of it stands still.
    pub fn stop(&self) {
        signals::send(self.pid(), "STOP");
        crate::wait::until("the client stands still", || {
            signals::state(self.pid()) == Some('T')
        });
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        signals::send(self.pid(), "CONT");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
