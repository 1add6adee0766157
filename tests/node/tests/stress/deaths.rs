//! A killed daemon is not believed: a client that reads one key without end, and one that does so
//! without a look at the life word.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use chariot_tests_node::board::Board;
use chariot_tests_node::daemon::{Daemon, stress_mutant};
use chariot_tests_node::stress::{DEAD, HITS, MISSES};
use chariot_tests_node::wait;

/// Reads that miss before a survivor is believed to be right.
const ENOUGH: u64 = 20;

/// Kills the daemon under a reader and answers how that one ended.
fn outlive(program: &Path, variables: &[(&str, &str)]) -> Output {
    let mut daemon = Daemon::start();
    let path = daemon.directory().join("board");
    let board = Board::open(&path).unwrap();
    let mut child: Child = Command::new(program)
        .arg("survivor")
        .arg(daemon.socket())
        .arg(&path)
        .arg("1")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait::until("it reads", || board.count(HITS) >= ENOUGH);
    daemon.kill();
    board.set_run(DEAD);
    wait::until("it notices, or is found out", || {
        board.count(MISSES) >= ENOUGH || child.try_wait().unwrap().is_some()
    });
    board.end();
    child.wait_with_output().unwrap()
}

#[test]
fn a_killed_daemon_serves_nothing_more() {
    let output = outlive(Path::new(env!("CARGO_BIN_EXE_chariot-stress")), &[]);
    assert!(output.status.success(), "{output:?}");
}

/// The proof that the test above can fail.
#[test]
fn without_the_life_word_a_dead_daemon_is_believed() {
    let output = outlive(stress_mutant(), &[("CHARIOT_SWITCH", "skip-life")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("DEAD"), "{output:?}");
}
