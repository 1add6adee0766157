//! The functions, as tables. Which are required is the base of CANN 7.0; the rest came later, and
//! each user of an option has a fallback.

use std::ffi::c_void;
use std::mem;
use std::ptr::NonNull;

use crate::load::{Libraries, LoadError, Search};
use crate::sys;

/// A nullable pointer to a function of the C interface, as generated, and its plain form.
///
/// # Safety
/// Implemented for options of `extern "C"` function pointers alone: they have the size of an
/// address, and none is null.
pub unsafe trait Resolve: Sized {
    /// The pointer without the option.
    type Bare: Copy;
    /// Takes the option off.
    fn bare(self) -> Option<Self::Bare>;
}

// SAFETY: the generated names are options of function pointers; the size is asserted where used.
unsafe impl<F: Copy> Resolve for Option<F> {
    type Bare = F;
    fn bare(self) -> Option<F> {
        self
    }
}

/// Takes a symbol's address for the function that the header declares under its name.
///
/// # Safety
/// `address` is that of a function with the binary interface of `F`.
unsafe fn function<F: Resolve + Copy>(address: NonNull<c_void>) -> F {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the caller promises the type; sizes are equal, and an option of a function pointer
    // has the representation of the address.
    unsafe { mem::transmute_copy(&address) }
}

