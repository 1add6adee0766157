//! What can go wrong with an accelerator, by what the caller does about it.

use crate::capability::BackendKind;

/// Why a call on an accelerator failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no such backend on this machine; the text says what to install. Go on without.
    #[error("no {backend} backend: {reason}")]
    Unavailable {
        /// The backend that was asked for.
        backend: BackendKind,
        /// Library, symbol and remedy, for the operator.
        reason: Box<str>,
    },
    /// This driver or card does not offer it: take the fallback.
    #[error("not offered by this driver: {what}")]
    Unsupported {
        /// The function or feature.
        what: &'static str,
    },
    /// The card has not that much memory left. Evict and try again.
    #[error("out of device memory for {bytes} bytes")]
    DeviceMemory {
        /// What was asked for.
        bytes: u64,
    },
    /// The host cannot lock that much more memory. Use less, or raise the limit.
    #[error("out of page-locked memory for {bytes} bytes")]
    PinnedMemory {
        /// What was asked for.
        bytes: u64,
    },
    /// Streams, events or a stream's queue are at their limit: wait for some of it, then try again.
    #[error("{what} at their limit")]
    Full {
        /// What is full.
        what: &'static str,
    },
    /// The time was over; the work still runs, and its memory is still held. Wait again or abort.
    #[error("{what} not over in time")]
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// The stream was aborted: what was queued on it did not run to its end.
    #[error("aborted")]
    Aborted,
    /// The card is gone, with every object on it. Other cards go on.
    #[error("device lost ({call} answered {code})")]
    Lost {
        /// The function that told.
        call: &'static str,
        /// The library's code.
        code: i32,
    },
    /// The other end of a link is gone: drop the link and build it anew.
    #[error("peer gone ({call} answered {code})")]
    PeerBroken {
        /// The function that told.
        call: &'static str,
        /// The library's code.
        code: i32,
    },
    /// Another link is being set up on this card: try again when that is over.
    #[error("the card is setting up another link")]
    LinkBusy,
    /// Wrong use by this side: a bug, never tried again.
    #[error("misuse: {what}")]
    Misuse {
        /// What was wrong.
        what: Box<str>,
    },
    /// The operation failed for another reason.
    #[error("{call} failed with {code}{text}")]
    Failed {
        /// The function that told.
        call: &'static str,
        /// The library's code.
        code: i32,
        /// The library's own words, after a colon, or nothing.
        text: Box<str>,
    },
}

impl DeviceError {
    /// Makes a misuse.
    pub(crate) fn misuse(what: impl Into<Box<str>>) -> Self {
        Self::Misuse { what: what.into() }
    }

    /// True when no later call on this card can succeed.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}
