//! Writable windows over leased pages: a guard against accidents in a trusted process.
//!
//! The arena is mapped a second time for writing, read-only at first. A lease opens a window (its
//! pages become writable, and are touched so that copies do not fault one page at a time). A window
//! whose slots are all published stays open for its next use, until more than 64 MiB are open;
//! then the idle ones are closed, oldest first. A window in use is never closed, so what is open
//! is bounded by that plus what the session holds in leases.

use std::io;

use chariot_shm::Mapping;

/// Bytes of windows that stay open while nobody writes in them.
pub(super) const OPEN_MAX_BYTES: usize = 64 << 20;

#[derive(Debug)]
struct Window {
    id: u32,
    start: usize,
    end: usize,
    /// Slots leased in it and not yet published.
    users: u32,
}

/// The windows of one arena mapping. Lives in a lock of its session.
#[derive(Debug)]
pub(super) struct Windows {
    page: usize,
    next_id: u32,
    open_bytes: usize,
    /// In the order of their last use, oldest first.
    windows: Vec<Window>,
}

/// Takes and gives the right to write to a range; a port, so that tests need no memory.
pub(super) trait Protect {
    fn open(&self, start: usize, len: usize) -> io::Result<()>;
    fn close(&self, start: usize, len: usize) -> io::Result<()>;
    fn len(&self) -> usize;
}

impl Protect for Mapping {
    fn open(&self, start: usize, len: usize) -> io::Result<()> {
        self.protect_write(start, len)?;
        // A hint only: a kernel or a page that refuses makes the copy fault page by page.
        drop(self.populate_write(start, len));
        Ok(())
    }

    fn close(&self, start: usize, len: usize) -> io::Result<()> {
        self.protect_read(start, len)
    }

    fn len(&self) -> usize {
        Mapping::len(self)
    }
}

impl Windows {
    /// No window is open; `page` is the page size in bytes.
    pub(super) fn new(page: usize) -> Self {
        assert!(page.is_power_of_two());
        Self {
            page,
            next_id: 1,
            open_bytes: 0,
            windows: Vec::new(),
        }
    }

    /// Opens a window over `offset..offset + len` for `users` slots, and names it.
    pub(super) fn open(
        &mut self,
        memory: &impl Protect,
        offset: usize,
        len: usize,
        users: u32,
    ) -> io::Result<u32> {
        let start = offset & !(self.page - 1);
        let end = (offset + len).next_multiple_of(self.page).min(memory.len());
        let covers = |window: &Window| window.start <= start && end <= window.end;
        if let Some(at) = self.windows.iter().position(covers) {
            let mut window = self.windows.remove(at);
            window.users += users;
            let id = window.id;
            self.windows.push(window);
            return Ok(id);
        }
        memory.open(start, end - start)?;
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.windows.push(Window {
            id,
            start,
            end,
            users,
        });
        self.open_bytes += end - start;
        self.close_idle(memory);
        Ok(id)
    }

    /// Takes note that `count` slots of a window are published or given back.
    pub(super) fn leave(&mut self, id: u32, count: u32) {
        let window = self.windows.iter_mut().rev().find(|window| window.id == id);
        let window = window.expect("a window in use is never closed");
        assert!(window.users >= count, "a slot leaves its window once");
        window.users -= count;
    }

    fn close_idle(&mut self, memory: &impl Protect) {
        let mut at = 0;
        while self.open_bytes > OPEN_MAX_BYTES && at < self.windows.len() {
            if self.windows[at].users > 0 {
                at += 1;
                continue;
            }
            let window = self.windows.remove(at);
            self.open_bytes -= window.end - window.start;
            self.close_uncovered(memory, &window);
        }
    }

