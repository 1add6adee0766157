//! Lease grant: lend slots for values of a length, as many as asked for and allowed, at least one.

use chariot_proto::Status;

use crate::request::{Answer, Outcome, Request};
use crate::shard::Shard;
use crate::tenant::{LeaseFor, NotLent};

/// Handles one grant; waits for memory where there is none.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let len = request.words.len;
    if len == 0 {
        return Status::InvalidArgument.into();
    }
    if len > shard.shared.value_max() {
        return Status::TooLarge.into();
    }
    if !shard.sessions.at(request.place).trusted {
        return Status::NotAuthorized.into();
    }
    let purpose = LeaseFor::Now {
        most_bytes: shard.lease_most_bytes(),
    };
    let (tenant, sessions) = shard.tenant_and_sessions(request.tenant);
    let count = u32::from(request.words.lease_count).clamp(1, chariot_memory::RUN_SLOTS_MAX);
    let lent = tenant.lend(
        request.session,
        (len, count),
        purpose,
        sessions,
        request.now_ns,
    );
    match lent {
        Ok(run) => Outcome::Done(Answer {
            lease: Some(run),
            ..Answer::status(Status::Ok)
        }),
        Err(NotLent::NoMemory) => Outcome::NoMemory(len),
        Err(NotLent::TooManySlots) => Status::Busy.into(),
    }
}
