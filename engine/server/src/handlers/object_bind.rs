//! `ObjectBind`: tie held keys to the version that was just published, or seal it, or let them go.
//!
//! The version says whether the publish is still the key's value: if another took its place, its
//! life is over already, and what was held for it is let go of.

use chariot_proto::Status;

use crate::request::{Outcome, Request};
use crate::shard::Shard;

const BIND: u8 = 0;
const SEAL: u8 = 1;
const DISCARD: u8 = 2;

/// Lets go of what was held for a publish whose bind came after its deadline.
pub(crate) fn let_go(shard: &mut Shard, request: &Request<'_>) {
    let parent = request.hash();
    // The session has staged nothing on a shard that is not the parent's.
    let objects = &mut shard.tenant_mut(request.tenant).objects;
    let staged = objects.nesting.discard(request.session, parent);
    objects.orphan(staged, false);
}

/// Handles one bind.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let parent = request.hash();
    if parent.shard(shard.shared.shard_count()) != shard.id.0 {
        return Status::Malformed.into();
    }
    let form = request.words.mode;
    if form > DISCARD {
        return Status::InvalidArgument.into();
    }
    let tenant = shard.tenant_mut(request.tenant);
    let version = tenant
        .store
        .peek(parent, request.now_ms)
        .map(|entry| entry.version);
    let objects = &mut tenant.objects;
    if form == DISCARD || version != Some(request.words.extent) {
        let staged = objects.nesting.discard(request.session, parent);
        objects.orphan(staged, false);
        return match form {
            DISCARD => Status::Ok.into(),
            _ => Status::Again.into(),
        };
    }
    let before = objects.nesting.bind(request.session, parent);
    objects.orphan(before, true);
    match form {
        BIND => Status::Ok.into(),
        SEAL => match objects.nesting.seal(parent) {
            Ok(()) => Status::Ok.into(),
            Err(_full) => Status::Busy.into(),
        },
        _ => unreachable!("checked above"),
    }
}
