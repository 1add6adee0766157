//! The cuda backend: the driver's own interface, found at run time, and NCCL for links.
//!
//! One library, `libcuda.so.1`, which comes with the driver; a machine without it gets a plain
//! answer. Each card's primary context is used, as frameworks do, pushed for a call and popped
//! after it. A stream cannot be aborted, and cannot be waited for with a limit: waits look at it in
//! steps. What hangs on it keeps its memory for ever.

mod api;
mod card;
mod nccl;

use std::ffi::{CStr, c_char, c_int};
use std::path::Path;
use std::ptr::null;
use std::sync::Arc;

use chariot_ascend_rt_sys::{Libraries, LoadError, Search};

use crate::capability::BackendKind;
use crate::device::Runtime;
use crate::driver::{Answer, Card, Driver};
use crate::error::DeviceError;
use api::{CUcontext, CudaApi, code};
use card::CudaCard;
use nccl::NcclApi;

/// The way to CUDA.
#[derive(Clone, Copy, Debug)]
pub struct Cuda;

impl Cuda {
    /// Finds `libcuda.so.1` (in `dir` first, then where the dynamic linker looks) and initialises
    /// it. Without NCCL there are no links; everything else works.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`]: not on this machine; the text names library, symbol and
    /// remedy.
    pub fn load(dir: Option<&Path>) -> Result<Runtime, DeviceError> {
        let absent = |reason: String| DeviceError::Unavailable {
            backend: BackendKind::Cuda,
            reason: reason.into_boxed_str(),
        };
        let search = Search {
            dirs: dir.into_iter().map(Path::to_owned).collect(),
            linker: true,
        };
        let libraries = Libraries::open(&search, &["libcuda.so.1"]).map_err(|error| {
            let reason = match error {
                LoadError::Library { reason, .. } => reason,
                LoadError::Symbol { .. } | LoadError::Stub { .. } => error.to_string(),
            };
            absent(format!(
                "libcuda.so.1 cannot be opened ({reason}); install the NVIDIA driver, or give the \
                 container access to it"
            ))
        })?;
        let api = CudaApi::find(&libraries).map_err(|symbol| {
            absent(format!(
                "libcuda.so.1 has no symbol {symbol}; Chariot needs the driver of CUDA 11.4 or \
                 newer: update it"
            ))
        })?;
        // SAFETY: 0 is the only flag; the call may be repeated, by any thread.
        let answer = unsafe { (api.init)(0) };
        if answer != code::SUCCESS {
            let text = api.words(answer);
            return Err(absent(format!(
                "cuInit answered {answer}{text}; look at nvidia-smi"
            )));
        }
        let nccl = NcclApi::find(&search);
        let library = Arc::new(Library {
            api,
            nccl,
            path: libraries.names().join(", "),
        });
        Ok(Runtime::new(Arc::new(CudaDriver { library })))
    }
}

/// The tables of functions.
#[derive(Debug)]
struct Library {
    api: CudaApi,
    nccl: Option<NcclApi>,
    path: String,
}

impl CudaApi {
    /// The driver's words for an answer, after a colon; or nothing.
    fn words(&self, answer: c_int) -> Box<str> {
        let mut text = null::<c_char>();
        // SAFETY: any code may be asked about; the pointer goes to a local.
        let known = unsafe { (self.error_string)(answer, &raw mut text) };
        if known != code::SUCCESS || text.is_null() {
            return "".into();
        }
        // SAFETY: a constant string of the driver, which is never unloaded.
        let text = unsafe { CStr::from_ptr(text) };
        format!(": {}", text.to_string_lossy()).into()
    }

    /// Turns an answer of the driver into ours.
    fn check(&self, call: &'static str, answer: c_int) -> Answer<()> {
        Err(match answer {
            code::SUCCESS => return Ok(()),
            code::NOT_SUPPORTED | code::STUB_LIBRARY | code::PEER_ACCESS_UNSUPPORTED => {
                DeviceError::Unsupported { what: call }
            },
            // After these, nothing works in the context any more.
            code::DEINITIALIZED
            | code::DEVICE_UNAVAILABLE
            | code::ECC_UNCORRECTABLE
            | code::NVLINK_UNCORRECTABLE
            | code::ILLEGAL_ADDRESS
            | code::LAUNCH_TIMEOUT
            | code::CONTEXT_IS_DESTROYED
            | code::ASSERT
            | code::HARDWARE_STACK_ERROR..=code::LAUNCH_FAILED => {
                DeviceError::Lost { call, code: answer }
            },
            code::INVALID_VALUE
            | code::NOT_INITIALIZED
            | code::INVALID_DEVICE
            | code::INVALID_CONTEXT
            | code::INVALID_HANDLE => {
                let text = format!("{call} answered {answer}{}", self.words(answer));
                DeviceError::misuse(text)
            },
            _ => DeviceError::Failed {
                call,
                code: answer,
                text: self.words(answer),
            },
        })
    }
}

/// The calling thread works with a card's context; on drop, with the one before.
struct Entered<'a>(&'a CudaApi);

impl<'a> Entered<'a> {
    fn new(api: &'a CudaApi, context: CUcontext) -> Answer<Self> {
        // SAFETY: a primary context that the card retains for as long as it is open.
        let answer = unsafe { (api.push_current)(context) };
        api.check("cuCtxPushCurrent", answer)?;
        Ok(Self(api))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: the context that this pushed is on top, since calls nest.
        let answer = unsafe { (self.0.pop_current)(&raw mut popped) };
        drop(self.0.check("cuCtxPopCurrent", answer));
    }
}

#[derive(Debug)]
struct CudaDriver {
    library: Arc<Library>,
}

impl Driver for CudaDriver {
    fn kind(&self) -> BackendKind {
        BackendKind::Cuda
    }

    fn versions(&self) -> Vec<String> {
        let mut version = 0;
        // SAFETY: the number goes to a local.
        let answer = unsafe { (self.library.api.driver_version)(&raw mut version) };
        let known = answer == code::SUCCESS;
        let version = if known { version } else { 0 };
        let mut texts = vec![
            format!(
                "CUDA driver interface {}.{}",
                version / 1000,
                version % 1000 / 10
            ),
            self.library.path.clone(),
        ];
        texts.extend(self.library.nccl.as_ref().map(NcclApi::version));
        texts
    }

    fn device_count(&self) -> Answer<u32> {
        let mut count = 0;
        // SAFETY: as for the version.
        let answer = unsafe { (self.library.api.device_count)(&raw mut count) };
        if answer == code::NO_DEVICE {
            return Ok(0);
        }
        self.library.api.check("cuDeviceGetCount", answer)?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    fn current(&self) -> Answer<Option<u32>> {
        let mut device = 0;
        // SAFETY: the number goes to a local.
        let answer = unsafe { (self.library.api.current_device)(&raw mut device) };
        if answer == code::INVALID_CONTEXT {
            return Ok(None);
        }
        self.library.api.check("cuCtxGetDevice", answer)?;
        // The driver's devices are their ordinals.
        Ok(u32::try_from(device).ok())
    }

    fn open(&self, ordinal: u32) -> Answer<Arc<dyn Card>> {
        Ok(Arc::new(CudaCard::open(
            Arc::clone(&self.library),
            ordinal,
        )?))
    }
}
