//! Operations on files: positioned reads and writes of whole ranges, gathered writes, flushes.

use std::collections::VecDeque;

use io_uring::{opcode, types};

use super::op::Op;
use super::slots::Keep;
use super::socket::count_of;
use super::{DataRing, IoFd, IoSpan, RingError};
use crate::limits::IO_MAX_BYTES;

impl DataRing {
    /// Reads exactly `span.len()` bytes at `offset`. Files opened with `O_DIRECT` want offset,
    /// length and address aligned as the file system says.
    ///
    /// # Errors
    /// [`RingError::EndOfStream`] when the file ends before; [`RingError::Failed`] otherwise.
    pub async fn read_at(&self, fd: &IoFd, offset: u64, span: IoSpan) -> Result<(), RingError> {
        let wanted = span.len();
        let mut received = 0;
        while received < wanted {
            let part = span.slice(received, (wanted - received).min(IO_MAX_BYTES));
            let entry =
                opcode::Read::new(types::Fd(fd.raw()), part.as_ptr().as_ptr(), io_len(&part))
                    .offset(offset + received as u64)
                    .build();
            let (result, _) = Op::new(&self.data, entry, Keep::Span(fd.clone(), part)).await;
            match count_of("read", result)? {
                Some(0) => return Err(RingError::EndOfStream { received, wanted }),
                Some(count) => received += count,
                None => {},
            }
        }
        Ok(())
    }

    /// Writes all of `span` at `offset`. Alignment as for [`Self::read_at`].
    ///
    /// # Errors
    /// [`RingError::Failed`]; a full device (`ENOSPC`) among them.
    pub async fn write_at(&self, fd: &IoFd, offset: u64, span: IoSpan) -> Result<(), RingError> {
        let mut written = 0;
        while written < span.len() {
            let part = span.slice(written, (span.len() - written).min(IO_MAX_BYTES));
            let entry =
                opcode::Write::new(types::Fd(fd.raw()), part.as_ptr().as_ptr(), io_len(&part))
                    .offset(offset + written as u64)
                    .build();
            let (result, _) = Op::new(&self.data, entry, Keep::Span(fd.clone(), part)).await;
            written += count_of("write", result)?.unwrap_or(0);
        }
        Ok(())
    }

    /// Writes all of `spans`, one after the other, at `offset`. Alignment as for
    /// [`Self::read_at`], of each span.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    ///
    /// # Panics
    /// When the kernel says that it wrote more than it was given.
    pub async fn write_gather_at(
        &self,
        fd: &IoFd,
        offset: u64,
        spans: Vec<IoSpan>,
    ) -> Result<(), RingError> {
        let mut at = offset;
        let mut left = VecDeque::from(spans);
        while !left.is_empty() {
            let batch = Box::new(Vectors::take(&mut left));
            let entry =
                opcode::Writev::new(types::Fd(fd.raw()), batch.list.as_ptr(), batch.count())
                    .offset(at)
                    .build();
            let spans = batch.spans.clone();
            let (result, _) = Op::new(&self.data, entry, Keep::Other(fd.clone(), batch)).await;
            let written = count_of("writev", result)?;
            if written == Some(0) {
                return Err(RingError::Failed {
                    operation: "writev",
                    errno: libc::EIO,
                });
            }
            let mut written = written.unwrap_or(0);
            at += written as u64;
            for span in spans.into_iter().rev() {
                left.push_front(span);
            }
            while written > 0 {
                let first = left.pop_front().expect("no more is written than was given");
                if first.len() > written {
                    left.push_front(first.slice(written, first.len() - written));
                    break;
                }
                written -= first.len();
            }
        }
        Ok(())
    }

    /// Waits until what was written before is on the device (`fdatasync`).
    ///
    /// # Errors
    /// [`RingError::Failed`]: what was written since the last one may be lost.
    pub async fn flush_data(&self, fd: &IoFd) -> Result<(), RingError> {
        loop {
            let entry = opcode::Fsync::new(types::Fd(fd.raw()))
                .flags(types::FsyncFlags::DATASYNC)
                .build();
            let (result, _) = Op::new(&self.data, entry, Keep::Fd(fd.clone())).await;
            if count_of("fdatasync", result)?.is_some() {
                return Ok(());
            }
        }
    }
}

/// What one gathered write takes at most: far below the kernel's 1,024 vectors.
const VECTORS_MAX: usize = 256;

/// Spans on their way, and the list of them that the kernel reads.
struct Vectors {
    spans: Vec<IoSpan>,
    list: Vec<libc::iovec>,
}

impl Vectors {
    /// Takes from the front what one write may carry; what is cut stays in front.
    fn take(left: &mut VecDeque<IoSpan>) -> Self {
        let mut taken = Self {
            spans: Vec::new(),
            list: Vec::new(),
        };
        let mut room = IO_MAX_BYTES;
        while room > 0 && taken.spans.len() < VECTORS_MAX {
            let Some(span) = left.pop_front() else { break };
            let part = if span.len() > room {
                left.push_front(span.slice(room, span.len() - room));
                span.slice(0, room)
            } else {
                span
            };
            room -= part.len();
            taken.list.push(libc::iovec {
                iov_base: part.as_ptr().as_ptr().cast(),
                iov_len: part.len(),
            });
            taken.spans.push(part);
        }
        taken
    }

    fn count(&self) -> u32 {
        u32::try_from(self.list.len()).expect("at most VECTORS_MAX")
    }
}

fn io_len(part: &IoSpan) -> u32 {
    u32::try_from(part.len()).expect("at most IO_MAX_BYTES")
}
