//! Delete: unlink the entry; its extent waits for pins in quarantine.

use chariot_proto::Status;

use crate::request::{Outcome, Request};
use crate::shard::Shard;

/// Handles one delete.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    if tenant.delete(request.hash(), request.now_ms) {
        Status::Ok.into()
    } else {
        Status::NotFound.into()
    }
}
