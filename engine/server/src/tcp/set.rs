//! Set over TCP: for each key reserve room with its owner, receive the payload straight into it,
//! check, commit.
//!
//! A value that finds no room, or whose key is no key, is skipped on the stream and answered by
//! itself. Nothing becomes visible before all of its bytes have arrived and their checksum fits.

use std::rc::Rc;

use chariot_base::Extent;
use chariot_proto::message::{SetAnswer, SetItem, SetRequest, SetResponse};
use chariot_proto::{ExistenceOpt, FrameHeader, KeyHash, Status, check_key};

use hashbrown::HashMap;

use crate::call::{Call, CommitOptions, Reply};
use crate::limits::COPY_SLICE_BYTES;
use crate::request::supported_mode;
use crate::tcp::context::{ConnectionEnd, Peer};
use crate::tcp::hold::Hold;

/// Answers one set.
pub(super) async fn handle(
    peer: &Peer,
    header: &FrameHeader,
    body: &[u8],
    deadline_ns: u64,
) -> Result<(), ConnectionEnd> {
    let request: SetRequest = match chariot_proto::decode(header, body) {
        Ok(request) => request,
        Err(error) => {
            peer.skip(header.payload_len).await?;
            return peer
                .refuse(header, error.status(), &error.to_string())
                .await;
        },
    };
    let mode = request
        .write_mode()
        .map_or(Err(Status::InvalidArgument), supported_mode);
    let mode = match mode {
        Ok(mode) => mode,
        Err(status) => {
            peer.skip(header.payload_len).await?;
            let text = "this write mode needs an object store, and this node has none";
            return peer.refuse(header, status, text).await;
        },
    };
    let options = CommitOptions {
        crc: None,
        ttl_ms: request.ttl_ms,
        if_absent: request.existence_opt() == Some(ExistenceOpt::IfAbsent),
        mode,
        reserving: None,
    };
    let mut answers: Vec<SetAnswer> = Vec::with_capacity(request.keys.len());
    let mut seen = HashMap::new();
    for (key, item) in request.keys.iter().zip(&request.items) {
        // Of duplicates the first wins, and all have its answer.
        if request.keys.len() > 1 {
            let first = *seen.entry(key).or_insert(answers.len());
            if first < answers.len() {
                peer.skip(item.value_len).await?;
                answers.push(answers[first]);
                continue;
            }
        }
        let options = CommitOptions {
            crc: item.crc(),
            ..options
        };
        let (status, version) = match one(peer, key, item, options, deadline_ns).await? {
            Reply::Done { status, version } => (status, version),
            Reply::Found(_) | Reply::Reserved(_) => unreachable!("a set ends with a status"),
        };
        answers.push(SetAnswer {
            version,
            status: status.as_u16(),
            ..SetAnswer::default()
        });
    }
    peer.send(
        &FrameHeader::answer(header, Status::Ok),
        &SetResponse { answers },
    )
    .await
}

/// Stores one value; an error ends the connection, everything else is the key's own answer.
pub(super) async fn one(
    peer: &Peer,
    key: &[u8],
    item: &SetItem,
    options: CommitOptions,
    deadline_ns: u64,
) -> Result<Reply, ConnectionEnd> {
    let tenant = peer.tenant.id;
    if check_key(key).is_err() {
        peer.skip(item.value_len).await?;
        return Ok(Reply::status(Status::KeyInvalid));
    }
    let hash = KeyHash::of(&peer.tenant.secret, key);
    let owner = peer.owner(hash);
    let extent = match peer
        .call(
            owner,
            Call::Reserve {
                tenant,
                len: item.value_len,
                deadline_ns,
            },
        )
        .await
    {
        Reply::Reserved(extent) => extent,
        refused => {
            peer.skip(item.value_len).await?;
            return Ok(refused);
        },
    };
    let hold = Hold::new(&peer.shard, owner, tenant, extent, true);
    let span = peer
        .span(extent.offset, extent.len)
        .with_owner(Rc::<Hold>::clone(&hold));
    let receiving = peer.ring.recv_exact(&peer.socket, span);
    peer.paced(extent.len, receiving).await??;
    if let Some(expected) = options.crc
        && checksum(peer, hold.extent()).await != expected
    {
        peer.shard.borrow_mut().counters.checksum_failures += 1;
        return Ok(Reply::status(Status::ChecksumMismatch));
    }
    hold.commit();
    Ok(peer
        .call(
            owner,
            Call::Commit {
                tenant,
                hash,
                extent,
                options,
            },
        )
        .await)
}

/// Computes the checksum of received bytes in slices, so that the shard serves others in between.
async fn checksum(peer: &Peer, extent: Extent) -> u32 {
    let mut crc = 0;
    let mut at = 0;
    while at < extent.len {
        let len = (extent.len - at).min(COPY_SLICE_BYTES as u64);
        crc = peer
            .tenant
            .arena
            .crc_append(crc, Extent::new(extent.offset + at, len));
        at += len;
        if at < extent.len {
            peer.context.yield_now().await;
        }
    }
    crc
}
