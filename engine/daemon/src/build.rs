//! Version and commit this binary was built from.

/// What was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// Version of the package.
    pub version: &'static str,
    /// Commit, short, with `-dirty` behind it when tracked files had changed; `unknown` outside a
    /// repository.
    pub commit: &'static str,
}

/// This binary.
pub const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: env!("CHARIOT_COMMIT"),
};

/// As `--version` prints it.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CHARIOT_COMMIT"), ")");
