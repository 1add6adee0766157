//! What is to be moved, and what becomes of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chariot_device::{DeviceError, DeviceMemory, Direction};

use crate::arena::Arena;

/// Most fragments of one object: what one batch call of a driver takes.
pub(crate) const FRAGMENTS_MAX: usize = 4096;

/// A contiguous range of host memory.
#[derive(Clone, Debug)]
pub struct HostRange {
    /// The memory that it is in.
    pub arena: Arc<Arena>,
    /// First byte in the arena.
    pub at: usize,
    /// Length in bytes.
    pub len: usize,
}

/// A fragment of an object: a range of device memory and where it is in the object.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Memory of the core's card; held until the object's outcome is there.
    pub device: DeviceMemory,
    /// First byte in the device memory.
    pub device_at: usize,
    /// First byte in the object's host range.
    pub offset: usize,
    /// Length in bytes; 0 is nothing to do.
    pub len: usize,
}

/// One object.
#[derive(Clone, Debug)]
pub struct ObjectCopy {
    /// The host side.
    pub host: HostRange,
    /// The device side: at most 4,096 fragments, which do not overlap in the object.
    pub fragments: Vec<Fragment>,
}

/// Objects that are moved together, and have outcomes of their own.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Into the card or out of it.
    pub direction: Direction,
    /// The objects.
    pub objects: Vec<ObjectCopy>,
    /// When every object has to have an outcome.
    pub deadline: Instant,
}

/// Why an object was not moved. Its destination is unspecified then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The object was described wrongly: a bug of the caller.
    #[error("not an object: {0}")]
    Invalid(&'static str),
    /// The caller cancelled it, or the core was stopped. Its memory is the caller's again.
    #[error("cancelled")]
    Cancelled,
    /// The time was over. Its memory is the caller's again.
    #[error("not moved in time")]
    Deadline,
    /// The time was over and the card could not be made to stop: the core holds the memory for as
    /// long as the card may touch it. A caller whose memory is not counted must not reuse it.
    #[error("not moved in time, and the card still holds its memory")]
    Stuck,
    /// The card failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

#[derive(Debug, Default)]
struct ObjectState {
    parts_left: u32,
    parts_running: u32,
    error: Option<TransferError>,
    outcome: Option<Result<(), TransferError>>,
}

#[derive(Debug)]
struct States {
    objects: Vec<ObjectState>,
    open: usize,
}

/// A transfer under way.
pub(crate) struct InFlight {
    pub(crate) objects: Vec<ObjectCopy>,
    pub(crate) direction: Direction,
    pub(crate) deadline: Instant,
    /// Number among the core's transfers.
    pub(crate) number: u64,
    cancelled: AtomicBool,
    states: Mutex<States>,
    changed: Condvar,
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "InFlight({}, {} objects)",
            self.number,
            self.objects.len()
        )
    }
}

/// Says what is wrong with an object, if something is.
fn fault_of(object: &ObjectCopy) -> Option<&'static str> {
    let HostRange { arena, at, len } = &object.host;
    if at.checked_add(*len).is_none_or(|end| end > arena.len()) {
        return Some("the host range leaves the arena");
    }
    if object.fragments.len() > FRAGMENTS_MAX {
        return Some("more than 4096 fragments");
    }
    let mut ranges: Vec<(usize, usize)> = Vec::with_capacity(object.fragments.len());
    for fragment in object.fragments.iter().filter(|fragment| fragment.len > 0) {
        let end = fragment
            .offset
            .checked_add(fragment.len)
            .filter(|end| end <= len);
        let Some(end) = end else {
            return Some("a fragment leaves the object");
        };
        let device_end = fragment.device_at.checked_add(fragment.len);
        if device_end.is_none_or(|end| end > fragment.device.len()) {
            return Some("a fragment leaves its device memory");
        }
        ranges.push((fragment.offset, end));
    }
    ranges.sort_unstable();
    let overlap = ranges.windows(2).any(|pair| pair[0].1 > pair[1].0);
    overlap.then_some("fragments overlap")
}

impl InFlight {
    /// Takes a transfer in; `parts` is the number of parts of each object that will be queued.
    pub(crate) fn new(transfer: Transfer, number: u64) -> Self {
        let Transfer {
            direction,
            objects,
            deadline,
        } = transfer;
        let states: Vec<ObjectState> = objects
            .iter()
            .map(|object| {
                let fault = fault_of(object);
                let error = fault.map(|fault| Err(TransferError::Invalid(fault)));
                let nothing = object.fragments.iter().all(|fragment| fragment.len == 0);
                let outcome = error.or_else(|| nothing.then_some(Ok(())));
                ObjectState {
                    outcome,
                    ..ObjectState::default()
                }
            })
            .collect();
        let open = states
            .iter()
            .filter(|state| state.outcome.is_none())
            .count();
        Self {
            objects,
            direction,
            deadline,
            number,
            cancelled: AtomicBool::new(false),
            states: Mutex::new(States {
                objects: states,
                open,
            }),
            changed: Condvar::new(),
        }
    }

