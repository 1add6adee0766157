//! Communicators of two. The card's context is entered.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::Mutex;
use std::time::Duration;

use chariot_ascend_rt_sys::{HcclApi, comm_config, sys};

use super::card::{AscendCard, offered};
use crate::driver::{Answer, CommHandle, StreamHandle, Way};
use crate::error::DeviceError;

/// One set-up at a time on a card, as HCCL demands.
pub(super) type Turn = Mutex<()>;

/// Each of a communicator's two buffers on the card, in MiB: with HCCL's own 200, a few links would
/// eat the memory.
const BUFFER_MIB: u32 = 10;
/// The library's own, where it takes no configuration.
const DEFAULT_BUFFER_MIB: u32 = 200;
/// Expansion on the host: the fewest streams on the card.
const EXPANSION_HOST: u32 = 1;
/// A communicator that is busy is looked at so often, in such steps: a second in all.
const BUSY_LOOKS: u32 = 100;
const BUSY_STEP: Duration = Duration::from_millis(10);
const ROOT_BYTES: usize = size_of::<sys::HcclRootInfo>();

fn api(card: &AscendCard) -> Answer<&HcclApi> {
    offered(card.library.hccl.as_ref(), "HCCL")
}

fn words(hccl: &HcclApi, code: i32) -> Box<str> {
    let Some(ask) = hccl.HcclGetErrorString else {
        return "".into();
    };
    // SAFETY: any code may be asked about.
    let text = unsafe { ask(code) };
    if text.is_null() {
        return "".into();
    }
    // SAFETY: a constant of the library, which is never unloaded.
    let text = unsafe { CStr::from_ptr(text) };
    format!(": {}", text.to_string_lossy()).into()
}

fn check(hccl: &HcclApi, call: &'static str, code: sys::HcclResult) -> Answer<()> {
    Err(match code {
        sys::HCCL_SUCCESS => return Ok(()),
        sys::HCCL_E_TIMEOUT => DeviceError::Timeout { what: call },
        sys::HCCL_E_REMOTE
        | sys::HCCL_E_NETWORK
        | sys::HCCL_E_TCP_CONNECT
        | sys::HCCL_E_ROCE_CONNECT
        | sys::HCCL_E_OPRETRY_FAIL => DeviceError::PeerBroken { call, code },
        sys::HCCL_E_NOT_SUPPORT => DeviceError::Unsupported { what: call },
        sys::HCCL_E_OOM => DeviceError::DeviceMemory {
            bytes: u64::from(2 * BUFFER_MIB) << 20,
        },
        sys::HCCL_E_UNAVAIL => DeviceError::LinkBusy,
        sys::HCCL_E_AGAIN | sys::HCCL_E_MEMORY => DeviceError::Full { what: call },
        sys::HCCL_E_PARA | sys::HCCL_E_PTR => {
            let text = format!("{call} answered {code}{}", words(hccl, code));
            DeviceError::misuse(text)
        },
        code => DeviceError::Failed {
            call,
            code,
            text: words(hccl, code),
        },
    })
}

/// Bytes of a communicator's two buffers.
pub(super) fn buffer_bytes(card: &AscendCard) -> usize {
    let configures = card
        .library
        .hccl
        .as_ref()
        .is_some_and(|hccl| hccl.HcclCommInitRootInfoConfig.is_some());
    let mib = if configures {
        BUFFER_MIB
    } else {
        DEFAULT_BUFFER_MIB
    };
    usize::try_from(2 * mib).expect("small") << 20
}

pub(super) fn root_info(card: &AscendCard) -> Answer<Vec<u8>> {
    let hccl = api(card)?;
    let mut root = sys::HcclRootInfo {
        internal: [0; ROOT_BYTES],
    };
    // SAFETY: the library fills the structure, a local.
    let code = unsafe { (hccl.HcclGetRootInfo)(&raw mut root) };
    check(hccl, "HcclGetRootInfo", code)?;
    // All of it, zeros and all: it is no string.
    Ok(root
        .internal
        .iter()
        .map(|byte| byte.to_le_bytes()[0])
        .collect())
}

pub(super) fn init(card: &AscendCard, root: &[u8], rank: u32) -> Answer<CommHandle> {
    let hccl = api(card)?;
    if root.len() != ROOT_BYTES {
        return Err(DeviceError::misuse("no invitation of this backend"));
    }
    let mut info = sys::HcclRootInfo {
        internal: [0; ROOT_BYTES],
    };
    for (to, from) in info.internal.iter_mut().zip(root) {
        *to = c_char::from_le_bytes([*from]);
    }
    // A poisoned turn is free: its holder is gone.
    let _turn = match card.links.try_lock() {
        Ok(turn) => turn,
        Err(std::sync::TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(std::sync::TryLockError::WouldBlock) => return Err(DeviceError::LinkBusy),
    };
    let mut comm = null_mut();
    let info = &raw const info;
    let code = if let Some(init) = hccl.HcclCommInitRootInfoConfig {
        let config = comm_config(BUFFER_MIB, EXPANSION_HOST);
        // SAFETY: root info and configuration are locals, the handle goes to one; two ranks, of
        // which this is one.
        unsafe { init(2, info, rank, &raw const config, &raw mut comm) }
    } else {
        // SAFETY: as above, with the library's own configuration.
        unsafe { (hccl.HcclCommInitRootInfo)(2, info, rank, &raw mut comm) }
    };
    check(hccl, "HcclCommInitRootInfo", code)?;
    Ok(CommHandle {
        raw: comm as usize,
        rank,
    })
}

pub(super) fn destroy(card: &AscendCard, comm: &CommHandle) -> Answer<()> {
    let hccl = api(card)?;
    for _ in 0..BUSY_LOOKS {
        // SAFETY: the handle is given up here; one that is busy is refused and stays.
        let code = unsafe { (hccl.HcclCommDestroy)(comm.raw as *mut c_void) };
        if code != sys::HCCL_E_AGAIN {
            return check(hccl, "HcclCommDestroy", code);
        }
        // Somebody is inside a call on it, which the library does not let us wait for.
        std::thread::park_timeout(BUSY_STEP);
    }
    Err(DeviceError::Full {
        what: "a busy communicator",
    })
}

/// # Safety
/// As for `Card::comm_post`.
pub(super) unsafe fn post(
    card: &AscendCard,
    comm: &CommHandle,
    stream: &StreamHandle,
    way: Way,
    (address, len): (usize, usize),
) -> Answer<()> {
    let hccl = api(card)?;
    let (at, count, kind) = (address as *mut c_void, len as u64, sys::HCCL_DATA_TYPE_INT8);
    let (raw, stream) = (comm.raw as *mut c_void, stream.raw() as *mut c_void);
    let peer = 1 - comm.rank;
    let code = match way {
        // SAFETY: live handles of this card, and a range that the caller keeps.
        Way::Send => unsafe { (hccl.HcclSend)(at, count, kind, peer, raw, stream) },
        // SAFETY: the same for a destination.
        Way::Receive => unsafe { (hccl.HcclRecv)(at, count, kind, peer, raw, stream) },
    };
    check(hccl, "HcclSend or HcclRecv", code)
}
