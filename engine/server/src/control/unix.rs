//! Local sessions: the unix socket, the handshake with descriptors, and the session's end.
//!
//! Lives on: control thread, one tokio task per connection. A session is born in this order: hello,
//! challenge, proof; tenant made and known to every shard; session memory made and known to every
//! shard; only then the welcome with the descriptors. So no client holds a descriptor that a shard
//! does not know about. It ends when its process dies (the pidfd becomes readable) or says farewell
//! (Bye, or the socket's end while the process lives); every shard has released what it held before
//! the session is forgotten.
//!
//! Neighbours: `handshake.rs` (rules), `tenants.rs`, `registry.rs`; the shards' side is
//! `session.rs`.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use chariot_base::SessionId;
use chariot_proto::message::{Bye, Hello, Message, OpenRing, Proof, Refused, RingOpened, Welcome};
use chariot_proto::{
    FrameHeader, FrameLimits, Opcode, SplitFrame, Status, decode, encode_frame, split_frame,
};
use chariot_shm::fds::{PeerCredentials, peer_credentials, peer_pidfd, send_with_fds};
use chariot_shm::{
    Mapping, Memfd, MemfdOptions, ServerSession, SessionDescriptors, SessionGeometry,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::control::handshake::{self, Admitted};
use crate::control::random;
use crate::control::registry::{Entered, LocalHandle, Need, SessionMemory};
use crate::control::tenants::Tenant;
use crate::limits::HANDSHAKE_MS;
use crate::message::{Order, SessionEnd, SessionParts};
use crate::node::Shared;
use crate::seam::SessionSummary;

/// Frames of the control part are small: a hello or an `OpenRing`.
const CONTROL_FRAME_MAX: u32 = 64 << 10;

/// Accepts until the node drains.
pub(crate) async fn serve(shared: Arc<Shared>, listener: UnixListener) -> ! {
    loop {
        match listener.accept().await {
            Ok((stream, _address)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(error) = connection(&shared, stream).await {
                        tracing::debug!(%error, "local session ended in its handshake");
                    }
                });
            },
            Err(error) => {
                // Descriptors run out: those that close make room, and the backlog keeps the peers
                // waiting.
                tracing::warn!(%error, "unix socket accept failed; raise RLIMIT_NOFILE");
                tokio::time::sleep(Duration::from_millis(50)).await;
            },
        }
    }
}

/// A frame-by-frame view of the socket.
struct FrameStream {
    stream: UnixStream,
    buffer: Vec<u8>,
    taken: usize,
}

/// One received frame.
struct Received {
    header: FrameHeader,
    body: Vec<u8>,
}

