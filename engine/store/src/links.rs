//! Intrusive lists over record ids, eight bytes an entry.
//!
//! ```text
//! link word:  |63 .. 58|57 ........ 29|28 ......... 0|
//!             |  state |     prev     |     next     |     an id of 0 is "none"
//! ```
//! A policy owns the meaning of the six state bits; [`List`] moves records between head and tail.
//! The array is as long as the index has records, allocated zeroed and therefore untouched until a
//! record of a page is first used: growth copies nothing, and the cost follows the highest record.
//!
//! Lives on: owner shard. Neighbours: `policy/lru.rs`, `policy/s3fifo.rs`.

use crate::limits::RECORDS_MAX;

const ID_BITS: u32 = 29;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
const PREV_SHIFT: u32 = ID_BITS;
const STATE_SHIFT: u32 = 2 * ID_BITS;

const _: () = assert!(RECORDS_MAX as u64 == ID_MASK);
const _: () = assert!(STATE_SHIFT + 6 == u64::BITS);

/// The link words of all records of one store.
pub(crate) struct Links {
    words: Vec<u64>,
}

impl Links {
    /// Makes room for ids `1..=records_max`.
    ///
    /// # Panics
    /// When `records_max` is above [`RECORDS_MAX`].
    pub(crate) fn new(records_max: u32) -> Self {
        assert!(records_max <= RECORDS_MAX);
        Self {
            words: vec![0; records_max as usize + 1],
        }
    }

    pub(crate) fn next(&self, id: u32) -> u32 {
        id_of(self.words[id as usize])
    }

    pub(crate) fn prev(&self, id: u32) -> u32 {
        id_of(self.words[id as usize] >> PREV_SHIFT)
    }

    pub(crate) fn state(&self, id: u32) -> u8 {
        u8::try_from(self.words[id as usize] >> STATE_SHIFT).expect("six bits are left")
    }

    pub(crate) fn set_state(&mut self, id: u32, state: u8) {
        assert!(state < 64);
        let word = &mut self.words[id as usize];
        *word = *word & ((1 << STATE_SHIFT) - 1) | (u64::from(state) << STATE_SHIFT);
    }

    fn set_next(&mut self, id: u32, next: u32) {
        let word = &mut self.words[id as usize];
        *word = *word & !ID_MASK | u64::from(next);
    }

    fn set_prev(&mut self, id: u32, prev: u32) {
        let word = &mut self.words[id as usize];
        *word = *word & !(ID_MASK << PREV_SHIFT) | (u64::from(prev) << PREV_SHIFT);
    }
}

fn id_of(word: u64) -> u32 {
    u32::try_from(word & ID_MASK).expect("29 bits are left")
}

/// One doubly linked list; its records' bytes are counted with it.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
    bytes: u64,
}

impl List {
    /// The record that was pushed longest ago, 0 when the list is empty.
    pub(crate) const fn tail(&self) -> u32 {
        self.tail
    }

