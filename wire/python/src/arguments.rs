//! Keys and values as Python passes them, borrowed in place.
//!
//! A key is `str` or `bytes`. A value is `str`, `bytes`, or any contiguous object with the buffer
//! protocol. Lists are turned into tuples first: a tuple cannot change while the lock is away, and
//! it keeps its items alive.

use std::ptr;

use chariot_client::Error;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

/// The bytes of a `str` (as UTF-8) or `bytes` object; `None` for any other type.
///
/// The object's owner keeps the bytes: they live as long as the object, and never change.
fn immutable_bytes<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a [u8]>> {
    if object.is_instance_of::<PyString>() {
        let mut len = 0;
        // SAFETY: the object is a str, checked above, and the lock is held.
        let start = unsafe { ffi::PyUnicode_AsUTF8AndSize(object.as_ptr(), &raw mut len) };
        if start.is_null() {
            return Err(PyErr::fetch(object.py()));
        }
        let len = usize::try_from(len).expect("a length is not negative");
        // SAFETY: the interpreter answered `len` readable bytes that it caches in the str, which
        // `object` keeps alive for 'a.
        return Ok(Some(unsafe {
            std::slice::from_raw_parts(start.cast(), len)
        }));
    }
    Ok(object.cast::<PyBytes>().ok().map(PyBytesMethods::as_bytes))
}

/// Borrows a key.
///
/// # Errors
///
/// `TypeError` for anything but `str` and `bytes`.
pub(crate) fn key<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    immutable_bytes(object)?.ok_or_else(|| {
        PyTypeError::new_err(format!("a key is str or bytes, not {}", type_name(object)))
    })
}

/// Borrows a key of the old SDKs, which know `str` only.
///
/// # Errors
///
/// `TypeError` for anything but `str`.
pub(crate) fn text_key<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    if object.is_instance_of::<PyString>() {
        return key(object);
    }
    Err(PyTypeError::new_err(format!(
        "The input of key has invalid type, valid type: str, not {}",
        type_name(object)
    )))
}

/// A sequence of keys or values, held for the length of a call.
pub(crate) struct Items<'py>(Vec<Bound<'py, PyAny>>);

impl<'py> Items<'py> {
    /// Takes hold of every item of a list or a tuple.
    ///
    /// # Errors
    ///
    /// `TypeError` for what is no sequence, and for one string, which would be read as its letters.
    pub(crate) fn of(sequence: &Bound<'py, PyAny>) -> PyResult<Self> {
        if sequence.is_instance_of::<PyString>() || sequence.is_instance_of::<PyBytes>() {
            return Err(PyTypeError::new_err("expected a list of keys, not one key"));
        }
        // SAFETY: a valid object, and the lock is held.
        let tuple = unsafe { ffi::PySequence_Tuple(sequence.as_ptr()) };
        // SAFETY: a new reference, or null with the error set.
        let tuple = unsafe { Bound::from_owned_ptr_or_err(sequence.py(), tuple) }?;
        let tuple = tuple.cast_into::<PyTuple>()?;
        Ok(Self(tuple.iter().collect()))
    }

    /// The items themselves.
    pub(crate) fn objects(&self) -> &[Bound<'py, PyAny>] {
        &self.0
    }

    /// The items as keys.
    ///
    /// # Errors
    ///
    /// As [`key`].
    pub(crate) fn keys(&self) -> PyResult<Vec<&[u8]>> {
        self.0.iter().map(key).collect()
    }

    /// The items as keys of the old SDKs.
    ///
    /// # Errors
    ///
    /// As [`text_key`].
    pub(crate) fn text_keys(&self) -> PyResult<Vec<&[u8]>> {
        self.0.iter().map(text_key).collect()
    }

    /// The items whose answers are failures, and the first failure.
    pub(crate) fn failed(
        &self,
        answers: impl Iterator<Item = Result<(), Error>>,
    ) -> (Vec<Py<PyAny>>, Option<Error>) {
        let mut failed = Vec::new();
        let mut first = None;
        for (object, answer) in self.0.iter().zip(answers) {
            if let Err(error) = answer {
                failed.push(object.clone().unbind());
                first.get_or_insert(error);
            }
        }
        (failed, first)
    }

    /// The items as values.
    ///
    /// # Errors
    ///
    /// As [`Value::of`].
    pub(crate) fn values(&self) -> PyResult<Vec<Value<'_>>> {
        self.0.iter().map(Value::of).collect()
    }
}

/// A value to write, borrowed from its Python object.
pub(crate) enum Value<'a> {
    /// The bytes of an immutable object.
    Fixed(&'a [u8]),
    /// Memory that its owner lends.
    Lent(Lent),
}

impl<'a> Value<'a> {
    /// Borrows the bytes of an object.
    ///
    /// # Errors
    ///
    /// `TypeError` for an object without bytes, `BufferError` for one whose bytes do not lie in one
    /// piece.
    pub(crate) fn of(object: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        match immutable_bytes(object)? {
            Some(bytes) => Ok(Self::Fixed(bytes)),
            None => Lent::of(object, ffi::PyBUF_SIMPLE).map(Self::Lent),
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Lent(lent) => lent.bytes(),
        }
    }
}

/// Memory lent over the buffer protocol; given back when dropped, with the lock held.
pub(crate) struct Lent(Box<ffi::Py_buffer>);

// SAFETY: plain addresses; the memory they name is readable from any thread, and `Lent` is dropped
// only where the lock is held (it never crosses into a detached closure by value).
unsafe impl Send for Lent {}
// SAFETY: as above; shared use only reads the two words.
unsafe impl Sync for Lent {}

impl Lent {
    /// Borrows with the given flags of the buffer protocol.
    ///
    /// # Errors
    ///
    /// `TypeError` or `BufferError`, as the object says.
    pub(crate) fn of(object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: a fresh description to fill, a valid object, and the lock is held.
        let result = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) };
        if result == 0 {
            return Ok(Self(view));
        }
        Err(PyErr::fetch(object.py()))
    }

    /// The bytes as they are now.
    pub(crate) fn bytes(&self) -> &[u8] {
        let len = usize::try_from(self.0.len).expect("a length is not negative");
        if len == 0 {
            return &[];
        }
        // SAFETY: the owner promised `len` readable bytes until the release. Other threads of the
        // program may write them meanwhile, as with every Python call that takes a buffer; they are
        // only copied, never interpreted.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), len) }
    }

    /// The bytes, to be written; for buffers borrowed with `PyBUF_WRITABLE`.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.0.readonly == 0, "borrowed to be written");
        let len = usize::try_from(self.0.len).expect("a length is not negative");
        if len == 0 {
            return &mut [];
        }
        // SAFETY: as in `bytes`, and the owner allowed writing.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast(), len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        assert!(!ptr::eq(self.0.obj, ptr::null_mut()), "filled by its owner");
        // SAFETY: filled by PyObject_GetBuffer, released once, with the lock held.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}

/// The name of an object's type, for messages.
pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "object".to_owned(), |name| name.to_string())
}
