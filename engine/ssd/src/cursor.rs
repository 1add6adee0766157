//! Little-endian fields, one after the other.
//!
//! Every structure on the device is written by a [`Writer`] and read by a [`Reader`]; no offset is
//! computed by hand. A reader that runs out of bytes says `None`; it never panics.

use chariot_proto::KeyHash;

/// Appends fields to a buffer. Lives on: one call.
pub(crate) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        let start = bytes.len();
        Self { bytes, start }
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn hash(&mut self, hash: KeyHash) -> &mut Self {
        self.u64(hash.hi).u64(hash.lo)
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Fills with zeros up to `size_bytes` from the start.
    pub(crate) fn zeros_to(&mut self, size_bytes: usize) -> &mut Self {
        assert!(
            self.bytes.len() - self.start <= size_bytes,
            "fields fit in the room they are given"
        );
        self.bytes.resize(self.start + size_bytes, 0);
        self
    }

    /// Appends the CRC32C of everything since the start.
    pub(crate) fn seal(&mut self) {
        let crc = crc32c::crc32c(&self.bytes[self.start..]);
        self.u32(crc);
    }
}

/// Takes fields from the front of a buffer. Lives on: one call.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn hash(&mut self) -> Option<KeyHash> {
        Some(KeyHash {
            hi: self.u64()?,
            lo: self.u64()?,
        })
    }
}

/// Returns the first `size_bytes - 4` bytes of a sealed structure if its CRC32C agrees.
pub(crate) fn unseal(bytes: &[u8], size_bytes: usize) -> Option<Reader<'_>> {
    let (sealed, _) = bytes.split_at_checked(size_bytes)?;
    let (body, crc) = sealed.split_at_checked(size_bytes.checked_sub(4)?)?;
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    (crc32c::crc32c(body) == crc).then(|| Reader::new(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order() {
        let mut bytes = vec![9];
        let mut writer = Writer::new(&mut bytes);
        let hash = KeyHash { hi: 1, lo: 2 };
        writer.u16(2).u32(3).u64(4).hash(hash).raw(b"ab");
        writer.zeros_to(36).seal();
        assert_eq!(bytes.len(), 41);
        let mut reader = unseal(&bytes[1..], 40).unwrap();
        assert_eq!(reader.u16(), Some(2));
        assert_eq!(reader.u32(), Some(3));
        assert_eq!(reader.u64(), Some(4));
        assert_eq!(reader.hash(), Some(hash));
        assert_eq!(reader.take(2), Some(&b"ab"[..]));
        assert_eq!(reader.take(5), None, "past the end");
    }

    #[test]
    fn a_changed_bit_breaks_the_seal() {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).u64(77).seal();
        assert!(unseal(&bytes, 12).is_some());
        for bit in 0..96 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&bytes, 12).is_none(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(unseal(&bytes, 13).is_none(), "short");
        assert!(unseal(&bytes, 3).is_none(), "no room for a seal");
    }
}
