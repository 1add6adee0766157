//! The border: raw pointers become references, results become numbers, panics stop.
//!
//! Every function of the ABI runs inside `guard`. The words of the last failure of each thread
//! lie in thread-local memory until its next failure.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chariot_client::{Error, Status};

use crate::options::Bytes;
use crate::status::CHARIOT_OK;

/// Most keys of one call: what `exist` takes, the widest of all.
pub(crate) const BATCH_MAX: usize = 100_000;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::new(CString::default());
}

/// Runs one function's body: its error, or its panic, becomes a status and words.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Error>) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CHARIOT_OK,
        Ok(Err(error)) => failed(&error),
        Err(payload) => {
            let cause = format!("a fault in libchariot: {}", panic_words(&*payload));
            // Dropping a payload may itself panic; leaking a string on a bug is the lesser evil.
            Box::leak(payload);
            failed(&Error::new(Status::Internal, cause))
        },
    }
}

/// Runs a body whose answer is a plain value, `otherwise` when it panics.
pub(crate) fn guard_value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    let mut answer = otherwise;
    guard(|| {
        answer = body();
        Ok(())
    });
    answer
}

fn panic_words(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

/// Keeps the words of a failure for this thread and returns its number.
#[cold]
pub(crate) fn failed(error: &Error) -> i32 {
    if error.status() != Status::NotFound {
        let words = CString::new(error.to_string().replace('\0', "?")).unwrap_or_default();
        // Gone only while the thread ends: then nobody can ask.
        let _gone = LAST_ERROR.try_with(|last| {
            if let Ok(mut last) = last.try_borrow_mut() {
                *last = words;
            }
        });
    }
    i32::from(error.status().as_u16())
}

/// A miss: a status, and no words, because nothing went wrong.
pub(crate) fn miss() -> Error {
    Error::new(Status::NotFound, "no such key")
}

pub(crate) fn invalid(cause: &'static str) -> Error {
    Error::new(Status::InvalidArgument, cause)
}

/// The words of this thread's last failure; empty when there was none.
///
/// The string belongs to the library. It stays until the next failure in this thread, or until the
/// thread ends. Never null. Threads: each sees its own.
#[unsafe(no_mangle)]
pub extern "C" fn chariot_last_error() -> *const c_char {
    LAST_ERROR
        .try_with(|last| last.try_borrow().map_or(c"".as_ptr(), |last| last.as_ptr()))
        .unwrap_or_else(|_gone| c"".as_ptr())
}

/// Borrows a handle.
///
/// # Safety
///
/// `pointer` is null or points to a live `T` that nobody changes during `'a`.
pub(crate) unsafe fn handle<'a, T>(pointer: *const T) -> Result<&'a T, Error> {
    // SAFETY: the caller keeps this function's contract.
    unsafe { pointer.as_ref() }.ok_or_else(|| invalid("a handle is null"))
}

/// Borrows memory of the caller.
///
/// # Safety
///
/// `pointer` is null, or `count` initialised `T`s lie there and nobody changes them during `'a`.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], Error> {
    if count == 0 {
        return Ok(&[]);
    }
    check::<T>(pointer.cast(), count)?;
    // SAFETY: not null, aligned and of possible size by the check; the rest is our contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Borrows memory of the caller to be written; nothing is read from it.
///
/// # Safety
///
/// `pointer` is null, or room for `count` `T`s lies there that nobody else uses during `'a`.
pub(crate) unsafe fn room<'a, T>(
    pointer: *mut T,
    count: usize,
) -> Result<&'a mut [MaybeUninit<T>], Error> {
    if count == 0 {
        return Ok(&mut []);
    }
    check::<T>(pointer.cast(), count)?;
    // SAFETY: not null, aligned and of possible size by the check; the rest is our contract.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), count) })
}

