//! Waiting for conditions, bounded; never for time.

use std::time::{Duration, Instant};

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `condition` holds; the test fails when it does not within [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Polls until `condition` holds; the test fails when it does not within `limit`.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    loop {
        // Looked at once more after the limit: this thread may have been off the CPU.
        let late = start.elapsed() > limit;
        if condition() {
            return;
        }
        assert!(!late, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
