//! The ascend backend: `AscendCL` for a card, HCCL for links.
//!
//! Whose card a thread works with is a property of the thread, and a framework in this process may
//! use the same thread with another card: every call enters this card's context and leaves the one
//! that was there. The runtime is initialised once and never finalised, since finalising ends it
//! for everybody; a card is reset when the last thing on it is gone, which the runtime counts.

mod card;
mod copies;
mod hccl;

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;
use std::sync::Arc;

use chariot_ascend_rt_sys::{AclApi, HcclApi, Search, StatusClass, classify, sys};

use crate::capability::BackendKind;
use crate::device::Runtime;
use crate::driver::{Answer, Card, Driver};
use crate::error::DeviceError;
use card::AscendCard;

/// The way to `AscendCL` and HCCL.
#[derive(Clone, Copy, Debug)]
pub struct Ascend;

impl Ascend {
    /// Finds the libraries, as `search` says, and initialises the runtime. Without HCCL there are
    /// no links; everything else works.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`]: not on this machine; the text names library, symbol and
    /// remedy.
    pub fn load(search: &Search) -> Result<Runtime, DeviceError> {
        let absent = |reason: String| DeviceError::Unavailable {
            backend: BackendKind::Ascend,
            reason: reason.into_boxed_str(),
        };
        let acl = AclApi::load(search).map_err(|error| absent(error.to_string()))?;
        let hccl = HcclApi::load(search).ok();
        let library = Library { acl, hccl };
        // SAFETY: no configuration file; the call may be made at any time, by any thread.
        let code = unsafe { (library.acl.aclInit)(std::ptr::null()) };
        // Somebody else in this process was first: it is the same runtime.
        if code != sys::ACL_SUCCESS && code != sys::ACL_ERROR_REPEAT_INITIALIZE {
            let text = library.words();
            let reason = format!("aclInit answered {code}{text}; check the driver with npu-smi");
            return Err(absent(reason));
        }
        Ok(Runtime::new(Arc::new(AscendDriver {
            library: Arc::new(library),
        })))
    }
}

/// The tables of functions.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) acl: AclApi,
    pub(super) hccl: Option<HcclApi>,
}

impl Library {
    /// What the runtime says about the calling thread's last failure, after a colon; or nothing.
    fn words(&self) -> Box<str> {
        // SAFETY: no conditions; the text is the thread's own until its next call.
        let text = unsafe { (self.acl.aclGetRecentErrMsg)() };
        if text.is_null() {
            return "".into();
        }
        // SAFETY: not null, so a string that ends with a zero.
        let text = unsafe { CStr::from_ptr(text) };
        format!(": {}", text.to_string_lossy().trim()).into()
    }

    /// Turns a code into an answer.
    pub(super) fn check(&self, call: &'static str, code: sys::aclError) -> Answer<()> {
        match code {
            sys::ACL_SUCCESS => return Ok(()),
            sys::ACL_ERROR_RT_STREAM_TASK_FULL
            | sys::ACL_ERROR_RT_RESOURCE_ALLOC_FAIL
            | sys::ACL_ERROR_RT_NO_EVENT_RESOURCE
            | sys::ACL_ERROR_RT_NO_STREAM_RESOURCE => return Err(DeviceError::Full { what: call }),
            sys::ACL_ERROR_RT_WAIT_TIMEOUT
            | sys::ACL_ERROR_RT_STREAM_SYNC_TIMEOUT
            | sys::ACL_ERROR_RT_EVENT_SYNC_TIMEOUT => {
                return Err(DeviceError::Timeout { what: call });
            },
            sys::ACL_ERROR_RT_STREAM_ABORT | sys::ACL_ERROR_RT_DEVICE_TASK_ABORT => {
                return Err(DeviceError::Aborted);
            },
            _ => {},
        }
        Err(match classify(code) {
            StatusClass::Unsupported => DeviceError::Unsupported { what: call },
            StatusClass::DeviceLost => DeviceError::Lost { call, code },
            StatusClass::PeerBroken => DeviceError::PeerBroken { call, code },
            StatusClass::Misuse => {
                let text = format!("{call} answered {code}{}", self.words());
                DeviceError::misuse(text)
            },
            StatusClass::Success | StatusClass::Retry | StatusClass::Failed => {
                DeviceError::Failed {
                    call,
                    code,
                    text: self.words(),
                }
            },
        })
    }

