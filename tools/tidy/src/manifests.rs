//! Checks of the manifests: who may depend on whom, and order.

use crate::tree::{Complaint, Tree};

/// What a crate may depend on among our own (normal and build dependencies). Arrows point one way:
/// daemon, server, {store, shard, memory}, base, wire. A crate that is not listed is a complaint.
const EDGES: &[(&str, &[&str])] = &[
    ("chariot-ascend-rt-sys", &[]),
    ("chariot-base", &["chariot-proto", "chariot-shm"]),
    (
        "chariot-bench",
        &[
            "chariot-ascend-rt-sys",
            "chariot-client",
            "chariot-device",
            "chariot-npu-sim",
            "chariot-peer",
            "chariot-proto",
            "chariot-shm",
            "chariot-transfer",
        ],
    ),
    (
        "chariot-capi",
        &[
            "chariot-client",
            "chariot-device",
            "chariot-hetero",
            "chariot-peer",
        ],
    ),
    ("chariot-client", &["chariot-proto", "chariot-shm"]),
    ("chariot-device", &["chariot-ascend-rt-sys"]),
    ("chariot-fuzz", &["chariot-proto", "chariot-shm"]),
    (
        "chariot-hetero",
        &[
            "chariot-ascend-rt-sys",
            "chariot-client",
            "chariot-device",
            "chariot-proto",
            "chariot-shm",
            "chariot-transfer",
        ],
    ),
    (
        "chariot-memory",
        &["chariot-base", "chariot-proto", "chariot-shm"],
    ),
    ("chariot-npu-sim", &["chariot-ascend-rt-sys"]),
    ("chariot-peer", &["chariot-client", "chariot-device"]),
    ("chariot-proto", &[]),
    (
        "chariot-python",
        &[
            "chariot-client",
            "chariot-device",
            "chariot-hetero",
            "chariot-peer",
        ],
    ),
    (
        "chariot-server",
        &[
            "chariot-base",
            "chariot-memory",
            "chariot-proto",
            "chariot-shard",
            "chariot-shm",
            "chariot-ssd",
            "chariot-store",
        ],
    ),
    (
        "chariot-shard",
        &["chariot-base", "chariot-proto", "chariot-shm"],
    ),
    ("chariot-shm", &[]),
    ("chariot-ssd", &["chariot-base", "chariot-proto"]),
    (
        "chariot-store",
        &[
            "chariot-base",
            "chariot-memory",
            "chariot-proto",
            "chariot-shm",
        ],
    ),
    (
        "chariot-tests-node",
        &["chariot-client", "chariot-proto", "chariot-shm"],
    ),
    ("chariot-tidy", &[]),
    ("chariot-transfer", &["chariot-device"]),
    (
        "chariotd",
        &[
            "chariot-base",
            "chariot-proto",
            "chariot-server",
            "chariot-shard",
            "chariot-shm",
        ],
    ),
    ("dscli", &[]),
];

/// A line of a manifest with the table it stands in.
struct Line<'a> {
    number: usize,
    table: &'a str,
    text: &'a str,
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut table = "";
    text.lines().enumerate().map(move |(index, text)| {
        let text = text.trim();
        if let Some(name) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            table = name;
        }
        Line {
            number: index + 1,
            table,
            text,
        }
    })
}

/// The key of a dependency line, if it is one.
fn dependency<'a>(line: &Line<'a>) -> Option<&'a str> {
    let key = line.text.split(['=', '.', ' ']).next()?;
    let named = !key.is_empty() && !line.text.starts_with(['#', '[']) && line.text.contains('=');
    (line.table.ends_with("dependencies") && named).then_some(key)
}

/// Our own crates depend on each other as the house is drawn.
pub fn check_edges(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in tree
        .with_suffix("Cargo.toml")
        .filter(|file| file.path != "Cargo.toml")
    {
        let name = lines(&file.text)
            .filter(|line| line.table == "package")
            .find_map(|line| {
                line.text
                    .strip_prefix("name = ")
                    .map(|name| name.trim_matches('"'))
            });
        let edges = name.and_then(|name| EDGES.iter().find(|(known, _)| *known == name));
        let Some((name, allowed)) = edges else {
            let what = format!("{name:?} is not drawn in tools/tidy/src/manifests.rs: add it");
            complaints.push(Complaint {
                path: file.path.clone(),
                line: 0,
                what,
            });
            continue;
        };
        for line in lines(&file.text).filter(|line| !line.table.contains("dev-dependencies")) {
            let Some(key) = dependency(&line).filter(|key| key.starts_with("chariot")) else {
                continue;
            };
            if !allowed.contains(&key) {
                let what = format!("{name} may not depend on {key}: see the drawing of the house");
                complaints.push(Complaint {
                    path: file.path.clone(),
                    line: line.number,
                    what,
                });
            }
        }
    }
    complaints
}