macro_rules! table {
    (
        $(#[$meta:meta])* $name:ident from $candidates:expr;
        required { $($required:ident: $required_type:ident,)* }
        optional { $($optional:ident: $optional_type:ident,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        #[expect(missing_docs, non_snake_case, reason = "the names are those of the library")]
        pub struct $name {
            $(pub $required: <sys::$required_type as Resolve>::Bare,)*
            $(pub $optional: sys::$optional_type,)*
            libraries: Libraries,
        }

        impl $name {
            /// Libraries that may hold the functions, in order.
            pub const CANDIDATES: &[&str] = &$candidates;
            /// Functions without which loading fails.
            pub const REQUIRED: &[&str] = &[$(stringify!($required)),*];
            /// Functions that may be missing.
            pub const OPTIONAL: &[&str] = &[$(stringify!($optional)),*];

            /// Opens the libraries and finds the functions.
            ///
            /// # Errors
            /// [`LoadError`]: the interface is not to be had on this machine, and the text says
            /// what to do about it.
            pub fn load(search: &Search) -> Result<Self, LoadError> {
                let libraries = Libraries::open(search, Self::CANDIDATES)?;
                let api = Self {
                    $($required: {
                        let address = libraries.require(stringify!($required))?;
                        // SAFETY: the symbol of this name has the type that the header gives it.
                        let found: sys::$required_type = unsafe { function(address) };
                        found.bare().expect("an address that is not null is a function")
                    },)*
                    $($optional: match libraries.find(stringify!($optional)) {
                        // SAFETY: as above, for a function that came later under this name.
                        Some(address) => unsafe { function(address) },
                        None => None,
                    },)*
                    libraries,
                };
                api.refuse_stub()?;
                Ok(api)
            }

            /// Paths of the libraries that answer.
            pub fn libraries(&self) -> &[String] {
                self.libraries.names()
            }

            /// Names of the optional functions that these libraries lack.
            #[must_use]
            pub fn missing(&self) -> Vec<&'static str> {
                let mut missing = Vec::new();
                $(if self.$optional.is_none() {
                    missing.push(stringify!($optional));
                })*
                missing
            }
        }
    };
}

table! {
    /// The runtime, `AscendCL`. Every function is unsafe to call, under the conditions that CANN
    /// documents; `npu/device` keeps them.
    AclApi from ["libascendcl.so", "libacl_rt.so"];
    required {
        aclInit: aclInit_fn,
        aclFinalize: aclFinalize_fn,
        aclGetRecentErrMsg: aclGetRecentErrMsg_fn,
        aclrtSetDevice: aclrtSetDevice_fn,
        aclrtResetDevice: aclrtResetDevice_fn,
        aclrtGetDevice: aclrtGetDevice_fn,
        aclrtGetDeviceCount: aclrtGetDeviceCount_fn,
        aclrtGetSocName: aclrtGetSocName_fn,
        aclrtSynchronizeDevice: aclrtSynchronizeDevice_fn,
        aclrtDeviceCanAccessPeer: aclrtDeviceCanAccessPeer_fn,
        aclrtDeviceEnablePeerAccess: aclrtDeviceEnablePeerAccess_fn,
        aclrtCreateContext: aclrtCreateContext_fn,
        aclrtDestroyContext: aclrtDestroyContext_fn,
        aclrtSetCurrentContext: aclrtSetCurrentContext_fn,
        aclrtGetCurrentContext: aclrtGetCurrentContext_fn,
        aclrtCreateStream: aclrtCreateStream_fn,
        aclrtCreateStreamWithConfig: aclrtCreateStreamWithConfig_fn,
        aclrtDestroyStream: aclrtDestroyStream_fn,
        aclrtDestroyStreamForce: aclrtDestroyStreamForce_fn,
        aclrtSynchronizeStream: aclrtSynchronizeStream_fn,
        aclrtSynchronizeStreamWithTimeout: aclrtSynchronizeStreamWithTimeout_fn,
        aclrtStreamQuery: aclrtStreamQuery_fn,
        aclrtStreamWaitEvent: aclrtStreamWaitEvent_fn,
        aclrtCreateEvent: aclrtCreateEvent_fn,
        aclrtCreateEventWithFlag: aclrtCreateEventWithFlag_fn,
        aclrtDestroyEvent: aclrtDestroyEvent_fn,
        aclrtRecordEvent: aclrtRecordEvent_fn,
        aclrtResetEvent: aclrtResetEvent_fn,
        aclrtQueryEventStatus: aclrtQueryEventStatus_fn,
        aclrtSynchronizeEvent: aclrtSynchronizeEvent_fn,
        aclrtEventElapsedTime: aclrtEventElapsedTime_fn,
        aclrtMalloc: aclrtMalloc_fn,
        aclrtFree: aclrtFree_fn,
        aclrtMallocHost: aclrtMallocHost_fn,
        aclrtFreeHost: aclrtFreeHost_fn,
        aclrtGetMemInfo: aclrtGetMemInfo_fn,
        aclrtMemcpy: aclrtMemcpy_fn,
        aclrtMemcpyAsync: aclrtMemcpyAsync_fn,
        aclrtMemcpy2d: aclrtMemcpy2d_fn,
        aclrtMemcpy2dAsync: aclrtMemcpy2dAsync_fn,
        aclrtMemset: aclrtMemset_fn,
        aclrtMemsetAsync: aclrtMemsetAsync_fn,
    }
    optional {
        aclFinalizeReference: aclFinalizeReference_fn,
        aclsysGetVersionStr: aclsysGetVersionStr_fn,
        aclrtResetDeviceForce: aclrtResetDeviceForce_fn,
        aclrtQueryDeviceStatus: aclrtQueryDeviceStatus_fn,
        aclrtSynchronizeDeviceWithTimeout: aclrtSynchronizeDeviceWithTimeout_fn,
        aclrtDeviceTaskAbort: aclrtDeviceTaskAbort_fn,
        aclrtDeviceDisablePeerAccess: aclrtDeviceDisablePeerAccess_fn,
        aclrtGetDevicesTopo: aclrtGetDevicesTopo_fn,
        aclrtGetDeviceInfo: aclrtGetDeviceInfo_fn,
        aclrtDeviceGetBareTgid: aclrtDeviceGetBareTgid_fn,
        aclrtStreamAbort: aclrtStreamAbort_fn,
        aclrtSetStreamFailureMode: aclrtSetStreamFailureMode_fn,
        aclrtCreateEventExWithFlag: aclrtCreateEventExWithFlag_fn,
        aclrtQueryEvent: aclrtQueryEvent_fn,
        aclrtSynchronizeEventWithTimeout: aclrtSynchronizeEventWithTimeout_fn,
        aclrtLaunchHostFunc: aclrtLaunchHostFunc_fn,
        aclrtFreeWithDevSync: aclrtFreeWithDevSync_fn,
        aclrtHostRegister: aclrtHostRegister_fn,
        aclrtHostRegisterV2: aclrtHostRegisterV2_fn,
        aclrtHostGetDevicePointer: aclrtHostGetDevicePointer_fn,
        aclrtHostUnregister: aclrtHostUnregister_fn,
        aclrtPointerGetAttributes: aclrtPointerGetAttributes_fn,
        aclrtMemcpyBatch: aclrtMemcpyBatch_fn,
        aclrtMemcpyBatchAsync: aclrtMemcpyBatchAsync_fn,
        aclrtIpcMemGetExportKey: aclrtIpcMemGetExportKey_fn,
        aclrtIpcMemSetImportPid: aclrtIpcMemSetImportPid_fn,
        aclrtIpcMemImportByKey: aclrtIpcMemImportByKey_fn,
        aclrtIpcMemClose: aclrtIpcMemClose_fn,
    }
}

table! {
    /// HCCL's communicators between two sides. From 9.0 on, some functions are in a library of
    /// their own.
    HcclApi from ["libhccl.so", "libhcomm.so"];
    required {
        HcclGetRootInfo: HcclGetRootInfo_fn,
        HcclCommInitRootInfo: HcclCommInitRootInfo_fn,
        HcclCommDestroy: HcclCommDestroy_fn,
        HcclSend: HcclSend_fn,
        HcclRecv: HcclRecv_fn,
        HcclGetRankId: HcclGetRankId_fn,
        HcclGetRankSize: HcclGetRankSize_fn,
    }
    optional {
        HcclCommInitRootInfoConfig: HcclCommInitRootInfoConfig_fn,
        HcclBatchSendRecv: HcclBatchSendRecv_fn,
        HcclGetCommAsyncError: HcclGetCommAsyncError_fn,
        HcclGetErrorString: HcclGetErrorString_fn,
        HcclGroupStart: HcclGroupStart_fn,
        HcclGroupEnd: HcclGroupEnd_fn,
    }
}

impl AclApi {
    /// The link stubs of the toolkit have every symbol, and answer 100039 to every call.
    fn refuse_stub(&self) -> Result<(), LoadError> {
        let mut count = 0;
        // SAFETY: the count is written to a local; asking before initialisation is answered or
        // refused.
        let code = unsafe { (self.aclrtGetDeviceCount)(&raw mut count) };
        if code == sys::ACL_ERROR_COMPILING_STUB_MODE {
            let library = self.libraries.names().join(", ");
            return Err(LoadError::Stub { library });
        }
        Ok(())
    }
}

impl HcclApi {
    /// HCCL comes without link stubs of that kind: the runtime's table is the one that notices.
    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "both tables are asked"
    )]
    fn refuse_stub(&self) -> Result<(), LoadError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_one_table_and_once() {
        let mut names: Vec<&str> = [AclApi::REQUIRED, AclApi::OPTIONAL].concat();
        names.extend([HcclApi::REQUIRED, HcclApi::OPTIONAL].concat());
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_function_of_the_header_is_in_a_table() {
        let header = include_str!("../include/ascend_rt.h");
        let mut declared: Vec<&str> = header
            .split("(*")
            .skip(1)
            .filter_map(|rest| rest.split_once("_fn)").map(|(name, _)| name))
            .filter(|name| name.chars().all(|letter| letter.is_ascii_alphanumeric()))
            .collect();
        declared.sort_unstable();
        let mut tables: Vec<&str> = [AclApi::REQUIRED, AclApi::OPTIONAL].concat();
        tables.extend([HcclApi::REQUIRED, HcclApi::OPTIONAL].concat());
        tables.sort_unstable();
        assert_eq!(declared, tables);
    }
}
