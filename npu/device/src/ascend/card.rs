//! One card of the ascend backend.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chariot_ascend_rt_sys::sys;

use super::{Entered, Library, copies, hccl};
use crate::batch::Direction;
use crate::capability::{
    BatchForm, Capabilities, DeviceStatus, LinkForm, MemoryUse, PairForm, RegisterForm,
};
use crate::driver::{
    Answer, BlockHandle, Card, CommHandle, Entry, EventHandle, ImportHandle, PinnedHandle,
    RegisteredHandle, StreamHandle, Way,
};
use crate::error::DeviceError;

#[derive(Debug)]
pub(super) struct AscendCard {
    pub(super) library: Arc<Library>,
    pub(super) ordinal: i32,
    context: usize,
    name: String,
    /// The driver turned out to refuse these, though the symbols are there.
    pub(super) no_queued_batch: AtomicBool,
    pub(super) no_direct_batch: AtomicBool,
    pub(super) links: hccl::Turn,
}

/// A missing optional function, as an answer.
pub(super) fn offered<F>(function: Option<F>, what: &'static str) -> Answer<F> {
    function.ok_or(DeviceError::Unsupported { what })
}

impl AscendCard {
    pub(super) fn new(library: Arc<Library>, ordinal: i32, context: usize, name: String) -> Self {
        Self {
            library,
            ordinal,
            context,
            name,
            no_queued_batch: AtomicBool::new(false),
            no_direct_batch: AtomicBool::new(false),
            links: hccl::Turn::default(),
        }
    }

    pub(super) fn enter(&self) -> Answer<Entered<'_>> {
        Entered::new(&self.library, self.context)
    }

    /// Does the runtime take the range for page-locked, as far as it can be asked?
    fn takes_for_locked(&self, address: usize) -> bool {
        let Some(ask) = self.library.acl.aclrtPointerGetAttributes else {
            return true;
        };
        let location = sys::aclrtMemLocation { id: 0, type_: 0 };
        let mut answer = sys::aclrtPtrAttributes {
            location,
            pageSize: 0,
            rsv: [0; 4],
        };
        // SAFETY: any address may be asked about; the answer goes to a local.
        let code = unsafe { ask(address as *const c_void, &raw mut answer) };
        code != sys::ACL_SUCCESS || answer.location.type_ != sys::ACL_MEM_LOCATION_TYPE_UNREGISTERED
    }

    /// # Safety
    /// As for `host_register`.
    unsafe fn register(&self, address: usize, len: usize, readonly: bool) -> Answer<()> {
        let acl = &self.library.acl;
        let at = address as *mut c_void;
        let code = if let Some(register) = acl.aclrtHostRegisterV2 {
            let access = if readonly {
                sys::ACL_HOST_REG_READONLY
            } else {
                0
            };
            let flags = sys::ACL_HOST_REG_PINNED | access;
            // SAFETY: the range is mapped until it is unregistered, as the caller promises.
            unsafe { register(at, len as u64, flags) }
        } else {
            let register = offered(acl.aclrtHostRegister, "aclrtHostRegister")?;
            let kind = if readonly {
                sys::ACL_HOST_REGISTER_READONLY
            } else {
                sys::ACL_HOST_REGISTER_MAPPED
            };
            let mut for_kernels = null_mut();
            // SAFETY: the caller's promise again; the address for kernels goes to a local and is
            // not used, since copies refuse it.
            unsafe { register(at, len as u64, kind, &raw mut for_kernels) }
        };
        match code {
            sys::ACL_ERROR_RT_MEMORY_ALLOCATION => {
                Err(DeviceError::PinnedMemory { bytes: len as u64 })
            },
            sys::ACL_ERROR_RT_HOST_MEM_REGISTERED => {
                Err(DeviceError::misuse("a range that is registered already"))
            },
            // Drivers that cannot lock read-only pages call the argument invalid.
            sys::ACL_ERROR_RT_PARAM_INVALID if readonly => Err(DeviceError::Unsupported {
                what: "registering read-only pages",
            }),
            code => self.library.check("aclrtHostRegister", code),
        }
    }

    fn memory_error(&self, call: &'static str, code: i32, full: DeviceError) -> Answer<()> {
        match code {
            sys::ACL_ERROR_RT_MEMORY_ALLOCATION
            | sys::ACL_ERROR_RT_DEVICE_OOM
            | sys::ACL_ERROR_BAD_ALLOC => Err(full),
            code => self.library.check(call, code),
        }
    }
}

impl Drop for AscendCard {
    fn drop(&mut self) {
        // SAFETY: everything that was made on the card is gone; the runtime counts who uses it.
        let code = unsafe { (self.library.acl.aclrtResetDevice)(self.ordinal) };
        // On a lost card this fails, and nothing follows from that.
        drop(self.library.check("aclrtResetDevice", code));
    }
}

