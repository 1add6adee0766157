//! What a copy may do, what it costs, and the copying.
//!
//! Rules 4 and 5 of the device facts, 5.2, and section 1.4: which arguments are refused at the
//! call, and what becomes of memory that is not page-locked.

use chariot_ascend_rt_sys::sys;

use crate::config::config;
use crate::link::{self, Preset, Route};
use crate::memory::{self, Backing};
use crate::state::State;
use crate::{Code, clock, numa, state};

/// One copy that was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(crate) dst: u64,
    pub(crate) src: u64,
    pub(crate) len: u64,
    pub(crate) route: Route,
    pub(crate) pageable: bool,
    /// Host memory of another NUMA node than the card's.
    pub(crate) far: bool,
}

impl Copy {
    /// What it takes of its link: slow bytes count several times.
    fn weight(&self, preset: &Preset) -> u64 {
        let pageable = if self.pageable { preset.pageable } else { 1 };
        let far = if self.far { preset.far } else { 1 };
        self.len * pageable * far
    }
}

/// Where an address points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Device { device: u32, import_of: Option<u32> },
    Pinned { readonly: bool },
    Pageable,
}

/// Finds out where `[address, address + len)` is. Addresses for kernels alone are refused.
pub(crate) fn place(state: &State, address: u64, len: u64) -> Result<Place, Code> {
    if address == 0 || address.checked_add(len).is_none() {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    if let Some((device, offset)) = memory::locate(address) {
        let block = state
            .devices
            .get(&device)
            .and_then(|found| found.block(offset, 1));
        let import_of = block.and_then(|(_, block)| match &block.backing {
            Backing::Import { owner_device, .. } => Some(*owner_device),
            Backing::Own => None,
        });
        return Ok(Place::Device { device, import_of });
    }
    if is_alias(address) {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    Ok(match state.host_range(address, len) {
        Some(range) if range.locked => Place::Pinned {
            readonly: range.readonly,
        },
        _ => Place::Pageable,
    })
}

/// Addresses that registering host memory gives for kernels, outside what any process can map.
const ALIAS: u64 = 0x5110 << 48;

/// The kernel's address of a registered host address.
pub(crate) fn alias(host: u64) -> u64 {
    ALIAS | (host & ((1 << 48) - 1))
}

fn is_alias(address: u64) -> bool {
    address >> 48 == ALIAS >> 48
}

/// Checks one copy of a call. `kind` of none: both sides speak for themselves.
pub(crate) fn accept(
    state: &State,
    (dst, src): (u64, u64),
    (dest_max, len): (usize, usize),
    kind: Option<i32>,
) -> Result<Copy, Code> {
    if len == 0 || len > dest_max {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    if kind.is_some_and(|kind| !(0..=7).contains(&kind)) {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    let len = len as u64;
    let places = (place(state, dst, len)?, place(state, src, len)?);
    if matches!(places.0, Place::Pinned { readonly: true }) {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    let route = match places {
        (
            Place::Device { device, import_of },
            Place::Device {
                device: other,
                import_of: from,
            },
        ) => {
            let (to, from) = (import_of.unwrap_or(device), from.unwrap_or(other));
            // Imports got their access when they were imported; cards of one process need a permit.
            let permitted = device == other || permits(state, device, other);
            if !permitted {
                return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
            }
            if to == from {
                Route::Local(to)
            } else {
                Route::Peer { from, to }
            }
        },
        (Place::Device { device, import_of }, _) => Route::HostToDevice(own(device, import_of)?),
        (_, Place::Device { device, import_of }) => Route::DeviceToHost(own(device, import_of)?),
        _ => Route::Host,
    };
    check_card(state, route)?;
    if let Some(kind) = kind {
        check_kind(kind, route)?;
    }
    let pageable = places.0 == Place::Pageable || places.1 == Place::Pageable;
    let far = match route {
        Route::HostToDevice(card) => numa::is_far(state, src, card),
        Route::DeviceToHost(card) => numa::is_far(state, dst, card),
        Route::Local(_) | Route::Peer { .. } | Route::Host => false,
    };
    Ok(Copy {
        dst,
        src,
        len,
        route,
        pageable: pageable && route != Route::Host,
        far,
    })
}

fn permits(state: &State, device: u32, other: u32) -> bool {
    let allowed = |from: u32, to: u32| {
        let device = state.devices.get(&from);
        device.is_some_and(|device| device.peers.contains(&to))
    };
    allowed(device, other) || allowed(other, device)
}

/// A thread copies with its own card; another card's memory there is a bug that an address shows.
fn check_card(state: &State, route: Route) -> Result<(), Code> {
    let (_, current) = state.current()?;
    match route {
        Route::HostToDevice(card) | Route::DeviceToHost(card) if card != current => {
            crate::log(&format!(
                "memory of card {card} in a copy of card {current}"
            ));
            crate::count("wrong_card");
            Err(sys::ACL_ERROR_RT_PARAM_INVALID)
        },
        _ => Ok(()),
    }
}

/// The card whose memory an address is, when the calling thread may write it.
pub(crate) fn accept_set(
    state: &State,
    address: u64,
    (max, len): (usize, usize),
) -> Result<u32, Code> {
    if len == 0 || len > max {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    let (card, _) = memory::locate(address).ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
    check_card(state, Route::HostToDevice(card))?;
    Ok(card)
}

/// Memory imported from another card cannot meet the host.
fn own(device: u32, import_of: Option<u32>) -> Result<u32, Code> {
    match import_of {
        Some(owner) if owner != device => Err(sys::ACL_ERROR_RT_PARAM_INVALID),
        _ => Ok(device),
    }
}

/// A direction that the addresses contradict. The runtime corrects it where it can; a program that
/// needs this has a bug that other drivers do not forgive, so it is counted, and refused under
/// `strict`.
fn check_kind(kind: i32, route: Route) -> Result<(), Code> {
    let fits = match kind {
        sys::ACL_MEMCPY_HOST_TO_HOST => route == Route::Host,
        sys::ACL_MEMCPY_HOST_TO_DEVICE => matches!(route, Route::HostToDevice(_)),
        sys::ACL_MEMCPY_DEVICE_TO_HOST => matches!(route, Route::DeviceToHost(_)),
        sys::ACL_MEMCPY_DEVICE_TO_DEVICE | 6 | 7 => {
            matches!(route, Route::Local(_) | Route::Peer { .. })
        },
        _ => true,
    };
    if !fits {
        crate::count("kind_corrected");
        if config().strict {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
    }
    Ok(())
}

/// Does the copies one after the other, or as a batch of the engine. Returns when they end.
pub(crate) fn run(copies: &[Copy], batch: bool, flip: bool, start: u64) -> (u64, Result<(), Code>) {
    let preset = config().preset;
    let mut at = start;
    if batch {
        at += preset.task_ns + preset.entry_ns * copies.len() as u64;
    }
    for (index, copy) in copies.iter().enumerate() {
        if let Err(code) = move_bytes(copy, flip && index == 0) {
            return (at, Err(code));
        }
        if !batch {
            at += preset.task_ns;
            at = link::reserve(preset, copy.route, copy.weight(preset), at);
        }
    }
    if batch && let Some(first) = copies.first() {
        let bytes = copies.iter().map(|copy| copy.weight(preset)).sum();
        at = link::reserve(preset, first.route, bytes, at);
    }
    (at, Ok(()))
}

/// Where the simulator reaches `[address, address + len)` now, whoever asked for it and when.
pub(crate) fn reach(address: u64, len: u64) -> Result<usize, Code> {
    let Some((device, offset)) = memory::locate(address) else {
        return Ok(address as usize);
    };
    let state = state::lock();
    let device = state
        .devices
        .get(&device)
        .ok_or(sys::ACL_ERROR_RT_DEVICE_MEM_ERROR)?;
    if device.lost {
        return Err(sys::ACL_ERROR_RT_LOST_HEARTBEAT);
    }
    device.bytes(offset, len)
}

fn move_bytes(copy: &Copy, flip: bool) -> Result<(), Code> {
    let from = reach(copy.src, copy.len)? as *const u8;
    let to = reach(copy.dst, copy.len)? as *mut u8;
    // SAFETY: device ranges were found inside live blocks of mappings that are never undone; host
    // ranges are the caller's promise, as with the real runtime, until the stream has passed them.
    unsafe { std::ptr::copy(from, to, copy.len as usize) };
    if flip {
        let at = to.wrapping_add(copy.len as usize / 2);
        // SAFETY: half of the length lies inside the range that was just written.
        let byte = unsafe { at.read() };
        // SAFETY: the same byte, written again.
        unsafe { at.write(byte ^ 0x10) };
    }
    Ok(())
}

/// Fills device memory.
pub(crate) fn run_set(
    device: u32,
    address: u64,
    value: u8,
    len: u64,
    start: u64,
) -> (u64, Result<(), Code>) {
    let preset = config().preset;
    let at = start + preset.task_ns;
    match reach(address, len) {
        Ok(to) => {
            // SAFETY: the range is inside a live block, as `reach` found.
            unsafe { std::ptr::write_bytes(to as *mut u8, value, len as usize) };
        },
        Err(code) => return (at, Err(code)),
    }
    (link::reserve(preset, Route::Local(device), len, at), Ok(()))
}

/// Does copies on the calling thread, which waits for them.
pub(crate) fn run_here(copies: &[Copy], batch: bool) -> Result<(), Code> {
    clock::charge(config().preset.submit_ns);
    let (finish, outcome) = run(copies, batch, false, clock::now());
    clock::wait_until(finish);
    clock::reach(finish);
    outcome
}
