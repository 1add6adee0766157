//! One key a call.

use std::ffi::c_void;
use std::time::Duration;

use crate::boundary::{answer, bytes, guard, handle, invalid, miss, room};
use crate::buffer::BufferHandle;
use crate::client::ClientHandle;
use crate::options::{CGetOptions, CSetOptions, get_options, set_options};
use crate::view::ViewHandle;

/// Writes a value of at least 1 byte and stores its version (null: not wanted).
///
/// `CHARIOT_EXISTS` with `if_absent`; `CHARIOT_OUT_OF_MEMORY` when nothing may be evicted for it
/// within the deadline; `CHARIOT_RESTARTING`, `CHARIOT_TIMEOUT`: the outcome is unknown, write
/// again. Key and value are copied before the call returns. Threads: any.
///
/// # Safety
///
/// As the pointers say: `key_len` bytes at `key`, `value_len` bytes at `value`; `client` is null or
/// a client, `options` null or filled, `version` null or room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_set(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const CSetOptions,
    version: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        // SAFETY: the caller's contract.
        let value = unsafe { bytes(value, value_len) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { set_options(options) }?;
        let written = client.set(key, value, &options)?;
        // SAFETY: the caller's contract.
        unsafe { answer(version, written.raw()) };
        Ok(())
    })
}

/// Reads a value, or a range of it, into the caller's buffer and stores its length.
///
/// `CHARIOT_NOT_FOUND` is a miss. `CHARIOT_INVALID_ARGUMENT` when the value is longer than the
/// buffer (then nothing is stored): ask `chariot_size`. Threads: any.
///
/// # Safety
///
/// As `chariot_set`; room for `buffer_len` bytes lies at `buffer`, which nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_get(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    buffer_len: usize,
    options: *const CGetOptions,
    len: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { get_options(options) }?;
        // SAFETY: the caller's contract. Memory from beyond the ABI counts as initialised: what
        // lies in it is not read, only written over.
        let buffer = unsafe { room_bytes(buffer, buffer_len) }?;
        let found = client
            .get_into_with(key, buffer, &options)?
            .ok_or_else(miss)?;
        // SAFETY: the caller's contract.
        unsafe { answer(len, found) };
        Ok(())
    })
}

/// Lends the bytes of a value, or of a range of it, in place; to be released with
/// `chariot_view_release`. Stores null on a miss (`CHARIOT_NOT_FOUND`) and on failure.
///
/// Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `key_len` bytes lie at `key`; `options` is null or filled; where
/// an answer is stored there is room for it, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_get_view(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
    options: *const CGetOptions,
    view: *mut *mut ViewHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(view, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { get_options(options) }?;
        if view.is_null() {
            return Err(invalid("nowhere to store the view"));
        }
        let found = client.view_with(key, &options)?.ok_or_else(miss)?;
        // SAFETY: the caller's contract.
        unsafe { answer(view, ViewHandle::boxed(found)) };
        Ok(())
    })
}

/// Tells whether a key has a value: `CHARIOT_OK` or `CHARIOT_NOT_FOUND`. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `key_len` bytes lie at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_exist(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        if !client.exist(key)? {
            return Err(miss());
        }
        Ok(())
    })
}

/// Stores the length of a value in bytes; `CHARIOT_NOT_FOUND` is a miss. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `key_len` bytes lie at `key`; where an answer is stored there is
/// room for it, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_size(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
    size: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        let found = client.size(key)?.ok_or_else(miss)?;
        // SAFETY: the caller's contract.
        unsafe { answer(size, found) };
        Ok(())
    })
}

/// Deletes a key; `CHARIOT_NOT_FOUND` when it had no value. `CHARIOT_RESTARTING`,
/// `CHARIOT_TIMEOUT`: the outcome is unknown. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `key_len` bytes lie at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_delete(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        if !client.delete(key)? {
            return Err(miss());
        }
        Ok(())
    })
}

/// Replaces the life of a key (0: no expiry); `CHARIOT_NOT_FOUND` when it has no value.
/// Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `key_len` bytes lie at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_expire(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
    ttl_ms: u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        if !client.expire(key, life(ttl_ms))? {
            return Err(miss());
        }
        Ok(())
    })
}

/// Lends memory of `len` bytes to write a value in place; see `chariot_buffer_publish`. Stores null
/// on failure. Statuses as `chariot_set`. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `key_len` bytes lie at `key`; `options` is null or filled; where
/// an answer is stored there is room for it, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_create(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
    len: usize,
    options: *const CSetOptions,
    buffer: *mut *mut BufferHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(buffer, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { set_options(options) }?;
        if buffer.is_null() {
            return Err(invalid("nowhere to store the buffer"));
        }
        let lent = client.create(key, len, &options)?;
        // SAFETY: the caller's contract.
        unsafe { answer(buffer, BufferHandle::boxed(lent)) };
        Ok(())
    })
}

pub(crate) fn life(ttl_ms: u64) -> Option<Duration> {
    (ttl_ms != 0).then(|| Duration::from_millis(ttl_ms))
}

/// Borrows bytes of the caller to be written over.
///
/// # Safety
///
/// As [`room`]; the memory may hold anything.
pub(crate) unsafe fn room_bytes<'a>(
    pointer: *mut c_void,
    len: usize,
) -> Result<&'a mut [u8], chariot_client::Error> {
    // SAFETY: the caller keeps this function's contract.
    let room = unsafe { room(pointer.cast::<u8>(), len) }?;
    let first: *mut u8 = room.as_mut_ptr().cast();
    // SAFETY: the same memory, in the same borrow; every bit pattern is a byte.
    Ok(unsafe { std::slice::from_raw_parts_mut(first, room.len()) })
}
