//! `MultiSetTx`: begin, commit or abort a transaction on the shard that decides it.
//!
//! Its keys were reserved by `Set`, `Publish` and `StagedPublish` with the flag `RESERVE`, or by a
//! connection, each on its own shard. A commit is answered when every shard of it has made its keys
//! visible.

use chariot_proto::Status;
use chariot_store::{TxId, TxRefused};

use crate::objects::{tell_decision, transaction_deadline, tx_of};
use crate::request::{Asker, Outcome, Request};
use crate::shard::Shard;

/// Begin.
pub(crate) const BEGIN: u8 = 0;
/// Commit.
pub(crate) const COMMIT: u8 = 1;
/// Abort.
pub(crate) const ABORT: u8 = 2;

/// Handles one step of a local session's transaction.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let deadline_ns = transaction_deadline(request.words.deadline_ns, request.now_ns);
    let shards = request.words.extent;
    decide(
        shard,
        &request.asker(),
        request.words.mode,
        (tx_of(request), shards),
        deadline_ns,
    )
}

/// Begins or decides a transaction over a set of shards, one bit each.
pub(crate) fn decide(
    shard: &mut Shard,
    asker: &Asker,
    form: u8,
    (tx, shards): (TxId, u64),
    deadline_ns: u64,
) -> Outcome {
    let count = u32::from(shard.shared.shard_count());
    if shards == 0 || (count < u64::BITS && shards >> count != 0) {
        return Status::InvalidArgument.into();
    }
    let decisions = &mut shard.tenant_mut(asker.tenant).objects.decisions;
    match form {
        BEGIN => match decisions.begin(tx, deadline_ns, asker.now_ns) {
            Ok(()) => Status::Ok.into(),
            Err(TxRefused::Full) => Status::Busy.into(),
            Err(TxRefused::Own | TxRefused::Other) => Status::InvalidArgument.into(),
        },
        COMMIT => {
            if !decisions.commit(tx, shards, asker.token, asker.now_ns) {
                return Status::Again.into();
            }
            tell_decision(shard, asker.tenant, tx, shards, true);
            Outcome::Watching
        },
        ABORT => {
            if !decisions.abort(tx) {
                return Status::Again.into();
            }
            tell_decision(shard, asker.tenant, tx, shards, false);
            Status::Ok.into()
        },
        _ => Status::InvalidArgument.into(),
    }
}
