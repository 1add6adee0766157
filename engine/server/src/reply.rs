//! From outcomes to what peers read: the one place that maps errors to statuses and answers to
//! completion words.

use chariot_proto::Status;
use chariot_shm::{CompletionFlags, CompletionWords};
use chariot_store::InsertError;

use crate::request::Answer;

/// The status of a write that the store refused.
pub(crate) const fn insert_status(error: InsertError) -> Status {
    match error {
        InsertError::Exists => Status::Exists,
        InsertError::Sealed => Status::Sealed,
        InsertError::Reserved => Status::Again,
        InsertError::MetadataFull { .. } => Status::MetadataFull,
    }
}

/// The completion words of an answer.
pub(crate) fn completion(token: u32, answer: &Answer) -> CompletionWords {
    let mut words = CompletionWords {
        token,
        status: answer.status.as_u16(),
        len: answer.len,
        version: answer.version,
        expiry_ms: answer.expiry_ms,
        ..CompletionWords::default()
    };
    if let Some(offset) = answer.extent {
        words.flags |= CompletionFlags::NAMES_EXTENT;
        words.extent = offset;
    }
    if let Some(crc) = answer.crc {
        words.flags |= CompletionFlags::CRC_PRESENT;
        words.crc = crc;
    }
    if answer.is_from_ssd {
        words.flags |= CompletionFlags::FROM_SSD;
    }
    if let Some(run) = answer.lease {
        words.flags |= CompletionFlags::LEASE;
        assert!(
            answer.extent.is_none(),
            "an answer brings a value or a lease"
        );
        words.extent = run.slots;
        words.lease_extent = run.offset;
        words.lease_len = run.slot_len;
        words.lease_count = u16::try_from(run.count()).expect("a set has at most 64 slots");
    } else if answer.recall > 0 {
        words.flags |= CompletionFlags::RECALL;
        words.lease_len = answer.recall;
    }
    words
}
