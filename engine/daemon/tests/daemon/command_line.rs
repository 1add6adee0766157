//! The binary as an operator meets it: help, errors, precedence, printed configuration, doctor.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the daemon in an environment of its own.
fn chariotd(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chariotd"));
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied());
    command.output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The refusal: status 2, one line on stderr, nothing on stdout.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = chariotd(arguments, environment);
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
    assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
    assert!(line.starts_with("chariotd: "), "{line}");
    assert_eq!(stdout(&output), "");
    line
}

fn write(directory: &Path, text: &str) -> String {
    let path = directory.join("chariotd.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = chariotd(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    for setting in chariotd::settings::SETTINGS {
        let named = stdout(&help).contains(&format!("--{} ", setting.name))
            || stdout(&help).contains(&format!("--{}\n", setting.name));
        assert_eq!(named, !setting.hidden, "{}", setting.name);
    }
    let version = chariotd(&["--version"], &[]);
    assert!(
        stdout(&version).starts_with("chariotd 0."),
        "{}",
        stdout(&version)
    );
}

#[test]
fn wrong_flags_are_refused_in_one_line() {
    for (arguments, expected) in [
        (
            &["--memroy", "1GiB"][..],
            "unknown flag --memroy, did you mean --memory?",
        ),
        (
            &["--xyzzy"],
            "unknown flag --xyzzy; chariotd --help lists all flags",
        ),
        (
            &["serve"],
            "unexpected argument serve; settings are given as --name VALUE",
        ),
        (
            &["--memory"],
            "--memory: has no value; give 128MiB to 16TiB",
        ),
        (
            &["--memory", "1GiB", "--memory", "2GiB"],
            "--memory: given twice; give it once",
        ),
        (
            &["--hugepages=yes"],
            "--hugepages: takes no value; write --hugepages alone",
        ),
        (
            &["--kill"],
            "--kill: is given without --expel; say whose process, with --expel ID",
        ),
        (
            &["--expel", "7", "--doctor"],
            "--print-config, --check-config, --doctor, --expel: more than one of them is given",
        ),
        (&["--memory", "5XB"], "--memory 5XB: unknown unit"),
        (
            &["--cores", "-1"],
            "--cores -1: '-1' is neither a core number nor a range",
        ),
        (
            &["--doctor", "--check-config"],
            "more than one of them is given; give one",
        ),
    ] {
        let line = refusal(arguments, &[]);
        assert!(line.contains(expected), "{arguments:?}: {line}");
    }
}

#[test]
fn wrong_files_are_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    for (text, expected) in [
        ("memroy = \"1GiB\"\n", "unknown key memroy"),
        (
            "memroy = \"1GiB\"\n",
            "did you mean memory?; deploy/CONFIGURATION.md",
        ),
        ("doctor = true\n", "is a flag only; remove the line"),
        ("config = \"x\"\n", "is a flag only; remove the line"),
        ("memory = 1.5\n", "key memory holds a float; give a string"),
        ("cores = [[0]]\n", "key cores holds a array"),
        ("a = 1\nmemory = = 2\n", "line 2: "),
        (
            "memory = \"1\"\n",
            "memory = 1 (configuration file): less than 128MiB",
        ),
    ] {
        let file = write(directory.path(), text);
        let line = refusal(&["--config", &file, "--check-config"], &[]);
        assert!(line.contains(expected), "{text:?}: {line}");
    }
    let line = refusal(&["--config", "/nonexistent.toml"], &[]);
    assert!(line.contains("/nonexistent.toml: cannot be read"), "{line}");
    let large = write(directory.path(), &"#".repeat((1 << 20) + 1));
    let line = refusal(&["--config", &large], &[]);
    assert!(line.contains("is it the right file?"), "{line}");
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(
        directory.path(),
        "memory = \"192MiB\"\neviction = \"s3fifo\"\nspin-us = 7\ncores = [0, 1]\n",
    );
    let output = chariotd(
        &["--print-config", "--memory", "320MiB"],
        &[
            ("CHARIOT_CONFIG", &file),
            ("CHARIOT_MEMORY", "256MiB"),
            ("CHARIOT_EVICTION", "lru"),
            ("CHARIOT_HUGEPAGES", "true"),
        ],
    );
    let page = stdout(&output);
    for line in [
        "memory = \"320MiB\"  # flag\n",
        "metadata-memory = \"20MiB\"  # default\n",
        "eviction = \"lru\"  # environment\n",
        "hugepages = true  # environment\n",
        "spin-us = \"7\"  # file\n",
        "cores = \"0,1\"  # file\n",
        "max-sessions = \"1024\"  # default\n",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
}

#[test]
fn a_wrong_variable_is_named_as_such() {
    let line = refusal(&["--check-config"], &[("CHARIOT_SPIN_US", "fast")]);
    assert!(
        line.contains("CHARIOT_SPIN_US=fast: neither auto nor a number"),
        "{line}"
    );
}

#[test]
fn the_printed_configuration_is_accepted_and_prints_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "--print-config",
        "--memory",
        "200MiB",
        "--allow-uid",
        "7,3",
        "--hugepages",
    ];
    let printed = chariotd(&arguments, &[]);
    let file = write(directory.path(), stdout(&printed));
    let checked = chariotd(&["--config", &file, "--check-config"], &[]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert_eq!(stdout(&checked), "settings are good\n");
    let again = chariotd(&["--config", &file, "--print-config"], &[]);
    let values = |page: &str| -> Vec<String> {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split("  #").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(values(stdout(&printed)), values(stdout(&again)));
}

#[test]
fn the_default_configuration_file_is_good_and_changes_nothing() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/chariotd.toml");
    let with = chariotd(&["--config", file, "--print-config"], &[]);
    let without = chariotd(&["--print-config"], &[]);
    assert_eq!(with.status.code(), Some(0), "{with:?}");
    let settings = |output: &Output| -> Vec<String> {
        stdout(output)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(settings(&with), settings(&without));
}

#[test]
fn the_doctor_prints_a_table_and_its_status_follows_it() {
    let output = chariotd(&["--doctor", "--memory", "128MiB"], &[]);
    let table = stdout(&output);
    for check in [
        "kernel",
        "io_uring",
        "memlock",
        "memory",
        "cores",
        "NUMA",
        "pid namespace",
    ] {
        assert!(table.contains(check), "{check} in\n{table}");
    }
    let failed = table.lines().any(|line| line.starts_with("FAIL"));
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{table}");
}

#[test]
fn the_doctor_and_a_start_refuse_a_core_that_is_not_ours() {
    let arguments = ["--cores", "60000", "--memory", "128MiB"];
    let doctor = chariotd(&[&arguments[..], &["--doctor"]].concat(), &[]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(
        stdout(&doctor).contains("FAIL  cores"),
        "{}",
        stdout(&doctor)
    );
    let start = chariotd(&arguments, &[("CHARIOT_LOG", "off")]);
    assert_eq!(start.status.code(), Some(1));
    let line = String::from_utf8_lossy(&start.stderr);
    assert!(
        line.contains("may not run on 60000") && line.contains("choose --cores"),
        "{line}"
    );
}
