//! The operations of a remote session: build the message, exchange, hand out the answers.
//!
//! Batches are cut so that no frame breaks a limit of the node; each cut is answered by itself.

use std::collections::HashMap;
use std::ops::Range as Indexes;
use std::time::Duration;

use chariot_proto::message::{
    ByteRange, DeleteRequest, DeleteResponse, ExistRequest, ExistResponse, ExpireRequest,
    ExpireResponse, GetRequest, GetResponse, KeyAnswer, KeyBatch, Message, PrefixRequest,
    PrefixResponse, SetItem, SetRequest, SetResponse, SizeRequest, SizeResponse,
};
use chariot_proto::{Answer, ExistenceOpt, Opcode, Status, check_key, decode_answer};
use chariot_shm::clock;

use super::RemoteSession;
use super::connection::{Connection, Received};
use crate::bytes;
use crate::core::Question;
use crate::error::Error;
use crate::handshake::{malformed, refusal, refused_by_us};
use crate::options::{GetOptions, SetOptions, Version, whole_ms};
use crate::ranges::Range;
use crate::sink::{Sink, VecSink};
use crate::view::View;

/// Most keys of one frame: what is answered together is also repeated together.
const FRAME_KEYS_MAX: usize = 4096;
/// Bytes of payload of one frame of writes, unless a single value is longer.
const FRAME_PAYLOAD_BYTES: u64 = 64 << 20;
/// Bytes that are received before their checksum is computed, so that they are still in the cache.
const SLICE_BYTES: usize = 256 << 10;

/// What goes out besides the message, and the time for all of it.
#[derive(Clone, Copy)]
struct Sending<'a> {
    payload: &'a [&'a [u8]],
    budget: Duration,
}

impl RemoteSession {
    /// Writes values; see [`crate::Client::mset`].
    pub(crate) fn write(
        &self,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
        out: &mut [Result<Version, Error>],
    ) {
        let mut good = Vec::with_capacity(items.len());
        let mut seen = HashMap::new();
        let mut duplicates = Vec::new();
        for (index, (key, value)) in items.iter().enumerate() {
            if let Err(error) = self.check_write(key, value.len() as u64) {
                out[index] = Err(error);
                continue;
            }
            // Of duplicates the first wins, also when they would travel in different frames.
            let first = match items.len() {
                1 => index,
                _ => *seen.entry(*key).or_insert(index),
            };
            if first == index {
                good.push(index);
            } else {
                duplicates.push((index, first));
            }
        }
        let budget = self.budget(options.deadline);
        let len_of = |at: usize| items[good[at]].1.len() as u64;
        for cut in cuts(good.len(), self.frame_payload_max(), len_of) {
            let good = &good[cut];
            match self.write_frame(items, good, options, budget) {
                Ok(response) => {
                    for (&index, answer) in good.iter().zip(&response.answers) {
                        out[index] = match Status::from_peer(answer.status) {
                            Status::Ok => Ok(Version::from_raw(answer.version)),
                            other => Err(Error::from_status(other)),
                        };
                    }
                },
                Err(error) => fail_all(good, &error, out),
            }
        }
        for (later, first) in duplicates {
            let result = out[first].clone();
            out[later] = result;
        }
    }

    fn write_frame(
        &self,
        items: &[(&[u8], &[u8])],
        good: &[usize],
        options: &SetOptions,
        budget: Duration,
    ) -> Result<SetResponse, Error> {
        let existence = if options.if_absent {
            ExistenceOpt::IfAbsent
        } else {
            ExistenceOpt::None
        };
        let item = |&index: &usize| {
            let value = items[index].1;
            let crc = self.options.checksum.then(|| bytes::crc32c(value));
            SetItem {
                value_len: value.len() as u64,
                crc: crc.unwrap_or(0),
                flags: if crc.is_some() {
                    SetItem::CRC_PRESENT
                } else {
                    0
                },
            }
        };
        let request = SetRequest {
            ttl_ms: options.ttl.map_or(0, whole_ms),
            flags: 0,
            mode: options.mode.as_u8(),
            existence: existence.as_u8(),
            keys: batch(good.iter().map(|&index| items[index].0))?,
            items: good.iter().map(item).collect(),
        };
        let payload: Vec<&[u8]> = good.iter().map(|&index| items[index].1).collect();
        self.call(Opcode::Set, &request, &payload, budget, |received| {
            let response: SetResponse = answer(&received)?;
            counted(response.answers.len(), good.len()).map(|()| response)
        })
    }

