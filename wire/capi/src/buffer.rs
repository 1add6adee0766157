//! Write buffers: memory to write a value in place, then to publish it under its key.

use std::ffi::c_void;

use chariot_client::{Client, WriteBuffer};

use crate::boundary::{answer, check_count, failed, guard, guard_value, invalid, room, slice};
use crate::status::CHARIOT_OK;

/// Memory for one value. Opaque; one thread at a time.
///
/// The bytes are unspecified until written: write all of them. Ends with `chariot_buffer_publish`
/// or `chariot_buffer_discard`.
#[derive(Debug)]
pub struct BufferHandle {
    pub(crate) buffer: WriteBuffer,
}

impl BufferHandle {
    pub(crate) fn boxed(buffer: WriteBuffer) -> *mut Self {
        Box::into_raw(Box::new(Self { buffer }))
    }
}

/// The first byte of a buffer, valid until it is published or discarded; null for null.
/// Threads: the one that has the buffer.
///
/// # Safety
///
/// `buffer` is null or a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_buffer_data(buffer: *mut BufferHandle) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: the caller's contract; a buffer is used by one thread at a time.
        let buffer = unsafe { buffer.as_mut() };
        buffer.map_or(std::ptr::null_mut(), |buffer| {
            buffer.buffer.as_mut_ptr().cast()
        })
    })
}

/// The length of a buffer in bytes; 0 for null. Threads: the one that has the buffer.
///
/// # Safety
///
/// `buffer` is null or a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_buffer_len(buffer: *const BufferHandle) -> usize {
    guard_value(0, || {
        // SAFETY: the caller's contract.
        unsafe { buffer.as_ref() }.map_or(0, |buffer| buffer.buffer.len())
    })
}

/// Publishes a buffer under its key and stores the version (null: not wanted). The buffer is used
/// up, also on failure: its value is gone then. Statuses as `chariot_set`.
/// Threads: the one that has the buffer.
///
/// # Safety
///
/// `buffer` is null or a buffer; `version` is null or has room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_buffer_publish(
    buffer: *mut BufferHandle,
    version: *mut u64,
) -> i32 {
    guard(|| {
        if buffer.is_null() {
            return Err(invalid("a handle is null"));
        }
        // SAFETY: from `BufferHandle::boxed`, and used up once only: the caller's contract.
        let buffer = unsafe { Box::from_raw(buffer) };
        let published = buffer.buffer.publish()?;
        // SAFETY: the caller's contract.
        unsafe { answer(version, published.raw()) };
        Ok(())
    })
}

/// Publishes many buffers, all of which are used up; null ones are `CHARIOT_INVALID_ARGUMENT`. Not
/// atomic. Stores a status each, and a version each where `versions` is not null (0 on failure).
/// Returns `CHARIOT_OK` when the arguments made sense. Threads: the one that has the buffers.
///
/// # Safety
///
/// `count` pointers lie at `buffers`, each null or a buffer, no two alike; there is room for
/// `count` statuses, and for as many versions where not null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mpublish(
    buffers: *const *mut BufferHandle,
    count: usize,
    statuses: *mut i32,
    versions: *mut u64,
) -> i32 {
    guard(|| {
        check_count(count)?;
        // SAFETY: the caller's contract.
        let buffers = unsafe { slice(buffers, count) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let wanted = if versions.is_null() { 0 } else { count };
        // SAFETY: the caller's contract.
        let versions = unsafe { room(versions, wanted) }?;
        let mut given = Vec::new();
        for &buffer in buffers.iter().filter(|buffer| !buffer.is_null()) {
            // SAFETY: from `BufferHandle::boxed`, and used up once only: the caller's contract.
            given.push(unsafe { Box::from_raw(buffer) }.buffer);
        }
        let mut published = Client::mpublish(given).into_iter();
        for (index, buffer) in buffers.iter().enumerate() {
            let result = if buffer.is_null() {
                Err(invalid("a handle is null"))
            } else {
                published
                    .next()
                    .unwrap_or_else(|| Err(invalid("no result")))
            };
            let (status, version) = match result {
                Ok(version) => (CHARIOT_OK, version.raw()),
                Err(error) => (failed(&error), 0),
            };
            statuses[index].write(status);
            if let Some(slot) = versions.get_mut(index) {
                slot.write(version);
            }
        }
        Ok(())
    })
}

/// Gives a buffer back unpublished; null is ignored. Threads: the one that has the buffer.
///
/// # Safety
///
/// `buffer` is null or a buffer that is neither published nor discarded yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_buffer_discard(buffer: *mut BufferHandle) {
    if !buffer.is_null() {
        guard(|| {
            // SAFETY: from `BufferHandle::boxed`, and used up once only: the caller's contract.
            drop(unsafe { Box::from_raw(buffer) });
            Ok(())
        });
    }
}

/// Stores one result of `mcreate`.
pub(crate) fn created(
    result: Result<WriteBuffer, chariot_client::Error>,
) -> (i32, *mut BufferHandle) {
    match result {
        Ok(buffer) => (CHARIOT_OK, BufferHandle::boxed(buffer)),
        Err(error) => (failed(&error), std::ptr::null_mut()),
    }
}
