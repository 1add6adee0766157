//! Every command of the real program; those that need a daemon run when `CHARIOTD` names one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_chariot-bench");
/// Longest time until a daemon answers.
const PATIENCE: Duration = Duration::from_secs(20);

fn bench(words: &[&str]) -> Output {
    Command::new(BENCH)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{:?}\n{text}\n{errors}",
        output.status
    );
    assert_eq!(text.lines().count(), 1, "one object a line: {text}");
    serde_json::from_str(&text).unwrap()
}

/// A daemon of our own, ended with its owner.
struct Daemon {
    child: Child,
    listen: String,
    admin: String,
    directory: tempfile::TempDir,
}

impl Daemon {
    /// Starts the daemon that the environment names; `None`, visibly, without one.
    fn start(test: &str) -> Option<Self> {
        let Some(program) = std::env::var_os("CHARIOTD") else {
            let mut err = std::io::stderr().lock();
            writeln!(
                err,
                "SKIPPED {test}: set CHARIOTD to the path of a chariotd"
            )
            .unwrap();
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("chariot.sock");
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let (listen, admin) = (free_address(), free_address());
        let child = Command::new(PathBuf::from(program))
            .args(["--memory", "256MiB", "--cores", "0"])
            .args(["--listen", &listen, "--admin", &admin])
            .args(["--socket", &path_text(&socket)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self {
            child,
            listen,
            admin,
            directory,
        };
        daemon.wait_ready();
        Some(daemon)
    }

    fn socket(&self) -> String {
        path_text(&self.directory.path().join("chariot.sock"))
    }

    /// Asks with the program itself until it gets an answer.
    fn wait_ready(&mut self) {
        let start = Instant::now();
        let socket = self.socket();
        loop {
            let ask = [
                "kv", "--socket", &socket, "--op", "set", "--size", "64B", "--keys", "1",
            ];
            let output = bench(&[&ask[..], &["--seconds", "0.01", "--json"]].concat());
            if output.status.success() {
                return;
            }
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(
                self.child.try_wait().unwrap(),
                None,
                "the daemon ended: {log}"
            );
            assert!(start.elapsed() < PATIENCE, "no answer: {errors}\n{log}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let (killed, waited) = (self.child.kill(), self.child.wait());
        drop((killed, waited));
    }
}

/// An address that nobody listened on just now: clients must know it, so port 0 is none.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The objects that a device run prints, one a line.
fn device_lines(words: &[&str]) -> Vec<Value> {
    let small = [
        "--json",
        "--threads",
        "2",
        "--keys",
        "1,3",
        "--seconds",
        "0.01",
    ];
    let output = bench(&[&["device"], words, &small].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let simulated = words.contains(&"--simulated");
    assert_eq!(errors.contains("SIMULATED"), simulated, "{errors}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3 * 2 * 2, "shapes, directions, keys");
    for line in &lines {
        assert_eq!(line["bench"], "device");
        assert_eq!(line["simulated"], simulated);
        assert!(line["bytes_per_s"].as_f64().unwrap() > 0.0, "{line}");
        assert!(line["ratio_to_peak"].as_f64().unwrap() > 0.0, "{line}");
    }
    lines
}

#[test]
fn device_moves_on_the_host_backend() {
    let lines = device_lines(&["--backend", "host"]);
    assert!(lines.iter().all(|line| line["backend"] == "host"));
    let blobs: Vec<_> = lines
        .iter()
        .map(|line| line["blobs"].as_u64().unwrap())
        .collect();
    assert_eq!((blobs[0], blobs[4], blobs[8]), (62, 61, 28));
}

#[test]
fn device_moves_on_the_simulated_card_and_says_so() {
    let words = [
        "--backend",
        "ascend",
        "--simulated",
        "--preset",
        "a3",
        "--slower",
        "2",
    ];
    let lines = device_lines(&words);
    assert!(lines.iter().all(|line| line["backend"] == "ascend"));
}

#[test]
fn device_refuses_to_simulate_what_is_no_cann() {
    let output = bench(&["device", "--backend", "host", "--simulated"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("--backend ascend"), "{errors}");
}

#[test]
fn absent_daemon_is_one_line_that_says_how_to_start_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = path_text(&directory.path().join("nobody.sock"));
    let run = |words: &[&str]| bench(&[words, &["--socket", &socket]].concat());
    for output in [
        run(&["kv", "--op", "get"]),
        run(&["replay", "--trace", "synthetic"]),
    ] {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains(&socket), "the address tried: {errors}");
        assert!(
            errors.contains("chariotd --socket"),
            "how to start one: {errors}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn wrong_arguments_end_with_status_two_and_help_with_zero() {
    assert_eq!(bench(&["kv", "--op", "fetch"]).status.code(), Some(2));
    assert_eq!(bench(&[]).status.code(), Some(2));
    let help = bench(&["kv", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--size"));
}

#[test]
fn kv_runs_every_operation_against_a_daemon() {
    let Some(daemon) = Daemon::start("kv_runs_every_operation_against_a_daemon") else {
        return;
    };
    let local = [
        "set", "get", "view", "exist", "mset", "mget", "mview", "del", "mixed",
    ];
    for op in local {
        check_kv(op, &["--socket", &daemon.socket(), "--transport", "shm"]);
    }
    for op in ["mset", "mget", "view", "del"] {
        check_kv(op, &["--target", &daemon.listen, "--transport", "tcp"]);
    }
}

fn check_kv(op: &str, target: &[&str]) {
    let load = [
        "kv",
        "--op",
        op,
        "--size",
        "4KiB",
        "--keys",
        "500",
        "--clients",
        "2",
    ];
    let how = ["--seconds", "0.05", "--json"];
    let report = json(&bench(&[&load[..], &how, target].concat()));
    assert_eq!(report["op"], op);
    for field in ["errors", "misses", "wrong_bytes"] {
        assert_eq!(report[field], 0, "{field} of {report}");
    }
    assert!(report["ops"].as_u64().unwrap() > 0, "{report}");
    let place = if target.contains(&"tcp") {
        "tcp"
    } else {
        "shared_memory"
    };
    assert_eq!(report["place"], place, "{report}");
}

#[test]
fn replay_runs_against_a_daemon_that_evicts() {
    let Some(daemon) = Daemon::start("replay_runs_against_a_daemon_that_evicts") else {
        return;
    };
    let socket = daemon.socket();
    let words = [
        "replay",
        "--socket",
        &socket,
        "--trace",
        "synthetic",
        "--admin",
        &daemon.admin,
    ];
    let report = json(&bench(
        &[&words[..], &["--requests", "250", "--json"]].concat(),
    ));
    assert_eq!(
        (&report["errors"], &report["wrong_bytes"]),
        (&0.into(), &0.into()),
        "{report}"
    );
    assert!(report["block_hits"].as_u64().unwrap() > 0, "{report}");
    assert!(report["evictions"].as_u64().unwrap() > 0, "{report}");
    let table = bench(&[&words[..], &["--requests", "5"]].concat());
    let text = String::from_utf8_lossy(&table.stdout);
    assert!(
        table.status.success() && text.contains("hit ratio"),
        "{text}"
    );
}