    /// Copies values to the caller; see [`crate::Client::get`].
    pub(crate) fn read(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
        sink: &mut dyn Sink,
        out: &mut [Result<Option<usize>, Error>],
    ) {
        self.read_versioned(keys, options, sink, out, &mut |_, _| {});
    }

    fn read_versioned(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
        sink: &mut dyn Sink,
        out: &mut [Result<Option<usize>, Error>],
        on_version: &mut dyn FnMut(usize, Version),
    ) {
        let good = good_keys(keys, out);
        let wait = options.wait.filter(|wait| !wait.is_zero());
        let wait_ms = wait.map_or(0, |wait| {
            whole_ms(wait).min(chariot_proto::limits::WAIT_MS_MAX)
        });
        let budget = self.budget(options.deadline) + Duration::from_millis(wait_ms);
        for good in good.chunks(FRAME_KEYS_MAX) {
            let mut reading = Reading {
                session: self,
                range: Range::of(options),
                good,
                sink,
                out,
                on_version,
            };
            if let Err(error) = reading.run(keys, wait_ms, budget) {
                fail_all(good, &error, out);
            }
        }
    }

    /// Reads values into memory of their own; see [`crate::Client::view`].
    pub(crate) fn view(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
        out: &mut [Result<Option<View>, Error>],
    ) {
        let mut values = vec![None; keys.len()];
        let mut lens = vec![Ok(None); keys.len()];
        let mut versions = vec![Version::default(); keys.len()];
        self.read_versioned(
            keys,
            options,
            &mut VecSink::new(&mut values),
            &mut lens,
            &mut { |index: usize, version| versions[index] = version },
        );
        for (index, (len, value)) in lens.into_iter().zip(values).enumerate() {
            out[index] = len.map(|found| {
                let value = found.and(value)?;
                Some(View::owned(value.into_boxed_slice(), versions[index]))
            });
        }
    }

    /// Asks about keys; see [`Question`].
    pub(crate) fn ask(
        &self,
        question: Question,
        keys: &[&[u8]],
        out: &mut [Result<Option<u64>, Error>],
    ) {
        let good = good_keys(keys, out);
        for good in good.chunks(FRAME_KEYS_MAX) {
            match self.ask_frame(question, keys, good) {
                Ok(answers) => {
                    for (&index, (status, number)) in good.iter().zip(answers) {
                        out[index] = match Status::from_peer(status) {
                            Status::Ok => Ok(Some(number)),
                            Status::NotFound => Ok(None),
                            other => Err(Error::from_status(other)),
                        };
                    }
                },
                Err(error) => fail_all(good, &error, out),
            }
        }
    }

    fn ask_frame(
        &self,
        question: Question,
        keys: &[&[u8]],
        good: &[usize],
    ) -> Result<Vec<(u16, u64)>, Error> {
        let keys = batch(good.iter().map(|&index| keys[index]))?;
        let budget = self.options.request_timeout;
        let plain = |statuses: Vec<u16>| statuses.into_iter().map(|status| (status, 0)).collect();
        let answers: Vec<(u16, u64)> = match question {
            Question::Exist => {
                let request = ExistRequest { flags: 0, keys };
                let response: ExistResponse = self.ask_one(Opcode::Exist, &request, budget)?;
                plain(response.statuses)
            },
            Question::Delete => {
                let request = DeleteRequest { flags: 0, keys };
                let response: DeleteResponse = self.ask_one(Opcode::Delete, &request, budget)?;
                plain(response.statuses)
            },
            Question::Expire(ttl_ms) => {
                let request = ExpireRequest {
                    ttl_ms,
                    flags: 0,
                    keys,
                };
                let response: ExpireResponse = self.ask_one(Opcode::Expire, &request, budget)?;
                plain(response.statuses)
            },
            Question::Size => {
                let request = SizeRequest { flags: 0, keys };
                let response: SizeResponse = self.ask_one(Opcode::Size, &request, budget)?;
                response.statuses.into_iter().zip(response.sizes).collect()
            },
        };
        counted(answers.len(), good.len())?;
        Ok(answers)
    }

