//! What a user reads when something does not work: one line, cause and remedy.

use std::fmt;

/// Why the tool stops, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    cause: String,
    remedy: String,
}

impl Failure {
    /// Makes a failure; both parts are one line each, lower case, without a period.
    pub(crate) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Failure {
    /// One line, whatever the parts contain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{}: {}", self.cause, self.remedy);
        f.write_str(&line.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_with_cause_and_remedy() {
        let shown = Failure::new("no daemon\nat a:1", "start  one").to_string();
        assert_eq!(shown, "no daemon at a:1: start one");
    }
}
