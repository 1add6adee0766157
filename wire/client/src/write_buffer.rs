//! Memory to write a value in place, then to publish it under its key.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use chariot_proto::Status;

use crate::client::Client;
use crate::error::Error;
use crate::local::LeasedBytes;
use crate::mode::{Mode, block};
use crate::options::{SetOptions, Version};
use crate::region::Placement;

/// Exclusive memory of the length that [`Client::create`] was asked for.
///
/// Local sessions write straight into a leased extent of the arena, which becomes the value without
/// a copy; remote ones into a buffer of their own. The bytes are unspecified until written: set
/// all of them. Dropping the buffer unpublished gives the memory back.
pub struct WriteBuffer {
    client: Client,
    key: Box<[u8]>,
    options: SetOptions,
    bytes: Bytes,
}

enum Bytes {
    Leased(LeasedBytes),
    Owned(Vec<u8>),
}

impl WriteBuffer {
    pub(crate) fn leased(
        client: Client,
        key: &[u8],
        options: SetOptions,
        bytes: LeasedBytes,
    ) -> Self {
        Self {
            client,
            key: key.into(),
            options,
            bytes: Bytes::Leased(bytes),
        }
    }

    pub(crate) fn owned(
        client: Client,
        key: &[u8],
        options: SetOptions,
        len: usize,
    ) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(len).is_err() {
            return Err(Error::new(
                Status::OutOfMemory,
                format!("this process has no memory for a value of {len} bytes"),
            ));
        }
        bytes.resize(len, 0);
        Ok(Self {
            client,
            key: key.into(),
            options,
            bytes: Bytes::Owned(bytes),
        })
    }

    /// Where the bytes lie in shared memory; `None` when they are a buffer of their own.
    pub fn placement(&self) -> Option<Placement> {
        match &self.bytes {
            Bytes::Leased(bytes) => bytes.placement(),
            Bytes::Owned(_) => None,
        }
    }

    /// Publishes without a checksum: for bytes that an accelerator wrote, which nobody on this host
    /// has to read for it. Over TCP a checksum protects the way all the same.
    pub fn skip_checksum(&mut self) {
        if let Bytes::Leased(bytes) = &mut self.bytes {
            bytes.skip_checksum();
        }
    }

    /// Changes the time that the publish is allowed, from its call on.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.options.deadline = Some(deadline);
    }

    /// Publishes the bytes under the key and returns the value's version.
    ///
    /// # Errors
    ///
    /// As [`Client::set`]; the memory is given back and the value is gone.
    pub fn publish(self) -> Result<Version, Error> {
        block(self.publish_in(Mode::Blocking))
    }

    /// Publishes many buffers: those of one session and with the same options as one batch.
    pub(crate) async fn publish_many(
        mode: Mode,
        buffers: Vec<Self>,
    ) -> Vec<Result<Version, Error>> {
        let mut out = Vec::with_capacity(buffers.len());
        let mut batch: Vec<(Box<[u8]>, LeasedBytes)> = Vec::new();
        let mut batch_options = SetOptions::default();
        for buffer in buffers {
            let Self {
                client,
                key,
                options,
                bytes,
            } = buffer;
            let joins = match (&bytes, batch.last()) {
                (Bytes::Leased(bytes), Some((_, last))) => {
                    bytes.is_beside(last) && options == batch_options
                },
                _ => false,
            };
            if !joins {
                let full = std::mem::take(&mut batch);
                out.append(&mut LeasedBytes::publish_many(mode, full, &batch_options).await);
            }
            match bytes {
                Bytes::Leased(bytes) => {
                    batch.push((key, bytes));
                    batch_options = options;
                },
                Bytes::Owned(bytes) => {
                    let set = client.core().set_one(mode, &key, &bytes, &options);
                    out.push(set.await);
                },
            }
        }
        out.append(&mut LeasedBytes::publish_many(mode, batch, &batch_options).await);
        out
    }

    pub(crate) async fn publish_in(self, mode: Mode) -> Result<Version, Error> {
        let Self {
            client,
            key,
            options,
            bytes,
        } = self;
        match bytes {
            Bytes::Leased(bytes) => bytes.publish(mode, &key, &options).await,
            Bytes::Owned(bytes) => client.core().set_one(mode, &key, &bytes, &options).await,
        }
    }
}

impl Deref for WriteBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Leased(bytes) => bytes.as_slice(),
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl DerefMut for WriteBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Leased(bytes) => bytes.as_mut_slice(),
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for WriteBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBuffer")
            .field("len", &self.len())
            .field("in_place", &matches!(self.bytes, Bytes::Leased(_)))
            .finish_non_exhaustive()
    }
}
