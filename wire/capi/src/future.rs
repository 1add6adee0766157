//! Futures: the outcomes of calls that run on a thread of their own, owned by the caller.

use std::time::Duration;

use chariot_client::Error;
use chariot_hetero::{GetOutcome, Pending, SetOutcome};
use chariot_peer::{MovedFuture, PeerError, Promise};

use crate::batch::settle;
use crate::boundary::{guard, guard_value, handle, invalid, room};
use crate::hetero::{read, stored};
use crate::status::CHARIOT_TIMEOUT;

/// What is waited for.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// Copies from a card.
    Set(Pending<SetOutcome>),
    /// Copies to a card.
    Get(Pending<GetOutcome>),
    /// One object that a receiver takes over.
    Moved(MovedFuture),
    /// Keys of a call between cards.
    Cards(Promise),
}

/// The outcomes of an asynchronous call. Opaque. Any number of threads may wait for it.
#[derive(Debug)]
pub struct FutureHandle {
    waiting: Waiting,
    count: usize,
}

/// One answer a key, or one failure for all of them.
type Answers = Result<Vec<Result<Option<()>, Error>>, Error>;

/// Outcomes between cards, as statuses.
pub(crate) fn plain(outcome: Result<(), PeerError>) -> Result<Option<()>, Error> {
    outcome?;
    Ok(Some(()))
}

impl FutureHandle {
    pub(crate) fn boxed(waiting: Waiting, count: usize) -> *mut Self {
        Box::into_raw(Box::new(Self { waiting, count }))
    }

    fn wait(&self, most: Duration) -> Option<Answers> {
        match &self.waiting {
            Waiting::Set(pending) => {
                let answer = pending.wait(most)?;
                Some(answer.map(|outcomes| outcomes.into_iter().map(stored).collect()))
            },
            Waiting::Get(pending) => {
                let answer = pending.wait(most)?;
                Some(answer.map(|outcomes| outcomes.into_iter().map(read).collect()))
            },
            Waiting::Moved(future) => match future.wait(most) {
                Err(PeerError::Absent) => None,
                outcome => Some(Ok(vec![plain(outcome)])),
            },
            Waiting::Cards(promise) => {
                let outcomes = promise.wait(most)?;
                Some(Ok(outcomes.into_iter().map(plain).collect()))
            },
        }
    }
}

/// How many keys a future is about; 0 for null. Threads: any.
///
/// # Safety
///
/// `future` is null or a future.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_future_count(future: *const FutureHandle) -> usize {
    guard_value(0, || {
        // SAFETY: the caller's contract.
        unsafe { handle(future) }.map_or(0, |future| future.count)
    })
}

/// Waits for at most `timeout_us` microseconds and stores a status for each key.
/// `CHARIOT_TIMEOUT`: it is not over by then; wait again. What it returns otherwise is of the call
/// as a whole. May be asked again. Threads: any.
///
/// # Safety
///
/// `future` is null or a future; `statuses` has room for `count`, which is that of
/// `chariot_future_count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_future_wait(
    future: *const FutureHandle,
    timeout_us: u64,
    statuses: *mut i32,
    count: usize,
) -> i32 {
    let mut is_late = false;
    let status = guard(|| {
        // SAFETY: the caller's contract.
        let future = unsafe { handle(future) }?;
        if count != future.count {
            return Err(invalid("count is not that of the future"));
        }
        // SAFETY: the caller's contract.
        let statuses = unsafe { room(statuses, count) }?;
        // A day is as good as for ever, and every clock can add it.
        let most = Duration::from_micros(timeout_us).min(Duration::from_hours(24));
        match future.wait(most) {
            Some(answers) => settle(answers?, statuses, |_, _| {}),
            None => is_late = true,
        }
        Ok(())
    });
    if is_late { CHARIOT_TIMEOUT } else { status }
}

/// Frees a future; null is ignored. The call goes on, and its memory must stand until it is over:
/// wait for it first. Threads: any, after all other calls on it have returned.
///
/// # Safety
///
/// `future` is null or a future that is not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_future_free(future: *mut FutureHandle) {
    if !future.is_null() {
        guard(|| {
            // SAFETY: made by `FutureHandle::boxed`, and freed once only.
            drop(unsafe { Box::from_raw(future) });
            Ok(())
        });
    }
}
