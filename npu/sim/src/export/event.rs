//! tidy: table of C symbols, wide by its signatures. Streams, events, functions on the host, and
//! what went wrong last.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_void};
use std::time::{Duration, Instant};

use chariot_ascend_rt_sys::sys;

use super::{export, put};
use crate::config::config;
use crate::state::{self, EVENT, STREAM};
use crate::stream::{self, Event, HostCall, Stream, Task};
use crate::{Code, clock};

/// Most streams of a card, and events of a process (device facts, 1.4).
const STREAMS_MAX: usize = 1984;
const EVENTS_MAX: usize = 65_536;

thread_local! {
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
    /// What was handed out last: the text has to live until the next call.
    static SHOWN: RefCell<CString> = RefCell::new(CString::default());
}

/// Keeps what a call answered for this thread's next question.
pub(super) fn remember(symbol: &str, code: Code) {
    let text = CString::new(format!("{symbol} answered {code}")).unwrap_or_default();
    LAST.set(Some(text));
}

#[unsafe(no_mangle)]
extern "C" fn aclGetRecentErrMsg() -> *const c_char {
    // Consuming, per thread: a second question has no answer.
    let Some(text) = LAST.take() else {
        return std::ptr::null();
    };
    SHOWN.with_borrow_mut(|shown| {
        *shown = text;
        shown.as_ptr()
    })
}
const _: sys::aclGetRecentErrMsg_fn = Some(aclGetRecentErrMsg);

fn create_stream(to: *mut *mut c_void) -> Result<(), Code> {
    let mut state = state::lock();
    let (context, device) = state.current()?;
    state.current_device()?;
    let on_device = |stream: &&Stream| stream.device == device && !stream.is_default;
    if state.streams.values().filter(on_device).count() >= STREAMS_MAX {
        return Err(sys::ACL_ERROR_RT_NO_STREAM_RESOURCE);
    }
    let id = state.fresh(STREAM);
    put(to, id as *mut c_void)?;
    state
        .streams
        .insert(id, Stream::new(context, device, false));
    Ok(())
}

fn create_event(to: *mut *mut c_void, flags: u32, again: bool) -> Result<(), Code> {
    let mut state = state::lock();
    let (_, device) = state.current()?;
    if state.events.len() >= EVENTS_MAX {
        return Err(sys::ACL_ERROR_RT_NO_EVENT_RESOURCE);
    }
    let id = state.fresh(EVENT);
    put(to, id as *mut c_void)?;
    let event = Event {
        device,
        flags,
        again,
        recorded: 0,
        completed: 0,
        stream: 0,
        position: 0,
        time: 0,
    };
    state.events.insert(id, event);
    Ok(())
}

/// Is the event complete? Asking lets its stream come to it under `late`.
fn query(event: *mut c_void) -> Result<bool, Code> {
    let mut state = state::lock();
    let found = state.event(event as u64)?;
    let (complete, time) = (found.is_complete(), found.time);
    let (stream, position) = (found.stream, found.position);
    if complete {
        clock::reach(time);
    } else if let Some(stream) = state.streams.get_mut(&stream) {
        stream.demand = stream.demand.max(position);
        state::changed();
    }
    Ok(complete)
}

fn synchronize_event(event: *mut c_void, timeout: Option<Duration>) -> Result<(), Code> {
    let begun = Instant::now();
    loop {
        if query(event)? {
            return Ok(());
        }
        let mut state = state::lock();
        let found = state.event(event as u64)?;
        if found.recorded == 0 || found.is_complete() {
            continue_or_fail(found.recorded)?;
            continue;
        }
        let stream = found.stream;
        if !state.streams.contains_key(&stream) {
            return Err(sys::ACL_ERROR_RT_STREAM_ABORT);
        }
        if timeout.is_some_and(|most| begun.elapsed() >= most) {
            return Err(sys::ACL_ERROR_RT_EVENT_SYNC_TIMEOUT);
        }
        let left = timeout.map_or(Duration::from_millis(50), |most| {
            most.saturating_sub(begun.elapsed())
        });
        drop(state::wait(state, left.min(Duration::from_millis(50))));
    }
}