fn handle<T>(raw: usize) -> *mut T {
    raw as *mut T
}

impl Card for AscendCard {
    fn capabilities(&self) -> Capabilities {
        let acl = &self.library.acl;
        let registers = acl.aclrtHostRegisterV2.is_some() || acl.aclrtHostRegister.is_some();
        let registers = registers && acl.aclrtHostUnregister.is_some();
        Capabilities {
            name: self.name.clone(),
            batch: self.batch_form(),
            register: RegisterForm {
                writable: registers,
                readonly: registers,
            },
            link: LinkForm {
                pairs: match self.library.hccl {
                    Some(_) => PairForm::OtherCard,
                    None => PairForm::Absent,
                },
                export: acl.aclrtIpcMemGetExportKey.is_some()
                    && acl.aclrtIpcMemSetImportPid.is_some()
                    && acl.aclrtIpcMemImportByKey.is_some()
                    && acl.aclrtIpcMemClose.is_some(),
            },
            abort: acl.aclrtStreamAbort.is_some(),
            peer_copies: true,
            // The runtime tells no PCI address before 9.1; the transfer's options name the node.
            numa_node: None,
        }
    }

    fn batch_form(&self) -> BatchForm {
        let acl = &self.library.acl;
        BatchForm {
            queued: acl.aclrtMemcpyBatchAsync.is_some()
                && !self.no_queued_batch.load(Ordering::Relaxed),
            direct: acl.aclrtMemcpyBatch.is_some() && !self.no_direct_batch.load(Ordering::Relaxed),
            entries_max: sys::ACL_MEMCPY_BATCH_ENTRIES_MAX,
        }
    }

    fn status(&self) -> Answer<DeviceStatus> {
        let Some(ask) = self.library.acl.aclrtQueryDeviceStatus else {
            return Ok(DeviceStatus::Normal);
        };
        let _entered = self.enter()?;
        let mut status = sys::ACL_DEVICE_STATUS_NORMAL;
        // SAFETY: the status goes to a local; the number is an open card's.
        let code = unsafe { ask(self.ordinal, &raw mut status) };
        self.library.check("aclrtQueryDeviceStatus", code)?;
        let lost = status == sys::ACL_DEVICE_STATUS_ABNORMAL;
        Ok(if lost {
            DeviceStatus::Lost
        } else {
            DeviceStatus::Normal
        })
    }

    fn memory_use(&self) -> Answer<MemoryUse> {
        let _entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        let kind = sys::ACL_HBM_MEM;
        // SAFETY: both figures go to locals.
        let code =
            unsafe { (self.library.acl.aclrtGetMemInfo)(kind, &raw mut free, &raw mut total) };
        self.library.check("aclrtGetMemInfo", code)?;
        Ok(MemoryUse {
            free_bytes: free as u64,
            total_bytes: total as u64,
        })
    }

    fn stream_create(&self) -> Answer<StreamHandle> {
        let _entered = self.enter()?;
        let mut stream = null_mut();
        let flags = sys::ACL_STREAM_FAST_LAUNCH | sys::ACL_STREAM_FAST_SYNC;
        let create = self.library.acl.aclrtCreateStreamWithConfig;
        // SAFETY: the handle goes to a local; priority 0 is the highest, which all cards have.
        let code = unsafe { create(&raw mut stream, 0, flags) };
        self.library.check("aclrtCreateStreamWithConfig", code)?;
        Ok(StreamHandle::new(stream as usize))
    }

    fn stream_destroy(&self, stream: StreamHandle, force: bool) -> Answer<()> {
        let _entered = self.enter()?;
        let acl = &self.library.acl;
        let raw = handle(stream.raw());
        if force {
            // SAFETY: the handle came from the runtime and is given up here.
            let code = unsafe { (acl.aclrtDestroyStreamForce)(raw) };
            return self.library.check("aclrtDestroyStreamForce", code);
        }
        // SAFETY: likewise, and nothing is on the stream.
        let code = unsafe { (acl.aclrtDestroyStream)(raw) };
        self.library.check("aclrtDestroyStream", code)
    }

    fn stream_is_idle(&self, stream: &StreamHandle) -> Answer<bool> {
        let _entered = self.enter()?;
        let mut status = sys::ACL_STREAM_STATUS_NOT_READY;
        let query = self.library.acl.aclrtStreamQuery;
        // SAFETY: a live handle of this context, and a local for the answer.
        let code = unsafe { query(handle(stream.raw()), &raw mut status) };
        self.library.check("aclrtStreamQuery", code)?;
        Ok(status == sys::ACL_STREAM_STATUS_COMPLETE)
    }

