//! The tier's reads, writes and flushes on the data ring: one task each.
//!
//! A task owns what the kernel works on: private buffers, and extents by an I/O pin that falls at
//! the kernel's completion and not before, also when the store has long given the device up. Device
//! and memory must be aligned to [`BLOCK`]; an extent that is not goes through a buffer.
//!
//! Lives on: owner shard.

use std::cell::RefCell;
use std::future::Future;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use chariot_base::{Extent, TenantId};
use chariot_shard::{AlignedBuffer, DIRECT_ALIGN, IoFd, IoSpan, RingError, StableMemory};
use chariot_shm::Mapping;
use chariot_ssd::{IoFault, IoId, Part, ReadIo, ReadPlan, WriteIo};

use super::{Tier, find, now, with};
use crate::shard::Shard;

/// What direct I/O is aligned to.
pub(super) const BLOCK: u64 = DIRECT_ALIGN as u64;

fn fault_of(error: RingError) -> IoFault {
    match error {
        RingError::EndOfStream { .. } => IoFault::Shrunk,
        RingError::Failed { errno, .. } if errno == libc::ENOSPC || errno == libc::EDQUOT => {
            IoFault::NoSpace
        },
        RingError::Failed { .. } | RingError::Full => IoFault::Io,
    }
}

/// Starts a task that brings its completion to the shard.
fn start<T: 'static>(
    tier: &mut Tier,
    operation: impl Future<Output = T> + 'static,
    finish: impl FnOnce(&mut Shard, T) + 'static,
) {
    tier.io_in_flight += 1;
    let shard = Weak::clone(&tier.shard);
    let task = async move {
        let result = operation.await;
        let Some(shard) = shard.upgrade() else { return };
        complete(&shard, |shard| finish(shard, result));
    };
    tier.context.spawn_local(task).detach();
}

fn complete(shard: &Rc<RefCell<Shard>>, finish: impl FnOnce(&mut Shard)) {
    let mut shard = shard.borrow_mut();
    shard.now_ns = chariot_shard::monotonic_ns();
    shard.now_ms = chariot_shm::clock::coarse_ms();
    if let Some(tier) = shard.tier.as_deref_mut() {
        tier.io_in_flight -= 1;
    }
    finish(&mut shard);
    shard.sessions.flush_dirty();
    shard.mail.flush();
}

fn file(tier: &Tier, partition: u16) -> IoFd {
    let file = tier.files.get(&partition);
    file.expect("the store names partitions that it was given")
        .clone()
}

/// Writes the parts of a group one after the other.
pub(super) fn write(tier: &mut Tier, shard: &mut Shard, write: WriteIo) {
    let mut spans = Vec::with_capacity(write.parts.len());
    let mut pinned = Vec::new();
    for part in write.parts {
        match part {
            Part::Own(bytes) => spans.push(filled(bytes.len(), |to| to.copy_from_slice(&bytes))),
            Part::Extent {
                tenant,
                extent,
                padded_bytes,
            } => {
                let share = shard.tenant_mut(tenant);
                // Whole blocks from where they lie, the rest with its padding through a buffer.
                let direct = if extent.offset.is_multiple_of(BLOCK) {
                    extent.len - extent.len % BLOCK
                } else {
                    0
                };
                if direct > 0 {
                    share.io_pins.pin(extent);
                    pinned.push((tenant, extent));
                    spans.push(span(share.arena.mapping(), extent.offset, direct));
                }
                if direct < extent.len {
                    let rest = Extent::new(extent.offset + direct, extent.len - direct);
                    let len = usize::try_from(rest.len).expect("at most a segment");
                    let room = usize::try_from(padded_bytes - direct).expect("at most a segment");
                    spans.push(filled(room, |to| {
                        share.arena.copy_out(rest, &mut to[..len]);
                    }));
                }
            },
        }
    }
    let (ring, fd) = (tier.context.ring(), file(tier, write.partition));
    let operation = async move { ring.write_gather_at(&fd, write.offset, spans).await };
    let id = write.id;
    start(tier, operation, move |shard, result| {
        unpin(shard, &pinned);
        with(shard, |tier, _| {
            tier.store.on_written(id, result.map_err(fault_of), now());
        });
    });
}

