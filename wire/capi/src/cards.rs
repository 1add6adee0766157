//! Objects from card to card, inside one host.

use std::time::Duration;

use chariot_client::{Error, Status};
use chariot_device::Device;
use chariot_peer::{DeviceBlob, DeviceObject, Outcomes};

use crate::batch::settle;
use crate::boundary::{answer, check_count, guard, handle, invalid, room, runs};
use crate::future::{FutureHandle, Waiting, plain};
use crate::hetero::{CBlobList, HeteroHandle, lists, owned};
use crate::options::Bytes;

/// Longest wait for a provider: a day, which every clock can add.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// The objects of a call, and the card that all lie on.
///
/// # Safety
///
/// As the functions below.
unsafe fn objects(
    hetero: &HeteroHandle,
    keys: *const Bytes,
    given: *const CBlobList,
    count: usize,
) -> Result<(Device, Vec<DeviceObject>), Error> {
    // SAFETY: the caller keeps this function's contract.
    let keys = unsafe { runs(keys, count) }?;
    // SAFETY: the caller keeps this function's contract.
    let lists = unsafe { lists(hetero.hetero.accelerators(), given, count) }?;
    let Some(device) = lists.first().map(|list| list.device().clone()) else {
        return Err(invalid("The keys are empty"));
    };
    if lists.iter().any(|list| !list.device().is(&device)) {
        return Err(invalid("all lists of a call are on one card"));
    }
    let blob = |blob: &chariot_hetero::Blob| DeviceBlob {
        memory: blob.memory.clone(),
        at: blob.at,
        len: blob.len,
    };
    let object = |(key, list): (&&[u8], &chariot_hetero::BlobList)| DeviceObject {
        key: key.to_vec(),
        blobs: list.blobs().iter().map(blob).collect(),
    };
    let objects = keys.iter().zip(&lists).map(object).collect();
    Ok((device, objects))
}

/// Stores a status a key.
///
/// # Safety
///
/// `statuses` has room for `count`.
unsafe fn store(outcomes: Outcomes, statuses: *mut i32, count: usize) -> Result<(), Error> {
    // SAFETY: the caller keeps this function's contract.
    let statuses = unsafe { room(statuses, count) }?;
    settle(outcomes.into_iter().map(plain), statuses, |_, _| {});
    Ok(())
}

/// Offers objects of a card to all others of this host until they are deleted, a status each:
/// `CHARIOT_EXISTS` where a key is in use. Threads: any.
///
/// # Safety
///
/// As `chariot_mset_d2h`; the memory stands, and does not change, until `chariot_dev_delete` or
/// `chariot_dev_local_delete` of its key, or `chariot_hetero_close`, has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_dev_mset(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    lists: *const CBlobList,
    count: usize,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = unsafe { handle(hetero) }?;
        // SAFETY: the caller's contract.
        let (device, objects) = unsafe { objects(hetero, keys, lists, count) }?;
        let outcomes = hetero.ports.put(&device, &objects)?;
        // SAFETY: the caller's contract.
        unsafe { store(outcomes, statuses, count) }
    })
}

/// Gets objects of other cards, a status each: `CHARIOT_NOT_FOUND` where nobody provides one
/// within `wait_us` microseconds; a transfer that has begun may take a minute more. What was got is
/// provided to others, as by `chariot_dev_mset`. Threads: any.
///
/// # Safety
///
/// As `chariot_dev_mset`; the blobs do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_dev_mget(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    lists: *const CBlobList,
    count: usize,
    wait_us: u64,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = unsafe { handle(hetero) }?;
        // SAFETY: the caller's contract.
        let (device, objects) = unsafe { objects(hetero, keys, lists, count) }?;
        let wait = Duration::from_micros(wait_us).min(WAIT_MAX);
        let outcomes = hetero.ports.get(&device, &objects, wait)?;
        // SAFETY: the caller's contract.
        unsafe { store(outcomes, statuses, count) }
    })
}

