//! The one error of this crate: a stable status, what happened, and what to do about it.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use chariot_proto::Status;

/// Why a call failed.
///
/// The status is the same number on every transport and in every SDK; its class says whether to
/// retry, to back off, or to change the request. A missing key is not an error.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the one error of an SDK is called so"
)]
#[error("{cause} ({name}): {remedy}", name = .status.name(), remedy = .status.remedy())]
pub struct Error {
    status: Status,
    cause: Cow<'static, str>,
    #[source]
    source: Option<Arc<io::Error>>,
}

impl Error {
    /// Makes an error from a status and the cause in words (lower case, no period).
    pub fn new(status: Status, cause: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            cause: cause.into(),
            source: None,
        }
    }

    /// Makes an error from a status that the daemon answered, with the status's own words.
    pub(crate) fn from_status(status: Status) -> Self {
        Self::new(status, status.text())
    }

    /// Adds the operating system's error.
    pub(crate) fn with_source(mut self, source: io::Error) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The stable status: what a program decides on.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What happened, in words.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What the reader of the message can do about it.
    pub fn remedy(&self) -> &'static str {
        self.status.remedy()
    }

    pub(crate) fn timeout() -> Self {
        Self::from_status(Status::Timeout)
    }

    pub(crate) fn restarting() -> Self {
        Self::new(Status::Restarting, "the daemon is away or restarting")
    }

    pub(crate) fn malformed(what: &'static str) -> Self {
        Self::new(Status::Malformed, what)
    }

    pub(crate) fn forked() -> Self {
        Self::new(
            Status::InvalidArgument,
            "this client was opened before a fork, by the parent process",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_cause_status_and_remedy() {
        let error = Error::new(Status::TooLarge, "value has 9 bytes, the limit is 8");
        let shown = error.to_string();
        assert!(
            shown.starts_with("value has 9 bytes, the limit is 8 (TooLarge): "),
            "{shown}"
        );
        assert!(shown.ends_with(Status::TooLarge.remedy()), "{shown}");
    }

    #[test]
    fn results_stay_small() {
        assert!(size_of::<Error>() <= 48, "batches hold one result per key");
    }
}
