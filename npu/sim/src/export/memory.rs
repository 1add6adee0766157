//! tidy: table of C symbols, wide by its signatures. Memory of the card and of the host, and
//! copies.

use std::alloc::Layout;
use std::ffi::c_void;

use chariot_ascend_rt_sys::sys;

use super::{export, put, take};
use crate::board::Board;
use crate::config::{Register, config};
use crate::link::Route;
use crate::state::{self, HostRange, State};
use crate::stream::{self, Task};
use crate::transfer::{self, Copy, Place};
use crate::{Code, clock, count, fault, memory, numa};

/// Page-locked memory begins at a page of the largest kind that aarch64 has.
const PINNED_ALIGN: usize = 64 << 10;

fn pinned_layout(size: usize) -> Result<Layout, Code> {
    Layout::from_size_align(size, PINNED_ALIGN).map_err(|_| sys::ACL_ERROR_RT_PARAM_INVALID)
}

/// Are the pages of a host range writable, as the kernel's list of mappings says?
fn is_writable(address: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().any(|line| {
        let mut fields = line.split(' ');
        let range = fields.next().and_then(|range| range.split_once('-'));
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let within = range.is_some_and(|(from, to)| (hex(from)..hex(to)).contains(&address));
        within && fields.next().is_some_and(|mode| mode.contains('w'))
    })
}

