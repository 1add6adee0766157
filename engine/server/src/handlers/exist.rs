//! Exist: is the key there? Counts as no access.

use chariot_proto::Status;

use crate::request::{Outcome, Request};
use crate::shard::Shard;

/// Handles one exist.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    if tenant.store.exists(request.hash(), request.now_ms) {
        Status::Ok.into()
    } else {
        Status::NotFound.into()
    }
}
