//! A lane: a thread that takes batches of one direction and moves them.
//!
//! Two lanes serve a direction, so that one prepares while the other's bytes move, and so that a
//! copy that hangs does not stop the rest. A batch either succeeds, or its parts are moved again
//! alone, so that the failure of one is not that of its neighbours. At a deadline the stream is
//! aborted, which drains it; where the driver cannot, the lane stays with its stream until the card
//! is done, and the transfer is told `Stuck`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chariot_device::{
    CopyBatch, Device, DeviceError, DeviceMemory, Direction, HostMemory, Stream, Submission,
};

use crate::arena::Arena;
use crate::cost::CostModel;
use crate::numa::{self, Place};
use crate::object::{Fragment, TransferError};
use crate::plan::{Path, Piece, Plan, Span, plan};
use crate::probe::Probe;
use crate::queue::{Part, Queue};
use crate::staging::{DEVICE_BYTES, Staging};

/// How often a lane that is left with a hanging stream looks at it.
const STUCK_LOOK: Duration = Duration::from_millis(100);

/// How many blocks back a fragment's block is looked for.
const BLOCKS_LOOK: usize = 4;

/// What all lanes of a core share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: Device,
    pub(crate) model: CostModel,
    pub(crate) probe: Probe,
    pub(crate) place: Place,
    pub(crate) stopped: AtomicBool,
    /// A way that is taken whatever the model says; for tests and measurements.
    pub(crate) forced: Option<Path>,
}

/// One lane.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    direction: Direction,
    stream: Stream,
    staging: Staging,
    gather_refused: bool,
}

/// Memory that copies of one batch name: blocks by number, and where host offsets are.
struct Named<'a> {
    blocks: Vec<&'a DeviceMemory>,
    spans: Vec<Span>,
}

/// Where the host side of a plan is.
enum HostSide<'a> {
    Arena(&'a Arena),
    Slot(&'a HostMemory),
}

impl HostSide<'_> {
    fn piece_bytes(&self) -> usize {
        match self {
            Self::Arena(arena) => arena.piece_bytes(),
            Self::Slot(slot) => slot.len(),
        }
    }

    /// The memory of a piece, and where it begins.
    fn piece(&self, piece: usize) -> Result<(&HostMemory, usize), DeviceError> {
        match self {
            Self::Arena(arena) => {
                let memory = arena.piece(piece);
                let memory = memory.ok_or(DeviceError::Unsupported { what: "this piece" })?;
                Ok((memory, piece * arena.piece_bytes()))
            },
            Self::Slot(slot) => Ok((slot, 0)),
        }
    }
}

