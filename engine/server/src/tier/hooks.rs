//! Where requests meet the tier: before a handler, for what memory does not know, and after it,
//! for what the device must not bring back.
//!
//! | request | before | after |
//! |---|---|---|
//! | get, view, wait, find | read it when memory has no entry | |
//! | exist, size, find without bytes | answer from the tier's index | |
//! | set if absent | `Exists` when the tier has it | |
//! | expire | read it into memory first; a new version | its tombstone |
//! | set, publish, commit, delete | | its tombstone, then the answer |
//!
//! What recovery does not know yet waits (`Outcome::Unknown`), and is `Again` at its deadline.
//! Lives on: owner shard. Without a tier both cost one test of a pointer.

use chariot_base::{ShardId, TenantId};
use chariot_proto::{KeyHash, Opcode, Status};
use chariot_shm::SubmissionFlags;

use super::find::{self, Asked, Known, Wish};
use super::{Asker, Burial, Owed, Retry, with};
use crate::call::{Call, Found, Reply};
use crate::limits::RESERVE_WAIT_NS;
use crate::request::{Answer, Kept, Outcome, Request};
use crate::shard::Shard;
use crate::tickets::TicketId;
use crate::waiting::Waiter;

const fn is_write(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::Set | Opcode::Publish | Opcode::StagedPublish
    )
}

/// Whether the write is refused where the key is: transactions reserve absent keys only.
const fn wants_absence(request: &Request<'_>) -> bool {
    request.has(SubmissionFlags::SET_IF_ABSENT) || request.has(SubmissionFlags::RESERVE)
}

fn asker(request: &Request<'_>) -> Asker {
    Asker::Local {
        place: request.place,
        session: request.session,
        token: request.words.token,
        opcode: request.words.opcode,
        taken_ns: request.now_ns,
        deadline_ns: request.words.deadline_ns,
    }
}

fn kept(request: &Request<'_>) -> Retry {
    Retry::Local(Box::new(Kept {
        place: request.place,
        session: request.session,
        words: *request.words,
        payload: request.payload.to_vec(),
        taken_ns: request.now_ns,
    }))
}

/// Lets the tier take a ring's request that memory cannot answer; `None`: the handler goes on.
pub(crate) fn before(shard: &mut Shard, request: &Request<'_>, opcode: Opcode) -> Option<Outcome> {
    shard.tier.as_deref()?;
    let (tenant, hash, now_ms) = (request.tenant, request.hash(), request.now_ms);
    let is_here = shard.tenant_mut(tenant).store.exists(hash, now_ms);
    let lower = |shard: &mut Shard| {
        let known = with(shard, |tier, shard| find::known(tier, shard, tenant, hash));
        known.expect("there is a tier")
    };
    match opcode {
        Opcode::Get | Opcode::View | Opcode::Wait if !is_here => {
            let wish = Wish::Value(asker(request));
            outcome_of(ask(shard, tenant, hash, wish))
        },
        Opcode::Exist | Opcode::Size if !is_here => match lower(shard) {
            Known::Absent => None,
            Known::Unknown => Some(Outcome::Unknown),
            Known::Len(len) => Some(Outcome::Done(Answer {
                len: if opcode == Opcode::Size { len } else { 0 },
                ..Answer::status(Status::Ok)
            })),
        },
        Opcode::Expire if is_here => Some(expire(shard, request)),
        Opcode::Expire => outcome_of(ask(shard, tenant, hash, Wish::Promoted(kept(request)))),
        Opcode::Delete if !is_here => match lower(shard) {
            Known::Absent => None,
            // What recovery may still find is deleted all the same.
            Known::Unknown | Known::Len(_) => {
                shard.tenant_mut(tenant).objects.on_retired(hash);
                Some(bury(shard, request, Answer::status(Status::Ok)))
            },
        },
        opcode if is_write(opcode) && !is_here && wants_absence(request) => match lower(shard) {
            Known::Absent => None,
            Known::Unknown => Some(Outcome::Unknown),
            Known::Len(_) => {
                if opcode == Opcode::Publish {
                    crate::handlers::publish::discard(shard, request);
                }
                Some(Status::Exists.into())
            },
        },
        _ => None,
    }
}

/// Holds an answer back until what the device has of its key cannot come back.
pub(crate) fn after(
    shard: &mut Shard,
    request: &Request<'_>,
    opcode: Opcode,
    outcome: Outcome,
) -> Outcome {
    if shard.tier.is_none() {
        return outcome;
    }
    match outcome {
        Outcome::Done(answer)
            if answer.status.is_ok() && (is_write(opcode) || opcode == Opcode::Delete) =>
        {
            bury(shard, request, answer)
        },
        other => other,
    }
}

