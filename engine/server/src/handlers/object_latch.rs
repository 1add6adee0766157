//! `ObjectLatch`: take a latch of a key, waiting for it until the deadline or not at all, or
//! release one.

use chariot_proto::{Opcode, Status};
use chariot_store::{Known, Latch, LatchKind, Released, Taken};

use crate::objects::answer;
use crate::request::{Asker, Outcome, Request};
use crate::shard::Shard;

const SHARED: u8 = 0;
const EXCLUSIVE: u8 = 1;
const RELEASE: u8 = 2;
const TRY_SHARED: u8 = 3;
const TRY_EXCLUSIVE: u8 = 4;

/// Where the answer of a wait goes that nobody listens to now: a connection asks again later.
const NOBODY: u64 = u64::MAX;

/// Handles one latch of a local session.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let words = request.words;
    take(
        shard,
        &request.asker(),
        words.mode,
        words.extent,
        words.deadline_ns,
    )
}

/// Takes or releases the latch that the session calls `number`.
pub(crate) fn take(
    shard: &mut Shard,
    asker: &Asker,
    form: u8,
    number: u64,
    deadline_ns: u64,
) -> Outcome {
    let hash = asker.hash;
    if hash.shard(shard.shared.shard_count()) != shard.id.0 {
        return Status::Malformed.into();
    }
    let latches = &mut shard.tenant_mut(asker.tenant).objects.latches;
    let kind = match form {
        SHARED | TRY_SHARED => LatchKind::Shared,
        EXCLUSIVE | TRY_EXCLUSIVE => LatchKind::Exclusive,
        RELEASE => {
            return match latches.release(hash, asker.session, number) {
                Released::Held => Status::Ok.into(),
                Released::Waiting(latch) => {
                    let to = (asker.tenant, latch.session, latch.token);
                    answer(
                        shard,
                        to,
                        Opcode::ObjectLatch,
                        Status::Timeout,
                        latch.taken_ns,
                    );
                    Status::Ok.into()
                },
                Released::Unknown => Status::NotFound.into(),
            };
        },
        _ => return Status::InvalidArgument.into(),
    };
    if deadline_ns == 0 {
        // Nobody waits for ever: the SDK always sends a deadline.
        return Status::InvalidArgument.into();
    }
    let waits = matches!(form, SHARED | EXCLUSIVE);
    if !waits && !latches.is_free(hash, kind) {
        return Status::Timeout.into();
    }
    let latch = Latch {
        hash,
        session: asker.session,
        number,
        kind,
        deadline_ns,
        token: asker.token,
        taken_ns: asker.now_ns,
    };
    match latches.take(latch) {
        Taken::Held => Status::Ok.into(),
        Taken::Waiting => Outcome::Watching,
        Taken::Full => Status::Busy.into(),
        Taken::Known => Status::InvalidArgument.into(),
    }
}

/// Takes a latch for a connection, which asks again and again under one number: a wait keeps its
/// turn in between.
pub(crate) fn take_or_go_on(
    shard: &mut Shard,
    asker: &Asker,
    form: u8,
    number: u64,
    deadline_ns: u64,
) -> Outcome {
    if matches!(form, SHARED | EXCLUSIVE)
        && asker.hash.shard(shard.shared.shard_count()) == shard.id.0
    {
        let latches = &mut shard.tenant_mut(asker.tenant).objects.latches;
        match latches.set_token(asker.hash, asker.session, number, asker.token) {
            Known::Held => return Status::Ok.into(),
            Known::Waiting(_) => return Outcome::Watching,
            Known::No => {},
        }
    }
    take(shard, asker, form, number, deadline_ns)
}

/// Answers `Again` to a connection whose wait goes on without it.
pub(crate) fn let_wait(shard: &mut Shard, asker: &Asker, number: u64) {
    let latches = &mut shard.tenant_mut(asker.tenant).objects.latches;
    let known = latches.set_token(asker.hash, asker.session, number, NOBODY);
    if let Known::Waiting(token) = known
        && token != NOBODY
    {
        let to = (asker.tenant, asker.session, token);
        answer(shard, to, Opcode::ObjectLatch, Status::Again, asker.now_ns);
    }
}

/// Whether a token is that of nobody.
pub(crate) const fn is_nobody(token: u64) -> bool {
    token == NOBODY
}
