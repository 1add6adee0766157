//! New `bytes` and `str` objects, filled straight from where the value lies.
//!
//! The object is made first, without contents, and the bytes are copied into it: one copy. While it
//! is filled nobody else has a reference to it.

use chariot_client::View;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::gil;

/// A `bytes` object whose contents are still to be written.
struct Blank<'py> {
    object: Bound<'py, PyAny>,
    target: Target,
}

/// Where the contents go.
struct Target {
    start: *mut u8,
    len: usize,
}

// SAFETY: an address of memory that only the holder of the `Blank` knows; it may be written from
// any thread.
unsafe impl Send for Target {}
// SAFETY: as above; `fill` is called once for each.
unsafe impl Sync for Target {}

impl Target {
    /// Copies the whole value.
    fn fill(&self, source: &[u8]) {
        assert_eq!(source.len(), self.len, "made for this value");
        // SAFETY: `start` has room for `len` bytes (`Blank::new`), nobody else knows it yet, and
        // the source is another allocation.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), self.start, self.len) };
    }
}

impl<'py> Blank<'py> {
    fn new(py: Python<'py>, len: usize) -> PyResult<Self> {
        let Ok(size) = ffi::Py_ssize_t::try_from(len) else {
            return Err(PyMemoryError::new_err(
                "a value longer than Python's own limit",
            ));
        };
        // SAFETY: null asks for an object without contents; the lock is held.
        let object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), size) };
        // SAFETY: a new reference, or null with the error set.
        let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
        // SAFETY: a bytes object, made above.
        let start = unsafe { ffi::PyBytes_AsString(object.as_ptr()) };
        Ok(Self {
            object,
            target: Target {
                start: start.cast(),
                len,
            },
        })
    }
}

/// Copies a value into a new `bytes` object.
pub(crate) fn copy_one<'py>(py: Python<'py>, source: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let blank = Blank::new(py, source.len())?;
    let target = &blank.target;
    gil::copy(py, source.len(), || target.fill(source));
    Ok(blank.object)
}

/// Copies every value that is there into a new `bytes` object; all of them under one release of the
/// lock when they are large together.
pub(crate) fn copy_many<'py>(
    py: Python<'py>,
    sources: &[Option<View>],
) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
    let mut blanks = Vec::with_capacity(sources.len());
    let mut total = 0;
    for source in sources {
        let blank = source
            .as_ref()
            .map(|view| Blank::new(py, view.len()))
            .transpose()?;
        total += source.as_ref().map_or(0, |view| view.len());
        blanks.push(blank);
    }
    let targets: Vec<Option<&Target>> = blanks
        .iter()
        .map(|blank| blank.as_ref().map(|blank| &blank.target))
        .collect();
    gil::copy(py, total, || {
        for (target, source) in targets.iter().zip(sources) {
            if let (Some(target), Some(source)) = (target, source) {
                target.fill(source);
            }
        }
    });
    Ok(blanks
        .into_iter()
        .map(|blank| blank.map(|blank| blank.object))
        .collect())
}

/// Turns a `bytes` object into `str` (UTF-8).
///
/// # Errors
///
/// `UnicodeDecodeError` when the bytes are no UTF-8.
pub(crate) fn to_text<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let bytes = object.cast::<PyBytes>()?.as_bytes();
    let len = ffi::Py_ssize_t::try_from(bytes.len()).expect("it came from an object");
    // SAFETY: `len` readable bytes; null asks for strict errors; the lock is held.
    let text = unsafe { ffi::PyUnicode_DecodeUTF8(bytes.as_ptr().cast(), len, std::ptr::null()) };
    // SAFETY: a new reference, or null with the error set.
    unsafe { Bound::from_owned_ptr_or_err(object.py(), text) }
}
