//! Objects over TCP: latches, references, nested keys, seals, and transactions.
//!
//! A connection is a session: what it takes is its own, under its number, on the shards of the
//! keys, and is released everywhere when it ends ([`Peer::end_objects`]). Since one request is
//! answered before the next is read, a wait for a latch is cut into slices: the peer asks again,
//! the wait keeps its turn, and a peer that is gone is noticed in between.

use std::pin::pin;

use chariot_proto::message::{ObjectRequest, ObjectResponse, SetAnswer, SetRequest, SetResponse};
use chariot_proto::{FrameHeader, KeyHash, Opcode, Status, check_key};
use chariot_store::TxId;

use crate::call::{Call, CommitOptions, ObjectAsk, ObjectCall, Reply};
use crate::handlers::multi_set_tx::{ABORT, BEGIN, COMMIT};
use crate::limits::{CALLS_PER_CONNECTION, LATCH_SLICE_MS, NESTED_PER_CALL};
use crate::message::ShardMessage;
use crate::objects::Reserving;
use crate::request::supported_mode;
use crate::tcp::context::{ConnectionEnd, Peer};
use crate::tcp::set;
use crate::tickets::Answer;

/// Most keys of one transaction, as in the SDK.
const TX_KEYS_MAX: usize = 8;

impl Peer {
    /// Asks the owner of a key about an object.
    fn ask_object(&self, hash: KeyHash, ask: ObjectAsk) -> Answer {
        self.has_objects.set(true);
        let call = ObjectCall {
            tenant: self.tenant.id,
            session: self.session,
            hash,
            ask,
        };
        self.call(self.owner(hash), Call::Object(Box::new(call)))
    }

    /// Tells the owner of a key something that is not answered.
    fn tell_object(&self, hash: KeyHash, ask: ObjectAsk) {
        let call = ObjectCall {
            tenant: self.tenant.id,
            session: self.session,
            hash,
            ask,
        };
        let owner = self.owner(hash);
        let mut shard = self.shard.borrow_mut();
        let from = shard.id;
        let message = ShardMessage::Call {
            from,
            ticket: None,
            call: Call::Object(Box::new(call)),
        };
        shard.mail.send(owner, message);
    }

    /// Releases what this connection holds of objects, wherever that is.
    pub(super) fn end_objects(&self) {
        if self.has_objects.get() {
            crate::objects::end_everywhere(&mut self.shard.borrow_mut(), self.session);
        }
    }

    /// The hash of a key, or its answer.
    fn hash_of(&self, key: &[u8]) -> Result<KeyHash, Status> {
        check_key(key).map_err(|_rule| Status::KeyInvalid)?;
        Ok(KeyHash::of(&self.tenant.secret, key))
    }
}

/// Answers one request about objects.
pub(super) async fn handle(
    peer: &Peer,
    header: &FrameHeader,
    opcode: Opcode,
    body: &[u8],
) -> Result<(), ConnectionEnd> {
    let request: ObjectRequest = match chariot_proto::decode(header, body) {
        Ok(request) => request,
        Err(error) => {
            return peer
                .refuse(header, error.status(), &error.to_string())
                .await;
        },
    };
    let replies = match opcode {
        Opcode::ObjectRef => references(peer, &request).await,
        Opcode::ObjectNest => vec![Reply::status(nest(peer, &request).await)],
        _ => vec![one(peer, opcode, &request).await],
    };
    let (mut numbers, mut statuses) = (Vec::new(), Vec::new());
    for reply in replies {
        let Reply::Done { status, version } = reply else {
            unreachable!("questions about objects end with a status")
        };
        statuses.push(status.as_u16());
        numbers.push(version);
    }
    let response = ObjectResponse { numbers, statuses };
    let header = FrameHeader::answer(header, Status::Ok);
    peer.send(&header, &response).await
}

/// Changes or counts the references to each key, a window at a time.
async fn references(peer: &Peer, request: &ObjectRequest) -> Vec<Reply> {
    let mut replies = Vec::with_capacity(request.keys.len());
    let mut flying = std::collections::VecDeque::new();
    let form = request.form;
    let mut keys = request.keys.iter();
    loop {
        while flying.len() < CALLS_PER_CONNECTION
            && let Some(key) = keys.next()
        {
            let hash = peer.hash_of(key);
            flying.push_back(hash.map(|hash| peer.ask_object(hash, ObjectAsk::Ref { form })));
        }
        match flying.pop_front() {
            Some(Ok(answer)) => replies.push(answer.await),
            Some(Err(status)) => replies.push(Reply::status(status)),
            None => return replies,
        }
    }
}

/// Holds keys for the next version of the first one, a part at a time.
async fn nest(peer: &Peer, request: &ObjectRequest) -> Status {
    let hashes: Result<Vec<KeyHash>, Status> =
        request.keys.iter().map(|key| peer.hash_of(key)).collect();
    let hashes = match hashes {
        Ok(hashes) => hashes,
        Err(status) => return status,
    };
    let Some((&parent, children)) = hashes.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        return Status::InvalidArgument;
    };
    for part in children.chunks(NESTED_PER_CALL) {
        let ask = ObjectAsk::Nest {
            number: request.number,
            children: part.into(),
        };
        let held = Peer::status_of(peer.ask_object(parent, ask).await);
        if !held.is_ok() {
            // The peer discards what was held, or ends.
            return held;
        }
    }
    Status::Ok
}

