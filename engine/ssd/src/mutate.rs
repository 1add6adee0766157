//! Faults planted on purpose, one at a time, so that the model test can show it would see them.
//!
//! Outside of tests every question is answered `false` at compile time.

/// What may be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Cleaning forgets tombstones while older records are still about.
    TombstoneDropped,
    /// A scan takes records whose payload was cut off, and reads trust them.
    TornTailAccepted,
    /// Of two versions the lower counts.
    VersionInverted,
    /// A table is believed without its checksum.
    FooterCrcIgnored,
    /// A segment is erased before its copies are flushed.
    EraseBeforeFlush,
    /// A delete is acknowledged before its tombstone is written.
    DeleteNotAwaited,
    /// A segment is reused while a read of it is under way.
    ReuseUnderRead,
    /// A segment's other shards are not asked before it is erased.
    OtherShardsIgnored,
    /// A value is served whatever its checksum says.
    ChecksumIgnored,
    /// Given-up records leave their older ones without a tombstone.
    DropUnprotected,
    /// A device that is given up does not say so.
    GivenUpUnmarked,
}

#[cfg(not(test))]
pub(crate) const fn is_planted(_mutation: Mutation) -> bool {
    false
}

#[cfg(test)]
pub(crate) use planted::{is_planted, with};

#[cfg(test)]
mod planted {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static PLANTED: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    pub(crate) fn is_planted(mutation: Mutation) -> bool {
        PLANTED.get() == Some(mutation)
    }

    /// Runs `body` with a fault planted on this thread.
    pub(crate) fn with<T>(mutation: Mutation, body: impl FnOnce() -> T) -> T {
        struct Planted;
        impl Drop for Planted {
            fn drop(&mut self) {
                PLANTED.set(None);
            }
        }
        PLANTED.set(Some(mutation));
        let _planted = Planted;
        body()
    }
}
