//! Publish of a strict session: the value lies in its private staging memory and is copied once.
//!
//! The client can change the bytes while they are copied; it then stores what it raced itself into,
//! nothing else. The range is checked against the staging memory before it is read.

use chariot_proto::Status;
use chariot_shm::SubmissionFlags;
use chariot_store::NewEntry;

use crate::reply::insert_status;
use crate::request::{Answer, Outcome, Request};
use crate::shard::Shard;

/// Handles one staged publish.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (number, count) = (shard.id.0, shard.shared.shard_count());
    let Some(staging) = shard.sessions.at(request.place).staging.clone() else {
        return Status::InvalidArgument.into();
    };
    let (tenant, sessions) = shard.tenant_and_sessions(request.tenant);
    let (from, len) = (request.words.extent, request.words.len);
    let inside = from
        .checked_add(len)
        .is_some_and(|end| end <= staging.len() as u64);
    if len == 0 || !inside {
        return Status::RangeInvalid.into();
    }
    let checked = request
        .check_written_key(tenant, number, count)
        .and_then(|()| request.write_mode());
    let write_mode = match checked {
        Ok(mode) => mode,
        Err(status) => return status.into(),
    };
    let Some(extent) = tenant.reserve(len, sessions, request.now_ns) else {
        return Outcome::NoMemory(len);
    };
    tenant.arena.copy_from(extent, &staging, from);
    let entry = NewEntry {
        extent,
        crc: request.crc(),
        expiry_ms: request.expiry_ms(),
        write_mode,
        set_if_absent: request.has(SubmissionFlags::SET_IF_ABSENT),
    };
    match tenant.publish(request.hash(), &entry, request.now_ms) {
        Ok(inserted) => {
            shard.count_written(len);
            shard.wake_watchers(request.tenant, request.hash());
            Outcome::Done(Answer {
                version: inserted.version,
                ..Answer::status(Status::Ok)
            })
        },
        Err(error) => insert_status(error).into(),
    }
}
