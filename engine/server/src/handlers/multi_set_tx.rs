//! `MultiSetTx`: begin, commit or abort a transaction on the shard that decides it.
//!
//! Its keys were reserved by `Set`, `Publish` and `StagedPublish` with the flag `RESERVE`, each on
//! its own shard. A commit is answered when every shard of it has made its keys visible.

use chariot_proto::Status;
use chariot_store::TxRefused;

use crate::objects::{tell_decision, transaction_deadline, tx_of};
use crate::request::{Outcome, Request};
use crate::shard::Shard;

const BEGIN: u8 = 0;
const COMMIT: u8 = 1;
const ABORT: u8 = 2;

/// Handles one step of a transaction.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let tx = tx_of(request);
    let count = u32::from(shard.shared.shard_count());
    let shards = request.words.extent;
    if shards == 0 || (count < u64::BITS && shards >> count != 0) {
        return Status::InvalidArgument.into();
    }
    let decisions = &mut shard.tenant_mut(request.tenant).objects.decisions;
    match request.words.mode {
        BEGIN => match decisions.begin(tx, transaction_deadline(request), request.now_ns) {
            Ok(()) => Status::Ok.into(),
            Err(TxRefused::Full) => Status::Busy.into(),
            Err(TxRefused::Own | TxRefused::Other) => Status::InvalidArgument.into(),
        },
        COMMIT => {
            if !decisions.commit(tx, shards, u64::from(request.words.token)) {
                return Status::Again.into();
            }
            tell_decision(shard, request.tenant, tx, shards, true);
            Outcome::Watching
        },
        ABORT => {
            if !decisions.abort(tx) {
                return Status::Again.into();
            }
            tell_decision(shard, request.tenant, tx, shards, false);
            Status::Ok.into()
        },
        _ => Status::InvalidArgument.into(),
    }
}
