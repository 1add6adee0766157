//! What the processes of the stress test know together: a file of numbers.
//!
//! The test says which run of the writer is the current one and when to end; the writer says of
//! each of its keys from which version on a read may answer; readers count. Every number lies in
//! the file together with its complement, so that half of a write is told from a whole one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::pattern;
use crate::random::mix;

/// Keys of one run of the writer.
pub const KEYS: u64 = 64;
/// Keys of a run whose values are small, so that their look-ups take more time than their bytes.
pub const SMALL_KEYS: u64 = 48;
/// Lengths of values; each version of a key has one of them, that of a small key one of the first.
const LENGTHS: [usize; 8] = [16, 60, 100, 200, 1_024, 4_096, 40_000, 300_000];
const SMALL_LENGTHS: u64 = 4;

const END: u64 = 0;
const RUN: u64 = 1;
const COUNTS: u64 = 1 << 8;
const FLOORS: u64 = 1 << 16;

/// The file. Any process may read any number; each number has one writer.
#[derive(Debug)]
pub struct Board {
    file: File,
}

impl Board {
    /// Opens the board, or makes an empty one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Self {
            file: options.open(path)?,
        })
    }

    /// Tells everybody to end.
    pub fn end(&self) {
        self.set(END, 1);
    }

    /// Whether everybody is to end.
    pub fn has_ended(&self) -> bool {
        self.get(END) != 0
    }

    /// The current run of the writer.
    pub fn run(&self) -> u64 {
        self.get(RUN)
    }

    /// A new run of the writer begins.
    pub fn set_run(&self, run: u64) {
        self.set(RUN, run);
    }

    /// What a reader has counted.
    pub fn count(&self, reader: u64) -> u64 {
        self.get(COUNTS + reader)
    }

    /// A reader has counted so many hits.
    pub fn set_count(&self, reader: u64, count: u64) {
        assert!(reader < FLOORS - COUNTS);
        self.set(COUNTS + reader, count);
    }

    /// The oldest version that a read of this key may answer from now on.
    pub fn floor(&self, key: Key) -> u64 {
        self.get(FLOORS + key.number())
    }

    /// A write of this key has completed: nothing older may be read from now on.
    pub fn set_floor(&self, key: Key, version: u64) {
        self.set(FLOORS + key.number(), version);
    }

    fn get(&self, place: u64) -> u64 {
        for _ in 0..1_000 {
            let mut bytes = [0; 16];
            if self.file.read_exact_at(&mut bytes, place * 16).is_err() {
                // Nobody has written that far.
                return 0;
            }
            let whole = u128::from_le_bytes(bytes);
            let (number, complement) = (low(whole), low(whole >> 64));
            if whole == 0 || number == !complement {
                return number;
            }
        }
        panic!("number {place} of the board is never whole");
    }

    fn set(&self, place: u64, number: u64) {
        let whole = u128::from(number) | (u128::from(!number) << 64);
        let written = self.file.write_all_at(&whole.to_le_bytes(), place * 16);
        written.expect("a file in memory takes sixteen bytes");
    }
}

fn low(whole: u128) -> u64 {
    u64::try_from(whole & u128::from(u64::MAX)).expect("sixty-four bits")
}

/// A key of one run of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The run.
    pub run: u64,
    /// Which of its keys, below [`KEYS`].
    pub index: u64,
}

impl Key {
    fn number(self) -> u64 {
        assert!(self.index < KEYS);
        self.run * KEYS + self.index
    }

    /// Its name.
    pub fn name(self) -> String {
        format!("stress/{}/{}", self.run, self.index)
    }

    /// The value of one of its versions: the key's number, the version, and bytes that depend on
    /// both; so does the length.
    pub fn value(self, version: u64) -> Vec<u8> {
        let seed = self.seed(version);
        let lengths = if self.index < SMALL_KEYS {
            SMALL_LENGTHS
        } else {
            LENGTHS.len() as u64
        };
        let len = LENGTHS[usize::try_from(seed % lengths).expect("below eight")];
        let mut bytes = pattern::value(len, seed);
        bytes[..8].copy_from_slice(&self.number().to_le_bytes());
        bytes[8..16].copy_from_slice(&version.to_le_bytes());
        bytes
    }

    /// The version whose value `bytes` are.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub fn judge(self, bytes: &[u8]) -> Result<u64, String> {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let (Some(number), Some(version)) = (word(0), word(8)) else {
            return Err(format!("{self:?}: {} bytes only", bytes.len()));
        };
        if number != self.number() {
            return Err(format!("{self:?}: bytes of key {number}"));
        }
        if bytes != self.value(version) {
            let len = bytes.len();
            return Err(format!("{self:?}: {len} bytes, not those of {version}"));
        }
        Ok(version)
    }

    fn seed(self, version: u64) -> u64 {
        mix((self.number() << 32) ^ version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_and_unwritten_ones_are_zero() {
        let directory = tempfile::tempdir().unwrap();
        let board = Board::open(&directory.path().join("board")).unwrap();
        let key = Key { run: 3, index: 5 };
        assert_eq!(board.floor(key), 0);
        board.set_floor(key, u64::MAX);
        board.set_run(7);
        let again = Board::open(&directory.path().join("board")).unwrap();
        assert_eq!((again.floor(key), again.run()), (u64::MAX, 7));
        assert_eq!(again.floor(Key { run: 3, index: 4 }), 0);
        assert!(!again.has_ended());
    }

    #[test]
    fn values_tell_their_version_and_everything_else_is_wrong() {
        let key = Key { run: 1, index: 60 };
        let other = Key { run: 1, index: 61 };
        for version in 1..50 {
            let mut bytes = key.value(version);
            assert_eq!(key.judge(&bytes), Ok(version));
            other.judge(&bytes).unwrap_err();
            if bytes.len() > 16 {
                let mixed = key.value(version + 1);
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                key.judge(&bytes).unwrap_err();
                bytes[8..16].copy_from_slice(&mixed[8..16]);
                key.judge(&bytes).unwrap_err();
            }
        }
        key.judge(&[0xee; 100]).unwrap_err();
        key.judge(&[]).unwrap_err();
    }
}
