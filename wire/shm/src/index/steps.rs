//! The fences and re-checks that the protocol stands on, by name, so that a model can leave one
//! out.
//!
//! In the product every step is kept, at no cost. Under loom (`model`) and under the random
//! schedules of this crate's own tests (`schedule`) one can be left out.

use std::sync::atomic::Ordering;

/// One fence, order or re-check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(loom),
    expect(dead_code, reason = "some steps are the models' own")
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
    /// Writer: a new index's magic is published with release, after all else.
    IdentityPublish,
    /// Reader: the magic is seen with acquire, before all else.
    IdentitySee,
    /// Shard: a session's ring is opened, and its pins are scanned, before the client is told.
    BirthOrder,
    /// Client: nothing is pinned before the shard has opened the session's ring.
    BirthBeforePin,
    /// Kernel: a dead daemon's life word is marked before a successor serves.
    DeathOrder,
    /// Client: the life word is looked at, after the re-check.
    LifeRecheck,
}

#[cfg(not(any(loom, test)))]
mod product {
    use super::{Ordering, Step};

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a constant in disguise")]
    pub(crate) fn kept(_step: Step) -> bool {
        true
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a fence in disguise")]
    pub(crate) fn fence(_step: Step, order: Ordering) {
        std::sync::atomic::fence(order);
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a constant in disguise")]
    pub(crate) fn order(_step: Step, order: Ordering) -> Ordering {
        order
    }

    #[inline]
    pub(crate) fn spin() {
        std::hint::spin_loop();
    }
}

#[cfg(not(any(loom, test)))]
pub(crate) use product::{fence, kept, order, spin};

#[cfg(any(loom, test))]
mod changed {
    use std::cell::Cell;

    use super::{Ordering, Step};

    std::thread_local! {
        /// The step that the model at hand leaves out. All threads of a loom model run on one
        /// thread of the system; a random schedule sets it in each of its threads.
        pub(crate) static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
    }

    pub(crate) fn kept(step: Step) -> bool {
        LEFT_OUT.with(|left_out| left_out.get() != Some(step))
    }

    pub(crate) fn fence(step: Step, order: Ordering) {
        if kept(step) {
            #[cfg(loom)]
            loom::sync::atomic::fence(order);
            #[cfg(not(loom))]
            std::sync::atomic::fence(order);
        }
    }

    pub(crate) fn order(step: Step, order: Ordering) -> Ordering {
        if kept(step) { order } else { Ordering::Relaxed }
    }

    pub(crate) fn spin() {
        #[cfg(loom)]
        loom::thread::yield_now();
        #[cfg(not(loom))]
        super::super::schedule::give_way();
    }
}

#[cfg(any(loom, test))]
pub(crate) use changed::{LEFT_OUT, fence, kept, order, spin};

/// A writer that dies between two stores, under loom: the stores after its last one are lost.
#[cfg(loom)]
pub(crate) mod death {
    use std::cell::Cell;

    std::thread_local! {
        static STORES_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    /// Lets the writer live for `stores` more stores (`u64::MAX`: for ever).
    pub(crate) fn comes_after(stores: u64) {
        STORES_LEFT.set(stores);
    }

    /// Says whether a store still happens.
    pub(crate) fn permits_store() -> bool {
        let left = STORES_LEFT.get();
        if left != u64::MAX {
            STORES_LEFT.set(left.saturating_sub(1));
        }
        left > 0
    }

    /// Says whether the writer has stored its last.
    pub(crate) fn has_come() -> bool {
        STORES_LEFT.get() == 0
    }
}
