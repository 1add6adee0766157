//! Eviction policies: which entry goes next when room is needed.
//!
//! A policy orders the *evictable* entries of one store by links of eight bytes an entry; entries
//! that are kept (write mode `None`) are never linked, so no hand ever walks over them. The store
//! drives a policy in steps:
//!
//! ```text
//! hand() -> record        the one entry that the policy would look at now
//!   pinned?  -> pass_over  it is being read: it moves on, the hand turns
//!   judge()  -> Spare      second chance, already moved: ask again
//!            -> Evict      the store unlinks the record, then calls evicted()
//! ```
//! Each step is O(1). New entries enter at the far end from the hand, under either policy.
//!
//! Lives on: owner shard. Neighbours: `store/evict.rs` drives the hand; one file per policy.

mod ghost;
mod lru;
mod s3fifo;

use crate::links::Links;
use lru::Lru;
use s3fifo::S3Fifo;

/// Names an eviction policy; chosen when a store is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Least recently used goes first.
    #[default]
    Lru,
    /// Small, main and ghost FIFO queues (Yang et al., "FIFO queues are all you need for cache
    /// eviction", SOSP 2023): resists scans, and a hit moves nothing.
    S3Fifo,
}

/// What a policy says about the entry under its hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Goes.
    Evict,
    /// Gets another chance; the hand has moved on.
    Spare,
}

/// The chosen policy with its links.
pub(crate) struct PolicyState {
    links: Links,
    order: Order,
}

enum Order {
    Lru(Lru),
    S3Fifo(S3Fifo),
}

impl PolicyState {
    /// Makes an empty policy for ids `1..=records_max`.
    pub(crate) fn new(policy: Policy, records_max: u32) -> Self {
        let order = match policy {
            Policy::Lru => Order::Lru(Lru::default()),
            Policy::S3Fifo => Order::S3Fifo(S3Fifo::new(records_max)),
        };
        Self {
            links: Links::new(records_max),
            order,
        }
    }

    /// Links a new entry; `fingerprint` is 64 bits of its key's hash.
    pub(crate) fn insert(&mut self, id: u32, bytes: u64, fingerprint: u64) {
        assert!(!self.is_linked(id));
        match &mut self.order {
            Order::Lru(lru) => lru.insert(&mut self.links, id, bytes),
            Order::S3Fifo(s3fifo) => s3fifo.insert(&mut self.links, id, bytes, fingerprint),
        }
    }

    /// Notes a hit of a linked entry; nothing for one that is not linked (kept).
    pub(crate) fn touch(&mut self, id: u32) {
        if self.is_linked(id) {
            match &mut self.order {
                Order::Lru(lru) => lru.touch(&mut self.links, id),
                Order::S3Fifo(_) => S3Fifo::touch(&mut self.links, id),
            }
        }
    }

    /// Notes that a linked entry was overwritten: its length changes, and that is a hit.
    pub(crate) fn overwrite(&mut self, id: u32, old_bytes: u64, new_bytes: u64) {
        assert!(self.is_linked(id));
        match &mut self.order {
            Order::Lru(lru) => lru.resize(old_bytes, new_bytes),
            Order::S3Fifo(s3fifo) => s3fifo.resize(&self.links, id, old_bytes, new_bytes),
        }
        self.touch(id);
    }

    /// Unlinks an entry that was deleted, expired, or is kept from now on.
    pub(crate) fn remove(&mut self, id: u32, bytes: u64) {
        if self.is_linked(id) {
            match &mut self.order {
                Order::Lru(lru) => lru.remove(&mut self.links, id, bytes),
                Order::S3Fifo(s3fifo) => s3fifo.remove(&mut self.links, id, bytes),
            }
        }
        assert!(!self.is_linked(id));
    }

    /// Returns the entry under the hand, or `None` when nothing is linked.
    ///
    /// `pinned_run` is how many pinned entries were passed over one after another: a policy with
    /// several queues then looks at the others before it looks at the same entry twice.
    pub(crate) fn hand(&self, pinned_run: u32) -> Option<u32> {
        let id = match &self.order {
            Order::Lru(lru) => lru.hand(),
            Order::S3Fifo(s3fifo) => s3fifo.hand(pinned_run),
        };
        (id != 0).then_some(id)
    }

    /// Returns the entry that would go last as far as the order tells, `None` when nothing is
    /// linked.
    pub(crate) fn hottest(&self) -> Option<u32> {
        let id = match &self.order {
            Order::Lru(lru) => lru.hottest(),
            Order::S3Fifo(s3fifo) => s3fifo.hottest(),
        };
        (id != 0).then_some(id)
    }

    /// Judges the entry under the hand.
    pub(crate) fn judge(&mut self, id: u32, bytes: u64) -> Verdict {
        assert!(self.is_linked(id));
        match &mut self.order {
            Order::Lru(_) => Verdict::Evict,
            Order::S3Fifo(s3fifo) => s3fifo.judge(&mut self.links, id, bytes),
        }
    }

    /// Moves the hand past an entry that is pinned: it is being read, which counts as a hit.
    pub(crate) fn pass_over(&mut self, id: u32, bytes: u64) {
        assert!(self.is_linked(id));
        match &mut self.order {
            Order::Lru(lru) => lru.touch(&mut self.links, id),
            Order::S3Fifo(s3fifo) => s3fifo.pass_over(&mut self.links, id, bytes),
        }
    }

    /// Unlinks an entry that is evicted, and remembers it where the policy does that.
    pub(crate) fn evicted(&mut self, id: u32, bytes: u64, fingerprint: u64) {
        assert!(self.is_linked(id));
        match &mut self.order {
            Order::Lru(lru) => lru.remove(&mut self.links, id, bytes),
            Order::S3Fifo(s3fifo) => s3fifo.evicted(&mut self.links, id, bytes, fingerprint),
        }
        assert!(!self.is_linked(id));
    }

    /// Returns whether the entry is evictable.
    pub(crate) fn is_linked(&self, id: u32) -> bool {
        self.links.state(id) != 0
    }

    /// Returns the number of evictable entries.
    pub(crate) fn len(&self) -> u32 {
        match &self.order {
            Order::Lru(lru) => lru.len(),
            Order::S3Fifo(s3fifo) => s3fifo.len(),
        }
    }

    /// Returns the bytes of all evictable entries.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.order {
            Order::Lru(lru) => lru.bytes(),
            Order::S3Fifo(s3fifo) => s3fifo.bytes(),
        }
    }

    /// Returns the bytes that the policy holds beside its links.
    pub(crate) fn extra_bytes(&self) -> u64 {
        match &self.order {
            Order::Lru(_) => 0,
            Order::S3Fifo(s3fifo) => s3fifo.ghost_bytes(),
        }
    }

    /// Checks every list; O(n).
    ///
    /// # Panics
    /// When a link or a count is wrong.
    pub(crate) fn check_invariants(&self, bytes_of: &dyn Fn(u32) -> u64) {
        match &self.order {
            Order::Lru(lru) => lru.check_invariants(&self.links, bytes_of),
            Order::S3Fifo(s3fifo) => s3fifo.check_invariants(&self.links, bytes_of),
        }
    }
}
