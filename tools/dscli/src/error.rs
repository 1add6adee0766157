//! What can go wrong, in the words that scripts look for.

use std::io;
use std::path::PathBuf;

/// A command that failed. The operator mends all of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line is not one.
    #[error("{0}; try dscli --help")]
    Usage(String),
    /// A command of chariot-ds that comes with a later release.
    #[error("{name} is not supported yet: {why}")]
    NotYet {
        /// The command.
        name: String,
        /// What it waits for.
        why: &'static str,
    },
    /// No configuration was given that names a backend, or a flag that nobody keeps.
    #[error("Start failed: {0}")]
    Refused(String),
    /// The daemon did not come up.
    #[error("[  FAILED  ] Start worker service @ {address} failed: {cause}")]
    NotStarted {
        /// Its address.
        address: String,
        /// Why.
        cause: String,
    },
    /// The daemon is up and does not take work.
    #[error("[  FAILED  ] Worker service is not ready within {seconds} seconds{log}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// Where to look.
        log: String,
    },
    /// The daemon ended at once.
    #[error("[  FAILED  ] Worker exited with code {code}\n output: {output}")]
    Exited {
        /// Its exit code, or the signal that ended it.
        code: String,
        /// The end of what it said.
        output: String,
    },
    /// Nobody listens there.
    #[error("No matching process found for {0}")]
    NoNode(String),
    /// etcd does not answer.
    #[error("cannot read the members from etcd: {0}; is it there, and does the address hold?")]
    Etcd(#[from] etcd_client::Error),
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The kernel refuses something else.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
}

impl CliError {
    /// A failure at a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Any other failure of the kernel.
    pub(crate) fn kernel<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Kernel {
            what,
            source: source.into(),
        }
    }
}
