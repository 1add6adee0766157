//! Size: how long is the value? Counts as no access.

use chariot_proto::Status;

use crate::request::{Answer, Outcome, Request};
use crate::shard::Shard;

/// Handles one size.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    match tenant.store.size(request.hash(), request.now_ms) {
        Some(len) => Outcome::Done(Answer {
            len,
            ..Answer::status(Status::Ok)
        }),
        None => Status::NotFound.into(),
    }
}
