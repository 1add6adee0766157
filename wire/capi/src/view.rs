//! Views: the bytes of a value in place, owned by the caller until released.
//!
//! A handle is a few words on the heap. Each thread keeps some empty ones for its next views: the
//! allocator's share was the larger part of what a view cost more in C than in Rust.

use std::cell::RefCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;

use chariot_client::View;

use crate::boundary::{guard, guard_value, handle, slice};

/// The bytes of one value. Opaque, immutable; any number of threads may read it.
///
/// Owns its pin: the bytes stay when the key is overwritten or deleted, when the client is closed
/// and when the daemon dies, until `chariot_view_release`.
#[derive(Debug)]
pub struct ViewHandle {
    pub(crate) view: View,
}

/// Most empty handles of a thread: a kilobyte.
const SPARE_MAX: usize = 16;

/// A handle's memory, nothing in it.
struct Empty(Box<MaybeUninit<ViewHandle>>);

thread_local! {
    static SPARE: RefCell<Vec<Empty>> = const { RefCell::new(Vec::new()) };
}

impl ViewHandle {
    pub(crate) fn boxed(view: View) -> *mut Self {
        let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.pop());
        let empty = spare.ok().flatten();
        let empty = empty.unwrap_or_else(|| Empty(Box::new_uninit()));
        Box::into_raw(Box::write(empty.0, Self { view }))
    }

    /// Ends a view.
    ///
    /// # Safety
    ///
    /// `this` came from [`ViewHandle::boxed`], and is not used again.
    unsafe fn end(this: *mut Self) {
        // SAFETY: of the caller; the same layout, and what is in it is dropped below, once.
        let mut handle = unsafe { Box::from_raw(this.cast::<MaybeUninit<Self>>()) };
        // SAFETY: `boxed` wrote it.
        unsafe { handle.assume_init_drop() };
        // Not in debug builds: there, sanitizers see who uses a view that has ended.
        if cfg!(debug_assertions) {
            return;
        }
        // Gone only while the thread ends; then the handle is freed.
        let _gone = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < SPARE_MAX
            {
                spare.push(Empty(handle));
            }
        });
    }
}

/// The first byte of a view, valid until it is released; null for null. Threads: any.
///
/// # Safety
///
/// `view` is null or a view.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_view_data(view: *const ViewHandle) -> *const c_void {
    guard_value(std::ptr::null(), || {
        // SAFETY: the caller's contract.
        let view = unsafe { handle(view) };
        view.map_or(std::ptr::null(), |view| view.view.as_ptr().cast())
    })
}

/// The length of a view in bytes; 0 for null. Threads: any.
///
/// # Safety
///
/// `view` is null or a view.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_view_len(view: *const ViewHandle) -> usize {
    guard_value(0, || {
        // SAFETY: the caller's contract.
        unsafe { handle(view) }.map_or(0, |view| view.view.len())
    })
}

/// The version of the value, or 0 where the transport does not tell it. Threads: any.
///
/// # Safety
///
/// `view` is null or a view.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_view_version(view: *const ViewHandle) -> u64 {
    guard_value(0, || {
        // SAFETY: the caller's contract.
        unsafe { handle(view) }.map_or(0, |view| view.view.version().raw())
    })
}

/// Releases a view; null is ignored. Threads: any, as the last use of this view.
///
/// # Safety
///
/// `view` is null or a view that is not released yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_view_release(view: *mut ViewHandle) {
    if !view.is_null() {
        guard(|| {
            // SAFETY: made by `ViewHandle::boxed`, and released once only, by the contract.
            unsafe { ViewHandle::end(view) };
            Ok(())
        });
    }
}

/// Releases many views; null ones are skipped. Threads: any, as the last use of these views.
///
/// # Safety
///
/// `count` pointers lie there; each is null or a view that is not released yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_views_release(views: *const *mut ViewHandle, count: usize) {
    guard(|| {
        // SAFETY: the caller's contract.
        for &view in unsafe { slice(views, count) }? {
            // SAFETY: the caller's contract, for each.
            unsafe { chariot_view_release(view) };
        }
        Ok(())
    });
}
