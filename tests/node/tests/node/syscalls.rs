//! Reads that hit cost no system call: what strace hears between two marks.

use std::path::Path;
use std::process::{Command, Stdio};

use chariot_tests_node::daemon::Daemon;

/// The system calls of the steady client between its marks, or `None` where processes cannot be
/// traced.
fn calls_between_marks(daemon: &Daemon, what: &str, rounds: u32) -> Option<Vec<String>> {
    let trace = daemon.directory().join(format!("trace-{what}"));
    if !can_trace(&trace) {
        return None;
    }
    let status = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=all", "-e", "signal=none", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_chariot-steady"))
        .arg(daemon.socket())
        .args([what, &rounds.to_string()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{what}: {status:?}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    let is_mark = |line: &&str, mark: &str| line.contains(&format!("write(1, \"{mark}\""));
    let lines = trace.lines().skip_while(|line| !is_mark(line, "begin"));
    let between: Vec<String> = lines
        .skip(1)
        .take_while(|line| !is_mark(line, "end"))
        .map(str::to_owned)
        .collect();
    let has_ended = trace.lines().any(|line| is_mark(&line, "end"));
    assert!(has_ended, "both marks are in the trace");
    Some(between)
}

fn can_trace(trace: &Path) -> bool {
    let probe = Command::new("strace")
        .arg("-o")
        .arg(trace)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED: strace is not installed, or this machine does not let it trace");
    }
    can
}

#[test]
fn steady_reads_of_every_kind_make_no_system_call() {
    let daemon = Daemon::start();
    for (what, rounds) in [("get", 10_000), ("view", 10_000), ("exist", 1_000)] {
        let Some(calls) = calls_between_marks(&daemon, what, rounds) else {
            return;
        };
        assert!(calls.is_empty(), "{what}: {calls:?}");
    }
}

#[test]
fn the_checker_sees_a_system_call() {
    let daemon = Daemon::start();
    if let Some(calls) = calls_between_marks(&daemon, "yield", 20) {
        let yields = calls.iter().filter(|call| call.contains("sched_yield"));
        assert_eq!(yields.count(), 20);
    }
}
