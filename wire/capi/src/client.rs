//! The client handle: a session with one daemon.

use chariot_client::{Client, Place};

use crate::boundary::{answer, guard, guard_value, handle, invalid};
use crate::options::{CConnectOptions, connect_options};

/// A connection to one daemon. Opaque. Any number of threads may use it at once.
#[derive(Debug)]
pub struct ClientHandle {
    pub(crate) client: Client,
}

/// Bytes travel through shared memory.
pub const CHARIOT_PLACE_SHARED_MEMORY: i32 = 0;
/// Bytes travel over TCP.
pub const CHARIOT_PLACE_TCP: i32 = 1;
/// No daemon now: reads are misses, and the next call tries to connect.
pub const CHARIOT_PLACE_AWAY: i32 = 2;

/// What a client has counted since it connected, also across restarts of its daemon.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Keys that were found.
    pub hits: u64,
    /// Keys that were not found, also while the daemon was away.
    pub misses: u64,
    /// Keys for which the shard was asked by a message.
    pub asked: u64,
    /// Views that are copies because no view slot was free.
    pub views_copied: u64,
    /// Zeros.
    pub reserved: [u64; 4],
}

/// Connects, and stores the new client, to be closed with `chariot_client_close`; null on failure.
///
/// `CHARIOT_RESTARTING`: nobody listens there. `CHARIOT_NOT_AUTHORIZED`: credentials refused.
/// `CHARIOT_TIMEOUT`: not within the time. Threads: any.
///
/// # Safety
///
/// `options` is null or filled; `client` is null or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_client_connect(
    options: *const CConnectOptions,
    client: *mut *mut ClientHandle,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { answer(client, std::ptr::null_mut()) };
    guard(|| {
        // SAFETY: the caller's contract.
        let options = unsafe { connect_options(options) }?;
        if client.is_null() {
            return Err(invalid("nowhere to store the client"));
        }
        let connected = Client::connect(options)?;
        let boxed = Box::new(ClientHandle { client: connected });
        // SAFETY: the caller's contract.
        unsafe { answer(client, Box::into_raw(boxed)) };
        Ok(())
    })
}

/// Closes a client; null is ignored. Its views and buffers stay valid, and the session ends with
/// the last of them. Threads: any, after all other calls on this client have returned.
///
/// # Safety
///
/// `client` is null or came from `chariot_client_connect` and is not closed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_client_close(client: *mut ClientHandle) {
    if !client.is_null() {
        guard(|| {
            // SAFETY: made by Box::into_raw in `chariot_client_connect`, and closed once only.
            drop(unsafe { Box::from_raw(client) });
            Ok(())
        });
    }
}

/// Tells which way bytes travel now, one of `CHARIOT_PLACE_*`; `AWAY` for null. Threads: any.
///
/// # Safety
///
/// `client` is null or a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_client_place(client: *const ClientHandle) -> i32 {
    guard_value(CHARIOT_PLACE_AWAY, || {
        // SAFETY: the caller's contract.
        match unsafe { handle(client) }.map(|handle| handle.client.place()) {
            Ok(Place::SharedMemory) => CHARIOT_PLACE_SHARED_MEMORY,
            Ok(Place::Tcp) => CHARIOT_PLACE_TCP,
            Ok(Place::Away) | Err(_) => CHARIOT_PLACE_AWAY,
        }
    })
}

/// Stores what this client has counted. Threads: any.
///
/// # Safety
///
/// `client` is null or a client; `stats` is null or has room for the struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_client_stats(
    client: *const ClientHandle,
    stats: *mut Stats,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let counted = unsafe { handle(client) }?.client.stats();
        let filled = Stats {
            hits: counted.hits,
            misses: counted.misses,
            asked: counted.asked,
            views_copied: counted.views_copied,
            ..Stats::default()
        };
        // SAFETY: the caller's contract.
        unsafe { answer(stats, filled) };
        Ok(())
    })
}
