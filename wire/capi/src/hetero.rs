//! Objects of device memory: between a card and the cache.
//!
//! ```text
//!  chariot_hetero_open ─▶ hetero.rs (cache)        ─▶ chariot-hetero
//!                         cards.rs (card to card)  ─▶ chariot-peer
//!                           └─ future.rs: outcomes of what runs on a thread of its own
//! ```
//! The process's accelerators are found once, and shared by all clients of a backend.

use std::any::Any;
use std::sync::Arc;

use chariot_client::{Error, Status};
use chariot_device::BackendKind;
use chariot_hetero::{
    Accelerators, Backend, BlobList, GetOutcome, HeteroClient, SetOutcome, Stored,
};
use chariot_peer::Ports;

use crate::batch::settle;
use crate::boundary::{answer, guard, handle, invalid, room, runs, slice};
use crate::client::ClientHandle;
use crate::future::{FutureHandle, Waiting};
use crate::options::{Bytes, CGetOptions, CSetOptions, get_options, set_options};

/// Ascend where its libraries are found, else CUDA, else an error at the first call.
pub const CHARIOT_BACKEND_AUTO: u8 = 0;
/// Ascend: `AscendCL` and HCCL.
pub const CHARIOT_BACKEND_ASCEND: u8 = 1;
/// The CUDA driver.
pub const CHARIOT_BACKEND_CUDA: u8 = 2;
/// Memory of this process stands in for the cards'.
pub const CHARIOT_BACKEND_HOST: u8 = 3;

/// In a blob list: the card that the calling thread works with already.
pub const CHARIOT_CARD_CURRENT: i32 = -2;
/// In a blob list: memory of this process.
pub const CHARIOT_CARD_HOST: i32 = -3;

/// The device calls of one client. Opaque. Any number of threads may use it at once.
#[derive(Debug)]
pub struct HeteroHandle {
    pub(crate) hetero: HeteroClient,
    pub(crate) ports: Ports,
}

/// A range of a card's memory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Blob {
    /// Its first byte, in the card's addresses; not 0.
    pub address: u64,
    /// How many bytes, at least 1.
    pub len: u64,
}

/// The memory of one object: blobs of one card, in order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CBlobList {
    /// The card's number, or one of `CHARIOT_CARD_*`.
    pub card: i32,
    /// Zero.
    pub reserved: u32,
    /// The blobs.
    pub blobs: *const Blob,
    /// How many, at least 1.
    pub count: usize,
}

/// Makes the device calls of a client, and stores them, to be closed with `chariot_hetero_close`;
/// null on failure. `backend` is one of `CHARIOT_BACKEND_*`. A machine without cards is no failure
/// here: the calls that need one answer `CHARIOT_NOT_SUPPORTED`, and say what is missing.
/// Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `hetero` is null or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_hetero_open(
    client: *const ClientHandle,
    backend: u8,
    hetero: *mut *mut HeteroHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(hetero, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let client = unsafe { handle(client) }?.client.clone();
        if hetero.is_null() {
            return Err(invalid("nowhere to store the device calls"));
        }
        let backend = match backend {
            CHARIOT_BACKEND_AUTO => Backend::Auto,
            CHARIOT_BACKEND_ASCEND => Backend::Ascend,
            CHARIOT_BACKEND_CUDA => Backend::Cuda,
            CHARIOT_BACKEND_HOST => Backend::Host,
            _ => return Err(invalid("backend is none of CHARIOT_BACKEND_*")),
        };
        let ports = Ports::new(client.clone());
        let opened = HeteroClient::new(client, &Accelerators::shared(backend))?;
        let boxed = Box::new(HeteroHandle {
            hetero: opened,
            ports,
        });
        // SAFETY: the caller's contract.
        unsafe { answer(hetero, Box::into_raw(boxed)) };
        Ok(())
    })
}

/// Closes the device calls; null is ignored. Waits for asynchronous copies under way; objects that
/// this client's cards provided are provided no longer. The client stays open. Threads: any, after
/// all other calls on it have returned.
///
/// # Safety
///
/// `hetero` is null or came from `chariot_hetero_open` and is not closed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_hetero_close(hetero: *mut HeteroHandle) {
    if !hetero.is_null() {
        guard(|| {
            // SAFETY: made by Box::into_raw in `chariot_hetero_open`, and closed once only.
            drop(unsafe { Box::from_raw(hetero) });
            Ok(())
        });
    }
}

