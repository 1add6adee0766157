//! Expire: a new time to live; 0 = for ever. Pins that stand are not disturbed.

use chariot_proto::Status;

use crate::request::{Outcome, Request};
use crate::shard::Shard;

/// Handles one expire.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let expiry_ms = request.expiry_ms();
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    if tenant
        .store
        .set_expiry(request.hash(), expiry_ms, request.now_ms)
    {
        Status::Ok.into()
    } else {
        Status::NotFound.into()
    }
}
