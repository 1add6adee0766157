//! Operations on files, for the tiers to come: positioned reads and writes of whole ranges.

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
}

fn io_len(part: &IoSpan) -> u32 {
    u32::try_from(part.len()).expect("at most IO_MAX_BYTES")
}