    /// Closes the pages of a removed window that no other window needs.
    fn close_uncovered(&self, memory: &impl Protect, closed: &Window) {
        let mut start = closed.start;
        while start < closed.end {
            let cover = self
                .windows
                .iter()
                .find(|other| other.start <= start && start < other.end);
            if let Some(other) = cover {
                start = other.end;
                continue;
            }
            let next = self
                .windows
                .iter()
                .map(|other| other.start)
                .filter(|&next| next > start);
            let end = next.min().unwrap_or(closed.end).min(closed.end);
            // A page that stays writable is a lesser guard, not a fault.
            drop(memory.close(start, end - start));
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const PAGE: usize = 4096;
    const MIB: usize = 1 << 20;

    /// Which pages are writable.
    struct Pages(RefCell<Vec<bool>>);

    impl Pages {
        fn new(len: usize) -> Self {
            Self(RefCell::new(vec![false; len / PAGE]))
        }

        fn is_open(&self, offset: usize) -> bool {
            self.0.borrow()[offset / PAGE]
        }
    }

    impl Protect for Pages {
        fn open(&self, start: usize, len: usize) -> io::Result<()> {
            assert!(start.is_multiple_of(PAGE) && len.is_multiple_of(PAGE));
            self.0.borrow_mut()[start / PAGE..(start + len) / PAGE].fill(true);
            Ok(())
        }

        fn close(&self, start: usize, len: usize) -> io::Result<()> {
            assert!(start.is_multiple_of(PAGE) && len.is_multiple_of(PAGE));
            self.0.borrow_mut()[start / PAGE..(start + len) / PAGE].fill(false);
            Ok(())
        }

        fn len(&self) -> usize {
            self.0.borrow().len() * PAGE
        }
    }

    #[test]
    fn idle_windows_close_oldest_first_and_only_over_the_bound() {
        let pages = Pages::new(256 * MIB);
        let mut windows = Windows::new(PAGE);
        let first = windows.open(&pages, 0, 32 * MIB, 1).unwrap();
        let second = windows.open(&pages, 64 * MIB, 32 * MIB, 1).unwrap();
        windows.leave(first, 1);
        windows.leave(second, 1);
        assert!(
            pages.is_open(0) && pages.is_open(64 * MIB),
            "64 MiB may stay open"
        );
        windows.open(&pages, 128 * MIB, MIB, 1).unwrap();
        assert!(!pages.is_open(0) && pages.is_open(64 * MIB) && pages.is_open(128 * MIB));
    }

    #[test]
    fn window_in_use_stays_open_over_the_bound() {
        let pages = Pages::new(256 * MIB);
        let mut windows = Windows::new(PAGE);
        windows.open(&pages, 0, 64 * MIB, 1).unwrap();
        windows.open(&pages, 128 * MIB, MIB, 1).unwrap();
        assert!(pages.is_open(0));
    }

    #[test]
    fn closing_spares_a_page_shared_with_a_neighbour() {
        let pages = Pages::new(256 * MIB);
        let mut windows = Windows::new(PAGE);
        let first = windows.open(&pages, 0, PAGE + 64, 1).unwrap();
        windows.open(&pages, PAGE + 64, PAGE, 1).unwrap();
        windows.leave(first, 1);
        windows.open(&pages, 64 * MIB, 64 * MIB, 1).unwrap();
        assert!(!pages.is_open(0), "the idle window closed");
        assert!(
            pages.is_open(PAGE),
            "its second page belongs to the neighbour as well"
        );
    }

    #[test]
    fn open_window_is_used_again() {
        let pages = Pages::new(MIB);
        let mut windows = Windows::new(PAGE);
        let id = windows.open(&pages, 0, PAGE, 1).unwrap();
        windows.leave(id, 1);
        assert_eq!(windows.open(&pages, 64, 64, 2).unwrap(), id);
    }

    #[test]
    #[should_panic(expected = "a slot leaves its window once")]
    fn leaving_twice_is_a_bug() {
        let pages = Pages::new(MIB);
        let mut windows = Windows::new(PAGE);
        let id = windows.open(&pages, 0, PAGE, 1).unwrap();
        windows.leave(id, 2);
    }
}
