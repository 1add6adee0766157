//! The Rust SDK: synchronous and async faces, local and remote.
