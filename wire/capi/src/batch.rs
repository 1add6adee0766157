//! Many keys a call: a status each, in the order of the keys.
//!
//! A call returns `CHARIOT_OK` when its arguments made sense; how each key ended stands in its
//! status. At most 100,000 keys, `CHARIOT_TOO_LARGE` beyond, with nothing done.

use std::mem::MaybeUninit;

use chariot_client::{Client, Error};

use crate::boundary::{answer, failed, guard, handle, room, runs, slice};
use crate::buffer::{BufferHandle, created};
use crate::call::{life, room_bytes};
use crate::client::ClientHandle;
use crate::options::{Bytes, BytesMut, CGetOptions, CSetOptions, get_options, set_options};
use crate::status::{CHARIOT_NOT_FOUND, CHARIOT_OK};
use crate::view::ViewHandle;

/// Stores one result each: the status, and through `store` what was found.
pub(crate) fn settle<T>(
    results: impl IntoIterator<Item = Result<Option<T>, Error>>,
    statuses: &mut [MaybeUninit<i32>],
    mut store: impl FnMut(usize, Option<T>),
) {
    let mut settled = 0;
    for (index, result) in results.into_iter().enumerate() {
        let (status, found) = match result {
            Ok(Some(found)) => (CHARIOT_OK, Some(found)),
            Ok(None) => (CHARIOT_NOT_FOUND, None),
            Err(error) => (failed(&error), None),
        };
        statuses[index].write(status);
        store(index, found);
        settled = index + 1;
    }
    assert_eq!(settled, statuses.len(), "one result a key");
}

fn some<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    result.map(Some)
}

fn found(result: Result<bool, Error>) -> Result<Option<()>, Error> {
    result.map(|found| found.then_some(()))
}

/// Answers a question whose answer is the status alone.
///
/// # Safety
///
/// As the functions below.
pub(crate) unsafe fn ask(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    statuses: *mut i32,
    question: impl FnOnce(&Client, &[&[u8]]) -> Vec<Result<bool, Error>>,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        settle(
            question(client, &keys).into_iter().map(found),
            statuses,
            |_, _| {},
        );
        Ok(())
    })
}

/// Writes many values. Not atomic; of items with the same key the first is written. Stores a
/// version each where `versions` is not null (0 on failure). Statuses as `chariot_set`.
/// Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mset(
    client: *const ClientHandle,
    keys: *const Bytes,
    values: *const Bytes,
    count: usize,
    options: *const CSetOptions,
    statuses: *mut i32,
    versions: *mut u64,
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
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let wanted = if versions.is_null() { 0 } else { count };
        // SAFETY: the caller's contract.
        let versions = unsafe { room(versions, wanted) }?;
        let items: Vec<(&[u8], &[u8])> = keys.into_iter().zip(values).collect();
        let results = client.mset(&items, &options).into_iter().map(some);
        settle(results, statuses, |index, version| {
            if let Some(slot) = versions.get_mut(index) {
                slot.write(version.map_or(0, chariot_client::Version::raw));
            }
        });
        Ok(())
    })
}

/// Reads many values into the caller's buffers, one each, and stores the lengths (0 on a miss and
/// on failure). Statuses as `chariot_get`. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed The
/// buffers do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mget(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    buffers: *const BytesMut,
    lens: *mut usize,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let spans = unsafe { slice(buffers, count) }?;
        // SAFETY: the caller's contract.
        let lens = unsafe { room(lens, count) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let borrow = |span: &BytesMut| {
            // SAFETY: the caller's contract, for each: room that nobody else uses.
            unsafe { room_bytes(span.data, span.len) }
        };
        let mut buffers: Vec<&mut [u8]> = spans.iter().map(borrow).collect::<Result<_, _>>()?;
        let results = client.mget_into(&keys, &mut buffers);
        settle(results, statuses, |index, len| {
            lens[index].write(len.unwrap_or(0));
        });
        Ok(())
    })
}

/// Lends the bytes of many values in place, each to be released; null for what was not found. A
/// range, a wait and a deadline hold for all keys. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mget_view(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    options: *const CGetOptions,
    views: *mut *mut ViewHandle,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { get_options(options) }?;
        // SAFETY: the caller's contract.
        let views = unsafe { room(views, count) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let results = client.mview_with(&keys, &options);
        settle(results, statuses, |index, view| {
            views[index].write(view.map_or(std::ptr::null_mut(), ViewHandle::boxed));
        });
        Ok(())
    })
}

/// Tells for each key whether it has a value: `CHARIOT_OK` or `CHARIOT_NOT_FOUND`. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mexist(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    statuses: *mut i32,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        ask(client, keys, count, statuses, |client, keys| {
            client.mexist(keys)
        })
    }
}

/// Deletes many keys; `CHARIOT_NOT_FOUND` for those without a value. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mdelete(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    statuses: *mut i32,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        ask(client, keys, count, statuses, |client, keys| {
            client.mdelete(keys)
        })
    }
}

/// Replaces the life of many keys (0: no expiry); `CHARIOT_NOT_FOUND` for those without a value.
/// Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mexpire(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    ttl_ms: u64,
    statuses: *mut i32,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        ask(client, keys, count, statuses, |client, keys| {
            client.mexpire(keys, life(ttl_ms))
        })
    }
}

/// Stores the length of each value (0 on a miss and on failure). Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_msize(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    sizes: *mut u64,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let sizes = unsafe { room(sizes, count) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        settle(client.msize(&keys), statuses, |index, size| {
            sizes[index].write(size.unwrap_or(0));
        });
        Ok(())
    })
}

/// Stores how many of the keys, counted from the front without a gap, have a value. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_prefix(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    len: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        let counted = client.prefix(&keys)?;
        // SAFETY: the caller's contract.
        unsafe { answer(len, counted) };
        Ok(())
    })
}

/// Lends memory for many values to write in place; null where the status is not `CHARIOT_OK`.
/// Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `count` keys lie at `keys`, each with its bytes; every array of
/// answers has room for `count`, or is null where that is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mcreate(
    client: *const ClientHandle,
    keys: *const Bytes,
    count: usize,
    lens: *const usize,
    options: *const CSetOptions,
    buffers: *mut *mut BufferHandle,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let client = &unsafe { handle(client) }?.client;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let lens = unsafe { slice(lens, count) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { set_options(options) }?;
        // SAFETY: the caller's contract.
        let buffers = unsafe { room(buffers, count) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let items: Vec<(&[u8], usize)> = keys.into_iter().zip(lens.iter().copied()).collect();
        let results = client.mcreate(&items, &options).into_iter();
        for (index, result) in results.enumerate() {
            let (status, buffer) = created(result);
            statuses[index].write(status);
            buffers[index].write(buffer);
        }
        Ok(())
    })
}