    /// Counts the leading keys that exist; see [`crate::Client::prefix`].
    pub(crate) fn prefix(&self, keys: &[&[u8]]) -> Result<usize, Error> {
        // A key that is none exists nowhere, so that nothing behind it counts.
        let valid = keys.iter().take_while(|key| check_key(key).is_ok()).count();
        if valid == 0 {
            return Ok(0);
        }
        let request = PrefixRequest {
            flags: 0,
            keys: batch(keys[..valid].iter().copied())?,
        };
        let budget = self.options.request_timeout;
        let response: PrefixResponse = self.ask_one(Opcode::Prefix, &request, budget)?;
        let count = response.count as usize;
        if count > valid {
            return Err(malformed("more keys exist than were asked about"));
        }
        Ok(count)
    }

    fn ask_one<Q: Message, A: Message>(
        &self,
        opcode: Opcode,
        request: &Q,
        budget: Duration,
    ) -> Result<A, Error> {
        self.call(opcode, request, &[], budget, |received| answer(&received))
    }

    /// An exchange whose answer has no payload.
    fn call<Q: Message, T>(
        &self,
        opcode: Opcode,
        request: &Q,
        payload: &[&[u8]],
        budget: Duration,
        read: impl FnOnce(Received<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.call_with_payload(
            opcode,
            request,
            Sending { payload, budget },
            read,
            |_, value| Ok(value),
        )
    }

    /// One exchange on a connection of the pool. `read_payload` must read all of it or fail.
    fn call_with_payload<Q: Message, B, T>(
        &self,
        opcode: Opcode,
        request: &Q,
        send: Sending<'_>,
        read_body: impl FnOnce(Received<'_>) -> Result<B, Error>,
        read_payload: impl FnOnce(&mut Connection, B) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Sending { payload, budget } = send;
        let budget_ns = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX / 4);
        let mut connection = self.take_connection(clock::monotonic_ns() + budget_ns)?;
        let received = match connection.exchange(opcode, request, payload, budget) {
            Ok(received) => received,
            Err(error) => return Err(self.forget_connection(error)),
        };
        let has_payload = received.header.payload_len > 0;
        match read_body(received) {
            Ok(body) => match read_payload(&mut connection, body) {
                Ok(value) => {
                    self.return_connection(connection);
                    Ok(value)
                },
                Err(error) => Err(self.forget_connection(error)),
            },
            // A refusal leaves the stream in step.
            Err(error) if !has_payload && error.status() != Status::Malformed => {
                self.return_connection(connection);
                Err(error)
            },
            Err(error) => Err(self.forget_connection(error)),
        }
    }

    fn budget(&self, chosen: Option<Duration>) -> Duration {
        chosen.unwrap_or(self.options.request_timeout)
    }

    fn frame_payload_max(&self) -> u64 {
        FRAME_PAYLOAD_BYTES.min(self.welcome.payload_max)
    }
}

/// One frame of reads on its way from the socket to the caller.
struct Reading<'a> {
    session: &'a RemoteSession,
    range: Range,
    good: &'a [usize],
    sink: &'a mut dyn Sink,
    out: &'a mut [Result<Option<usize>, Error>],
    on_version: &'a mut dyn FnMut(usize, Version),
}

