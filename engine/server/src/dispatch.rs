//! From opcode to handler: the table of what a ring may ask, and what happens before and after any
//! of it.
//!
//! Lives on: owner shard. A request that is found past its deadline is answered `Timeout`
//! unexecuted; a publish then still gives its slot to the shard, exactly once. Everything is
//! counted and timed here.

use chariot_base::Deadline;
use chariot_proto::{Opcode, Status};
use chariot_shm::SubmissionWords;

use crate::handlers;
use crate::limits::RESERVE_WAIT_NS;
use crate::reply::completion;
use crate::request::{Answer, Kept, Outcome, Request};
use crate::session::Place;
use crate::shard::Shard;
use crate::tier::hooks;
use crate::waiting::Waiter;

/// Handles one submission to its answer, its queue, or its watcher.
pub(crate) fn submission(shard: &mut Shard, place: Place, words: &SubmissionWords, payload: &[u8]) {
    let session = shard.sessions.at(place);
    let request = Request {
        place,
        session: session.id,
        tenant: session.tenant,
        words,
        payload,
        now_ns: shard.now_ns,
        now_ms: shard.now_ms,
    };
    let outcome = handle(shard, &request);
    settle(shard, &request, outcome, shard.now_ns);
}

/// Handles a request again that waited for memory.
pub(crate) fn again(shard: &mut Shard, kept: &Kept) {
    if shard.sessions.find(kept.session) != Some(kept.place) {
        return;
    }
    let session = shard.sessions.at(kept.place);
    let request = Request {
        place: kept.place,
        session: kept.session,
        tenant: session.tenant,
        words: &kept.words,
        payload: &kept.payload,
        now_ns: shard.now_ns,
        now_ms: shard.now_ms,
    };
    let outcome = handle(shard, &request);
    settle(shard, &request, outcome, kept.taken_ns);
}

fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let Some(opcode) = Opcode::from_u8(request.words.opcode) else {
        return Status::NotSupported.into();
    };
    if request.is_late() {
        if opcode == Opcode::Publish {
            handlers::publish::discard(shard, request);
        }
        if opcode == Opcode::ObjectBind {
            handlers::object_bind::let_go(shard, request);
        }
        return Status::Timeout.into();
    }
    if let Some(outcome) = hooks::before(shard, request, opcode) {
        return outcome;
    }
    let outcome = execute(shard, request, opcode);
    hooks::after(shard, request, opcode, outcome)
}

fn execute(shard: &mut Shard, request: &Request<'_>, opcode: Opcode) -> Outcome {
    match opcode {
        Opcode::Nop => Status::Ok.into(),
        Opcode::Set => handlers::set_inline::handle(shard, request),
        Opcode::Publish => handlers::publish::handle(shard, request),
        Opcode::StagedPublish => handlers::staged_publish::handle(shard, request),
        Opcode::Get | Opcode::View => handlers::get::handle(shard, request),
        Opcode::Wait => handlers::wait::handle(shard, request),
        Opcode::Cancel => handlers::cancel::handle(shard, request),
        Opcode::Exist => handlers::exist::handle(shard, request),
        Opcode::Size => handlers::size::handle(shard, request),
        Opcode::Delete => handlers::delete::handle(shard, request),
        Opcode::Expire => handlers::expire::handle(shard, request),
        Opcode::LeaseGrant => handlers::lease_grant::handle(shard, request),
        Opcode::LeaseReturn => handlers::lease_return::handle(shard, request),
        Opcode::ObjectLatch => handlers::object_latch::handle(shard, request),
        Opcode::ObjectRef => handlers::object_ref::handle(shard, request),
        Opcode::ObjectNest => handlers::object_nest::handle(shard, request),
        Opcode::ObjectBind => handlers::object_bind::handle(shard, request),
        Opcode::MultiSetTx => handlers::multi_set_tx::handle(shard, request),
        // Prefix is a question over many shards: the SDK asks Exist of each and counts. Notes have
        // a ring of their own.
        _ => Status::NotSupported.into(),
    }
}

/// Answers, queues, or leaves it to the watcher.
fn settle(shard: &mut Shard, request: &Request<'_>, outcome: Outcome, taken_ns: u64) {
    match outcome {
        Outcome::Done(answer) => finish(shard, request, &answer, taken_ns),
        Outcome::Watching | Outcome::Copying => {},
        Outcome::Unknown => hooks::wait(shard, request, taken_ns),
        Outcome::NoMemory(need) => queue(shard, request, need, taken_ns),
    }
}

/// Posts an answer and counts it.
pub(crate) fn finish(shard: &mut Shard, request: &Request<'_>, answer: &Answer, taken_ns: u64) {
    let (tenant, sessions) = shard.tenant_and_sessions(request.tenant);
    let answer = &Answer {
        recall: tenant.lease_excess(request.session, sessions.len()),
        ..*answer
    };
    shard
        .sessions
        .post(request.place, &completion(request.words.token, answer));
    shard.count_operation(request.words.opcode, answer.status, taken_ns);
}

fn queue(shard: &mut Shard, request: &Request<'_>, need: u64, taken_ns: u64) {
    if need > shard.shared.value_max() {
        finish(shard, request, &Answer::status(Status::TooLarge), taken_ns);
        return;
    }
    let deadline_ns = match request.words.deadline_ns {
        // From when it was taken: one that is served, finds its room gone and queues again still
        // ends.
        0 => taken_ns + RESERVE_WAIT_NS,
        deadline_ns => deadline_ns,
    };
    let kept = Kept {
        place: request.place,
        session: request.session,
        words: *request.words,
        payload: request.payload.to_vec(),
        taken_ns,
    };
    let (tenant, _) = shard.tenant_and_sessions(request.tenant);
    tenant.waits += 1;
    let waiter = Waiter::Local(Box::new(kept));
    if tenant
        .waiters
        .push(need, Deadline::from_ns(deadline_ns), waiter)
        .is_err()
    {
        finish(shard, request, &Answer::status(Status::Busy), taken_ns);
    }
}

/// Answers a request whose wait for memory is over.
pub(crate) fn out_of_memory(shard: &mut Shard, kept: &Kept) {
    if shard.sessions.find(kept.session) != Some(kept.place) {
        return;
    }
    let answer = Answer::status(Status::OutOfMemory);
    shard
        .sessions
        .post(kept.place, &completion(kept.words.token, &answer));
    shard.count_operation(kept.words.opcode, Status::OutOfMemory, kept.taken_ns);
}