/// Stores which backend the cards have, one of `CHARIOT_BACKEND_*`. `CHARIOT_NOT_SUPPORTED`: none;
/// `chariot_last_error` says what is missing. Threads: any.
///
/// # Safety
///
/// `hetero` is null or open; `backend` is null or has room for a byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_hetero_backend(
    hetero: *const HeteroHandle,
    backend: *mut u8,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = &unsafe { handle(hetero) }?.hetero;
        let number = match hetero.accelerators().backend()? {
            BackendKind::Ascend => CHARIOT_BACKEND_ASCEND,
            BackendKind::Cuda => CHARIOT_BACKEND_CUDA,
            BackendKind::Host => CHARIOT_BACKEND_HOST,
        };
        // SAFETY: the caller's contract.
        unsafe { answer(backend, number) };
        Ok(())
    })
}

/// Opens the cards of lists of the caller.
///
/// # Safety
///
/// `count` lists lie there, each with its blobs; every blob is memory of its card that stands, and
/// that nobody else uses, until what it is given to is over.
pub(crate) unsafe fn lists(
    accelerators: &Accelerators,
    given: *const CBlobList,
    count: usize,
) -> Result<Vec<BlobList>, Error> {
    // Nothing is owned here: the caller keeps the memory.
    let keep: Arc<dyn Any + Send + Sync> = Arc::new(());
    // SAFETY: the caller keeps this function's contract.
    let given = unsafe { slice(given, count) }?;
    let mut opened = Vec::with_capacity(given.len());
    for list in given {
        // SAFETY: the caller keeps this function's contract.
        let blobs = unsafe { slice(list.blobs, list.count) }?;
        let range = |blob: &Blob| {
            let address = usize::try_from(blob.address);
            let len = usize::try_from(blob.len);
            let beyond = |_| invalid("a blob is beyond the address space");
            Ok((address.map_err(beyond)?, len.map_err(beyond)?))
        };
        let ranges: Vec<(usize, usize)> = blobs.iter().map(range).collect::<Result<_, Error>>()?;
        let card = match list.card {
            CHARIOT_CARD_CURRENT => accelerators.current(),
            CHARIOT_CARD_HOST => accelerators.host(),
            ordinal => accelerators.card(ordinal),
        }?;
        // SAFETY: the caller keeps this function's contract.
        opened.push(unsafe { BlobList::foreign(card, &ranges, &keep) }?);
    }
    Ok(opened)
}

/// What a write says about a key: one that has a value keeps it, `CHARIOT_EXISTS`.
pub(crate) fn stored(outcome: SetOutcome) -> Result<Option<()>, Error> {
    match outcome? {
        Stored::Written => Ok(Some(())),
        Stored::Existed => Err(Error::new(
            Status::Exists,
            "the key has a value, which stays",
        )),
    }
}

/// What a read says about a key.
pub(crate) fn read(outcome: GetOutcome) -> Result<Option<()>, Error> {
    outcome.map(|found| found.then_some(()))
}

/// Copies objects of one card into the cache, a status each: `CHARIOT_EXISTS` for a key that has a
/// value, which stays. At most 10,000 keys, all lists on one card. Statuses as `chariot_set`. The
/// card's own work on the memory must be over (synchronise its streams). Threads: any.
///
/// # Safety
///
/// `hetero` is null or open; `count` keys and lists lie there, each with its bytes and blobs;
/// `statuses` has room for `count`. Every blob is memory of its card that nobody else uses until
/// the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mset_d2h(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    lists: *const CBlobList,
    count: usize,
    options: *const CSetOptions,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = &unsafe { handle(hetero) }?.hetero;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let lists = unsafe { self::lists(hetero.accelerators(), lists, count) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { set_options(options) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let outcomes = hetero.mset_d2h(&keys, &lists, &options)?;
        settle(outcomes.into_iter().map(stored), statuses, |_, _| {});
        Ok(())
    })
}

/// Copies objects of the cache into one card, a status each: `CHARIOT_NOT_FOUND` is a miss,
/// `CHARIOT_INVALID_ARGUMENT` an object of other blobs, whose memory is as it was. Ranges are not
/// taken. At most 10,000 keys, all lists on one card. Threads: any.
///
/// # Safety
///
/// As `chariot_mset_d2h`; the blobs do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mget_h2d(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    lists: *const CBlobList,
    count: usize,
    options: *const CGetOptions,
    statuses: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = &unsafe { handle(hetero) }?.hetero;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let lists = unsafe { self::lists(hetero.accelerators(), lists, count) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { get_options(options) }?;
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        let outcomes = hetero.mget_h2d(&keys, &lists, &options)?;
        settle(outcomes.into_iter().map(read), statuses, |_, _| {});
        Ok(())
    })
}