    /// The calling thread's context; null when it has none.
    fn current(&self) -> sys::aclrtContext {
        let mut context = null_mut();
        // SAFETY: the answer goes to a local; a thread without a card is refused, and it stays
        // null.
        let code = unsafe { (self.acl.aclrtGetCurrentContext)(&raw mut context) };
        if code == sys::ACL_SUCCESS {
            context
        } else {
            null_mut()
        }
    }

    /// Makes a context the calling thread's.
    fn make_current(&self, context: sys::aclrtContext) -> Answer<()> {
        // SAFETY: the context is one that the runtime gave; one that is gone is refused.
        let code = unsafe { (self.acl.aclrtSetCurrentContext)(context) };
        self.check("aclrtSetCurrentContext", code)
    }
}

/// The calling thread works with a card; on drop, with the one before.
pub(super) struct Entered<'a> {
    library: &'a Library,
    before: sys::aclrtContext,
}

impl<'a> Entered<'a> {
    /// Enters the card whose context this is.
    pub(super) fn new(library: &'a Library, context: usize) -> Answer<Self> {
        let (before, context) = (library.current(), context as sys::aclrtContext);
        if before == context {
            return Ok(Self {
                library,
                before: null_mut(),
            });
        }
        library.make_current(context)?;
        Ok(Self { library, before })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if !self.before.is_null() {
            // A context that was destroyed meanwhile cannot be gone back to.
            drop(self.library.make_current(self.before));
        }
    }
}

#[derive(Debug)]
struct AscendDriver {
    library: Arc<Library>,
}

impl AscendDriver {
    /// The runtime's version, where it tells.
    fn version(&self) -> Option<String> {
        let ask = self.library.acl.aclsysGetVersionStr?;
        let mut package = *b"runtime\0";
        let mut version = [0_u8; 128];
        let names = package.as_mut_ptr().cast::<c_char>();
        // SAFETY: a string that ends with a zero, and 128 bytes for the answer, as documented.
        let code = unsafe { ask(names, version.as_mut_ptr().cast()) };
        let text = CStr::from_bytes_until_nul(&version).ok()?;
        (code == sys::ACL_SUCCESS).then(|| text.to_string_lossy().into_owned())
    }

    fn soc(&self) -> String {
        // SAFETY: no conditions; the name is the library's, or null.
        let name = unsafe { (self.library.acl.aclrtGetSocName)() };
        if name.is_null() {
            return "unknown".to_owned();
        }
        // SAFETY: the library's own string, which lives as long as it.
        unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned()
    }
}

impl Driver for AscendDriver {
    fn kind(&self) -> BackendKind {
        BackendKind::Ascend
    }

    fn versions(&self) -> Vec<String> {
        let version = self
            .version()
            .unwrap_or_else(|| "of unknown version".to_owned());
        let mut texts = vec![format!("CANN runtime {version} on {}", self.soc())];
        texts.extend(self.library.acl.libraries().iter().cloned());
        let hccl = self.library.hccl.iter();
        texts.extend(hccl.flat_map(|hccl| hccl.libraries().iter().cloned()));
        texts
    }

    fn device_count(&self) -> Answer<u32> {
        let mut count = 0;
        // SAFETY: the count goes to a local.
        let code = unsafe { (self.library.acl.aclrtGetDeviceCount)(&raw mut count) };
        if code == sys::ACL_ERROR_RT_NO_DEVICE {
            return Ok(0);
        }
        self.library.check("aclrtGetDeviceCount", code)?;
        Ok(count)
    }

    fn current(&self) -> Answer<Option<u32>> {
        let mut number = 0;
        // SAFETY: the number goes to a local.
        let code = unsafe { (self.library.acl.aclrtGetDevice)(&raw mut number) };
        if code == sys::ACL_ERROR_RT_CONTEXT_NULL {
            return Ok(None);
        }
        self.library.check("aclrtGetDevice", code)?;
        Ok(u32::try_from(number).ok())
    }

    fn open(&self, ordinal: u32) -> Answer<Arc<dyn Card>> {
        let number = i32::try_from(ordinal).map_err(|_big| DeviceError::misuse("card number"))?;
        let before = self.library.current();
        // SAFETY: any number may be asked for; the runtime refuses what is no card.
        let code = unsafe { (self.library.acl.aclrtSetDevice)(number) };
        self.library.check("aclrtSetDevice", code)?;
        let context = self.library.current() as usize;
        if !before.is_null() {
            self.library.make_current(before)?;
        }
        if context == 0 {
            return Err(DeviceError::Lost {
                call: "aclrtGetCurrentContext",
                code: 0,
            });
        }
        let card = AscendCard::new(Arc::clone(&self.library), number, context, self.soc());
        Ok(Arc::new(card))
    }
}
