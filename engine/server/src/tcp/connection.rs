//! One connection: its handshake, then one request after another, each answered before the next is read.
//!
//! Lives on: the shard that accepted it. A header is judged before its body is held, a body before its payload is
//! received; what is refused is skipped, so that the stream stays in step, and what cannot be skipped ends it.

use std::cell::RefCell;
use std::rc::Rc;

use chariot_base::SessionId;
use chariot_proto::message::{Hello, Proof, Refused, Welcome};
use chariot_proto::{Direction, FrameHeader, FrameLimits, HEADER_LEN, Opcode, Status, decode};
use chariot_shard::{DataRing, IoFd, ShardContext};

use crate::control::handshake;
use crate::limits::HANDSHAKE_MS;
use crate::shard::Shard;
use crate::tcp::context::{ConnectionEnd, Peer};
use crate::tcp::{ask, get, set};

/// Serves a connection to its end.
pub(super) async fn serve(shard: &Rc<RefCell<Shard>>, context: &ShardContext, socket: IoFd) {
    let deadline_ns = shard.borrow().now_ns + HANDSHAKE_MS * 1_000_000;
    let ring = context.ring();
    let introduced = context
        .timeout_at(deadline_ns, introduce(shard, context, &ring, socket))
        .await;
    let (peer, id) = match introduced {
        Ok(Ok(pair)) => pair,
        Ok(Err(end)) => {
            tracing::debug!(%end, "connection ended in its handshake");
            shard.borrow().shared.registry.refuse();
            return;
        },
        Err(_elapsed) => {
            shard.borrow().shared.registry.refuse();
            return;
        },
    };
    let end = requests(&peer).await;
    tracing::debug!(session = id.0, ?end, "connection closed");
    shard.borrow().shared.registry.close(id);
}

/// Frames of a connection that has no tenant yet.
struct Newcomer<'a> {
    ring: &'a DataRing,
    socket: &'a IoFd,
}

impl Newcomer<'_> {
    async fn receive(&self) -> Result<(FrameHeader, Vec<u8>), ConnectionEnd> {
        let limits = FrameLimits {
            body_max: 64 << 10,
            ..FrameLimits::with_payload_max(0)
        };
        let head = vec![0; usize::from(HEADER_LEN)];
        let (received, head) = self.ring.recv_exact_bytes(self.socket, head, 0).await;
        received?;
        let header = FrameHeader::parse(&head, &limits)
            .map_err(|error| ConnectionEnd::Malformed(error.status()))?;
        let body = vec![0; header.body_len as usize];
        if body.is_empty() {
            return Ok((header, body));
        }
        let (received, body) = self.ring.recv_exact_bytes(self.socket, body, 0).await;
        received?;
        Ok((header, body))
    }

    async fn send<M: chariot_proto::message::Message>(
        &self,
        header: &FrameHeader,
        message: &M,
    ) -> Result<(), ConnectionEnd> {
        let mut out = Vec::new();
        chariot_proto::encode_frame(&mut out, header, message).expect("handshake frames are small");
        let (sent, _) = self.ring.send_all_bytes(self.socket, out).await;
        Ok(sent?)
    }

    async fn refuse<T>(
        &self,
        request: &FrameHeader,
        refused: &Refused,
    ) -> Result<T, ConnectionEnd> {
        let header = FrameHeader::answer(request, refused.status()).with_opcode(Opcode::Refused);
        self.send(&header, refused).await?;
        Err(ConnectionEnd::Refused)
    }
}

fn malformed(error: &chariot_proto::MessageError) -> ConnectionEnd {
    ConnectionEnd::Malformed(error.status())
}