fn bury(shard: &mut Shard, request: &Request<'_>, answer: Answer) -> Outcome {
    let (tenant, hash) = (request.tenant, request.hash());
    let asker = asker(request);
    let owed = Owed {
        asker,
        tenant,
        answer,
        reply: Reply::status(answer.status),
    };
    match owe(shard, hash, owed) {
        Burial::Waits(_) => Outcome::Watching,
        Burial::Done => Outcome::Done(answer),
        Burial::Refused => Status::Again.into(),
    }
}

/// Keeps the device's copy of a key from coming back, and the answer until that is sure.
fn owe(shard: &mut Shard, hash: KeyHash, owed: Owed) -> Burial {
    let burial = with(shard, |tier, shard| {
        shard.tenant_mut(owed.tenant).spills.forget(hash);
        let burial = tier.bury(hash);
        if let Burial::Waits(ticket) = burial {
            // What the store asks for is carried out after this: its `Done` finds the errand.
            tier.owe(ticket, owed);
        }
        burial
    });
    burial.unwrap_or(Burial::Done)
}

fn expire(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (tenant, hash) = (request.tenant, request.hash());
    let (expiry_ms, now_ms) = (request.expiry_ms(), request.now_ms);
    if lower_needs_burial(shard, tenant, hash) {
        let renewed = shard
            .tenant_mut(tenant)
            .store
            .renew(hash, expiry_ms, now_ms);
        assert!(renewed.is_some(), "it was there a moment ago");
        return bury(shard, request, Answer::status(Status::Ok));
    }
    let share = shard.tenant_mut(tenant);
    let was_there = share.store.set_expiry(hash, expiry_ms, now_ms);
    assert!(was_there, "it was there a moment ago");
    Status::Ok.into()
}

/// Whether the device holds, or may hold, a copy of a key that is in memory too.
fn lower_needs_burial(shard: &mut Shard, tenant: TenantId, hash: KeyHash) -> bool {
    let known = with(shard, |tier, shard| find::known(tier, shard, tenant, hash));
    known.is_some_and(|known| known != Known::Absent)
}

fn ask(shard: &mut Shard, tenant: TenantId, hash: KeyHash, wish: Wish) -> Asked {
    let asked = with(shard, |tier, shard| {
        find::ask(tier, shard, tenant, hash, wish)
    });
    asked.expect("there is a tier")
}

fn outcome_of(asked: Asked) -> Option<Outcome> {
    match asked {
        Asked::Taken => Some(Outcome::Watching),
        Asked::Absent => None,
        Asked::Unknown => Some(Outcome::Unknown),
        Asked::NoMemory(need) => Some(Outcome::NoMemory(need)),
        Asked::Busy => Some(Status::Busy.into()),
    }
}

