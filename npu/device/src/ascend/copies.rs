//! Copies and memory between processes, as the runtime takes them. The card's context is entered.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use chariot_ascend_rt_sys::sys;

use super::card::{AscendCard, offered};
use crate::batch::Direction;
use crate::driver::{Answer, Entry, ImportHandle, StreamHandle};
use crate::error::DeviceError;

fn kind(direction: Direction) -> i32 {
    match direction {
        Direction::HostToDevice => sys::ACL_MEMCPY_HOST_TO_DEVICE,
        Direction::DeviceToHost => sys::ACL_MEMCPY_DEVICE_TO_HOST,
        Direction::DeviceToDevice => sys::ACL_MEMCPY_DEVICE_TO_DEVICE,
    }
}

/// # Safety
/// As for `Card::copy_each`.
pub(super) unsafe fn each(
    card: &AscendCard,
    stream: &StreamHandle,
    direction: Direction,
    entries: &[Entry],
) -> Answer<()> {
    let copy = card.library.acl.aclrtMemcpyAsync;
    let (kind, stream) = (kind(direction), stream.raw() as *mut c_void);
    for entry in entries {
        let (dst, src) = (entry.dst as *mut c_void, entry.src as *const c_void);
        // SAFETY: the caller keeps both sides until the stream is past the copy; the destination
        // is as long as the copy.
        let code = unsafe { copy(dst, entry.len, src, entry.len, kind, stream) };
        card.library.check("aclrtMemcpyAsync", code)?;
    }
    Ok(())
}

/// The arguments that both batch calls take, and the room for the entry that failed.
struct Arguments {
    dsts: Vec<*mut c_void>,
    srcs: Vec<*mut c_void>,
    sizes: Vec<usize>,
    attributes: [sys::aclrtMemcpyBatchAttr; 1],
    indexes: [usize; 1],
    failed: usize,
}

impl Arguments {
    fn new(card: &AscendCard, direction: Direction, entries: &[Entry]) -> Self {
        assert!(!entries.is_empty(), "a batch has entries");
        assert!(
            direction != Direction::DeviceToDevice,
            "batches are between card and host"
        );
        let id = u32::try_from(card.ordinal).unwrap_or(0);
        let device = sys::aclrtMemLocation {
            id,
            type_: sys::ACL_MEM_LOCATION_TYPE_DEVICE,
        };
        let host = sys::aclrtMemLocation {
            id: 0,
            type_: sys::ACL_MEM_LOCATION_TYPE_HOST,
        };
        let (dst, src) = match direction {
            Direction::HostToDevice => (device, host),
            Direction::DeviceToHost | Direction::DeviceToDevice => (host, device),
        };
        let attribute = sys::aclrtMemcpyBatchAttr {
            dstLoc: dst,
            srcLoc: src,
            rsv: [0; 16],
        };
        Self {
            dsts: entries
                .iter()
                .map(|entry| entry.dst as *mut c_void)
                .collect(),
            srcs: entries
                .iter()
                .map(|entry| entry.src as *mut c_void)
                .collect(),
            sizes: entries.iter().map(|entry| entry.len).collect(),
            attributes: [attribute],
            indexes: [0],
            failed: usize::MAX,
        }
    }
}

/// # Safety
/// As for `Card::copy_batch`.
pub(super) unsafe fn batch(
    card: &AscendCard,
    stream: &StreamHandle,
    direction: Direction,
    entries: &[Entry],
) -> Answer<()> {
    let copy = offered(
        card.library.acl.aclrtMemcpyBatchAsync,
        "aclrtMemcpyBatchAsync",
    )?;
    let mut these = Arguments::new(card, direction, entries);
    let sizes = these.sizes.as_mut_ptr();
    // SAFETY: five arrays of the counts that are passed, which outlive the call, and addresses that
    // the caller keeps; sizes serve as the maxima, and neither is written.
    let code = unsafe {
        copy(
            these.dsts.as_mut_ptr(),
            sizes,
            these.srcs.as_mut_ptr(),
            sizes,
            entries.len(),
            these.attributes.as_mut_ptr(),
            these.indexes.as_mut_ptr(),
            1,
            &raw mut these.failed,
            stream.raw() as *mut c_void,
        )
    };
    if code == sys::ACL_ERROR_RT_FEATURE_NOT_SUPPORT {
        card.no_queued_batch.store(true, Ordering::Relaxed);
    }
    card.library.check("aclrtMemcpyBatchAsync", code)
}

