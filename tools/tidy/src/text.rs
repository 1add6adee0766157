//! Checks of all text: paths of somebody's machine, links, the changelog's shape.

use crate::tree::{Complaint, File, Tree};

/// Directories that no public file may name: they exist on one machine only. Written in pieces, so
/// that this file passes its own check.
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
];

/// Headings that Keep a Changelog knows.
const CHANGES: &[&str] = &[
    "### Added",
    "### Changed",
    "### Deprecated",
    "### Removed",
    "### Fixed",
    "### Security",
];

fn complaint(file: &File, line: usize, what: impl Into<String>) -> Complaint {
    Complaint {
        path: file.path.clone(),
        line,
        what: what.into(),
    }
}

/// No file names a directory of the machine it was written on.
pub fn check_paths(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in &tree.files {
        for (index, line) in file.text.lines().enumerate() {
            for foreign in FOREIGN {
                let begins_word = |at: usize| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && !"._-/}~".contains(c))
                };
                if line.match_indices(foreign).any(|(at, _)| begins_word(at)) {
                    let what = format!("{foreign} exists on one machine only");
                    complaints.push(complaint(file, index + 1, what));
                }
            }
        }
    }
    complaints
}

/// Relative links of markdown pages lead somewhere.
pub fn check_links(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in tree.with_suffix(".md") {
        let directory = file
            .path
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        let mut fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in link_targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                if !resolve(directory, path).is_some_and(|path| tree.has(&path)) {
                    complaints.push(complaint(
                        file,
                        index + 1,
                        format!("{target} leads nowhere"),
                    ));
                }
            }
        }
    }
    complaints
}

/// Targets of `[text](target)` in a line.
fn link_targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    for (at, opening) in line.match_indices("](") {
        let rest = &line[at + opening.len()..];
        if let Some((target, _)) = rest.split_once(')') {
            targets.push(target);
        }
    }
    targets
}

/// A path from the top; `None` when it leaves the repository.
fn resolve(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    for part in path.split('/') {
        match part {
            "" | "." => {},
            ".." => {
                parts.pop()?;
            },
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The changelog begins with unreleased changes, under the known headings only.
pub fn check_changelog(tree: &Tree) -> Vec<Complaint> {
    let Some(file) = tree.file("CHANGELOG.md") else {
        let what = "CHANGELOG.md is missing".to_owned();
        return vec![Complaint {
            path: "CHANGELOG.md".to_owned(),
            line: 0,
            what,
        }];
    };
    let mut complaints = Vec::new();
    let first = file.text.lines().find(|line| line.starts_with("## "));
    if first != Some("## [Unreleased]") {
        complaints.push(complaint(file, 0, "the first section is '## [Unreleased]'"));
    }
    for (index, line) in file.text.lines().enumerate() {
        if line.starts_with("### ") && !CHANGES.contains(&line) {
            complaints.push(complaint(file, index + 1, "no heading of Keep a Changelog"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_names_no_foreign_directory() {
        assert_eq!(check_paths(&Tree::repository()), []);
    }

    #[test]
    fn a_foreign_directory_is_noticed() {
        let text = format!(
            "see {}x\n`{}`\nnet{}x\n",
            FOREIGN[0], FOREIGN[1], FOREIGN[0]
        );
        let complaints = check_paths(&Tree::of(&[("a.md", &text)]));
        let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        assert_eq!(lines, [1, 2]);
    }

    #[test]
    fn links_of_the_repository_lead_somewhere() {
        assert_eq!(check_links(&Tree::repository()), []);
    }

    #[test]
    fn a_dead_link_is_noticed() {
        let text =
            "[a](b.md) [b](../c.md#x) [c](#here) [d](https://e) [e](../..)\n```\n[f](g)\n```\n";
        let tree = Tree::of(&[("x/a.md", text), ("c.md", "")]);
        let complaints = check_links(&tree);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].what.contains("b.md"));
    }

    #[test]
    fn the_changelog_has_its_shape() {
        assert_eq!(check_changelog(&Tree::repository()), []);
    }

    #[test]
    fn a_misshapen_changelog_is_noticed() {
        let tree = Tree::of(&[("CHANGELOG.md", "# C\n## [1.0]\n### New\n")]);
        assert_eq!(check_changelog(&tree).len(), 2);
        assert_eq!(check_changelog(&Tree::default()).len(), 1);
    }
}
