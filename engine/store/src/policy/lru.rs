//! `lru`: one list; a hit moves the entry to the head, the tail goes.
//!
//! Lives on: owner shard. State bits of the link word: 1 = linked.

use crate::links::{Links, List};

const LINKED: u8 = 1;

/// The one list, head = used last.
#[derive(Debug, Default)]
pub(super) struct Lru {
    list: List,
}

impl Lru {
    pub(super) fn insert(&mut self, links: &mut Links, id: u32, bytes: u64) {
        self.list.push_head(links, id, bytes);
        links.set_state(id, LINKED);
    }

    pub(super) fn touch(&mut self, links: &mut Links, id: u32) {
        self.list.move_to_head(links, id);
    }

    pub(super) fn resize(&mut self, old_bytes: u64, new_bytes: u64) {
        self.list.resize(old_bytes, new_bytes);
    }

    pub(super) fn remove(&mut self, links: &mut Links, id: u32, bytes: u64) {
        self.list.unlink(links, id, bytes);
        links.set_state(id, 0);
    }

    pub(super) const fn hand(&self) -> u32 {
        self.list.tail()
    }

    pub(super) const fn hottest(&self) -> u32 {
        self.list.head()
    }

    pub(super) const fn len(&self) -> u32 {
        self.list.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.list.bytes()
    }

    pub(super) fn check_invariants(&self, links: &Links, bytes_of: &dyn Fn(u32) -> u64) {
        self.list.check_invariants(links, &|id| {
            assert_eq!(links.state(id), LINKED);
            bytes_of(id)
        });
    }
}
