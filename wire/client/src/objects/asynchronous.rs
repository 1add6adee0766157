//! The object calls as futures.

use std::time::Duration;

use super::{LatchKind, Objects, asks};
use crate::async_client::AsyncClient;
use crate::error::Error;
use crate::mode::Mode;
use crate::options::{SetOptions, Version};

/// The asynchronous face of [`Objects`], made by [`AsyncClient::objects`]; cheap to clone.
///
/// A future that is dropped may still have its effect, but for a latch: one that nobody heard of is
/// released.
#[derive(Clone, Debug)]
pub struct AsyncObjects {
    objects: Objects,
}

impl AsyncClient {
    /// Gives the object calls of this session.
    pub fn objects(&self) -> AsyncObjects {
        AsyncObjects {
            objects: self.client().objects(),
        }
    }

    /// As [`crate::Client::multi_set_tx`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::multi_set_tx`].
    pub async fn multi_set_tx(
        &self,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Result<(), Error> {
        let core = self.client().core();
        core.multi_set_tx(Mode::Waking, items, options).await
    }
}

impl AsyncObjects {
    /// The blocking face; its buffers are the ones to create, read and seal with.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// As [`Objects::put`].
    ///
    /// # Errors
    ///
    /// As [`Objects::put`].
    pub async fn put(
        &self,
        key: &[u8],
        value: &[u8],
        nested: &[&[u8]],
        options: &SetOptions,
    ) -> Result<Version, Error> {
        let core = self.objects.client.core();
        core.put_object(Mode::Waking, key, value, nested, options)
            .await
    }

    /// As [`Objects::increase_refs`].
    ///
    /// # Errors
    ///
    /// As [`Objects::increase_refs`].
    pub async fn increase_refs(&self, keys: &[&[u8]]) -> Vec<Result<(), Error>> {
        let core = self.objects.client.core();
        core.change_refs(Mode::Waking, keys, asks::REF_ADD).await
    }

    /// As [`Objects::decrease_refs`].
    ///
    /// # Errors
    ///
    /// As [`Objects::decrease_refs`].
    pub async fn decrease_refs(&self, keys: &[&[u8]]) -> Vec<Result<(), Error>> {
        let core = self.objects.client.core();
        core.change_refs(Mode::Waking, keys, asks::REF_DROP).await
    }

    /// As [`Objects::global_refs`].
    ///
    /// # Errors
    ///
    /// As [`Objects::global_refs`].
    pub async fn global_refs(&self, key: &[u8]) -> Result<u64, Error> {
        let core = self.objects.client.core();
        core.count_refs(Mode::Waking, key).await
    }

    /// As [`Objects::latch`].
    ///
    /// # Errors
    ///
    /// As [`Objects::latch`].
    pub async fn latch(&self, key: &[u8], kind: LatchKind, wait: Duration) -> Result<u64, Error> {
        let core = self.objects.client.core();
        core.latch(Mode::Waking, key, kind, wait).await
    }

    /// As [`Objects::unlatch`].
    ///
    /// # Errors
    ///
    /// As [`Objects::unlatch`].
    pub async fn unlatch(&self, key: &[u8], latch: u64) -> Result<bool, Error> {
        let core = self.objects.client.core();
        core.unlatch(Mode::Waking, key, latch).await
    }
}
