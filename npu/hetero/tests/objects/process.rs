//! A process of its own for each test on the simulator, which may leave nothing behind.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use chariot_ascend_rt_sys::Search;
use chariot_device::{Ascend, Runtime};
use chariot_npu_sim::{Profile, install};

const AGAIN: &str = "OBJECTS_AGAIN";

/// The ascend backend of this process.
pub(crate) fn ascend() -> Runtime {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    Ascend::load(&Search::standard(variable)).unwrap()
}

/// Runs a test again on a simulator; says whether this is that process.
pub(crate) fn is_alone(test: &str, settings: &[(&str, &str)]) -> bool {
    is_alone_as(test, settings, None, &[])
}

/// As [`is_alone`], as another user and with more variables.
pub(crate) fn is_alone_as(
    test: &str,
    settings: &[(&str, &str)],
    user: Option<u32>,
    variables: &[(&str, &str)],
) -> bool {
    if std::env::var_os(AGAIN).is_some() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    install(dir.path(), Profile::Cann91).unwrap();
    let report = dir.path().join("leaks");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1", "-q"]);
    command
        .env(AGAIN, test)
        .env("ASCEND_RT_LIB_DIR", dir.path())
        .env("ASCEND_SIM_DIR", dir.path().join("host"))
        .env("ASCEND_SIM_REPORT", &report)
        .env("ASCEND_SIM_PRESET", "instant")
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in settings {
        command.env(format!("ASCEND_SIM_{name}"), value);
    }
    if let Some(user) = user {
        command.uid(user);
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
