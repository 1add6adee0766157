//! Get over TCP: find every key with its owner, hold what is found, then send frame and payloads
//! from the arena.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use chariot_proto::message::{ByteRange, GetRequest, GetResponse, KeyAnswer};
use chariot_proto::{FrameHeader, KeyHash, Status, check_key};
use chariot_shard::Piece;

use crate::call::{Call, Found, Reply};
use crate::limits::CALLS_PER_CONNECTION;
use crate::tcp::context::{ConnectionEnd, Peer};
use crate::tcp::hold::Hold;
use crate::tickets::Answer;

/// Pieces of one gathered send: the bound of the data ring.
const PIECES_MAX: usize = 64;

/// A key that its owner was asked about; `None`: it is no key.
type Asked = Option<(chariot_base::ShardId, Answer)>;

/// Bytes of a held extent: where in the arena, and how many. A range may begin anywhere in a value.
type Held = (u64, u64);

/// One key's outcome.
struct Part {
    answer: KeyAnswer,
    /// The bytes to send, held until they are out.
    hold: Option<(Rc<Hold>, Held)>,
}

/// Answers one get.
pub(super) async fn handle(
    peer: &Peer,
    header: &FrameHeader,
    body: &[u8],
    deadline_ns: u64,
) -> Result<(), ConnectionEnd> {
    let request: GetRequest = match chariot_proto::decode(header, body) {
        Ok(request) => request,
        Err(error) => {
            return peer
                .refuse(header, error.status(), &error.to_string())
                .await;
        },
    };
    let finding = find_all(peer, &request, deadline_ns);
    let parts = if request.wait_ms == 0 {
        finding.await
    } else {
        // Nothing is read from the peer meanwhile: its end would not be noticed.
        while_connected(peer, finding).await?
    };
    let response = GetResponse {
        answers: parts.iter().map(|part| part.answer).collect(),
    };
    let mut frame = Vec::new();
    let answer = FrameHeader::answer(header, Status::Ok);
    if let Err(error) = chariot_proto::encode_frame(&mut frame, &answer, &response) {
        return peer
            .refuse(header, error.status(), &error.to_string())
            .await;
    }
    let mut len = frame.len() as u64;
    let mut pieces = vec![Piece::Bytes(frame)];
    for (hold, (offset, held)) in parts.into_iter().filter_map(|part| part.hold) {
        if pieces.len() == PIECES_MAX {
            let sending = peer
                .ring
                .send_gather(&peer.socket, std::mem::take(&mut pieces));
            peer.paced(len, sending).await??;
            len = 0;
        }
        len += held;
        // The span owns the hold: the pin falls when the kernel has taken the last byte.
        pieces.push(Piece::Span(peer.span(offset, held).with_owner(hold)));
    }
    peer.paced(len, peer.ring.send_gather(&peer.socket, pieces))
        .await??;
    Ok(())
}

/// Awaits `work` unless the peer closes first: what waits is then given up, with all its calls.
async fn while_connected<T>(
    peer: &Peer,
    work: impl Future<Output = T>,
) -> Result<T, ConnectionEnd> {
    let mut work = pin!(work);
    let mut end = pin!(peer.ring.hung_up(&peer.socket));
    let mut is_watched = true;
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        if is_watched && let Poll::Ready(ended) = end.as_mut().poll(context) {
            match ended {
                Ok(()) => return Poll::Ready(Err(ConnectionEnd::Closed)),
                // A ring without room for the poll: the wait ends by its deadline.
                Err(_refused) => is_watched = false,
            }
        }
        Poll::Pending
    })
    .await
}

