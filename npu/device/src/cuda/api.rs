//! What is called of the CUDA driver: own declarations from its documented interface.
//!
//! Names with a version (`_v2`) are those that the header maps the plain names to. Of the two
//! batch copies either may be there: drivers of CUDA 12.8 have the first, those of 13.0 both, and
//! they differ in one argument.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem;
use std::ptr::NonNull;

use chariot_ascend_rt_sys::Libraries;

/// Numbers of the driver's results.
pub(super) mod code {
    use std::ffi::c_int;

    pub(in crate::cuda) const SUCCESS: c_int = 0;
    pub(in crate::cuda) const INVALID_VALUE: c_int = 1;
    pub(in crate::cuda) const OUT_OF_MEMORY: c_int = 2;
    pub(in crate::cuda) const NOT_INITIALIZED: c_int = 3;
    pub(in crate::cuda) const DEINITIALIZED: c_int = 4;
    pub(in crate::cuda) const STUB_LIBRARY: c_int = 34;
    pub(in crate::cuda) const DEVICE_UNAVAILABLE: c_int = 46;
    pub(in crate::cuda) const NO_DEVICE: c_int = 100;
    pub(in crate::cuda) const INVALID_DEVICE: c_int = 101;
    pub(in crate::cuda) const INVALID_CONTEXT: c_int = 201;
    pub(in crate::cuda) const ECC_UNCORRECTABLE: c_int = 214;
    pub(in crate::cuda) const PEER_ACCESS_UNSUPPORTED: c_int = 217;
    pub(in crate::cuda) const NVLINK_UNCORRECTABLE: c_int = 220;
    pub(in crate::cuda) const INVALID_HANDLE: c_int = 400;
    pub(in crate::cuda) const NOT_READY: c_int = 600;
    pub(in crate::cuda) const ILLEGAL_ADDRESS: c_int = 700;
    pub(in crate::cuda) const LAUNCH_TIMEOUT: c_int = 702;
    pub(in crate::cuda) const PEER_ACCESS_ALREADY_ENABLED: c_int = 704;
    pub(in crate::cuda) const CONTEXT_IS_DESTROYED: c_int = 709;
    pub(in crate::cuda) const ASSERT: c_int = 710;
    pub(in crate::cuda) const HOST_MEMORY_ALREADY_REGISTERED: c_int = 712;
    pub(in crate::cuda) const HARDWARE_STACK_ERROR: c_int = 714;
    pub(in crate::cuda) const LAUNCH_FAILED: c_int = 719;
    pub(in crate::cuda) const NOT_SUPPORTED: c_int = 801;
}

pub(super) const STREAM_NON_BLOCKING: c_uint = 1;
pub(super) const EVENT_DISABLE_TIMING: c_uint = 2;
pub(super) const HOST_ALLOC_PORTABLE: c_uint = 1;
pub(super) const HOST_REGISTER_PORTABLE: c_uint = 1;
pub(super) const HOST_REGISTER_READ_ONLY: c_uint = 8;
pub(super) const IPC_LAZY_ENABLE_PEER_ACCESS: c_uint = 1;
/// Attribute: read-only pages can be registered.
pub(super) const ATTRIBUTE_READ_ONLY_REGISTER: c_int = 113;
/// Sources of a batch are read in the order of the stream.
pub(super) const SOURCE_ACCESS_STREAM: c_int = 1;
pub(super) const LOCATION_DEVICE: c_int = 1;
pub(super) const LOCATION_HOST: c_int = 2;

pub(super) type CUdevice = c_int;
pub(super) type CUdeviceptr = u64;
pub(super) type CUcontext = *mut c_void;
pub(super) type CUstream = *mut c_void;
pub(super) type CUevent = *mut c_void;

/// Device memory, as another process names it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct CUipcMemHandle(pub(super) [u8; 64]);

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct CUmemLocation {
    pub(super) kind: c_int,
    pub(super) id: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct CUmemcpyAttributes {
    pub(super) source_access_order: c_int,
    pub(super) source_hint: CUmemLocation,
    pub(super) destination_hint: CUmemLocation,
    pub(super) flags: c_uint,
}

const _: () = assert!(size_of::<CUmemcpyAttributes>() == 24);
const _: () = assert!(size_of::<CUipcMemHandle>() == 64);

/// Takes a symbol's address for a function.
///
/// # Safety
/// `F` is a function pointer type, and `address` that of a function of this type.
pub(super) unsafe fn function<F: Copy>(address: NonNull<c_void>) -> F {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the caller promises the type, and the sizes are equal.
    unsafe { mem::transmute_copy(&address) }
}

macro_rules! table {
    (
        required { $($required:ident = $required_symbol:literal ($($of:ty),*);)* }
        optional { $($optional:ident = $optional_symbol:literal ($($of_optional:ty),*);)* }
    ) => {
        /// The driver's functions.
        #[derive(Debug)]
        pub(in crate::cuda) struct CudaApi {
            $(pub(super) $required: unsafe extern "C" fn($($of),*) -> c_int,)*
            $(pub(super) $optional: Option<unsafe extern "C" fn($($of_optional),*) -> c_int>,)*
        }

        impl CudaApi {
            /// Finds the functions, or names the required one that is missing.
            pub(in crate::cuda) fn find(libraries: &Libraries) -> Result<Self, &'static str> {
                Ok(Self {
                    $($required: {
                        let address = libraries.find($required_symbol);
                        let address = address.ok_or($required_symbol)?;
                        // SAFETY: the driver's symbol of this name has the documented type that
                        // the table gives it, and the library is never unloaded.
                        unsafe { function(address) }
                    },)*
                    $($optional: match libraries.find($optional_symbol) {
                        // SAFETY: likewise for a symbol that older drivers lack.
                        Some(address) => Some(unsafe { function(address) }),
                        None => None,
                    },)*
                })
            }
        }
    };
}