impl<'a> Named<'a> {
    fn new() -> Self {
        Self {
            blocks: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// Neighbours mostly name the same block or the next: the last few are looked at, and a block
    /// that comes back later gets one more number.
    fn block(&mut self, memory: &'a DeviceMemory) -> u32 {
        let first = self.blocks.len().saturating_sub(BLOCKS_LOOK);
        let mut last = first..self.blocks.len();
        let known = last.rfind(|at| self.blocks[*at].address() == memory.address());
        let index = known.unwrap_or_else(|| {
            self.blocks.push(memory);
            self.blocks.len() - 1
        });
        u32::try_from(index).expect("at most 4096 fragments name blocks")
    }

    fn add(&mut self, object: usize, fragment: &'a Fragment, host_at: usize) {
        let block = self.block(&fragment.device);
        let object = u32::try_from(object).expect("a batch has at most 16384 parts");
        let Fragment { device_at, len, .. } = *fragment;
        self.spans.push(Span {
            object,
            block,
            device_at,
            host_at,
            len,
        });
    }
}

fn fragments(part: &Part) -> (&[Fragment], &Arc<Arena>, usize) {
    let object = &part.transfer.objects[part.object];
    (
        &object.fragments[part.fragments.clone()],
        &object.host.arena,
        object.host.at,
    )
}

/// Whether all of a part's host memory can be named by copies.
fn is_direct(part: &Part) -> bool {
    let (fragments, arena, at) = fragments(part);
    fragments
        .iter()
        .all(|fragment| arena.is_direct(at + fragment.offset, fragment.len))
}

/// Tells a part's transfer what became of it.
fn finish(part: &Part, outcome: Result<(), DeviceError>) {
    let outcome = outcome.map_err(|error| match error {
        // The stream was aborted because the time was over.
        DeviceError::Aborted => TransferError::Deadline,
        // It could not be.
        DeviceError::Timeout { .. } => TransferError::Stuck,
        error => TransferError::Device(error),
    });
    part.transfer.finish(part.object, outcome);
}

impl Lane {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        direction: Direction,
    ) -> Result<Self, DeviceError> {
        let stream = shared.device.stream()?;
        let staging = Staging::default();
        Ok(Self {
            shared,
            queue,
            direction,
            stream,
            staging,
            gather_refused: false,
        })
    }

    /// The lane's thread.
    pub(crate) fn run(mut self) {
        numa::settle_on(self.shared.place);
        let mut cpu = numa::thread_cpu_ns();
        loop {
            let parts = self.queue.take();
            if parts.is_empty() {
                return;
            }
            self.move_parts(&parts);
            let now = numa::thread_cpu_ns();
            self.shared
                .probe
                .cpu_ns
                .fetch_add(now - cpu, Ordering::Relaxed);
            cpu = now;
        }
    }

    fn move_parts(&mut self, parts: &[Part]) {
        let begun = parts.iter().filter(|part| part.transfer.begin(part.object));
        let mut direct: BTreeMap<usize, Vec<&Part>> = BTreeMap::new();
        let mut staged = Vec::new();
        for part in begun {
            if is_direct(part) {
                let (_, arena, _) = fragments(part);
                direct
                    .entry(Arc::as_ptr(arena) as usize)
                    .or_default()
                    .push(part);
            } else {
                staged.push(part);
            }
        }
        for group in direct.values() {
            self.move_group(group);
        }
        for part in staged {
            let outcome = self.move_staged(part);
            finish(part, outcome);
        }
    }

    /// Moves parts of one arena together; each alone when that failed.
    fn move_group(&mut self, group: &[&Part]) {
        let outcome = self.move_direct(group);
        let alone = group.len() == 1;
        let hopeless = outcome.as_ref().is_err_and(DeviceError::is_lost);
        for part in group {
            if outcome.is_ok() || alone || hopeless {
                finish(part, outcome.clone());
                continue;
            }
            self.shared.probe.isolated.fetch_add(1, Ordering::Relaxed);
            let again = if Instant::now() >= part.transfer.deadline {
                Err(DeviceError::Aborted)
            } else {
                self.move_direct(&[part])
            };
            finish(part, again);
        }
    }

    fn move_direct(&mut self, group: &[&Part]) -> Result<(), DeviceError> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        let (_, arena, _) = fragments(first);
        let mut named = Named::new();
        for (number, part) in group.iter().enumerate() {
            let (fragments, _, at) = fragments(part);
            for fragment in fragments {
                named.add(number, fragment, at + fragment.offset);
            }
        }
        let deadlines = group.iter().map(|part| part.transfer.deadline);
        let deadline = deadlines.min().unwrap_or_else(Instant::now);
        self.execute(&named, &HostSide::Arena(arena), deadline)
    }