/// Third-party crates are declared in the workspace, not in a member.
pub fn check_workspace_dependencies(tree: &Tree) -> Vec<Complaint> {
    let members = tree
        .with_suffix("Cargo.toml")
        .filter(|file| !is_root(&file.text));
    let mut complaints = Vec::new();
    for file in members {
        for line in lines(&file.text) {
            let inherited = line.text.contains("workspace = true");
            if dependency(&line).is_some() && !inherited {
                let what = "name it in [workspace.dependencies] and inherit it".to_owned();
                complaints.push(Complaint {
                    path: file.path.clone(),
                    line: line.number,
                    what,
                });
            }
        }
    }
    complaints
}

/// A manifest that starts a workspace of its own has its own dependencies.
fn is_root(text: &str) -> bool {
    lines(text).any(|line| line.text.starts_with("[workspace"))
}

/// Dependencies are sorted, in runs that a blank line ends, and so are the members. Third-party
/// lines of the workspace carry a comment above them (one comment may serve neighbours).
pub fn check_sorted(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in tree.with_suffix("Cargo.toml") {
        let mut last: Option<&str> = None;
        for line in lines(&file.text) {
            let member = line
                .text
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix("\","));
            let key = member
                .filter(|_| line.table == "workspace")
                .or_else(|| dependency(&line));
            match (key, last) {
                (Some(key), Some(before)) if key < before => {
                    let what = format!("{key} comes before {before}: sort them");
                    complaints.push(Complaint {
                        path: file.path.clone(),
                        line: line.number,
                        what,
                    });
                },
                _ => {},
            }
            let ends = line.text.is_empty() || line.text.starts_with('[');
            last = if ends { None } else { key.or(last) };
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n\n{rest}")
    }

    #[test]
    fn edges_of_the_repository_are_as_drawn() {
        assert_eq!(check_edges(&Tree::repository()), []);
    }

    #[test]
    fn an_edge_that_points_up_is_noticed() {
        let text = manifest(
            "chariot-base",
            "[dependencies]\nchariot-server.workspace = true\n",
        );
        let complaints = check_edges(&Tree::of(&[("engine/base/Cargo.toml", &text)]));
        assert_eq!(complaints.len(), 1);
        assert_eq!(complaints[0].line, 5);
        let text = text.replace("[dependencies]", "[dev-dependencies]");
        assert_eq!(
            check_edges(&Tree::of(&[("engine/base/Cargo.toml", &text)])),
            []
        );
        let text = manifest("chariot-new", "");
        let complaints = check_edges(&Tree::of(&[("engine/new/Cargo.toml", &text)]));
        assert!(complaints[0].what.contains("not drawn"));
    }

    #[test]
    fn dependencies_of_the_repository_are_inherited() {
        assert_eq!(check_workspace_dependencies(&Tree::repository()), []);
    }

    #[test]
    fn a_version_in_a_member_is_noticed() {
        let text = manifest(
            "x",
            "[dependencies]\nlibc = \"0.2\"\nrtrb.workspace = true\n",
        );
        let complaints = check_workspace_dependencies(&Tree::of(&[("x/Cargo.toml", &text)]));
        assert_eq!(complaints.len(), 1);
        let target = manifest("x", "[target.'cfg(loom)'.dependencies]\nloom = \"0.7\"\n");
        let tree = Tree::of(&[("x/Cargo.toml", &target)]);
        assert_eq!(check_workspace_dependencies(&tree).len(), 1);
    }

    #[test]
    fn manifests_of_the_repository_are_sorted() {
        assert_eq!(check_sorted(&Tree::repository()), []);
    }

    #[test]
    fn an_unsorted_line_is_noticed() {
        let text = "[workspace]\nmembers = [\n  \"b\",\n  \"a\",\n]\n\
                    [dependencies]\nd = \"1\"\nc = \"1\"\n\na = \"1\"\n";
        let complaints = check_sorted(&Tree::of(&[("Cargo.toml", text)]));
        let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        assert_eq!(lines, [4, 8]);
    }
}