pub(crate) fn owned(keys: &[&[u8]]) -> Vec<Box<[u8]>> {
    keys.iter().map(|&key| key.into()).collect()
}

/// As `chariot_mset_d2h`, on another thread, in the order of the calls; deadlines count from now.
/// Stores a future, to be freed; null on failure. `CHARIOT_BUSY`: 256 calls wait. Threads: any.
///
/// # Safety
///
/// As `chariot_mset_d2h`, and the blobs stand until the future is over; keys, lists and options
/// are copied. `future` is null or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mset_d2h_async(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    lists: *const CBlobList,
    count: usize,
    options: *const CSetOptions,
    future: *mut *mut FutureHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(future, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = &unsafe { handle(hetero) }?.hetero;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let lists = unsafe { self::lists(hetero.accelerators(), lists, count) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { set_options(options) }?;
        if future.is_null() {
            return Err(invalid("nowhere to store the future"));
        }
        let pending = hetero.async_mset_d2h(owned(&keys), lists, options)?;
        let made = FutureHandle::boxed(Waiting::Set(pending), count);
        // SAFETY: the caller's contract.
        unsafe { answer(future, made) };
        Ok(())
    })
}

/// As `chariot_mget_h2d`, on another thread, in the order of the calls. Stores a future, to be
/// freed; null on failure. `CHARIOT_BUSY`: 256 calls wait. Threads: any.
///
/// # Safety
///
/// As `chariot_mset_d2h_async`; the blobs do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_mget_h2d_async(
    hetero: *const HeteroHandle,
    keys: *const Bytes,
    lists: *const CBlobList,
    count: usize,
    options: *const CGetOptions,
    future: *mut *mut FutureHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(future, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = &unsafe { handle(hetero) }?.hetero;
        // SAFETY: the caller's contract.
        let keys = unsafe { runs(keys, count) }?;
        // SAFETY: the caller's contract.
        let lists = unsafe { self::lists(hetero.accelerators(), lists, count) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { get_options(options) }?;
        if future.is_null() {
            return Err(invalid("nowhere to store the future"));
        }
        let pending = hetero.async_mget_h2d(owned(&keys), lists, options)?;
        let made = FutureHandle::boxed(Waiting::Get(pending), count);
        // SAFETY: the caller's contract.
        unsafe { answer(future, made) };
        Ok(())
    })
}

/// Stores the lengths of an object's blobs, at most `room` of them, and how many there are (0 on
/// failure). `of_card` is 1 for an object that cards provide, 0 for one of the cache.
/// `CHARIOT_NOT_FOUND` is a miss; `CHARIOT_INVALID_ARGUMENT`: the value is no object of blobs.
/// Threads: any.
///
/// # Safety
///
/// `hetero` is null or open; `key_len` bytes lie at `key`; there is room for `room` numbers at
/// `lens`, and for one at `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_blob_lens(
    hetero: *const HeteroHandle,
    key: *const std::ffi::c_void,
    key_len: usize,
    of_card: u8,
    lens: *mut u64,
    room: usize,
    count: *mut usize,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(count, 0) };
    guard(|| {
        // SAFETY: the caller's contract.
        let hetero = unsafe { handle(hetero) }?;
        // SAFETY: the caller's contract.
        let key = unsafe { crate::boundary::bytes(key, key_len) }?;
        // SAFETY: the caller's contract.
        let lens = unsafe { crate::boundary::room(lens, room) }?;
        let found = lens_of(hetero, of_card, key)?.ok_or_else(crate::boundary::miss)?;
        for (slot, len) in lens.iter_mut().zip(&found) {
            slot.write(*len as u64);
        }
        // SAFETY: the caller's contract.
        unsafe { answer(count, found.len()) };
        Ok(())
    })
}

fn lens_of(hetero: &HeteroHandle, of_card: u8, key: &[u8]) -> Result<Option<Vec<usize>>, Error> {
    let mut answers = match of_card {
        0 => hetero.hetero.get_meta_info(&[key])?,
        1 => hetero.ports.lens(&[key]),
        _ => return Err(invalid("a flag is neither 0 nor 1")),
    };
    answers.pop().expect("an answer a key")
}
