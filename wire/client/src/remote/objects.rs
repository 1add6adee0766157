//! Objects over TCP: one connection of its own for all of them, because what a connection takes is
//! released when it ends.
//!
//! It is opened at the first object call and lives as long as the session; when it breaks, the
//! daemon has released everything that it held, and the session is given up so that the caller
//! learns of it. A wait for a latch asks again and again for some milliseconds, so that the other
//! threads of this client get their turn in between; the daemon keeps the wait's place in line.

use std::time::Duration;

use chariot_proto::message::{
    KeyBatch, ObjectRequest, ObjectResponse, SetItem, SetRequest, SetResponse,
};
use chariot_proto::{ExistenceOpt, Opcode, Status};
use chariot_shm::clock;

use super::RemoteSession;
use super::connection::Connection;
use super::operations::{answer, batch};
use crate::bytes;
use crate::error::Error;
use crate::options::{SetOptions, whole_ms};

/// How long one exchange waits for a latch at most.
const SLICE: Duration = Duration::from_millis(10);
/// Keys of one frame.
const KEYS_MAX: usize = 4096;

/// What is asked about objects; forms and numbers as in the rings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RemoteAsk {
    /// Which form.
    pub form: u8,
    /// Number of a latch or a publish.
    pub number: u64,
    /// The version just published.
    pub version: u64,
}

impl RemoteSession {
    /// Asks about one key; answers with the daemon's number.
    pub(crate) fn ask_object(
        &self,
        opcode: Opcode,
        ask: RemoteAsk,
        key: &[u8],
    ) -> Result<u64, Error> {
        let mut out = self.ask_objects(opcode, ask, batch([key].into_iter())?, 0)?;
        out.pop().expect("one answer was counted")
    }

    /// Changes or counts references; one result per key.
    pub(crate) fn ask_references(&self, form: u8, keys: &[&[u8]]) -> Vec<Result<u64, Error>> {
        let ask = RemoteAsk {
            form,
            ..RemoteAsk::default()
        };
        let mut out = Vec::with_capacity(keys.len());
        for part in keys.chunks(KEYS_MAX) {
            let asked = batch(part.iter().copied())
                .and_then(|keys| self.ask_objects(Opcode::ObjectRef, ask, keys, 0));
            match asked {
                Ok(answers) => out.extend(answers),
                Err(error) => out.extend(part.iter().map(|_| Err(error.clone()))),
            }
        }
        out
    }

    /// Holds keys for the publish `number` of `parent`.
    pub(crate) fn hold_nested(
        &self,
        parent: &[u8],
        number: u64,
        nested: &[&[u8]],
    ) -> Result<(), Error> {
        let ask = RemoteAsk {
            number,
            ..RemoteAsk::default()
        };
        for part in nested.chunks(KEYS_MAX) {
            let keys = batch(std::iter::once(parent).chain(part.iter().copied()))?;
            let mut held = self.ask_objects(Opcode::ObjectNest, ask, keys, 0)?;
            held.pop().expect("one answer was counted")?;
        }
        Ok(())
    }

    /// Takes a latch, waiting for it until `wait` is over.
    pub(crate) fn take_latch(
        &self,
        ask: RemoteAsk,
        key: &[u8],
        wait: Duration,
    ) -> Result<(), Error> {
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 4);
        let until_ns = clock::monotonic_ns().saturating_add(wait_ns);
        loop {
            let left = Duration::from_nanos(until_ns.saturating_sub(clock::monotonic_ns()));
            // The first question says how long the daemon keeps the place in line.
            let wait_ms = whole_ms(left).clamp(1, chariot_proto::limits::WAIT_MS_MAX);
            let keys = batch([key].into_iter())?;
            let mut taken = self.ask_objects(Opcode::ObjectLatch, ask, keys, wait_ms)?;
            match taken.pop().expect("one answer was counted") {
                Ok(_) => return Ok(()),
                Err(error) if error.status() == Status::Again && !left.is_zero() => {},
                Err(error) if error.status() == Status::Again => return Err(Error::timeout()),
                Err(error) => return Err(error),
            }
        }
    }

    fn ask_objects(
        &self,
        opcode: Opcode,
        ask: RemoteAsk,
        keys: KeyBatch,
        wait_ms: u64,
    ) -> Result<Vec<Result<u64, Error>>, Error> {
        let expected = if opcode == Opcode::ObjectRef {
            keys.len()
        } else {
            1
        };
        let request = ObjectRequest {
            number: ask.number,
            version: ask.version,
            wait_ms,
            flags: 0,
            form: ask.form,
            keys,
        };
        let budget = self.options.request_timeout.max(SLICE * 100);
        self.with_objects(|connection| {
            let received = connection.exchange(opcode, &request, &[], budget)?;
            let response: ObjectResponse = answer(&received)?;
            if response.statuses.len() != expected {
                return Err(crate::handshake::malformed("not as many answers as keys"));
            }
            let answers = response.statuses.into_iter().zip(response.numbers);
            let judged = answers.map(|(status, number)| match Status::from_peer(status) {
                Status::Ok => Ok(number),
                other => Err(Error::from_status(other)),
            });
            Ok(judged.collect())
        })
    }

    /// Stores all values or none.
    pub(crate) fn transact(
        &self,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Result<(), Error> {
        for (key, value) in items {
            self.check_write(key, value.len() as u64)?;
        }
        let item = |(_, value): &(&[u8], &[u8])| {
            let crc = self.options.checksum.then(|| bytes::crc32c(value));
            SetItem {
                value_len: value.len() as u64,
                crc: crc.unwrap_or(0),
                flags: u32::from(crc.is_some()) * SetItem::CRC_PRESENT,
            }
        };
        let request = SetRequest {
            ttl_ms: options.ttl.map_or(0, whole_ms),
            flags: 0,
            mode: options.mode.as_u8(),
            existence: ExistenceOpt::IfAbsent.as_u8(),
            keys: batch(items.iter().map(|item| item.0))?,
            items: items.iter().map(item).collect(),
        };
        let payload: Vec<&[u8]> = items.iter().map(|item| item.1).collect();
        let budget = options.deadline.unwrap_or(self.options.request_timeout);
        self.with_objects(|connection| {
            let received = connection.exchange(Opcode::MultiSetTx, &request, &payload, budget)?;
            let _stored: SetResponse = answer(&received)?;
            Ok(())
        })
    }

    /// One exchange on the objects' connection. An error of the stream gives the session up: what
    /// it held is gone, and its owner must not go on as if it had it.
    fn with_objects<T>(
        &self,
        exchange: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut objects = self.lock_objects();
        if objects.is_none() {
            *objects = Some(self.open_apart()?);
        }
        let connection = objects.as_mut().expect("opened above");
        let exchanged = exchange(connection);
        if exchanged.is_err() && !connection.is_in_step() {
            *objects = None;
            drop(objects);
            self.give_up();
        }
        exchanged
    }
}
