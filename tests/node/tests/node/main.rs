//! One node from outside: real processes, the Rust SDK, and peers that mean harm.
#![forbid(unsafe_code)]

#[cfg(test)]
mod operations;