/// # Safety
/// As for `Card::copy_direct`.
pub(super) unsafe fn direct(
    card: &AscendCard,
    direction: Direction,
    entries: &[Entry],
) -> Answer<()> {
    let refused = card.no_direct_batch.load(Ordering::Relaxed);
    if let Some(copy) = card.library.acl.aclrtMemcpyBatch
        && !refused
        && entries.len() > 1
    {
        let mut these = Arguments::new(card, direction, entries);
        let sizes = these.sizes.as_mut_ptr();
        // SAFETY: as for the queued call; both sides stand until this one returns.
        let code = unsafe {
            copy(
                these.dsts.as_mut_ptr(),
                sizes,
                these.srcs.as_mut_ptr(),
                sizes,
                entries.len(),
                these.attributes.as_mut_ptr(),
                these.indexes.as_mut_ptr(),
                1,
                &raw mut these.failed,
            )
        };
        if code != sys::ACL_ERROR_RT_FEATURE_NOT_SUPPORT {
            return card.library.check("aclrtMemcpyBatch", code);
        }
        card.no_direct_batch.store(true, Ordering::Relaxed);
    }
    let copy = card.library.acl.aclrtMemcpy;
    for entry in entries {
        let (dst, src) = (entry.dst as *mut c_void, entry.src as *const c_void);
        // SAFETY: one entry of the caller's, the destination as long as the copy.
        let code = unsafe { copy(dst, entry.len, src, entry.len, kind(direction)) };
        card.library.check("aclrtMemcpy", code)?;
    }
    Ok(())
}

/// # Safety
/// `[address, address + len)` is one allocation of the card.
pub(super) unsafe fn export(
    card: &AscendCard,
    address: usize,
    len: usize,
    pid: Option<i32>,
) -> Answer<Vec<u8>> {
    let acl = &card.library.acl;
    let export = offered(acl.aclrtIpcMemGetExportKey, "aclrtIpcMemGetExportKey")?;
    let flags = match pid {
        Some(_) => sys::ACL_RT_IPC_MEM_EXPORT_FLAG_DEFAULT,
        None => sys::ACL_RT_IPC_MEM_EXPORT_FLAG_DISABLE_PID_VALIDATION,
    };
    let mut key = vec![0_u8; sys::ACL_RT_IPC_KEY_LEN];
    let (at, room) = (address as *mut c_void, key.len());
    // SAFETY: the key's room is as long as said; the caller names an allocation.
    let code = unsafe { export(at, len, key.as_mut_ptr().cast(), room, flags) };
    card.library.check("aclrtIpcMemGetExportKey", code)?;
    if let Some(pid) = pid {
        let allow = offered(acl.aclrtIpcMemSetImportPid, "aclrtIpcMemSetImportPid")?;
        let mut pids = [pid];
        // SAFETY: the key is the one that was just written, and there is one process id.
        let code = unsafe { allow(key.as_ptr().cast(), pids.as_mut_ptr(), 1) };
        card.library.check("aclrtIpcMemSetImportPid", code)?;
    }
    Ok(key)
}

/// A key with its final zero, whoever sent it.
fn checked(key: &[u8]) -> Answer<Vec<u8>> {
    if key.len() != sys::ACL_RT_IPC_KEY_LEN {
        return Err(DeviceError::misuse("no key of this backend"));
    }
    let mut key = key.to_vec();
    key[sys::ACL_RT_IPC_KEY_LEN - 1] = 0;
    Ok(key)
}

pub(super) fn import(card: &AscendCard, key: &[u8]) -> Answer<ImportHandle> {
    let import = card.library.acl.aclrtIpcMemImportByKey;
    let import = offered(import, "aclrtIpcMemImportByKey")?;
    let key = checked(key)?;
    let mut address = std::ptr::null_mut();
    let flags = sys::ACL_RT_IPC_MEM_IMPORT_FLAG_ENABLE_PEER_ACCESS;
    // SAFETY: a string that ends with a zero, and a local for the address.
    let code = unsafe { import(&raw mut address, key.as_ptr().cast(), flags) };
    card.library.check("aclrtIpcMemImportByKey", code)?;
    Ok(ImportHandle {
        address: address as usize,
        key,
    })
}

pub(super) fn close_key(card: &AscendCard, key: &[u8]) -> Answer<()> {
    let close = offered(card.library.acl.aclrtIpcMemClose, "aclrtIpcMemClose")?;
    let key = checked(key)?;
    // SAFETY: a string that ends with a zero; a key that is closed already is refused.
    let code = unsafe { close(key.as_ptr().cast()) };
    card.library.check("aclrtIpcMemClose", code)
}