    /// Moves a part whose host memory is pageable, through the slot.
    fn move_staged(&mut self, part: &Part) -> Result<(), DeviceError> {
        let slot = self.staging.host(&self.shared.device)?;
        let (fragments, arena, at) = fragments(part);
        let mut chunk = Named::new();
        // Where each span of the chunk is in the arena.
        let mut places: Vec<usize> = Vec::new();
        let mut used = 0;
        for fragment in fragments {
            let mut done = 0;
            while done < fragment.len {
                if used == slot.len() {
                    self.move_chunk(&chunk, &places, &slot, (arena, part.transfer.deadline))?;
                    (chunk, used) = (Named::new(), 0);
                    places.clear();
                }
                let len = (fragment.len - done).min(slot.len() - used);
                chunk.add(0, fragment, used);
                let span = chunk.spans.last_mut().expect("just added");
                (span.device_at, span.len) = (fragment.device_at + done, len);
                places.push(at + fragment.offset + done);
                (used, done) = (used + len, done + len);
            }
        }
        if used > 0 {
            self.move_chunk(&chunk, &places, &slot, (arena, part.transfer.deadline))?;
        }
        Ok(())
    }

    fn move_chunk(
        &mut self,
        chunk: &Named<'_>,
        places: &[usize],
        slot: &HostMemory,
        (arena, deadline): (&Arena, Instant),
    ) -> Result<(), DeviceError> {
        let into = self.direction == Direction::HostToDevice;
        let pairs = || chunk.spans.iter().zip(places);
        if into {
            for (span, place) in pairs() {
                slot.copy_from(span.host_at, (arena.memory(), *place), span.len)?;
            }
        }
        self.execute(chunk, &HostSide::Slot(slot), deadline)?;
        let mut bytes = 0;
        for (span, place) in pairs() {
            bytes += span.len as u64;
            if !into {
                arena
                    .memory()
                    .copy_from(*place, (slot, span.host_at), span.len)?;
            }
        }
        self.shared
            .probe
            .staged_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Plans and moves; returns when nothing of it runs any more.
    fn execute(
        &mut self,
        named: &Named<'_>,
        host: &HostSide<'_>,
        deadline: Instant,
    ) -> Result<(), DeviceError> {
        let staging = if self.gather_refused { 0 } else { DEVICE_BYTES };
        let model = &self.shared.model;
        let mut plan = plan(
            &named.spans,
            self.direction,
            host.piece_bytes(),
            staging,
            model,
        );
        if let Some(forced) = self.shared.forced {
            plan.path = forced;
        }
        if plan.pieces.is_empty() {
            return Ok(());
        }
        let outcome = match plan.path {
            Path::Direct => {
                let batch = self.batch(named, host, &plan.pieces)?;
                self.shared.device.copy_now(batch)
            },
            Path::Queued => self.move_queued(named, host, &plan, Submission::Batch, deadline),
            Path::Each => self.move_queued(named, host, &plan, Submission::Each, deadline),
            Path::Gathered => match self.move_gathered(named, host, &plan, deadline) {
                // No memory on the card to stage in: the loop needs none.
                Err(DeviceError::DeviceMemory { .. } | DeviceError::Full { .. }) => {
                    self.gather_refused = true;
                    plan.path = Path::Each;
                    self.move_queued(named, host, &plan, Submission::Each, deadline)
                },
                other => other,
            },
        };
        if outcome.is_ok() {
            self.shared.probe.moved(plan.path, plan.bytes);
        }
        outcome
    }

    fn batch(
        &self,
        named: &Named<'_>,
        host: &HostSide<'_>,
        pieces: &[Piece],
    ) -> Result<CopyBatch, DeviceError> {
        let mut batch = CopyBatch::new(self.direction);
        for Piece { span, piece } in pieces {
            let device = named.blocks[usize::try_from(span.block).expect("an index")];
            let (memory, start) = host.piece(*piece)?;
            batch.push(
                (device, span.device_at),
                (memory, span.host_at - start),
                span.len,
            )?;
        }
        Ok(batch)
    }

    fn move_queued(
        &self,
        named: &Named<'_>,
        host: &HostSide<'_>,
        plan: &Plan,
        how: Submission,
        deadline: Instant,
    ) -> Result<(), DeviceError> {
        let batch = self.batch(named, host, &plan.pieces)?;
        self.submit_and_drain(batch, how, deadline)
    }

    /// Part of a batch that was refused may be on the stream: it is drained all the same.
    fn submit_and_drain(
        &self,
        batch: CopyBatch,
        how: Submission,
        deadline: Instant,
    ) -> Result<(), DeviceError> {
        let submitted = self.stream.submit(batch, how);
        let waited = self.drain(&self.stream, deadline);
        submitted.and(waited)
    }

    /// Waits for a stream; at the deadline ends what is on it. Nothing runs any more afterwards.
    fn drain(&self, stream: &Stream, deadline: Instant) -> Result<(), DeviceError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = stream.wait(Some(left.max(Duration::from_millis(1))));
        if !matches!(waited, Err(DeviceError::Timeout { .. })) {
            return waited;
        }
        self.shared.probe.aborts.fetch_add(1, Ordering::Relaxed);
        match stream.abort() {
            Err(DeviceError::Unsupported { .. }) => Err(self.stay_with(stream)),
            aborted => aborted.and(Err(DeviceError::Aborted)),
        }
    }

