//! One object in the hands of a program: bytes to write, to publish again and again, to seal.

use std::fmt;
use std::time::Duration;

use chariot_proto::Status;

use super::{LatchKind, asks};
use crate::client::Client;
use crate::error::Error;
use crate::mode::{Mode, block};
use crate::options::{SetOptions, Version};
use crate::view::View;
use crate::write_buffer::WriteBuffer;

/// An object that was created or opened.
///
/// Before the first publish its bytes are memory that only this buffer knows; each publish makes
/// them the object's value in place. Bytes that are published never change: to write again, the
/// buffer takes new memory and copies them there first, so that addresses handed out before a
/// publish are not those after it. Lives on: any thread. Dropping it releases its latches.
pub struct ObjectBuffer {
    client: Client,
    key: Box<[u8]>,
    options: SetOptions,
    len: usize,
    bytes: Bytes,
    latches: Vec<(LatchKind, u64)>,
}

enum Bytes {
    /// Not published yet.
    Draft(WriteBuffer),
    /// The value as it was published or opened.
    Value(View),
    /// Published, and gone from the cache since; or invalidated.
    Gone,
}

impl ObjectBuffer {
    pub(super) fn draft(
        client: Client,
        key: &[u8],
        options: SetOptions,
        draft: WriteBuffer,
    ) -> Self {
        Self {
            client,
            key: key.into(),
            options,
            len: draft.len(),
            bytes: Bytes::Draft(draft),
            latches: Vec::new(),
        }
    }

    pub(super) fn opened(client: Client, key: &[u8], view: View) -> Self {
        Self {
            client,
            key: key.into(),
            options: SetOptions::default(),
            len: view.len(),
            bytes: Bytes::Value(view),
            latches: Vec::new(),
        }
    }

    /// The object's key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Bytes of the object.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always false: an object has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes: of the draft, or of the value as it was when it was published or opened.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`] after [`ObjectBuffer::invalidate`], or when the value had left the
    /// cache before it could be looked at.
    pub fn data(&self) -> Result<&[u8], Error> {
        match &self.bytes {
            Bytes::Draft(draft) => Ok(draft),
            Bytes::Value(view) => Ok(view),
            Bytes::Gone => Err(Self::gone()),
        }
    }

    /// The bytes, to be written; seen by others after the next publish.
    ///
    /// # Errors
    ///
    /// As [`Client::create`] when new memory is needed; [`Status::NotFound`] as [`Self::data`].
    pub fn data_mut(&mut self) -> Result<&mut [u8], Error> {
        if let Bytes::Value(view) = &self.bytes {
            let mut draft = self.client.create(&self.key, self.len, &self.options)?;
            draft.copy_from_slice(view);
            self.bytes = Bytes::Draft(draft);
        }
        match &mut self.bytes {
            Bytes::Draft(draft) => Ok(draft),
            Bytes::Value(_) => unreachable!("made a draft above"),
            Bytes::Gone => Err(Self::gone()),
        }
    }

    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    ///
    /// [`Status::RangeInvalid`] when they do not fit; as [`Self::data_mut`].
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let end = offset.checked_add(bytes.len());
        let Some(end) = end.filter(|&end| end <= self.len) else {
            return Err(Error::new(
                Status::RangeInvalid,
                format!(
                    "{} bytes at {offset}, the object has {}",
                    bytes.len(),
                    self.len
                ),
            ));
        };
        self.data_mut()?[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    /// Makes the bytes the object's value; may be repeated. `nested` keys live at least as long as
    /// this version does.
    ///
    /// # Errors
    ///
    /// [`Status::Sealed`]: nothing was changed. [`Status::TooLarge`] for more than 10,000 nested
    /// keys, [`Status::Busy`] when a shard's table of nested keys is full; else as [`Client::set`].
    pub fn publish(&mut self, nested: &[&[u8]]) -> Result<Version, Error> {
        self.finish(nested, asks::BIND)
    }

    /// Publishes, and ends all change: later publishes by anybody answer [`Status::Sealed`] for as
    /// long as the value exists.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`]; [`Status::Again`] when another value took the key at the same moment:
    /// that one is not sealed.
    pub fn seal(&mut self, nested: &[&[u8]]) -> Result<Version, Error> {
        self.finish(nested, asks::SEAL)
    }

    fn finish(&mut self, nested: &[&[u8]], form: u8) -> Result<Version, Error> {
        // Publishing again without having written publishes the same bytes again.
        self.data_mut()?;
        let core = self.client.core();
        let number = block(core.hold_nested(Mode::Blocking, &self.key, nested))?;
        let Bytes::Draft(draft) = std::mem::replace(&mut self.bytes, Bytes::Gone) else {
            unreachable!("data_mut makes a draft")
        };
        let published = match draft.publish() {
            Ok(version) => version,
            Err(error) => {
                block(core.drop_nested(Mode::Blocking, &self.key, number, nested));
                return Err(error);
            },
        };
        if let Ok(Some(view)) = self.client.view(&self.key) {
            self.bytes = Bytes::Value(view);
        }
        let is_needed = form == asks::SEAL || !nested.is_empty();
        if is_needed {
            let publish = (number, published);
            block(core.bind(Mode::Blocking, &self.key, publish, form))?;
        }
        Ok(published)
    }

    /// Gives the bytes up: the draft is lost, the published value stays in the cache.
    pub fn invalidate(&mut self) {
        self.bytes = Bytes::Gone;
    }

    /// Takes the object's latch for this buffer.
    ///
    /// # Errors
    ///
    /// As [`super::Objects::latch`].
    pub fn latch(&mut self, kind: LatchKind, wait: Duration) -> Result<(), Error> {
        let core = self.client.core();
        let latch = block(core.latch(Mode::Blocking, &self.key, kind, wait))?;
        self.latches.push((kind, latch));
        Ok(())
    }

    /// Releases the latch of that kind that this buffer took last.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`] when it holds none; as [`super::Objects::unlatch`].
    pub fn unlatch(&mut self, kind: LatchKind) -> Result<(), Error> {
        let held = self.latches.iter().rposition(|latch| latch.0 == kind);
        let Some(held) = held else {
            return Err(Error::new(
                Status::NotFound,
                "this buffer holds no such latch",
            ));
        };
        let (_, latch) = self.latches.remove(held);
        let core = self.client.core();
        block(core.unlatch(Mode::Blocking, &self.key, latch)).map(drop)
    }

    fn gone() -> Error {
        Error::new(Status::NotFound, "the buffer's bytes were given up")
    }
}

impl Drop for ObjectBuffer {
    fn drop(&mut self) {
        for (_, latch) in std::mem::take(&mut self.latches) {
            // A daemon that cannot be asked releases it with the session.
            let core = self.client.core();
            drop(block(core.unlatch(Mode::Blocking, &self.key, latch)));
        }
    }
}

impl fmt::Debug for ObjectBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBuffer")
            .field("len", &self.len)
            .field("is_draft", &matches!(self.bytes, Bytes::Draft(_)))
            .field("latches", &self.latches.len())
            .finish_non_exhaustive()
    }
}
