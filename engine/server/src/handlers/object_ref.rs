//! `ObjectRef`: a client's references to a key. The last one of all deletes the object.

use chariot_proto::Status;
use chariot_store::Dropped;

use crate::request::{Answer, Asker, Outcome, Request};
use crate::shard::Shard;

const ADD: u8 = 0;
const DROP: u8 = 1;
const COUNT: u8 = 2;

/// Handles one reference of a local session.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    change(shard, &request.asker(), request.words.mode)
}

/// Adds, drops or counts.
pub(crate) fn change(shard: &mut Shard, asker: &Asker, form: u8) -> Outcome {
    let hash = asker.hash;
    if hash.shard(shard.shared.shard_count()) != shard.id.0 {
        return Status::Malformed.into();
    }
    let tenant = shard.tenant_mut(asker.tenant);
    let references = &mut tenant.objects.references;
    match form {
        ADD => match references.add(hash, asker.session) {
            Ok(is_first) => {
                if is_first {
                    tenant.store.hold(hash);
                }
                Status::Ok.into()
            },
            Err(_full) => Status::Busy.into(),
        },
        DROP => {
            let dropped = references.remove(hash, asker.session);
            if dropped == Dropped::Unknown {
                return Status::NotFound.into();
            }
            tenant.end_hold(hash, dropped);
            Status::Ok.into()
        },
        COUNT => Outcome::Done(Answer {
            len: u64::from(references.count(hash)),
            ..Answer::status(Status::Ok)
        }),
        _ => Status::InvalidArgument.into(),
    }
}
