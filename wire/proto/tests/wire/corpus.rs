//! Replays the fuzz corpus, so that what was found once stays found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::checks;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .expect("a folder of the fuzz crate")
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn corpus_replays_without_a_finding() {
    for (target, _) in checks::TARGETS {
        let folder = fuzz_folder().join("corpus").join(target);
        let inputs = names(&folder);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for input in inputs {
            checks::run(target, &fs::read(folder.join(input)).unwrap());
        }
    }
}

/// Every golden seed under every check: bytes of one message are met by all others too.
#[test]
fn corpus_of_one_target_is_harmless_to_all_others() {
    for (target, _) in checks::TARGETS {
        let folder = fuzz_folder().join("corpus").join(target);
        for input in names(&folder) {
            let bytes = fs::read(folder.join(input)).unwrap();
            for (other, _) in checks::TARGETS {
                checks::run(other, &bytes);
            }
        }
    }
}

#[test]
fn every_check_has_a_fuzz_target_and_nothing_is_left_over() {
    // Those of shared memory are replayed by `wire/shm/tests/session_words.rs`.
    let expected: BTreeSet<String> = checks::TARGETS
        .iter()
        .map(|(target, _)| *target)
        .chain(["session_attach", "session_words"])
        .map(|target| format!("{target}.rs"))
        .collect();
    assert_eq!(names(&fuzz_folder().join("fuzz_targets")), expected);
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for (target, _) in checks::TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{target}"
        );
        let source = fuzz_folder()
            .join("fuzz_targets")
            .join(format!("{target}.rs"));
        assert!(
            fs::read_to_string(source)
                .unwrap()
                .contains(&format!("run(\"{target}\""))
        );
    }
}

/// The replay can fail: a check that finds something panics through `run`.
#[test]
#[should_panic(expected = "a known target")]
fn replay_of_an_unknown_target_fails() {
    checks::run("no_such_target", b"");
}
