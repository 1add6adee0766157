//! `chariot.WriteBuffer`: memory of the cache, lent to write a value in place.
//!
//! ```text
//!   open ──publish, nobody looks──▶ published              (no copy)
//!     ├───publish, memoryviews live─▶ copied ──last one gone──▶ published
//!     └───discard────────────────────▶ gone
//! ```
//! Published memory is shared and read-only, so nobody may keep a writable memoryview of it. A
//! buffer that is still looked at is therefore published as a copy, and its memory stays lent until
//! the last memoryview is gone: late writes through it are harmless, and lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use chariot_client::{Client, Error, SetOptions, Status};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::error;

/// Memory to write one value. Lives on: any thread.
#[pyclass(module = "chariot", frozen, weakref)]
pub(crate) struct WriteBuffer {
    client: Client,
    key: Box<[u8]>,
    options: SetOptions,
    state: Mutex<State>,
    /// Buffers lent and not given back.
    exports: AtomicUsize,
    len: usize,
    /// Whether failures are told as the old SDKs do.
    is_old: bool,
}

enum State {
    Open(chariot_client::WriteBuffer),
    /// A publish is under way.
    Publishing,
    /// Published as a copy; the memory waits for the last memoryview.
    Copied {
        /// Only held: its end gives the memory back.
        _memory: chariot_client::WriteBuffer,
    },
    Published,
    Gone,
}

impl WriteBuffer {
    /// Lends memory of `len` bytes for `key`. May wait: call it without the interpreter's lock.
    pub(crate) fn create(
        client: Client,
        key: &[u8],
        len: usize,
        options: SetOptions,
        is_old: bool,
    ) -> Result<Self, Error> {
        let open = client.create(key, len, &options)?;
        Ok(Self {
            client,
            key: key.into(),
            options,
            state: Mutex::new(State::Open(open)),
            exports: AtomicUsize::new(0),
            len,
            is_old,
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes; see the head of this file.
    pub(crate) fn publish_now(&self, py: Python<'_>) -> Result<u64, Error> {
        let open = {
            let mut state = self.state();
            match std::mem::replace(&mut *state, State::Publishing) {
                State::Open(open) => open,
                other => {
                    *state = other;
                    let cause = "this buffer is published or discarded already";
                    return Err(Error::new(Status::InvalidArgument, cause));
                },
            }
        };
        let is_watched = self.exports.load(Ordering::Relaxed) != 0;
        let (result, next) = py.detach(|| {
            if is_watched {
                let result = self.client.set(&self.key, &open, &self.options);
                (result, State::Copied { _memory: open })
            } else {
                (open.publish(), State::Published)
            }
        });
        *self.state() = next;
        self.drop_unwatched();
        result.map(chariot_client::Version::raw)
    }

    /// Gives back memory that nobody looks at any more.
    fn drop_unwatched(&self) {
        if self.exports.load(Ordering::Relaxed) == 0 {
            let mut state = self.state();
            if matches!(*state, State::Copied { .. }) {
                *state = State::Published;
            }
        }
    }

    fn raise(&self, py: Python<'_>, failed: &Error) -> PyErr {
        if self.is_old {
            error::old(failed.status(), failed.cause())
        } else {
            error::modern(py, failed)
        }
    }

    /// The key, for messages and for batches.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }
}

#[pymethods]
impl WriteBuffer {
    /// Lends the memory.
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
        let mut state = this.state();
        let State::Open(open) = &mut *state else {
            return Err(PyBufferError::new_err(
                "this buffer is published or discarded: read the value with view() or get()",
            ));
        };
        let bytes: &mut [u8] = open;
        if bytes.len() != this.len {
            return Err(PyBufferError::new_err(
                "this buffer belongs to the process that forked",
            ));
        }
        let len = ffi::Py_ssize_t::try_from(bytes.len()).expect("a slice's length fits");
        let start = bytes.as_mut_ptr().cast();
        // SAFETY: `buffer` is to be filled; `start` may be written for `len` bytes until the
        // publish, which copies while `exports` is not zero; the buffer holds a reference to this
        // object.
        let result = unsafe { ffi::PyBuffer_FillInfo(buffer, slf.as_ptr(), start, len, 0, flags) };
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
        self.drop_unwatched();
    }

    fn __len__(&self) -> usize {
        self.len
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Publishes, or discards when the block failed. Does nothing when that was done inside.
    #[pyo3(signature = (failure, _value, _trace))]
    fn __exit__(
        &self,
        py: Python<'_>,
        failure: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if !failure.is_none() {
            self.discard();
        } else if matches!(*self.state(), State::Open(_)) {
            self.publish(py)?;
        }
        Ok(())
    }

    /// Makes the bytes the key's value and returns its version.
    fn publish(&self, py: Python<'_>) -> PyResult<u64> {
        self.publish_now(py)
            .map_err(|failed| self.raise(py, &failed))
    }

    /// Gives the memory back unpublished (once no memoryview is alive).
    fn discard(&self) {
        let mut state = self.state();
        let next = match std::mem::replace(&mut *state, State::Gone) {
            State::Open(open) if self.exports.load(Ordering::Relaxed) != 0 => {
                State::Copied { _memory: open }
            },
            other @ (State::Publishing | State::Copied { .. } | State::Published) => other,
            State::Open(_) | State::Gone => State::Gone,
        };
        *state = next;
    }

    /// A writable memoryview, under the old SDK's name.
    #[pyo3(name = "MutableData")]
    fn mutable_data<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        PyMemoryView::from(slf)
    }

    /// A read-only memoryview, under the old SDK's name: of the memory before the publish, of the
    /// key's value after it.
    #[pyo3(name = "ImmutableData", signature = (with_latch = false, timeout = 60))]
    fn immutable_data<'py>(
        slf: &Bound<'py, Self>,
        with_latch: bool,
        timeout: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Nobody else can write before the publish, and nobody at all after it.
        let _ = (with_latch, timeout);
        let py = slf.py();
        let this = slf.get();
        if matches!(*this.state(), State::Open(_)) {
            return PyMemoryView::from(slf)?.call_method0("toreadonly");
        }
        let found = py
            .detach(|| this.client.view(&this.key))
            .map_err(|failed| this.raise(py, &failed))?;
        match found {
            Some(view) => {
                let view = Bound::new(py, crate::view::View::new(view))?;
                Ok(PyMemoryView::from(view.as_any())?.into_any())
            },
            None => Err(this.raise(
                py,
                &Error::new(Status::NotFound, "the value has left the cache"),
            )),
        }
    }

    /// Takes the read latch: always free, as nobody writes what is published.
    #[pyo3(name = "RLatch", signature = (timeout = 60))]
    fn read_latch(&self, timeout: u64) {
        let _ = (self, timeout);
    }

    /// Releases the read latch.
    #[pyo3(name = "UnRLatch")]
    fn read_unlatch(&self) {
        let _ = self;
    }

    /// The length in bytes, under the old SDK's name.
    #[pyo3(name = "GetSize")]
    fn get_size(&self) -> usize {
        self.len
    }

    fn __repr__(&self) -> String {
        format!("<chariot.WriteBuffer of {} bytes>", self.len)
    }
}
