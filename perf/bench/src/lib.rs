//! chariot-bench: the load tool, a process of its own beside the daemon.
//!
//! Five commands, each one module: `kv` (one operation, many times), `replay` (a trace of requests
//! of an inference service), `limits` (what the machine can do without a cache), `device` (objects
//! between host memory and an accelerator), `ssd` (the SSD tier beside fio). Reading order:
//! `args` (what may be asked for), `command` (from arguments to an exit status), then the command.
//!
//! Shared parts: `cache` is the port through which the load goes (the SDK, or a fake in tests),
//! `content` makes bytes that can be checked, `latency` holds distributions, `machine` says where a
//! figure was taken, `failure` is the one line that a user sees when something does not work.
#![forbid(unsafe_code)]

mod args;
mod cache;
mod command;
mod content;
mod device;
mod evictions;
mod failure;
mod kv;
mod latency;
mod limits;
mod machine;
mod pace;
mod pinning;
mod random;
mod replay;
mod ssd;
mod text;

#[cfg(test)]
mod fake;

pub use crate::command::run;
