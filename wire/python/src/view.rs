//! `chariot.View`: the bytes of a value in place, as a buffer-protocol object that owns its pin.
//!
//! Every `memoryview` of it holds a reference to it, so the pin outlives them all. `release` gives
//! the pin back early, and refuses while somebody still looks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::arguments::Lent;

/// The bytes of one value, read only. Lives on: any thread.
#[pyclass(module = "chariot", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct View {
    /// `None` once released.
    held: Mutex<Option<chariot_client::View>>,
    /// Buffers lent and not given back.
    exports: AtomicUsize,
    /// First byte that is lent.
    start: usize,
    len: usize,
    version: u64,
    pinned: bool,
}

impl View {
    pub(crate) fn new(view: chariot_client::View) -> Self {
        let len = view.len();
        Self::of_range(view, 0, len)
    }

    /// Lends bytes `start..start + len` of a value.
    pub(crate) fn of_range(view: chariot_client::View, start: usize, len: usize) -> Self {
        assert!(start <= view.len(), "inside the value");
        assert!(len <= view.len() - start, "inside the value");
        Self {
            start,
            len,
            version: view.version().raw(),
            pinned: view.is_pinned(),
            exports: AtomicUsize::new(0),
            held: Mutex::new(Some(view)),
        }
    }
}

#[pymethods]
impl View {
    /// Lends the bytes.
    ///
    /// # Safety
    ///
    /// `buffer` is the interpreter's, to be filled.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        buffer: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let held = this.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(view) = held.as_ref() else {
            return Err(PyBufferError::new_err("this view is released"));
        };
        // In a forked child the view is empty.
        let bytes = view
            .get(this.start..this.start + this.len)
            .unwrap_or_default();
        let len = ffi::Py_ssize_t::try_from(bytes.len()).expect("a slice's length fits");
        let start = bytes.as_ptr().cast_mut().cast();
        // SAFETY: `buffer` is to be filled; `start` is readable for `len` bytes while the pin
        // stands: the buffer holds a reference to this object, and `release` refuses while
        // `exports` is not zero. Read-only is announced.
        let result = unsafe { ffi::PyBuffer_FillInfo(buffer, slf.as_ptr(), start, len, 1, flags) };
        if result != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        this.exports.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes note that a buffer was given back.
    ///
    /// # Safety
    ///
    /// Called once for each buffer that was lent.
    unsafe fn __releasebuffer__(&self, _buffer: *mut ffi::Py_buffer) {
        let before = self.exports.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a buffer is given back once");
    }

    fn __len__(&self) -> usize {
        self.len
    }

    fn __bytes__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let lent = Lent::of(slf.as_any(), ffi::PyBUF_SIMPLE)?;
        crate::bytes::copy_one(slf.py(), lent.bytes())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.release()
    }

    /// Gives the pin back now instead of with the last reference.
    fn release(&self) -> PyResult<()> {
        if self.exports.load(Ordering::Relaxed) != 0 {
            return Err(PyBufferError::new_err(
                "a memoryview of this view is still alive: release it first",
            ));
        }
        drop(
            self.held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        Ok(())
    }

    /// The version of the value.
    #[getter]
    fn version(&self) -> u64 {
        self.version
    }

    /// Whether the bytes lie in shared memory rather than in a copy.
    #[getter]
    fn pinned(&self) -> bool {
        self.pinned
    }

    /// The length in bytes, under the old SDK's name.
    #[pyo3(name = "GetSize")]
    fn get_size(&self) -> usize {
        self.len
    }

    fn __repr__(&self) -> String {
        format!("<chariot.View of {} bytes>", self.len)
    }
}
