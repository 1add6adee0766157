//! Calls of connections, answered by the shard that owns the key.
//!
//! Lives on: owner shard. The same tenant operations as for local sessions, without rings: what is
//! granted (an I/O pin, a reservation) stays until the connection releases or aborts it, which it
//! does also when it ends in the middle.

use chariot_base::{Deadline, Extent, ShardId, TenantId};
use chariot_proto::{KeyHash, Status};
use chariot_store::{EntryView, NewEntry};

use crate::call::{Call, CommitOptions, Found, Reply};
use crate::limits::RESERVE_WAIT_NS;
use crate::reply::insert_status;
use crate::shard::Shard;
use crate::tickets::TicketId;
use crate::tier::hooks::{self, Called};
use crate::waiting::Waiter;
use crate::watching::{Watched, caller_session};

/// Answers one call, or queues it; `None`: the answer comes later, or never was asked for.
pub(crate) fn handle(
    shard: &mut Shard,
    from: ShardId,
    ticket: Option<TicketId>,
    call: &Call,
) -> Option<Reply> {
    match hooks::before_call(shard, from, ticket, call) {
        Called::Pass => {},
        Called::Reply(reply) => return Some(reply),
        Called::Later => return None,
    }
    let reply = execute(shard, from, ticket, call)?;
    hooks::after_call(shard, from, ticket, call, reply)
}

fn execute(
    shard: &mut Shard,
    from: ShardId,
    ticket: Option<TicketId>,
    call: &Call,
) -> Option<Reply> {
    match *call {
        Call::Find {
            tenant,
            hash,
            hold,
            wait_until_ns,
        } => {
            let ticket = ticket.expect("a find is answered");
            find(shard, (from, ticket), tenant, hash, hold, wait_until_ns)
        },
        Call::Release { tenant, extent } => {
            release(shard, tenant, extent);
            None
        },
        Call::Reserve {
            tenant,
            len,
            deadline_ns,
        } => {
            let ticket = ticket.expect("a reservation is answered");
            reserve(shard, (from, ticket), tenant, len, deadline_ns)
        },
        Call::Commit {
            tenant,
            hash,
            extent,
            options,
        } => Some(commit(shard, tenant, hash, extent, options)),
        Call::Abort { tenant, extent } => {
            let (tenant, _) = shard.tenant_and_sessions(tenant);
            tenant.free(extent.offset);
            None
        },
        Call::Cancel { find, .. } => {
            let waiting = shard
                .watching
                .cancel(caller_session(from), u64::from(find.0));
            if let Some(watched) = waiting {
                shard.answer_watched(&watched, Status::Timeout.into());
            }
            None
        },
        Call::Object(ref call) => super::object_calls::handle(shard, from, ticket, call),
        Call::Delete { tenant, hash } => {
            let now_ms = shard.now_ms;
            let (tenant, _) = shard.tenant_and_sessions(tenant);
            Some(found_or_missing(tenant.delete(hash, now_ms)))
        },
        Call::Expire {
            tenant,
            hash,
            ttl_ms,
        } => {
            let now_ms = shard.now_ms;
            let (tenant, _) = shard.tenant_and_sessions(tenant);
            let expiry_ms = if ttl_ms == 0 { 0 } else { now_ms + ttl_ms };
            Some(found_or_missing(
                tenant.store.set_expiry(hash, expiry_ms, now_ms),
            ))
        },
    }
}

fn found_or_missing(was_there: bool) -> Reply {
    Reply::status(if was_there {
        Status::Ok
    } else {
        Status::NotFound
    })
}

fn find(
    shard: &mut Shard,
    (from, ticket): (ShardId, TicketId),
    tenant: TenantId,
    hash: KeyHash,
    hold: bool,
    wait_until_ns: u64,
) -> Option<Reply> {
    let now_ms = shard.now_ms;
    let share = shard.tenant_mut(tenant);
    let entry = if hold {
        share.store.lookup(hash, now_ms)
    } else {
        share.store.peek(hash, now_ms)
    };
    if let Some(entry) = entry {
        return Some(Reply::Found(found(shard, tenant, &entry, hold)));
    }
    if hold {
        shard.count_miss();
    }
    if wait_until_ns <= shard.now_ns {
        return Some(Reply::status(Status::NotFound));
    }
    let watched = Watched {
        tenant,
        hash,
        session: caller_session(from),
        token: u64::from(ticket.0),
        deadline_ns: wait_until_ns,
        taken_ns: shard.now_ns,
    };
    match shard.watching.add(watched) {
        Ok(()) => None,
        Err(_full) => Some(Reply::status(Status::Busy)),
    }
}

/// Describes an entry to a connection, held by an I/O pin when it will read it.
pub(crate) fn found(shard: &mut Shard, tenant: TenantId, entry: &EntryView, hold: bool) -> Found {
    if hold {
        shard.tenant_mut(tenant).io_pins.pin(entry.extent);
        shard.count_read(entry.extent.len);
    }
    Found {
        extent: entry.extent,
        crc: entry.crc,
        version: entry.version,
        expiry_ms: entry.expiry_ms,
        held: hold,
        is_from_ssd: false,
    }
}

fn release(shard: &mut Shard, tenant: TenantId, extent: Extent) {
    let tenant = shard.tenant_mut(tenant);
    let last = tenant.io_pins.unpin(extent);
    if last {
        tenant.note_release();
    }
}

fn reserve(
    shard: &mut Shard,
    (from, ticket): (ShardId, TicketId),
    tenant: TenantId,
    len: u64,
    deadline_ns: u64,
) -> Option<Reply> {
    if len == 0 {
        return Some(Reply::status(Status::InvalidArgument));
    }
    if len > shard.shared.value_max() {
        return Some(Reply::status(Status::TooLarge));
    }
    let now_ns = shard.now_ns;
    let (tenant, sessions) = shard.tenant_and_sessions(tenant);
    if let Some(extent) = tenant.reserve(len, sessions, now_ns) {
        return Some(Reply::Reserved(extent));
    }
    let deadline_ns = if deadline_ns == 0 {
        now_ns + RESERVE_WAIT_NS
    } else {
        deadline_ns
    };
    tenant.waits += 1;
    let waiter = Waiter::Reserve {
        from,
        ticket,
        len,
        deadline_ns,
    };
    match tenant
        .waiters
        .push(len, Deadline::from_ns(deadline_ns), waiter)
    {
        Ok(()) => None,
        Err(_full) => Some(Reply::status(Status::Busy)),
    }
}

fn commit(
    shard: &mut Shard,
    tenant: TenantId,
    hash: KeyHash,
    extent: Extent,
    options: CommitOptions,
) -> Reply {
    let now_ms = shard.now_ms;
    let entry = NewEntry {
        extent,
        crc: options.crc,
        expiry_ms: if options.ttl_ms == 0 {
            0
        } else {
            now_ms + options.ttl_ms
        },
        write_mode: options.mode,
        set_if_absent: options.if_absent,
    };
    let share = shard.tenant_mut(tenant);
    let stored = match &options.reserving {
        None => share.publish(hash, &entry, now_ms),
        Some(reserving) => share.hide(hash, &entry, now_ms, reserving),
    };
    match stored {
        Ok(inserted) => {
            shard.count_written(extent.len);
            if options.reserving.is_none() {
                shard.wake_watchers(tenant, hash);
            }
            Reply::Done {
                status: Status::Ok,
                version: inserted.version,
            }
        },
        Err(error) => Reply::status(insert_status(error)),
    }
}
