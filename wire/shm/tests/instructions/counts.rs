//! See the head of this binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Look-ups of the shorter and of the longer run.
const FINDS: [u64; 2] = [1_920, 5_760];
/// One at a time, batches, absent.
const KINDS: [(u64, &str); 3] = [(1, "one at a time"), (2, "in batches"), (4, "absent")];

/// The example, built by cargo into this program's own directory and profile.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile_dir = own.parent().and_then(Path::parent).unwrap();
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => unreachable!("a test program lies in a directory"),
    };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_unset| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["build", "--locked", "--quiet", "-p", "chariot-shm"])
        .args(["--example", "index_speed", "--profile", profile])
        .arg("--target-dir")
        .arg(profile_dir.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success(), "the example builds");
    profile_dir.join("examples/index_speed")
}

fn can_count() -> bool {
    let probe = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED: valgrind is not installed");
    }
    can
}

/// The instructions of one run, all of it.
fn instructions(example: &Path, arguments: [u64; 3]) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(example)
        .args(arguments.map(|argument| argument.to_string()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find(|line| line.contains("Collected"));
    let word = line.and_then(|line| line.rsplit(' ').next());
    word.and_then(|word| word.parse().ok()).expect("a count")
}

fn per_find(example: &Path, keys: u64, kind: u64) -> f64 {
    let [short, long] = FINDS.map(|finds| instructions(example, [keys, finds, kind]));
    (long - short) as f64 / (FINDS[1] - FINDS[0]) as f64
}

fn compare(few: u64, many: u64) {
    if !can_count() {
        return;
    }
    let example = example();
    for (kind, name) in KINDS {
        let among_few = per_find(&example, few, kind);
        let among_many = per_find(&example, many, kind);
        eprintln!("{name}: {among_few:.1} among {few} keys, {among_many:.1} among {many}");
        assert!(among_few > 20.0, "{name}: something was counted");
        let ratio = among_many / among_few;
        assert!((0.9..1.1).contains(&ratio), "{name}: {ratio:.3}");
    }
}

#[test]
fn a_look_up_costs_the_same_among_ten_times_as_many_keys() {
    compare(1_000, 10_000);
}

#[test]
#[ignore = "long: make test-long"]
fn a_look_up_costs_the_same_among_a_hundred_times_as_many_keys() {
    compare(10_000, 1_000_000);
}
