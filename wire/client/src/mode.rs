//! Blocking calls and futures are the same code: every operation is a future, and a blocking call's
//! is ready when it is polled first.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// How an operation waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It blocks the thread, and is never pending.
    Blocking,
    /// It is pending, and its waker is woken.
    Waking,
}

/// Runs an operation that was made with [`Mode::Blocking`].
///
/// # Panics
///
/// When the operation is pending: it was made with another mode.
pub(crate) fn block<T>(operation: impl Future<Output = T>) -> T {
    let operation = pin!(operation);
    match operation.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a blocking operation is never pending"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_operation_gives_its_value() {
        assert_eq!(block(async { 7 }), 7);
    }

    #[test]
    #[should_panic(expected = "never pending")]
    fn pending_operation_is_a_bug() {
        block(std::future::pending::<()>());
    }
}
