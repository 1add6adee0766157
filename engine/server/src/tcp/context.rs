//! What a connection's task works with: its shard, its ring, its socket, and calls to the owners of
//! keys.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use chariot_base::{SessionId, ShardId};
use chariot_proto::message::Message;
use chariot_proto::{FrameHeader, KeyHash, Status};
use chariot_shard::{DataRing, IoFd, IoSpan, RingError, ShardContext, StableMemory};

use crate::call::{Call, Reply};
use crate::handlers::calls;
use crate::limits::{PEER_SLOWEST_BYTES_PER_MS, PEER_STALL_MS};
use crate::message::ShardMessage;
use crate::node::TenantHandle;
use crate::shard::Shard;
use crate::tickets::Answer;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionEnd {
    /// The peer closed between two frames.
    #[error("the peer closed the connection")]
    Closed,
    /// The socket failed, or the peer closed inside a frame.
    #[error("socket: {0}")]
    Socket(#[from] RingError),
    /// Bytes that are no frame: answered if possible, then closed, since the stream is out of step.
    #[error("out of step: {0}")]
    Malformed(Status),
    /// The peer neither sends nor takes what the request needs: its memory is better used.
    #[error("the peer is too slow")]
    Stalled,
    /// The handshake was refused.
    #[error("handshake refused")]
    Refused,
}

/// A connection with a tenant.
pub(super) struct Peer {
    /// The shard that accepted it.
    pub(super) shard: Rc<RefCell<Shard>>,
    /// Time, timers, yields.
    pub(super) context: ShardContext,
    /// Its data ring.
    pub(super) ring: DataRing,
    /// The socket.
    pub(super) socket: IoFd,
    /// Whose key space.
    pub(super) tenant: TenantHandle,
    /// The arena as memory of the ring.
    pub(super) arena: Rc<dyn StableMemory>,
    /// Its number, as the owner of what it takes of objects.
    pub(super) session: SessionId,
    /// Whether it has asked about objects, so that its end is told to all shards.
    pub(super) has_objects: Cell<bool>,
    /// Number of its next transaction; one is decided before the next begins.
    pub(super) next_tx: Cell<u16>,
    /// Frames on their way out; kept for its capacity.
    pub(super) out: RefCell<Vec<u8>>,
    /// Payload that belongs to nobody is received here and dropped.
    pub(super) scratch: RefCell<Vec<u8>>,
}

impl Peer {
    /// The shard that owns a key.
    pub(super) fn owner(&self, hash: KeyHash) -> ShardId {
        ShardId(hash.shard(self.shard.borrow().shared.shard_count()))
    }

    /// Sends a call to its owner; the answer is awaited by the caller. A call to this shard is
    /// answered at once.
    pub(super) fn call(&self, owner: ShardId, call: Call) -> Answer {
        let mut shard = self.shard.borrow_mut();
        let shard = &mut *shard;
        let (ticket, answer) = shard.tickets.take(owner, self.tenant.id);
        if owner == shard.id {
            let from = shard.id;
            if let Some(reply) = calls::handle(shard, from, Some(ticket), &call) {
                let undelivered = shard.tickets.redeem(ticket, reply);
                assert!(undelivered.is_none(), "its answer is in hand");
            }
        } else {
            let from = shard.id;
            shard.mail.send(
                owner,
                ShardMessage::Call {
                    from,
                    ticket: Some(ticket),
                    call,
                },
            );
        }
        answer
    }

    /// Names bytes of an extent for the ring; they may begin anywhere in it.
    pub(super) fn span(&self, offset: u64, len: u64) -> IoSpan {
        IoSpan::new(Rc::clone(&self.arena), offset, len).expect("granted extents lie in the arena")
    }

    /// Ends the connection of a peer that moves less than [`PEER_SLOWEST_BYTES_PER_MS`], since
    /// reservations and pins stand until it is done. What is dropped here in the middle is kept by
    /// the ring until the kernel lets go of it.
    pub(super) async fn paced<T>(
        &self,
        bytes: u64,
        transfer: impl Future<Output = T>,
    ) -> Result<T, ConnectionEnd> {
        let budget_ms = PEER_STALL_MS + bytes / PEER_SLOWEST_BYTES_PER_MS;
        let deadline_ns = self
            .shard
            .borrow()
            .now_ns
            .saturating_add(budget_ms.saturating_mul(1_000_000));
        self.context
            .timeout_at(deadline_ns, transfer)
            .await
            .map_err(|_elapsed| ConnectionEnd::Stalled)
    }

    /// Encodes and sends an answer without payload.
    pub(super) async fn send<M: Message>(
        &self,
        header: &FrameHeader,
        message: &M,
    ) -> Result<(), ConnectionEnd> {
        let mut out = self.out.take();
        out.clear();
        chariot_proto::encode_frame(&mut out, header, message)
            .expect("the answer is within its limits");
        let bytes = out.len() as u64;
        let sending = self.ring.send_all_bytes(&self.socket, out);
        let (sent, out) = self.paced(bytes, sending).await?;
        self.out.replace(out);
        Ok(sent?)
    }

    /// Answers a request that failed as a whole.
    pub(super) async fn refuse(
        &self,
        request: &FrameHeader,
        status: Status,
        text: &str,
    ) -> Result<(), ConnectionEnd> {
        let refused = chariot_proto::message::Refused::new(status, text);
        self.send(&FrameHeader::answer(request, status), &refused)
            .await
    }

    /// Receives and drops `len` bytes of payload, so that the stream stays in step.
    pub(super) async fn skip(&self, mut len: u64) -> Result<(), ConnectionEnd> {
        let mut scratch = self.scratch.take();
        while len > 0 {
            let piece = usize::try_from(len)
                .unwrap_or(usize::MAX)
                .min(crate::limits::COPY_SLICE_BYTES);
            scratch.resize(piece, 0);
            let receiving = self.ring.recv_exact_bytes(&self.socket, scratch, 0);
            let (received, back) = self.paced(piece as u64, receiving).await?;
            scratch = back;
            received?;
            len -= piece as u64;
        }
        self.scratch.replace(scratch);
        Ok(())
    }

    /// The absolute monotonic deadline of a request whose header says one in wall clock time; 0 =
    /// none.
    pub(super) fn deadline_ns(&self, header: &FrameHeader) -> u64 {
        deadline_from_wall(
            header.deadline_unix_ms,
            unix_ms(),
            self.shard.borrow().now_ns,
        )
    }

    /// The reply of a call that is only a status.
    pub(super) fn status_of(reply: Reply) -> Status {
        match reply {
            Reply::Done { status, .. } => status,
            Reply::Found(_) | Reply::Reserved(_) => Status::Ok,
        }
    }
}

/// Wall clock in milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn deadline_from_wall(deadline_unix_ms: u64, unix_ms: u64, now_ns: u64) -> u64 {
    if deadline_unix_ms == 0 {
        return 0;
    }
    let left_ms = deadline_unix_ms.saturating_sub(unix_ms);
    // Never 0, which would mean none: an expired one is a nanosecond in the past.
    now_ns
        .saturating_add(left_ms.saturating_mul(1_000_000))
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_deadlines_become_monotonic_ones() {
        assert_eq!(deadline_from_wall(0, 5, 7), 0);
        assert_eq!(deadline_from_wall(10, 5, 7), 7 + 5_000_000);
        assert_eq!(deadline_from_wall(3, 5, 7), 7, "expired: now");
    }
}
