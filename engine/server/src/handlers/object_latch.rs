//! `ObjectLatch`: take a latch of a key, waiting for it until the deadline or not at all, or
//! release one.

use chariot_proto::Status;
use chariot_store::{Latch, LatchKind, Released, Taken};

use crate::reply::completion;
use crate::request::{Answer, Outcome, Request};
use crate::shard::Shard;

const SHARED: u8 = 0;
const EXCLUSIVE: u8 = 1;
const RELEASE: u8 = 2;
const TRY_SHARED: u8 = 3;
const TRY_EXCLUSIVE: u8 = 4;

/// Handles one latch.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let hash = request.hash();
    if hash.shard(shard.shared.shard_count()) != shard.id.0 {
        return Status::Malformed.into();
    }
    let number = request.words.extent;
    let latches = &mut shard.tenant_mut(request.tenant).objects.latches;
    let kind = match request.words.mode {
        SHARED | TRY_SHARED => LatchKind::Shared,
        EXCLUSIVE | TRY_EXCLUSIVE => LatchKind::Exclusive,
        RELEASE => {
            return match latches.release(hash, request.session, number) {
                Released::Held => Status::Ok.into(),
                Released::Waiting(latch) => {
                    let token = u32::try_from(latch.token).expect("a ring's token has 32 bits");
                    let answer = Answer::status(Status::Timeout);
                    shard
                        .sessions
                        .post(request.place, &completion(token, &answer));
                    Status::Ok.into()
                },
                Released::Unknown => Status::NotFound.into(),
            };
        },
        _ => return Status::InvalidArgument.into(),
    };
    if request.words.deadline_ns == 0 {
        // Nobody waits for ever: the SDK always sends a deadline.
        return Status::InvalidArgument.into();
    }
    let waits = matches!(request.words.mode, SHARED | EXCLUSIVE);
    if !waits && !latches.is_free(hash, kind) {
        return Status::Timeout.into();
    }
    let latch = Latch {
        hash,
        session: request.session,
        number,
        kind,
        deadline_ns: request.words.deadline_ns,
        token: u64::from(request.words.token),
    };
    match latches.take(latch) {
        Taken::Held => Status::Ok.into(),
        Taken::Waiting => Outcome::Watching,
        Taken::Full => Status::Busy.into(),
        Taken::Known => Status::InvalidArgument.into(),
    }
}
