//! The checked-in bindings are those that bindgen makes of the header today.
//!
//! bindgen is a tool of the person who changes the header, not a dependency: `cargo install
//! bindgen-cli` and libclang. Without them this test says so and passes; with `ASCEND_RT_BLESS` set
//! it writes the file.
#![expect(
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

use std::path::Path;
use std::process::Command;

/// The arguments that made `src/bindings.rs`; the version decides the text as well.
const VERSION: &str = "bindgen 0.72";
const ARGUMENTS: &[&str] = &[
    "--default-enum-style=consts",
    "--default-macro-constant-type=signed",
    "--no-doc-comments",
    "--use-core",
    "--allowlist-type=(acl|Hccl).*",
    "--allowlist-var=(ACL|HCCL)_.*",
    "--rust-target=1.85",
    "--rust-edition=2024",
];

/// Text of the bindings, or why there is none here.
fn generate(header: &Path) -> Result<String, String> {
    let run = |command: &mut Command| command.output().map_err(|error| error.to_string());
    let version = run(Command::new("bindgen").arg("--version"))?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(VERSION) {
        return Err(format!("{VERSION} is wanted, not {}", version.trim()));
    }
    let made = run(Command::new("bindgen").args(ARGUMENTS).arg(header))?;
    let complaint = String::from_utf8_lossy(&made.stderr).into_owned();
    if !made.status.success() && complaint.contains("libclang") {
        return Err("libclang is missing".to_owned());
    }
    assert!(
        made.status.success(),
        "bindgen refuses the header: {complaint}"
    );
    Ok(String::from_utf8(made.stdout).expect("bindgen writes UTF-8"))
}

/// What two texts say, without the formatter's taste and blank space.
fn words(text: &str) -> String {
    text.split_ascii_whitespace().collect()
}

#[test]
fn bindings_are_those_of_the_header() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = match generate(&top.join("include/ascend_rt.h")) {
        Ok(fresh) => fresh,
        Err(reason) => {
            println!("skipped: bindings are not compared with the header ({reason})");
            return;
        },
    };
    let path = top.join("src/bindings.rs");
    if std::env::var_os("ASCEND_RT_BLESS").is_some() {
        std::fs::write(
            &path,
            format!("// tidy: table, generated from the header\n{fresh}"),
        )
        .unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let (_, kept) = kept.split_once('\n').expect("the marker is the first line");
    assert!(
        words(kept) == words(&fresh),
        "the header changed: run this test with ASCEND_RT_BLESS=1"
    );
}
