//! Loading against libraries made for the occasion: whole, incomplete, split in two, stubs.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use chariot_ascend_rt_sys::{AclApi, HcclApi, LoadError, Search};

/// Builds `dir/name` with `functions`, each answering `answer`. The linker of the tests' own build
/// makes it, so a machine that gets here has one.
fn library(dir: &Path, name: &str, functions: &[&str], answer: i32) {
    let mut source = String::new();
    for function in functions {
        writeln!(source, "int {function}(void) {{ return {answer}; }}").unwrap();
    }
    let file = dir.join(format!("{name}.c"));
    std::fs::write(&file, source).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(dir.join(name))
        .arg(&file)
        .status()
        .unwrap();
    assert!(built.success());
}

#[test]
fn a_whole_library_loads_and_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let mut functions = AclApi::REQUIRED.to_vec();
    functions.push("aclrtMemcpyBatch");
    library(dir.path(), "libascendcl.so", &functions, 0);
    let api = AclApi::load(&Search::only(dir.path())).unwrap();
    assert!(api.aclrtMemcpyBatch.is_some());
    assert!(api.aclrtMemcpyBatchAsync.is_none());
    assert!(api.missing().contains(&"aclrtMemcpyBatchAsync"));
    assert_eq!(api.missing().len(), AclApi::OPTIONAL.len() - 1);
    assert!(api.libraries()[0].ends_with("libascendcl.so"));
}

#[test]
fn each_required_function_is_missed_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for missing in ["aclrtMemcpyAsync", "aclInit", "aclrtMemsetAsync"] {
        let rest: Vec<&str> = AclApi::REQUIRED
            .iter()
            .copied()
            .filter(|name| *name != missing)
            .collect();
        let inner = dir.path().join(missing);
        std::fs::create_dir(&inner).unwrap();
        library(&inner, "libascendcl.so", &rest, 0);
        let error = AclApi::load(&Search::only(&inner)).unwrap_err();
        assert!(
            matches!(error, LoadError::Symbol { symbol, .. } if symbol == missing),
            "{error}"
        );
        assert!(error.to_string().contains("CANN 7.0"), "{error}");
    }
}

#[test]
fn symbols_may_be_spread_over_two_libraries() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = HcclApi::REQUIRED.split_at(3);
    library(dir.path(), "libhccl.so", first, 0);
    let only = Search::only(dir.path());
    assert!(matches!(
        HcclApi::load(&only),
        Err(LoadError::Symbol { .. })
    ));
    library(dir.path(), "libhcomm.so", second, 0);
    assert_eq!(HcclApi::load(&only).unwrap().libraries().len(), 2);
}

#[test]
fn a_link_stub_is_told_apart_from_the_runtime() {
    let dir = tempfile::tempdir().unwrap();
    library(dir.path(), "libascendcl.so", AclApi::REQUIRED, 100_039);
    let error = AclApi::load(&Search::only(dir.path())).unwrap_err();
    assert!(matches!(error, LoadError::Stub { .. }), "{error}");
    assert!(error.to_string().contains("LD_LIBRARY_PATH"), "{error}");
}

#[test]
fn a_machine_without_cann_gets_an_error_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let error = AclApi::load(&Search::only(dir.path())).unwrap_err();
    assert!(matches!(error, LoadError::Library { .. }));
}
