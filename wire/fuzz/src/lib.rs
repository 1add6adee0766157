//! Fuzzing of what a peer can send (`checks.rs`) and of what a client or a daemon can write into
//! shared memory (`session.rs`): each says what must hold.
//!
//! `cargo fuzz run frame_header --fuzz-dir wire/fuzz --sanitizer none` works on stable, from the
//! repository's root. A new finding goes into `corpus/<target>/` and is replayed by
//! `cargo test -p chariot-proto -p chariot-shm` from then on.
#![forbid(unsafe_code)]

mod checks;
mod session;

/// Runs the check of the target `name` on `bytes`.
///
/// # Panics
///
/// When the check finds something, or no target has that name.
pub fn run(name: &str, bytes: &[u8]) {
    match name {
        "session_words" => session::session_words(bytes, session::STATED),
        "session_attach" => {
            session::session_attach(bytes);
        },
        _ => checks::run(name, bytes),
    }
}
