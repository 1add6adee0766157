//! One card of the cuda backend.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::api::{
    ATTRIBUTE_READ_ONLY_REGISTER, CUcontext, CUdevice, CUipcMemHandle, CUmemLocation,
    CUmemcpyAttributes, EVENT_DISABLE_TIMING, HOST_ALLOC_PORTABLE, HOST_REGISTER_PORTABLE,
    HOST_REGISTER_READ_ONLY, IPC_LAZY_ENABLE_PEER_ACCESS, LOCATION_DEVICE, LOCATION_HOST,
    SOURCE_ACCESS_STREAM, STREAM_NON_BLOCKING, code,
};
use super::{Entered, Library, nccl};
use crate::batch::Direction;
use crate::capability::{
    BatchForm, Capabilities, DeviceStatus, LinkForm, MemoryUse, PairForm, RegisterForm,
};
use crate::driver::{
    Answer, BlockHandle, Card, CommHandle, Entry, EventHandle, ImportHandle, PinnedHandle,
    RegisteredHandle, StreamHandle, Way,
};
use crate::error::DeviceError;

/// Most entries of one batch: no limit is documented; this bounds what one call holds up.
const ENTRIES_MAX: usize = 65_536;
/// A wait looks again at once for that long, then in steps.
const SPIN: Duration = Duration::from_micros(30);
const STEP: Duration = Duration::from_micros(50);

#[derive(Debug)]
pub(super) struct CudaCard {
    pub(super) library: Arc<Library>,
    device: CUdevice,
    /// The primary context, as a number: it is only ever handed back.
    context: usize,
    name: String,
    numa_node: Option<u32>,
    registers_readonly: bool,
    no_batch: AtomicBool,
    /// Peers whose primary contexts are held because copies to them are allowed.
    peers: Mutex<Vec<CUdevice>>,
}

/// The NUMA node of a PCI device, as the kernel tells; none for a machine with one node.
fn numa_node(bus_id: &str) -> Option<u32> {
    let path = format!("/sys/bus/pci/devices/{}/numa_node", bus_id.to_lowercase());
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn handle(raw: usize) -> *mut c_void {
    raw as *mut c_void
}

impl CudaCard {
    pub(super) fn open(library: Arc<Library>, ordinal: u32) -> Answer<Self> {
        let api = &library.api;
        let number = c_int::try_from(ordinal).unwrap_or(-1);
        let mut device = 0;
        // SAFETY: the answer goes to a local; a number that is no card is refused.
        let answer = unsafe { (api.device_get)(&raw mut device, number) };
        api.check("cuDeviceGet", answer)?;
        let mut name = [0_u8; 256];
        let at = name.as_mut_ptr().cast::<c_char>();
        // SAFETY: 256 bytes for the name, as said; it ends with a zero.
        let answer = unsafe { (api.device_name)(at, 256, device) };
        api.check("cuDeviceGetName", answer)?;
        let mut bus = [0_u8; 64];
        let at = bus.as_mut_ptr().cast::<c_char>();
        // SAFETY: 64 bytes for an address of 13.
        let answer = unsafe { (api.device_pci_bus_id)(at, 64, device) };
        api.check("cuDeviceGetPCIBusId", answer)?;
        let mut readonly = 0;
        let attribute = ATTRIBUTE_READ_ONLY_REGISTER;
        // SAFETY: a number for the answer; drivers that do not know the attribute refuse it.
        let answer = unsafe { (api.device_attribute)(&raw mut readonly, attribute, device) };
        let registers_readonly = answer == code::SUCCESS && readonly != 0;
        let mut context = null_mut();
        // SAFETY: the context goes to a local and is released when the card is dropped.
        let answer = unsafe { (api.primary_retain)(&raw mut context, device) };
        api.check("cuDevicePrimaryCtxRetain", answer)?;
        let text = |bytes: &[u8]| {
            let text = CStr::from_bytes_until_nul(bytes);
            text.map_or_else(
                |_| String::new(),
                |text| text.to_string_lossy().into_owned(),
            )
        };
        let (name, numa_node) = (text(&name), numa_node(&text(&bus)));
        Ok(Self {
            library,
            device,
            context: context as usize,
            name,
            numa_node,
            registers_readonly,
            no_batch: AtomicBool::new(false),
            peers: Mutex::default(),
        })
    }

    fn enter(&self) -> Answer<Entered<'_>> {
        Entered::new(&self.library.api, self.context as CUcontext)
    }

    fn check(&self, call: &'static str, answer: c_int) -> Answer<()> {
        self.library.api.check(call, answer)
    }

    /// Whether a stream or event is there yet.
    fn reached(&self, call: &'static str, answer: c_int) -> Answer<bool> {
        if answer == code::NOT_READY {
            return Ok(false);
        }
        self.check(call, answer).map(|()| true)
    }
}

