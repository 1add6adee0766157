//! The C symbols.
//!
//! Each has the type that the header gives its name, checked when compiling, and goes through
//! [`call`]: faults on order come first, then the phase, and a panic of ours becomes a code.

mod event;
mod hccl;
mod ipc;
mod memory;
mod process;
mod test_only;

use std::panic::{AssertUnwindSafe, catch_unwind};

use chariot_ascend_rt_sys::sys;

use crate::state::Phase;
use crate::{Code, fault, state};

/// When a function may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Ready,
}

/// Runs the body of an exported function.
pub(crate) fn call(symbol: &str, when: When, body: impl FnOnce() -> Result<(), Code>) -> i32 {
    if let Some(code) = fault::on_call(symbol) {
        return code;
    }
    if when == When::Ready && state::lock().phase != Phase::Ready {
        return sys::ACL_ERROR_UNINITIALIZE;
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => sys::ACL_SUCCESS,
        Ok(Err(code)) => {
            event::remember(symbol, code);
            code
        },
        Err(_) => sys::ACL_ERROR_RT_INTERNAL_ERROR,
    }
}

/// Declares functions that answer a code.
macro_rules! export {
    ($(
        $when:ident $name:ident as $kind:ident($($argument:ident: $type:ty),* $(,)?) $body:block
    )*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> i32 {
            let body = || -> Result<(), $crate::Code> { $body };
            $crate::export::call(stringify!($name), $crate::export::When::$when, body)
        }
        const _: chariot_ascend_rt_sys::sys::$kind = Some($name);
    )*};
}
pub(crate) use export;

/// Writes an answer where the caller of the C function wants it.
///
/// Not marked unsafe, since every exported function would only repeat its caller's promise: each
/// pointer argument is null or good for what the header says.
pub(crate) fn put<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    // SAFETY: the caller of the C function gave a pointer that is good for one such value.
    unsafe { to.write(value) };
    Ok(())
}

/// Reads `count` values that the caller of the C function passed, under the same promise as
/// [`put`].
pub(crate) fn take<T: Copy>(from: *const T, count: usize) -> Result<Vec<T>, Code> {
    if from.is_null() {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    // SAFETY: the caller of the C function gave a pointer that is good for that many values.
    let values = unsafe { std::slice::from_raw_parts(from, count) };
    Ok(values.to_vec())
}

/// Reads a string that the caller of the C function passed, under the same promise as [`put`].
pub(crate) fn text(from: *const std::ffi::c_char) -> Result<String, Code> {
    if from.is_null() {
        return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
    }
    // SAFETY: the caller of the C function gave a string that ends with a zero.
    let text = unsafe { std::ffi::CStr::from_ptr(from) };
    Ok(text.to_string_lossy().into_owned())
}