impl FrameStream {
    async fn receive(&mut self) -> io::Result<Option<Received>> {
        let limits = FrameLimits {
            body_max: CONTROL_FRAME_MAX,
            ..FrameLimits::with_payload_max(0)
        };
        self.buffer.drain(..self.taken);
        self.taken = 0;
        loop {
            match split_frame(&self.buffer, &limits).map_err(invalid)? {
                SplitFrame::Complete { header, body, rest } => {
                    let body = body.to_vec();
                    self.taken = self.buffer.len() - rest.len();
                    return Ok(Some(Received { header, body }));
                },
                SplitFrame::Incomplete { .. } => {},
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    async fn send<M: Message>(
        &self,
        header: &FrameHeader,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, header, message).map_err(invalid)?;
        let mut sent = 0;
        while sent < bytes.len() {
            let with = if sent == 0 { descriptors } else { &[] };
            // A peer that does not read must not keep its session's task from hearing of its death.
            let sending = self.stream.async_io(Interest::WRITABLE, || {
                send_with_fds(self.stream.as_fd(), &bytes[sent..], with)
            });
            sent += in_time(sending).await?;
        }
        Ok(())
    }

    async fn refuse(&self, request: &FrameHeader, refused: &Refused) -> io::Result<()> {
        let header = FrameHeader::answer(request, refused.status()).with_opcode(Opcode::Refused);
        self.send(&header, refused, &[]).await
    }
}

/// Gives a peer as long as a handshake may take.
async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(Duration::from_millis(HANDSHAKE_MS), step)
        .await
        .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A session between its welcome and its end.
struct Open {
    id: SessionId,
    memory: ServerSession,
    pidfd: Arc<AsyncFd<OwnedFd>>,
    /// Kept so that the last one to unmap it is this thread and no shard.
    staging: Option<Arc<Mapping>>,
}

async fn connection(shared: &Arc<Shared>, stream: UnixStream) -> io::Result<()> {
    let peer = peer_credentials(stream.as_fd())?;
    let mut frames = FrameStream {
        stream,
        buffer: Vec::with_capacity(4096),
        taken: 0,
    };
    let Some(open) = birth(shared, &mut frames, peer).await? else {
        shared.registry.refuse();
        return Ok(());
    };
    let handle = LocalHandle {
        memory: open.memory.clone(),
        pidfd: Arc::clone(&open.pidfd),
    };
    shared.registry.welcomed(open.id, handle);
    let end = live(shared, &mut frames, &open).await;
    close(shared, open, end).await;
    Ok(())
}

/// Runs the handshake; `None` when the peer was refused.
async fn birth(
    shared: &Arc<Shared>,
    frames: &mut FrameStream,
    peer: PeerCredentials,
) -> io::Result<Option<Open>> {
    // Only what the peer can drag out is cut off. A tenant or a session half made would be known to
    // some shards only.
    let introduced = in_time(introduce(shared, frames)).await?;
    let Some((admitted, request)) = introduced else {
        return Ok(None);
    };
    let pidfd = match peer_pidfd(frames.stream.as_fd()) {
        Ok(pidfd) if peer.pid != 0 => Arc::new(watch_death(pidfd)?),
        Ok(_) | Err(_) => {
            let text = "no pidfd of the client: it lives in another pid namespace or the kernel is \
                        too old; \
                        connect over TCP, or share the pid namespace";
            return refused(frames, &request, Status::NotSupported, text).await;
        },
    };
    if shared.is_draining() {
        let text = "the node is draining";
        return refused(frames, &request, Status::ShuttingDown, text).await;
    }
    let tenant = match shared.tenant(&admitted.tenant).await {
        Ok(tenant) => tenant,
        Err(error) => {
            return refused(frames, &request, Status::Busy, &error.to_string()).await;
        },
    };
    let trusted = is_trusted(shared, peer);
    let need = Need {
        session_bytes: crate::seam::session_bytes(shared.shard_count()),
        is_strict: !trusted,
    };
    let entered = shared.registry.open(need, |id| SessionSummary {
        id: id.0,
        transport: "local",
        pid: peer.pid.cast_unsigned(),
        uid: peer.uid,
        tenant: tenant.name.clone(),
        trusted,
        ..SessionSummary::default()
    });
    let Entered { id, staging_bytes } = match entered {
        Ok(entered) => entered,
        Err(full) => return refused(frames, &request, Status::Busy, &full.to_string()).await,
    };
    match welcome(
        shared,
        frames,
        &request,
        Newcomer {
            id,
            tenant,
            trusted,
            staging_bytes,
        },
    )
    .await
    {
        Ok((memory, staging)) => Ok(Some(Open {
            id,
            memory,
            pidfd,
            staging,
        })),
        Err(error) => {
            // The shards may know it already: take it back everywhere.
            shared
                .order_all(|done| Order::CloseSession(id, SessionEnd::Death, done))
                .await;
            shared.registry.close(id);
            Err(error)
        },
    }
}

async fn refused(
    frames: &FrameStream,
    request: &FrameHeader,
    status: Status,
    text: &str,
) -> io::Result<Option<Open>> {
    frames.refuse(request, &Refused::new(status, text)).await?;
    Ok(None)
}

/// Makes the death of a process awaitable.
#[expect(
    deprecated,
    reason = "unsound for types whose descriptor may change; an `OwnedFd` owns one for ever"
)]
fn watch_death(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

async fn introduce(
    shared: &Arc<Shared>,
    frames: &mut FrameStream,
) -> io::Result<Option<(Admitted, FrameHeader)>> {
    let Some(first) = frames.receive().await? else {
        return Ok(None);
    };
    let hello: Hello = decode(&first.header, &first.body).map_err(invalid)?;
    let nonce = random::bytes()?;
    let stand_in = random::bytes()?;
    let judged = handshake::on_hello(&shared.options.access, &hello, &first.body, nonce, stand_in);
    let (pending, challenge) = match judged {
        Ok(pair) => pair,
        Err(refused) => {
            frames.refuse(&first.header, &refused).await?;
            return Ok(None);
        },
    };
    let header = FrameHeader::answer(&first.header, Status::Ok).with_opcode(Opcode::Challenge);
    frames.send(&header, &challenge, &[]).await?;
    let Some(second) = frames.receive().await? else {
        return Ok(None);
    };
    let proof: Proof = decode(&second.header, &second.body).map_err(invalid)?;
    match pending.on_proof(&proof) {
        Ok(admitted) => Ok(Some((admitted, second.header))),
        Err(refused) => {
            frames.refuse(&second.header, &refused).await?;
            Ok(None)
        },
    }
}

/// Sessions of the daemon's own uid, or of an allowed uid or gid, may write into their leases.
fn is_trusted(shared: &Shared, peer: PeerCredentials) -> bool {
    let rules = &shared.options.access;
    peer.uid == rules.own_uid
        || rules.allow_uids.binary_search(&peer.uid).is_ok()
        || rules.allow_gids.binary_search(&peer.gid).is_ok()
}

struct Newcomer {
    id: SessionId,
    tenant: Arc<Tenant>,
    trusted: bool,
    /// 0 for a trusted one.
    staging_bytes: u64,
}

async fn welcome(
    shared: &Arc<Shared>,
    frames: &FrameStream,
    request: &FrameHeader,
    newcomer: Newcomer,
) -> io::Result<(ServerSession, Option<Arc<Mapping>>)> {
    let Newcomer {
        id,
        tenant,
        trusted,
        staging_bytes,
    } = newcomer;
    let geometry = SessionGeometry::new(shared.shard_count());
    let (memory, descriptors) = ServerSession::create(geometry, id.0)?;
    let staging = if trusted {
        None
    } else {
        Some(Staging::create(staging_bytes)?)
    };
    let mapped = staging.as_ref().map(|staging| Arc::clone(&staging.mapping));
    let counted = SessionMemory {
        session: memory.clone(),
        staging: mapped.clone(),
    };
    shared.registry.count_memory(id, counted);
    shared
        .order_all(|done| {
            let parts = SessionParts {
                session: id,
                memory: memory.clone(),
                tenant: tenant.id,
                trusted,
                staging: mapped.clone(),
            };
            Order::OpenSession(Box::new(parts), done)
        })
        .await;
    let staging_len = staging.as_ref().map_or(0, |staging| staging.file.size());
    let message = Welcome {
        staging_len,
        session_rw_len: geometry.rw_size() as u64,
        session_ro_len: geometry.ro_size() as u64,
        index_len: tenant.index_len,
        arena_len: tenant.arena.len(),
        index_count: shared.shard_count(),
        ..shared.welcome(tenant.id, tenant.secret, id)
    }
    .with_descriptors(trusted);
    let header = FrameHeader::answer(request, Status::Ok).with_opcode(Opcode::Welcome);
    let arena_ro;
    let arena = if trusted {
        tenant.arena.fd()
    } else {
        arena_ro = tenant.arena.read_only_fd()?;
        arena_ro.as_fd()
    };
    let life = shared.life_descriptor()?;
    let mut list = vec![
        life.as_fd(),
        descriptors.read_write(),
        descriptors.read_only(),
        arena,
    ];
    list.extend(tenant.indexes.iter().map(|index| index.as_fd()));
    list.extend(staging.as_ref().map(|staging| staging.file.fd()));
    assert_eq!(list.len(), usize::from(message.descriptor_count));
    frames.send(&header, &message, &list).await?;
    drop::<SessionDescriptors>(descriptors);
    Ok((memory, mapped))
}

/// Memory through which a strict session writes: the daemon copies out of it.
struct Staging {
    file: Memfd,
    mapping: Arc<Mapping>,
}

impl Staging {
    fn create(bytes: u64) -> io::Result<Self> {
        let file = Memfd::create("chariot-staging", bytes, MemfdOptions::default())?;
        let len = usize::try_from(bytes).expect("staging fits the address space");
        let mapping = Arc::new(Mapping::read_write(file.fd(), 0, len)?);
        Ok(Self { file, mapping })
    }
}

/// Serves `OpenRing` until the session ends, and says how it ended.
async fn live(shared: &Arc<Shared>, frames: &mut FrameStream, open: &Open) -> SessionEnd {
    loop {
        tokio::select! {
            _death = open.pidfd.readable() => return SessionEnd::Death,
            received = frames.receive() => match received {
                Ok(Some(received)) if received.header.known_opcode() == Some(Opcode::OpenRing) => {
                    if let Err(error) = open_ring(shared, frames, open, &received).await {
                        tracing::debug!(%error, session = open.id.0, "ring not opened");
                        return farewell_or_death(open).await;
                    }
                },
                Ok(Some(received)) if received.header.known_opcode() == Some(Opcode::Bye) => {
                    let bye = decode::<Bye>(&received.header, &received.body);
                    tracing::debug!(?bye, session = open.id.0, "farewell");
                    return farewell_or_death(open).await;
                },
                Ok(Some(_)) | Err(_) => {
                    // Not a farewell: what it pins stays until its process has ended.
                    tracing::warn!(session = open.id.0, "malformed control frame: expelled");
                    expel(shared, open.id, &open.memory).await;
                    drop(open.pidfd.readable().await);
                    return SessionEnd::Death;
                },
                Ok(None) => return farewell_or_death(open).await,
            },
        }
    }
}

/// Refuses a session's requests from now on, on every shard; what it holds stays until its
/// farewell or death.
pub(crate) async fn expel(shared: &Shared, id: SessionId, memory: &ServerSession) {
    memory.expel();
    shared.registry.expelled(id);
    shared.order_all(|done| Order::Expel(id, done)).await;
}

/// The socket has ended. A process that is dying closes its socket a moment before its pidfd fires,
/// and until then its memory still exists: so wait shortly for the death before calling it a
/// farewell.
async fn farewell_or_death(open: &Open) -> SessionEnd {
    match timeout(Duration::from_millis(20), open.pidfd.readable()).await {
        Ok(_death) => SessionEnd::Death,
        Err(_elapsed) => SessionEnd::Farewell,
    }
}

async fn open_ring(
    shared: &Arc<Shared>,
    frames: &FrameStream,
    open: &Open,
    received: &Received,
) -> io::Result<()> {
    let request: OpenRing = decode(&received.header, &received.body).map_err(invalid)?;
    if request.shard >= shared.shard_count() {
        let text = format!("shard {} of {}", request.shard, shared.shard_count());
        return frames
            .refuse(
                &received.header,
                &Refused::new(Status::InvalidArgument, text),
            )
            .await;
    }
    let bell = chariot_shard::session_bell()?;
    let polled = bell.try_clone()?;
    let opened = shared
        .order_one(request.shard, |done| Order::OpenRing(open.id, polled, done))
        .await
        .unwrap_or(false);
    if !opened {
        let text = format!("the ring of shard {} is open already", request.shard);
        return frames
            .refuse(&received.header, &Refused::new(Status::Again, text))
            .await;
    }
    let header = FrameHeader::answer(&received.header, Status::Ok).with_opcode(Opcode::RingOpened);
    let message = RingOpened {
        shard: request.shard,
    };
    frames.send(&header, &message, &[bell.as_fd()]).await
}

async fn close(shared: &Arc<Shared>, open: Open, end: SessionEnd) {
    tracing::debug!(session = open.id.0, ?end, "local session closed");
    shared
        .order_all(|done| Order::CloseSession(open.id, end, done))
        .await;
    shared.registry.close(open.id);
    drop((open.memory, open.staging));
}
