//! Running daemons of this host, found by their command lines, and waited for by their pidfds.
//!
//! A pid is held by its pidfd before its command line is read, so that no other process that got
//! the number meanwhile is mistaken for it or sent a signal.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::CliError;

/// Where a node listens unless it is told another address.
const LISTEN: &str = "127.0.0.1:31501";

/// A daemon.
#[derive(Debug)]
pub(crate) struct Node {
    pub pid: i32,
    /// Its arguments, the program's name first.
    pub arguments: Vec<String>,
    handle: OwnedFd,
}

/// Finds the daemon that listens on `address`, or is called by it.
pub(crate) fn find(address: &str) -> Option<Node> {
    let called = |node: &Node| node.option("--advertise") == Some(address);
    all()
        .into_iter()
        .find(|node| node.address() == address || called(node))
}

/// All daemons whose command lines this user may read.
pub(crate) fn all() -> Vec<Node> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(node_of)
        .collect()
}

fn node_of(pid: i32) -> Option<Node> {
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments: Vec<String> = line
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let program = arguments.first()?.rsplit('/').next()?;
    (program == "chariotd").then_some(Node {
        pid,
        arguments,
        handle,
    })
}

/// The value of an option, given as the next word or behind `=`.
fn option_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(at, word)| {
        let rest = word.strip_prefix(name)?;
        if rest.is_empty() {
            return arguments.get(at + 1).map(String::as_str);
        }
        rest.strip_prefix('=')
    })
}

impl Node {
    /// The value of an option on its command line.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        option_of(&self.arguments, name)
    }

    /// Where it listens, as far as its command line says.
    pub(crate) fn address(&self) -> &str {
        self.option("--listen").unwrap_or(LISTEN)
    }

    /// Sends a signal; a process that is gone already has what it should get.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), CliError> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(CliError::kernel("signal the node")(error)),
        }
    }

    /// Waits for the end of the process; says whether it came in time.
    pub(crate) fn ended_within(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            });
            let mut watched = [PollFd::new(&self.handle, PollFlags::IN)];
            match poll(&mut watched, Some(&timeout)) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(_) => {},
                Ok(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_both_spellings() {
        let words = [
            "chariotd",
            "--listen-none",
            "1",
            "--listen=a:1",
            "--cores",
            "0",
        ];
        let words: Vec<String> = words.map(str::to_owned).into();
        assert_eq!(option_of(&words, "--listen"), Some("a:1"));
        assert_eq!(option_of(&words, "--cores"), Some("0"));
        assert_eq!(option_of(&words, "--admin"), None);
        let default = chariotd::settings::find("listen").unwrap().default;
        assert_eq!(default, LISTEN);
    }

    #[test]
    fn other_programs_are_no_nodes() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(node_of(me).is_none());
        assert!(find("127.0.0.1:1").is_none(), "nobody listens there");
    }
}
