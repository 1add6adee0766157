//! The fences and re-checks that the protocol stands on, by name, so that a model can leave one
//! out.
//!
//! Outside the models every step is kept, at no cost.

#[cfg(loom)]
use std::cell::Cell;
use std::sync::atomic::Ordering;

/// One fence, order or re-check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(loom),
    expect(dead_code, reason = "only the models tell the steps apart")
)]
pub(crate) enum Step {
    /// Writer: the new generation is published with release.
    RecordPublish,
    /// Reader: the generation is seen with acquire, before the words.
    RecordSee,
    /// Reader: fence between a record's words and the second look at its generation.
    RecordReadFence,
    /// Reader: second look at the generation.
    RecordRecheck,
    /// Writer: generation odd while the words change.
    GenerationOdd,
    /// Writer: fence between the odd generation and the words.
    RecordWriteFence,
    /// Writer: generation even again, but higher.
    GenerationRises,
    /// Reader: fence between a probe and the second looks at sequence and table.
    ProbeFence,
    /// Reader: second look at the bucket's sequence.
    SequenceRecheck,
    /// Reader: second look at the table word.
    TableRecheck,
    /// Writer: sequence odd while a chain is rewritten.
    SequenceOdd,
    /// Writer: the table word is published with release.
    TablePublish,
    /// Reader: the table word is seen with acquire.
    TableSee,
    /// Writer: the new bucket is published before the old one is emptied.
    SplitOrder,
    /// Reader: fence between storing the pin and the re-check.
    PinFence,
    /// Writer: fence between raising the generation and scanning the pins.
    ScanFence,
    /// Reader: re-check of the generation after the pin.
    PinRecheck,
    /// Reader: the pin is cleared with release.
    PinRelease,
    /// Writer: pins are seen with acquire.
    PinSee,
    /// Reader: the expiry is seen with acquire, before the generation.
    ExpirySee,
    /// Reader: re-check of the expiry.
    ExpiryRecheck,
    /// Reader: re-check of the owner's lease generation.
    LeaseRecheck,
    /// Writer: an owner's generation is raised before its time is extended.
    LeaseOrder,
    /// Writer: an owner's time is published with release.
    LeasePublish,
    /// Reader: an owner's time is seen with acquire.
    LeaseSee,
}

#[cfg(not(loom))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "a constant in disguise")]
pub(crate) fn kept(_step: Step) -> bool {
    true
}

#[cfg(not(loom))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "a fence in disguise")]
pub(crate) fn fence(_step: Step, order: Ordering) {
    std::sync::atomic::fence(order);
}

#[cfg(not(loom))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "a constant in disguise")]
pub(crate) fn order(_step: Step, order: Ordering) -> Ordering {
    order
}

#[cfg(not(loom))]
#[inline]
pub(crate) fn spin() {
    std::hint::spin_loop();
}

#[cfg(loom)]
std::thread_local! {
    /// The step that the model at hand leaves out. All threads of a model run on one thread of the
    /// system.
    pub(crate) static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
}

#[cfg(loom)]
pub(crate) fn kept(step: Step) -> bool {
    LEFT_OUT.with(|left_out| left_out.get() != Some(step))
}

#[cfg(loom)]
pub(crate) fn fence(step: Step, order: Ordering) {
    if kept(step) {
        loom::sync::atomic::fence(order);
    }
}

#[cfg(loom)]
pub(crate) fn order(step: Step, order: Ordering) -> Ordering {
    if kept(step) { order } else { Ordering::Relaxed }
}

#[cfg(loom)]
pub(crate) fn spin() {
    loom::thread::yield_now();
}
