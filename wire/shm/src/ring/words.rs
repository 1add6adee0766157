//! The 64 bytes of a submission and the 64 bytes of a completion.
//!
//! Both are eight little-endian words that are copied as a whole, once, and only then looked at.

use std::mem::{offset_of, size_of};

use crate::layout::INLINE_MAX;

/// Longest inline value in bytes, as the type of [`SubmissionWords::len`].
pub const VALUE_INLINE_LEN_MAX: u64 = INLINE_MAX as u64;

/// Bits of [`SubmissionWords::flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmissionFlags;

impl SubmissionFlags {
    /// `crc` holds the CRC32C of the value.
    pub const CRC_PRESENT: u8 = 1;
    /// Fail with "exists" when the key is present.
    pub const SET_IF_ABSENT: u8 = 2;
    /// Grant another lease of the same kind in the completion.
    pub const WANT_LEASE: u8 = 4;
    /// The value follows the key in the byte ring; `len` is its length.
    pub const VALUE_INLINE: u8 = 8;
    /// `ttl` counts seconds instead of milliseconds.
    pub const TTL_SECONDS: u8 = 16;
    /// Store the value hidden, for a transaction: `lease_count` is its number, `lease_class` the
    /// shard that decides it. No lease is granted along with it.
    pub const RESERVE: u8 = 32;
}

/// Bits of [`CompletionWords::flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionFlags;

impl CompletionFlags {
    /// `crc` holds the CRC32C of the value.
    pub const CRC_PRESENT: u16 = 1;
    /// `extent`, `lease_extent`, `lease_len`, `lease_slot_class` and `lease_count` hold a lease.
    pub const LEASE: u16 = 2;
    /// `extent` names memory of the arena: this completion is a pin on it until it is consumed.
    pub const NAMES_EXTENT: u16 = 4;
    /// The session holds more idle leases than it may: `lease_len` bytes of them are to be
    /// returned. Never together with [`Self::LEASE`].
    pub const RECALL: u16 = 8;
    /// The value was read from the node's SSD for this request, not found in its memory.
    pub const FROM_SSD: u16 = 16;
}

/// One request, as the client submits it.
///
/// ```text
///  w0  opcode u8 | flags u8 | key_len u16 | token u32
///  w1  hash_hi            w2  hash_lo            w3  deadline_ns
///  w4  extent             w5  len                w6  byte_pos u32 | crc u32
///  w7  ttl u32 | mode u8 | lease_class u8 | lease_count u16
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmissionWords {
    /// Operation; numbers of `chariot_proto::Opcode`.
    pub opcode: u8,
    /// See [`SubmissionFlags`].
    pub flags: u8,
    /// Key bytes at the start of the payload, 0 to 1,024.
    pub key_len: u16,
    /// The client's name for this request; comes back in its completion.
    pub token: u32,
    /// Upper half of the key's hash.
    pub hash_hi: u64,
    /// Lower half of the key's hash.
    pub hash_lo: u64,
    /// Absolute `CLOCK_MONOTONIC` nanoseconds; 0 for none.
    pub deadline_ns: u64,
    /// Byte offset in the arena (publish, lease return), in the staging memory (strict publish) or
    /// in the value (range of a get).
    pub extent: u64,
    /// Bytes of the value, of the wanted range or of the wanted lease.
    pub len: u64,
    /// Where the payload starts in the byte ring; wraps. Set by [`crate::ClientRing::try_submit`].
    pub byte_pos: u32,
    /// CRC32C of the value, when the flag says so.
    pub crc: u32,
    /// Time to live in milliseconds (or seconds, by flag); 0 for ever.
    pub ttl: u32,
    /// Write mode; numbers of `chariot_proto::WriteMode`.
    pub mode: u8,
    /// Slot class of the wanted lease.
    pub lease_class: u8,
    /// Slots of the wanted lease.
    pub lease_count: u16,
}

const _: () = assert!(size_of::<SubmissionWords>() == 64);
const _: () = assert!(offset_of!(SubmissionWords, key_len) == 2);
const _: () = assert!(offset_of!(SubmissionWords, token) == 4);
const _: () = assert!(offset_of!(SubmissionWords, hash_hi) == 8);
const _: () = assert!(offset_of!(SubmissionWords, hash_lo) == 16);
const _: () = assert!(offset_of!(SubmissionWords, deadline_ns) == 24);
const _: () = assert!(offset_of!(SubmissionWords, extent) == 32);
const _: () = assert!(offset_of!(SubmissionWords, len) == 40);
const _: () = assert!(offset_of!(SubmissionWords, byte_pos) == 48);
const _: () = assert!(offset_of!(SubmissionWords, crc) == 52);
const _: () = assert!(offset_of!(SubmissionWords, ttl) == 56);
const _: () = assert!(offset_of!(SubmissionWords, mode) == 60);
const _: () = assert!(offset_of!(SubmissionWords, lease_class) == 61);
const _: () = assert!(offset_of!(SubmissionWords, lease_count) == 62);

impl SubmissionWords {
    /// Answers how many bytes of the byte ring belong to this submission: the key, and the value
    /// when it travels inline. Wide, because the other party may have written anything.
    pub fn payload_len(&self) -> u64 {
        let value = if self.flags & SubmissionFlags::VALUE_INLINE == 0 {
            0
        } else {
            self.len
        };
        value.saturating_add(u64::from(self.key_len))
    }

