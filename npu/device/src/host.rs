//! The host backend: plain memory stands in for a card's, threads for its engines.
//!
//! It is a backend like the others, for machines without an accelerator: device memory is memory of
//! this process (a file of its own each, so that another process can map it), every stream is a
//! thread, links are sockets. Nothing in it is faster than the machine's memory.

mod link;
mod memory;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::batch::Direction;
use crate::capability::{
    BackendKind, BatchForm, Capabilities, DeviceStatus, LinkForm, MemoryUse, PairForm, RegisterForm,
};
use crate::device::Runtime;
use crate::driver::{
    Answer, BlockHandle, Card, CommHandle, Driver, Entry, EventHandle, ImportHandle, PinnedHandle,
    RegisteredHandle, StreamHandle, Way,
};
use crate::error::DeviceError;
use link::Links;
use memory::Blocks;
use queue::{Tables, Task};

/// What the host backend pretends to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// Number of cards, 1 to 64.
    pub devices: u32,
    /// Memory of each card in bytes.
    pub device_bytes: u64,
    /// Most page-locked memory of all cards together in bytes (nothing is really locked).
    pub pinned_bytes: u64,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            devices: 1,
            device_bytes: 64 << 30,
            pinned_bytes: 1 << 40,
        }
    }
}

/// The way to the host backend.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl Host {
    /// Makes a host backend; there may be several in a process.
    ///
    /// # Panics
    /// When there are no cards, or more than 64.
    #[must_use]
    pub fn start(options: HostOptions) -> Runtime {
        assert!((1..=64).contains(&options.devices), "1 to 64 cards");
        let pinned = Arc::new(AtomicU64::new(0));
        Runtime::new(Arc::new(HostDriver { options, pinned }))
    }
}

#[derive(Debug)]
struct HostDriver {
    options: HostOptions,
    pinned: Arc<AtomicU64>,
}

impl Driver for HostDriver {
    fn kind(&self) -> BackendKind {
        BackendKind::Host
    }

    fn versions(&self) -> Vec<String> {
        vec![format!(
            "host memory, chariot {}",
            env!("CARGO_PKG_VERSION")
        )]
    }

    fn device_count(&self) -> Answer<u32> {
        Ok(self.options.devices)
    }

    fn current(&self) -> Answer<Option<u32>> {
        Ok((self.options.devices > 0).then_some(0))
    }

    fn open(&self, ordinal: u32) -> Answer<Arc<dyn Card>> {
        Ok(Arc::new(HostCard {
            ordinal,
            blocks: Blocks::new(self.options.device_bytes),
            pinned: Arc::clone(&self.pinned),
            pinned_max: self.options.pinned_bytes,
            tables: Tables::default(),
            links: Links::default(),
        }))
    }
}

#[derive(Debug)]
struct HostCard {
    ordinal: u32,
    blocks: Blocks,
    pinned: Arc<AtomicU64>,
    pinned_max: u64,
    tables: Tables,
    links: Links,
}

impl HostCard {
    fn lock_pages(&self, len: usize) -> Answer<()> {
        let bytes = len as u64;
        let room = |locked: u64| {
            locked
                .checked_add(bytes)
                .filter(|sum| *sum <= self.pinned_max)
        };
        match self
            .pinned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(DeviceError::PinnedMemory { bytes }),
        }
    }

    fn unlock_pages(&self, len: usize) {
        let before = self.pinned.fetch_sub(len as u64, Ordering::Relaxed);
        assert!(before >= len as u64, "unlocked once");
    }
}

