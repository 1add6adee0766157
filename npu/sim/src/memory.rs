//! Memory of a card: addresses that no host instruction may touch, and the bytes behind them.
//!
//! ```text
//! address = 0x1200_0000_0000 + card << 38      reserved without access: touching it is a SIGSEGV
//!   [0, 128 GiB)        allocations of this process; the same offset in its file holds the bytes
//!   [128 GiB, 256 GiB)  imports from other processes; the bytes are in the exporter's file
//! ```
//! Rules 2 and 3 of the device facts, 5.2. A block is poisoned when it is given and when it is
//! taken, and its addresses rest in quarantine before they are given again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use chariot_ascend_rt_sys::sys;

use crate::board::Board;
use crate::config::config;
use crate::{Code, fault};

const BASE: u64 = 0x1200_0000_0000;
const SHIFT: u32 = 38;
const OWN_BYTES: u64 = 128 << 30;
const ALL_BYTES: u64 = 1 << SHIFT;
const HUGE: u64 = 2 << 20;
const NORMAL: u64 = 4 << 10;
/// Blocks whose addresses rest before they are given again.
const QUARANTINE_MAX: usize = 1024;
/// Poison at each end of a block; all of it when it is no longer than both.
const POISON_MAX: u64 = 8 << 20;
const GIVEN: u8 = 0xA5;
const TAKEN: u8 = 0x5A;

/// Whose bytes a block has.
#[derive(Clone, Debug)]
pub(crate) enum Backing {
    Own,
    Import {
        map: usize,
        owner: u64,
        owner_device: u32,
        key: u64,
    },
}

/// One allocation or import.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) size: u64,
    room: u64,
    live: bool,
    pub(crate) backing: Backing,
}

/// One card as this process sees it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: u32,
    shadow: usize,
    blocks: BTreeMap<u64, Block>,
    cursor: u64,
    import_cursor: u64,
    quarantine: VecDeque<u64>,
    pub(crate) lost: bool,
    pub(crate) references: u32,
    pub(crate) peers: Vec<u32>,
}

/// Maps `size` bytes of a file from `offset` on, shared. Nothing when the kernel refuses.
pub(crate) fn map_file(file: &File, offset: u64, size: usize) -> Option<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    let null = std::ptr::null_mut();
    let before = offset % page_size() as u64;
    let (len, from) = (size + before as usize, (offset - before) as i64);
    // SAFETY: a new mapping where the kernel likes takes nothing away; the descriptor is open.
    let at = unsafe { libc::mmap(null, len, protection, flags, file.as_raw_fd(), from) };
    if at == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(at.wrapping_byte_add(before as usize).cast())
}

/// Ends a mapping of `map_file`, which nobody uses any more. A length of 0 ends nothing.
pub(crate) fn unmap(at: usize, size: usize) {
    if size == 0 {
        return;
    }
    let before = at % page_size();
    let start = (at - before) as *mut libc::c_void;
    // SAFETY: the pages from the mapping's own, up to its end; nobody else has mapped there.
    unsafe { libc::munmap(start, size + before) };
}