    /// Encodes the eight words.
    pub fn encode(&self) -> [u64; 8] {
        [
            u64::from(self.opcode)
                | (u64::from(self.flags) << 8)
                | (u64::from(self.key_len) << 16)
                | (u64::from(self.token) << 32),
            self.hash_hi,
            self.hash_lo,
            self.deadline_ns,
            self.extent,
            self.len,
            u64::from(self.byte_pos) | (u64::from(self.crc) << 32),
            u64::from(self.ttl)
                | (u64::from(self.mode) << 32)
                | (u64::from(self.lease_class) << 40)
                | (u64::from(self.lease_count) << 48),
        ]
    }

    /// Decodes eight words. Every pattern of bits decodes; nothing is validated here.
    pub fn decode(line: &[u64; 8]) -> Self {
        let [
            first,
            hash_hi,
            hash_lo,
            deadline_ns,
            extent,
            len,
            bytes,
            last,
        ] = *line;
        let [opcode, flags, key_low, key_high, ..] = first.to_le_bytes();
        let [.., mode, lease_class, lease_low, lease_high] = last.to_le_bytes();
        Self {
            opcode,
            flags,
            key_len: u16::from_le_bytes([key_low, key_high]),
            token: high(first),
            hash_hi,
            hash_lo,
            deadline_ns,
            extent,
            len,
            byte_pos: low(bytes),
            crc: high(bytes),
            ttl: low(last),
            mode,
            lease_class,
            lease_count: u16::from_le_bytes([lease_low, lease_high]),
        }
    }
}

/// One answer, as the shard posts it.
///
/// ```text
///  w0  token u32 | status u16 | flags u16
///  w1  extent             w2  len                w3  version
///  w4  expiry_ms u48 | spare u16
///  w5  crc u32 | lease_slot_class u16 | lease_count u16
///  w6  lease_extent       w7  lease_len
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompletionWords {
    /// The submission's token.
    pub token: u32,
    /// Outcome; numbers of `chariot_proto::Status`.
    pub status: u16,
    /// See [`CompletionFlags`].
    pub flags: u16,
    /// Byte offset in the arena of the value, when [`CompletionFlags::NAMES_EXTENT`] is set; with
    /// [`CompletionFlags::LEASE`] the slots of the lease: bit `i` stands for the one at
    /// `lease_extent + i * lease_len`.
    pub extent: u64,
    /// Bytes of the value.
    pub len: u64,
    /// Version of the value.
    pub version: u64,
    /// Expiry in milliseconds of `CLOCK_MONOTONIC_COARSE` in the low 48 bits (0 never), 16 spare.
    pub expiry_ms: u64,
    /// CRC32C of the value, when the flag says so.
    pub crc: u32,
    /// Slot class of the granted lease.
    pub lease_slot_class: u16,
    /// Slots of the granted lease.
    pub lease_count: u16,
    /// Byte offset in the arena of the first slot of the granted lease.
    pub lease_extent: u64,
    /// Bytes of each slot of the granted lease.
    pub lease_len: u64,
}

const _: () = assert!(size_of::<CompletionWords>() == 64);
const _: () = assert!(offset_of!(CompletionWords, status) == 4);
const _: () = assert!(offset_of!(CompletionWords, flags) == 6);
const _: () = assert!(offset_of!(CompletionWords, extent) == 8);
const _: () = assert!(offset_of!(CompletionWords, len) == 16);
const _: () = assert!(offset_of!(CompletionWords, version) == 24);
const _: () = assert!(offset_of!(CompletionWords, expiry_ms) == 32);
const _: () = assert!(offset_of!(CompletionWords, crc) == 40);
const _: () = assert!(offset_of!(CompletionWords, lease_slot_class) == 44);
const _: () = assert!(offset_of!(CompletionWords, lease_count) == 46);
const _: () = assert!(offset_of!(CompletionWords, lease_extent) == 48);
const _: () = assert!(offset_of!(CompletionWords, lease_len) == 56);

impl CompletionWords {
    /// Encodes the eight words.
    pub fn encode(&self) -> [u64; 8] {
        [
            u64::from(self.token) | (u64::from(self.status) << 32) | (u64::from(self.flags) << 48),
            self.extent,
            self.len,
            self.version,
            self.expiry_ms,
            u64::from(self.crc)
                | (u64::from(self.lease_slot_class) << 32)
                | (u64::from(self.lease_count) << 48),
            self.lease_extent,
            self.lease_len,
        ]
    }

    /// Decodes eight words. Every pattern of bits decodes; nothing is validated here.
    pub fn decode(line: &[u64; 8]) -> Self {
        let [
            first,
            extent,
            len,
            version,
            expiry_ms,
            lease,
            lease_extent,
            lease_len,
        ] = *line;
        let [.., status_low, status_high, flags_low, flags_high] = first.to_le_bytes();
        let [.., class_low, class_high, count_low, count_high] = lease.to_le_bytes();
        Self {
            token: low(first),
            status: u16::from_le_bytes([status_low, status_high]),
            flags: u16::from_le_bytes([flags_low, flags_high]),
            extent,
            len,
            version,
            expiry_ms,
            crc: low(lease),
            lease_slot_class: u16::from_le_bytes([class_low, class_high]),
            lease_count: u16::from_le_bytes([count_low, count_high]),
            lease_extent,
            lease_len,
        }
    }
}

/// The lower half of a word.
pub(crate) fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The upper half of a word.
pub(crate) fn high(word: u64) -> u32 {
    low(word >> 32)
}