table! {
    required {
        init = "cuInit" (c_uint);
        driver_version = "cuDriverGetVersion" (*mut c_int);
        error_string = "cuGetErrorString" (c_int, *mut *const c_char);
        device_count = "cuDeviceGetCount" (*mut c_int);
        device_get = "cuDeviceGet" (*mut CUdevice, c_int);
        device_name = "cuDeviceGetName" (*mut c_char, c_int, CUdevice);
        device_attribute = "cuDeviceGetAttribute" (*mut c_int, c_int, CUdevice);
        device_pci_bus_id = "cuDeviceGetPCIBusId" (*mut c_char, c_int, CUdevice);
        device_can_access_peer = "cuDeviceCanAccessPeer" (*mut c_int, CUdevice, CUdevice);
        primary_retain = "cuDevicePrimaryCtxRetain" (*mut CUcontext, CUdevice);
        primary_release = "cuDevicePrimaryCtxRelease_v2" (CUdevice);
        push_current = "cuCtxPushCurrent_v2" (CUcontext);
        pop_current = "cuCtxPopCurrent_v2" (*mut CUcontext);
        current_device = "cuCtxGetDevice" (*mut CUdevice);
        enable_peer = "cuCtxEnablePeerAccess" (CUcontext, c_uint);
        mem_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
        mem_alloc = "cuMemAlloc_v2" (*mut CUdeviceptr, usize);
        mem_free = "cuMemFree_v2" (CUdeviceptr);
        host_alloc = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
        host_free = "cuMemFreeHost" (*mut c_void);
        host_register = "cuMemHostRegister_v2" (*mut c_void, usize, c_uint);
        host_unregister = "cuMemHostUnregister" (*mut c_void);
        stream_create = "cuStreamCreate" (*mut CUstream, c_uint);
        stream_destroy = "cuStreamDestroy_v2" (CUstream);
        stream_query = "cuStreamQuery" (CUstream);
        stream_synchronize = "cuStreamSynchronize" (CUstream);
        stream_wait_event = "cuStreamWaitEvent" (CUstream, CUevent, c_uint);
        event_create = "cuEventCreate" (*mut CUevent, c_uint);
        event_destroy = "cuEventDestroy_v2" (CUevent);
        event_record = "cuEventRecord" (CUevent, CUstream);
        event_query = "cuEventQuery" (CUevent);
        copy_in = "cuMemcpyHtoD_v2" (CUdeviceptr, *const c_void, usize);
        copy_out = "cuMemcpyDtoH_v2" (*mut c_void, CUdeviceptr, usize);
        copy_in_async = "cuMemcpyHtoDAsync_v2" (CUdeviceptr, *const c_void, usize, CUstream);
        copy_out_async = "cuMemcpyDtoHAsync_v2" (*mut c_void, CUdeviceptr, usize, CUstream);
        copy_async = "cuMemcpyAsync" (CUdeviceptr, CUdeviceptr, usize, CUstream);
        fill_async = "cuMemsetD8Async" (CUdeviceptr, u8, usize, CUstream);
        ipc_get = "cuIpcGetMemHandle" (*mut CUipcMemHandle, CUdeviceptr);
        ipc_open = "cuIpcOpenMemHandle_v2" (*mut CUdeviceptr, CUipcMemHandle, c_uint);
        ipc_close = "cuIpcCloseMemHandle" (CUdeviceptr);
    }
    optional {
        batch_async = "cuMemcpyBatchAsync" (
            *mut CUdeviceptr, *mut CUdeviceptr, *mut usize, usize, *mut CUmemcpyAttributes,
            *mut usize, usize, *mut usize, CUstream
        );
        batch_async_v2 = "cuMemcpyBatchAsync_v2" (
            *mut CUdeviceptr, *mut CUdeviceptr, *mut usize, usize, *mut CUmemcpyAttributes,
            *mut usize, usize, CUstream
        );
    }
}
