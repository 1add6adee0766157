//! What connections ask about objects, answered by the shard of the key: the same tables as for
//! local sessions, with a connection's session number in place of a ring's.

use chariot_base::ShardId;
use chariot_proto::Opcode;
use chariot_store::TxId;

use crate::call::{ObjectAsk, ObjectCall, Reply};
use crate::handlers::{multi_set_tx, object_bind, object_latch, object_nest, object_ref};
use crate::objects::{self, remote_token};
use crate::request::{Asker, Outcome};
use crate::shard::Shard;
use crate::tickets::TicketId;

/// Answers one call; `None`: the answer comes later, or was not asked for.
pub(crate) fn handle(
    shard: &mut Shard,
    from: ShardId,
    ticket: Option<TicketId>,
    call: &ObjectCall,
) -> Option<Reply> {
    let asker = Asker {
        session: call.session,
        tenant: call.tenant,
        hash: call.hash,
        token: ticket.map_or(0, |ticket| remote_token(from, ticket)),
        now_ns: shard.now_ns,
        now_ms: shard.now_ms,
    };
    let (opcode, outcome) = match &call.ask {
        ObjectAsk::LetWait { number } => {
            object_latch::let_wait(shard, &asker, *number);
            return None;
        },
        &ObjectAsk::Latch {
            form,
            number,
            deadline_ns,
        } => (
            Opcode::ObjectLatch,
            object_latch::take_or_go_on(shard, &asker, form, number, deadline_ns),
        ),
        &ObjectAsk::Ref { form } => (Opcode::ObjectRef, object_ref::change(shard, &asker, form)),
        ObjectAsk::Nest { number, children } => (
            Opcode::ObjectNest,
            object_nest::hold(shard, &asker, *number, children),
        ),
        &ObjectAsk::Bind {
            form,
            number,
            version,
        } => (
            Opcode::ObjectBind,
            object_bind::bind(shard, &asker, form, number, version),
        ),
        &ObjectAsk::Tx {
            form,
            number,
            shards,
            deadline_ns,
        } => {
            let tx = TxId {
                session: call.session.0,
                number,
            };
            let deadline_ns = objects::transaction_deadline(deadline_ns, shard.now_ns);
            let decided = multi_set_tx::decide(shard, &asker, form, (tx, shards), deadline_ns);
            (Opcode::MultiSetTx, decided)
        },
    };
    match outcome {
        Outcome::Done(answer) => {
            shard.count_operation(opcode.as_u8(), answer.status, asker.now_ns);
            Some(Reply::Done {
                status: answer.status,
                version: answer.len,
            })
        },
        Outcome::Watching => None,
        Outcome::NoMemory(_) | Outcome::Copying | Outcome::Unknown => {
            unreachable!("questions about objects take no memory")
        },
    }
}
