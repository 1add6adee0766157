//! Questions and changes without payload over TCP: exist, prefix, size, delete, expire, nop.

use std::collections::VecDeque;

use chariot_base::TenantId;
use chariot_proto::message::{
    DeleteRequest, DeleteResponse, ExistRequest, ExistResponse, ExpireRequest, ExpireResponse,
    KeyBatch, Message, PrefixRequest, PrefixResponse, SizeRequest, SizeResponse,
};
use chariot_proto::{FrameHeader, KeyHash, Status, check_key};

use crate::call::{Call, Reply};
use crate::limits::CALLS_PER_CONNECTION;
use crate::tcp::context::{ConnectionEnd, Peer};

/// Asks about every key, a window at a time; `each` gets the replies in order and says whether to
/// go on.
async fn all(
    peer: &Peer,
    keys: &KeyBatch,
    make: impl Fn(TenantId, KeyHash) -> Call,
    mut each: impl FnMut(Reply) -> bool,
) {
    let mut flying = VecDeque::new();
    let mut keys = keys.iter();
    loop {
        while flying.len() < CALLS_PER_CONNECTION {
            let Some(key) = keys.next() else { break };
            let call = check_key(key).is_ok().then(|| {
                let hash = KeyHash::of(&peer.tenant.secret, key);
                peer.call(peer.owner(hash), make(peer.tenant.id, hash))
            });
            flying.push_back(call);
        }
        let Some(call) = flying.pop_front() else {
            return;
        };
        let reply = match call {
            Some(answer) => answer.await,
            None => Reply::status(Status::KeyInvalid),
        };
        if !each(reply) {
            return;
        }
    }
}

const fn find(tenant: TenantId, hash: KeyHash) -> Call {
    Call::Find {
        tenant,
        hash,
        hold: false,
        wait_until_ns: 0,
    }
}

async fn decoded<M: Message>(
    peer: &Peer,
    header: &FrameHeader,
    body: &[u8],
) -> Result<Option<M>, ConnectionEnd> {
    match chariot_proto::decode(header, body) {
        Ok(message) => Ok(Some(message)),
        Err(error) => {
            peer.refuse(header, error.status(), &error.to_string())
                .await?;
            Ok(None)
        },
    }
}

async fn statuses(
    peer: &Peer,
    keys: &KeyBatch,
    make: impl Fn(TenantId, KeyHash) -> Call,
) -> Vec<u16> {
    let mut statuses = Vec::with_capacity(keys.len());
    all(peer, keys, make, |reply| {
        statuses.push(Peer::status_of(reply).as_u16());
        true
    })
    .await;
    statuses
}

/// Answers which keys exist.
pub(super) async fn exist(
    peer: &Peer,
    header: &FrameHeader,
    body: &[u8],
) -> Result<(), ConnectionEnd> {
    let Some(request) = decoded::<ExistRequest>(peer, header, body).await? else {
        return Ok(());
    };
    let statuses = statuses(peer, &request.keys, find).await;
    peer.send(
        &FrameHeader::answer(header, Status::Ok),
        &ExistResponse { statuses },
    )
    .await
}

/// Answers how many leading keys exist.
pub(super) async fn prefix(
    peer: &Peer,
    header: &FrameHeader,
    body: &[u8],
) -> Result<(), ConnectionEnd> {
    let Some(request) = decoded::<PrefixRequest>(peer, header, body).await? else {
        return Ok(());
    };
    let mut count = 0;
    all(peer, &request.keys, find, |reply| {
        let exists = Peer::status_of(reply).is_ok();
        count += u32::from(exists);
        exists
    })
    .await;
    peer.send(
        &FrameHeader::answer(header, Status::Ok),
        &PrefixResponse { count },
    )
    .await
}

/// Answers how long values are.
pub(super) async fn size(
    peer: &Peer,
    header: &FrameHeader,
    body: &[u8],
) -> Result<(), ConnectionEnd> {
    let Some(request) = decoded::<SizeRequest>(peer, header, body).await? else {
        return Ok(());
    };
    let mut response = SizeResponse::default();
    all(peer, &request.keys, find, |reply| {
        let size = if let Reply::Found(found) = reply {
            found.extent.len
        } else {
            0
        };
        response.sizes.push(size);
        response.statuses.push(Peer::status_of(reply).as_u16());
        true
    })
    .await;
    peer.send(&FrameHeader::answer(header, Status::Ok), &response)
        .await
}

/// Removes keys.
pub(super) async fn delete(
    peer: &Peer,
    header: &FrameHeader,
    body: &[u8],
) -> Result<(), ConnectionEnd> {
    let Some(request) = decoded::<DeleteRequest>(peer, header, body).await? else {
        return Ok(());
    };
    let make = |tenant, hash| Call::Delete { tenant, hash };
    let statuses = statuses(peer, &request.keys, make).await;
    peer.send(
        &FrameHeader::answer(header, Status::Ok),
        &DeleteResponse { statuses },
    )
    .await
}

/// Gives keys a new time to live.
pub(super) async fn expire(
    peer: &Peer,
    header: &FrameHeader,
    body: &[u8],
) -> Result<(), ConnectionEnd> {
    let Some(request) = decoded::<ExpireRequest>(peer, header, body).await? else {
        return Ok(());
    };
    let ttl_ms = request.ttl_ms;
    let make = |tenant, hash| Call::Expire {
        tenant,
        hash,
        ttl_ms,
    };
    let statuses = statuses(peer, &request.keys, make).await;
    peer.send(
        &FrameHeader::answer(header, Status::Ok),
        &ExpireResponse { statuses },
    )
    .await
}

/// Answers that the node lives.
pub(super) async fn nop(peer: &Peer, header: &FrameHeader) -> Result<(), ConnectionEnd> {
    peer.skip(header.payload_len).await?;
    let frame = FrameHeader::answer(header, Status::Ok).encode().to_vec();
    let bytes = frame.len() as u64;
    let sending = peer.ring.send_all_bytes(&peer.socket, frame);
    let (sent, _) = peer.paced(bytes, sending).await?;
    Ok(sent?)
}
