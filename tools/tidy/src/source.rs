//! Checks of Rust sources: length, width, names, unsafe code and its arguments.

use std::collections::BTreeMap;

use crate::tree::{Complaint, File, Tree};

/// Most columns of a line.
const COLUMNS_MAX: usize = 100;

/// Most lines of a file, and what new files aim at. Tests at the end of a file are not counted.
const LINES_MAX: usize = 800;
const LINES_AIM: usize = 400;

/// Files that are above the aim, with the lines they may have: the ratchet. Numbers only go down;
/// an entry that is no longer needed is a complaint.
pub const RATCHET: &[(&str, usize)] = &[];

/// Marks a file that is a table: it reads down its columns, and may be wide and long.
const TABLE_MARK: &str = concat!("tidy", ": table");

/// Directories whose crates may use `unsafe`.
const UNSAFE_ALLOWED: &[&str] = &[
    "wire/shm/",
    "wire/client/",
    "wire/capi/",
    "wire/python/",
    "engine/memory/",
    "engine/shard/",
    "npu/",
];

/// Words that say nothing about what a module or type is.
const BANNED: &[&str] = &["manager", "helper", "helpers", "util", "utils", "misc"];

/// Shortest SAFETY sentence that must not stand twice: "as above" is an honest reference.
const SAFETY_LEN_MIN: usize = 20;

/// An unsafe function that hands its own contract on says so, however often it does; the argument
/// is its `# Safety` section.
const FORWARDED: &str = "caller";

/// Most times that the same SAFETY argument may stand in one file: twins exist, a third is pasted.
const SAFETY_REPEATS_MAX: usize = 2;

fn complaint(file: &File, line: usize, what: impl Into<String>) -> Complaint {
    Complaint {
        path: file.path.clone(),
        line,
        what: what.into(),
    }
}

/// No Rust line is wider than the limit. Lines with a URL may be.
pub fn check_columns(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in tree.with_suffix(".rs") {
        if file.text.contains(TABLE_MARK) {
            continue;
        }
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !line.contains("://") {
                complaints.push(complaint(file, index + 1, format!("{columns} columns")));
            }
        }
    }
    complaints
}

/// Lines up to the tests at the end of a file.
fn code_lines(text: &str) -> usize {
    let tests = text.find("\n#[cfg(test)]\nmod tests {");
    tests.map_or(text, |at| &text[..at]).lines().count()
}

/// No file is longer than the limit, and those above the aim are on the ratchet.
pub fn check_length(tree: &Tree, ratchet: &[(&str, usize)]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in tree.with_suffix(".rs") {
        if is_test(&file.path) || file.text.contains(TABLE_MARK) {
            continue;
        }
        let count = code_lines(&file.text);
        let allowed = ratchet
            .iter()
            .find(|(path, _)| *path == file.path)
            .map(|(_, lines)| *lines);
        match allowed {
            _ if count > LINES_MAX => {
                let what =
                    format!("{count} lines, {LINES_MAX} is the limit: find the second subject");
                complaints.push(complaint(file, 0, what));
            },
            Some(allowed) if count > allowed => {
                let what = format!("{count} lines, the ratchet says {allowed}: it only goes down");
                complaints.push(complaint(file, 0, what));
            },
            Some(_) if count <= LINES_AIM => {
                complaints.push(complaint(file, 0, "short enough: take it off the ratchet"));
            },
            _ => {},
        }
    }
    complaints
}

/// Files above the aim and not on the ratchet: worth a look, no complaint.
pub fn above_aim(tree: &Tree) -> Vec<String> {
    let long = tree.with_suffix(".rs").filter(|file| !is_test(&file.path));
    long.filter(|file| code_lines(&file.text) > LINES_AIM)
        .map(|file| format!("{} has {} lines", file.path, code_lines(&file.text)))
        .collect()
}

fn is_source(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, extension)| extension == "rs")
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/examples/") || path.ends_with("/tests.rs")
}

/// Crates outside the list forbid unsafe code, in `lib.rs` and in `main.rs`.
pub fn check_forbid_unsafe(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in tree.files.iter().filter(|file| is_crate_root(&file.path)) {
        let allowed = UNSAFE_ALLOWED
            .iter()
            .any(|room| file.path.starts_with(room));
        if !allowed && !file.text.contains("#![forbid(unsafe_code)]") {
            complaints.push(complaint(
                file,
                0,
                "write #![forbid(unsafe_code)] below the head",
            ));
        }
    }
    complaints
}

fn is_crate_root(path: &str) -> bool {
    path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs")
}

/// The same argument for two unsafe blocks is an argument for neither.
pub fn check_safety_sentences(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in tree.with_suffix(".rs").filter(|file| !is_test(&file.path)) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (line, sentence) in safety_comments(&file.text) {
            if sentence.len() < SAFETY_LEN_MIN || sentence.contains(FORWARDED) {
                continue;
            }
            let count = seen.entry(sentence).or_insert(0);
            *count += 1;
            if *count > SAFETY_REPEATS_MAX {
                let what = "this SAFETY sentence stands above already: say what keeps this one";
                complaints.push(complaint(file, line, what));
            }
        }
    }
    complaints
}

