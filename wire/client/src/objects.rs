//! Objects: values with latches, references, nested keys and an end to change (seal), and
//! transactions over several keys.
//!
//! An object's value is a value like any other: `get` and `view` read it. What this module adds
//! lives in the daemon, on the shard of each key, and ends with this session: latches and
//! references of a client that says farewell or dies are released within a second.
//!
//! - **References.** A key that any client or any parent refers to is neither evicted nor deleted;
//!   a delete is done when the last of them is dropped, and dropping the last one is a delete.
//! - **Nested keys** are held from before their parent's version is visible until that version is
//!   overwritten, deleted, expired or evicted.
//! - **Latches** are taken in the order in which they were asked for, per key; whoever waits says
//!   for how long. They exclude each other, not reads and writes.
//! - **Transactions** store all of their keys or none, only where no value exists.
//!
//! Over TCP it is all the same. There a connection of its own holds what this client takes, and
//! the end of that connection releases it; the client is then [`crate::Place::Away`] until its next
//! call connects again, without the latches and references that it had.
//!
//! Two objects that are nested in each other hold each other: neither is deleted before one of them
//! is published without the other, or expires. One that is nested in itself is refused.

mod asks;
mod asynchronous;
mod buffer;

use std::time::Duration;

#[cfg(doc)]
use chariot_proto::Status;

use crate::client::Client;
use crate::error::Error;
use crate::mode::{Mode, block};
use crate::options::{SetOptions, Version};

pub use self::asynchronous::AsyncObjects;
pub use self::buffer::ObjectBuffer;

/// Most keys of one transaction.
pub const TX_KEYS_MAX: usize = 8;
/// Most nested keys of one parent.
pub const NESTED_KEYS_MAX: usize = 10_000;

/// Who else may hold the latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LatchKind {
    /// Others that take it shared.
    Shared,
    /// Nobody.
    Exclusive,
}

/// The object calls of a [`Client`], made by [`Client::objects`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    client: Client,
}

impl Client {
    /// Gives the object calls of this session.
    pub fn objects(&self) -> Objects {
        Objects {
            client: self.clone(),
        }
    }

    /// Stores 1 to 8 values, all or none, only if none of the keys has a value.
    ///
    /// Nobody sees any of them before it is decided. After the decision they become visible shard
    /// by shard without waiting for anybody: a reader that hurries may find one of them some
    /// microseconds before another, and whoever has learned of this call's end finds all of them.
    /// `options.if_absent` is implied.
    ///
    /// # Errors
    ///
    /// [`Status::InvalidArgument`] for no key, too many, or one that stands twice;
    /// [`Status::Exists`] when one has a value: nothing was stored. [`Status::Again`]: the daemon
    /// gave up on it, nothing was stored. [`Status::Timeout`], [`Status::Restarting`]: the outcome
    /// is unknown, but it is all or nothing.
    pub fn multi_set_tx(
        &self,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Result<(), Error> {
        block(self.core().multi_set_tx(Mode::Blocking, items, options))
    }
}

impl Objects {
    /// The client behind it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Lends memory of `len` bytes for an object; see [`ObjectBuffer`].
    ///
    /// # Errors
    ///
    /// As [`Client::create`].
    pub fn create(
        &self,
        key: &[u8],
        len: usize,
        options: &SetOptions,
    ) -> Result<ObjectBuffer, Error> {
        let draft = self.client.create(key, len, options)?;
        Ok(ObjectBuffer::draft(
            self.client.clone(),
            key,
            options.clone(),
            draft,
        ))
    }

    /// Publishes a value under `key`, with keys that live as long as it does.
    ///
    /// # Errors
    ///
    /// As [`ObjectBuffer::publish`].
    pub fn put(
        &self,
        key: &[u8],
        value: &[u8],
        nested: &[&[u8]],
        options: &SetOptions,
    ) -> Result<Version, Error> {
        block(
            self.client
                .core()
                .put_object(Mode::Blocking, key, value, nested, options),
        )
    }

    /// Opens objects for reading; one result per key, `None` for a miss. `wait` is how long to wait
    /// for those that do not exist yet.
    pub fn get(
        &self,
        keys: &[&[u8]],
        wait: Option<Duration>,
    ) -> Vec<Result<Option<ObjectBuffer>, Error>> {
        let options = crate::options::GetOptions {
            wait,
            ..crate::options::GetOptions::default()
        };
        let views = self.client.mview_with(keys, &options);
        keys.iter()
            .zip(views)
            .map(|(key, view)| {
                Ok(view?.map(|view| ObjectBuffer::opened(self.client.clone(), key, view)))
            })
            .collect()
    }

    /// Adds a reference of this client to each key; keys need not exist yet. Every call counts.
    ///
    /// # Errors
    ///
    /// One result per key: [`Status::KeyInvalid`]; [`Status::Busy`] when the shard's table is full.
    pub fn increase_refs(&self, keys: &[&[u8]]) -> Vec<Result<(), Error>> {
        block(
            self.client
                .core()
                .change_refs(Mode::Blocking, keys, asks::REF_ADD),
        )
    }

    /// Drops a reference of this client to each key; the last one of all clients and parents
    /// deletes the object. A key without a reference of this client is no error.
    ///
    /// # Errors
    ///
    /// As [`Objects::increase_refs`].
    pub fn decrease_refs(&self, keys: &[&[u8]]) -> Vec<Result<(), Error>> {
        block(
            self.client
                .core()
                .change_refs(Mode::Blocking, keys, asks::REF_DROP),
        )
    }

    /// Returns how many clients refer to `key`.
    ///
    /// # Errors
    ///
    /// [`Status::KeyInvalid`], [`Status::Timeout`], [`Status::Restarting`].
    pub fn global_refs(&self, key: &[u8]) -> Result<u64, Error> {
        block(self.client.core().count_refs(Mode::Blocking, key))
    }

    /// Takes a latch of `key` and returns its number for [`Objects::unlatch`]. A `wait` of zero
    /// tries once.
    ///
    /// # Errors
    ///
    /// [`Status::Timeout`] when it was not free in `wait`; [`Status::Busy`] when the shard's table
    /// is full.
    pub fn latch(&self, key: &[u8], kind: LatchKind, wait: Duration) -> Result<u64, Error> {
        block(self.client.core().latch(Mode::Blocking, key, kind, wait))
    }

    /// Releases a latch; says whether it was held.
    ///
    /// # Errors
    ///
    /// As [`Objects::global_refs`].
    pub fn unlatch(&self, key: &[u8], latch: u64) -> Result<bool, Error> {
        block(self.client.core().unlatch(Mode::Blocking, key, latch))
    }

    /// As [`Client::multi_set_tx`].
    ///
    /// # Errors
    ///
    /// As [`Client::multi_set_tx`].
    pub fn multi_set_tx(
        &self,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Result<(), Error> {
        self.client.multi_set_tx(items, options)
    }
}
