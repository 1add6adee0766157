//! `DeviceLink`: take the orders of a port, and report what became of its links. The form is the
//! `mode` byte; asked of the shard that keeps the links.

use chariot_proto::Status;
use chariot_proto::device::{CHUNKS_MAX, DeviceOrder, DevicePort, LinkForm, TICKETS_MAX};
use chariot_shm::CompletionWords;

use super::device_op::port_of;
use crate::devices::{LINK_SHARD, status_words};
use crate::request::{Outcome, Request};
use crate::shard::Shard;

/// Handles one request to the links.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    if shard.id != LINK_SHARD {
        return Status::Malformed.into();
    }
    let Some(form) = LinkForm::from_u8(request.words.mode) else {
        return Status::InvalidArgument.into();
    };
    let Some(port) = port_of(request) else {
        return Status::InvalidArgument.into();
    };
    let words = request.words;
    let links = &mut shard.tenant_mut(request.tenant).devices.links;
    match form {
        LinkForm::Next if words.deadline_ns == 0 => Status::InvalidArgument.into(),
        LinkForm::Next => match links.next(port, words.token, words.deadline_ns) {
            Ok(()) => Outcome::Watching,
            Err(status) => status.into(),
        },
        LinkForm::Open => open(shard, request, port),
        LinkForm::Joined => ended(links.joined(words.extent, port)),
        LinkForm::Break => ended(links.break_link(words.extent, port)),
        LinkForm::Announce => announce(shard, request, port),
        LinkForm::Refuse => refuse(shard, request, port),
    }
}

fn ended(result: Result<(), Status>) -> Outcome {
    result.err().unwrap_or(Status::Ok).into()
}

/// The port that a request names, if it is one of the same tenant: orders to any other would lie in
/// this tenant's queue for ever.
fn named_port(shard: &Shard, request: &Request<'_>) -> Result<DevicePort, Status> {
    let named = DevicePort::from_word(request.words.extent).ok_or(Status::InvalidArgument)?;
    let session = chariot_base::SessionId(named.session());
    let place = shard.sessions.find(session).ok_or(Status::NotFound)?;
    if shard.sessions.at(place).tenant != request.tenant {
        return Err(Status::NotFound);
    }
    Ok(named)
}

/// Tells the receiver of a transfer (`len`) that the port does not have it. A lie costs the
/// receiver another question to the directory.
fn refuse(shard: &mut Shard, request: &Request<'_>, port: DevicePort) -> Outcome {
    let receiver = match named_port(shard, request) {
        Ok(receiver) => receiver,
        Err(status) => return status.into(),
    };
    let order = DeviceOrder::Stop {
        peer: port,
        sends: false,
        number: request.words.len,
    };
    let links = &mut shard.tenant_mut(request.tenant).devices.links;
    links.tell(receiver, order);
    Status::Ok.into()
}

fn open(shard: &mut Shard, request: &Request<'_>, port: DevicePort) -> Outcome {
    let to = match named_port(shard, request) {
        Ok(to) => to,
        Err(status) => return status.into(),
    };
    let links = &mut shard.tenant_mut(request.tenant).devices.links;
    match links.open(port, to, request.now_ns) {
        Ok(opened) => {
            let words = CompletionWords {
                extent: opened.link,
                len: opened.is_up.into(),
                ..status_words(request.words.token, Status::Ok)
            };
            shard.sessions.post(request.place, &words);
            Outcome::Watching
        },
        Err(status) => status.into(),
    }
}

/// The words: `extent` the link, `len` the transfer's number, `crc` the first chunk, `lease_count`
/// the number of chunks, `hash_hi` the number of tickets (the shard is in `hash_lo`).
fn announce(shard: &mut Shard, request: &Request<'_>, port: DevicePort) -> Outcome {
    let words = request.words;
    let (first, count) = (words.crc, u32::from(words.lease_count));
    let tickets = u32::try_from(words.hash_hi).unwrap_or(u32::MAX);
    let is_within = count > 0
        && u64::from(first) + u64::from(count) <= CHUNKS_MAX
        && (count..=TICKETS_MAX).contains(&tickets);
    if !is_within {
        return Status::InvalidArgument.into();
    }
    let links = &mut shard.tenant_mut(request.tenant).devices.links;
    match links.announce((words.extent, port), words.len, (first, count), tickets) {
        Ok(ticket) => {
            let words = CompletionWords {
                extent: ticket,
                ..status_words(words.token, Status::Ok)
            };
            shard.sessions.post(request.place, &words);
            Outcome::Watching
        },
        Err(status) => status.into(),
    }
}
