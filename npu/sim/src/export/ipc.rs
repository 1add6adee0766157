//! tidy: table of C symbols, wide by its signatures. Device memory of another process: keys, who
//! may use them, and what importing gives.

use std::ffi::{c_char, c_void};
use std::fs::OpenOptions;

use chariot_ascend_rt_sys::sys;

use super::{export, put, take, text};
use crate::board::{ALLOWED_MAX, Board, Export};
use crate::memory::{self, Backing, map_file};
use crate::{Code, state};

fn key_of(key: *const c_char) -> Result<u64, Code> {
    let text = text(key)?;
    let digits = text
        .strip_prefix("asim-ipc-")
        .ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
    u64::from_str_radix(digits, 16).map_err(|_| sys::ACL_ERROR_RT_PARAM_INVALID)
}

export! {
    Ready aclrtIpcMemGetExportKey as aclrtIpcMemGetExportKey_fn(
        pointer: *mut c_void, size: usize, key: *mut c_char, len: usize, flags: u64,
    ) {
        if len < sys::ACL_RT_IPC_KEY_LEN || size == 0 {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        let state = state::lock();
        let invalid = sys::ACL_ERROR_RT_PARAM_INVALID;
        let (device, offset) = memory::locate(pointer as u64).ok_or(invalid)?;
        let found = state.devices.get(&device).ok_or(invalid)?;
        match found.block(offset, size as u64) {
            Some((_, block)) if matches!(block.backing, Backing::Own) => {},
            _ => return Err(invalid),
        }
        let board = Board::of_host();
        let mut tables = board.lock();
        let id = tables.fresh_id();
        let free = tables.exports.iter().position(|slot| slot.id == 0 || !tables.lives(slot.process));
        let free = free.ok_or(sys::ACL_ERROR_RT_RESOURCE_ALLOC_FAIL)?;
        tables.exports[free] = Export {
            id,
            process: board.process,
            offset,
            size: size as u64,
            device,
            any_process: u32::from(flags & 1 != 0),
            allowed: [0; ALLOWED_MAX],
            imports: 0,
            pid: std::process::id() as i32,
        };
        for (index, byte) in format!("asim-ipc-{id:x}\0").bytes().enumerate() {
            put(key.wrapping_add(index), byte as c_char)?;
        }
        Ok(())
    }
    Ready aclrtIpcMemSetImportPid as aclrtIpcMemSetImportPid_fn(
        key: *const c_char, pids: *mut i32, count: usize,
    ) {
        let id = key_of(key)?;
        if count > ALLOWED_MAX {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        let pids = take(pids, count)?;
        let board = Board::of_host();
        let mut tables = board.lock();
        let own = |slot: &&mut Export| slot.id == id && slot.process == board.process;
        let slot = tables.exports.iter_mut().find(own).ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
        slot.allowed[..count].copy_from_slice(&pids);
        Ok(())
    }
    Ready aclrtIpcMemImportByKey as aclrtIpcMemImportByKey_fn(
        pointer: *mut *mut c_void, key: *const c_char, flags: u64,
    ) {
        let id = key_of(key)?;
        let mut state = state::lock();
        let device = state.current_device()?;
        let mut tables = Board::of_host().lock();
        let slot = tables.exports.iter().find(|slot| slot.id == id).copied();
        let slot = slot.ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
        if !tables.lives(slot.process) {
            return Err(sys::ACL_ERROR_RT_SUSPECT_REMOTE);
        }
        let own = std::process::id() as i32;
        if slot.any_process == 0 && !slot.allowed.contains(&own) {
            return Err(sys::ACL_ERROR_RT_IPC);
        }
        if slot.device != device.id && flags & 1 == 0 {
            // Memory of another card needs the access that this flag asks for.
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        if let Some(slot) = tables.exports.iter_mut().find(|slot| slot.id == id) {
            slot.imports += 1;
        }
        drop(tables);
        let path = Board::memory_path(slot.pid, slot.device);
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|_| sys::ACL_ERROR_RT_SUSPECT_REMOTE)?;
        let map = map_file(&file, slot.offset, slot.size as usize);
        let map = map.ok_or(sys::ACL_ERROR_RT_DRV_INTERNAL)?.as_ptr() as usize;
        let backing = Backing::Import {
            map,
            owner: slot.process,
            owner_device: slot.device,
            key: id,
        };
        let address = device.import(slot.size, backing).ok_or(sys::ACL_ERROR_RT_RESOURCE_ALLOC_FAIL)?;
        put(pointer, address as *mut c_void)
    }
    Ready aclrtIpcMemClose as aclrtIpcMemClose_fn(key: *const c_char) {
        let id = key_of(key)?;
        let mut state = state::lock();
        let closed = state.devices.values_mut().any(|device| device.close_imports(id));
        let board = Board::of_host();
        let mut tables = board.lock();
        let slot = tables.exports.iter_mut().find(|slot| slot.id == id);
        match slot {
            Some(slot) if closed => slot.imports = slot.imports.saturating_sub(1),
            Some(slot) if slot.process == board.process => {
                if slot.imports > 0 {
                    // The importer goes first (device facts, 1.4); the exporter cannot force it.
                    crate::count("closed_before_importer");
                }
                slot.id = 0;
            },
            _ if closed => {},
            _ => return Err(sys::ACL_ERROR_RT_PARAM_INVALID),
        }
        Ok(())
    }
}