    /// The card cannot be made to stop: others answer for this, and the lane stays with the copy
    /// until the card is done.
    fn stay_with(&self, stream: &Stream) -> DeviceError {
        loop {
            let waited = stream.wait(Some(STUCK_LOOK));
            let late = matches!(waited, Err(DeviceError::Timeout { .. }));
            if !late {
                return DeviceError::Aborted;
            }
            if self.shared.stopped.load(Ordering::Acquire) {
                return DeviceError::Timeout {
                    what: "a stream that hangs",
                };
            }
        }
    }

    /// Gathers into device staging and copies out of it in large pieces, or the other way round.
    fn move_gathered(
        &mut self,
        named: &Named<'_>,
        host: &HostSide<'_>,
        plan: &Plan,
        deadline: Instant,
    ) -> Result<(), DeviceError> {
        let (memory, streams) = self.staging.device(&self.shared.device)?;
        let memory = memory.clone();
        let out = self.direction == Direction::DeviceToHost;
        let mut within: Vec<CopyBatch> = streams
            .iter()
            .map(|_| CopyBatch::new(Direction::DeviceToDevice))
            .collect();
        let mut large = Named::new();
        let mut large_pieces: Vec<Piece> = Vec::new();
        let mut at = 0;
        for (number, Piece { span, piece }) in plan.pieces.iter().enumerate() {
            let block = named.blocks[usize::try_from(span.block).expect("an index")];
            let (scattered, packed) = ((block, span.device_at), (&memory, at));
            let (to, from) = if out {
                (packed, scattered)
            } else {
                (scattered, packed)
            };
            let count = within.len();
            within[number % count].push_local(to, from, span.len)?;
            match large_pieces.last_mut() {
                Some(last)
                    if last.piece == *piece
                        && last.span.host_at + last.span.len == span.host_at =>
                {
                    last.span.len += span.len;
                },
                _ => {
                    let packed = Span {
                        block: 0,
                        device_at: at,
                        ..*span
                    };
                    large_pieces.push(Piece {
                        span: packed,
                        piece: *piece,
                    });
                },
            }
            at += span.len;
        }
        large.blocks.push(&memory);
        let whole = self.batch(&large, host, &large_pieces)?;
        if out {
            self.submit_within(within, deadline)?;
            self.submit_and_drain(whole, Submission::Each, deadline)
        } else {
            self.submit_and_drain(whole, Submission::Each, deadline)?;
            self.submit_within(within, deadline)
        }
    }

    /// Copies within the card over the gathering streams, and waits for all of them.
    fn submit_within(&self, within: Vec<CopyBatch>, deadline: Instant) -> Result<(), DeviceError> {
        let streams = self.staging.streams();
        assert!(within.len() == streams.len(), "a batch a stream");
        let mut outcome = Ok(());
        for (stream, batch) in streams.iter().zip(within) {
            let submitted = stream.submit(batch, Submission::Each);
            outcome = outcome.and(submitted);
        }
        for stream in streams {
            let waited = self.drain(stream, deadline);
            outcome = outcome.and(waited);
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