impl Drop for CudaCard {
    fn drop(&mut self) {
        let release = self.library.api.primary_release;
        let peers = self.peers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for device in peers.drain(..).chain([self.device]) {
            // SAFETY: each was retained once, and nothing of ours is left in it.
            let answer = unsafe { release(device) };
            drop(self.library.api.check("cuDevicePrimaryCtxRelease", answer));
        }
    }
}

impl Card for CudaCard {
    fn capabilities(&self) -> Capabilities {
        let pairs = match self.library.nccl {
            Some(_) => PairForm::OtherCard,
            None => PairForm::Absent,
        };
        Capabilities {
            name: self.name.clone(),
            batch: self.batch_form(),
            register: RegisterForm {
                writable: true,
                readonly: self.registers_readonly,
            },
            link: LinkForm {
                pairs,
                export: true,
            },
            abort: false,
            peer_copies: true,
            numa_node: self.numa_node,
        }
    }

    fn batch_form(&self) -> BatchForm {
        let api = &self.library.api;
        let there = api.batch_async.is_some() || api.batch_async_v2.is_some();
        let queued = there && !self.no_batch.load(Ordering::Relaxed);
        BatchForm {
            queued,
            direct: false,
            entries_max: ENTRIES_MAX,
        }
    }

    fn status(&self) -> Answer<DeviceStatus> {
        // A broken context answers every call with what broke it.
        match self.memory_use() {
            Err(error) if error.is_lost() => Ok(DeviceStatus::Lost),
            other => other.map(|_| DeviceStatus::Normal),
        }
    }

    fn memory_use(&self) -> Answer<MemoryUse> {
        let _entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both figures go to locals.
        let answer = unsafe { (self.library.api.mem_info)(&raw mut free, &raw mut total) };
        self.check("cuMemGetInfo", answer)?;
        Ok(MemoryUse {
            free_bytes: free as u64,
            total_bytes: total as u64,
        })
    }

    fn stream_create(&self) -> Answer<StreamHandle> {
        let _entered = self.enter()?;
        let mut stream = null_mut();
        let create = self.library.api.stream_create;
        // SAFETY: the handle goes to a local.
        let answer = unsafe { create(&raw mut stream, STREAM_NON_BLOCKING) };
        self.check("cuStreamCreate", answer)?;
        Ok(StreamHandle::new(stream as usize))
    }

