//! What each key may be: the judge of a node that is killed while it is written to.
//!
//! A key belongs to one writer, so at most one operation on it is under way when the node dies. Its
//! outcome is unknown; everything before it is known. A cache may have lost what only memory held,
//! but it may never show an older version, nor a deleted key, nor lose what lay on its device.

use crate::pattern;

/// Bytes in front of a value that name its version.
const VERSION_BYTES: usize = 8;

/// A value of `len` bytes that says which version it is, in every one of them.
///
/// # Panics
///
/// When `len` has no room for the version.
pub fn value(len: usize, version: u64) -> Vec<u8> {
    let mut bytes = pattern::value(len, version);
    bytes[..VERSION_BYTES].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// The version of a value; `None`: not what [`value`] makes.
pub fn version_of(bytes: &[u8]) -> Option<u64> {
    let (front, _) = bytes.split_first_chunk::<VERSION_BYTES>()?;
    let version = u64::from_le_bytes(*front);
    (bytes == value(bytes.len(), version)).then_some(version)
}

/// What a key must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A version that is neither the last one known nor the one under way.
    NotTheLast {
        /// What was read.
        seen: u64,
        /// What was known last.
        known: u64,
    },
    /// A version of a key that was deleted, or was gone before.
    Returned {
        /// What was read.
        seen: u64,
    },
    /// What lay on the device is not there.
    Lost {
        /// What was known last.
        known: u64,
    },
}

/// What a key will be once the operation under way is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    To(u64),
    Delete,
}

impl Change {
    const fn outcome(self) -> Option<u64> {
        match self {
            Self::To(version) => Some(version),
            Self::Delete => None,
        }
    }
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Key {
    /// The last version whose write was answered; `None`: deleted, lost, or never written.
    known: Option<u64>,
    under_way: Option<Change>,
    /// The known version was on the device.
    is_on_device: bool,
}

impl Key {
    /// An operation begins: the key will be this version, or nothing.
    pub fn begin(&mut self, to: Option<u64>) {
        assert!(self.under_way.is_none(), "one writer, one operation");
        self.under_way = Some(to.map_or(Change::Delete, Change::To));
    }

    /// The operation under way was answered.
    ///
    /// # Panics
    ///
    /// Without one.
    pub fn end(&mut self) {
        let change = self.under_way.take().expect("an operation is under way");
        self.known = change.outcome();
        self.is_on_device = false;
    }

    /// The known version was seen on the device, whole.
    pub fn on_device(&mut self) {
        assert!(self.known.is_some());
        assert!(self.under_way.is_none());
        self.is_on_device = true;
    }

    /// Whether an operation was under way when the node died: a read tells what became of it.
    pub fn is_unsure(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether a miss of this key is a loss.
    pub fn must_be_there(&self) -> bool {
        self.is_on_device && self.under_way.is_none()
    }

    /// Judges what was read; from then on that is known.
    ///
    /// # Errors
    ///
    /// Why it must not be.
    pub fn judge(&mut self, seen: Option<u64>) -> Result<(), Wrong> {
        let (known, under_way) = (self.known, self.under_way);
        let must_be_there = self.must_be_there();
        self.is_on_device &= seen == known;
        self.known = seen;
        self.under_way = None;
        match (seen, known) {
            (Some(_), _) if seen == known || under_way.and_then(Change::outcome) == seen => Ok(()),
            (Some(seen), Some(known)) => Err(Wrong::NotTheLast { seen, known }),
            (Some(seen), None) => Err(Wrong::Returned { seen }),
            (None, Some(known)) if must_be_there => Err(Wrong::Lost { known }),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(versions: &[Option<u64>]) -> Key {
        let mut key = Key::default();
        for &version in versions {
            key.begin(version);
            key.end();
        }
        key
    }

    #[test]
    fn only_the_last_version_the_one_under_way_and_a_miss_are_right() {
        let mut key = written(&[Some(1), Some(2)]);
        key.begin(Some(3));
        assert_eq!(key.clone().judge(Some(2)), Ok(()));
        assert_eq!(key.clone().judge(Some(3)), Ok(()));
        assert_eq!(key.clone().judge(None), Ok(()));
        let older = Wrong::NotTheLast { seen: 1, known: 2 };
        assert_eq!(key.clone().judge(Some(1)), Err(older));
        let never = Wrong::NotTheLast { seen: 9, known: 2 };
        assert_eq!(key.judge(Some(9)), Err(never));
    }

    #[test]
    fn deleted_and_lost_versions_do_not_return() {
        let returned = Err(Wrong::Returned { seen: 1 });
        assert_eq!(written(&[Some(1), None]).judge(Some(1)), returned);
        let mut lost = written(&[Some(1)]);
        assert_eq!(lost.judge(None), Ok(()), "memory alone had it");
        assert_eq!(lost.judge(Some(1)), returned);
    }

    #[test]
    fn what_was_on_the_device_is_lost_unless_it_was_being_changed() {
        let mut key = written(&[Some(1)]);
        key.on_device();
        assert_eq!(key.clone().judge(None), Err(Wrong::Lost { known: 1 }));
        let mut deleting = key;
        deleting.begin(None);
        assert_eq!(deleting.clone().judge(None), Ok(()));
        assert_eq!(deleting.judge(Some(1)), Ok(()));
        key.begin(Some(2));
        key.end();
        assert_eq!(key.judge(None), Ok(()), "the new one never was there");
    }

    #[test]
    fn a_value_tells_its_version_in_every_byte() {
        let mut bytes = value(100, 7);
        assert_eq!(version_of(&bytes), Some(7));
        bytes[60] ^= 1;
        assert_eq!(version_of(&bytes), None);
        assert_eq!(version_of(&bytes[..4]), None);
    }
}
