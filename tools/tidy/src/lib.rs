//! Repository checks as ordinary tests: what compilers and linters do not see.
//!
//! Each check is a function from files to complaints ([`Complaint`]); the test of a check runs it
//! over the repository and expects none, and over a made-up tree that must make it complain. Files
//! come from `git ls-files` where there is a repository, else from a walk, so that a tarball is
//! checked too.
#![forbid(unsafe_code)]

pub mod manifests;
pub mod source;
pub mod text;
pub mod tree;
pub mod wrap;

pub use tree::{Complaint, File, Tree};