    fn stream_wait(&self, stream: &StreamHandle, most: Option<Duration>) -> Answer<()> {
        let _entered = self.enter()?;
        let acl = &self.library.acl;
        let raw = handle(stream.raw());
        let Some(most) = most else {
            // SAFETY: a live handle of the context that was entered.
            let code = unsafe { (acl.aclrtSynchronizeStream)(raw) };
            return self.library.check("aclrtSynchronizeStream", code);
        };
        // Up to the next millisecond: 0 would mean not to wait.
        let most = i32::try_from(most.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        // SAFETY: as without a limit.
        let code = unsafe { (acl.aclrtSynchronizeStreamWithTimeout)(raw, most.max(1)) };
        self.library
            .check("aclrtSynchronizeStreamWithTimeout", code)
    }

    fn stream_abort(&self, stream: &StreamHandle) -> Answer<()> {
        let abort = offered(self.library.acl.aclrtStreamAbort, "aclrtStreamAbort")?;
        let _entered = self.enter()?;
        // SAFETY: a live handle; its waiters are told by the runtime.
        let code = unsafe { abort(handle(stream.raw())) };
        self.library.check("aclrtStreamAbort", code)
    }

    fn stream_wait_event(&self, stream: &StreamHandle, event: &EventHandle) -> Answer<()> {
        let _entered = self.enter()?;
        let wait = self.library.acl.aclrtStreamWaitEvent;
        // SAFETY: two live handles of this card, the event made so that streams can wait for it.
        let code = unsafe { wait(handle(stream.raw()), handle(event.raw())) };
        self.library.check("aclrtStreamWaitEvent", code)
    }

    fn event_create(&self) -> Answer<EventHandle> {
        let _entered = self.enter()?;
        let acl = &self.library.acl;
        let (mut event, flag) = (null_mut(), sys::ACL_EVENT_SYNC);
        let create = acl.aclrtCreateEventExWithFlag;
        let create = create.unwrap_or(acl.aclrtCreateEventWithFlag);
        // SAFETY: both functions have this type and write the handle to a local.
        let code = unsafe { create(&raw mut event, flag) };
        self.library.check("aclrtCreateEvent", code)?;
        Ok(EventHandle::new(event as usize))
    }

    fn event_destroy(&self, event: EventHandle) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: the handle is given up here; streams that wait for it hold their own reference.
        let code = unsafe { (self.library.acl.aclrtDestroyEvent)(handle(event.raw())) };
        self.library.check("aclrtDestroyEvent", code)
    }

    fn event_record(&self, event: &EventHandle, stream: &StreamHandle) -> Answer<()> {
        let _entered = self.enter()?;
        let record = self.library.acl.aclrtRecordEvent;
        // SAFETY: two live handles of this card.
        let code = unsafe { record(handle(event.raw()), handle(stream.raw())) };
        self.library.check("aclrtRecordEvent", code)
    }

    fn event_is_reached(&self, event: &EventHandle) -> Answer<bool> {
        let _entered = self.enter()?;
        let mut status = sys::ACL_EVENT_RECORDED_STATUS_NOT_READY;
        let query = self.library.acl.aclrtQueryEventStatus;
        // SAFETY: a live handle, and a local for the answer.
        let code = unsafe { query(handle(event.raw()), &raw mut status) };
        self.library.check("aclrtQueryEventStatus", code)?;
        Ok(status == sys::ACL_EVENT_RECORDED_STATUS_COMPLETE)
    }

    fn device_alloc(&self, len: usize) -> Answer<BlockHandle> {
        let _entered = self.enter()?;
        let (mut block, policy) = (null_mut(), sys::ACL_MEM_MALLOC_HUGE_FIRST);
        // SAFETY: the address goes to a local; the length is not 0.
        let code = unsafe { (self.library.acl.aclrtMalloc)(&raw mut block, len, policy) };
        let full = DeviceError::DeviceMemory { bytes: len as u64 };
        self.memory_error("aclrtMalloc", code, full)?;
        Ok(BlockHandle::new(block as usize))
    }