fn register(state: &mut State, address: u64, len: u64, readonly: bool) -> Result<(), Code> {
    // The facts say 4 KiB; a range of whole pages of this machine fulfils that everywhere.
    if address == 0 || len == 0 || !address.is_multiple_of(4096) {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    let overlap = state.host.range(..address + len).next_back();
    if overlap.is_some_and(|(start, range)| start + range.len > address) {
        return Err(sys::ACL_ERROR_RT_HOST_MEM_REGISTERED);
    }
    let how = config().register;
    if how == Register::Refuse {
        return Err(sys::ACL_ERROR_RT_FEATURE_NOT_SUPPORT);
    }
    let writable = is_writable(address);
    if !writable && (how == Register::Writable || !readonly) {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    let locked = how != Register::Record;
    if locked && state.pinned_bytes() + len > config().pinned_bytes {
        return Err(sys::ACL_ERROR_RT_MEMORY_ALLOCATION);
    }
    let range = HostRange {
        len,
        allocated: false,
        locked,
        readonly,
        node: None,
    };
    state.host.insert(address, range);
    Ok(())
}

/// Puts copies on a stream. Pageable memory makes a modern driver wait and copy at once, and an old
/// one copy later without a look (device facts, 1.4).
fn submit(handle: *mut c_void, copies: Vec<Copy>, batch: bool) -> Result<(), Code> {
    clock::charge(config().preset.submit_ns);
    let mut state = state::lock();
    let id = state.stream(handle as u64)?;
    state.current_device()?;
    if copies.iter().any(|copy| copy.pageable) {
        count("pageable_async");
        if !config().legacy {
            drop(state);
            stream::synchronize(id, None)?;
            return transfer::run_here(&copies, batch);
        }
    }
    stream::submit(&mut state, id, Task::Copy { copies, batch })
}

/// What both calls of a batch have.
struct Batch {
    dsts: *mut *mut c_void,
    dest_max: *mut usize,
    srcs: *mut *mut c_void,
    sizes: *mut usize,
    count: usize,
    attributes: *mut sys::aclrtMemcpyBatchAttr,
    indexes: *mut usize,
    attribute_count: usize,
    fail_index: *mut usize,
}

impl Batch {
    /// Checks every entry. The failing one is told through `fail_index`.
    fn accept(&self) -> Result<Vec<Copy>, Code> {
        let invalid = sys::ACL_ERROR_RT_PARAM_INVALID;
        put(self.fail_index, usize::MAX)?;
        if self.count == 0 || self.attribute_count == 0 || self.attribute_count > self.count {
            return Err(invalid);
        }
        if self.count > sys::ACL_MEMCPY_BATCH_ENTRIES_MAX {
            return Err(invalid);
        }
        let attributes = take(self.attributes, self.attribute_count)?;
        let indexes = take(self.indexes, self.attribute_count)?;
        let increasing = indexes.windows(2).all(|pair| pair[0] < pair[1]);
        if indexes[0] != 0 || !increasing || indexes[indexes.len() - 1] >= self.count {
            return Err(invalid);
        }
        if attributes.iter().any(|attribute| attribute.rsv != [0; 16]) {
            return Err(sys::ACL_ERROR_INVALID_PARAM);
        }
        let (dsts, srcs) = (take(self.dsts, self.count)?, take(self.srcs, self.count)?);
        let (maxima, sizes) = (
            take(self.dest_max, self.count)?,
            take(self.sizes, self.count)?,
        );
        let state = state::lock();
        let mut copies: Vec<Copy> = Vec::with_capacity(self.count);
        for index in 0..self.count {
            let of = indexes.partition_point(|first| *first <= index) - 1;
            let ends = (dsts[index] as u64, srcs[index] as u64);
            let copy = accept_entry(&state, ends, (maxima[index], sizes[index]), &attributes[of]);
            let same = |copy: &Copy| copies.first().is_none_or(|first| first.route == copy.route);
            let Some(copy) = copy.ok().filter(same) else {
                put(self.fail_index, index)?;
                return Err(invalid);
            };
            copies.push(copy);
        }
        Ok(copies)
    }
}

fn accept_entry(
    state: &State,
    ends: (u64, u64),
    lengths: (usize, usize),
    attribute: &sys::aclrtMemcpyBatchAttr,
) -> Result<Copy, Code> {
    let copy = transfer::accept(state, ends, lengths, None)?;
    let matches = |place: Place, location: sys::aclrtMemLocation| match place {
        Place::Device { device, .. } => {
            location.type_ == sys::ACL_MEM_LOCATION_TYPE_DEVICE && location.id == device
        },
        Place::Pinned { .. } | Place::Pageable => location.type_ == sys::ACL_MEM_LOCATION_TYPE_HOST,
    };
    let dst = transfer::place(state, ends.0, copy.len)?;
    let src = transfer::place(state, ends.1, copy.len)?;
    let between = matches!(copy.route, Route::HostToDevice(_) | Route::DeviceToHost(_));
    if !between || !matches(dst, attribute.dstLoc) || !matches(src, attribute.srcLoc) {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    Ok(copy)
}

/// A copy of rows, as single copies.
fn rows(
    (dst, dpitch): (*mut c_void, usize),
    (src, spitch): (*const c_void, usize),
    (width, height): (usize, usize),
    kind: Option<i32>,
) -> Result<Vec<Copy>, Code> {
    if width == 0 || height == 0 || width > dpitch || width > spitch {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    let state = state::lock();
    let row = |row: usize| {
        let ends = (
            dst as u64 + (row * dpitch) as u64,
            src as u64 + (row * spitch) as u64,
        );
        transfer::accept(&state, ends, (width, width), kind)
    };
    (0..height).map(row).collect()
}

fn host_to_host(copies: &[Copy]) -> bool {
    copies.iter().any(|copy| copy.route == Route::Host)
}

export! {
    Ready aclrtMalloc as aclrtMalloc_fn(pointer: *mut *mut c_void, size: usize, policy: i32) {
        let mut state = state::lock();
        let address = state.current_device()?.allocate(size as u64, policy)?;
        put(pointer, address as *mut c_void)
    }
    Ready aclrtFree as aclrtFree_fn(pointer: *mut c_void) {
        free(pointer)
    }
    Ready aclrtFreeWithDevSync as aclrtFreeWithDevSync_fn(pointer: *mut c_void) {
        let streams: Vec<u64> = {
            let state = state::lock();
            let (_, device) = state.current()?;
            let streams = state.streams.iter().filter(|(_, stream)| stream.device == device);
            streams.map(|(id, _)| *id).collect()
        };
        for id in streams {
            stream::synchronize(id, None)?;
        }
        free(pointer)
    }
    Ready aclrtMallocHost as aclrtMallocHost_fn(pointer: *mut *mut c_void, size: usize) {
        let mut state = state::lock();
        state.current()?;
        if size == 0 {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        if state.pinned_bytes() + size as u64 > config().pinned_bytes {
            return Err(sys::ACL_ERROR_RT_MEMORY_ALLOCATION);
        }
        // SAFETY: the size is not zero.
        let memory = unsafe { std::alloc::alloc_zeroed(pinned_layout(size)?) };
        if memory.is_null() {
            return Err(sys::ACL_ERROR_RT_MEMORY_ALLOCATION);
        }
        let node = numa::settle(memory, size);
        let range = HostRange { len: size as u64, allocated: true, locked: true, readonly: false, node };
        state.host.insert(memory as u64, range);
        put(pointer, memory.cast())
    }
    Ready aclrtFreeHost as aclrtFreeHost_fn(pointer: *mut c_void) {
        let mut state = state::lock();
        let range = state.host.get(&(pointer as u64)).filter(|range| range.allocated);
        let size = range.ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?.len as usize;
        state.host.remove(&(pointer as u64));
        let layout = pinned_layout(size)?;
        // SAFETY: the table held it, so it came from aclrtMallocHost with this size, and once.
        unsafe { std::alloc::dealloc(pointer.cast(), layout) };
        Ok(())
    }
    Ready aclrtHostRegister as aclrtHostRegister_fn(
        pointer: *mut c_void, size: u64, kind: i32, device: *mut *mut c_void,
    ) {
        let mut state = state::lock();
        state.current()?;
        let readonly = kind == sys::ACL_HOST_REGISTER_READONLY;
        if !readonly && kind != sys::ACL_HOST_REGISTER_MAPPED {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        register(&mut state, pointer as u64, size, readonly)?;
        put(device, transfer::alias(pointer as u64) as *mut c_void)
    }
    Ready aclrtHostRegisterV2 as aclrtHostRegisterV2_fn(pointer: *mut c_void, size: u64, flag: u32) {
        let mut state = state::lock();
        state.current()?;
        let readonly = flag & sys::ACL_HOST_REG_READONLY != 0;
        if flag & (sys::ACL_HOST_REG_PINNED | sys::ACL_HOST_REG_MAPPED) == 0 {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        register(&mut state, pointer as u64, size, readonly)
    }
    Ready aclrtHostGetDevicePointer as aclrtHostGetDevicePointer_fn(
        host: *mut c_void, device: *mut *mut c_void, _flag: u32,
    ) {
        let state = state::lock();
        state.host_range(host as u64, 1).ok_or(sys::ACL_ERROR_RT_HOST_MEM_NOT_REGISTERED)?;
        put(device, transfer::alias(host as u64) as *mut c_void)
    }
    Ready aclrtHostUnregister as aclrtHostUnregister_fn(pointer: *mut c_void) {
        let mut state = state::lock();
        let range = state.host.get(&(pointer as u64)).filter(|range| !range.allocated);
        range.ok_or(sys::ACL_ERROR_RT_HOST_MEM_NOT_REGISTERED)?;
        state.host.remove(&(pointer as u64));
        Ok(())
    }
    Ready aclrtPointerGetAttributes as aclrtPointerGetAttributes_fn(
        pointer: *const c_void, attributes: *mut sys::aclrtPtrAttributes,
    ) {
        let state = state::lock();
        let (id, type_) = match transfer::place(&state, pointer as u64, 1)? {
            Place::Device { device, import_of: None } => (device, sys::ACL_MEM_LOCATION_TYPE_DEVICE),
            Place::Pinned { .. } => (0, sys::ACL_MEM_LOCATION_TYPE_HOST),
            // The runtime does not know what another process's memory is, nor pageable memory.
            Place::Device { .. } | Place::Pageable => (0, sys::ACL_MEM_LOCATION_TYPE_UNREGISTERED),
        };
        let location = sys::aclrtMemLocation { id, type_ };
        put(attributes, sys::aclrtPtrAttributes { location, pageSize: 4096, rsv: [0; 4] })
    }
    Ready aclrtGetMemInfo as aclrtGetMemInfo_fn(_attribute: i32, free: *mut usize, total: *mut usize) {
        let id = state::lock().current_device()?.id;
        let limit = fault::hbm_limit(id).unwrap_or(config().hbm_bytes);
        let used = Board::of_host().lock().used_hbm(id);
        put(free, limit.saturating_sub(used) as usize)?;
        put(total, limit as usize)
    }
    Ready aclrtMemcpy as aclrtMemcpy_fn(
        dst: *mut c_void, max: usize, src: *const c_void, len: usize, _kind: i32,
    ) {
        if dst.cast_const() == src {
            return Ok(());
        }
        let mut state = state::lock();
        state.current_device()?;
        let copy = transfer::accept(&state, (dst as u64, src as u64), (max, len), None)?;
        drop(state);
        transfer::run_here(&[copy], false)
    }
    Ready aclrtMemcpyAsync as aclrtMemcpyAsync_fn(
        dst: *mut c_void, max: usize, src: *const c_void, len: usize, kind: i32, stream: *mut c_void,
    ) {
        let ends = (dst as u64, src as u64);
        let copy = transfer::accept(&state::lock(), ends, (max, len), Some(kind))?;
        if host_to_host(&[copy]) {
            return Err(sys::ACL_ERROR_RT_FEATURE_NOT_SUPPORT);
        }
        submit(stream, vec![copy], false)
    }
    Ready aclrtMemcpy2d as aclrtMemcpy2d_fn(
        dst: *mut c_void, dpitch: usize, src: *const c_void, spitch: usize, width: usize,
        height: usize, _kind: i32,
    ) {
        state::lock().current_device()?;
        transfer::run_here(&rows((dst, dpitch), (src, spitch), (width, height), None)?, true)
    }
    Ready aclrtMemcpy2dAsync as aclrtMemcpy2dAsync_fn(
        dst: *mut c_void, dpitch: usize, src: *const c_void, spitch: usize, width: usize,
        height: usize, kind: i32, stream: *mut c_void,
    ) {
        let copies = rows((dst, dpitch), (src, spitch), (width, height), Some(kind))?;
        if host_to_host(&copies) {
            return Err(sys::ACL_ERROR_RT_FEATURE_NOT_SUPPORT);
        }
        submit(stream, copies, true)
    }
    Ready aclrtMemset as aclrtMemset_fn(pointer: *mut c_void, max: usize, value: i32, len: usize) {
        let mut state = state::lock();
        state.current_device()?;
        let device = transfer::accept_set(&state, pointer as u64, (max, len))?;
        drop(state);
        clock::charge(config().preset.submit_ns);
        let address = pointer as u64;
        let (finish, outcome) =
            transfer::run_set(device, address, value as u8, len as u64, clock::now());
        clock::wait_until(finish);
        clock::reach(finish);
        outcome
    }
    Ready aclrtMemsetAsync as aclrtMemsetAsync_fn(
        pointer: *mut c_void, max: usize, value: i32, len: usize, stream: *mut c_void,
    ) {
        clock::charge(config().preset.submit_ns);
        let mut state = state::lock();
        transfer::accept_set(&state, pointer as u64, (max, len))?;
        let id = state.stream(stream as u64)?;
        let task = Task::Set { address: pointer as u64, value: value as u8, len: len as u64 };
        stream::submit(&mut state, id, task)
    }
    Ready aclrtMemcpyBatch as aclrtMemcpyBatch_fn(
        dsts: *mut *mut c_void, dest_max: *mut usize, srcs: *mut *mut c_void, sizes: *mut usize,
        count: usize, attributes: *mut sys::aclrtMemcpyBatchAttr, indexes: *mut usize,
        attribute_count: usize, fail_index: *mut usize,
    ) {
        let batch = Batch {
            dsts, dest_max, srcs, sizes, count, attributes, indexes, attribute_count, fail_index,
        };
        state::lock().current_device()?;
        transfer::run_here(&batch.accept()?, true)
    }
    Ready aclrtMemcpyBatchAsync as aclrtMemcpyBatchAsync_fn(
        dsts: *mut *mut c_void, dest_max: *mut usize, srcs: *mut *mut c_void, sizes: *mut usize,
        count: usize, attributes: *mut sys::aclrtMemcpyBatchAttr, indexes: *mut usize,
        attribute_count: usize, fail_index: *mut usize, stream: *mut c_void,
    ) {
        let batch = Batch {
            dsts, dest_max, srcs, sizes, count, attributes, indexes, attribute_count, fail_index,
        };
        submit(stream, batch.accept()?, config().preset.batch_async)
    }
}

fn free(pointer: *mut c_void) -> Result<(), Code> {
    let mut state = state::lock();
    let (device, _) = memory::locate(pointer as u64).ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
    state.current()?;
    let device = state
        .devices
        .get_mut(&device)
        .ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
    device.free(pointer as u64)
}
