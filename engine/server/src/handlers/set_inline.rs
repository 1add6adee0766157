//! Set of a small value that rides in the byte ring: reserve, copy, publish, in one round trip
//! without a lease.

use chariot_proto::Status;
use chariot_shm::SubmissionFlags;
use chariot_store::NewEntry;

use crate::reply::insert_status;
use crate::request::{Answer, Outcome, Request};
use crate::shard::Shard;

/// Handles one inline set.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let value = request.inline_value();
    if value.is_empty() || !request.has(SubmissionFlags::VALUE_INLINE) {
        return Status::InvalidArgument.into();
    }
    let (number, count) = (shard.id.0, shard.shared.shard_count());
    let (tenant, sessions) = shard.tenant_and_sessions(request.tenant);
    let checked = request
        .check_written_key(tenant, number, count)
        .and_then(|()| request.write_mode());
    let write_mode = match checked {
        Ok(mode) => mode,
        Err(status) => return status.into(),
    };
    let len = value.len() as u64;
    let Some(extent) = tenant.reserve(len, sessions, request.now_ns) else {
        return Outcome::NoMemory(len);
    };
    tenant.arena.copy_in(extent, value);
    let entry = NewEntry {
        extent,
        crc: request.crc(),
        expiry_ms: request.expiry_ms(),
        write_mode,
        set_if_absent: request.has(SubmissionFlags::SET_IF_ABSENT),
    };
    match tenant.publish_or_reserve(request, &entry) {
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