/// Offers objects to one receiver each, and stores a future each, over when its receiver has it;
/// null where the status says that it could not be offered. Threads: any.
///
/// # Safety
///
/// As `chariot_dev_mset`; the memory stands until its future is over. `futures` and `statuses` have
/// room for `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_dev_publish(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    lists: *const CBlobList,
    count: usize,
    futures: *mut *mut FutureHandle,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = unsafe { handle(hetero) }?;
        // SAFETY: the caller's contract.
        let (device, objects) = unsafe { objects(hetero, keys, lists, count) }?;
        // SAFETY: the caller's contract.
        let futures = unsafe { room(futures, count) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let published = hetero.ports.publish(&device, &objects)?;
        let results = published.into_iter().map(|one| Ok(Some(one?)));
        settle(results, statuses, |index, future| {
            let made = future.map(|future| FutureHandle::boxed(Waiting::Moved(future), 1));
            futures[index].write(made.unwrap_or(std::ptr::null_mut()));
        });
        Ok(())
    })
}

/// Receives objects that were published, and stores one future for all of them; null on failure.
/// It waits 20 s for a single object, 60 s for several. `CHARIOT_BUSY`: 256 calls are under way.
/// Threads: any.
///
/// # Safety
///
/// As `chariot_mget_h2d_async`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_dev_subscribe(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    lists: *const CBlobList,
    count: usize,
    future: *mut *mut FutureHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(future, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = unsafe { handle(hetero) }?;
        // SAFETY: the caller's contract.
        let (device, objects) = unsafe { objects(hetero, keys, lists, count) }?;
        if future.is_null() {
            return Err(invalid("nowhere to store the future"));
        }
        let promise = hetero.ports.subscribe(&device, objects)?;
        let made = FutureHandle::boxed(Waiting::Cards(promise), count);
        // SAFETY: the caller's contract.
        unsafe { answer(future, made) };
        Ok(())
    })
}

/// Asks about keys of cards, at most 10,000.
///
/// # Safety
///
/// As the functions below.
unsafe fn about(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    count: usize,
    statuses: *mut i32,
    ask: impl FnOnce(&HeteroHandle, &[&[u8]]) -> Outcomes,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = unsafe { handle(hetero) }?;
        check_count(count)?;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        let outcomes = ask(hetero, &keys);
        // SAFETY: the caller's contract.
        unsafe { store(outcomes, statuses, count) }
    })
}

/// Removes objects from all cards, a status each; one that was not there is `CHARIOT_OK`. Transfers
/// under way come to their end, and a card of another process that has a copy of its own hears of
/// it a moment later. Threads: any.
///
/// # Safety
///
/// `hetero` is null or open; `count` keys lie there, each with its bytes; `statuses` has room for
/// `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_dev_delete(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    count: usize,
    statuses: *mut i32,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        about(hetero, keys, count, statuses, |hetero, keys| {
            hetero.ports.delete(keys)
        })
    }
}

/// Provides objects no longer from this client's cards, a status each; returns when nothing is sent
/// from their memory any more. Threads: any.
///
/// # Safety
///
/// As `chariot_dev_delete`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_dev_local_delete(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    count: usize,
    statuses: *mut i32,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        about(hetero, keys, count, statuses, |hetero, keys| {
            hetero.ports.local_delete(keys)
        })
    }
}

/// As `chariot_dev_delete`, on another thread. Stores a future; null on failure. `CHARIOT_BUSY`:
/// 256 calls are under way. Threads: any.
///
/// # Safety
///
/// As `chariot_dev_delete`; `future` is null or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_dev_delete_async(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    count: usize,
    future: *mut *mut FutureHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(future, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = unsafe { handle(hetero) }?;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        if future.is_null() {
            return Err(invalid("nowhere to store the future"));
        }
        if keys.is_empty() {
            return Err(Error::new(Status::InvalidArgument, "The keys are empty"));
        }
        let promise = hetero.ports.delete_later(owned(&keys))?;
        let made = FutureHandle::boxed(Waiting::Cards(promise), count);
        // SAFETY: the caller's contract.
        unsafe { answer(future, made) };
        Ok(())
    })
}
