//! The slab of operations: who waits for each, and what must outlive it.
//!
//! ```text
//!            insert            submit              complete
//!   (free) ─────────▶ Waiting ────────▶ InKernel ──────────▶ Done ──reclaim──▶ (free)
//!                        │ orphan          │ orphan
//!                        ▼                 ▼ (cancel sent)      complete
//!                      (free)           Orphaned ─────────────────────────────▶ (free)
//! ```
//! A multishot poll stays in `InKernel` for as long as its completions say that more will come.

use std::any::Any;
use std::os::fd::{FromRawFd, OwnedFd};
use std::task::Waker;

use io_uring::squeue;

use super::poll::ReadyEvent;
use super::socket::Gather;
use super::span::{IoFd, IoSpan};

/// Names one operation; the generation tells it from the slot's earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId {
    index: u32,
    generation: u32,
}

/// Generations stay below this, so that no operation's user data is one of the reserved values.
const GENERATIONS: u32 = u32::MAX;

impl SlotId {
    pub(super) fn user_data(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    pub(super) fn from_user_data(user_data: u64) -> Self {
        let index = u32::try_from(user_data & 0xffff_ffff).expect("masked to 32 bits");
        let generation = u32::try_from(user_data >> 32).expect("32 bits remain");
        Self { index, generation }
    }

    fn index(self) -> usize {
        self.index as usize
    }
}

/// What an operation needs to stay valid: its descriptor and its memory. Dropped after its
/// completion.
#[expect(
    dead_code,
    reason = "most of it is held, never read: holding is its purpose"
)]
pub(super) enum Keep {
    /// A descriptor and a range of shared memory.
    Span(IoFd, IoSpan),
    /// A descriptor and private memory that goes back to the caller.
    Bytes(IoFd, Vec<u8>),
    /// A descriptor alone.
    Fd(IoFd),
    /// A descriptor and anything else.
    Other(IoFd, Box<dyn Any>),
    /// A descriptor and the pieces of a gathered send.
    Gather(IoFd, Box<Gather>),
    /// The descriptor of a listener; the result of an orphaned operation is a descriptor to close.
    Accept(IoFd),
}

impl Keep {
    /// Returns the private memory of an operation that was started with some.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(_, bytes) => bytes,
            _ => unreachable!("an operation gives back what it was started with"),
        }
    }

    /// Returns the pieces of an operation that was started with some.
    #[expect(
        clippy::unnecessary_box_returns,
        reason = "the kernel has its address: it stays boxed"
    )]
    pub(super) fn into_gather(self) -> Box<Gather> {
        match self {
            Self::Gather(_, gather) => gather,
            _ => unreachable!("an operation gives back what it was started with"),
        }
    }
}

/// A poll that fires again and again.
#[derive(Clone, Debug)]
struct Multishot {
    key: u64,
    /// An event of this poll is in the ready list already.
    listed: bool,
    /// The kernel has ended it; it is submitted again when its event is taken.
    ended: bool,
    entry: squeue::Entry,
}

enum Phase {
    Free { next: Option<u32> },
    Waiting { entry: squeue::Entry },
    InKernel,
    Orphaned,
    Done { result: i32 },
}

struct Slot {
    generation: u32,
    phase: Phase,
    waker: Option<Waker>,
    keep: Option<Keep>,
    multishot: Option<Multishot>,
}

/// What a completion means for the ring.
pub(super) enum Completed {
    /// The result waits in the slot; wake whoever waits.
    Waiting(Option<Waker>),
    /// Nobody waited; drop this.
    Released(Keep),
    /// A multishot poll fired.
    Ready(ReadyEvent),
    /// A multishot poll fired that is listed already.
    Nothing,
}

/// What has become of a poll whose event is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakenReady {
    /// Its handle was dropped meanwhile: the event is nobody's.
    Gone,
    /// It goes on, or has failed for good.
    Going,
    /// The kernel has ended it: submit it again.
    Rearm,
}

