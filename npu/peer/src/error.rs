//! What can go wrong with an object, by what the caller does about it.

use chariot_client::Status;
use chariot_device::DeviceError;

/// Why a call about one object failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nobody provided it, or not all of it, until the deadline: a miss.
    #[error("no provider in time")]
    Absent,
    /// The sender has blobs of other numbers or sizes: ask with its own.
    #[error(
        "the number or size of blobs is inconsistent between sender and receiver: \
         the sender has {sender}, the receiver {receiver}"
    )]
    Mismatch {
        /// Blobs of the sender.
        sender: u64,
        /// Blobs of the receiver.
        receiver: u64,
    },
    /// The key is provided already, or received already by this card.
    #[error("the key is in use")]
    Exists,
    /// An argument has no meaning: a bug of the caller.
    #[error("{0}")]
    Invalid(&'static str),
    /// The port was closed.
    #[error("the port is closed")]
    Closed,
    /// The daemon refused or is not there.
    #[error("{cause} ({})", status.as_u16())]
    Directory {
        /// Its answer.
        status: Status,
        /// In words.
        cause: Box<str>,
    },
    /// The card failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<chariot_client::Error> for PeerError {
    fn from(error: chariot_client::Error) -> Self {
        match error.status() {
            Status::Exists => Self::Exists,
            status => Self::Directory {
                status,
                cause: error.cause().into(),
            },
        }
    }
}

impl PeerError {
    /// Whether the daemon says that what was named is no more.
    pub(crate) fn is_gone(&self) -> bool {
        let gone = [Status::NotFound, Status::InvalidArgument];
        matches!(self, Self::Directory { status, .. } if gone.contains(status))
    }

    /// Whether the same call may succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        let passing = [Status::Busy, Status::Again, Status::Timeout];
        matches!(self, Self::Directory { status, .. } if passing.contains(status))
    }
}