/// Keeps a request until recovery knows its key.
pub(crate) fn wait(shard: &mut Shard, request: &Request<'_>, taken_ns: u64) {
    let Retry::Local(mut kept) = kept(request) else {
        unreachable!("made for a session")
    };
    kept.taken_ns = taken_ns;
    let refused = with(shard, |tier, _| tier.wait_to_know(Retry::Local(kept)));
    if let Some(Some(retry)) = refused {
        super::refuse(shard, &retry, Status::Busy);
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Called {
    /// The handler goes on.
    Pass,
    /// This is the reply.
    Reply(Reply),
    /// The reply comes later.
    Later,
}

/// Lets the tier take a connection's call that memory cannot answer.
pub(crate) fn before_call(
    shard: &mut Shard,
    from: ShardId,
    ticket: Option<TicketId>,
    call: &Call,
) -> Called {
    if shard.tier.is_none() {
        return Called::Pass;
    }
    let (Some(ticket), Some(hash)) = (ticket, key_of(call)) else {
        return Called::Pass;
    };
    let (tenant, now_ms) = (call.tenant(), shard.now_ms);
    let is_here = shard.tenant_mut(tenant).store.exists(hash, now_ms);
    let lower = |shard: &mut Shard| {
        let known = with(shard, |tier, shard| find::known(tier, shard, tenant, hash));
        known.expect("there is a tier")
    };
    match call {
        Call::Find { hold: true, .. } if !is_here => {
            let wish = Wish::Value(Asker::Remote {
                from,
                ticket,
                hold: true,
            });
            let asked = ask(shard, tenant, hash, wish);
            called(shard, asked, (from, ticket), call)
        },
        Call::Find { hold: false, .. } if !is_here => match lower(shard) {
            Known::Absent => Called::Pass,
            Known::Unknown => called(shard, Asked::Unknown, (from, ticket), call),
            Known::Len(len) => Called::Reply(Reply::Found(Found {
                extent: chariot_base::Extent::new(0, len),
                crc: None,
                version: 0,
                expiry_ms: 0,
                held: false,
                is_from_ssd: false,
            })),
        },
        Call::Commit {
            options, extent, ..
        } if options.if_absent && !is_here => match lower(shard) {
            Known::Absent => Called::Pass,
            known => {
                shard.tenant_mut(tenant).free(extent.offset);
                // The bytes have come already: they do not wait for recovery.
                Called::Reply(Reply::status(if known == Known::Unknown {
                    Status::Again
                } else {
                    Status::Exists
                }))
            },
        },
        Call::Delete { .. } if !is_here && lower(shard) != Known::Absent => {
            shard.tenant_mut(tenant).objects.on_retired(hash);
            after_call(shard, from, Some(ticket), call, Reply::status(Status::Ok))
                .map_or(Called::Later, Called::Reply)
        },
        Call::Expire { ttl_ms, .. } if is_here && lower_needs_burial(shard, tenant, hash) => {
            let expiry_ms = if *ttl_ms == 0 { 0 } else { now_ms + ttl_ms };
            shard
                .tenant_mut(tenant)
                .store
                .renew(hash, expiry_ms, now_ms);
            after_call(shard, from, Some(ticket), call, Reply::status(Status::Ok))
                .map_or(Called::Later, Called::Reply)
        },
        Call::Expire { .. } if !is_here => {
            let wish = Wish::Promoted(retry(shard, (from, ticket), call));
            let asked = ask(shard, tenant, hash, wish);
            called(shard, asked, (from, ticket), call)
        },
        _ => Called::Pass,
    }
}

fn key_of(call: &Call) -> Option<KeyHash> {
    match call {
        Call::Find { hash, .. }
        | Call::Commit { hash, .. }
        | Call::Delete { hash, .. }
        | Call::Expire { hash, .. } => Some(*hash),
        _ => None,
    }
}

fn retry(shard: &Shard, (from, ticket): (ShardId, TicketId), call: &Call) -> Retry {
    Retry::Remote {
        from,
        ticket,
        call: call.clone(),
        deadline_ns: shard.now_ns + RESERVE_WAIT_NS,
    }
}

fn called(
    shard: &mut Shard,
    asked: Asked,
    (from, ticket): (ShardId, TicketId),
    call: &Call,
) -> Called {
    match asked {
        Asked::Taken => Called::Later,
        Asked::Absent => Called::Pass,
        Asked::Busy => Called::Reply(Reply::status(Status::Busy)),
        Asked::Unknown => {
            let retry = retry(shard, (from, ticket), call);
            match with(shard, |tier, _| tier.wait_to_know(retry)) {
                Some(None) => Called::Later,
                _ => Called::Reply(Reply::status(Status::Busy)),
            }
        },
        Asked::NoMemory(need) => {
            let deadline_ns = shard.now_ns + RESERVE_WAIT_NS;
            let share = shard.tenant_mut(call.tenant());
            share.waits += 1;
            let waiter = Waiter::Call {
                from,
                ticket,
                call: call.clone(),
            };
            let deadline = chariot_base::Deadline::from_ns(deadline_ns);
            match share.waiters.push(need, deadline, waiter) {
                Ok(()) => Called::Later,
                Err(_full) => Called::Reply(Reply::status(Status::Busy)),
            }
        },
    }
}

/// Holds a reply back until what the device has of its key cannot come back; `None`: it waits.
pub(crate) fn after_call(
    shard: &mut Shard,
    from: ShardId,
    ticket: Option<TicketId>,
    call: &Call,
    reply: Reply,
) -> Option<Reply> {
    let is_change = matches!(
        call,
        Call::Commit { .. } | Call::Delete { .. } | Call::Expire { .. }
    );
    let is_ok = matches!(reply, Reply::Done { status, .. } if status.is_ok());
    let (Some(ticket), Some(hash)) = (ticket, key_of(call)) else {
        return Some(reply);
    };
    if shard.tier.is_none() || !is_change || !is_ok {
        return Some(reply);
    }
    let owed = Owed {
        asker: Asker::Remote {
            from,
            ticket,
            hold: false,
        },
        tenant: call.tenant(),
        answer: Answer::status(Status::Ok),
        reply,
    };
    match owe(shard, hash, owed) {
        Burial::Waits(_) => None,
        Burial::Done => Some(reply),
        Burial::Refused => Some(Reply::status(Status::Again)),
    }
}
