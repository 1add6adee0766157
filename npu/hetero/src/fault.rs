//! What a card's failure is to a caller of the cache.

use chariot_client::{Error, Status};
use chariot_device::DeviceError;
use chariot_transfer::{TableError, TransferError};

/// A failure of the driver or the card.
pub(crate) fn of_device(error: &DeviceError) -> Error {
    let status = match error {
        DeviceError::Unavailable { .. } | DeviceError::Unsupported { .. } => Status::NotSupported,
        DeviceError::DeviceMemory { .. } | DeviceError::PinnedMemory { .. } => Status::OutOfMemory,
        DeviceError::Full { .. } | DeviceError::LinkBusy => Status::Busy,
        DeviceError::Timeout { .. } | DeviceError::Aborted => Status::Timeout,
        DeviceError::Misuse { .. } => Status::InvalidArgument,
        DeviceError::Lost { .. } | DeviceError::PeerBroken { .. } | DeviceError::Failed { .. } => {
            Status::Internal
        },
    };
    Error::new(status, error.to_string())
}

/// A failure of a transfer.
pub(crate) fn of_transfer(error: &TransferError) -> Error {
    let status = match error {
        TransferError::Device(error) => return of_device(error),
        TransferError::Invalid(_) => Status::InvalidArgument,
        TransferError::Cancelled => Status::ShuttingDown,
        TransferError::Deadline | TransferError::Stuck => Status::Timeout,
    };
    Error::new(status, error.to_string())
}

/// Lengths that make no object, or a value that is none.
pub(crate) fn of_table(error: TableError) -> Error {
    let status = match error {
        TableError::Blobs { .. } | TableError::Length => Status::TooLarge,
        TableError::Absent | TableError::Short { .. } => Status::InvalidArgument,
    };
    Error::new(status, format!("not an object of blobs: {error}"))
}

pub(crate) fn late() -> Error {
    Error::new(Status::Timeout, "the deadline passed")
}
