//! Communicators of this process, and how one is made.
//!
//! Rules 9 and 11 of the device facts, 5.2. Ranks meet at the board, under the id that the root
//! info carries among zeros and 0xFF; all 4108 bytes count, so that a copy as a string is noticed.

pub(crate) mod pairs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chariot_ascend_rt_sys::sys;

use crate::board::{Board, Comm, Member, RANKS_MAX};
use crate::config::config;
use crate::{Code, clock, fault};

/// One communicator as this process has it.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) comm: u64,
    pub(crate) rank: u32,
    pub(crate) ranks: u32,
    pub(crate) device: u32,
    hbm: u64,
    /// Operations so far, by direction and peer: the order in which they pair.
    pub(crate) sequences: BTreeMap<(bool, u32), u64>,
    pub(crate) error: Code,
    pub(crate) completed: u64,
}

const COMM: u64 = 0x5104 << 48;

static COMMS: Mutex<BTreeMap<u64, Local>> = Mutex::new(BTreeMap::new());
static BEGINNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// The communicators of this process.
pub(crate) fn comms() -> MutexGuard<'static, BTreeMap<u64, Local>> {
    COMMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Length of the part of a root info that the check sum covers.
const COVERED: usize = sys::HCCL_ROOT_INFO_BYTES as usize - 8;

fn check_sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Opens a place to meet and writes its name.
pub(crate) fn root_info() -> Result<Vec<u8>, Code> {
    let mut tables = Board::of_host().lock();
    let id = tables.fresh_id();
    let members = |comm: &Comm| {
        comm.members
            .iter()
            .any(|member| tables.lives(member.process))
    };
    let free = |comm: &Comm| comm.id == 0 || (comm.ranks > 0 && !members(comm));
    let slot = tables
        .comms
        .iter()
        .position(free)
        .ok_or(sys::HCCL_E_MEMORY)?;
    tables.comms[slot] = Comm {
        id,
        ranks: 0,
        gone: 0,
        time: 0,
        error: 0,
        members: [Member {
            process: 0,
            device: 0,
            present: 0,
        }; RANKS_MAX],
    };
    let mut bytes = vec![0; COVERED];
    bytes[2..10].copy_from_slice(&id.to_le_bytes());
    for (index, byte) in bytes.iter_mut().enumerate().skip(16) {
        *byte = if index % 3 == 0 {
            0xFF
        } else {
            (index as u8).wrapping_mul(7) & 0x7F
        };
    }
    bytes.extend(check_sum(&bytes).to_le_bytes());
    Ok(bytes)
}

fn parse_root_info(bytes: &[u8]) -> Result<u64, Code> {
    let (covered, sum) = bytes.split_at(COVERED);
    if check_sum(covered).to_le_bytes() != sum {
        crate::log("the root info is not what HcclGetRootInfo gave: copied as a string?");
        return Err(sys::HCCL_E_PARA);
    }
    let id: [u8; 8] = covered[2..10].try_into().map_err(|_| sys::HCCL_E_PARA)?;
    Ok(u64::from_le_bytes(id))
}

/// Only one thread of a card may make a communicator at a time.
struct Beginning(u32);

impl Beginning {
    fn of(device: u32) -> Result<Self, Code> {
        let mut beginning = BEGINNING.lock().unwrap_or_else(PoisonError::into_inner);
        if !beginning.insert(device) {
            crate::log(&format!(
                "card {device}: two threads make communicators at once"
            ));
            return Err(sys::HCCL_E_UNAVAIL);
        }
        Ok(Self(device))
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let mut beginning = BEGINNING.lock().unwrap_or_else(PoisonError::into_inner);
        beginning.remove(&self.0);
    }
}

