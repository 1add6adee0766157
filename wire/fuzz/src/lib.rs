//! Fuzzing of what a peer can send; see `checks.rs` for what must hold.
//!
//! `cargo fuzz run frame_header --sanitizer none` works on stable, from `wire/`. A new finding goes
//! into `corpus/<target>/` and is replayed by `cargo test -p chariot-proto` from then on.
#![forbid(unsafe_code)]

mod checks;

/// Runs the check of the target `name` on `bytes`.
///
/// # Panics
///
/// When the check finds something, or no target has that name.
pub fn run(name: &str, bytes: &[u8]) {
    checks::run(name, bytes);
}