/// An event that was never recorded cannot be waited for.
fn continue_or_fail(recorded: u64) -> Result<(), Code> {
    if recorded == 0 {
        Err(sys::ACL_ERROR_RT_PARAM_INVALID)
    } else {
        Ok(())
    }
}

fn destroy_stream(handle: *mut c_void) -> Result<(), Code> {
    let mut state = state::lock();
    let id = state.stream(handle as u64)?;
    if handle.is_null() {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    state.streams.remove(&id);
    drop(state);
    state::changed();
    Ok(())
}

export! {
    Ready aclrtCreateStream as aclrtCreateStream_fn(stream: *mut *mut c_void) {
        create_stream(stream)
    }
    Ready aclrtCreateStreamWithConfig as aclrtCreateStreamWithConfig_fn(
        stream: *mut *mut c_void, _priority: u32, _flag: u32,
    ) {
        create_stream(stream)
    }
    Ready aclrtDestroyStream as aclrtDestroyStream_fn(handle: *mut c_void) {
        let id = state::lock().stream(handle as u64)?;
        let outcome = stream::synchronize(id, None);
        destroy_stream(handle)?;
        outcome
    }
    Ready aclrtDestroyStreamForce as aclrtDestroyStreamForce_fn(handle: *mut c_void) {
        let id = state::lock().stream(handle as u64)?;
        stream::abort(id);
        destroy_stream(handle)
    }
    Ready aclrtSynchronizeStream as aclrtSynchronizeStream_fn(handle: *mut c_void) {
        let id = state::lock().stream(handle as u64)?;
        stream::synchronize(id, None)
    }
    Ready aclrtSynchronizeStreamWithTimeout as aclrtSynchronizeStreamWithTimeout_fn(
        handle: *mut c_void, timeout_ms: i32,
    ) {
        let id = state::lock().stream(handle as u64)?;
        stream::synchronize(id, u64::try_from(timeout_ms).ok().map(Duration::from_millis))
    }
    Ready aclrtStreamQuery as aclrtStreamQuery_fn(handle: *mut c_void, status: *mut i32) {
        let mut state = state::lock();
        let id = state.stream(handle as u64)?;
        let stream = state.streams.get_mut(&id).ok_or(sys::ACL_ERROR_RT_STREAM_CONTEXT)?;
        stream.demand = stream.submitted;
        let idle = stream.is_idle();
        state::changed();
        put(status, if idle { sys::ACL_STREAM_STATUS_COMPLETE } else { sys::ACL_STREAM_STATUS_NOT_READY })
    }
    Ready aclrtStreamAbort as aclrtStreamAbort_fn(handle: *mut c_void) {
        let id = state::lock().stream(handle as u64)?;
        stream::abort(id);
        Ok(())
    }
    Ready aclrtSetStreamFailureMode as aclrtSetStreamFailureMode_fn(handle: *mut c_void, mode: u64) {
        let mut state = state::lock();
        let id = state.stream(handle as u64)?;
        if mode > sys::ACL_STREAM_FAILURE_STOP {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        if let Some(stream) = state.streams.get_mut(&id) {
            stream.stop_on_failure = mode == sys::ACL_STREAM_FAILURE_STOP;
        }
        Ok(())
    }
    Ready aclrtStreamWaitEvent as aclrtStreamWaitEvent_fn(handle: *mut c_void, event: *mut c_void) {
        clock::charge(config().preset.submit_ns);
        let mut state = state::lock();
        let id = state.stream(handle as u64)?;
        let found = state.event(event as u64)?;
        // A classic event without this flag cannot be waited for by a stream (device facts, 1.4).
        if !found.again && found.flags & sys::ACL_EVENT_SYNC == 0 {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        let generation = found.recorded;
        stream::submit(&mut state, id, Task::Wait { event: event as u64, generation })
    }
    Ready aclrtCreateEvent as aclrtCreateEvent_fn(event: *mut *mut c_void) {
        create_event(event, sys::ACL_EVENT_SYNC | sys::ACL_EVENT_TIME_LINE, false)
    }
    Ready aclrtCreateEventWithFlag as aclrtCreateEventWithFlag_fn(event: *mut *mut c_void, flag: u32) {
        create_event(event, flag, false)
    }
    Ready aclrtCreateEventExWithFlag as aclrtCreateEventExWithFlag_fn(event: *mut *mut c_void, flag: u32) {
        create_event(event, flag, true)
    }
    Ready aclrtDestroyEvent as aclrtDestroyEvent_fn(event: *mut c_void) {
        let mut state = state::lock();
        state.event(event as u64)?;
        state.events.remove(&(event as u64));
        drop(state);
        state::changed();
        Ok(())
    }
    Ready aclrtRecordEvent as aclrtRecordEvent_fn(event: *mut c_void, handle: *mut c_void) {
        clock::charge(config().preset.submit_ns);
        let mut state = state::lock();
        let id = state.stream(handle as u64)?;
        let position = state.streams.get(&id).map_or(0, |stream| stream.submitted + 1);
        let found = state.event(event as u64)?;
        found.recorded += 1;
        found.stream = id;
        found.position = position;
        let generation = found.recorded;
        stream::submit(&mut state, id, Task::Record { event: event as u64, generation })
    }
    Ready aclrtResetEvent as aclrtResetEvent_fn(event: *mut c_void, handle: *mut c_void) {
        let mut state = state::lock();
        state.stream(handle as u64)?;
        let found = state.event(event as u64)?;
        if found.again {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        found.recorded = 0;
        found.completed = 0;
        Ok(())
    }
    Ready aclrtQueryEvent as aclrtQueryEvent_fn(event: *mut c_void, status: *mut i32) {
        if state::lock().event(event as u64)?.again {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        let complete = query(event)?;
        put(status, if complete { sys::ACL_EVENT_STATUS_COMPLETE } else { sys::ACL_EVENT_STATUS_NOT_READY })
    }
    Ready aclrtQueryEventStatus as aclrtQueryEventStatus_fn(event: *mut c_void, status: *mut i32) {
        // The numbers are the reverse of the old query's.
        let complete = query(event)?;
        put(status, i32::from(complete))
    }
    Ready aclrtSynchronizeEvent as aclrtSynchronizeEvent_fn(event: *mut c_void) {
        synchronize_event(event, None)
    }
    Ready aclrtSynchronizeEventWithTimeout as aclrtSynchronizeEventWithTimeout_fn(
        event: *mut c_void, timeout_ms: i32,
    ) {
        synchronize_event(event, u64::try_from(timeout_ms).ok().map(Duration::from_millis))
    }
    Ready aclrtEventElapsedTime as aclrtEventElapsedTime_fn(
        milliseconds: *mut f32, start: *mut c_void, end: *mut c_void,
    ) {
        if !query(start)? || !query(end)? {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        let mut state = state::lock();
        let times = (state.event(start as u64)?.time, state.event(end as u64)?.time);
        put(milliseconds, times.1.saturating_sub(times.0) as f32 / 1e6)
    }
    Ready aclrtLaunchHostFunc as aclrtLaunchHostFunc_fn(
        handle: *mut c_void, function: sys::aclrtHostFunction, argument: *mut c_void,
    ) {
        clock::charge(config().preset.submit_ns);
        let function = function.ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
        let mut state = state::lock();
        let id = state.stream(handle as u64)?;
        let call = HostCall { function, argument: argument as usize };
        stream::submit(&mut state, id, Task::Call(call))
    }
}
