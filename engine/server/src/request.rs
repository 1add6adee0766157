//! One request of a local session, in private memory, and what may become of it.
//!
//! Lives on: owner shard. `pass.rs` makes it from a submission, `dispatch.rs` hands it to its
//! handler; a request that must wait for memory is kept whole ([`Kept`]) and handled again when
//! memory came free.

use chariot_base::{SessionId, TenantId};
use chariot_proto::{KeyHash, Status, WriteMode};
use chariot_shm::{SubmissionFlags, SubmissionWords};

use crate::session::Place;
use crate::tenant::TenantShard;

/// A submission with its payload, and when it is handled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Where the answer goes.
    pub(crate) place: Place,
    /// Whose it is.
    pub(crate) session: SessionId,
    /// In which key space.
    pub(crate) tenant: TenantId,
    /// The words, copied once.
    pub(crate) words: &'a SubmissionWords,
    /// Key, then inline value; copied once.
    pub(crate) payload: &'a [u8],
    /// Monotonic nanoseconds.
    pub(crate) now_ns: u64,
    /// Coarse monotonic milliseconds.
    pub(crate) now_ms: u64,
}

/// A request that waits, owned.
#[derive(Debug)]
pub(crate) struct Kept {
    /// As in [`Request`].
    pub(crate) place: Place,
    /// As in [`Request`].
    pub(crate) session: SessionId,
    /// As in [`Request`].
    pub(crate) words: SubmissionWords,
    /// As in [`Request`].
    pub(crate) payload: Vec<u8>,
    /// When it was taken, for its latency.
    pub(crate) taken_ns: u64,
}

/// Who asks about objects, wherever the request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// Whose it is: a local session, or a connection.
    pub(crate) session: SessionId,
    /// In which key space.
    pub(crate) tenant: TenantId,
    /// The key.
    pub(crate) hash: KeyHash,
    /// Where a later answer goes: see [`crate::objects::answer`].
    pub(crate) token: u64,
    /// Monotonic nanoseconds.
    pub(crate) now_ns: u64,
    /// Coarse monotonic milliseconds.
    pub(crate) now_ms: u64,
}

/// What a handler says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// Answer now.
    Done(Answer),
    /// No memory now: queue for this many bytes and handle again.
    NoMemory(u64),
    /// A watcher, a latch or another shard will answer.
    Watching,
    /// Recovery of the SSD tier does not know the key yet: handle again when it knows more.
    Unknown,
    /// The value is being copied, a slice a round; its end answers.
    Copying,
}

/// An answer, before it has a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// How it ended.
    pub(crate) status: Status,
    /// Extent that the completion names, which makes it a pin.
    pub(crate) extent: Option<u64>,
    /// Bytes of the value, where that is an answer.
    pub(crate) len: u64,
    /// Version of the value.
    pub(crate) version: u64,
    /// Coarse monotonic milliseconds; 0 = never.
    pub(crate) expiry_ms: u64,
    /// Checksum of the value.
    pub(crate) crc: Option<u32>,
    /// Read from the SSD for this request.
    pub(crate) is_from_ssd: bool,
    /// A lease that comes along.
    pub(crate) lease: Option<chariot_memory::SlotSet>,
    /// Bytes of idle leases that the session is asked to return.
    pub(crate) recall: u64,
}

impl Answer {
    /// A bare status.
    pub(crate) const fn status(status: Status) -> Self {
        Self {
            status,
            extent: None,
            len: 0,
            version: 0,
            expiry_ms: 0,
            crc: None,
            is_from_ssd: false,
            lease: None,
            recall: 0,
        }
    }
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self::Done(Answer::status(status))
    }
}

impl Request<'_> {
    /// The key's identity as the client says.
    pub(crate) const fn hash(&self) -> KeyHash {
        KeyHash {
            hi: self.words.hash_hi,
            lo: self.words.hash_lo,
        }
    }

    /// The request as the object tables see it.
    pub(crate) fn asker(&self) -> Asker {
        Asker {
            session: self.session,
            tenant: self.tenant,
            hash: self.hash(),
            token: u64::from(self.words.token),
            now_ns: self.now_ns,
            now_ms: self.now_ms,
        }
    }

    /// Whether a flag of [`SubmissionFlags`] is set.
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.words.flags & flag != 0
    }

    /// The checksum that came along.
    pub(crate) fn crc(&self) -> Option<u32> {
        self.has(SubmissionFlags::CRC_PRESENT)
            .then_some(self.words.crc)
    }

    /// The key's bytes; empty where the client sent its hash only.
    pub(crate) fn key(&self) -> &[u8] {
        // The ring has checked that the payload holds the key.
        &self.payload[..usize::from(self.words.key_len)]
    }

    /// The value that came inline.
    pub(crate) fn inline_value(&self) -> &[u8] {
        &self.payload[usize::from(self.words.key_len)..]
    }

    /// Checks the key of a write: its alphabet, and that its hash is the one that names shard and
    /// entry. A client that lies about it would only confuse itself, but what is stored must be
    /// findable by its key after a restart.
    pub(crate) fn check_written_key(
        &self,
        tenant: &TenantShard,
        shard: u16,
        shard_count: u16,
    ) -> Result<(), Status> {
        chariot_proto::check_key(self.key()).map_err(|_rule| Status::KeyInvalid)?;
        let hash = KeyHash::of(&tenant.secret, self.key());
        if hash != self.hash() || hash.shard(shard_count) != shard {
            return Err(Status::Malformed);
        }
        Ok(())
    }

    /// When the value expires, in coarse monotonic milliseconds; 0 = never.
    pub(crate) fn expiry_ms(&self) -> u64 {
        let unit = if self.has(SubmissionFlags::TTL_SECONDS) {
            1000
        } else {
            1
        };
        let ttl_ms = u64::from(self.words.ttl) * unit;
        if ttl_ms == 0 { 0 } else { self.now_ms + ttl_ms }
    }

    /// The write mode, refused by name where no engine keeps its promise.
    pub(crate) fn write_mode(&self) -> Result<WriteMode, Status> {
        supported_mode(WriteMode::from_u8(self.words.mode).ok_or(Status::InvalidArgument)?)
    }

    /// Whether the deadline has passed.
    pub(crate) const fn is_late(&self) -> bool {
        self.words.deadline_ns != 0 && self.words.deadline_ns <= self.now_ns
    }
}

/// Refuses write modes that promise an object store: there is none yet.
pub(crate) fn supported_mode(mode: WriteMode) -> Result<WriteMode, Status> {
    match mode {
        WriteMode::None | WriteMode::NoneEvict => Ok(mode),
        WriteMode::WriteThrough | WriteMode::WriteBack | WriteMode::WriteBackEvict => {
            Err(Status::NotSupported)
        },
    }
}