fn page_size() -> usize {
    // SAFETY: sysconf takes a number and has no conditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// The card and the offset that an address means, if it is one of a card.
pub(crate) fn locate(address: u64) -> Option<(u32, u64)> {
    let from_base = address.checked_sub(BASE)?;
    let device = from_base >> SHIFT;
    (device < u64::from(config().devices)).then_some((device as u32, from_base & (ALL_BYTES - 1)))
}

impl Device {
    /// Reserves a card's addresses and makes the file behind them.
    pub(crate) fn open(id: u32) -> Result<Self, Code> {
        let pid = std::process::id() as i32;
        let path = Board::memory_path(pid, id);
        let _ = std::fs::remove_file(&path);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|_| sys::ACL_ERROR_RT_DRV_INTERNAL)?;
        file.set_len(OWN_BYTES)
            .map_err(|_| sys::ACL_ERROR_RT_DRV_INTERNAL)?;
        let shadow =
            map_file(&file, 0, OWN_BYTES as usize).ok_or(sys::ACL_ERROR_RT_DRV_INTERNAL)?;
        let at = (BASE + (u64::from(id) << SHIFT)) as *mut libc::c_void;
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_NORESERVE
            | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: NOREPLACE fails rather than take somebody's pages; the new ones cannot be
        // touched.
        let got = unsafe { libc::mmap(at, ALL_BYTES as usize, libc::PROT_NONE, flags, -1, 0) };
        // A card that was reset keeps its reservation, so meeting our own is fine.
        if got != at && got != libc::MAP_FAILED {
            return Err(sys::ACL_ERROR_RT_DRV_INTERNAL);
        }
        Ok(Self {
            id,
            shadow: shadow.as_ptr() as usize,
            blocks: BTreeMap::new(),
            cursor: 0,
            import_cursor: OWN_BYTES,
            quarantine: VecDeque::new(),
            lost: false,
            references: 0,
            peers: Vec::new(),
        })
    }

    fn address(&self, offset: u64) -> u64 {
        BASE + (u64::from(self.id) << SHIFT) + offset
    }

    /// Gives a block: `size` as asked, rounded as the policy says, 64-byte aligned.
    pub(crate) fn allocate(&mut self, size: u64, policy: i32) -> Result<u64, Code> {
        if size == 0 {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        let base = policy & 0xff;
        if base > 7 {
            return Err(sys::ACL_ERROR_RT_INVALID_MALLOC_TYPE);
        }
        let only_huge =
            base == sys::ACL_MEM_MALLOC_HUGE_ONLY || base == sys::ACL_MEM_MALLOC_HUGE_ONLY_P2P;
        let only_normal =
            base == sys::ACL_MEM_MALLOC_NORMAL_ONLY || base == sys::ACL_MEM_MALLOC_NORMAL_ONLY_P2P;
        let huge = only_huge || (size > 1 << 20 && !only_normal);
        let granule = if huge { HUGE } else { NORMAL };
        let padded = size
            .checked_add(32)
            .ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
        let room = if huge { size } else { padded }.next_multiple_of(granule);
        let board = Board::of_host();
        let limit = fault::hbm_limit(self.id).unwrap_or(config().hbm_bytes);
        if !board.lock().charge_hbm(board.process, self.id, room, limit) {
            return Err(sys::ACL_ERROR_RT_MEMORY_ALLOCATION);
        }
        let Some(offset) = self.place(room) else {
            board.lock().credit_hbm(board.process, self.id, room);
            return Err(sys::ACL_ERROR_RT_MEMORY_ALLOCATION);
        };
        let block = Block {
            size,
            room,
            live: true,
            backing: Backing::Own,
        };
        self.blocks.insert(offset, block);
        self.poison(offset, size, GIVEN);
        Ok(self.address(offset))
    }

    /// Finds addresses for `room`, behind the last ones given, then from the start.
    fn place(&mut self, room: u64) -> Option<u64> {
        for from in [self.cursor, 0] {
            let mut at = from;
            for (offset, block) in self.blocks.range(from..OWN_BYTES) {
                if at + room <= *offset {
                    break;
                }
                at = offset + block.room;
            }
            if at + room <= OWN_BYTES {
                self.cursor = at + room;
                return Some(at);
            }
        }
        None
    }

    fn poison(&self, offset: u64, size: u64, with: u8) {
        let edge = size.min(POISON_MAX);
        for at in [offset, offset + size - edge] {
            let start = (self.shadow + at as usize) as *mut u8;
            // SAFETY: the block lies inside the file's mapping, which is as long as all own
            // offsets.
            unsafe { std::ptr::write_bytes(start, with, edge as usize) };
        }
    }

    /// Takes a block back. Copies that still run see the poison, later ones fail.
    pub(crate) fn free(&mut self, address: u64) -> Result<(), Code> {
        let (_, offset) = locate(address).ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
        let block = self.blocks.get_mut(&offset).filter(|block| block.live);
        let block = block.ok_or(sys::ACL_ERROR_RT_PARAM_INVALID)?;
        if !matches!(block.backing, Backing::Own) {
            return Err(sys::ACL_ERROR_RT_PARAM_INVALID);
        }
        block.live = false;
        let (size, room) = (block.size, block.room);
        self.poison(offset, size, TAKEN);
        let board = Board::of_host();
        board.lock().credit_hbm(board.process, self.id, room);
        self.quarantine.push_back(offset);
        if self.quarantine.len() > QUARANTINE_MAX
            && let Some(offset) = self.quarantine.pop_front()
        {
            self.release(offset);
        }
        Ok(())
    }

    /// Ends the rest of a block: its pages go back to the host.
    fn release(&mut self, offset: u64) {
        let Some(block) = self.blocks.remove(&offset) else {
            return;
        };
        let start = (self.shadow + offset as usize) as *mut libc::c_void;
        // SAFETY: the range is a block of our own that nobody may use any more; a refusal only
        // costs memory.
        unsafe { libc::madvise(start, block.room as usize, libc::MADV_REMOVE) };
    }

    /// Takes an import in: `map` holds `size` bytes of `owner`'s.
    pub(crate) fn import(&mut self, size: u64, backing: Backing) -> Option<u64> {
        let offset = self.import_cursor;
        let room = size.next_multiple_of(HUGE);
        if offset + room > ALL_BYTES {
            return None;
        }
        self.import_cursor += room;
        let block = Block {
            size,
            room,
            live: true,
            backing,
        };
        self.blocks.insert(offset, block);
        Some(self.address(offset))
    }

    /// Ends the imports of a key. Returns whether there were any.
    pub(crate) fn close_imports(&mut self, wanted: u64) -> bool {
        let before = self.blocks.len();
        self.blocks.retain(
            |_, block| !matches!(&block.backing, Backing::Import { key, .. } if *key == wanted),
        );
        self.blocks.len() < before
    }

    /// The live block around `[offset, offset + len)`, with its own offset.
    pub(crate) fn block(&self, offset: u64, len: u64) -> Option<(u64, &Block)> {
        let (start, block) = self.blocks.range(..=offset).next_back()?;
        let end = offset.checked_add(len)?;
        (block.live && end <= start + block.size).then_some((*start, block))
    }

    /// Where the simulator itself reaches `[offset, offset + len)`.
    pub(crate) fn bytes(&self, offset: u64, len: u64) -> Result<usize, Code> {
        let Some((start, block)) = self.block(offset, len) else {
            crate::log(&format!(
                "card {}: {len} bytes at {:#x} are not inside one live allocation",
                self.id,
                self.address(offset)
            ));
            crate::count("freed_touched");
            return Err(sys::ACL_ERROR_RT_DEVICE_MEM_ERROR);
        };
        match &block.backing {
            Backing::Own => Ok(self.shadow + offset as usize),
            Backing::Import { map, owner, .. } => {
                if !Board::of_host().lock().lives(*owner) {
                    return Err(sys::ACL_ERROR_RT_SUSPECT_REMOTE);
                }
                Ok(map + (offset - start) as usize)
            },
        }
    }

    /// Blocks that nobody freed, and imports that nobody closed.
    pub(crate) fn leaks(&self) -> (usize, usize) {
        let live = self.blocks.values().filter(|block| block.live);
        let (own, imports): (Vec<&Block>, Vec<&Block>) =
            live.partition(|block| matches!(block.backing, Backing::Own));
        (own.len(), imports.len())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let board = Board::of_host();
        let live = self.blocks.values().filter(|block| block.live);
        let own: u64 = live
            .filter(|block| matches!(block.backing, Backing::Own))
            .map(|block| block.room)
            .sum();
        board.lock().credit_hbm(board.process, self.id, own);
        let _ = std::fs::remove_file(Board::memory_path(std::process::id() as i32, self.id));
        // The mapping stays: a copy that another thread still makes must not fault.
    }
}
