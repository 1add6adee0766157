//! Hands the commit to the compiler as `CHARIOT_COMMIT`; a build outside a repository, or without
//! git, says `unknown` instead of failing.

use std::path::Path;
use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn main() {
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).map(|commit| {
        let status = git(&["status", "--porcelain", "--untracked-files=no"]);
        let dirty = status.is_some_and(|status| !status.is_empty());
        if dirty {
            format!("{commit}-dirty")
        } else {
            commit
        }
    });
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CHARIOT_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    // The commit moves when HEAD, or the branch it names, moves. Paths that do not exist would make
    // every build a rebuild.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
