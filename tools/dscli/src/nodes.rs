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

/// A daemon.
#[derive(Debug)]
pub(crate) struct Node {
    pub pid: i32,
    /// Its arguments, the program's name first.
    pub arguments: Vec<String>,
    handle: OwnedFd,
}

/// Finds the daemon that listens on `address`.
pub(crate) fn find(address: &str) -> Option<Node> {
    all()
        .into_iter()
        .find(|node| node.option("--listen") == Some(address))
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

impl Node {
    /// The value of an option on its command line.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        let at = self.arguments.iter().position(|word| word == name)?;
        self.arguments.get(at + 1).map(String::as_str)
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
    fn other_programs_are_no_nodes() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(node_of(me).is_none());
        assert!(find("127.0.0.1:1").is_none(), "nobody listens there");
    }
}
