//! One connection: its handshake, then one request after another, each answered before the next is
//! read.
//!
//! Lives on: the shard that accepted it. A header is judged before its body is held, a body before
//! its payload is received; what is refused is skipped, so that the stream stays in step, and what
//! cannot be skipped ends it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use chariot_base::SessionId;
use chariot_proto::message::{Hello, Proof, Refused, Welcome};
use chariot_proto::{Direction, FrameHeader, FrameLimits, HEADER_LEN, Opcode, Status, decode};
use chariot_shard::{DataRing, IoFd, ShardContext};

use crate::control::handshake::{self, Admitted};
use crate::control::registry::Need;
use crate::limits::{BODY_STEP_BYTES, HANDSHAKE_MS};
use crate::node::Shared;
use crate::shard::Shard;
use crate::tcp::context::{ConnectionEnd, Peer};
use crate::tcp::{ask, get, object, set};

/// Serves a connection to its end.
pub(super) async fn serve(shard: &Rc<RefCell<Shard>>, context: &ShardContext, socket: IoFd) {
    let introduced = introduce(shard, context, socket).await;
    let (peer, id) = match introduced {
        Ok(pair) => pair,
        Err(end) => {
            tracing::debug!(%end, "connection ended in its handshake");
            shard.borrow().shared.registry.refuse();
            return;
        },
    };
    let end = requests(&peer).await;
    peer.end_objects();
    tracing::debug!(session = id.0, ?end, "connection closed");
    shard.borrow().shared.registry.close(id);
}

/// Frames of a connection that has no tenant yet.
struct Newcomer<'a> {
    shared: &'a Shared,
    context: &'a ShardContext,
    ring: &'a DataRing,
    socket: &'a IoFd,
    /// Until when it may take over each of its frames. Only sending and receiving is cut off: what
    /// the handshake has taken in between (a number, a tenant) is given back by whoever took it.
    deadline_ns: u64,
}

impl Newcomer<'_> {
    async fn in_time<T>(&self, step: impl Future<Output = T>) -> Result<T, ConnectionEnd> {
        self.context
            .timeout_at(self.deadline_ns, step)
            .await
            .map_err(|_elapsed| ConnectionEnd::Stalled)
    }

    async fn receive(&self) -> Result<(FrameHeader, Vec<u8>), ConnectionEnd> {
        let limits = FrameLimits {
            body_max: 64 << 10,
            ..FrameLimits::with_payload_max(0)
        };
        let head = vec![0; usize::from(HEADER_LEN)];
        let receiving = self.ring.recv_exact_bytes(self.socket, head, 0);
        let (received, head) = self.in_time(receiving).await?;
        received?;
        let header = FrameHeader::parse(&head, &limits)
            .map_err(|error| ConnectionEnd::Malformed(error.status()))?;
        let body = vec![0; header.body_len as usize];
        if body.is_empty() {
            return Ok((header, body));
        }
        let receiving = self.ring.recv_exact_bytes(self.socket, body, 0);
        let (received, body) = self.in_time(receiving).await?;
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
        let sending = self.ring.send_all_bytes(self.socket, out);
        let (sent, _) = self.in_time(sending).await?;
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

/// Asks who the peer is; the header that the welcome or the refusal will answer comes along.
async fn identify(newcomer: &Newcomer<'_>) -> Result<(Admitted, FrameHeader), ConnectionEnd> {
    let shared = newcomer.shared;
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
    match pending.on_proof(&proof) {
        Ok(_) if shared.is_draining() => {
            let refused = Refused::new(Status::ShuttingDown, "the node is draining");
            newcomer.refuse(&second, &refused).await
        },
        Ok(admitted) => Ok((admitted, second)),
        Err(refused) => newcomer.refuse(&second, &refused).await,
    }
}

async fn introduce(
    shard: &Rc<RefCell<Shard>>,
    context: &ShardContext,
    socket: IoFd,
) -> Result<(Peer, SessionId), ConnectionEnd> {
    let shared = std::sync::Arc::clone(&shard.borrow().shared);
    let ring = context.ring();
    let newcomer = Newcomer {
        shared: &shared,
        context,
        ring: &ring,
        socket: &socket,
        deadline_ns: shard.borrow().now_ns + HANDSHAKE_MS * 1_000_000,
    };
    let (admitted, second) = identify(&newcomer).await?;
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
    let entered = shared
        .registry
        .open(Need::REMOTE, |id| crate::seam::SessionSummary {
            id: id.0,
            transport: "tcp",
            peer: String::new(),
            tenant: tenant.name.clone(),
            ..crate::seam::SessionSummary::default()
        });
    let id = match entered {
        Ok(entered) => entered.id,
        Err(full) => {
            let refused = Refused::new(Status::Busy, full.to_string());
            return newcomer.refuse(&second, &refused).await;
        },
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
        ring,
        socket,
        tenant,
        arena,
        session: id,
        has_objects: Cell::new(false),
        next_tx: Cell::new(0),
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
        peer.shard.borrow_mut().requests += 1;
        let answered = async {
            let body = receive_body(peer, &header, body).await?;
            request(peer, &header, &body).await?;
            Ok(body)
        };
        let answered = answered.await;
        peer.shard.borrow_mut().requests -= 1;
        body = match answered {
            Ok(body) => body,
            Err(end) => return end,
        };
        // The largest bodies are rare: an idle connection does not keep their memory.
        body.clear();
        body.shrink_to(BODY_STEP_BYTES);
    }
}

/// Receives a body in steps, so that memory is taken for bytes that came and not for bytes that
/// were announced.
async fn receive_body(
    peer: &Peer,
    header: &FrameHeader,
    mut body: Vec<u8>,
) -> Result<Vec<u8>, ConnectionEnd> {
    let len = header.body_len as usize;
    body.clear();
    while body.len() < len {
        let from = body.len();
        body.resize(len.min(from + BODY_STEP_BYTES), 0);
        let step = (body.len() - from) as u64;
        let receiving = peer.ring.recv_exact_bytes(&peer.socket, body, from);
        let (received, back) = peer.paced(step, receiving).await?;
        received?;
        body = back;
    }
    Ok(body)
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
        Some(
            opcode @ (Opcode::ObjectLatch
            | Opcode::ObjectRef
            | Opcode::ObjectNest
            | Opcode::ObjectBind),
        ) => return object::handle(peer, header, opcode, body).await,
        Some(Opcode::MultiSetTx) => {
            return object::transaction(peer, header, body, deadline_ns).await;
        },
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