impl Reading<'_> {
    fn run(&mut self, keys: &[&[u8]], wait_ms: u64, budget: Duration) -> Result<(), Error> {
        let range = ByteRange {
            offset: self.range.offset,
            len: self.range.len.unwrap_or(0),
        };
        // On the wire a length of zero means "to the end"; asked for here, it is a question.
        let no_bytes = self.range.len == Some(0);
        let want_payload = if no_bytes {
            0
        } else {
            GetRequest::WANT_PAYLOAD
        };
        let want_crc = if self.checks() {
            GetRequest::WANT_CRC
        } else {
            0
        };
        let request = GetRequest {
            wait_ms,
            flags: want_payload | want_crc,
            keys: batch(self.good.iter().map(|&index| keys[index]))?,
            ranges: if self.range.is_whole() {
                Vec::new()
            } else {
                vec![range; self.good.len()]
            },
        };
        let opcode = if wait_ms > 0 {
            Opcode::Wait
        } else {
            Opcode::Get
        };
        let expected = self.good.len();
        let session = self.session;
        session.call_with_payload(
            opcode,
            &request,
            Sending {
                payload: &[],
                budget,
            },
            |received| {
                let response: GetResponse = answer(&received)?;
                counted(response.answers.len(), expected).map(|()| response)
            },
            |connection, response| self.receive_all(connection, &response.answers),
        )
    }

    /// Checksums are of whole values.
    fn checks(&self) -> bool {
        self.session.options.checksum && self.range.is_whole()
    }

    fn receive_all(
        &mut self,
        connection: &mut Connection,
        answers: &[KeyAnswer],
    ) -> Result<(), Error> {
        for (position, answer) in answers.iter().enumerate() {
            let index = self.good[position];
            self.out[index] = match Status::from_peer(answer.status) {
                Status::Ok => self.receive_one(connection, index, answer)?,
                // The wait is over without the key.
                Status::NotFound | Status::Timeout => Ok(None),
                other => Err(Error::from_status(other)),
            };
            (self.on_version)(index, Version::from_raw(answer.version));
        }
        Ok(())
    }

    /// Receives one value. The outer error is the connection's, the inner one the key's.
    fn receive_one(
        &mut self,
        connection: &mut Connection,
        index: usize,
        answer: &KeyAnswer,
    ) -> Result<Result<Option<usize>, Error>, Error> {
        let wanted = match self.range.within(answer.size) {
            Ok((_, len)) => len,
            Err(error) => {
                connection.drop_payload(answer.len)?;
                return Ok(Err(error));
            },
        };
        if wanted != answer.len {
            return Err(malformed("a value has another length than its range"));
        }
        let size = usize::try_from(wanted).map_err(|_wide| Error::from_status(Status::TooLarge))?;
        if let Err(error) = self.sink.begin(index, size) {
            connection.drop_payload(answer.len)?;
            return Ok(Err(error));
        }
        let expected = answer.crc().filter(|_| self.checks());
        let mut crc = 0;
        let mut at = 0;
        while at < size {
            let piece = self.sink.piece(index, at, size);
            assert!(!piece.is_empty(), "a piece makes progress");
            let count = piece.len().min(SLICE_BYTES);
            let slice = &mut piece[..count];
            connection.read_payload(slice)?;
            if expected.is_some() {
                // SAFETY: `read_payload` has initialised all of the slice.
                crc = unsafe { bytes::crc32c_append(crc, slice.as_ptr().cast(), count) };
            }
            at += count;
        }
        // SAFETY: the loop above has written all `size` bytes.
        unsafe { self.sink.commit(index, size) };
        if expected.is_some_and(|expected| expected != crc) {
            return Ok(Err(Error::from_status(Status::ChecksumMismatch)));
        }
        if answer.flags & KeyAnswer::FROM_SSD != 0 {
            self.session.counters.add_hit_ssd();
        }
        Ok(Ok(Some(size)))
    }
}

/// Cuts `count` items into runs of bounded number and payload; a longer single item is its own run.
fn cuts(
    count: usize,
    payload_max: u64,
    len_of: impl Fn(usize) -> u64,
) -> impl Iterator<Item = Indexes<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == count {
            return None;
        }
        let mut end = start + 1;
        let mut sum = len_of(start);
        while end < count && end - start < FRAME_KEYS_MAX && sum + len_of(end) <= payload_max {
            sum += len_of(end);
            end += 1;
        }
        let cut = start..end;
        start = end;
        Some(cut)
    })
}

fn fail_all<T>(good: &[usize], error: &Error, out: &mut [Result<T, Error>]) {
    for &index in good {
        out[index] = Err(error.clone());
    }
}

/// The positions of the keys that are keys; the others get their error.
fn good_keys<T>(keys: &[&[u8]], out: &mut [Result<T, Error>]) -> Vec<usize> {
    let mut good = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        match check_key(key) {
            Ok(()) => good.push(index),
            Err(error) => out[index] = Err(Error::new(error.status(), error.to_string())),
        }
    }
    good
}

pub(super) fn batch<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Result<KeyBatch, Error> {
    let mut batch = KeyBatch::default();
    for key in keys {
        batch.push(key).map_err(refused_by_us)?;
    }
    Ok(batch)
}

pub(super) fn answer<A: Message>(received: &Received<'_>) -> Result<A, Error> {
    match decode_answer::<A>(&received.header, received.body).map_err(malformed)? {
        Answer::Done(answer) => Ok(answer),
        Answer::Refused(refused) => Err(refusal(&refused)),
    }
}

fn counted(found: usize, expected: usize) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(malformed("not as many answers as keys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_keep_order_and_bounds() {
        let lens = [3, 3, 3, 20, 1, 1];
        let found: Vec<_> = cuts(lens.len(), 8, |at| lens[at]).collect();
        assert_eq!(found, [0..2, 2..3, 3..4, 4..6]);
        assert_eq!(cuts(0, 8, |_| 1).count(), 0);
        assert!(cuts(10_000, u64::MAX, |_| 1).all(|cut| cut.len() <= FRAME_KEYS_MAX));
    }
}
