//! What a backend implements: functions over raw addresses, which the safe types call.
//!
//! Handles are made by a backend alone and are given back to it by value, so that calls on them
//! need no promise. What names memory by its address is unsafe: the safe types promise there that
//! the memory stands until the stream has passed the copy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Direction;
use crate::capability::{BackendKind, BatchForm, Capabilities, DeviceStatus, MemoryUse};
use crate::error::DeviceError;

/// The answer of a backend.
pub(crate) type Answer<T> = Result<T, DeviceError>;

macro_rules! handles {
    ($($(#[$meta:meta])* $name:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Debug, PartialEq, Eq)]
        pub(crate) struct $name(usize);

        impl $name {
            /// For backends: `raw` is the library's handle.
            pub(crate) fn new(raw: usize) -> Self {
                Self(raw)
            }

            /// The library's handle.
            pub(crate) fn raw(&self) -> usize {
                self.0
            }
        }
    )*};
}

handles! {
    /// A stream that was made and not destroyed.
    StreamHandle;
    /// An event that was made and not destroyed.
    EventHandle;
    /// Device memory that was allocated and not freed; its number is the address.
    BlockHandle;
    /// Page-locked host memory that was allocated and not freed; its number is the address.
    PinnedHandle;
    /// A host range that was registered and not unregistered; its number is the address.
    RegisteredHandle;
}

/// One end of a communicator of two that was made and not destroyed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommHandle {
    pub(crate) raw: usize,
    /// 0 or 1.
    pub(crate) rank: u32,
}

/// Device memory of another process that was imported and not closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImportHandle {
    pub(crate) address: usize,
    pub(crate) key: Vec<u8>,
}

/// One copy by addresses. Nothing is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) dst: usize,
    pub(crate) src: usize,
    pub(crate) len: usize,
}

/// Which way a part of a link goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Send,
    Receive,
}

/// A backend that was found on this machine.
pub(crate) trait Driver: Send + Sync + fmt::Debug {
    fn kind(&self) -> BackendKind;
    /// Libraries and their versions, one text each.
    fn versions(&self) -> Vec<String>;
    fn device_count(&self) -> Answer<u32>;
    /// The card that the calling thread works with already, whoever chose it.
    fn current(&self) -> Answer<Option<u32>>;
    /// Takes a card; the driver is called once an ordinal until the card is dropped.
    fn open(&self, ordinal: u32) -> Answer<Arc<dyn Card>>;
}

/// One card. Every function may be called on any thread and leaves the thread's own card as it was.
pub(crate) trait Card: Send + Sync + fmt::Debug {
    fn capabilities(&self) -> Capabilities;
    /// That part of the capabilities which every submission asks for.
    fn batch_form(&self) -> BatchForm;
    fn status(&self) -> Answer<DeviceStatus>;
    fn memory_use(&self) -> Answer<MemoryUse>;

    fn stream_create(&self) -> Answer<StreamHandle>;
    /// Ends a stream; `force` when work may still be on it.
    fn stream_destroy(&self, stream: StreamHandle, force: bool) -> Answer<()>;
    /// Whether everything that was submitted so far is over.
    fn stream_is_idle(&self, stream: &StreamHandle) -> Answer<bool>;
    /// Waits until that is so. An error other than `Timeout` tells what became of the work.
    fn stream_wait(&self, stream: &StreamHandle, most: Option<Duration>) -> Answer<()>;
    /// Drops what is queued and returns when nothing of it runs any more.
    fn stream_abort(&self, stream: &StreamHandle) -> Answer<()>;
    /// The stream goes on behind the event's last record.
    fn stream_wait_event(&self, stream: &StreamHandle, event: &EventHandle) -> Answer<()>;

    fn event_create(&self) -> Answer<EventHandle>;
    fn event_destroy(&self, event: EventHandle) -> Answer<()>;
    fn event_record(&self, event: &EventHandle, stream: &StreamHandle) -> Answer<()>;
    /// Whether the last record was reached; there is one.
    fn event_is_reached(&self, event: &EventHandle) -> Answer<bool>;

    fn device_alloc(&self, len: usize) -> Answer<BlockHandle>;
    fn device_free(&self, block: BlockHandle) -> Answer<()>;
    fn host_alloc(&self, len: usize) -> Answer<PinnedHandle>;
    fn host_free(&self, pinned: PinnedHandle) -> Answer<()>;
    /// Locks `[address, address + len)`.
    ///
    /// # Safety
    /// The range is mapped, and stays so until it was unregistered.
    unsafe fn host_register(
        &self,
        address: usize,
        len: usize,
        readonly: bool,
    ) -> Answer<RegisteredHandle>;
    fn host_unregister(&self, range: RegisteredHandle) -> Answer<()>;

    /// Queues copies one by one.
    ///
    /// # Safety
    /// Until the stream has passed them, sources can be read and destinations be written by the
    /// card, and the direction is that of the addresses.
    unsafe fn copy_each(
        &self,
        stream: &StreamHandle,
        direction: Direction,
        entries: &[Entry],
    ) -> Answer<()>;
    /// Queues copies as one batch, of at most `entries_max`.
    ///
    /// # Safety
    /// As for `copy_each`.
    unsafe fn copy_batch(
        &self,
        stream: &StreamHandle,
        direction: Direction,
        entries: &[Entry],
    ) -> Answer<()>;
    /// Copies a batch of at most `entries_max` before it returns, in no order with any stream; host
    /// memory may be pageable.
    ///
    /// # Safety
    /// Sources can be read and destinations be written until the call returns.
    unsafe fn copy_direct(&self, direction: Direction, entries: &[Entry]) -> Answer<()>;
    /// Queues filling device memory with one byte.
    ///
    /// # Safety
    /// Until the stream has passed it, `[address, address + len)` is memory of the card.
    unsafe fn fill(
        &self,
        stream: &StreamHandle,
        address: usize,
        len: usize,
        value: u8,
    ) -> Answer<()>;

    /// Allows copies from this card's memory to the peer's.
    fn enable_peer(&self, peer: u32) -> Answer<()>;
    /// Makes a key for another process. `pid` of none: any process of this user.
    ///
    /// # Safety
    /// `[address, address + len)` is one allocation of this card, not freed before importers have
    /// closed it.
    unsafe fn export(&self, address: usize, len: usize, pid: Option<i32>) -> Answer<Vec<u8>>;
    /// Ends a key of this process.
    fn export_close(&self, key: &[u8]) -> Answer<()>;
    /// Takes another process's key.
    fn import(&self, key: &[u8]) -> Answer<ImportHandle>;
    fn import_close(&self, import: ImportHandle) -> Answer<()>;

    /// Device memory that a communicator takes, where that is known.
    fn link_bytes(&self) -> usize {
        0
    }
    /// What both ends of a communicator are given.
    fn root_info(&self) -> Answer<Vec<u8>>;
    /// Meets the other end; blocks until it is there or the library gives up.
    fn comm_init(&self, root: &[u8], rank: u32, most: Duration) -> Answer<CommHandle>;
    fn comm_destroy(&self, comm: CommHandle) -> Answer<()>;
    /// Queues one half of a pair.
    ///
    /// # Safety
    /// Until the stream has passed it, `[address, address + len)` is memory of the card.
    unsafe fn comm_post(
        &self,
        comm: &CommHandle,
        stream: &StreamHandle,
        way: Way,
        address: usize,
        len: usize,
    ) -> Answer<()>;
}
