//! Blob tables: how an object's fragments lie in its one extent.
//!
//! ```text
//! 0        magic "CHBT", then the number of blobs: two little-endian u32
//! 8        length of each blob, little-endian u64
//! data_at  the blobs, one after the other, without gaps; a multiple of 64
//! ```

/// First bytes of a table.
const MAGIC: [u8; 4] = *b"CHBT";
/// Where blobs begin is a multiple of this: a cache line, and what cards align to.
const ALIGN: usize = 64;
const HEAD: usize = 8;
/// Most blobs of an object: what one batch call of a driver takes.
const BLOBS_MAX: usize = 4096;

/// Why bytes are no table, or lengths make none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// More than 4,096 blobs: split the object.
    #[error("{count} blobs, 4096 are allowed")]
    Blobs {
        /// What was asked for, or written.
        count: usize,
    },
    /// The lengths do not add up to an object that an address space holds.
    #[error("the lengths of the blobs overflow")]
    Length,
    /// The object does not begin with a table, or ends inside it.
    #[error("no blob table")]
    Absent,
    /// The object is shorter than its table says: it is corrupt.
    #[error("the blobs end behind the object's {object_bytes} bytes")]
    Short {
        /// Length of the object.
        object_bytes: usize,
    },
}

/// The blobs of an object, by offset and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobTable {
    /// Offset in the object and length of each blob.
    blobs: Vec<(usize, usize)>,
    end: usize,
}

impl BlobTable {
    /// Lays out blobs of these lengths.
    ///
    /// # Errors
    /// [`TableError::Blobs`], [`TableError::Length`]: the caller's object is too large.
    pub fn of_lens(lens: &[usize]) -> Result<Self, TableError> {
        if lens.len() > BLOBS_MAX {
            return Err(TableError::Blobs { count: lens.len() });
        }
        let mut end = (HEAD + 8 * lens.len()).next_multiple_of(ALIGN);
        let mut blobs = Vec::with_capacity(lens.len());
        for len in lens {
            blobs.push((end, *len));
            let next = end
                .checked_add(*len)
                .filter(|end| isize::try_from(*end).is_ok());
            end = next.ok_or(TableError::Length)?;
        }
        Ok(Self { blobs, end })
    }

    /// Reads the table of an object of `object_bytes`, of which `bytes` is the beginning (all of
    /// the table, or [`TableError::Absent`]). Nothing in it is trusted.
    ///
    /// # Errors
    /// [`TableError`]: the object is no such object, or corrupt.
    pub fn parse(bytes: &[u8], object_bytes: usize) -> Result<Self, TableError> {
        let count = Self::count(bytes)?;
        let lens = bytes
            .get(HEAD..HEAD + 8 * count)
            .ok_or(TableError::Absent)?;
        let mut parsed = Vec::with_capacity(count);
        for len in lens.chunks_exact(8) {
            let len = u64::from_le_bytes(len.try_into().map_err(|_len| TableError::Absent)?);
            parsed.push(usize::try_from(len).map_err(|_big| TableError::Length)?);
        }
        let table = Self::of_lens(&parsed)?;
        if table.end > object_bytes {
            return Err(TableError::Short { object_bytes });
        }
        Ok(table)
    }

    fn count(bytes: &[u8]) -> Result<usize, TableError> {
        let head = bytes.get(..HEAD).ok_or(TableError::Absent)?;
        let (magic, count) = head.split_at(4);
        if magic != MAGIC {
            return Err(TableError::Absent);
        }
        let count = u32::from_le_bytes(count.try_into().map_err(|_len| TableError::Absent)?);
        let count = usize::try_from(count).map_err(|_big| TableError::Length)?;
        if count > BLOBS_MAX {
            return Err(TableError::Blobs { count });
        }
        Ok(count)
    }

    /// Bytes that [`Self::parse`] needs for the object that begins with these 8 bytes.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn head_len(bytes: &[u8]) -> Result<usize, TableError> {
        Ok(HEAD + 8 * Self::count(bytes)?)
    }

    /// The table's bytes, to be written at the object's beginning.
    ///
    /// # Panics
    /// Never: a table has at most 4,096 blobs.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.blobs.len()).expect("at most 4096 blobs");
        let mut bytes = [MAGIC, count.to_le_bytes()].concat();
        for (_, len) in &self.blobs {
            bytes.extend((*len as u64).to_le_bytes());
        }
        bytes
    }

    /// Offset in the object and length of each blob.
    #[must_use]
    pub fn blobs(&self) -> &[(usize, usize)] {
        &self.blobs
    }

    /// Bytes of the object: table and blobs.
    #[must_use]
    pub fn object_bytes(&self) -> usize {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_back_as_it_was() {
        let most = vec![1; BLOBS_MAX];
        for lens in [&[][..], &[0], &[72 << 10; 62], &[1, 2, 3], &most] {
            let table = BlobTable::of_lens(lens).unwrap();
            let bytes = table.encode();
            assert_eq!(BlobTable::head_len(&bytes), Ok(bytes.len()));
            assert_eq!(
                BlobTable::parse(&bytes, table.object_bytes()),
                Ok(table.clone())
            );
            assert!(
                table
                    .blobs()
                    .first()
                    .is_none_or(|(at, _)| *at >= bytes.len())
            );
            assert!(table.blobs().first().is_none_or(|(at, _)| at % ALIGN == 0));
        }
    }

    #[test]
    fn bytes_of_others_are_refused() {
        let table = BlobTable::of_lens(&[5, 6]).unwrap();
        let (good, whole) = (table.encode(), table.object_bytes());
        let parse = |bytes: &[u8]| BlobTable::parse(bytes, whole).unwrap_err();
        for cut in 0..good.len() {
            assert_eq!(parse(&good[..cut]), TableError::Absent, "{cut}");
        }
        let mut bad = good.clone();
        bad[0] = b'X';
        assert_eq!(parse(&bad), TableError::Absent);
        bad = good.clone();
        bad[7] = 1;
        assert_eq!(
            parse(&bad),
            TableError::Blobs {
                count: (1 << 24) + 2
            }
        );
        bad = good.clone();
        bad[8..16].fill(0xFF);
        assert!(matches!(
            parse(&bad),
            TableError::Length | TableError::Short { .. }
        ));
        let short = BlobTable::parse(&good, whole - 1).unwrap_err();
        assert_eq!(
            short,
            TableError::Short {
                object_bytes: whole - 1
            }
        );
        assert_eq!(
            BlobTable::of_lens(&vec![1; BLOBS_MAX + 1]),
            Err(TableError::Blobs {
                count: BLOBS_MAX + 1
            })
        );
        assert_eq!(
            BlobTable::of_lens(&[usize::MAX, 2]),
            Err(TableError::Length)
        );
    }
}
