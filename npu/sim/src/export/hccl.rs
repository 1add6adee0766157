//! The symbols of HCCL.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};

use chariot_ascend_rt_sys::sys;

use super::{export, put, take};
use crate::config::config;
use crate::hccl::pairs::{Posted, Side};
use crate::install::Profile;
use crate::stream::{self, Task};
use crate::{Code, clock, hccl, state};

/// Device memory of each of a communicator's two buffers when nobody says otherwise, in MiB.
const BUFFER_MIB: u64 = 200;

/// What a thread collects between the start and the end of a group.
#[derive(Debug, Default)]
struct Group {
    depth: u32,
    posted: Vec<(u64, u64, Posted)>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::new(Group::default());
}

fn size_of_type(data_type: i32) -> Result<u64, Code> {
    match data_type {
        0 | 7 => Ok(1),
        1 | 3 | 8 | 11 => Ok(2),
        2 | 4 | 9 => Ok(4),
        5 | 6 | 10 => Ok(8),
        _ => Err(sys::HCCL_E_NOT_SUPPORT),
    }
}

fn comm_id(handle: *mut c_void) -> Result<u64, Code> {
    let comms = hccl::comms();
    comms
        .get(&(handle as u64))
        .map(|local| local.comm)
        .ok_or(sys::HCCL_E_PARA)
}

/// Posts both sides' wishes: at once, or at the end of the group.
fn post(handle: *mut c_void, stream: *mut c_void, sides: &[Side]) -> Result<(), Code> {
    let comm = comm_id(handle)?;
    let id = state::lock()
        .stream(stream as u64)
        .map_err(|_| sys::HCCL_E_RUNTIME)?;
    let mut posted = Posted::on(comm);
    for side in sides {
        posted.add(handle as u64, id, *side)?;
    }
    GROUP.with_borrow_mut(|group| {
        if group.depth == 0 {
            return submit(id, posted);
        }
        let same = |(stream, of, _): &&mut (u64, u64, Posted)| (*stream, *of) == (id, comm);
        match group.posted.iter_mut().find(same) {
            Some((_, _, together)) => together.append(posted),
            None => group.posted.push((id, comm, posted)),
        }
        Ok(())
    })
}

fn submit(stream: u64, posted: Posted) -> Result<(), Code> {
    clock::charge(config().preset.submit_ns);
    let mut state = state::lock();
    stream::submit(&mut state, stream, Task::Pairs(posted)).map_err(|_| sys::HCCL_E_RUNTIME)
}

fn side(
    buffer: *mut c_void,
    count: u64,
    data_type: i32,
    peer: u32,
    send: bool,
) -> Result<Side, Code> {
    let bytes = count
        .checked_mul(size_of_type(data_type)?)
        .ok_or(sys::HCCL_E_PARA)?;
    Ok(Side {
        buffer: buffer as u64,
        bytes,
        data_type,
        peer,
        send,
    })
}

fn init(
    ranks: u32,
    root: *const sys::HcclRootInfo,
    rank: u32,
    buffer_mib: u64,
    comm: *mut *mut c_void,
) -> Result<(), Code> {
    if root.is_null() || comm.is_null() {
        return Err(sys::HCCL_E_PTR);
    }
    let device = state::lock()
        .current_device()
        .map_err(|_| sys::HCCL_E_RUNTIME)?
        .id;
    let root = take(root.cast::<u8>(), sys::HCCL_ROOT_INFO_BYTES as usize)?;
    let handle = hccl::init(device, ranks, &root, rank, buffer_mib)?;
    put(comm, handle as *mut c_void)
}

/// Buffer size in MiB that a configuration asks for, when this version understands it.
fn buffer_of(config: *const sys::HcclCommConfig) -> Result<u64, Code> {
    let head = take(config.cast::<u32>(), 7)?;
    let (size, magic, version) = (head[0] as usize, head[2], head[3]);
    let known = Profile::of_this().comm_config_version();
    let enough = size >= std::mem::offset_of!(sys::HcclCommConfig, hcclDeterministic);
    if magic != sys::HCCL_COMM_CONFIG_MAGIC || version == 0 || version > known || !enough {
        crate::log(&format!(
            "a communicator's configuration of version {version}, {known} known"
        ));
        return Err(sys::HCCL_E_PARA);
    }
    let buffer = head[6];
    let set = buffer != sys::HCCL_COMM_CONFIG_NOT_SET;
    Ok(if set { u64::from(buffer) } else { BUFFER_MIB })
}

