//! What both faces share: each object call as the requests it is made of.
//!
//! The forms are the `mode` byte of the submission; `wire/SHARED-MEMORY.md` lists them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chariot_proto::limits::INLINE_MAX;
use chariot_proto::{Opcode, Status};
use chariot_shm::clock;

use super::{LatchKind, NESTED_KEYS_MAX, TX_KEYS_MAX};
use crate::core::{Core, Local};
use crate::error::Error;
use crate::local::{LATCH_RELEASE, ObjectAsk, Reserve};
use crate::mode::{Mode, block};
use crate::options::{SetOptions, Version};
use crate::remote::RemoteAsk;
use crate::transport::Link;

const LATCH_SHARED: u8 = 0;
const LATCH_EXCLUSIVE: u8 = 1;
const LATCH_TRY_SHARED: u8 = 3;
const LATCH_TRY_EXCLUSIVE: u8 = 4;
/// Add a reference.
pub(super) const REF_ADD: u8 = 0;
/// Drop a reference.
pub(super) const REF_DROP: u8 = 1;
const REF_COUNT: u8 = 2;
/// Tie what is held to a version.
pub(super) const BIND: u8 = 0;
/// Tie what is held to a version and seal it.
pub(super) const SEAL: u8 = 1;
const DISCARD: u8 = 2;
const TX_BEGIN: u8 = 0;
const TX_COMMIT: u8 = 1;
const TX_ABORT: u8 = 2;

/// Bytes that name one nested key.
const HASH_BYTES: usize = 16;
/// Nested keys of one request.
const NESTED_PER_ASK: usize = INLINE_MAX as usize / HASH_BYTES;

/// Numbers of latches and transactions: unique in this process, which is more than a session needs.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