/// Answers what is about one key.
async fn one(peer: &Peer, opcode: Opcode, request: &ObjectRequest) -> Reply {
    let mut keys = request.keys.iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Reply::status(Status::InvalidArgument);
    };
    let hash = match peer.hash_of(key) {
        Ok(hash) => hash,
        Err(status) => return Reply::status(status),
    };
    let (form, number) = (request.form, request.number);
    if opcode == Opcode::ObjectBind {
        let version = request.version;
        let ask = ObjectAsk::Bind {
            form,
            number,
            version,
        };
        return peer.ask_object(hash, ask).await;
    }
    let now_ns = peer.shard.borrow().now_ns;
    let ask = ObjectAsk::Latch {
        form,
        number,
        // Never 0, which would mean none.
        deadline_ns: now_ns + 1 + request.wait_ms * 1_000_000,
    };
    let mut answer = pin!(peer.ask_object(hash, ask));
    let until_ns = now_ns + LATCH_SLICE_MS * 1_000_000;
    if let Ok(reply) = peer.context.timeout_at(until_ns, answer.as_mut()).await {
        return reply;
    }
    peer.tell_object(hash, ObjectAsk::LetWait { number });
    answer.await
}

/// Answers one transaction: stores all of its values or none.
pub(super) async fn transaction(
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
    let (hashes, options) = match check(peer, &request) {
        Ok(checked) => checked,
        Err(status) => {
            peer.skip(header.payload_len).await?;
            return peer.refuse(header, status, "no such transaction").await;
        },
    };
    let number = peer.next_tx.get();
    peer.next_tx.set(number.wrapping_add(1));
    let transaction = Transaction {
        peer,
        first: hashes[0],
        number,
        shards: hashes
            .iter()
            .fold(0, |shards, hash| shards | (1 << peer.owner(*hash).0)),
        deadline_ns,
    };
    let stored = transaction.run(&request, options).await?;
    match stored {
        Ok(answers) => {
            let header = FrameHeader::answer(header, Status::Ok);
            peer.send(&header, &SetResponse { answers }).await
        },
        Err(status) => {
            let text = "a key of the transaction was not stored, so none was";
            peer.refuse(header, status, text).await
        },
    }
}

/// Refuses what is no transaction.
fn check(peer: &Peer, request: &SetRequest) -> Result<(Vec<KeyHash>, CommitOptions), Status> {
    if request.keys.len() > TX_KEYS_MAX {
        return Err(Status::InvalidArgument);
    }
    let hashes = request.keys.iter().map(|key| peer.hash_of(key));
    let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
    let is_twice = |index: usize| hashes[..index].contains(&hashes[index]);
    if hashes.is_empty() || (0..hashes.len()).any(is_twice) {
        return Err(Status::InvalidArgument);
    }
    let mode = request.write_mode().ok_or(Status::InvalidArgument)?;
    let options = CommitOptions {
        crc: None,
        ttl_ms: request.ttl_ms,
        if_absent: true,
        mode: supported_mode(mode)?,
        reserving: None,
    };
    Ok((hashes, options))
}

/// A transaction under way.
struct Transaction<'a> {
    peer: &'a Peer,
    first: KeyHash,
    number: u16,
    shards: u64,
    deadline_ns: u64,
}

impl Transaction<'_> {
    /// Begins, stores every value hidden, decides. The outer error is the connection's.
    async fn run(
        &self,
        request: &SetRequest,
        options: CommitOptions,
    ) -> Result<Result<Vec<SetAnswer>, Status>, ConnectionEnd> {
        let peer = self.peer;
        let begun = self.step(BEGIN).await;
        let mut failure = (!begun.is_ok()).then_some(begun);
        let now_ns = peer.shard.borrow().now_ns;
        let reserving = Reserving {
            tx: TxId {
                session: peer.session.0,
                number: self.number,
            },
            coordinator: peer.owner(self.first),
            deadline_ns: crate::objects::transaction_deadline(self.deadline_ns, now_ns),
        };
        let mut answers = Vec::with_capacity(request.keys.len());
        for (key, item) in request.keys.iter().zip(&request.items) {
            if failure.is_some() {
                peer.skip(item.value_len).await?;
                continue;
            }
            let options = CommitOptions {
                crc: item.crc(),
                reserving: Some(reserving),
                ..options
            };
            match set::one(peer, key, item, options, self.deadline_ns).await? {
                Reply::Done {
                    status: Status::Ok,
                    version,
                } => answers.push(SetAnswer {
                    version,
                    ..SetAnswer::default()
                }),
                refused => failure = Some(Peer::status_of(refused)),
            }
        }
        if failure.is_none() {
            let decided = self.step(COMMIT).await;
            failure = (!decided.is_ok()).then_some(decided);
        } else if begun.is_ok() {
            self.step(ABORT).await;
        }
        Ok(failure.map_or(Ok(answers), Err))
    }

    /// Begins or decides it. A connection that ends in between leaves it to the shards: they ask,
    /// and what was open is aborted.
    async fn step(&self, form: u8) -> Status {
        let ask = ObjectAsk::Tx {
            form,
            number: self.number,
            shards: self.shards,
            deadline_ns: self.deadline_ns,
        };
        Peer::status_of(self.peer.ask_object(self.first, ask).await)
    }
}