    /// The record that was pushed last, 0 when the list is empty.
    pub(crate) const fn head(&self) -> u32 {
        self.head
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts an unlinked record before all others.
    pub(crate) fn push_head(&mut self, links: &mut Links, id: u32, bytes: u64) {
        assert!(id != 0);
        links.set_prev(id, 0);
        links.set_next(id, self.head);
        if self.head == 0 {
            assert!(self.tail == 0);
            self.tail = id;
        } else {
            links.set_prev(self.head, id);
        }
        self.head = id;
        self.len += 1;
        self.bytes += bytes;
    }

    /// Takes a record of this list out of it; the link part of its word becomes zero.
    pub(crate) fn unlink(&mut self, links: &mut Links, id: u32, bytes: u64) {
        assert!(self.len > 0);
        assert!(self.bytes >= bytes);
        let (prev, next) = (links.prev(id), links.next(id));
        if prev == 0 {
            assert!(self.head == id);
            self.head = next;
        } else {
            links.set_next(prev, next);
        }
        if next == 0 {
            assert!(self.tail == id);
            self.tail = prev;
        } else {
            links.set_prev(next, prev);
        }
        links.set_prev(id, 0);
        links.set_next(id, 0);
        self.len -= 1;
        self.bytes -= bytes;
    }

    /// Moves a record of this list before all others.
    pub(crate) fn move_to_head(&mut self, links: &mut Links, id: u32) {
        if self.head != id {
            self.unlink(links, id, 0);
            self.push_head(links, id, 0);
        }
    }

    /// Corrects the byte count after a record of this list changed its length.
    pub(crate) fn resize(&mut self, old_bytes: u64, new_bytes: u64) {
        assert!(self.bytes >= old_bytes);
        self.bytes = self.bytes - old_bytes + new_bytes;
    }

    /// Walks the list from head to tail and checks every link and the counts; O(n).
    ///
    /// `bytes_of` tells a record's length and panics when the record does not belong here.
    ///
    /// # Panics
    /// When a link, the length or the byte count is wrong.
    pub(crate) fn check_invariants(&self, links: &Links, bytes_of: &dyn Fn(u32) -> u64) {
        let (mut at, mut prev, mut len, mut bytes) = (self.head, 0, 0, 0);
        while at != 0 {
            assert_eq!(links.prev(at), prev, "record {at} points back elsewhere");
            len += 1;
            assert!(
                len <= self.len,
                "the list is longer than its count, or a ring"
            );
            bytes += bytes_of(at);
            (prev, at) = (at, links.next(at));
        }
        assert_eq!(self.tail, prev);
        assert_eq!(self.len, len);
        assert_eq!(self.bytes, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(list: &List, links: &Links) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut at = list.head;
        while at != 0 {
            ids.push(at);
            at = links.next(at);
        }
        ids
    }

    #[test]
    fn list_keeps_order_under_moves_at_both_ends_and_the_middle() {
        let (mut links, mut list) = (Links::new(RECORDS_MAX.min(9)), List::default());
        for id in 1..=4 {
            list.push_head(&mut links, id, 10);
        }
        assert_eq!(forward(&list, &links), [4, 3, 2, 1]);
        list.move_to_head(&mut links, 1);
        list.move_to_head(&mut links, 3);
        list.move_to_head(&mut links, 3);
        assert_eq!(forward(&list, &links), [3, 1, 4, 2]);
        list.unlink(&mut links, 4, 10);
        list.unlink(&mut links, 2, 10);
        list.unlink(&mut links, 3, 10);
        assert_eq!(
            (forward(&list, &links), list.tail(), list.bytes()),
            (vec![1], 1, 10)
        );
        list.check_invariants(&links, &|_| 10);
        list.unlink(&mut links, 1, 10);
        assert_eq!(
            (list.head, list.tail(), list.len(), list.bytes()),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn state_bits_survive_link_changes_and_largest_ids() {
        let mut links = Links::new(3);
        links.set_state(2, 63);
        links.set_next(2, RECORDS_MAX);
        links.set_prev(2, RECORDS_MAX);
        assert_eq!(
            (links.state(2), links.next(2), links.prev(2)),
            (63, RECORDS_MAX, RECORDS_MAX)
        );
        links.set_state(2, 0);
        assert_eq!(
            (links.state(2), links.next(2), links.prev(2)),
            (0, RECORDS_MAX, RECORDS_MAX)
        );
    }

    #[test]
    #[should_panic(expected = "points back elsewhere")]
    fn checker_finds_a_broken_back_link() {
        let (mut links, mut list) = (Links::new(3), List::default());
        (1..=3).for_each(|id| list.push_head(&mut links, id, 1));
        links.set_prev(1, 3);
        list.check_invariants(&links, &|_| 1);
    }

    #[test]
    #[should_panic(expected = "a ring")]
    fn checker_finds_a_ring() {
        let (mut links, mut list) = (Links::new(3), List::default());
        (1..=3).for_each(|id| list.push_head(&mut links, id, 1));
        list.len = 2;
        list.check_invariants(&links, &|_| 1);
    }
}
