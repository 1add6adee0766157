//! The files under check.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Largest file that is read as text; larger ones are data.
const TEXT_MAX: u64 = 1 << 20;

/// One text file.
#[derive(Clone, Debug)]
pub struct File {
    /// Path from the top of the repository, with slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Path of the file.
    pub path: String,
    /// Line, from 1; 0 is the whole file.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// All text files of a repository, and the names of the others.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Text files, by path.
    pub files: Vec<File>,
    /// Every path, data files included.
    pub paths: Vec<String>,
}

impl Tree {
    /// Reads the repository this crate belongs to.
    ///
    /// # Panics
    /// When its files cannot be listed: the check must not pass by seeing nothing.
    pub fn repository() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let paths = tracked(&top).unwrap_or_else(|| walk(&top));
        assert!(paths.len() > 20, "the repository has files");
        let mut tree = Tree {
            files: Vec::new(),
            paths,
        };
        for path in &tree.paths {
            let full = top.join(path);
            let small = std::fs::metadata(&full).is_ok_and(|found| found.len() <= TEXT_MAX);
            if small && let Ok(text) = std::fs::read_to_string(&full) {
                tree.files.push(File {
                    path: path.clone(),
                    text,
                });
            }
        }
        tree
    }

    /// A made-up tree.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        let paths = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        Tree {
            files: files.iter().map(file).collect(),
            paths,
        }
    }

    /// Files whose path ends with `suffix`.
    pub fn with_suffix<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = &'a File> {
        self.files
            .iter()
            .filter(move |file| file.path.ends_with(suffix))
    }

    /// The file at `path`.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Says whether a path, or a directory of that name, is in the tree.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.paths.iter().any(|held| {
            held.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// Tracked files and new ones that are not ignored.
fn tracked(top: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(top)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| {
        let exists = |path: &&str| top.join(path).exists();
        let mut paths: Vec<String> = text.lines().filter(exists).map(str::to_owned).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    })
}

fn walk(top: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut pending: Vec<PathBuf> = vec![top.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
            } else if let Some(path) = path.strip_prefix(top).ok().and_then(Path::to_str) {
                paths.push(path.to_owned());
            }
        }
    }
    paths.sort_unstable();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_and_git_see_the_same_sources() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let walked = walk(&top);
        assert!(walked.iter().any(|path| path == "tools/tidy/src/tree.rs"));
        for path in tracked(&top).unwrap_or_default() {
            assert!(path.starts_with('.') || walked.contains(&path), "{path}");
        }
    }

    #[test]
    fn has_knows_files_and_directories_but_no_prefixes() {
        let tree = Tree::of(&[("a/bc/d.md", "")]);
        assert!(tree.has("a/bc/d.md") && tree.has("a/bc") && tree.has("a/"));
        assert!(!tree.has("a/b"));
    }
}
