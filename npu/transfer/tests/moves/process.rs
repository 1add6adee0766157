//! A process of its own for each test on the simulator, which may leave nothing behind.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use chariot_ascend_rt_sys::{Libraries, Search};
use chariot_device::{Ascend, Runtime};
use chariot_npu_sim::{Profile, install};

const AGAIN: &str = "MOVES_AGAIN";

/// The ascend backend of this process.
pub(crate) fn ascend() -> Runtime {
    Ascend::load(&Search::standard(|name| {
        std::env::var_os(name).map(PathBuf::from)
    }))
    .unwrap()
}

/// A counter of this process's simulator.
pub(crate) fn count(name: &CStr) -> u64 {
    let search = Search::standard(|name| std::env::var_os(name).map(PathBuf::from));
    let libraries = Libraries::open(&search, &["libascendcl.so"]).unwrap();
    let at = libraries.require("asim_count").unwrap();
    // SAFETY: the simulator declares this symbol with this type.
    let count: extern "C" fn(*const c_char) -> u64 = unsafe { std::mem::transmute(at) };
    count(name.as_ptr())
}

/// Runs a test again on a simulator; says whether this is that process.
pub(crate) fn is_alone(test: &str, profile: Profile, settings: &[(&str, &str)]) -> bool {
    if std::env::var_os(AGAIN).is_some() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), profile).unwrap();
    let report = dir.path().join("leaks");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        test,
        "--exact",
        "--nocapture",
        "--include-ignored",
        "--test-threads=1",
        "-q",
    ]);
    command
        .env(AGAIN, test)
        .env("ASCEND_RT_LIB_DIR", dir.path())
        .env("ASCEND_SIM_DIR", dir.path().join("host"))
        .env("ASCEND_SIM_REPORT", &report)
        .env("ASCEND_SIM_PRESET", "instant")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in settings {
        command.env(format!("ASCEND_SIM_{name}"), value);
    }
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let words = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{}", words[0]);
    assert!(output.status.success(), "{test}: {}", words.join("\n"));
    assert_eq!(
        std::fs::read_to_string(&report).unwrap(),
        "",
        "what {test} left behind"
    );
    false
}