    fn device_free(&self, block: BlockHandle) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: the block came from aclrtMalloc, and the counted memory frees it once, when no
        // stream holds it.
        let code = unsafe { (self.library.acl.aclrtFree)(handle(block.raw())) };
        self.library.check("aclrtFree", code)
    }

    fn host_alloc(&self, len: usize) -> Answer<PinnedHandle> {
        let _entered = self.enter()?;
        let mut pinned = null_mut();
        // SAFETY: the address goes to a local; a length of 0 was refused before.
        let code = unsafe { (self.library.acl.aclrtMallocHost)(&raw mut pinned, len) };
        let full = DeviceError::PinnedMemory { bytes: len as u64 };
        self.memory_error("aclrtMallocHost", code, full)?;
        Ok(PinnedHandle::new(pinned as usize))
    }

    fn host_free(&self, pinned: PinnedHandle) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: it came from aclrtMallocHost, and no clone or copy holds it any more.
        let code = unsafe { (self.library.acl.aclrtFreeHost)(handle(pinned.raw())) };
        self.library.check("aclrtFreeHost", code)
    }

    unsafe fn host_register(
        &self,
        address: usize,
        len: usize,
        readonly: bool,
    ) -> Answer<RegisteredHandle> {
        let _entered = self.enter()?;
        // SAFETY: forwarded; the caller keeps the range mapped.
        unsafe { self.register(address, len, readonly) }?;
        let range = RegisteredHandle::new(address);
        if self.takes_for_locked(address) {
            return Ok(range);
        }
        // Recorded without effect: copies would go through the slow path, or worse.
        self.host_unregister(range)?;
        Err(DeviceError::Unsupported {
            what: "locking memory after the fact",
        })
    }

    fn host_unregister(&self, range: RegisteredHandle) -> Answer<()> {
        let unregister = offered(self.library.acl.aclrtHostUnregister, "aclrtHostUnregister")?;
        let _entered = self.enter()?;
        // SAFETY: the range was registered under this address, and no copy holds it.
        let code = unsafe { unregister(handle(range.raw())) };
        self.library.check("aclrtHostUnregister", code)
    }

    unsafe fn copy_each(
        &self,
        stream: &StreamHandle,
        direction: Direction,
        entries: &[Entry],
    ) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: forwarded; the caller keeps both sides.
        unsafe { copies::each(self, stream, direction, entries) }
    }

    unsafe fn copy_batch(
        &self,
        stream: &StreamHandle,
        direction: Direction,
        entries: &[Entry],
    ) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: the caller's promise is that of this function.
        unsafe { copies::batch(self, stream, direction, entries) }
    }

    unsafe fn copy_direct(&self, direction: Direction, entries: &[Entry]) -> Answer<()> {
        let _entered = self.enter()?;
        // SAFETY: the caller keeps both sides until this returns.
        unsafe { copies::direct(self, direction, entries) }
    }

    unsafe fn fill(
        &self,
        stream: &StreamHandle,
        address: usize,
        len: usize,
        value: u8,
    ) -> Answer<()> {
        let _entered = self.enter()?;
        let fill = self.library.acl.aclrtMemsetAsync;
        let (at, value, stream) = (handle(address), i32::from(value), handle(stream.raw()));
        // SAFETY: the caller keeps the range until the stream has passed it.
        let code = unsafe { fill(at, len, value, len, stream) };
        self.library.check("aclrtMemsetAsync", code)
    }

    fn enable_peer(&self, peer: u32) -> Answer<()> {
        let _entered = self.enter()?;
        let acl = &self.library.acl;
        let (mut can, number) = (0, i32::try_from(peer).unwrap_or(-1));
        // SAFETY: the answer goes to a local; numbers that are no cards are refused.
        let code = unsafe { (acl.aclrtDeviceCanAccessPeer)(&raw mut can, self.ordinal, number) };
        self.library.check("aclrtDeviceCanAccessPeer", code)?;
        if can == 0 {
            return Err(DeviceError::Unsupported {
                what: "copies between these cards",
            });
        }
        // SAFETY: no memory is named; asking twice is allowed.
        let code = unsafe { (acl.aclrtDeviceEnablePeerAccess)(number, 0) };
        self.library.check("aclrtDeviceEnablePeerAccess", code)
    }

    unsafe fn export(&self, address: usize, len: usize, pid: Option<i32>) -> Answer<Vec<u8>> {
        let _entered = self.enter()?;
        // SAFETY: forwarded; the range is an allocation of this card.
        unsafe { copies::export(self, address, len, pid) }
    }

    fn export_close(&self, key: &[u8]) -> Answer<()> {
        let _entered = self.enter()?;
        copies::close_key(self, key)
    }

    fn import(&self, key: &[u8]) -> Answer<ImportHandle> {
        let _entered = self.enter()?;
        copies::import(self, key)
    }

    fn import_close(&self, import: ImportHandle) -> Answer<()> {
        let _entered = self.enter()?;
        copies::close_key(self, &import.key)
    }

    fn link_bytes(&self) -> usize {
        hccl::buffer_bytes(self)
    }

    fn root_info(&self) -> Answer<Vec<u8>> {
        let _entered = self.enter()?;
        hccl::root_info(self)
    }

    fn comm_init(&self, root: &[u8], rank: u32, _most: Duration) -> Answer<CommHandle> {
        let _entered = self.enter()?;
        hccl::init(self, root, rank)
    }

    fn comm_destroy(&self, comm: CommHandle) -> Answer<()> {
        let _entered = self.enter()?;
        hccl::destroy(self, &comm)
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
        unsafe { hccl::post(self, comm, stream, way, (address, len)) }
    }
}
