//! A start, a second start, signals and the drain, over a node that is made up.
//!
//! The daemon under test is this test program started again, with a stand-in for the engine.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chariotd::seam::{
    Drained, Expulsion, NodeControl, NodeOptions, NodeStats, Pending, Readiness, SessionSummary,
};

/// Arguments of the stand-in, with line ends between; absent in the process of the tests.
const ARGUMENTS: &str = "CHARIOT_TEST_STAND_IN";

/// Present when the stand-in's drain is never to end.
const STUCK: &str = "CHARIOT_TEST_STUCK";

#[derive(Debug)]
struct StandIn;

impl NodeControl for StandIn {
    fn stats(&self) -> Pending<NodeStats> {
        Box::pin(std::future::ready(NodeStats::default()))
    }

    fn sessions(&self) -> Pending<Vec<SessionSummary>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn expel(&self, _session: u64, _kill: bool) -> Pending<Expulsion> {
        Box::pin(std::future::ready(Expulsion::Unknown))
    }

    fn ready(&self) -> Readiness {
        Readiness::default()
    }

    fn drain(&self, _deadline: Duration) -> Pending<Drained> {
        if std::env::var_os(STUCK).is_some() {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(Drained {
            requests_abandoned: 0,
            sessions_open: 3,
        }))
    }
}

fn start_stand_in(_options: NodeOptions) -> chariotd::run::StartingNode {
    Box::pin(async { Ok(Arc::new(StandIn) as Arc<dyn NodeControl>) })
}

/// The process under test; nothing in the process of the tests.
#[test]
fn stand_in_daemon() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let arguments = arguments.lines().map(std::ffi::OsString::from);
    let status = chariotd::run::run(arguments, |_name| None, start_stand_in);
    assert_eq!(
        format!("{status:?}"),
        format!("{:?}", std::process::ExitCode::SUCCESS)
    );
}

/// A daemon that is killed if the test fails.
struct Daemon {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Daemon {
    fn start(arguments: &[&str], stuck: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "lifecycle::stand_in_daemon", "--nocapture"])
            .env(ARGUMENTS, arguments.join("\n"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if stuck {
            command.env(STUCK, "1");
        }
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Daemon { child, log }
    }

    /// Reads the log until a line that holds `expected`; returns what was read.
    fn until(&mut self, expected: &str) -> String {
        let mut read = String::new();
        while !read.contains(expected) {
            let line = self.log.read_line(&mut read).unwrap();
            assert!(line > 0, "the log ended without '{expected}':\n{read}");
        }
        read
    }

    fn signal(&self, name: &str) {
        // The shell's own kill: a small machine has no other.
        let kill = format!("kill -s {name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already when the test went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Arguments for a daemon in `directory` on ports that were free a moment ago.
fn arguments(directory: &Path) -> Vec<String> {
    let listen = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let socket = directory.join("s.sock").display().to_string();
    let flags = [
        "--listen",
        &listen.to_string(),
        "--socket",
        &socket,
        "--admin",
        "127.0.0.1:0",
    ];
    flags
        .into_iter()
        .chain(["--memory", "128MiB"])
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_second_start_is_refused_and_a_signal_drains() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = arguments(directory.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut first = Daemon::start(&arguments, false);
    let log = first.until("serving");
    assert!(
        log.contains("every user of this host may read and write"),
        "{log}"
    );
    let mut second = Daemon::start(&arguments, false);
    let refused = second.until("is held by");
    let holder = format!("s.sock is held by process {}", first.child.id());
    assert!(
        refused.contains(&holder) && refused.contains("; stop that daemon"),
        "{refused}"
    );
    assert!(!second.child.wait().unwrap().success());
    first.signal("HUP");
    first.until("SIGHUP ignored");
    first.signal("TERM");
    first.until("drained");
    assert!(
        first.child.wait().unwrap().success(),
        "a clean drain exits with 0"
    );
    // The address is free again, and SIGINT is as good.
    let mut third = Daemon::start(&arguments, false);
    third.until("serving");
    third.signal("INT");
    third.until("drained");
    assert!(third.child.wait().unwrap().success());
}

#[test]
fn a_killed_daemon_leaves_its_address_free() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = arguments(directory.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut first = Daemon::start(&arguments, false);
    first.until("serving");
    first.signal("KILL");
    first.child.wait().unwrap();
    let mut second = Daemon::start(&arguments, false);
    second.until("serving");
}

#[test]
fn a_second_signal_cuts_the_drain_short() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = arguments(directory.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(&arguments, true);
    daemon.until("serving");
    daemon.signal("TERM");
    daemon.until("draining");
    daemon.signal("TERM");
    daemon.until("second signal");
    assert!(daemon.child.wait().unwrap().success());
}
