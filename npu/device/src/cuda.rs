//! The cuda backend: its way in; the calls behind it follow.

use crate::capability::BackendKind;
use crate::device::Runtime;
use crate::error::DeviceError;

/// The way to the CUDA driver.
#[derive(Clone, Copy, Debug)]
pub struct Cuda;

impl Cuda {
    /// Finds the libraries and initialises them.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`]: not on this machine; the text says what to do.
    pub fn load(_search: Option<&std::path::Path>) -> Result<Runtime, DeviceError> {
        let reason = "this build does not have it yet".into();
        Err(DeviceError::Unavailable {
            backend: BackendKind::Cuda,
            reason,
        })
    }
}
