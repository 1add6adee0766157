//! Get and view: find the entry; the completion names its extent and is a pin until the client
//! consumes it.

use chariot_proto::Status;
use chariot_store::EntryView;

use crate::request::{Answer, Outcome, Request};
use crate::shard::Shard;

/// Handles one get or view.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    if let Some(entry) = tenant.store.lookup(request.hash(), request.now_ms) {
        shard.count_read(entry.extent.len);
        Outcome::Done(found(&entry))
    } else {
        shard.count_miss();
        Status::NotFound.into()
    }
}

/// The answer that names an entry's extent.
pub(crate) fn found(entry: &EntryView) -> Answer {
    Answer {
        extent: Some(entry.extent.offset),
        len: entry.extent.len,
        version: entry.version,
        expiry_ms: entry.expiry_ms,
        crc: entry.crc,
        ..Answer::status(Status::Ok)
    }
}
