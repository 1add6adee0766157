//! Where the bytes of a read go: a new vector, the caller's buffer, or several of them.
//!
//! A transport announces a value, fills it piece by piece (a piece is contiguous memory of the
//! caller), and commits it. Local reads copy from the arena into the pieces; remote ones receive
//! from the socket into them, so that there is no copy between. A value that is announced but
//! never committed leaves the caller's bytes unspecified, and its result is an error.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;

use chariot_proto::Status;

use crate::error::Error;

/// Receives the values of a read, by the index of their key.
pub(crate) trait Sink: Send {
    /// Prepares for `len` bytes of value `index`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when the caller's memory is too small; the value is then skipped.
    fn begin(&mut self, index: usize, len: usize) -> Result<(), Error>;

    /// The contiguous memory for bytes `at..` of value `index`, at most up to its `len`; empty only
    /// when `at == len`. The transport writes initialised bytes only.
    fn piece(&mut self, index: usize, at: usize, len: usize) -> &mut [MaybeUninit<u8>];

    /// Hands the value to the caller.
    ///
    /// # Safety
    ///
    /// All `len` bytes that were announced have been written through [`Sink::piece`].
    unsafe fn commit(&mut self, index: usize, len: usize);
}

/// Puts each value into a new vector.
#[derive(Debug)]
pub(crate) struct VecSink<'a> {
    slots: &'a mut [Option<Vec<u8>>],
}

impl<'a> VecSink<'a> {
    pub(crate) fn new(slots: &'a mut [Option<Vec<u8>>]) -> Self {
        Self { slots }
    }
}

impl Sink for VecSink<'_> {
    fn begin(&mut self, index: usize, len: usize) -> Result<(), Error> {
        let mut value = Vec::new();
        if value.try_reserve_exact(len).is_err() {
            return Err(Error::new(
                Status::OutOfMemory,
                format!("this process has no memory for a value of {len} bytes"),
            ));
        }
        self.slots[index] = Some(value);
        Ok(())
    }

    fn piece(&mut self, index: usize, at: usize, len: usize) -> &mut [MaybeUninit<u8>] {
        let value = self.slots[index].as_mut().expect("begin came first");
        &mut value.spare_capacity_mut()[at..len]
    }

    unsafe fn commit(&mut self, index: usize, len: usize) {
        let value = self.slots[index].as_mut().expect("begin came first");
        assert!(len <= value.capacity());
        // SAFETY: `len` is within the capacity (asserted), and the caller promises that all of it
        // was written.
        unsafe { value.set_len(len) };
    }
}

/// Puts each value into a buffer of the caller's.
#[derive(Debug)]
pub(crate) struct BufferSink<'a, 'b> {
    buffers: &'a mut [&'b mut [u8]],
}

impl<'a, 'b> BufferSink<'a, 'b> {
    pub(crate) fn new(buffers: &'a mut [&'b mut [u8]]) -> Self {
        Self { buffers }
    }
}

impl Sink for BufferSink<'_, '_> {
    fn begin(&mut self, index: usize, len: usize) -> Result<(), Error> {
        check_room(self.buffers[index].len(), len)
    }

    fn piece(&mut self, index: usize, at: usize, len: usize) -> &mut [MaybeUninit<u8>] {
        as_uninit(&mut self.buffers[index][at..len])
    }

    unsafe fn commit(&mut self, _index: usize, _len: usize) {}
}

/// Spreads one value over several buffers, filled in order.
#[derive(Debug)]
pub(crate) struct ScatterSink<'a, 'b> {
    buffers: &'a mut [IoSliceMut<'b>],
}

impl<'a, 'b> ScatterSink<'a, 'b> {
    pub(crate) fn new(buffers: &'a mut [IoSliceMut<'b>]) -> Self {
        Self { buffers }
    }
}

impl Sink for ScatterSink<'_, '_> {
    fn begin(&mut self, index: usize, len: usize) -> Result<(), Error> {
        assert_eq!(index, 0, "a scattered read has one key");
        check_room(self.buffers.iter().map(|buffer| buffer.len()).sum(), len)
    }

    fn piece(&mut self, _index: usize, at: usize, len: usize) -> &mut [MaybeUninit<u8>] {
        let mut skip = at;
        let mut left = len - at;
        for buffer in &mut *self.buffers {
            if skip < buffer.len() {
                left = left.min(buffer.len() - skip);
                return as_uninit(&mut buffer[skip..skip + left]);
            }
            skip -= buffer.len();
        }
        &mut []
    }

    unsafe fn commit(&mut self, _index: usize, _len: usize) {}
}

fn check_room(room: usize, len: usize) -> Result<(), Error> {
    if len <= room {
        return Ok(());
    }
    Err(Error::new(
        Status::InvalidArgument,
        format!("the value has {len} bytes, the caller's buffers have {room}"),
    ))
}

fn as_uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    let len = bytes.len();
    // SAFETY: same address, length, layout and life; `Sink::piece` forbids writing uninitialised
    // bytes through it, so the caller's bytes stay initialised.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the transport: fills value `index` with 0, 1, 2, … .
    fn fill(sink: &mut dyn Sink, index: usize, len: usize) -> Result<(), Error> {
        sink.begin(index, len)?;
        let mut at = 0;
        while at < len {
            let piece = sink.piece(index, at, len);
            assert!(!piece.is_empty());
            for byte in piece {
                byte.write(u8::try_from(at % 251).unwrap());
                at += 1;
            }
        }
        // SAFETY: the loop above wrote all of it.
        unsafe { sink.commit(index, len) };
        Ok(())
    }

    #[test]
    fn vector_receives_the_whole_value() {
        let mut slots = [None, None];
        fill(&mut VecSink::new(&mut slots), 1, 3).unwrap();
        assert_eq!(slots, [None, Some(vec![0, 1, 2])]);
    }

    #[test]
    fn buffer_too_small_is_refused_and_untouched() {
        let mut buffer = [9_u8; 2];
        let error = fill(&mut BufferSink::new(&mut [&mut buffer]), 0, 3).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        assert_eq!(buffer, [9, 9]);
    }

    #[test]
    fn scatter_fills_buffers_in_order_and_skips_empty_ones() {
        let (mut a, mut b, mut c) = ([9_u8; 2], [9_u8; 0], [9_u8; 4]);
        let mut buffers = [
            IoSliceMut::new(&mut a),
            IoSliceMut::new(&mut b),
            IoSliceMut::new(&mut c),
        ];
        fill(&mut ScatterSink::new(&mut buffers), 0, 5).unwrap();
        assert_eq!((a, c), ([0, 1], [2, 3, 4, 9]));
    }
}