/// Makes a communicator: waits for all ranks, pays the set-up, and takes its buffers from the card.
pub(crate) fn init(
    device: u32,
    ranks: u32,
    root: &[u8],
    rank: u32,
    buffer_mib: u64,
) -> Result<u64, Code> {
    let id = parse_root_info(root)?;
    if ranks == 0 || ranks as usize > RANKS_MAX || rank >= ranks {
        return Err(sys::HCCL_E_PARA);
    }
    let _alone = Beginning::of(device)?;
    let unused = |local: &Local| local.device == device && local.completed == 0;
    if config().strict && comms().values().any(unused) {
        crate::log("a communicator before the last one has completed an operation");
        return Err(sys::HCCL_E_UNAVAIL);
    }
    let board = Board::of_host();
    let hbm = 2 * (buffer_mib << 20);
    let limit = fault::hbm_limit(device).unwrap_or(config().hbm_bytes);
    if !board.lock().charge_hbm(board.process, device, hbm, limit) {
        return Err(sys::HCCL_E_OOM);
    }
    let met = meet(board, id, ranks, rank, device);
    let time = match met {
        Ok(time) => time,
        Err(code) => {
            board.lock().credit_hbm(board.process, device, hbm);
            return Err(code);
        },
    };
    let done = time + config().preset.link_setup_ns;
    clock::wait_until(done);
    clock::reach(done);
    let handle = COMM | board.lock().fresh_id();
    let local = Local {
        comm: id,
        rank,
        ranks,
        device,
        hbm,
        sequences: BTreeMap::new(),
        error: sys::HCCL_SUCCESS,
        completed: 0,
    };
    comms().insert(handle, local);
    Ok(handle)
}

/// Waits at the board for the other ranks. Returns when the last of them came.
fn meet(board: &Board, id: u64, ranks: u32, rank: u32, device: u32) -> Result<u64, Code> {
    {
        let mut tables = board.lock();
        let comm = tables
            .comms
            .iter_mut()
            .find(|comm| comm.id == id)
            .ok_or(sys::HCCL_E_PARA)?;
        let taken = comm.members[rank as usize].present != 0;
        if taken || (comm.ranks != 0 && comm.ranks != ranks) {
            return Err(sys::HCCL_E_PARA);
        }
        comm.ranks = ranks;
        comm.time = comm.time.max(clock::now());
        comm.members[rank as usize] = Member {
            process: board.process,
            device,
            present: 1,
        };
    }
    board.changed();
    let begun = Instant::now();
    loop {
        let ticket = board.ticket();
        let mut tables = board.lock();
        let Some(at) = tables.comms.iter().position(|comm| comm.id == id) else {
            return Err(sys::HCCL_E_REMOTE);
        };
        let members = &tables.comms[at].members[..ranks as usize];
        if members.iter().all(|member| member.present != 0) {
            return Ok(tables.comms[at].time);
        }
        let died = |member: &Member| member.present != 0 && !tables.lives(member.process);
        let dead = members.iter().any(died);
        if dead || begun.elapsed() >= config().connect_timeout {
            tables.comms[at].members[rank as usize].present = 0;
            return Err(if dead {
                sys::HCCL_E_REMOTE
            } else {
                sys::HCCL_E_TIMEOUT
            });
        }
        drop(tables);
        let left = config().connect_timeout.saturating_sub(begun.elapsed());
        board.wait(ticket, left.min(Duration::from_millis(20)));
    }
}

/// Ends a communicator; its peers' operations fail from then on.
pub(crate) fn destroy(handle: u64) -> Result<(), Code> {
    let mut comms = comms();
    let local = comms.get(&handle).ok_or(sys::HCCL_E_PARA)?;
    let board = Board::of_host();
    let mut tables = board.lock();
    // This rank's own operations: the other rank may be of the same process.
    let busy = tables.operations.iter().any(|operation| {
        let own = if operation.send == 1 {
            operation.from
        } else {
            operation.to
        };
        let of_this = operation.comm == local.comm && operation.process == board.process;
        operation.id != 0 && of_this && own == local.rank
    });
    if busy {
        return Err(sys::HCCL_E_AGAIN);
    }
    tables.credit_hbm(board.process, local.device, local.hbm);
    if let Some(comm) = tables.comms.iter_mut().find(|comm| comm.id == local.comm) {
        comm.members[local.rank as usize].process = 0;
        comm.gone += 1;
        if comm.gone == comm.ranks {
            comm.id = 0;
        }
    }
    drop(tables);
    board.changed();
    comms.remove(&handle);
    Ok(())
}
