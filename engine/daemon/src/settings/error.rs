//! What can be wrong with a setting: one line for the operator, with the cause and the remedy.

use std::path::PathBuf;

use super::{Setting, Source};

/// A refused setting. Fixed by the operator; the process exits with status 2.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(transparent)]
pub struct SettingsError(Box<Refusal>);

impl From<Refusal> for SettingsError {
    fn from(refusal: Refusal) -> Self {
        SettingsError(Box::new(refusal))
    }
}

impl SettingsError {
    /// The cause, to tell refusals apart.
    pub fn refusal(&self) -> &Refusal {
        &self.0
    }

    /// A value of `setting` that is not within its range: the range is the remedy.
    pub fn out_of_range(setting: &Setting, given: &super::Given, cause: impl Into<String>) -> Self {
        SettingsError::from(Refusal::Value {
            name: setting.name,
            text: given.text.clone(),
            given_by: given.source,
            cause: cause.into(),
            remedy: format!("give {}", setting.range),
        })
    }
}

/// What was refused, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The command line has a flag that does not exist.
    #[error("unknown flag {flag}{}; chariotd --help lists all flags", near(.nearest.as_deref()))]
    UnknownFlag {
        /// As typed.
        flag: String,
        /// The existing flag that looks most like it.
        nearest: Option<String>,
    },
    /// The command line has something that is no flag.
    #[error("unexpected argument {argument}; settings are given as --name VALUE, see --help")]
    UnexpectedArgument {
        /// As typed.
        argument: String,
    },
    /// A flag stands without its value, or a switch with one, or a flag stands twice.
    #[error("{flag}: {cause}; {remedy}")]
    FlagForm {
        /// The flag.
        flag: String,
        /// What is wrong.
        cause: &'static str,
        /// What to type.
        remedy: String,
    },
    /// The configuration file has a key that does not exist.
    #[error(
        "unknown key {key} in {}{}; deploy/CONFIGURATION.md lists all keys",
        file.display(), near(.nearest.as_deref())
    )]
    UnknownKey {
        /// The key.
        key: String,
        /// The file.
        file: PathBuf,
        /// The existing key that looks most like it.
        nearest: Option<String>,
    },
    /// The configuration file has a key that only a flag may give.
    #[error("key {key} in {} is a flag only; remove the line", file.display())]
    FlagOnlyKey {
        /// The key.
        key: String,
        /// The file.
        file: PathBuf,
    },
    /// A file cannot be read or understood.
    #[error("{}: {cause}; {remedy}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A value is not acceptable.
    #[error("{}: {cause}; {remedy}", origin(.name, .text, *.given_by))]
    Value {
        /// Name of the setting.
        name: &'static str,
        /// What was given.
        text: String,
        /// Where it came from.
        given_by: Source,
        /// What is wrong.
        cause: String,
        /// What to give instead.
        remedy: String,
    },
}

/// Names a setting the way its source spells it.
fn origin(name: &str, text: &str, source: Source) -> String {
    match source {
        Source::Flag => format!("--{name} {text}"),
        Source::Environment => {
            let setting = super::find(name).expect("errors are built from declared settings");
            format!("{}={text}", setting.environment_name())
        },
        Source::File => format!("{name} = {text} (configuration file)"),
        Source::Default if text.is_empty() => format!("--{name} (unset)"),
        Source::Default => format!("--{name} {text} (default)"),
    }
}

fn near(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

/// The candidate with the fewest edits from `typed`, if it is near enough to be meant.
pub(super) fn nearest<'a>(
    typed: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .map(|candidate| (edits(typed, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance (Levenshtein, one row). O(len × len), for names of a few dozen bytes.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typing_mistakes_only() {
        let names = || ["memory", "cores", "metadata-memory"].into_iter();
        assert_eq!(nearest("memroy", names()), Some("memory"));
        assert_eq!(nearest("core", names()), Some("cores"));
        assert_eq!(nearest("xyzzy-plugh", names()), None);
    }
}
