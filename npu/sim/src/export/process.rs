//! tidy: table of C symbols, wide by its signatures. Process, device and context.

use std::ffi::{c_char, c_void};
use std::sync::Once;
use std::time::Duration;

use chariot_ascend_rt_sys::sys;

use super::{export, put};
use crate::board::Board;
use crate::config::config;
use crate::state::{self, CONTEXT, Context, Phase};
use crate::{audit, clock, stream};

/// Ends everything that the process has, after the audit.
fn finalize() {
    let mut state = state::lock();
    audit::report(&state);
    let devices: Vec<u32> = state.devices.keys().copied().collect();
    for device in devices {
        state.close_device(device);
    }
    state.phase = Phase::Finalized;
    crate::hccl::comms().clear();
    drop(state);
    state::changed();
    Board::of_host().leave();
}

/// At the end of a process that did not finalise: the audit all the same.
extern "C" fn at_exit() {
    // A thread that was stopped by the exit may hold the lock for ever: then there is no audit.
    let ready = std::panic::catch_unwind(|| state::lock().phase == Phase::Ready);
    if matches!(ready, Ok(true)) {
        finalize();
    }
}

export! {
    Always aclInit as aclInit_fn(_config: *const c_char) {
        static AT_EXIT: Once = Once::new();
        let mut state = state::lock();
        match state.phase {
            Phase::Ready => return Err(sys::ACL_ERROR_REPEAT_INITIALIZE),
            Phase::Finalized => Board::of_host().rejoin(),
            Phase::Fresh => {
                Board::of_host();
                // SAFETY: the function lives as long as the library, which is never unloaded.
                AT_EXIT.call_once(|| assert!(unsafe { libc::atexit(at_exit) } == 0));
            },
        }
        state.phase = Phase::Ready;
        Ok(())
    }
    Always aclFinalize as aclFinalize_fn() {
        match state::lock().phase {
            Phase::Fresh => return Err(sys::ACL_ERROR_UNINITIALIZE),
            Phase::Finalized => return Err(sys::ACL_ERROR_REPEAT_FINALIZE),
            Phase::Ready => {},
        }
        finalize();
        Ok(())
    }
    Ready aclFinalizeReference as aclFinalizeReference_fn(left: *mut u64) {
        put(left, 0)?;
        finalize();
        Ok(())
    }
    Always aclsysGetVersionStr as aclsysGetVersionStr_fn(_package: *mut c_char, version: *mut c_char) {
        for (index, byte) in format!("sim-{}\0", config().preset.name).bytes().enumerate() {
            put(version.wrapping_add(index), byte as c_char)?;
        }
        Ok(())
    }
    Ready aclrtSetDevice as aclrtSetDevice_fn(device: i32) {
        let mut state = state::lock();
        let device = state.open_device(device)?;
        let context = state.default_context(device);
        if let Some(device) = state.devices.get_mut(&device) {
            device.references += 1;
        }
        state::set_current(Some(context));
        Ok(())
    }
    Ready aclrtResetDevice as aclrtResetDevice_fn(device: i32) {
        let mut state = state::lock();
        let id = u32::try_from(device).map_err(|_| sys::ACL_ERROR_RT_INVALID_DEVICEID)?;
        let found = state.devices.get_mut(&id).ok_or(sys::ACL_ERROR_RT_INVALID_DEVICEID)?;
        found.references = found.references.saturating_sub(1);
        if found.references == 0 {
            state.close_device(id);
            state::changed();
        }
        Ok(())
    }
    Ready aclrtResetDeviceForce as aclrtResetDeviceForce_fn(device: i32) {
        let mut state = state::lock();
        let id = u32::try_from(device).map_err(|_| sys::ACL_ERROR_RT_INVALID_DEVICEID)?;
        if !state.devices.contains_key(&id) {
            return Err(sys::ACL_ERROR_RT_INVALID_DEVICEID);
        }
        state.close_device(id);
        state::changed();
        Ok(())
    }
    Ready aclrtGetDevice as aclrtGetDevice_fn(device: *mut i32) {
        let (_, current) = state::lock().current()?;
        put(device, current as i32)
    }
    Ready aclrtGetDeviceCount as aclrtGetDeviceCount_fn(count: *mut u32) {
        put(count, config().devices)
    }
    Ready aclrtQueryDeviceStatus as aclrtQueryDeviceStatus_fn(device: i32, status: *mut i32) {
        let mut state = state::lock();
        let id = state.open_device(device)?;
        let lost = state.devices.get(&id).is_some_and(|device| device.lost);
        let abnormal = if lost { sys::ACL_DEVICE_STATUS_ABNORMAL } else { sys::ACL_DEVICE_STATUS_NORMAL };
        put(status, abnormal)
    }
    Ready aclrtSynchronizeDevice as aclrtSynchronizeDevice_fn() {
        synchronize_device(None)
    }
    Ready aclrtSynchronizeDeviceWithTimeout as aclrtSynchronizeDeviceWithTimeout_fn(timeout_ms: i32) {
        synchronize_device(u64::try_from(timeout_ms).ok().map(Duration::from_millis))
    }
    Ready aclrtDeviceTaskAbort as aclrtDeviceTaskAbort_fn(device: i32, _timeout_ms: u32) {
        for id in streams_of(device as u32) {
            stream::abort(id);
        }
        Ok(())
    }
    Ready aclrtDeviceCanAccessPeer as aclrtDeviceCanAccessPeer_fn(can: *mut i32, device: i32, peer: i32) {
        let known = |id: i32| (0..config().devices as i32).contains(&id);
        if !known(device) || !known(peer) {
            return Err(sys::ACL_ERROR_RT_INVALID_DEVICEID);
        }
        put(can, i32::from(device != peer))
    }
    Ready aclrtDeviceEnablePeerAccess as aclrtDeviceEnablePeerAccess_fn(peer: i32, flags: u32) {
        let mut state = state::lock();
        let peer = u32::try_from(peer).map_err(|_| sys::ACL_ERROR_RT_INVALID_DEVICEID)?;
        let device = state.current_device()?;
        if flags != 0 || peer == device.id || peer >= config().devices {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        if !device.peers.contains(&peer) {
            device.peers.push(peer);
        }
        Ok(())
    }
    Ready aclrtDeviceDisablePeerAccess as aclrtDeviceDisablePeerAccess_fn(peer: i32) {
        let mut state = state::lock();
        let device = state.current_device()?;
        device.peers.retain(|other| *other as i32 != peer);
        Ok(())
    }
    Ready aclrtGetDevicesTopo as aclrtGetDevicesTopo_fn(device: u32, other: u32, value: *mut u64) {
        if device >= config().devices || other >= config().devices {
            return Err(sys::ACL_ERROR_RT_INVALID_DEVICEID);
        }
        put(value, sys::ACL_RT_DEVS_TOPOLOGY_HCCS)
    }
    Ready aclrtGetDeviceInfo as aclrtGetDeviceInfo_fn(device: u32, attribute: i32, value: *mut i64) {
        if device >= config().devices {
            return Err(sys::ACL_ERROR_RT_INVALID_DEVICEID);
        }
        match attribute {
            301 => put(value, config().hbm_bytes as i64),
            402 | 403 => put(value, i64::from(device)),
            405 => put(value, 0),
            _ => Err(sys::ACL_ERROR_RT_FEATURE_NOT_SUPPORT),
        }
    }
    Ready aclrtDeviceGetBareTgid as aclrtDeviceGetBareTgid_fn(pid: *mut i32) {
        put(pid, std::process::id() as i32)
    }
    Ready aclrtCreateContext as aclrtCreateContext_fn(context: *mut *mut c_void, device: i32) {
        let mut state = state::lock();
        let device = state.open_device(device)?;
        let id = state.fresh(CONTEXT);
        let made = Context { device, is_default: false, default_stream: None };
        state.contexts.insert(id, made);
        state::set_current(Some(id));
        put(context, id as *mut c_void)
    }
    Ready aclrtDestroyContext as aclrtDestroyContext_fn(context: *mut c_void) {
        let mut state = state::lock();
        let id = context as u64;
        match state.contexts.get(&id) {
            Some(found) if !found.is_default => {},
            _ => return Err(sys::ACL_ERROR_RT_CONTEXT_NULL),
        }
        state.contexts.remove(&id);
        for stream in state.streams.values_mut().filter(|stream| stream.context == id) {
            stream.abort();
        }
        state.streams.retain(|_, stream| stream.context != id);
        state::changed();
        Ok(())
    }
    Ready aclrtSetCurrentContext as aclrtSetCurrentContext_fn(context: *mut c_void) {
        let state = state::lock();
        let id = context as u64;
        if !state.contexts.contains_key(&id) {
            return Err(sys::ACL_ERROR_RT_CONTEXT_NULL);
        }
        state::set_current(Some(id));
        Ok(())
    }
    Ready aclrtGetCurrentContext as aclrtGetCurrentContext_fn(context: *mut *mut c_void) {
        let (id, _) = state::lock().current()?;
        put(context, id as *mut c_void)
    }
}

fn streams_of(device: u32) -> Vec<u64> {
    let state = state::lock();
    let streams = state
        .streams
        .iter()
        .filter(|(_, stream)| stream.device == device);
    streams.map(|(id, _)| *id).collect()
}

fn synchronize_device(timeout: Option<Duration>) -> Result<(), crate::Code> {
    clock::charge(config().preset.submit_ns);
    let (_, device) = state::lock().current()?;
    let mut outcome = Ok(());
    for id in streams_of(device) {
        outcome = outcome.and(stream::synchronize(id, timeout));
    }
    outcome
}

#[unsafe(no_mangle)]
extern "C" fn aclrtGetSocName() -> *const c_char {
    static NAME: std::sync::OnceLock<std::ffi::CString> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::ffi::CString::new(config().preset.soc).unwrap_or_default())
        .as_ptr()
}
const _: sys::aclrtGetSocName_fn = Some(aclrtGetSocName);
