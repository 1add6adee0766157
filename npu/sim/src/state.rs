//! The tables of this process, under one lock, and the word that says that they changed.
//!
//! Handles are numbers with a kind in front, no addresses: a handle of the wrong kind, or of
//! something that is gone, is noticed and never followed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chariot_ascend_rt_sys::sys;

use crate::Code;
use crate::config::config;
use crate::memory::Device;
use crate::stream::{Event, Stream};

/// Whether the runtime may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Fresh,
    Ready,
    Finalized,
}

/// A context: whose streams a thread may use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) device: u32,
    pub(crate) is_default: bool,
    pub(crate) default_stream: Option<u64>,
}

/// A range of host memory that the runtime knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostRange {
    pub(crate) len: u64,
    pub(crate) allocated: bool,
    pub(crate) locked: bool,
    pub(crate) readonly: bool,
    /// On which NUMA node, where the simulator decides it.
    pub(crate) node: Option<u32>,
}

/// Everything this process has.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    last_id: u64,
    pub(crate) devices: BTreeMap<u32, Device>,
    pub(crate) contexts: BTreeMap<u64, Context>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) events: BTreeMap<u64, Event>,
    pub(crate) host: BTreeMap<u64, HostRange>,
}

static STATE: Mutex<State> = Mutex::new(State {
    phase: Phase::Fresh,
    last_id: 0,
    devices: BTreeMap::new(),
    contexts: BTreeMap::new(),
    streams: BTreeMap::new(),
    events: BTreeMap::new(),
    host: BTreeMap::new(),
});
static CHANGED: Condvar = Condvar::new();

thread_local! {
    static CURRENT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Kinds of handles, in their upper half.
pub(crate) const STREAM: u64 = 0x5101 << 48;
pub(crate) const EVENT: u64 = 0x5102 << 48;
pub(crate) const CONTEXT: u64 = 0x5103 << 48;

/// Locks the tables.
pub(crate) fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells all waiters of this process.
pub(crate) fn changed() {
    CHANGED.notify_all();
}

/// Waits for a change, at most that long.
pub(crate) fn wait(
    guard: MutexGuard<'static, State>,
    most: Duration,
) -> MutexGuard<'static, State> {
    let (guard, _) = CHANGED
        .wait_timeout(guard, most)
        .unwrap_or_else(PoisonError::into_inner);
    guard
}

/// Makes a context the calling thread's.
pub(crate) fn set_current(context: Option<u64>) {
    CURRENT.set(context);
}

impl State {
    /// An id for a new handle of that kind.
    pub(crate) fn fresh(&mut self, kind: u64) -> u64 {
        self.last_id += 1;
        kind | self.last_id
    }

    /// The calling thread's context; 107002 when it never chose a card, or the card was reset.
    pub(crate) fn current(&self) -> Result<(u64, u32), Code> {
        let id = CURRENT.get().ok_or(sys::ACL_ERROR_RT_CONTEXT_NULL)?;
        let context = self
            .contexts
            .get(&id)
            .ok_or(sys::ACL_ERROR_RT_CONTEXT_NULL)?;
        Ok((id, context.device))
    }

    /// The calling thread's card, unless it is lost.
    pub(crate) fn current_device(&mut self) -> Result<&mut Device, Code> {
        let (_, device) = self.current()?;
        let device = self
            .devices
            .get_mut(&device)
            .ok_or(sys::ACL_ERROR_RT_CONTEXT_NULL)?;
        if device.lost {
            return Err(sys::ACL_ERROR_RT_LOST_HEARTBEAT);
        }
        Ok(device)
    }

    /// Checks a card's number and opens it.
    pub(crate) fn open_device(&mut self, id: i32) -> Result<u32, Code> {
        let id = u32::try_from(id).map_err(|_| sys::ACL_ERROR_RT_INVALID_DEVICEID)?;
        if id >= config().devices {
            return Err(sys::ACL_ERROR_RT_INVALID_DEVICEID);
        }
        if let std::collections::btree_map::Entry::Vacant(slot) = self.devices.entry(id) {
            slot.insert(Device::open(id)?);
        }
        Ok(id)
    }

    /// The default context of a card, made at the first call.
    pub(crate) fn default_context(&mut self, device: u32) -> u64 {
        let mut contexts = self.contexts.iter();
        let found = contexts.find(|(_, context)| context.is_default && context.device == device);
        if let Some((id, _)) = found {
            return *id;
        }
        let id = self.fresh(CONTEXT);
        let context = Context {
            device,
            is_default: true,
            default_stream: None,
        };
        self.contexts.insert(id, context);
        id
    }

    /// The stream behind a handle, which has to be of the calling thread's context; the context's
    /// default stream when the handle is null.
    pub(crate) fn stream(&mut self, handle: u64) -> Result<u64, Code> {
        let (current, device) = self.current()?;
        if handle == 0 {
            let context = self
                .contexts
                .get(&current)
                .ok_or(sys::ACL_ERROR_RT_CONTEXT_NULL)?;
            if let Some(stream) = context.default_stream {
                return Ok(stream);
            }
            let id = self.fresh(STREAM);
            self.streams.insert(id, Stream::new(current, device, true));
            if let Some(context) = self.contexts.get_mut(&current) {
                context.default_stream = Some(id);
            }
            return Ok(id);
        }
        if handle & (0xffff << 48) != STREAM {
            return Err(sys::ACL_ERROR_RT_INVALID_HANDLE);
        }
        let stream = self
            .streams
            .get(&handle)
            .ok_or(sys::ACL_ERROR_RT_STREAM_CONTEXT)?;
        if stream.context != current {
            return Err(sys::ACL_ERROR_RT_STREAM_CONTEXT);
        }
        Ok(handle)
    }

    /// The event behind a handle.
    pub(crate) fn event(&mut self, handle: u64) -> Result<&mut Event, Code> {
        self.events
            .get_mut(&handle)
            .ok_or(sys::ACL_ERROR_RT_INVALID_HANDLE)
    }

    /// Ends a card: its contexts, streams, events and memory.
    pub(crate) fn close_device(&mut self, device: u32) {
        self.contexts.retain(|_, context| context.device != device);
        for stream in self
            .streams
            .values_mut()
            .filter(|stream| stream.device == device)
        {
            stream.abort();
        }
        self.streams.retain(|_, stream| stream.device != device);
        self.events.retain(|_, event| event.device != device);
        self.devices.remove(&device);
    }

    /// The known host range that holds `[address, address + len)`.
    pub(crate) fn host_range(&self, address: u64, len: u64) -> Option<&HostRange> {
        let (start, range) = self.host.range(..=address).next_back()?;
        (address + len <= start + range.len).then_some(range)
    }

    /// Bytes of page-locked host memory.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        let locked = self.host.values().filter(|range| range.locked);
        locked.map(|range| range.len).sum()
    }
}
