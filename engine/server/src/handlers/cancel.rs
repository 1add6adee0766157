//! Cancel: give up a wait. `extent` of the words holds the token of the wait, which is answered
//! `Timeout`.

use chariot_proto::Status;

use crate::request::{Outcome, Request};
use crate::shard::Shard;

/// Handles one cancel; `NotFound` when the wait was answered already.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let Some(watched) = shard.watching.cancel(request.session, request.words.extent) else {
        return Status::NotFound.into();
    };
    shard.answer_watched(&watched, Status::Timeout.into());
    Status::Ok.into()
}