    fn stream_destroy(&self, stream: StreamHandle, force: bool) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: the handle is given up; work that is left runs to its end behind it.
        let answer = unsafe { (self.library.api.stream_destroy)(handle(stream.raw())) };
        self.check("cuStreamDestroy", answer)?;
        if force {
            // The work was not ended: its memory has to stay.
            return Err(DeviceError::Unsupported {
                what: "ending a stream's work",
            });
        }
        Ok(())
    }

    fn stream_is_idle(&self, stream: &StreamHandle) -> Answer<bool> {
        let _entered = self.enter()?;
        // SAFETY: a live handle of this card.
        let answer = unsafe { (self.library.api.stream_query)(handle(stream.raw())) };
        self.reached("cuStreamQuery", answer)
    }

    fn stream_wait(&self, stream: &StreamHandle, most: Option<Duration>) -> Answer<()> {
        let Some(most) = most else {
            let _entered = self.enter()?;
            // SAFETY: a live handle of the context that was entered.
            let answer = unsafe { (self.library.api.stream_synchronize)(handle(stream.raw())) };
            return self.check("cuStreamSynchronize", answer);
        };
        let begun = Instant::now();
        while !self.stream_is_idle(stream)? {
            let waited = begun.elapsed();
            if waited >= most {
                return Err(DeviceError::Timeout {
                    what: "cuStreamQuery",
                });
            }
            if waited < SPIN {
                std::hint::spin_loop();
            } else {
                // The interface has no wait with a limit; a stray wake only looks earlier.
                std::thread::park_timeout(STEP.min(most.saturating_sub(waited)));
            }
        }
        Ok(())
    }

    fn stream_abort(&self, _stream: &StreamHandle) -> Answer<()> {
        Err(DeviceError::Unsupported {
            what: "aborting a stream",
        })
    }

    fn stream_wait_event(&self, stream: &StreamHandle, event: &EventHandle) -> Answer<()> {
        let _entered = self.enter()?;
        let wait = self.library.api.stream_wait_event;
        // SAFETY: two live handles of this card.
        let answer = unsafe { wait(handle(stream.raw()), handle(event.raw()), 0) };
        self.check("cuStreamWaitEvent", answer)
    }

    fn event_create(&self) -> Answer<EventHandle> {
        let _entered = self.enter()?;
        let mut event = null_mut();
        let create = self.library.api.event_create;
        // SAFETY: a local for the handle, a documented flag.
        let answer = unsafe { create(&raw mut event, EVENT_DISABLE_TIMING) };
        self.check("cuEventCreate", answer)?;
        Ok(EventHandle::new(event as usize))
    }

    fn event_destroy(&self, event: EventHandle) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: the handle is given up; streams that wait for it are served by the driver.
        let answer = unsafe { (self.library.api.event_destroy)(handle(event.raw())) };
        self.check("cuEventDestroy", answer)
    }

    fn event_record(&self, event: &EventHandle, stream: &StreamHandle) -> Answer<()> {
        let _entered = self.enter()?;
        let record = self.library.api.event_record;
        // SAFETY: an event and a stream that live, of one context.
        let answer = unsafe { record(handle(event.raw()), handle(stream.raw())) };
        self.check("cuEventRecord", answer)
    }

    fn event_is_reached(&self, event: &EventHandle) -> Answer<bool> {
        let _entered = self.enter()?;
        // SAFETY: a live handle.
        let answer = unsafe { (self.library.api.event_query)(handle(event.raw())) };
        self.reached("cuEventQuery", answer)
    }

    fn device_alloc(&self, len: usize) -> Answer<BlockHandle> {
        let _entered = self.enter()?;
        let mut block = 0;
        // SAFETY: the address goes to a local; the length is not 0.
        let answer = unsafe { (self.library.api.mem_alloc)(&raw mut block, len) };
        if answer == code::OUT_OF_MEMORY {
            return Err(DeviceError::DeviceMemory { bytes: len as u64 });
        }
        self.check("cuMemAlloc", answer)?;
        let block = usize::try_from(block);
        Ok(BlockHandle::new(
            block.map_err(|_big| DeviceError::misuse("a 32-bit host"))?,
        ))
    }

    fn device_free(&self, block: BlockHandle) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: it came from cuMemAlloc, is freed once, and no stream of ours holds it.
        let answer = unsafe { (self.library.api.mem_free)(block.raw() as u64) };
        self.check("cuMemFree", answer)
    }

    fn host_alloc(&self, len: usize) -> Answer<PinnedHandle> {
        let _entered = self.enter()?;
        let mut pinned = null_mut();
        let alloc = self.library.api.host_alloc;
        // SAFETY: a local for the address. Never write-combined: reading that is slow.
        let answer = unsafe { alloc(&raw mut pinned, len, HOST_ALLOC_PORTABLE) };
        if answer == code::OUT_OF_MEMORY {
            return Err(DeviceError::PinnedMemory { bytes: len as u64 });
        }
        self.check("cuMemHostAlloc", answer)?;
        Ok(PinnedHandle::new(pinned as usize))
    }

    fn host_free(&self, pinned: PinnedHandle) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: it came from cuMemHostAlloc, and no clone or copy holds it any more.
        let answer = unsafe { (self.library.api.host_free)(handle(pinned.raw())) };
        self.check("cuMemFreeHost", answer)
    }

    unsafe fn host_register(
        &self,
        address: usize,
        len: usize,
        readonly: bool,
    ) -> Answer<RegisteredHandle> {
        let _entered = self.enter()?;
        let access = if readonly { HOST_REGISTER_READ_ONLY } else { 0 };
        let flags = HOST_REGISTER_PORTABLE | access;
        // SAFETY: the caller keeps the range mapped until it is unregistered.
        let answer = unsafe { (self.library.api.host_register)(handle(address), len, flags) };
        match answer {
            code::OUT_OF_MEMORY => Err(DeviceError::PinnedMemory { bytes: len as u64 }),
            code::HOST_MEMORY_ALREADY_REGISTERED => {
                Err(DeviceError::misuse("a range that is registered already"))
            },
            answer => {
                self.check("cuMemHostRegister", answer)?;
                Ok(RegisteredHandle::new(address))
            },
        }
    }

    fn host_unregister(&self, range: RegisteredHandle) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: it was registered under this address, and no copy holds it.
        let answer = unsafe { (self.library.api.host_unregister)(handle(range.raw())) };
        self.check("cuMemHostUnregister", answer)
    }

    unsafe fn copy_each(
        &self,
        stream: &StreamHandle,
        direction: Direction,
        entries: &[Entry],
    ) -> Answer<()> {
        let _entered = self.enter()?;
        let (api, stream) = (&self.library.api, handle(stream.raw()));
        for &Entry { dst, src, len } in entries {
            let (to, from) = (dst as u64, src as u64);
            let answer = match direction {
                // SAFETY: the caller keeps both sides until the stream is past the copy.
                Direction::HostToDevice => unsafe {
                    (api.copy_in_async)(to, handle(src), len, stream)
                },
                // SAFETY: the same, out of the card.
                Direction::DeviceToHost => unsafe {
                    (api.copy_out_async)(handle(dst), from, len, stream)
                },
                // SAFETY: the same with two ranges of cards, which addresses tell apart.
                Direction::DeviceToDevice => unsafe { (api.copy_async)(to, from, len, stream) },
            };
            self.check("cuMemcpyAsync", answer)?;
        }
        Ok(())
    }

    unsafe fn copy_batch(
        &self,
        stream: &StreamHandle,
        direction: Direction,
        entries: &[Entry],
    ) -> Answer<()> {
        assert!(!entries.is_empty(), "a batch has entries");
        let _entered = self.enter()?;
        let api = &self.library.api;
        let mut dsts: Vec<u64> = entries.iter().map(|entry| entry.dst as u64).collect();
        let mut srcs: Vec<u64> = entries.iter().map(|entry| entry.src as u64).collect();
        let mut sizes: Vec<usize> = entries.iter().map(|entry| entry.len).collect();
        let device = CUmemLocation {
            kind: LOCATION_DEVICE,
            id: self.device,
        };
        let host = CUmemLocation {
            kind: LOCATION_HOST,
            id: 0,
        };
        let (source_hint, destination_hint) = match direction {
            Direction::HostToDevice => (host, device),
            Direction::DeviceToHost => (device, host),
            Direction::DeviceToDevice => (device, device),
        };
        let source_access_order = SOURCE_ACCESS_STREAM;
        let mut attributes = CUmemcpyAttributes {
            source_access_order,
            source_hint,
            destination_hint,
            flags: 0,
        };
        let (mut first, mut failed) = (0_usize, usize::MAX);
        let (to, from, lens) = (dsts.as_mut_ptr(), srcs.as_mut_ptr(), sizes.as_mut_ptr());
        let (count, stream) = (entries.len(), handle(stream.raw()));
        let of = &raw mut attributes;
        let answer = match (api.batch_async_v2, api.batch_async) {
            // SAFETY: arrays of `count` that outlive the call, one attribute for all from entry 0
            // on, and ranges that the caller keeps.
            (Some(copy), _) => unsafe {
                copy(to, from, lens, count, of, &raw mut first, 1, stream)
            },
            // SAFETY: the older form, with room for the entry that failed.
            (None, Some(copy)) => unsafe {
                copy(
                    to,
                    from,
                    lens,
                    count,
                    of,
                    &raw mut first,
                    1,
                    &raw mut failed,
                    stream,
                )
            },
            (None, None) => code::NOT_SUPPORTED,
        };
        if answer == code::NOT_SUPPORTED {
            self.no_batch.store(true, Ordering::Relaxed);
        }
        self.check("cuMemcpyBatchAsync", answer)
    }

    unsafe fn copy_direct(&self, direction: Direction, entries: &[Entry]) -> Answer<()> {
        let _entered = self.enter()?;
        let api = &self.library.api;
        for &Entry { dst, src, len } in entries {
            let answer = match direction {
                // SAFETY: the caller keeps both sides until this returns.
                Direction::HostToDevice => unsafe { (api.copy_in)(dst as u64, handle(src), len) },
                // SAFETY: likewise, out of the card; device memory never gets here for both.
                Direction::DeviceToHost | Direction::DeviceToDevice => unsafe {
                    (api.copy_out)(handle(dst), src as u64, len)
                },
            };
            self.check("cuMemcpy", answer)?;
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
        let _entered = self.enter()?;
        let fill = self.library.api.fill_async;
        // SAFETY: the caller keeps the range until the stream has passed it.
        let answer = unsafe { fill(address as u64, value, len, handle(stream.raw())) };
        self.check("cuMemsetD8Async", answer)
    }

    fn enable_peer(&self, peer: u32) -> Answer<()> {
        let api = &self.library.api;
        let (mut other, mut can) = (0, 0);
        // SAFETY: the answer goes to a local; the number is an open card's.
        let answer =
            unsafe { (api.device_get)(&raw mut other, c_int::try_from(peer).unwrap_or(-1)) };
        self.check("cuDeviceGet", answer)?;
        // SAFETY: two devices that the driver gave, a local for the answer.
        let answer = unsafe { (api.device_can_access_peer)(&raw mut can, self.device, other) };
        self.check("cuDeviceCanAccessPeer", answer)?;
        if can == 0 {
            return Err(DeviceError::Unsupported {
                what: "copies between these cards",
            });
        }
        let mut context = null_mut();
        // SAFETY: as when a card is opened; released with this card.
        let answer = unsafe { (api.primary_retain)(&raw mut context, other) };
        self.check("cuDevicePrimaryCtxRetain", answer)?;
        self.peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(other);
        let _entered = self.enter()?;
        // SAFETY: a context that is held; the flags have to be 0.
        let answer = unsafe { (api.enable_peer)(context, 0) };
        if answer == code::PEER_ACCESS_ALREADY_ENABLED {
            return Ok(());
        }
        self.check("cuCtxEnablePeerAccess", answer)
    }

    unsafe fn export(&self, address: usize, _len: usize, _pid: Option<i32>) -> Answer<Vec<u8>> {
        let _entered = self.enter()?;
        let mut key = CUipcMemHandle([0; 64]);
        // SAFETY: the caller names an allocation; the handle goes to a local.
        let answer = unsafe { (self.library.api.ipc_get)(&raw mut key, address as u64) };
        self.check("cuIpcGetMemHandle", answer)?;
        Ok(key.0.to_vec())
    }

    fn export_close(&self, _key: &[u8]) -> Answer<()> {
        Ok(())
    }

    fn import(&self, key: &[u8]) -> Answer<ImportHandle> {
        let bytes = <[u8; 64]>::try_from(key);
        let bytes = bytes.map_err(|_len| DeviceError::misuse("no key of this backend"))?;
        let _entered = self.enter()?;
        let mut address = 0;
        let (open, flags) = (self.library.api.ipc_open, IPC_LAZY_ENABLE_PEER_ACCESS);
        // SAFETY: the handle goes by value; one that nobody made is refused.
        let answer = unsafe { open(&raw mut address, CUipcMemHandle(bytes), flags) };
        self.check("cuIpcOpenMemHandle", answer)?;
        let address = usize::try_from(address).unwrap_or(0);
        Ok(ImportHandle {
            address,
            key: key.to_vec(),
        })
    }

    fn import_close(&self, import: ImportHandle) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: it was opened once and is closed once, and no copy holds it.
        let answer = unsafe { (self.library.api.ipc_close)(import.address as u64) };
        self.check("cuIpcCloseMemHandle", answer)
    }

    fn root_info(&self) -> Answer<Vec<u8>> {
        let _entered = self.enter()?;
        nccl::root_info(self)
    }

    fn comm_init(&self, root: &[u8], rank: u32, _most: Duration) -> Answer<CommHandle> {
        let _entered = self.enter()?;
        nccl::init(self, root, rank)
    }

    fn comm_destroy(&self, comm: CommHandle) -> Answer<()> {
        let _entered = self.enter()?;
        nccl::destroy(self, &comm)
    }

    unsafe fn comm_post(
        &self,
        comm: &CommHandle,
        stream: &StreamHandle,
        way: Way,
        address: usize,
        len: usize,
    ) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: forwarded; the caller keeps the range until the stream has passed the pair.
        unsafe { nccl::post(self, comm, stream, way, (address, len)) }
    }
}
