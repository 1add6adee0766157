//! Objects: values with latches, references, nested keys and an end to change; transactions.
//!
//! Only over shared memory: over TCP these calls answer `CHARIOT_NOT_SUPPORTED`, all but creating,
//! publishing and reading.

use std::ffi::c_void;
use std::time::Duration;

use chariot_client::{Error, LatchKind, ObjectBuffer};

use crate::batch::{ask, settle};
use crate::boundary::{answer, bytes, guard, guard_value, handle, invalid, room, runs};
use crate::client::ClientHandle;
use crate::options::{Bytes, CSetOptions, set_options};

/// An object that was created or opened. Opaque; one thread at a time.
///
/// Ends with `chariot_object_release`, which also releases its latches.
#[derive(Debug)]
pub struct ObjectHandle {
    object: ObjectBuffer,
}

/// The latch that others may share.
pub const CHARIOT_LATCH_SHARED: u8 = 0;
/// The latch that nobody shares.
pub const CHARIOT_LATCH_EXCLUSIVE: u8 = 1;

/// Borrows an object to change it.
///
/// # Safety
///
/// `object` is null or an object that nobody else uses during `'a`.
unsafe fn changed<'a>(object: *mut ObjectHandle) -> Result<&'a mut ObjectBuffer, Error> {
    // SAFETY: the caller keeps this function's contract.
    let object = unsafe { object.as_mut() };
    object
        .map(|handle| &mut handle.object)
        .ok_or_else(|| invalid("a handle is null"))
}

fn latch_kind(kind: u8) -> Result<LatchKind, Error> {
    match kind {
        CHARIOT_LATCH_SHARED => Ok(LatchKind::Shared),
        CHARIOT_LATCH_EXCLUSIVE => Ok(LatchKind::Exclusive),
        _ => Err(invalid("a latch is none of CHARIOT_LATCH_*")),
    }
}

/// Lends memory of `len` bytes for an object, unpublished. Stores null on failure. Statuses as
/// `chariot_create`. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `key_len` bytes lie at `key`; `options` is null or filled;
/// `object` is null or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_create(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
    len: usize,
    options: *const CSetOptions,
    object: *mut *mut ObjectHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(object, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { set_options(options) }?;
        if object.is_null() {
            return Err(invalid("nowhere to store the object"));
        }
        let created = client.objects().create(key, len, &options)?;
        let boxed = Box::into_raw(Box::new(ObjectHandle { object: created }));
        // SAFETY: the caller's contract.
        unsafe { answer(object, boxed) };
        Ok(())
    })
}

/// Opens objects; null for what was not found. `wait_us`: how long to wait for those that do not
/// exist yet. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; both arrays of
/// answers have room for `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mget_object(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    wait_us: u64,
    objects: *mut *mut ObjectHandle,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let objects = unsafe { room(objects, count) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let wait = (wait_us != 0).then(|| Duration::from_micros(wait_us));
        let results = client.objects().get(&keys, wait);
        settle(results, statuses, |index, found| {
            let boxed = found.map(|object| Box::into_raw(Box::new(ObjectHandle { object })));
            objects[index].write(boxed.unwrap_or(std::ptr::null_mut()));
        });
        Ok(())
    })
}

/// The length of an object in bytes; 0 for null. Threads: the one that has the object.
///
/// # Safety
///
/// `object` is null or an object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_len(object: *const ObjectHandle) -> usize {
    guard_value(0, || {
        // SAFETY: the caller's contract.
        unsafe { object.as_ref() }.map_or(0, |handle| handle.object.len())
    })
}

/// The bytes of an object, valid until it is written, published, invalidated or released; null
/// for null and when the bytes are gone. Threads: the one that has the object.
///
/// # Safety
///
/// `object` is null or an object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_data(object: *const ObjectHandle) -> *const c_void {
    guard_value(std::ptr::null(), || {
        // SAFETY: the caller's contract.
        let data = unsafe { handle(object) }.and_then(|handle| handle.object.data());
        data.map_or(std::ptr::null(), |data| data.as_ptr().cast())
    })
}

/// Stores the address of the bytes of an object, to be written; others see them after the next
/// publish. What was published stays as it is: the object takes new memory with a copy.
/// Threads: the one that has the object.
///
/// # Safety
///
/// `object` is null or an object; `data` is null or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_data_mut(
    object: *mut ObjectHandle,
    data: *mut *mut c_void,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(data, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let bytes = unsafe { changed(object) }?.data_mut()?;
        // SAFETY: the caller's contract.
        unsafe { answer(data, bytes.as_mut_ptr().cast()) };
        Ok(())
    })
}

