//! Outcomes of asynchronous device calls, as `Future` of the old SDKs wraps them.

use std::time::{Duration, Instant};

use chariot_client::{Error, Status};
use chariot_hetero::{GetOutcome, Pending, SetOutcome};
use chariot_peer::{MovedFuture, PeerError, Promise};
use pyo3::prelude::*;

use crate::error::old;
use crate::hetero::{found, stored};
use crate::peer::plain;

/// How often a wait looks for signals, such as the user's interrupt.
const SIGNALS: Duration = Duration::from_millis(200);

/// What is waited for.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// Copies from a card.
    Set(Pending<SetOutcome>),
    /// Copies to a card.
    Get(Pending<GetOutcome>),
    /// One object that a receiver takes over.
    Moved(MovedFuture),
    /// One key of a call on a thread of its own.
    Received(Promise, usize),
    /// Keys to be deleted.
    Deleted(Promise),
}

/// An asynchronous call, or one key of it. Lives on: any thread.
#[pyclass(module = "chariot._native", frozen)]
#[derive(Debug)]
pub(crate) struct DeviceFuture {
    waiting: Waiting,
    keys: Vec<Py<PyAny>>,
}

/// The failures of each key, in order; `None` while the call is under way.
type Answers = Option<Result<Vec<Result<(), Error>>, Error>>;

impl DeviceFuture {
    pub(crate) fn new(waiting: Waiting, keys: Vec<Py<PyAny>>) -> Self {
        Self { waiting, keys }
    }

    fn wait(&self, most: Duration) -> Answers {
        match &self.waiting {
            Waiting::Set(pending) => Some(pending.wait(most)?.map(stored)),
            Waiting::Get(pending) => Some(pending.wait(most)?.map(found)),
            Waiting::Moved(future) => match future.wait(most) {
                Err(PeerError::Absent) => None,
                outcome => Some(Ok(plain(vec![outcome]))),
            },
            Waiting::Received(promise, at) => {
                let outcome = promise.wait_for(*at, most)?;
                Some(Ok(plain(vec![outcome])))
            },
            Waiting::Deleted(promise) => Some(Ok(plain(promise.wait(most)?))),
        }
    }
}

#[pymethods]
impl DeviceFuture {
    /// Waits, and returns the keys that failed; None when the time is over first. Raises when every
    /// key failed.
    fn get(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<Option<Vec<Py<PyAny>>>> {
        let most = Duration::from_millis(timeout_ms.min(u64::from(u32::MAX)));
        let until = Instant::now() + most;
        let answers = loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(answers) = py.detach(|| self.wait(left.min(SIGNALS))) {
                break answers;
            }
            if left.is_zero() {
                return Ok(None);
            }
            py.check_signals()?;
        };
        let answers = answers.map_err(|failed| old(failed.status(), failed.cause()))?;
        let mut failed = Vec::new();
        let mut first = None;
        for (key, answer) in self.keys.iter().zip(answers) {
            if let Err(error) = answer {
                failed.push(key.clone_ref(py));
                first.get_or_insert(error);
            }
        }
        match first {
            Some(error) if failed.len() == self.keys.len() => Err(all_failed(&error)),
            _ => Ok(Some(failed)),
        }
    }
}

/// Nothing of a call came about: the first failure is everybody's.
pub(crate) fn all_failed(error: &Error) -> PyErr {
    match error.status() {
        Status::NotFound => old(
            Status::NotFound,
            "Cannot get objects from worker: Key not found",
        ),
        status => old(status, error.cause()),
    }
}
