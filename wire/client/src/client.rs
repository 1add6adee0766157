//! The synchronous face: one method per operation, single and batch.
//!
//! Every method is thin: `calls.rs` holds what both faces share, and the core picks the session and
//! runs the operation to its deadline. Single operations are batches of one that live on the stack.

use std::io::IoSliceMut;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use chariot_proto::Status;

use crate::calls::found;
use crate::core::{Core, Question};
use crate::error::Error;
use crate::mode::{Mode, block};
use crate::options::{ConnectOptions, GetOptions, SetOptions, Version};
use crate::stats::ClientStats;
use crate::view::View;
use crate::write_buffer::WriteBuffer;

/// Where the bytes of a client come from at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Shared memory of a daemon on this host.
    SharedMemory,
    /// TCP frames.
    Tcp,
    /// No daemon: reads are misses, and the next call tries to connect.
    Away,
}

/// A connection to one daemon; cheap to clone, shared by any number of threads.
///
/// Calls of different threads run at the same time. The session ends when the last clone, view and
/// write buffer are gone. After a fork the child must connect for itself: here every call answers
/// an error and every drop does nothing. Once the daemon has expelled the session, every call
/// answers [`Status::Expelled`] (views keep their bytes): connect anew, if whoever expelled it
/// agrees.
#[derive(Clone, Debug)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    /// Connects, proves the credentials, and maps shared memory where possible.
    ///
    /// # Errors
    ///
    /// [`Status::Restarting`] when nobody listens there, [`Status::NotAuthorized`] for refused
    /// credentials, [`Status::VersionMismatch`] when the two have no protocol version in common,
    /// [`Status::Busy`] when the daemon has no session left, [`Status::Timeout`] after
    /// [`ConnectOptions::connect_timeout`], [`Status::InvalidArgument`] for options without sense.
    pub fn connect(options: ConnectOptions) -> Result<Self, Error> {
        Ok(Self {
            core: Arc::new(Core::connect(options)?),
        })
    }

    /// Tells which way bytes travel now.
    pub fn place(&self) -> Place {
        self.core.place()
    }

    /// Returns the options that it was connected with.
    pub fn options(&self) -> &ConnectOptions {
        self.core.options()
    }

    /// Returns what this client and its clones have counted of their reads, exactly; what the
    /// daemon shows of reads through the index is a lower bound.
    pub fn stats(&self) -> ClientStats {
        self.core.stats()
    }

    /// Writes `value` (1 byte to half the arena) under `key` and returns its version.
    ///
    /// # Errors
    ///
    /// [`Status::Exists`] with `if_absent`; [`Status::OutOfMemory`] when nothing may be evicted for
    /// it within the deadline; [`Status::TooLarge`], [`Status::KeyInvalid`]: change the request;
    /// [`Status::Restarting`], [`Status::Timeout`]: the outcome is unknown, write again.
    pub fn set(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Version, Error> {
        block(self.core.set_one(Mode::Blocking, key, value, options))
    }

    /// Writes many values; one result per item, in order. Not atomic. Of items with the same key
    /// the first is written, and all of them get its result.
    pub fn mset(
        &self,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Vec<Result<Version, Error>> {
        block(self.core.set_many(Mode::Blocking, items, options))
    }

    /// Lends memory of `len` bytes to write a value in place; see [`WriteBuffer::publish`].
    ///
    /// # Errors
    ///
    /// As [`Client::set`].
    pub fn create(
        &self,
        key: &[u8],
        len: usize,
        options: &SetOptions,
    ) -> Result<WriteBuffer, Error> {
        block(self.core.create(Mode::Blocking, self, key, len, options))
    }

    /// Lends memory for many values (key, length) to write in place; one result per item, in order.
    /// Of each item as [`Client::create`].
    pub fn mcreate(
        &self,
        items: &[(&[u8], usize)],
        options: &SetOptions,
    ) -> Vec<Result<WriteBuffer, Error>> {
        items
            .iter()
            .map(|&(key, len)| self.create(key, len, options))
            .collect()
    }

    /// Publishes many buffers, those of this session in one batch; one result per buffer, in order.
    /// Not atomic. Of each buffer as [`WriteBuffer::publish`].
    pub fn mpublish(buffers: Vec<WriteBuffer>) -> Vec<Result<Version, Error>> {
        block(WriteBuffer::publish_many(Mode::Blocking, buffers))
    }

    /// Reads the value of `key` or a range of it into a new vector; `None` is a miss.
    ///
    /// # Errors
    ///
    /// [`Status::RangeInvalid`] when the range is not inside the value; [`Status::KeyInvalid`];
    /// [`Status::Timeout`]; [`Status::ChecksumMismatch`] for payload damaged on its way.
    pub fn get(&self, key: &[u8], options: &GetOptions) -> Result<Option<Vec<u8>>, Error> {
        block(self.core.get_one(Mode::Blocking, key, options))
    }

    /// Reads the value of `key` into `buffer` and returns its length; `None` is a miss.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; [`Status::InvalidArgument`] when the value is longer than the buffer.
    pub fn get_into(&self, key: &[u8], buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        self.get_into_with(key, buffer, &GetOptions::default())
    }

    /// As [`Client::get_into`], with a range, a wait or a deadline.
    ///
    /// # Errors
    ///
    /// As [`Client::get_into`].
    pub fn get_into_with(
        &self,
        key: &[u8],
        buffer: &mut [u8],
        options: &GetOptions,
    ) -> Result<Option<usize>, Error> {
        block(self.core.get_one_into(Mode::Blocking, key, buffer, options))
    }

    /// Reads the value of `key` into several buffers, filled in order, and returns its length.
    ///
    /// # Errors
    ///
    /// As [`Client::get_into`], with the sum of the buffers.
    pub fn get_scatter(
        &self,
        key: &[u8],
        buffers: &mut [IoSliceMut<'_>],
    ) -> Result<Option<usize>, Error> {
        block(self.core.get_scattered(Mode::Blocking, key, buffers))
    }

    /// Reads many values into new vectors; one result per key, in order.
    pub fn mget(&self, keys: &[&[u8]]) -> Vec<Result<Option<Vec<u8>>, Error>> {
        self.mget_with(keys, &GetOptions::default())
    }

    /// As [`Client::mget`], with a range, a wait or a deadline that holds for all keys.
    pub fn mget_with(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
    ) -> Vec<Result<Option<Vec<u8>>, Error>> {
        block(self.core.get_many(Mode::Blocking, keys, options))
    }

    /// Reads many values into the caller's buffers, one each; the results are the lengths.
    ///
    /// # Panics
    ///
    /// When there are not as many buffers as keys.
    pub fn mget_into(
        &self,
        keys: &[&[u8]],
        buffers: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        block(self.core.get_many_into(Mode::Blocking, keys, buffers))
    }

    /// Lends the bytes of `key` in place; `None` is a miss.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub fn view(&self, key: &[u8]) -> Result<Option<View>, Error> {
        self.view_with(key, &GetOptions::default())
    }

    /// As [`Client::view`], with a range, a wait or a deadline.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub fn view_with(&self, key: &[u8], options: &GetOptions) -> Result<Option<View>, Error> {
        // A hit returns without the state of a call that may wait.
        match self.core.view_here(key, options) {
            Some(result) => result,
            None => self.view_asked(key, options),
        }
    }

    /// Lends the bytes of many keys in place; one result per key, in order.
    pub fn mview(&self, keys: &[&[u8]]) -> Vec<Result<Option<View>, Error>> {
        self.mview_with(keys, &GetOptions::default())
    }

    /// As [`Client::mview`], with a range, a wait or a deadline that holds for all keys.
    pub fn mview_with(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
    ) -> Vec<Result<Option<View>, Error>> {
        block(self.core.view_many(Mode::Blocking, keys, options))
    }

    /// Tells whether `key` has a value.
    ///
    /// # Errors
    ///
    /// [`Status::KeyInvalid`], [`Status::Timeout`].
    pub fn exist(&self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.ask_one(Question::Exist, key)?.is_some())
    }

    /// Tells for each key whether it has a value.
    pub fn mexist(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        found(self.ask_many(Question::Exist, keys))
    }

    /// Returns how many of `keys`, counted from the front without a gap, have a value.
    ///
    /// # Errors
    ///
    /// As [`Client::exist`]; [`Status::TooLarge`] for more than 100,000 keys.
    pub fn prefix(&self, keys: &[&[u8]]) -> Result<usize, Error> {
        block(self.core.prefix(Mode::Blocking, keys))
    }

    /// Returns the length of the value in bytes; `None` is a miss.
    ///
    /// # Errors
    ///
    /// As [`Client::exist`].
    pub fn size(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        self.ask_one(Question::Size, key)
    }

    /// Returns the length of each value.
    pub fn msize(&self, keys: &[&[u8]]) -> Vec<Result<Option<u64>, Error>> {
        self.ask_many(Question::Size, keys)
    }

    /// Deletes `key` and tells whether it had a value.
    ///
    /// # Errors
    ///
    /// [`Status::KeyInvalid`]; [`Status::Restarting`], [`Status::Timeout`]: the outcome is unknown.
    pub fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.ask_one(Question::Delete, key)?.is_some())
    }

    /// Deletes many keys; each result tells whether the key had a value.
    pub fn mdelete(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        found(self.ask_many(Question::Delete, keys))
    }

    /// Replaces the life of `key` (`None`: no expiry) and tells whether it had a value.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`]; [`Status::InvalidArgument`] for a life of zero.
    pub fn expire(&self, key: &[u8], ttl: impl Into<Option<Duration>>) -> Result<bool, Error> {
        Ok(self.ask_one(Question::expire(ttl.into())?, key)?.is_some())
    }

    /// Replaces the life of many keys; each result tells whether the key had a value.
    pub fn mexpire(
        &self,
        keys: &[&[u8]],
        ttl: impl Into<Option<Duration>>,
    ) -> Vec<Result<bool, Error>> {
        match Question::expire(ttl.into()) {
            Ok(question) => found(self.ask_many(question, keys)),
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    #[inline]
    fn ask_one(&self, question: Question, key: &[u8]) -> Result<Option<u64>, Error> {
        match self.core.ask_here(question, key) {
            Some(result) => result,
            None => self.ask_one_asked(question, key),
        }
    }

    #[cold]
    fn view_asked(&self, key: &[u8], options: &GetOptions) -> Result<Option<View>, Error> {
        block(self.core.view_one_asked(Mode::Blocking, key, options))
    }

    #[cold]
    fn ask_one_asked(&self, question: Question, key: &[u8]) -> Result<Option<u64>, Error> {
        block(self.core.ask_one_asked(Mode::Blocking, question, key))
    }

    fn ask_many(&self, question: Question, keys: &[&[u8]]) -> Vec<Result<Option<u64>, Error>> {
        block(self.core.ask_many(Mode::Blocking, question, keys))
    }
}
