//! The keys of a batch: their bytes one after another, and their lengths.

use rkyv::rend::u16_le;
use rkyv::{Archive, Deserialize, Serialize};

use crate::error::MessageError;
use crate::limits::KEY_MAX;
use crate::message::Number;
use crate::message::contract::{check_count, check_list};

/// Holds keys one after another; clear it and use it again to send without allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct KeyBatch {
    /// All keys' bytes, without separators.
    pub bytes: Vec<u8>,
    /// Bytes of each key; they add up to the length of `bytes`.
    pub lens: Vec<u16>,
}

impl KeyBatch {
    /// Makes a batch of `keys`.
    ///
    /// # Errors
    ///
    /// As [`KeyBatch::push`].
    pub fn from_keys<K: AsRef<[u8]>>(keys: &[K]) -> Result<Self, MessageError> {
        let mut batch = Self::default();
        for key in keys {
            batch.push(key.as_ref())?;
        }
        Ok(batch)
    }

    /// Appends a key. Its bytes are not judged here; see [`crate::check_key`].
    ///
    /// # Errors
    ///
    /// [`MessageError::OverLimit`] for more than 65,535 bytes, which no length can say.
    pub fn push(&mut self, key: &[u8]) -> Result<(), MessageError> {
        let len = u16::try_from(key.len()).map_err(|_too_long| MessageError::OverLimit {
            what: "key",
            found: key.len() as u64,
            max: u64::from(KEY_MAX),
        })?;
        self.bytes.extend_from_slice(key);
        self.lens.push(len);
        Ok(())
    }

    /// Drops all keys and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lens.clear();
    }

    /// Returns how many keys there are.
    pub const fn len(&self) -> usize {
        self.lens.len()
    }

    /// Returns whether there is no key.
    pub const fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Iterates over the keys in order.
    pub fn iter(&self) -> Keys<'_, core::iter::Copied<core::slice::Iter<'_, u16>>> {
        Keys {
            rest: &self.bytes,
            lens: self.lens.iter().copied(),
        }
    }

    pub(crate) fn check(&self, max: u32) -> Result<(), MessageError> {
        check_batch(self.bytes.len(), &self.lens, max)
    }
}

impl ArchivedKeyBatch {
    /// Returns how many keys there are.
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Iterates over the keys in order.
    pub fn iter(&self) -> Keys<'_, core::iter::Copied<core::slice::Iter<'_, u16_le>>> {
        Keys {
            rest: &self.bytes,
            lens: self.lens.iter().copied(),
        }
    }

    pub(crate) fn check(&self, max: u32) -> Result<(), MessageError> {
        check_batch(self.bytes.len(), &self.lens, max)
    }
}

impl<'a> IntoIterator for &'a KeyBatch {
    type Item = &'a [u8];
    type IntoIter = Keys<'a, core::iter::Copied<core::slice::Iter<'a, u16>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a ArchivedKeyBatch {
    type Item = &'a [u8];
    type IntoIter = Keys<'a, core::iter::Copied<core::slice::Iter<'a, u16_le>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Yields the keys of a batch, owned or archived.
///
/// It ends early where the lengths go beyond the bytes, which a validated batch never does.
#[derive(Debug, Clone)]
pub struct Keys<'a, L> {
    rest: &'a [u8],
    lens: L,
}

impl<'a, N: Number, L: Iterator<Item = N>> Iterator for Keys<'a, L> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.lens.next()?.wide()).ok()?;
        let (key, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.lens.size_hint().1)
    }
}

fn check_batch<N: Number>(byte_count: usize, lens: &[N], max: u32) -> Result<(), MessageError> {
    check_list("keys", lens.len(), max)?;
    // At most 100,000 lengths of 16 bits: the sum cannot wrap.
    let sum: u64 = lens.iter().map(|len| len.wide()).sum();
    let sum = usize::try_from(sum).unwrap_or(usize::MAX);
    check_count("key bytes", byte_count, sum)
}