export! {
    Ready HcclGetRootInfo as HcclGetRootInfo_fn(root: *mut sys::HcclRootInfo) {
        if root.is_null() {
            return Err(sys::HCCL_E_PTR);
        }
        let bytes = hccl::root_info()?;
        let mut internal = [0; sys::HCCL_ROOT_INFO_BYTES as usize];
        for (to, from) in internal.iter_mut().zip(bytes) {
            *to = from as c_char;
        }
        put(root, sys::HcclRootInfo { internal })
    }
    Ready HcclCommInitRootInfo as HcclCommInitRootInfo_fn(
        ranks: u32, root: *const sys::HcclRootInfo, rank: u32, comm: *mut *mut c_void,
    ) {
        init(ranks, root, rank, BUFFER_MIB, comm)
    }
    Ready HcclCommInitRootInfoConfig as HcclCommInitRootInfoConfig_fn(
        ranks: u32, root: *const sys::HcclRootInfo, rank: u32, config: *const sys::HcclCommConfig,
        comm: *mut *mut c_void,
    ) {
        init(ranks, root, rank, buffer_of(config)?, comm)
    }
    Ready HcclCommDestroy as HcclCommDestroy_fn(comm: *mut c_void) {
        hccl::destroy(comm as u64)
    }
    Ready HcclSend as HcclSend_fn(
        buffer: *mut c_void, count: u64, data_type: i32, peer: u32, comm: *mut c_void,
        stream: *mut c_void,
    ) {
        post(comm, stream, &[side(buffer, count, data_type, peer, true)?])
    }
    Ready HcclRecv as HcclRecv_fn(
        buffer: *mut c_void, count: u64, data_type: i32, peer: u32, comm: *mut c_void,
        stream: *mut c_void,
    ) {
        post(comm, stream, &[side(buffer, count, data_type, peer, false)?])
    }
    Ready HcclBatchSendRecv as HcclBatchSendRecv_fn(
        items: *mut sys::HcclSendRecvItem, count: u32, comm: *mut c_void, stream: *mut c_void,
    ) {
        let items = take(items, count as usize)?;
        let one = |item: &sys::HcclSendRecvItem| {
            let send = item.sendRecvType == sys::HCCL_SEND_RECV_SEND;
            side(item.buf, item.count, item.dataType, item.remoteRank, send)
        };
        let sides: Vec<Side> = items.iter().map(one).collect::<Result<_, Code>>()?;
        post(comm, stream, &sides)
    }
    Ready HcclGetRankId as HcclGetRankId_fn(comm: *mut c_void, rank: *mut u32) {
        let comms = hccl::comms();
        put(rank, comms.get(&(comm as u64)).ok_or(sys::HCCL_E_PARA)?.rank)
    }
    Ready HcclGetRankSize as HcclGetRankSize_fn(comm: *mut c_void, ranks: *mut u32) {
        let comms = hccl::comms();
        put(ranks, comms.get(&(comm as u64)).ok_or(sys::HCCL_E_PARA)?.ranks)
    }
    Ready HcclGetCommAsyncError as HcclGetCommAsyncError_fn(comm: *mut c_void, error: *mut i32) {
        let comms = hccl::comms();
        put(error, comms.get(&(comm as u64)).ok_or(sys::HCCL_E_PARA)?.error)
    }
    Ready HcclGroupStart as HcclGroupStart_fn() {
        GROUP.with_borrow_mut(|group| group.depth += 1);
        Ok(())
    }
    Ready HcclGroupEnd as HcclGroupEnd_fn() {
        let posted = GROUP.with_borrow_mut(|group| {
            if group.depth == 0 {
                return Err(sys::HCCL_E_PARA);
            }
            group.depth -= 1;
            Ok(if group.depth == 0 { std::mem::take(&mut group.posted) } else { Vec::new() })
        })?;
        posted.into_iter().try_for_each(|(stream, _, posted)| submit(stream, posted))
    }
}

#[unsafe(no_mangle)]
extern "C" fn HcclGetErrorString(code: i32) -> *const c_char {
    let text = match code {
        sys::HCCL_SUCCESS => c"success",
        sys::HCCL_E_PARA => c"parameter error",
        sys::HCCL_E_TIMEOUT => c"timeout",
        sys::HCCL_E_AGAIN => c"busy, try again",
        sys::HCCL_E_REMOTE => c"the remote side failed",
        sys::HCCL_E_OOM => c"out of memory",
        _ => c"failed",
    };
    text.as_ptr()
}
const _: sys::HcclGetErrorString_fn = Some(HcclGetErrorString);
