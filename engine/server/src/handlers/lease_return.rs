//! Lease return: a slot that will not be used comes back. `extent` names its first byte.

use chariot_proto::Status;

use crate::request::{Outcome, Request};
use crate::shard::Shard;

/// Handles one return; a slot that the session does not hold is refused.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    match tenant
        .leases
        .give_back(request.session, request.words.extent)
    {
        Ok(extent) => {
            tenant.free(extent.offset);
            Status::Ok.into()
        },
        Err(_not_leased) => Status::InvalidArgument.into(),
    }
}
