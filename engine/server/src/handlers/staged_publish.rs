//! Publish of a strict session: the value lies in its private staging memory and is copied once.
//!
//! Small values are copied at once, large ones a slice a round, so that no session can hold the
//! shard with one request. The extent belongs to the copy alone until it is published: if the
//! session ends in between, it is freed. The client can change the bytes while they are copied; it
//! then stores what it raced itself into, nothing else. The range is checked before it is read, and
//! the staging memory cannot shrink (it is sealed).
//!
//! Neighbours: `dispatch.rs` begins a copy, `pass.rs` goes on with it.

use std::sync::Arc;

use chariot_base::{Extent, TenantId};
use chariot_proto::{Status, WriteMode};
use chariot_shm::{Mapping, SubmissionFlags};
use chariot_store::NewEntry;

use crate::limits::COPY_SLICE_BYTES;
use crate::reply::insert_status;
use crate::request::{Answer, Kept, Outcome, Request};
use crate::shard::Shard;

/// A value on its way from staging memory into the arena.
#[derive(Debug)]
pub(crate) struct StagedCopy {
    /// The request, to be answered at the end.
    pub(crate) kept: Kept,
    tenant: TenantId,
    staging: Arc<Mapping>,
    extent: Extent,
    copied: u64,
}

/// Begins one staged publish; small ones end here.
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
    if len <= COPY_SLICE_BYTES as u64 {
        tenant.arena.copy_from(extent, &staging, from);
        return publish(shard, request, extent, write_mode).into();
    }
    shard.copies.push_back(StagedCopy {
        kept: Kept {
            place: request.place,
            session: request.session,
            words: *request.words,
            payload: request.payload.to_vec(),
            taken_ns: request.now_ns,
        },
        tenant: request.tenant,
        staging,
        extent,
        copied: 0,
    });
    Outcome::Copying
}

/// Copies the next slice of one value; returns the copy while it is not at its end.
pub(crate) fn go_on(shard: &mut Shard, mut copy: StagedCopy) -> Option<StagedCopy> {
    let share = shard.tenant_mut(copy.tenant);
    let len = (copy.extent.len - copy.copied).min(COPY_SLICE_BYTES as u64);
    let slice = Extent::new(copy.extent.offset + copy.copied, len);
    let from = copy.kept.words.extent + copy.copied;
    share.arena.copy_from(slice, &copy.staging, from);
    copy.copied += len;
    if copy.copied < copy.extent.len {
        return Some(copy);
    }
    let StagedCopy {
        kept,
        tenant,
        extent,
        ..
    } = copy;
    if shard.sessions.find(kept.session) != Some(kept.place) {
        shard.tenant_mut(tenant).free(extent.offset);
        return None;
    }
    let request = Request {
        place: kept.place,
        session: kept.session,
        tenant,
        words: &kept.words,
        payload: &kept.payload,
        now_ns: shard.now_ns,
        now_ms: shard.now_ms,
    };
    let answer = match request.write_mode() {
        Ok(write_mode) => publish(shard, &request, extent, write_mode),
        Err(status) => {
            shard.tenant_mut(tenant).free(extent.offset);
            Answer::status(status)
        },
    };
    let opcode = chariot_proto::Opcode::StagedPublish;
    let outcome = crate::tier::hooks::after(shard, &request, opcode, Outcome::Done(answer));
    if let Outcome::Done(answer) = outcome {
        crate::dispatch::finish(shard, &request, &answer, kept.taken_ns);
    }
    None
}

fn publish(
    shard: &mut Shard,
    request: &Request<'_>,
    extent: Extent,
    write_mode: WriteMode,
) -> Answer {
    let entry = NewEntry {
        extent,
        crc: request.crc(),
        expiry_ms: request.expiry_ms(),
        write_mode,
        set_if_absent: request.has(SubmissionFlags::SET_IF_ABSENT),
    };
    let tenant = shard.tenant_mut(request.tenant);
    match tenant.publish_or_reserve(request, &entry) {
        Ok(inserted) => {
            shard.count_written(extent.len);
            shard.wake_watchers(request.tenant, request.hash());
            Answer {
                version: inserted.version,
                ..Answer::status(Status::Ok)
            }
        },
        Err(error) => Answer::status(insert_status(error)),
    }
}
