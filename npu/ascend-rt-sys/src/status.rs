//! What a caller can do about a status of the runtime.

use crate::sys;

/// Classes of the runtime's status codes, by what the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// Done.
    Success,
    /// May be tried again: after abort and drain (timeouts), after making room (memory).
    Retry,
    /// The other end of a transfer is gone: drop the link, then build it anew.
    PeerBroken,
    /// The card is gone: every object on it is lost.
    DeviceLost,
    /// This CANN or this driver does not offer it: take the fallback.
    Unsupported,
    /// Wrong use by this side: a bug, never tried again.
    Misuse,
    /// Anything else: the operation failed.
    Failed,
}

/// Returns what `code` asks of the caller. Codes that nobody named are [`StatusClass::Failed`],
/// those of the parameter group are [`StatusClass::Misuse`].
#[must_use]
pub fn classify(code: sys::aclError) -> StatusClass {
    match code {
        sys::ACL_SUCCESS => StatusClass::Success,
        sys::ACL_ERROR_RT_WAIT_TIMEOUT
        | sys::ACL_ERROR_RT_STREAM_SYNC_TIMEOUT
        | sys::ACL_ERROR_RT_EVENT_SYNC_TIMEOUT
        | sys::ACL_ERROR_RT_MEMORY_ALLOCATION
        | sys::ACL_ERROR_RT_DEVICE_OOM
        | sys::ACL_ERROR_RT_STREAM_TASK_FULL
        | sys::ACL_ERROR_RT_COMM_RETRY_FAIL => StatusClass::Retry,
        sys::ACL_ERROR_RT_LINK_ERROR
        | sys::ACL_ERROR_RT_SUSPECT_REMOTE
        | sys::ACL_ERROR_RT_SOCKET_CLOSE => StatusClass::PeerBroken,
        sys::ACL_ERROR_RT_LOST_HEARTBEAT
        | sys::ACL_ERROR_RT_DEVICE_MEM_ERROR
        | sys::ACL_ERROR_RT_HBM_MULTI_BIT_ECC => StatusClass::DeviceLost,
        sys::ACL_ERROR_RT_FEATURE_NOT_SUPPORT | sys::ACL_ERROR_COMPILING_STUB_MODE => {
            StatusClass::Unsupported
        },
        sys::ACL_ERROR_RT_TASK_TIMEOUT
        | sys::ACL_ERROR_RT_DEVICE_TASK_ABORT
        | sys::ACL_ERROR_RT_STREAM_ABORT => StatusClass::Failed,
        100_000..=199_999 => StatusClass::Misuse,
        _ => StatusClass::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_fall_into_the_class_that_says_what_to_do() {
        let cases = [
            (0, StatusClass::Success),
            (507_046, StatusClass::Retry),
            (207_001, StatusClass::Retry),
            (507_057, StatusClass::PeerBroken),
            (507_010, StatusClass::DeviceLost),
            (207_000, StatusClass::Unsupported),
            (107_003, StatusClass::Misuse),
            (100_000, StatusClass::Misuse),
            (107_023, StatusClass::Failed),
            (507_899, StatusClass::Failed),
            (-1, StatusClass::Failed),
        ];
        for (code, class) in cases {
            assert_eq!(classify(code), class, "{code}");
        }
    }
}