fn check<T>(pointer: *const c_void, count: usize) -> Result<(), Error> {
    if pointer.is_null() {
        return Err(invalid("a pointer is null where its length is not 0"));
    }
    if !pointer.cast::<T>().is_aligned() {
        return Err(invalid("a pointer is not aligned for its type"));
    }
    let bytes = count.checked_mul(size_of::<T>());
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(invalid("a length is beyond the address space"));
    }
    Ok(())
}

/// Borrows bytes of the caller.
///
/// # Safety
///
/// As [`slice`].
pub(crate) unsafe fn bytes<'a>(pointer: *const c_void, len: usize) -> Result<&'a [u8], Error> {
    // SAFETY: the caller keeps this function's contract.
    unsafe { slice(pointer.cast::<u8>(), len) }
}

/// Borrows many runs of bytes of the caller, at most [`BATCH_MAX`].
///
/// # Safety
///
/// As [`slice`], for the array and for each run in it.
pub(crate) unsafe fn runs<'a>(pointer: *const Bytes, count: usize) -> Result<Vec<&'a [u8]>, Error> {
    check_count(count)?;
    // SAFETY: the caller keeps this function's contract.
    let array = unsafe { slice(pointer, count) }?;
    let borrow = |run: &Bytes| {
        // SAFETY: the caller keeps this function's contract, for each run.
        unsafe { bytes(run.data, run.len) }
    };
    array.iter().map(borrow).collect()
}

pub(crate) fn check_count(count: usize) -> Result<(), Error> {
    if count > BATCH_MAX {
        return Err(Error::new(
            Status::TooLarge,
            format!("{count} keys, one call takes {BATCH_MAX}"),
        ));
    }
    Ok(())
}

/// Borrows a text of the caller; null is the empty one.
///
/// # Safety
///
/// `pointer` is null or a string that ends with a zero byte and does not change during `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char) -> Result<&'a str, Error> {
    if pointer.is_null() {
        return Ok("");
    }
    // SAFETY: not null by the check; the rest is our contract.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|_not_utf8| invalid("a text is not UTF-8"))
}

/// Writes an answer that the caller may not want.
///
/// # Safety
///
/// `pointer` is null or has room for a `T` that nobody else uses.
pub(crate) unsafe fn answer<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() {
        // SAFETY: not null by the check; the rest is our contract.
        unsafe { pointer.write(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> String {
        // SAFETY: the string of this thread; nothing fails before the copy is made.
        let words = unsafe { CStr::from_ptr(chariot_last_error()) };
        words.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_words() {
        let status = guard(|| panic!("on purpose"));
        assert_eq!(status, i32::from(Status::Internal.as_u16()));
        assert!(words().contains("on purpose"), "{}", words());
        assert_eq!(guard_value(7, || panic!("on purpose too")), 7);
    }

    #[test]
    fn the_last_error_belongs_to_its_thread() {
        guard(|| Err(invalid("mine")));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(words(), ""));
        });
        assert!(words().starts_with("mine"), "{}", words());
        guard(|| Err(miss()));
        assert!(words().starts_with("mine"), "a miss leaves no words");
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_before_anything_is_read() {
        let one = 1_u64;
        let here = &raw const one;
        // SAFETY: refused by the length; nothing is read.
        let too_long = unsafe { slice(here, usize::MAX / 2) };
        assert_eq!(too_long.unwrap_err().status(), Status::InvalidArgument);
        // SAFETY: refused by the alignment; nothing is read.
        let crooked = unsafe { slice(here.wrapping_byte_add(1), 1) };
        assert_eq!(crooked.unwrap_err().status(), Status::InvalidArgument);
        // SAFETY: refused because it is null.
        let null = unsafe { slice(std::ptr::null::<u64>(), 1) };
        assert_eq!(null.unwrap_err().status(), Status::InvalidArgument);
        // SAFETY: a length of zero reads nothing, wherever it points.
        let empty = unsafe { slice(std::ptr::null::<u64>(), 0) };
        assert!(empty.unwrap().is_empty());
    }
}
