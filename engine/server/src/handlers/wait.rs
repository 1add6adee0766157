//! Wait: a get that waits for its key until the deadline; the publish that brings the key answers
//! it.

use chariot_proto::Status;

use crate::request::{Outcome, Request};
use crate::shard::Shard;
use crate::watching::Watched;

/// Handles one wait.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    if let Some(entry) = tenant.store.lookup(request.hash(), request.now_ms) {
        shard.count_read(entry.extent.len);
        return Outcome::Done(super::get::found(&entry));
    }
    if request.words.deadline_ns == 0 {
        // Nobody waits for ever: the SDK always sends a deadline.
        return Status::InvalidArgument.into();
    }
    let watched = Watched {
        tenant: request.tenant,
        hash: request.hash(),
        session: request.session,
        token: u64::from(request.words.token),
        deadline_ns: request.words.deadline_ns,
        taken_ns: request.now_ns,
    };
    match shard.watching.add(watched) {
        Ok(()) => Outcome::Watching,
        Err(_full) => Status::Busy.into(),
    }
}
