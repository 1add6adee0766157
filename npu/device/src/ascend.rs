//! The ascend backend: its way in; the calls behind it follow.

use crate::capability::BackendKind;
use crate::device::Runtime;
use crate::error::DeviceError;

/// The way to `AscendCL` and HCCL.
#[derive(Clone, Copy, Debug)]
pub struct Ascend;

impl Ascend {
    /// Finds the libraries and initialises them.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`]: not on this machine; the text says what to do.
    pub fn load(_search: &chariot_ascend_rt_sys::Search) -> Result<Runtime, DeviceError> {
        let reason = "this build does not have it yet".into();
        Err(DeviceError::Unavailable {
            backend: BackendKind::Ascend,
            reason,
        })
    }
}
