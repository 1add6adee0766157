//! What a card and its driver offer, as data.

use std::fmt;

/// The three ways to an accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// `AscendCL` and HCCL.
    Ascend,
    /// The CUDA driver and NCCL.
    Cuda,
    /// Plain memory and threads, for machines without an accelerator.
    Host,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ascend => "ascend",
            Self::Cuda => "cuda",
            Self::Host => "host",
        })
    }
}

/// How a driver takes many copies at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchForm {
    /// A call that puts a batch on a stream. Whether it is quicker than a loop is measured, not
    /// known: some drivers loop inside.
    pub queued: bool,
    /// A call that copies a batch on the calling thread and returns when it is done.
    pub direct: bool,
    /// Most entries of one call of either kind; longer batches are cut here. At least 1.
    pub entries_max: usize,
}

/// How host memory that already exists can be locked for direct copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterForm {
    /// Writable mappings may be registered. That a given range can be is known when it was tried.
    pub writable: bool,
    /// Read-only mappings may be registered, under the same reservation.
    pub readonly: bool,
}

/// Between which cards sends and receives can pass ([`crate::PeerLink`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PairForm {
    /// None: no communication library was found.
    #[default]
    Absent,
    /// Two different cards.
    OtherCard,
    /// Any two, both ends on one card too.
    AnyCard,
}

/// How bytes get from a card to one of another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkForm {
    /// Sends and receives over communicators.
    pub pairs: PairForm,
    /// Device memory can be exported and imported ([`crate::ExportKey`]).
    pub export: bool,
}

/// What one card offers. Constant from opening on, except that a call that turns out to be refused
/// by the driver is no longer offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The card's name as its driver gives it.
    pub name: String,
    /// Batches.
    pub batch: BatchForm,
    /// Registration.
    pub register: RegisterForm,
    /// Links.
    pub link: LinkForm,
    /// Streams can be aborted: a hanging copy can be ended, and its memory be used again.
    pub abort: bool,
    /// Copies between cards of this process, without the host.
    pub peer_copies: bool,
    /// The NUMA node that the card hangs on, where the machine says so.
    pub numa_node: Option<u32>,
}

/// What the driver says about a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceStatus {
    /// Works.
    Normal,
    /// Gone: every object on it is lost.
    Lost,
}

/// Bytes of a card's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Not allocated, by any process.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}
