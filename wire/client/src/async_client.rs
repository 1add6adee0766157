//! The asynchronous face: the same operations as futures.
//!
//! The first asynchronous call of a client starts one thread, the driver. It sleeps until an
//! answer arrives for a future that waits, wakes that future, and sleeps again; all work (hashing,
//! copying, submitting) is done by whoever polls. The thread ends with its client. A client that
//! is never used asynchronously has no thread.

use std::time::Duration;

use crate::client::{Client, Place};
use crate::error::Error;
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
        self.client.set(key, value, options)
    }

    /// As [`Client::mset`].
    pub async fn mset(
        &self,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Vec<Result<Version, Error>> {
        self.client.mset(items, options)
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
        self.client.create(key, len, options)
    }

    /// As [`Client::get`].
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub async fn get(&self, key: &[u8], options: &GetOptions) -> Result<Option<Vec<u8>>, Error> {
        self.client.get(key, options)
    }

    /// As [`Client::mget_with`].
    pub async fn mget(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
    ) -> Vec<Result<Option<Vec<u8>>, Error>> {
        self.client.mget_with(keys, options)
    }

    /// As [`Client::view_with`].
    ///
    /// # Errors
    ///
    /// As [`Client::view_with`].
    pub async fn view(&self, key: &[u8], options: &GetOptions) -> Result<Option<View>, Error> {
        self.client.view_with(key, options)
    }

    /// As [`Client::mview_with`].
    pub async fn mview(
        &self,
        keys: &[&[u8]],
        options: &GetOptions,
    ) -> Vec<Result<Option<View>, Error>> {
        self.client.mview_with(keys, options)
    }

    /// As [`Client::exist`].
    ///
    /// # Errors
    ///
    /// As [`Client::exist`].
    pub async fn exist(&self, key: &[u8]) -> Result<bool, Error> {
        self.client.exist(key)
    }

    /// As [`Client::mexist`].
    pub async fn mexist(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        self.client.mexist(keys)
    }

    /// As [`Client::prefix`].
    ///
    /// # Errors
    ///
    /// As [`Client::prefix`].
    pub async fn prefix(&self, keys: &[&[u8]]) -> Result<usize, Error> {
        self.client.prefix(keys)
    }

    /// As [`Client::size`].
    ///
    /// # Errors
    ///
    /// As [`Client::size`].
    pub async fn size(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        self.client.size(key)
    }

    /// As [`Client::delete`].
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub async fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        self.client.delete(key)
    }

    /// As [`Client::mdelete`].
    pub async fn mdelete(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        self.client.mdelete(keys)
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
        self.client.expire(key, ttl)
    }
}