fn unpin(shard: &mut Shard, pinned: &[(TenantId, Extent)]) {
    for &(tenant, extent) in pinned {
        let share = shard.tenant_mut(tenant);
        if share.io_pins.unpin(extent) {
            share.note_release();
        }
    }
}

/// A buffer of `len` bytes, filled, as memory of the ring.
fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> IoSpan {
    let mut buffer = AlignedBuffer::new(len);
    fill(&mut buffer.bytes_mut()[..len]);
    buffer.share().span()
}

fn span(arena: Arc<Mapping>, offset: u64, len: u64) -> IoSpan {
    let memory: Rc<dyn StableMemory> = Rc::new(arena);
    IoSpan::new(memory, offset, len).expect("an extent lies inside its arena")
}

/// Reads for recovery and cleaning.
pub(super) fn read(tier: &mut Tier, read: ReadIo) {
    let operation = into_buffer(tier, read.partition, read.offset, read.len);
    start(tier, operation, move |shard, result| {
        with(shard, |tier, _| {
            let bytes = result
                .as_ref()
                .map(|buffer| &buffer.bytes()[..read.len as usize]);
            tier.store
                .on_read(read.id, bytes.map_err(|fault| *fault), now());
        });
    });
}

/// Reads a hit into its extent, or into a buffer where that cannot be.
pub(super) fn read_hit(tier: &mut Tier, plan: &ReadPlan, target: Option<(Arc<Mapping>, Extent)>) {
    let id = plan.id;
    let Some((arena, extent)) = target else {
        let operation = into_buffer(tier, plan.partition, plan.offset, plan.len);
        start(tier, operation, move |shard, result| {
            let outcome = result.as_ref().map(|buffer| Some(buffer.bytes()));
            finish(shard, |tier, shard| {
                find::on_read(tier, shard, id, outcome.map_err(|fault| *fault))
            });
        });
        return;
    };
    let (ring, fd) = (tier.context.ring(), file(tier, plan.partition));
    let (offset, len) = (plan.offset, plan.len);
    let span = span(arena, extent.offset, u64::from(len));
    let operation = async move { ring.read_at(&fd, offset, span).await };
    start(tier, operation, move |shard, result| {
        let outcome = result.map(|()| None).map_err(fault_of);
        finish(shard, |tier, shard| find::on_read(tier, shard, id, outcome));
    });
}

fn finish(shard: &mut Shard, work: impl FnOnce(&mut Tier, &mut Shard) -> Vec<super::Retry>) {
    if let Some(retries) = with(shard, work) {
        find::retry_all(shard, retries);
    }
}

fn into_buffer(
    tier: &Tier,
    partition: u16,
    offset: u64,
    len: u32,
) -> impl Future<Output = Result<AlignedBuffer, IoFault>> + 'static {
    let (ring, fd) = (tier.context.ring(), file(tier, partition));
    let buffer = AlignedBuffer::new(len as usize).share();
    async move {
        let span = buffer.span().slice(0, len as usize);
        ring.read_at(&fd, offset, span).await.map_err(fault_of)?;
        Ok(buffer.reclaim().expect("the read is over"))
    }
}

/// Flushes a partition.
pub(super) fn flush(tier: &mut Tier, id: IoId, partition: u16) {
    let (ring, fd) = (tier.context.ring(), file(tier, partition));
    let operation = async move { ring.flush_data(&fd).await };
    start(tier, operation, move |shard, result| {
        with(shard, |tier, _| {
            tier.store.on_flushed(id, result.map_err(fault_of), now());
        });
    });
}
