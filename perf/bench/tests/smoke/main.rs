//! The program as a user runs it.
#![forbid(unsafe_code)]

#[cfg(test)]
mod program;