async fn introduce(
    shard: &Rc<RefCell<Shard>>,
    context: &ShardContext,
    ring: &DataRing,
    socket: IoFd,
) -> Result<(Peer, SessionId), ConnectionEnd> {
    let shared = std::sync::Arc::clone(&shard.borrow().shared);
    let newcomer = Newcomer {
        ring,
        socket: &socket,
    };
    let (first, body) = newcomer.receive().await?;
    let hello: Hello = decode(&first, &body).map_err(|error| malformed(&error))?;
    let (nonce, stand_in) = shared.nonces();
    let (pending, challenge) =
        match handshake::on_hello(&shared.options.access, &hello, &body, nonce, stand_in) {
            Ok(pair) => pair,
            Err(refused) => return newcomer.refuse(&first, &refused).await,
        };
    let header = FrameHeader::answer(&first, Status::Ok).with_opcode(Opcode::Challenge);
    newcomer.send(&header, &challenge).await?;
    let (second, body) = newcomer.receive().await?;
    let proof: Proof = decode(&second, &body).map_err(|error| malformed(&error))?;
    let admitted = match pending.on_proof(&proof) {
        Ok(admitted) => admitted,
        Err(refused) => return newcomer.refuse(&second, &refused).await,
    };
    if shared.is_draining() {
        return newcomer
            .refuse(
                &second,
                &Refused::new(Status::ShuttingDown, "the node is draining"),
            )
            .await;
    }
    let tickets = shard.borrow().tickets.clone();
    let tenant = match shared
        .tenant_for_shard(&admitted.tenant, context, &tickets)
        .await
    {
        Ok(tenant) => tenant,
        Err(text) => {
            return newcomer
                .refuse(&second, &Refused::new(Status::Busy, text))
                .await;
        },
    };
    let Some(id) = shared.registry.open(|id| crate::seam::SessionSummary {
        id: id.0,
        transport: "tcp",
        peer: String::new(),
        tenant: tenant.name.clone(),
        ..crate::seam::SessionSummary::default()
    }) else {
        let text = format!(
            "this node serves {} sessions already; close some",
            shared.options.sessions_max
        );
        return newcomer
            .refuse(&second, &Refused::new(Status::Busy, text))
            .await;
    };
    let mut welcome: Welcome = shared.welcome_remote(&tenant, id);
    if !admitted.wants_shared_memory {
        welcome.socket_path.clear();
    }
    let header = FrameHeader::answer(&second, Status::Ok).with_opcode(Opcode::Welcome);
    if let Err(end) = newcomer.send(&header, &welcome).await {
        shared.registry.close(id);
        return Err(end);
    }
    shard.borrow_mut().tenant_mut(tenant.id).note_use();
    let arena: Rc<dyn chariot_shard::StableMemory> = Rc::new(tenant.arena.mapping());
    let peer = Peer {
        shard: Rc::clone(shard),
        context: context.clone(),
        ring: ring.clone(),
        socket,
        tenant,
        arena,
        out: RefCell::default(),
        scratch: RefCell::default(),
    };
    Ok((peer, id))
}

/// Answers requests until the connection ends, and says why it did.
async fn requests(peer: &Peer) -> ConnectionEnd {
    let limits = FrameLimits::with_payload_max(peer.shard.borrow().shared.payload_max());
    let mut head = Vec::new();
    let mut body = Vec::new();
    loop {
        head.resize(usize::from(HEADER_LEN), 0);
        let (received, back) = peer.ring.recv_exact_bytes(&peer.socket, head, 0).await;
        head = back;
        match received {
            Ok(()) => {},
            Err(chariot_shard::RingError::EndOfStream { received: 0, .. }) => {
                return ConnectionEnd::Closed;
            },
            Err(error) => return error.into(),
        }
        let header = match FrameHeader::parse(&head, &limits) {
            Ok(header) => header,
            Err(error) => {
                if let Some(request_id) = error.request_id() {
                    let header = FrameHeader::refusal(request_id, error.status());
                    let refused = Refused::new(error.status(), error.to_string());
                    drop(peer.send(&header, &refused).await);
                }
                return ConnectionEnd::Malformed(error.status());
            },
        };
        body.resize(header.body_len as usize, 0);
        if !body.is_empty() {
            let (received, back) = peer.ring.recv_exact_bytes(&peer.socket, body, 0).await;
            body = back;
            if let Err(error) = received {
                return error.into();
            }
        }
        if let Err(end) = request(peer, &header, &body).await {
            return end;
        }
    }
}

/// Answers one request. An error ends the connection.
async fn request(peer: &Peer, header: &FrameHeader, body: &[u8]) -> Result<(), ConnectionEnd> {
    if header.direction() != Direction::Request {
        return Err(ConnectionEnd::Malformed(Status::Malformed));
    }
    let draining = peer.shard.borrow().draining;
    let opcode = header.known_opcode();
    let deadline_ns = peer.deadline_ns(header);
    let late = deadline_ns != 0 && deadline_ns <= peer.shard.borrow().now_ns;
    let refusal = match opcode {
        _ if draining => Some((Status::ShuttingDown, "the node is draining")),
        _ if late => Some((
            Status::Timeout,
            "the deadline had passed when the request was read",
        )),
        Some(Opcode::Set) => return set::handle(peer, header, body, deadline_ns).await,
        Some(Opcode::Get | Opcode::View | Opcode::Wait) => {
            return get::handle(peer, header, body, deadline_ns).await;
        },
        Some(Opcode::Exist) => return ask::exist(peer, header, body).await,
        Some(Opcode::Prefix) => return ask::prefix(peer, header, body).await,
        Some(Opcode::Size) => return ask::size(peer, header, body).await,
        Some(Opcode::Delete) => return ask::delete(peer, header, body).await,
        Some(Opcode::Expire) => return ask::expire(peer, header, body).await,
        Some(Opcode::Nop) => return ask::nop(peer, header).await,
        Some(Opcode::Bye) => return Err(ConnectionEnd::Closed),
        Some(_) | None => Some((
            Status::NotSupported,
            "this node has no engine for this opcode",
        )),
    };
    let (status, text) = refusal.expect("all others returned");
    peer.skip(header.payload_len).await?;
    peer.refuse(header, status, text).await
}