/// SAFETY comments with the line they begin at, joined over their lines.
fn safety_comments(text: &str) -> Vec<(usize, String)> {
    let mut comments: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        let Some(comment) = line.trim().strip_prefix("//") else {
            open = false;
            continue;
        };
        let comment = comment.trim();
        if let Some(sentence) = comment.strip_prefix(MARK) {
            comments.push((index + 1, sentence.trim().to_owned()));
            open = true;
        } else if open && let Some((_, sentence)) = comments.last_mut() {
            sentence.push(' ');
            sentence.push_str(comment);
        }
    }
    comments
}

/// How such a comment begins.
const MARK: &str = "SAFETY:";

/// Modules and types have names that say what they are.
pub fn check_names(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for path in tree.paths.iter().filter(|path| is_source(path)) {
        for part in path.trim_end_matches(".rs").split('/') {
            if let Some(word) = banned(part) {
                let what = format!("'{word}' names no subject");
                complaints.push(Complaint {
                    path: path.clone(),
                    line: 0,
                    what,
                });
            }
        }
    }
    for file in tree.with_suffix(".rs") {
        for (index, line) in file.text.lines().enumerate() {
            let mut words = line
                .split_ascii_whitespace()
                .skip_while(|word| word.starts_with("pub"));
            let keyword = words.next().unwrap_or_default();
            if !["struct", "enum", "trait", "mod", "type", "union"].contains(&keyword) {
                continue;
            }
            let name = words.next().unwrap_or_default();
            let name = name
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next();
            if let Some(word) = name.and_then(banned) {
                complaints.push(complaint(
                    file,
                    index + 1,
                    format!("'{word}' names no subject"),
                ));
            }
        }
    }
    complaints
}

/// The banned word in an identifier of either case, if it has one.
fn banned(identifier: &str) -> Option<&'static str> {
    let mut snake = String::new();
    for character in identifier.chars() {
        if character.is_uppercase() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    BANNED
        .iter()
        .copied()
        .find(|word| snake.split('_').any(|part| part == *word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_repository_fit() {
        assert_eq!(check_columns(&Tree::repository()), []);
    }

    #[test]
    fn a_wide_line_is_noticed() {
        let wide = format!("// {}\n", "x".repeat(98));
        assert_eq!(check_columns(&Tree::of(&[("a.rs", &wide)])).len(), 1);
        let url = format!("// https://{}\n", "x".repeat(98));
        assert_eq!(
            check_columns(&Tree::of(&[("a.rs", &url), ("a.md", &wide)])),
            []
        );
    }

    #[test]
    fn files_of_the_repository_are_short_enough() {
        let tree = Tree::repository();
        for long in above_aim(&tree) {
            println!("above the aim of {LINES_AIM}: {long}");
        }
        assert_eq!(check_length(&tree, RATCHET), []);
    }

    #[test]
    fn a_long_file_and_a_stale_ratchet_are_noticed() {
        let of = |count: usize, ratchet: &[(&str, usize)]| {
            let text = "//\n".repeat(count);
            check_length(&Tree::of(&[("x/src/a.rs", &text)]), ratchet).len()
        };
        assert_eq!(of(LINES_MAX, &[]), 0);
        assert_eq!(of(LINES_MAX + 1, &[]), 1);
        assert_eq!(of(501, &[("x/src/a.rs", 500)]), 1);
        assert_eq!(of(500, &[("x/src/a.rs", 500)]), 0);
        assert_eq!(of(LINES_AIM, &[("x/src/a.rs", 500)]), 1);
    }

    #[test]
    fn tests_at_the_end_are_not_counted() {
        let text = format!(
            "fn a() {{}}\n\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "//\n".repeat(900)
        );
        assert_eq!(code_lines(&text), 1);
    }

    #[test]
    fn crates_of_the_repository_forbid_unsafe_code() {
        assert_eq!(check_forbid_unsafe(&Tree::repository()), []);
    }

    #[test]
    fn a_crate_that_does_not_forbid_is_noticed() {
        let bare = "//! Head.\n";
        let tree = Tree::of(&[
            ("engine/store/src/lib.rs", bare),
            ("engine/daemon/src/main.rs", bare),
            ("engine/memory/src/lib.rs", bare),
        ]);
        assert_eq!(check_forbid_unsafe(&tree).len(), 2);
    }

    #[test]
    fn safety_sentences_of_the_repository_differ() {
        assert_eq!(check_safety_sentences(&Tree::repository()), []);
    }

    #[test]
    fn a_repeated_safety_sentence_is_noticed() {
        let sentence = format!("// {MARK} the slab keeps it\n// alive until drop.\na\n");
        let joined = format!("// {MARK} the slab keeps it alive until drop.\nb\n");
        let short = format!("// {MARK} as above.\nc\n").repeat(3);
        let forwarded = format!("// {MARK} what the caller promises.\nd\n").repeat(3);
        let text = format!("{short}{forwarded}{sentence}{sentence}{joined}");
        let complaints = check_safety_sentences(&Tree::of(&[("a.rs", &text)]));
        let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        assert_eq!(lines, [19]);
    }

    #[test]
    fn names_of_the_repository_say_something() {
        assert_eq!(check_names(&Tree::repository()), []);
    }

    #[test]
    fn an_empty_name_is_noticed() {
        let text = "pub(crate) struct SlotManager;\nmod util;\nstruct Utility;\n// the manager\n";
        let tree = Tree::of(&[("x/src/a.rs", text), ("x/src/helpers/b.rs", "")]);
        assert_eq!(check_names(&tree).len(), 3);
    }
}
