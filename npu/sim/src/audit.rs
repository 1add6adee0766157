//! Counters, and what is left over when the runtime is finalised or the process ends.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::config::config;
use crate::state::State;

static COUNTS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Adds to a counter.
pub(crate) fn count(name: &'static str, by: u64) {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry(name).or_insert(0) += by;
}

/// Reads a counter.
pub(crate) fn counted(name: &str) -> u64 {
    let counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    counts.get(name).copied().unwrap_or(0)
}

/// What is not given back, one line a kind. Empty when nothing is.
pub(crate) fn leaks(state: &State) -> String {
    let mut text = String::new();
    let mut line = |what: &str, count: usize| {
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{count} {what}");
        }
    };
    let (allocations, imports) = state
        .devices
        .values()
        .map(crate::memory::Device::leaks)
        .fold((0, 0), |sum, leaks| (sum.0 + leaks.0, sum.1 + leaks.1));
    line("allocations", allocations);
    line("imports", imports);
    let streams = || state.streams.values();
    line(
        "streams",
        streams().filter(|stream| !stream.is_default).count(),
    );
    line(
        "streams with work that nobody waited for",
        streams().filter(|s| !s.is_idle()).count(),
    );
    line("events", state.events.len());
    line("communicators", crate::hccl::comms().len());
    line("host ranges", state.host.len());
    line(
        "contexts",
        state
            .contexts
            .values()
            .filter(|context| !context.is_default)
            .count(),
    );
    text
}

/// Writes the audit where the settings say. An empty file is a clean bill.
pub(crate) fn report(state: &State) {
    let text = leaks(state);
    if !text.is_empty() {
        crate::log(&format!("left over:\n{text}"));
    }
    if let Some(path) = &config().report
        && let Err(error) = std::fs::write(path, &text)
    {
        crate::log(&format!("the report cannot be written: {error}"));
    }
}
