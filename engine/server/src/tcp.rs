//! Remote clients: TCP connections, each a task of the shard that accepted it.
//!
//! Reading order: [`listener`] (accept), [`connection`] (handshake, frames, one request at a time),
//! then one file per message: [`get`], [`set`], [`ask`], [`object`]. Payload goes between socket
//! and arena on the data ring, never through a buffer.

mod ask;
mod connection;
mod context;
mod get;
mod hold;
pub(crate) mod listener;
mod object;
mod set;

use chariot_base::{ShardId, TenantId};

use crate::call::{Call, Reply};
use crate::message::ShardMessage;
use crate::shard::Shard;

/// Undoes what a call granted to a connection that has gone: a hold is released, a reservation
/// aborted.
pub(crate) fn undo(shard: &mut Shard, owner: ShardId, tenant: TenantId, reply: Reply) {
    let call = match reply {
        Reply::Found(found) if found.held => Call::Release {
            tenant,
            extent: found.extent,
        },
        Reply::Reserved(extent) => Call::Abort { tenant, extent },
        Reply::Found(_) | Reply::Done { .. } => return,
    };
    let from = shard.id;
    shard.mail.send(
        owner,
        ShardMessage::Call {
            from,
            ticket: None,
            call,
        },
    );
}

/// Tells the owners of calls that were given up: what waits for a key there must not outlive its
/// connection. A call that was answered meanwhile is not found there.
pub(crate) fn cancel_given_up(shard: &mut Shard) {
    for given_up in shard.tickets.take_given_up() {
        let from = shard.id;
        let call = Call::Cancel {
            tenant: given_up.tenant,
            find: given_up.id,
        };
        shard.mail.send(
            given_up.owner,
            ShardMessage::Call {
                from,
                ticket: None,
                call,
            },
        );
    }
}

/// Undoes grants whose replies had come to tasks that ended before reading them.
pub(crate) fn undo_undelivered(shard: &mut Shard) {
    for undelivered in shard.tickets.take_undelivered() {
        undo(
            shard,
            undelivered.owner,
            undelivered.tenant,
            undelivered.reply,
        );
    }
}
