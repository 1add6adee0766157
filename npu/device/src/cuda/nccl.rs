//! NCCL: communicators of two. The card's context is entered.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use chariot_ascend_rt_sys::{Libraries, Search};

use super::api::function;
use super::card::CudaCard;
use crate::driver::{Answer, CommHandle, StreamHandle, Way};
use crate::error::DeviceError;

/// What `ncclGetUniqueId` gives, and `ncclCommInitRank` takes by value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct UniqueId([u8; 128]);

type Comm = *mut c_void;

const SUCCESS: c_int = 0;
const SYSTEM_ERROR: c_int = 2;
const INVALID_ARGUMENT: c_int = 4;
const INVALID_USAGE: c_int = 5;
const REMOTE_ERROR: c_int = 6;
const INT8: c_int = 0;

/// The functions of NCCL that are called.
#[derive(Debug)]
pub(super) struct NcclApi {
    get_version: unsafe extern "C" fn(*mut c_int) -> c_int,
    get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
    init_rank: unsafe extern "C" fn(*mut Comm, c_int, UniqueId, c_int) -> c_int,
    destroy: unsafe extern "C" fn(Comm) -> c_int,
    send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Comm, *mut c_void) -> c_int,
    receive: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Comm, *mut c_void) -> c_int,
}

macro_rules! symbol {
    ($libraries:ident, $symbol:literal) => {{
        let address = $libraries.find($symbol)?;
        // SAFETY: NCCL's symbol of this name has the type of the field that takes it, as NCCL's
        // own documentation gives it; the library is never unloaded.
        unsafe { function(address) }
    }};
}

impl NcclApi {
    /// Finds NCCL under the name that distributions and wheels give it.
    pub(super) fn find(search: &Search) -> Option<Self> {
        let libraries = Libraries::open(search, &["libnccl.so.2", "libnccl.so"]).ok()?;
        Some(Self {
            get_version: symbol!(libraries, "ncclGetVersion"),
            get_unique_id: symbol!(libraries, "ncclGetUniqueId"),
            init_rank: symbol!(libraries, "ncclCommInitRank"),
            destroy: symbol!(libraries, "ncclCommDestroy"),
            send: symbol!(libraries, "ncclSend"),
            receive: symbol!(libraries, "ncclRecv"),
        })
    }

    /// For reports.
    pub(super) fn version(&self) -> String {
        let mut version = 0;
        // SAFETY: the number goes to a local.
        let answer = unsafe { (self.get_version)(&raw mut version) };
        if answer == SUCCESS {
            format!("NCCL {version}")
        } else {
            "NCCL".to_owned()
        }
    }
}

fn check(call: &'static str, answer: c_int) -> Answer<()> {
    Err(match answer {
        SUCCESS => return Ok(()),
        SYSTEM_ERROR | REMOTE_ERROR => DeviceError::PeerBroken { call, code: answer },
        INVALID_ARGUMENT | INVALID_USAGE => {
            let text = format!("{call} answered {answer}: two ends on one card?");
            DeviceError::misuse(text)
        },
        _ => DeviceError::Failed {
            call,
            code: answer,
            text: "".into(),
        },
    })
}

fn api(card: &CudaCard) -> Answer<&NcclApi> {
    card.library
        .nccl
        .as_ref()
        .ok_or(DeviceError::Unsupported { what: "NCCL" })
}

pub(super) fn root_info(card: &CudaCard) -> Answer<Vec<u8>> {
    let mut id = UniqueId([0; 128]);
    // SAFETY: the library fills the local.
    let answer = unsafe { (api(card)?.get_unique_id)(&raw mut id) };
    check("ncclGetUniqueId", answer)?;
    Ok(id.0.to_vec())
}

pub(super) fn init(card: &CudaCard, root: &[u8], rank: u32) -> Answer<CommHandle> {
    let root = <[u8; 128]>::try_from(root);
    let root = root.map_err(|_len| DeviceError::misuse("no invitation of this backend"))?;
    let of = c_int::try_from(rank).unwrap_or(0);
    let mut comm = null_mut();
    // SAFETY: two ranks, of which this is one; the handle goes to a local, the id by value.
    let answer = unsafe { (api(card)?.init_rank)(&raw mut comm, 2, UniqueId(root), of) };
    check("ncclCommInitRank", answer)?;
    Ok(CommHandle {
        raw: comm as usize,
        rank,
    })
}

pub(super) fn destroy(card: &CudaCard, comm: &CommHandle) -> Answer<()> {
    // SAFETY: the handle is given up here; the link's stream was drained before.
    let answer = unsafe { (api(card)?.destroy)(comm.raw as Comm) };
    check("ncclCommDestroy", answer)
}

/// # Safety
/// As for `Card::comm_post`.
pub(super) unsafe fn post(
    card: &CudaCard,
    comm: &CommHandle,
    stream: &StreamHandle,
    way: Way,
    (address, len): (usize, usize),
) -> Answer<()> {
    let nccl = api(card)?;
    let peer = c_int::from(comm.rank == 0);
    let (raw, stream) = (comm.raw as Comm, stream.raw() as *mut c_void);
    let answer = match way {
        // SAFETY: live handles of this card, and a range that the caller keeps.
        Way::Send => unsafe { (nccl.send)(address as *const c_void, len, INT8, peer, raw, stream) },
        // SAFETY: the same for a destination.
        Way::Receive => unsafe {
            (nccl.receive)(address as *mut c_void, len, INT8, peer, raw, stream)
        },
    };
    check("ncclSend or ncclRecv", answer)
}