/// The operations of one ring.
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Option<u32>,
    used: usize,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: None,
            used: 0,
        }
    }

    /// Returns how many slots are in use.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn insert(&mut self, entry: squeue::Entry, keep: Keep) -> SlotId {
        self.used += 1;
        if let Some(index) = self.free {
            let slot = &mut self.slots[index as usize];
            let Phase::Free { next } = slot.phase else {
                unreachable!("the free list holds free slots");
            };
            self.free = next;
            slot.phase = Phase::Waiting { entry };
            slot.keep = Some(keep);
            return SlotId {
                index,
                generation: slot.generation,
            };
        }
        let index = u32::try_from(self.slots.len()).expect("bounded by RING_OPERATIONS_MAX");
        self.slots.push(Slot {
            generation: 0,
            phase: Phase::Waiting { entry },
            waker: None,
            keep: Some(keep),
            multishot: None,
        });
        SlotId {
            index,
            generation: 0,
        }
    }

    /// Makes the operation of `id` a poll that fires again and again under `key`.
    pub(super) fn set_multishot(&mut self, id: SlotId, key: u64) {
        let slot = self.get(id);
        let Phase::Waiting { entry } = &slot.phase else {
            unreachable!("called right after insert");
        };
        slot.multishot = Some(Multishot {
            key,
            listed: false,
            ended: false,
            entry: entry.clone(),
        });
    }

    /// Hands out the entry for the submission queue; `None` when the future has gone meanwhile.
    pub(super) fn submit(&mut self, id: SlotId) -> Option<squeue::Entry> {
        let slot = self
            .slots
            .get_mut(id.index())
            .filter(|slot| slot.generation == id.generation)?;
        if !matches!(slot.phase, Phase::Waiting { .. }) {
            return None;
        }
        let Phase::Waiting { entry } = std::mem::replace(&mut slot.phase, Phase::InKernel) else {
            unreachable!("checked above");
        };
        Some(entry.user_data(id.user_data()))
    }

    /// Takes one completion of the kernel.
    pub(super) fn complete(&mut self, id: SlotId, result: i32, more: bool) -> Completed {
        let slot = self.get(id);
        match slot.phase {
            Phase::Orphaned => {
                if more {
                    return Completed::Nothing;
                }
                close_orphaned(slot.keep.as_ref(), result);
                let keep = self.free(id);
                Completed::Released(keep.expect("an operation in the kernel keeps what it needs"))
            },
            Phase::InKernel => match &mut slot.multishot {
                None => {
                    assert!(!more, "only polls are multishot");
                    slot.phase = Phase::Done { result };
                    Completed::Waiting(slot.waker.take())
                },
                Some(multishot) => {
                    let event = multishot.on_completion(result);
                    if more {
                        return event.map_or(Completed::Nothing, Completed::Ready);
                    }
                    if result < 0 {
                        slot.phase = Phase::Done { result };
                        return event.map_or(Completed::Nothing, Completed::Ready);
                    }
                    // The kernel has ended it (its completion queue was full, for one). It goes on
                    // when its event is taken: not before, else one that ends at once would spin.
                    multishot.ended = true;
                    slot.phase = Phase::Waiting {
                        entry: multishot.entry.clone(),
                    };
                    event.map_or(Completed::Nothing, Completed::Ready)
                },
            },
            Phase::Free { .. } | Phase::Waiting { .. } | Phase::Done { .. } => {
                unreachable!("the kernel completes what it holds, once")
            },
        }
    }

    /// Returns the result if it is there, else remembers whom to wake.
    pub(super) fn poll(&mut self, id: SlotId, waker: &Waker) -> Option<(i32, Keep)> {
        let slot = self.get(id);
        if let Phase::Done { result } = slot.phase {
            let keep = self.free(id).expect("kept until the result is taken");
            return Some((result, keep));
        }
        match &mut slot.waker {
            Some(held) if held.will_wake(waker) => {},
            held => *held = Some(waker.clone()),
        }
        None
    }

    /// Detaches the operation of `id` from its future; `true` when the kernel holds it and must be
    /// asked to cancel it. Otherwise [`Self::reclaim`] frees it at once.
    pub(super) fn orphan(&mut self, id: SlotId) -> bool {
        let slot = self.get(id);
        if matches!(slot.phase, Phase::InKernel) {
            slot.phase = Phase::Orphaned;
            slot.waker = None;
            return true;
        }
        false
    }

    /// Frees a slot that the kernel does not hold.
    pub(super) fn reclaim(&mut self, id: SlotId) -> Option<Keep> {
        let slot = self.get(id);
        assert!(matches!(
            slot.phase,
            Phase::Waiting { .. } | Phase::Done { .. }
        ));
        if let Phase::Done { result } = slot.phase {
            close_orphaned(slot.keep.as_ref(), result);
        }
        self.free(id)
    }

    /// A ready event leaves the list.
    pub(super) fn take_ready(&mut self, id: SlotId) -> TakenReady {
        let slot = self
            .slots
            .get_mut(id.index())
            .filter(|slot| slot.generation == id.generation);
        let Some(slot) = slot else {
            return TakenReady::Gone;
        };
        let Some(multishot) = &mut slot.multishot else {
            return TakenReady::Gone;
        };
        multishot.listed = false;
        let ended = std::mem::take(&mut multishot.ended);
        match slot.phase {
            Phase::Waiting { .. } if ended => TakenReady::Rearm,
            Phase::Waiting { .. } | Phase::InKernel | Phase::Done { .. } => TakenReady::Going,
            Phase::Orphaned | Phase::Free { .. } => TakenReady::Gone,
        }
    }

    /// Lists what the kernel holds.
    pub(super) fn in_kernel(&self) -> Vec<SlotId> {
        let held = |slot: &Slot| matches!(slot.phase, Phase::InKernel | Phase::Orphaned);
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| held(slot));
        slots
            .map(|(index, slot)| SlotId {
                index: u32::try_from(index).expect("bounded by RING_OPERATIONS_MAX"),
                generation: slot.generation,
            })
            .collect()
    }

    /// Gives up what the kernel may still use when the ring itself goes.
    #[expect(
        clippy::mem_forget,
        reason = "the kernel may still write there: leaking is the safe end"
    )]
    pub(super) fn leak_in_kernel(&mut self) {
        for slot in &mut self.slots {
            if matches!(slot.phase, Phase::InKernel | Phase::Orphaned) {
                std::mem::forget(slot.keep.take());
            }
        }
    }

    fn get(&mut self, id: SlotId) -> &mut Slot {
        let slot = &mut self.slots[id.index()];
        assert_eq!(
            slot.generation, id.generation,
            "a completion or future of an earlier operation"
        );
        slot
    }

    fn free(&mut self, id: SlotId) -> Option<Keep> {
        let next = self.free;
        let slot = self.get(id);
        slot.generation = (slot.generation + 1) % GENERATIONS;
        slot.phase = Phase::Free { next };
        slot.waker = None;
        slot.multishot = None;
        let keep = slot.keep.take();
        self.free = Some(id.index);
        self.used -= 1;
        keep
    }
}

impl Multishot {
    fn on_completion(&mut self, result: i32) -> Option<ReadyEvent> {
        if self.listed || result == -libc::ECANCELED {
            return None;
        }
        self.listed = true;
        let errno = (result < 0).then_some(-result);
        Some(ReadyEvent {
            key: self.key,
            errno,
        })
    }
}

/// Closes the descriptor that an accept has made for nobody.
fn close_orphaned(keep: Option<&Keep>, result: i32) {
    if matches!(keep, Some(Keep::Accept(_))) && result >= 0 {
        // SAFETY: the kernel has just returned this descriptor as the result of an accept whose
        // future is gone, so nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(result) });
    }
}
