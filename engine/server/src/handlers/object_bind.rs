//! `ObjectBind`: tie held keys to the version that was just published, or seal it, or let them go.
//!
//! The version says whether the publish is still the key's value: if another took its place, its
//! life is over already, and what was held for it is let go of.

use chariot_proto::Status;

use crate::request::{Asker, Outcome, Request};
use crate::shard::Shard;

const BIND: u8 = 0;
const SEAL: u8 = 1;
const DISCARD: u8 = 2;

/// Lets go of what was held for a publish whose bind came after its deadline.
pub(crate) fn let_go(shard: &mut Shard, request: &Request<'_>) {
    // The session has staged nothing on a shard that is not the parent's.
    let nesting = &mut shard.tenant_mut(request.tenant).objects.nesting;
    nesting.discard(request.session, request.hash(), request.words.len);
}

/// Handles one bind of a local session.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let words = request.words;
    bind(shard, &request.asker(), words.mode, words.len, words.extent)
}

/// Ends the publish that the session calls `number`, which made `version`.
pub(crate) fn bind(
    shard: &mut Shard,
    asker: &Asker,
    form: u8,
    number: u64,
    version: u64,
) -> Outcome {
    let parent = asker.hash;
    if parent.shard(shard.shared.shard_count()) != shard.id.0 {
        return Status::Malformed.into();
    }
    if form > DISCARD {
        return Status::InvalidArgument.into();
    }
    let tenant = shard.tenant_mut(asker.tenant);
    let value = tenant.store.peek(parent, asker.now_ms);
    let nesting = &mut tenant.objects.nesting;
    if form == DISCARD || value.map(|entry| entry.version) != Some(version) {
        nesting.discard(asker.session, parent, number);
        return match form {
            DISCARD => Status::Ok.into(),
            _ => Status::Again.into(),
        };
    }
    nesting.bind(asker.session, parent, number);
    match form {
        BIND => Status::Ok.into(),
        SEAL => match nesting.seal(parent) {
            Ok(()) => Status::Ok.into(),
            Err(_full) => Status::Busy.into(),
        },
        _ => unreachable!("checked above"),
    }
}