impl Card for HostCard {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: format!("host memory {}", self.ordinal),
            batch: self.batch_form(),
            register: RegisterForm {
                writable: true,
                readonly: true,
            },
            link: LinkForm {
                pairs: PairForm::AnyCard,
                export: true,
            },
            abort: true,
            peer_copies: true,
            numa_node: None,
        }
    }

    fn batch_form(&self) -> BatchForm {
        BatchForm {
            queued: true,
            direct: true,
            entries_max: 4096,
        }
    }

    fn status(&self) -> Answer<DeviceStatus> {
        Ok(DeviceStatus::Normal)
    }

    fn memory_use(&self) -> Answer<MemoryUse> {
        Ok(self.blocks.memory_use())
    }

    fn stream_create(&self) -> Answer<StreamHandle> {
        self.tables.stream_create()
    }

    fn stream_destroy(&self, stream: StreamHandle, _force: bool) -> Answer<()> {
        self.tables.stream_destroy(&stream);
        Ok(())
    }

    fn stream_is_idle(&self, stream: &StreamHandle) -> Answer<bool> {
        Ok(self.tables.stream(stream)?.is_idle())
    }

    fn stream_wait(&self, stream: &StreamHandle, most: Option<Duration>) -> Answer<()> {
        self.tables.stream(stream)?.wait(most)
    }

    fn stream_abort(&self, stream: &StreamHandle) -> Answer<()> {
        self.tables.stream(stream)?.abort();
        Ok(())
    }

    fn stream_wait_event(&self, stream: &StreamHandle, event: &EventHandle) -> Answer<()> {
        let event = self.tables.event(event)?;
        let generation = event.recorded();
        self.tables
            .stream(stream)?
            .submit(Task::WaitFor { event, generation })
    }

    fn event_create(&self) -> Answer<EventHandle> {
        self.tables.event_create()
    }

    fn event_destroy(&self, event: EventHandle) -> Answer<()> {
        self.tables.event_destroy(&event);
        Ok(())
    }

    fn event_record(&self, event: &EventHandle, stream: &StreamHandle) -> Answer<()> {
        let event = self.tables.event(event)?;
        let generation = event.record();
        self.tables
            .stream(stream)?
            .submit(Task::Record { event, generation })
    }

    fn event_is_reached(&self, event: &EventHandle) -> Answer<bool> {
        Ok(self.tables.event(event)?.is_reached())
    }

    fn device_alloc(&self, len: usize) -> Answer<BlockHandle> {
        self.blocks.allocate(len).map(BlockHandle::new)
    }

    fn device_free(&self, block: BlockHandle) -> Answer<()> {
        self.blocks.free(block.raw())
    }

    fn host_alloc(&self, len: usize) -> Answer<PinnedHandle> {
        self.lock_pages(len)?;
        if let Some(address) = memory::allocate_pages(len) {
            return Ok(PinnedHandle::new(self.blocks.note_host(address, len)));
        }
        self.unlock_pages(len);
        Err(DeviceError::PinnedMemory { bytes: len as u64 })
    }

    fn host_free(&self, pinned: PinnedHandle) -> Answer<()> {
        let len = self.blocks.forget_host(pinned.raw())?;
        memory::free_pages(pinned.raw(), len);
        self.unlock_pages(len);
        Ok(())
    }

    unsafe fn host_register(
        &self,
        address: usize,
        len: usize,
        _readonly: bool,
    ) -> Answer<RegisteredHandle> {
        let page = memory::page_bytes();
        if !address.is_multiple_of(page) || !len.is_multiple_of(page) {
            return Err(DeviceError::misuse("a range that is not whole pages"));
        }
        self.lock_pages(len)?;
        if !self.blocks.register(address, len) {
            self.unlock_pages(len);
            return Err(DeviceError::misuse("a range that is registered already"));
        }
        Ok(RegisteredHandle::new(address))
    }

    fn host_unregister(&self, range: RegisteredHandle) -> Answer<()> {
        let len = self.blocks.forget_host(range.raw())?;
        self.unlock_pages(len);
        Ok(())
    }

    unsafe fn copy_each(
        &self,
        stream: &StreamHandle,
        _direction: Direction,
        entries: &[Entry],
    ) -> Answer<()> {
        let stream = self.tables.stream(stream)?;
        entries
            .iter()
            .try_for_each(|entry| stream.submit(Task::Copy(vec![*entry])))
    }

    unsafe fn copy_batch(
        &self,
        stream: &StreamHandle,
        _direction: Direction,
        entries: &[Entry],
    ) -> Answer<()> {
        self.tables
            .stream(stream)?
            .submit(Task::Copy(entries.to_vec()))
    }

    unsafe fn copy_direct(&self, _direction: Direction, entries: &[Entry]) -> Answer<()> {
        for entry in entries {
            // SAFETY: the caller keeps both sides until this returns.
            unsafe { memory::copy(entry) };
        }
        Ok(())
    }

    unsafe fn fill(
        &self,
        stream: &StreamHandle,
        address: usize,
        len: usize,
        value: u8,
    ) -> Answer<()> {
        self.tables.stream(stream)?.submit(Task::Fill {
            address,
            len,
            value,
        })
    }

    fn enable_peer(&self, _peer: u32) -> Answer<()> {
        Ok(())
    }

    unsafe fn export(&self, address: usize, len: usize, _pid: Option<i32>) -> Answer<Vec<u8>> {
        self.blocks.export(address, len)
    }

    fn export_close(&self, _key: &[u8]) -> Answer<()> {
        Ok(())
    }

    fn import(&self, key: &[u8]) -> Answer<ImportHandle> {
        let address = memory::import(key)?;
        Ok(ImportHandle {
            address,
            key: key.to_vec(),
        })
    }

    fn import_close(&self, import: ImportHandle) -> Answer<()> {
        memory::import_close(&import)
    }

    fn root_info(&self) -> Answer<Vec<u8>> {
        self.links.root_info()
    }

    fn comm_init(&self, root: &[u8], rank: u32, most: Duration) -> Answer<CommHandle> {
        self.links.meet(root, rank, most)
    }

    fn comm_destroy(&self, comm: CommHandle) -> Answer<()> {
        self.links.destroy(&comm);
        Ok(())
    }

    unsafe fn comm_post(
        &self,
        comm: &CommHandle,
        stream: &StreamHandle,
        way: Way,
        address: usize,
        len: usize,
    ) -> Answer<()> {
        let socket = self.links.socket(comm)?;
        self.tables.stream(stream)?.submit(Task::Pair {
            socket,
            way,
            address,
            len,
        })
    }
}