    /// Gives the transfer back, when it was not taken after all.
    pub(crate) fn into_transfer(self) -> Transfer {
        let Self {
            objects,
            direction,
            deadline,
            ..
        } = self;
        Transfer {
            direction,
            objects,
            deadline,
        }
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an object still has to be moved.
    pub(crate) fn is_open(&self, object: usize) -> bool {
        self.lock().objects[object].outcome.is_none()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.lock().open == 0
    }

    /// Says how many parts an object has, before they are queued.
    pub(crate) fn set_parts(&self, object: usize, parts: u32) {
        assert!(parts > 0, "an open object has parts");
        self.lock().objects[object].parts_left = parts;
    }

    /// A lane takes a part. False when there is nothing to do for it any more: it is finished then.
    pub(crate) fn begin(&self, object: usize) -> bool {
        let cancelled = self.cancelled.load(Ordering::Acquire);
        let late = Instant::now() >= self.deadline;
        let mut states = self.lock();
        let state = &mut states.objects[object];
        if state.outcome.is_some() || state.error.is_some() {
            drop(states);
            self.finish_idle(object, None);
            return false;
        }
        if cancelled || late {
            let error = if cancelled {
                TransferError::Cancelled
            } else {
                TransferError::Deadline
            };
            drop(states);
            self.finish_idle(object, Some(error));
            return false;
        }
        state.parts_running += 1;
        true
    }

    /// A part that no lane will take.
    pub(crate) fn refuse(&self, object: usize, error: TransferError) {
        self.finish_idle(object, Some(error));
    }

    fn finish_idle(&self, object: usize, error: Option<TransferError>) {
        let mut states = self.lock();
        let state = &mut states.objects[object];
        state.parts_running += 1;
        drop(states);
        self.finish(object, error.map_or(Ok(()), Err));
    }

    /// A lane is done with a part: nothing of it runs any more, unless the outcome is `Stuck`.
    pub(crate) fn finish(&self, object: usize, outcome: Result<(), TransferError>) {
        let mut states = self.lock();
        let state = &mut states.objects[object];
        assert!(state.parts_running > 0, "a part ends that began");
        assert!(state.parts_left > 0, "parts are counted");
        state.parts_running -= 1;
        state.parts_left -= 1;
        if let Err(error) = outcome {
            state.error.get_or_insert(error);
        }
        if state.parts_left > 0 || state.outcome.is_some() {
            return;
        }
        state.outcome = Some(state.error.take().map_or(Ok(()), Err));
        self.one_less(&mut states);
    }

    fn one_less(&self, states: &mut States) {
        assert!(states.open > 0, "objects are counted");
        states.open -= 1;
        if states.open == 0 {
            self.changed.notify_all();
        }
    }

    /// The time is over: objects that nobody moves get their outcome, those that are being moved
    /// after `grace`. Returns when to look again, if at all.
    pub(crate) fn expire(&self, now: Instant, grace: Duration) -> Option<Instant> {
        let hard = self.deadline + grace;
        let mut states = self.lock();
        for object in 0..states.objects.len() {
            let state = &mut states.objects[object];
            if state.outcome.is_some() {
                continue;
            }
            let error = match (state.parts_running, now >= hard) {
                (0, _) => TransferError::Deadline,
                (_, true) => TransferError::Stuck,
                (_, false) => continue,
            };
            state.outcome = Some(Err(error));
            self.one_less(&mut states);
        }
        (states.open > 0).then_some(hard)
    }

    fn outcomes(states: &States) -> Vec<Result<(), TransferError>> {
        let outcome = |state: &ObjectState| state.outcome.clone();
        let all: Option<Vec<_>> = states.objects.iter().map(outcome).collect();
        all.expect("no object is open")
    }
}

/// A transfer under way, for its caller. Dropping it lets the transfer go on. Lives on: any thread.
#[derive(Debug)]
pub struct Handle(pub(crate) Arc<InFlight>);

impl Handle {
    /// Waits for the outcomes, one for each object in order; at the latest
    /// [`crate::OBJECT_GRACE`] after the deadline.
    #[must_use]
    pub fn wait(self) -> Vec<Result<(), TransferError>> {
        let mut states = self.0.lock();
        while states.open > 0 {
            states = self
                .0
                .changed
                .wait(states)
                .unwrap_or_else(PoisonError::into_inner);
        }
        InFlight::outcomes(&states)
    }

    /// True when [`Self::wait`] would not wait.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }

    /// Gives objects up that have not been begun. Those that have are waited for, so that their
    /// memory is free when the outcome is there.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
    }
}
