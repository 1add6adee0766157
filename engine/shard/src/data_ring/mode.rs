//! Which `io_uring` features a ring runs with: the best rung of a ladder that the kernel accepts.

use std::io;

use io_uring::IoUring;

use crate::limits::{RING_COMPLETIONS, RING_SUBMISSIONS};

/// A rung of the feature ladder, best first. Lives on: any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingMode {
    /// Completions are posted only when the shard asks (`DEFER_TASKRUN`, kernel 6.1 and newer).
    Deferred,
    /// Completions are posted at the next system call (`COOP_TASKRUN`, kernel 5.19 and newer).
    Cooperative,
    /// Completions interrupt the shard (older kernels).
    Plain,
}

impl RingMode {
    const LADDER: [Self; 3] = [Self::Deferred, Self::Cooperative, Self::Plain];

    /// The submission queue's flags say when an enter would post completions.
    pub(crate) fn flags_task_work(self) -> bool {
        match self {
            Self::Deferred | Self::Cooperative => true,
            Self::Plain => false,
        }
    }

    fn build(self, submissions: u32, completions: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(completions);
        match self {
            Self::Deferred => {
                builder
                    .setup_single_issuer()
                    .setup_defer_taskrun()
                    .setup_taskrun_flag()
                    .setup_submit_all();
            },
            Self::Cooperative => {
                builder
                    .setup_coop_taskrun()
                    .setup_taskrun_flag()
                    .setup_submit_all();
            },
            Self::Plain => {},
        }
        builder.build(submissions)
    }
}

/// Builds a ring on the best rung from `best` downwards that the kernel takes.
///
/// # Errors
/// The kernel's refusal of the lowest rung, or any that is not about flags (`EINVAL`).
pub(crate) fn build_ring(best: RingMode) -> io::Result<(IoUring, RingMode)> {
    let mut refusal = io::Error::from_raw_os_error(libc::EINVAL);
    let rungs = RingMode::LADDER
        .into_iter()
        .skip_while(|mode| *mode != best);
    for mode in rungs {
        match mode.build(RING_SUBMISSIONS, RING_COMPLETIONS) {
            Ok(ring) => return Ok((ring, mode)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = error,
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rung_builds_on_a_current_kernel() {
        for mode in RingMode::LADDER {
            mode.build(8, 32)
                .unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        }
    }
}
