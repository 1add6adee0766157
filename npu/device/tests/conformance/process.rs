//! Processes: a runtime of its own for each test, and second ends of links and keys.

use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use chariot_ascend_rt_sys::Search;
use chariot_device::{Ascend, Runtime};
use chariot_npu_sim::{Profile, install};

const AGAIN: &str = "CONFORMANCE_AGAIN";
const ROLE: &str = "CONFORMANCE_ROLE";

/// What a second process is to do, and with which bytes.
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Role {
    /// The role of this process, if it is a second one.
    pub(crate) fn of_this() -> Option<Self> {
        let text = std::env::var(ROLE).ok()?;
        let (name, hex) = text.split_once(':')?;
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes = (0..hex.len()).step_by(2).map(byte).collect();
        Some(Self {
            name: name.to_owned(),
            bytes,
        })
    }

    /// Starts a second process of the running test.
    pub(crate) fn start(name: &str, bytes: &[u8]) -> Child {
        let thread = std::thread::current();
        let test = thread
            .name()
            .filter(|name| *name != "main")
            .map(str::to_owned);
        let test = test.or_else(|| std::env::var(AGAIN).ok()).unwrap();
        let hex = bytes
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let mut command = test_command(&test);
        command
            .env(ROLE, format!("{name}:{hex}"))
            .env_remove("ASCEND_SIM_REPORT");
        command.spawn().unwrap()
    }
}

fn test_command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1", "-q"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Where the simulator of this process is, when it was started by [`again`].
pub(crate) fn is_again() -> Option<PathBuf> {
    std::env::var_os(AGAIN)?;
    std::env::var_os("ASCEND_RT_LIB_DIR").map(PathBuf::from)
}

/// The ascend backend, found as the product finds it.
pub(crate) fn ascend() -> Runtime {
    Ascend::load(&Search::standard(|name| {
        std::env::var_os(name).map(PathBuf::from)
    }))
    .unwrap()
}

/// True when this machine has a CANN.
pub(crate) fn real_ascend() -> bool {
    let search = Search::standard(|name| std::env::var_os(name).map(PathBuf::from));
    let found = Ascend::load(&search).and_then(|runtime| runtime.device_count());
    found.is_ok_and(|count| count > 0)
}

/// Runs a test again in a process of its own, on the simulator; it has to succeed and to leave
/// nothing behind.
pub(crate) fn again(test: &str, profile: Profile, settings: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), profile).unwrap();
    let report = dir.path().join("leaks");
    let mut command = test_command(test);
    command
        .env(AGAIN, test)
        .env("ASCEND_RT_LIB_DIR", dir.path())
        .env("ASCEND_SIM_DIR", dir.path().join("host"))
        .env("ASCEND_SIM_REPORT", &report);
    for (name, value) in settings {
        command.env(format!("ASCEND_SIM_{name}"), OsStr::new(value));
    }
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    println!("{words}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}: {words}\n{errors}");
    let leaks = std::fs::read_to_string(&report).unwrap();
    assert_eq!(leaks, "", "what {test} left behind");
}

/// Waits for a second process, which has to succeed.
pub(crate) fn finish(mut child: Child) {
    let mut words = String::new();
    let streams = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    streams
        .0
        .chain(streams.1)
        .read_to_string(&mut words)
        .unwrap();
    assert!(
        child.wait().unwrap().success(),
        "the second process: {words}"
    );
}