async fn find_all(peer: &Peer, request: &GetRequest, deadline_ns: u64) -> Vec<Part> {
    let want_payload = request.flags & GetRequest::WANT_PAYLOAD != 0;
    let wait_until_ns = wait_until(peer, request.wait_ms, deadline_ns);
    let mut parts = Vec::with_capacity(request.keys.len());
    let mut flying: VecDeque<(Asked, Option<ByteRange>)> = VecDeque::new();
    let mut ranges = request.ranges.iter().copied();
    let mut keys = request.keys.iter();
    loop {
        while flying.len() < CALLS_PER_CONNECTION {
            let Some(key) = keys.next() else { break };
            let range = ranges.next();
            if check_key(key).is_err() {
                flying.push_back((None, range));
                continue;
            }
            let hash = KeyHash::of(&peer.tenant.secret, key);
            let owner = peer.owner(hash);
            let call = Call::Find {
                tenant: peer.tenant.id,
                hash,
                hold: want_payload,
                wait_until_ns,
            };
            flying.push_back((Some((owner, peer.call(owner, call))), range));
        }
        let Some((call, range)) = flying.pop_front() else {
            return parts;
        };
        let Some((owner, answer)) = call else {
            parts.push(failed(Status::KeyInvalid));
            continue;
        };
        parts.push(match answer.await {
            Reply::Found(found) => {
                let hold = found
                    .held
                    .then(|| Hold::new(&peer.shard, owner, peer.tenant.id, found.extent, false))
                    // A key that was waited for comes held, also for a caller that wants no bytes.
                    .filter(|_| want_payload);
                describe(peer, request, &found, hold, range)
            },
            Reply::Done {
                status: Status::Timeout,
                ..
            } => failed(Status::NotFound),
            Reply::Done { status, .. } => failed(status),
            Reply::Reserved(_) => unreachable!("a find reserves nothing"),
        });
    }
}

fn wait_until(peer: &Peer, wait_ms: u64, deadline_ns: u64) -> u64 {
    if wait_ms == 0 {
        return 0;
    }
    let until = peer.shard.borrow().now_ns + wait_ms * 1_000_000;
    if deadline_ns == 0 {
        until
    } else {
        until.min(deadline_ns)
    }
}

fn failed(status: Status) -> Part {
    Part {
        answer: KeyAnswer {
            status: status.as_u16(),
            ..KeyAnswer::default()
        },
        hold: None,
    }
}

fn describe(
    peer: &Peer,
    request: &GetRequest,
    found: &Found,
    hold: Option<Rc<Hold>>,
    range: Option<ByteRange>,
) -> Part {
    let size = found.extent.len;
    let Some((offset, len)) = cut(size, range.unwrap_or_default()) else {
        return failed(Status::RangeInvalid);
    };
    let now_ms = peer.shard.borrow().now_ms;
    let crc = found
        .crc
        .filter(|_| request.flags & GetRequest::WANT_CRC != 0);
    let answer = KeyAnswer {
        size,
        len: if hold.is_some() { len } else { 0 },
        version: found.version,
        ttl_ms: if found.expiry_ms == 0 {
            0
        } else {
            found.expiry_ms.saturating_sub(now_ms).max(1)
        },
        crc: crc.unwrap_or(0),
        status: Status::Ok.as_u16(),
        flags: (u16::from(crc.is_some()) * KeyAnswer::CRC_PRESENT)
            | (u16::from(found.is_from_ssd) * KeyAnswer::FROM_SSD),
    };
    let hold = hold
        .filter(|_| len > 0)
        .map(|hold| (hold, (found.extent.offset + offset, len)));
    Part { answer, hold }
}

/// The bytes of a value that a range names; `None` when it lies outside.
fn cut(size: u64, range: ByteRange) -> Option<(u64, u64)> {
    let left = size.checked_sub(range.offset)?;
    let len = if range.len == 0 { left } else { range.len };
    (len <= left).then_some((range.offset, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_and_outside_ones_refused() {
        let range = |offset, len| ByteRange { offset, len };
        assert_eq!(cut(10, range(0, 0)), Some((0, 10)));
        assert_eq!(cut(10, range(4, 6)), Some((4, 6)));
        assert_eq!(cut(10, range(10, 0)), Some((10, 0)));
        assert_eq!(cut(10, range(4, 7)), None);
        assert_eq!(cut(10, range(11, 0)), None);
        assert_eq!(cut(10, range(u64::MAX, u64::MAX)), None);
    }
}