fn next_number() -> u64 {
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

impl Core {
    /// One request, one result.
    async fn ask_object(
        &self,
        mode: Mode,
        ask: ObjectAsk<'_>,
        budget: Option<Duration>,
    ) -> Result<u64, Error> {
        match self.link()? {
            Link::Local(session) => {
                let mut out = session.ask_objects(mode, &[ask], budget).await;
                out.pop().expect("one result per request")
            },
            Link::Remote(session) => {
                let is_bind = ask.opcode == Opcode::ObjectBind;
                let remote = RemoteAsk {
                    form: ask.form,
                    number: if is_bind { ask.staged } else { ask.number },
                    version: if is_bind { ask.number } else { 0 },
                };
                if let (Opcode::ObjectLatch, Some(wait)) = (ask.opcode, budget) {
                    return session.take_latch(remote, ask.key, wait).map(|()| 0);
                }
                session.ask_object(ask.opcode, remote, ask.key)
            },
        }
    }

    pub(crate) async fn latch(
        &self,
        mode: Mode,
        key: &[u8],
        kind: LatchKind,
        wait: Duration,
    ) -> Result<u64, Error> {
        let form = match (kind, wait.is_zero()) {
            (LatchKind::Shared, false) => LATCH_SHARED,
            (LatchKind::Exclusive, false) => LATCH_EXCLUSIVE,
            (LatchKind::Shared, true) => LATCH_TRY_SHARED,
            (LatchKind::Exclusive, true) => LATCH_TRY_EXCLUSIVE,
        };
        let number = next_number();
        let mut unheard = Unheard {
            core: self,
            mode,
            key,
            number,
            is_heard: false,
        };
        let ask = ObjectAsk {
            number,
            ..ObjectAsk::new(Opcode::ObjectLatch, form, key)
        };
        let longest = Duration::from_millis(chariot_proto::limits::WAIT_MS_MAX);
        // Without a wait the shard answers at once, and only the way there takes time.
        let budget = (!wait.is_zero()).then(|| wait.min(longest));
        let taken = self.ask_object(mode, ask, budget).await;
        unheard.is_heard = taken.is_ok();
        taken.map(|_len| number)
    }

    /// Has a latch released that nobody heard of, without waiting where that is possible.
    fn note_unheard(&self, key: &[u8], number: u64) {
        match self.link() {
            Ok(Link::Local(session)) => session.release_later(key, number),
            // Over TCP a future's poll blocks for its exchange, and so may its end.
            Ok(Link::Remote(_)) => drop(block(self.unlatch(Mode::Blocking, key, number))),
            // It went with the session.
            Err(_) => {},
        }
    }

    pub(crate) async fn unlatch(&self, mode: Mode, key: &[u8], latch: u64) -> Result<bool, Error> {
        let ask = ObjectAsk {
            number: latch,
            ..ObjectAsk::new(Opcode::ObjectLatch, LATCH_RELEASE, key)
        };
        match self.ask_object(mode, ask, None).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Status::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn change_refs(
        &self,
        mode: Mode,
        keys: &[&[u8]],
        form: u8,
    ) -> Vec<Result<(), Error>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let out = match self.link() {
            Ok(Link::Local(session)) => {
                let asks: Vec<_> = keys
                    .iter()
                    .map(|key| ObjectAsk::new(Opcode::ObjectRef, form, key))
                    .collect();
                session.ask_objects(mode, &asks, None).await
            },
            Ok(Link::Remote(session)) => session.ask_references(form, keys),
            Err(error) => return vec![Err(error); keys.len()],
        };
        out.into_iter()
            .map(|result| match result {
                Ok(_) => Ok(()),
                Err(error) if error.status() == Status::NotFound => Ok(()),
                Err(error) => Err(error),
            })
            .collect()
    }

    pub(crate) async fn count_refs(&self, mode: Mode, key: &[u8]) -> Result<u64, Error> {
        self.ask_object(
            mode,
            ObjectAsk::new(Opcode::ObjectRef, REF_COUNT, key),
            None,
        )
        .await
    }

    /// Holds keys for the next version of `key`; answers the number of that publish.
    pub(crate) async fn hold_nested(
        &self,
        mode: Mode,
        key: &[u8],
        nested: &[&[u8]],
    ) -> Result<u64, Error> {
        let number = next_number();
        if nested.is_empty() {
            return Ok(number);
        }
        if nested.contains(&key) {
            return Err(Error::new(
                Status::InvalidArgument,
                "an object cannot be nested in itself: it would be held for ever",
            ));
        }
        if nested.len() > NESTED_KEYS_MAX {
            return Err(Error::new(
                Status::TooLarge,
                format!("{} nested keys, at most {NESTED_KEYS_MAX}", nested.len()),
            ));
        }
        let held = match self.link()? {
            Link::Local(session) => hold_here(&session, mode, key, number, nested).await,
            Link::Remote(session) => session.hold_nested(key, number, nested),
        };
        match held {
            Ok(()) => Ok(number),
            Err(error) => {
                self.drop_nested(mode, key, number, nested).await;
                Err(error)
            },
        }
    }

    /// Lets go of what was held for a version that did not come to be.
    pub(crate) async fn drop_nested(&self, mode: Mode, key: &[u8], number: u64, nested: &[&[u8]]) {
        if !nested.is_empty() {
            let ask = ObjectAsk {
                staged: number,
                ..ObjectAsk::new(Opcode::ObjectBind, DISCARD, key)
            };
            // A daemon that cannot be asked lets go of it with the session.
            drop(self.ask_object(mode, ask, None).await);
        }
    }

    /// Ties what is held for the publish `number` to its version, or seals that.
    pub(crate) async fn bind(
        &self,
        mode: Mode,
        key: &[u8],
        (number, version): (u64, Version),
        form: u8,
    ) -> Result<(), Error> {
        let ask = ObjectAsk {
            number: version.raw(),
            staged: number,
            ..ObjectAsk::new(Opcode::ObjectBind, form, key)
        };
        match self.ask_object(mode, ask, None).await {
            Ok(_) => Ok(()),
            // Another version took its place: then this one's life is over, and so is what it held.
            Err(error) if error.status() == Status::Again && form == BIND => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn put_object(
        &self,
        mode: Mode,
        key: &[u8],
        value: &[u8],
        nested: &[&[u8]],
        options: &SetOptions,
    ) -> Result<Version, Error> {
        let number = self.hold_nested(mode, key, nested).await?;
        match self.set_one(mode, key, value, options).await {
            Ok(version) => {
                if !nested.is_empty() {
                    self.bind(mode, key, (number, version), BIND).await?;
                }
                Ok(version)
            },
            Err(error) => {
                self.drop_nested(mode, key, number, nested).await;
                Err(error)
            },
        }
    }

    pub(crate) async fn multi_set_tx(
        &self,
        mode: Mode,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Result<(), Error> {
        check_tx(items)?;
        let session = match self.link()? {
            Link::Local(session) => session,
            Link::Remote(session) => return session.transact(items, options),
        };
        // Keys are taken all at once, without waiting for other transactions. Where that fails,
        // once more one by one in the order of their hashes: nobody then waits in a circle.
        match transact(&session, mode, items, options, false).await {
            Err(error) if error.status() == Status::Again => {
                let mut hashed = Vec::with_capacity(items.len());
                for item in items {
                    hashed.push((session.hash_of(item.0)?, *item));
                }
                hashed.sort_unstable_by_key(|one| one.0);
                let sorted: Vec<_> = hashed.into_iter().map(|one| one.1).collect();
                transact(&session, mode, &sorted, options, true).await
            },
            other => other,
        }
    }
}

/// Holds keys over shared memory, as many at a time as a request has room for.
async fn hold_here(
    session: &Local,
    mode: Mode,
    key: &[u8],
    number: u64,
    nested: &[&[u8]],
) -> Result<(), Error> {
    let mut asks = Vec::with_capacity(nested.len().div_ceil(NESTED_PER_ASK));
    for group in nested.chunks(NESTED_PER_ASK) {
        let mut payload = Vec::with_capacity(group.len() * HASH_BYTES);
        for child in group {
            payload.extend_from_slice(&session.hash_of(child)?);
        }
        asks.push(ObjectAsk {
            number,
            payload,
            ..ObjectAsk::new(Opcode::ObjectNest, 0, key)
        });
    }
    let held = session.ask_objects(mode, &asks, None).await;
    held.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

fn check_tx(items: &[(&[u8], &[u8])]) -> Result<(), Error> {
    let invalid = |cause: String| Err(Error::new(Status::InvalidArgument, cause));
    if items.is_empty() || items.len() > TX_KEYS_MAX {
        return invalid(format!(
            "{} keys, a transaction takes 1 to {TX_KEYS_MAX}",
            items.len()
        ));
    }
    for (index, (key, _)) in items.iter().enumerate() {
        if items[..index].iter().any(|(other, _)| other == key) {
            let shown = String::from_utf8_lossy(key);
            return invalid(format!("the key {shown} stands twice in a transaction"));
        }
    }
    Ok(())
}

/// One attempt: begin, reserve every key, decide.
async fn transact(
    session: &Local,
    mode: Mode,
    items: &[(&[u8], &[u8])],
    options: &SetOptions,
    one_by_one: bool,
) -> Result<(), Error> {
    let first = items[0].0;
    let coordinator = session.shard_of(first)?;
    let mut shards = 0_u64;
    for (key, _) in items {
        shards |= 1 << session.shard_of(key)?;
    }
    let mut name = TxNumber::take(session)?;
    let number = name.number;
    let budget = options.deadline;
    let decide = |form| ObjectAsk {
        number: shards,
        tx: number,
        ..ObjectAsk::new(Opcode::MultiSetTx, form, first)
    };
    let begun = session.ask_objects(mode, &[decide(TX_BEGIN)], budget).await;
    for answer in begun {
        if let Err(error) = answer {
            // Refused: nothing of that number is under way.
            name.is_over = matches!(error.status(), Status::Busy | Status::InvalidArgument);
            return Err(error);
        }
    }
    let reserve = Reserve {
        number,
        coordinator,
        waits: one_by_one,
    };
    let size = if one_by_one { 1 } else { items.len() };
    let mut failure = None;
    for group in items.chunks(size) {
        let mut out = vec![Ok(Version::default()); group.len()];
        session
            .reserve(mode, group, options, reserve, &mut out)
            .await;
        failure = tx_failure(out);
        if failure.is_some() {
            break;
        }
    }
    let form = if failure.is_some() {
        TX_ABORT
    } else {
        TX_COMMIT
    };
    let decided = session.ask_objects(mode, &[decide(form)], budget).await;
    let is_known = |answer: &Result<u64, Error>| match answer {
        Ok(_) => true,
        Err(error) => error.status() == Status::Again,
    };
    name.is_over = decided.iter().all(is_known);
    match failure {
        // What became of the abort is the daemon's business: it aborts by itself at the deadline.
        Some(error) => Err(error),
        None => decided.into_iter().collect::<Result<Vec<_>, _>>().map(drop),
    }
}

/// The failure that says most: a key that exists ends the transaction for good.
fn tx_failure(out: Vec<Result<Version, Error>>) -> Option<Error> {
    let mut failures: Vec<_> = out.into_iter().filter_map(Result::err).collect();
    let definite = failures
        .iter()
        .position(|error| error.status() != Status::Again);
    match definite {
        Some(index) => Some(failures.swap_remove(index)),
        None => failures.pop(),
    }
}

/// The number of a transaction under way. One whose end is not known is not given again before the
/// daemon has given it up: the shards would take the new one for it.
struct TxNumber<'a> {
    session: &'a Local,
    number: u16,
    is_over: bool,
}

impl<'a> TxNumber<'a> {
    fn take(session: &'a Local) -> Result<Self, Error> {
        let number = session.tx_numbers().take(clock::monotonic_ns());
        let number = number.ok_or_else(|| Error::from_status(Status::Busy))?;
        Ok(Self {
            session,
            number,
            is_over: false,
        })
    }
}

impl Drop for TxNumber<'_> {
    fn drop(&mut self) {
        let now_ns = clock::monotonic_ns();
        self.session
            .tx_numbers()
            .give_back(self.number, self.is_over, now_ns);
    }
}

/// Releases a latch that was asked for when nobody heard the answer: the call timed out here, or
/// its future was dropped.
///
/// A blocking call releases it at once. A future may be dropped on an executor's thread, which must
/// not wait for a daemon: the session's driver releases its latch.
struct Unheard<'a> {
    core: &'a Core,
    mode: Mode,
    key: &'a [u8],
    number: u64,
    is_heard: bool,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if self.is_heard {
            return;
        }
        match self.mode {
            Mode::Blocking => {
                drop(block(self.core.unlatch(
                    Mode::Blocking,
                    self.key,
                    self.number,
                )));
            },
            Mode::Waking => self.core.note_unheard(self.key, self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_takes_one_to_eight_different_keys() {
        let value: &[u8] = b"v";
        let keys: Vec<[u8; 1]> = (b'a'..b'j').map(|byte| [byte]).collect();
        let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], value)).collect();
        check_tx(&items[..8]).unwrap();
        for wrong in [&items[..0], &items[..9], &[items[0], items[0]]] {
            let error = check_tx(wrong).unwrap_err();
            assert_eq!(error.status(), Status::InvalidArgument);
        }
    }

    #[test]
    fn an_existing_key_says_more_than_a_conflict() {
        let failed = |status| Err(Error::from_status(status));
        let out = vec![
            failed(Status::Again),
            failed(Status::Exists),
            failed(Status::Again),
        ];
        assert_eq!(tx_failure(out).unwrap().status(), Status::Exists);
        assert!(tx_failure(vec![Ok(Version::default())]).is_none());
    }
}
