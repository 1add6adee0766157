//! Publish: the bytes lie in a slot of a lease; make them a value.
//!
//! The slot leaves the lease first and belongs to this submission from then on: whatever is wrong
//! afterwards, it is freed exactly once, here, and never goes back to the client. Only a slot that
//! the session does not hold is refused without a free, since it is somebody else's.

use chariot_proto::Status;
use chariot_shm::SubmissionFlags;
use chariot_store::NewEntry;

use crate::reply::insert_status;
use crate::request::{Answer, Outcome, Request};
use crate::shard::Shard;
use crate::tenant::LeaseFor;

/// Handles one publish.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (number, shard_count) = (shard.id.0, shard.shared.shard_count());
    let (tenant, sessions) = shard.tenant_and_sessions(request.tenant);
    let Ok(extent) = tenant
        .leases
        .take(request.session, request.words.extent, request.words.len)
    else {
        return Status::InvalidArgument.into();
    };
    let mut lease = None;
    if request.has(SubmissionFlags::WANT_LEASE) {
        // Before the value is there to be evicted: with all else pinned, the room ahead would be
        // its own.
        let count = u32::from(request.words.lease_count).clamp(1, chariot_memory::RUN_SLOTS_MAX);
        let slot = tenant.extents.block_len(extent.offset);
        let len = slot.expect("a slot that was taken is live");
        lease = tenant
            .lend(
                request.session,
                (len, count),
                LeaseFor::Later,
                sessions,
                request.now_ns,
            )
            .ok();
    }
    let outcome = publish(number, shard_count, tenant, request, extent);
    let mut answer = match outcome {
        Ok(answer) => answer,
        Err(status) => Answer::status(status),
    };
    answer.lease = lease;
    if answer.status.is_ok() {
        shard.count_written(request.words.len);
        shard.wake_watchers(request.tenant, request.hash());
    }
    Outcome::Done(answer)
}

fn publish(
    shard: u16,
    shard_count: u16,
    tenant: &mut crate::tenant::TenantShard,
    request: &Request<'_>,
    extent: chariot_base::Extent,
) -> Result<Answer, Status> {
    let checked = request
        .check_written_key(tenant, shard, shard_count)
        .and_then(|()| request.write_mode());
    let write_mode = match checked {
        Ok(mode) => mode,
        Err(status) => {
            tenant.free(extent.offset);
            return Err(status);
        },
    };
    let entry = NewEntry {
        extent,
        crc: request.crc(),
        expiry_ms: request.expiry_ms(),
        write_mode,
        set_if_absent: request.has(SubmissionFlags::SET_IF_ABSENT),
    };
    // On an error the tenant has freed the extent.
    let inserted = tenant
        .publish_or_reserve(request, &entry)
        .map_err(insert_status)?;
    Ok(Answer {
        version: inserted.version,
        ..Answer::status(Status::Ok)
    })
}

/// An expired publish is not executed, but its slot is the shard's all the same.
pub(crate) fn discard(shard: &mut Shard, request: &Request<'_>) {
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    if let Ok(extent) = tenant
        .leases
        .take(request.session, request.words.extent, request.words.len)
    {
        tenant.free(extent.offset);
    }
}
