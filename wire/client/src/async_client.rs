//! The asynchronous face: the same operations as futures.
//!
//! The first asynchronous call of a client starts one thread, the driver. It sleeps until an
//! answer arrives for a future that waits, wakes that future, and sleeps again; all work (hashing,
//! copying, submitting) is done by whoever polls. The thread ends with its client. A client that
//! is never used asynchronously has no thread.
//!
//! Over TCP a future does not wait by itself yet: its poll blocks for the exchange with the daemon.
//! Run such futures where blocking is allowed.

use std::io::IoSliceMut;
use std::time::Duration;

use crate::calls::found;
use crate::client::{Client, Place};
use crate::core::Question;
use crate::error::Error;
use crate::mode::Mode;
use crate::options::{ConnectOptions, GetOptions, SetOptions, Version};
use crate::view::View;
use crate::write_buffer::WriteBuffer;

/// The asynchronous face of a [`Client`]; cheap to clone, for any executor.
///
/// Dropping a future abandons the call: a write may still happen, nothing leaks.
#[derive(Clone, Debug)]
pub struct AsyncClient {
    client: Client,
}

impl From<Client> for AsyncClient {
    fn from(client: Client) -> Self {
        Self { client }
    }
}

impl AsyncClient {
    /// Connects as [`Client::connect`] does; the caller blocks for the handshake.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn connect(options: ConnectOptions) -> Result<Self, Error> {
        Client::connect(options).map(Self::from)
    }

    /// The synchronous face of the same session.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// As [`Client::place`].
    pub fn place(&self) -> Place {
        self.client.place()
    }

    /// As [`Client::set`].
    ///
    /// # Errors
    ///
    /// As [`Client::set`].
    pub async fn set(
        &self,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
    ) -> Result<Version, Error> {
        self.client
            .core()
            .set_one(Mode::Waking, key, value, options)
            .await
    }

    /// As [`Client::mset`].
    pub async fn mset(
        &self,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Vec<Result<Version, Error>> {
        self.client
            .core()
            .set_many(Mode::Waking, items, options)
            .await
    }

    /// As [`Client::create`].
    ///
    /// # Errors
    ///
    /// As [`Client::create`].
    pub async fn create(
        &self,
        key: &[u8],
        len: usize,
        options: &SetOptions,
    ) -> Result<WriteBuffer, Error> {
        self.client
            .core()
            .create(Mode::Waking, &self.client, key, len, options)
            .await
    }

    /// As [`Client::get`].
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub async fn get(&self, key: &[u8], options: &GetOptions) -> Result<Option<Vec<u8>>, Error> {
        self.client.core().get_one(Mode::Waking, key, options).await
    }

    /// As [`Client::mget_with`].
    pub async fn mget(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
    ) -> Vec<Result<Option<Vec<u8>>, Error>> {
        self.client
            .core()
            .get_many(Mode::Waking, keys, options)
            .await
    }

    /// As [`Client::view_with`].
    ///
    /// # Errors
    ///
    /// As [`Client::view_with`].
    pub async fn view(&self, key: &[u8], options: &GetOptions) -> Result<Option<View>, Error> {
        self.client
            .core()
            .view_one(Mode::Waking, key, options)
            .await
    }

    /// As [`Client::mview_with`].
    pub async fn mview(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
    ) -> Vec<Result<Option<View>, Error>> {
        self.client
            .core()
            .view_many(Mode::Waking, keys, options)
            .await
    }

    /// As [`Client::exist`].
    ///
    /// # Errors
    ///
    /// As [`Client::exist`].
    pub async fn exist(&self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.ask(Question::Exist, key).await?.is_some())
    }

    /// As [`Client::mexist`].
    pub async fn mexist(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        found(
            self.client
                .core()
                .ask_many(Mode::Waking, Question::Exist, keys)
                .await,
        )
    }

    /// As [`Client::prefix`].
    ///
    /// # Errors
    ///
    /// As [`Client::prefix`].
    pub async fn prefix(&self, keys: &[&[u8]]) -> Result<usize, Error> {
        self.client.core().prefix(Mode::Waking, keys).await
    }

    /// As [`Client::size`].
    ///
    /// # Errors
    ///
    /// As [`Client::size`].
    pub async fn size(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        self.ask(Question::Size, key).await
    }

    /// As [`Client::delete`].
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub async fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.ask(Question::Delete, key).await?.is_some())
    }

    /// As [`Client::mdelete`].
    pub async fn mdelete(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        found(
            self.client
                .core()
                .ask_many(Mode::Waking, Question::Delete, keys)
                .await,
        )
    }

    /// As [`Client::expire`].
    ///
    /// # Errors
    ///
    /// As [`Client::expire`].
    pub async fn expire(
        &self,
        key: &[u8],
        ttl: impl Into<Option<Duration>>,
    ) -> Result<bool, Error> {
        Ok(self
            .ask(Question::expire(ttl.into())?, key)
            .await?
            .is_some())
    }

    /// As [`Client::get_into_with`].
    ///
    /// # Errors
    ///
    /// As [`Client::get_into`].
    pub async fn get_into(
        &self,
        key: &[u8],
        buffer: &mut [u8],
        options: &GetOptions,
    ) -> Result<Option<usize>, Error> {
        self.client
            .core()
            .get_one_into(Mode::Waking, key, buffer, options)
            .await
    }

    /// As [`Client::get_scatter`].
    ///
    /// # Errors
    ///
    /// As [`Client::get_scatter`].
    pub async fn get_scatter(
        &self,
        key: &[u8],
        buffers: &mut [IoSliceMut<'_>],
    ) -> Result<Option<usize>, Error> {
        self.client
            .core()
            .get_scattered(Mode::Waking, key, buffers)
            .await
    }

    /// As [`Client::mget_into`].
    ///
    /// # Panics
    ///
    /// As [`Client::mget_into`].
    pub async fn mget_into(
        &self,
        keys: &[&[u8]],
        buffers: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        self.client
            .core()
            .get_many_into(Mode::Waking, keys, buffers)
            .await
    }

    /// As [`Client::msize`].
    pub async fn msize(&self, keys: &[&[u8]]) -> Vec<Result<Option<u64>, Error>> {
        self.client
            .core()
            .ask_many(Mode::Waking, Question::Size, keys)
            .await
    }

    /// As [`Client::mexpire`].
    pub async fn mexpire(
        &self,
        keys: &[&[u8]],
        ttl: impl Into<Option<Duration>>,
    ) -> Vec<Result<bool, Error>> {
        match Question::expire(ttl.into()) {
            Ok(question) => found(
                self.client
                    .core()
                    .ask_many(Mode::Waking, question, keys)
                    .await,
            ),
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    /// Publishes a [`WriteBuffer`], as [`WriteBuffer::publish`] does.
    ///
    /// # Errors
    ///
    /// As [`WriteBuffer::publish`].
    pub async fn publish(&self, buffer: WriteBuffer) -> Result<Version, Error> {
        buffer.publish_in(Mode::Waking).await
    }

    async fn ask(&self, question: Question, key: &[u8]) -> Result<Option<u64>, Error> {
        self.client
            .core()
            .ask_one(Mode::Waking, question, key)
            .await
    }
}

#[cfg(test)]
mod tests;