/// Makes the bytes the object's value; may be repeated. The nested keys live at least as long as
/// this version does. Stores the version (null: not wanted). `CHARIOT_SEALED`: nothing was changed.
/// Threads: the one that has the object.
///
/// # Safety
///
/// `object` is null or an object; `nested_count` keys lie at `nested`, each with its bytes;
/// `version` is null or has room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_publish(
    object: *mut ObjectHandle,
    nested: *const Bytes,
    nested_count: usize,
    version: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let nested = unsafe { runs(nested, nested_count) }?;
        // SAFETY: the caller's contract.
        let published = unsafe { changed(object) }?.publish(&nested)?;
        // SAFETY: the caller's contract.
        unsafe { answer(version, published.raw()) };
        Ok(())
    })
}

/// Publishes, and ends all change: later publishes by anybody are `CHARIOT_SEALED` for as long as
/// the value exists. Threads: the one that has the object.
///
/// # Safety
///
/// As `chariot_object_publish`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_seal(
    object: *mut ObjectHandle,
    nested: *const Bytes,
    nested_count: usize,
    version: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let nested = unsafe { runs(nested, nested_count) }?;
        // SAFETY: the caller's contract.
        let sealed = unsafe { changed(object) }?.seal(&nested)?;
        // SAFETY: the caller's contract.
        unsafe { answer(version, sealed.raw()) };
        Ok(())
    })
}

/// Gives the bytes up: what is unpublished is lost, the published value stays in the cache.
/// Threads: the one that has the object.
///
/// # Safety
///
/// `object` is null or an object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_invalidate(object: *mut ObjectHandle) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        unsafe { changed(object) }?.invalidate();
        Ok(())
    })
}

/// Takes the object's latch, one of `CHARIOT_LATCH_*`; `CHARIOT_TIMEOUT` when it was not free in
/// `wait_us`. Threads: the one that has the object.
///
/// # Safety
///
/// `object` is null or an object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_latch(
    object: *mut ObjectHandle,
    kind: u8,
    wait_us: u64,
) -> i32 {
    guard(|| {
        let kind = latch_kind(kind)?;
        // SAFETY: the caller's contract.
        unsafe { changed(object) }?.latch(kind, Duration::from_micros(wait_us))
    })
}

/// Releases the latch of that kind that the object took last; `CHARIOT_NOT_FOUND` when it holds
/// none. Threads: the one that has the object.
///
/// # Safety
///
/// `object` is null or an object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_unlatch(object: *mut ObjectHandle, kind: u8) -> i32 {
    guard(|| {
        let kind = latch_kind(kind)?;
        // SAFETY: the caller's contract.
        unsafe { changed(object) }?.unlatch(kind)
    })
}

/// Releases an object and its latches; null is ignored. Threads: the one that has the object.
///
/// # Safety
///
/// `object` is null or an object that is not released yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_object_release(object: *mut ObjectHandle) {
    if !object.is_null() {
        guard(|| {
            // SAFETY: made by Box::into_raw above, and released once only.
            drop(unsafe { Box::from_raw(object) });
            Ok(())
        });
    }
}

/// Adds a reference of this client to each key; keys need not exist yet. What is referred to is
/// neither evicted nor deleted. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; `statuses` has
/// room for `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_increase_refs(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    statuses: *mut i32,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        ask(client, keys, count, statuses, |client, keys| {
            let results = client.objects().increase_refs(keys);
            results
                .into_iter()
                .map(|done| done.map(|()| true))
                .collect()
        })
    }
}

/// Drops a reference of this client to each key; the last one of all deletes the object. A key
/// without one is no error. Threads: any.
///
/// # Safety
///
/// As `chariot_increase_refs`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_decrease_refs(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    statuses: *mut i32,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        ask(client, keys, count, statuses, |client, keys| {
            let results = client.objects().decrease_refs(keys);
            results
                .into_iter()
                .map(|done| done.map(|()| true))
                .collect()
        })
    }
}

/// Stores how many clients refer to a key. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `key_len` bytes lie at `key`; `clients` is null or has room for a
/// number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_global_refs(
    client: *const ClientHandle,
    key: *const c_void,
    key_len: usize,
    clients: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key, key_len) }?;
        let counted = client.objects().global_refs(key)?;
        // SAFETY: the caller's contract.
        unsafe { answer(clients, counted) };
        Ok(())
    })
}

/// Stores 1 to 8 values, all or none, only if none of the keys has a value (else
/// `CHARIOT_EXISTS`). `CHARIOT_TIMEOUT`, `CHARIOT_RESTARTING`: unknown, but all or nothing.
/// Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys` and as many values at `values`, each
/// with its bytes; `options` is null or filled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mset_tx(
    client: *const ClientHandle,
    keys: *const Bytes,
    values: *const Bytes,
    count: usize,
    options: *const CSetOptions,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let values = unsafe { runs(values, count) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { set_options(options) }?;
        let items: Vec<(&[u8], &[u8])> = keys.into_iter().zip(values).collect();
        client.multi_set_tx(&items, &options)
    })
}
