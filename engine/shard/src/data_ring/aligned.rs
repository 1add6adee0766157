//! Private memory that `O_DIRECT` takes: aligned, and zero at first.
//!
//! Lives on: owner shard. A buffer is filled or read through [`AlignedBuffer`] while it is this
//! value alone; it becomes memory of the ring by [`AlignedBuffer::share`] and comes back by
//! [`AlignedBuffer::reclaim`] once no operation holds it any more.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;

use super::span::{IoSpan, StableMemory};

/// What every direct read and write of ours is aligned to, in memory and on the device.
pub const DIRECT_ALIGN: usize = 4096;

/// A run of whole blocks of private memory.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    len: usize,
}

/// A buffer on loan to the ring.
#[derive(Clone, Debug)]
pub struct SharedBuffer {
    memory: Rc<AlignedBuffer>,
}

impl AlignedBuffer {
    /// Makes a buffer of `len` zero bytes, rounded up to whole blocks.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn new(len: usize) -> Self {
        assert!(len > 0, "a buffer holds something");
        let len = len.next_multiple_of(DIRECT_ALIGN);
        let layout = Self::layout(len);
        // SAFETY: the layout has at least one block of bytes, asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self { start, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, DIRECT_ALIGN).expect("a buffer is far below half of memory")
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start` leads to `len` initialised bytes of this value alone; what shares them
        // with the kernel holds the value in an `Rc` and gives no reference out.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Returns the bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Lends the buffer to the ring.
    pub fn share(self) -> SharedBuffer {
        SharedBuffer {
            memory: Rc::new(self),
        }
    }
}

impl SharedBuffer {
    /// Names the whole buffer for operations.
    ///
    /// # Panics
    /// Never: the whole buffer lies inside itself.
    pub fn span(&self) -> IoSpan {
        let memory: Rc<dyn StableMemory> = Rc::<AlignedBuffer>::clone(&self.memory);
        let len = self.memory.len as u64;
        IoSpan::new(memory, 0, len).expect("the whole buffer lies inside itself")
    }

    /// Takes the buffer back; `None` while an operation or a span still holds it.
    pub fn reclaim(self) -> Option<AlignedBuffer> {
        Rc::into_inner(self.memory)
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) };
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

// SAFETY: the allocation stays in place, readable and writable, until the value is dropped. The
// value is inside an `Rc` for as long as it is this trait's, where nobody asks for its bytes.
unsafe impl StableMemory for AlignedBuffer {
    fn base(&self) -> NonNull<u8> {
        self.start
    }

    fn size_bytes(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_whole_blocks_of_zeros() {
        let buffer = AlignedBuffer::new(5000);
        assert_eq!(buffer.bytes().len(), 8192);
        assert_eq!(buffer.bytes().as_ptr() as usize % DIRECT_ALIGN, 0);
        assert!(buffer.bytes().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_buffer_on_loan_comes_back_when_nobody_holds_it() {
        let mut buffer = AlignedBuffer::new(1);
        buffer.bytes_mut()[0] = 7;
        let shared = buffer.share();
        let span = shared.span();

        drop(span);
        let back = shared.reclaim().unwrap();
        assert_eq!(back.bytes()[0], 7);
    }
}
