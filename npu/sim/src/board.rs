//! What the processes of one simulated host share: a file of tables, a lock, a word to wait on.
//!
//! The lock is the file's own (`flock`), which the kernel opens again when its holder is killed.
//! Every process that has joined owns a slot; things in the tables name their owner by the slot's
//! id, which is never used twice, so that what belongs to a dead process is known as such.

use std::fs::{File, OpenOptions};
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::config::{DEVICES_MAX, config};

const MAGIC: u64 = 0x4153_494d_0000_0002;
const PROCESSES_MAX: usize = 128;
const COMMS_MAX: usize = 512;
const OPERATIONS_MAX: usize = 4096;
const EXPORTS_MAX: usize = 1024;
/// Most ranks of a communicator, and most processes that a key may be given to.
pub(crate) const RANKS_MAX: usize = 64;
pub(crate) const ALLOWED_MAX: usize = 16;
/// The word to wait on stands before the tables, in a page of its own whatever a page is.
const TABLES_AT: usize = 64 << 10;

/// Ends of links that only one transfer at a time can use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port {
    FromHost = 0,
    ToHost = 1,
    ToPeer = 2,
    FromPeer = 3,
    Local = 4,
}

#[repr(C)]
pub(crate) struct Process {
    pub(crate) id: u64,
    pid: i32,
    left: u32,
    start: u64,
    hbm: [u64; DEVICES_MAX],
}

/// One rank of a communicator.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Member {
    pub(crate) process: u64,
    pub(crate) device: u32,
    pub(crate) present: u32,
}

/// A communicator from its root info on.
#[repr(C)]
pub(crate) struct Comm {
    pub(crate) id: u64,
    pub(crate) ranks: u32,
    pub(crate) gone: u32,
    pub(crate) time: u64,
    /// What broke it, for operations whose partner never comes.
    pub(crate) error: i64,
    pub(crate) members: [Member; RANKS_MAX],
}

/// Life of a send or receive.
pub(crate) const QUEUED: u32 = 1;
pub(crate) const HEAD: u32 = 2;
pub(crate) const MOVING: u32 = 3;
pub(crate) const DONE: u32 = 4;

/// A send or receive that is not over.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Operation {
    pub(crate) id: u64,
    pub(crate) process: u64,
    pub(crate) stream: u64,
    pub(crate) comm: u64,
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
    pub(crate) time: u64,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) send: u32,
    pub(crate) device: u32,
    pub(crate) data_type: i32,
    pub(crate) error: i32,
    pub(crate) state: u32,
    /// The slot id of the process that moves the bytes.
    pub(crate) mover: u64,
}

/// Device memory that other processes may import.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Export {
    pub(crate) id: u64,
    pub(crate) process: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) device: u32,
    pub(crate) any_process: u32,
    pub(crate) allowed: [i32; ALLOWED_MAX],
    pub(crate) imports: u32,
    pub(crate) pid: i32,
}

/// A stream that waits for an event of another stream of its process.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Blocked {
    pub(crate) process: u64,
    pub(crate) stream: u64,
    pub(crate) on: u64,
}

#[repr(C)]
pub(crate) struct Tables {
    magic: u64,
    last_id: u64,
    pub(crate) processes: [Process; PROCESSES_MAX],
    ports: [[u64; 5]; DEVICES_MAX],
    pub(crate) comms: [Comm; COMMS_MAX],
    pub(crate) operations: [Operation; OPERATIONS_MAX],
    pub(crate) exports: [Export; EXPORTS_MAX],
    pub(crate) blocked: [Blocked; 1024],
}

impl Tables {
    /// An id that nothing else ever has.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Does the process with that slot id still run?
    pub(crate) fn lives(&self, process: u64) -> bool {
        let slot = self.processes.iter().find(|slot| slot.id == process);
        slot.is_some_and(|slot| slot.left == 0 && started_at(slot.pid) == Some(slot.start))
    }

    /// The process id behind a slot id, also of one that died.
    pub(crate) fn pid_of(&self, process: u64) -> Option<i32> {
        let slot = self.processes.iter().find(|slot| slot.id == process);
        slot.map(|slot| slot.pid)
    }

    /// Charges `bytes` of a card's memory to `process`, unless the card is full.
    pub(crate) fn charge_hbm(&mut self, process: u64, device: u32, bytes: u64, limit: u64) -> bool {
        let used: u64 = self.used_hbm(device);
        if used + bytes > limit {
            return false;
        }
        let slot = self.processes.iter_mut().find(|slot| slot.id == process);
        slot.expect("a process joins before it allocates").hbm[device as usize] += bytes;
        true
    }

    /// Takes a charge back.
    pub(crate) fn credit_hbm(&mut self, process: u64, device: u32, bytes: u64) {
        if let Some(slot) = self.processes.iter_mut().find(|slot| slot.id == process) {
            let used = &mut slot.hbm[device as usize];
            assert!(*used >= bytes, "memory is given back once");
            *used -= bytes;
        }
    }

    /// Bytes of a card in use, by all who live.
    pub(crate) fn used_hbm(&self, device: u32) -> u64 {
        let living = self
            .processes
            .iter()
            .filter(|slot| slot.hbm[device as usize] > 0);
        living
            .filter(|slot| self.lives(slot.id))
            .map(|slot| slot.hbm[device as usize])
            .sum()
    }
}

/// When a process started, in the kernel's ticks; nothing when it has ended, reaped or not.
fn started_at(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18)?.parse().ok())?
}

/// The shared tables of this host.
pub(crate) struct Board {
    base: NonNull<u8>,
    file: File,
    local: Mutex<()>,
    /// This process's slot id.
    pub(crate) process: u64,
}

// SAFETY: the mapping is never undone, and its tables are reached under both locks alone.
unsafe impl Send for Board {}
// SAFETY: as for sending: every access goes through `lock`, the waiting word is atomic.
unsafe impl Sync for Board {}

/// The tables, locked.
pub(crate) struct Locked<'a> {
    board: &'a Board,
    _local: MutexGuard<'a, ()>,
}

impl Deref for Locked<'_> {
    type Target = Tables;
    fn deref(&self) -> &Tables {
        // SAFETY: the mapping covers the tables behind `TABLES_AT`, every bit pattern of which is a
        // value, and both locks are held for as long as the borrow.
        unsafe { &*self.board.tables() }
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Tables {
        // SAFETY: like `deref`, and `self` is borrowed alone.
        unsafe { &mut *self.board.tables() }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: the file is open for as long as the board lives.
        let code = unsafe { libc::flock(self.board.file.as_raw_fd(), libc::LOCK_UN) };
        debug_assert!(code == 0, "a lock that is held can be given back");
    }
}

impl Board {
    /// The board of this process's host, joined at the first call.
    pub(crate) fn of_host() -> &'static Self {
        static BOARD: OnceLock<Board> = OnceLock::new();
        BOARD.get_or_init(|| Self::join().expect("ASCEND_SIM_DIR can be written"))
    }

    fn join() -> std::io::Result<Self> {
        let dir = &config().dir;
        std::fs::create_dir_all(dir)?;
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("board"))?;
        let size = TABLES_AT + size_of::<Tables>();
        file.set_len(size as u64)?;
        let base =
            crate::memory::map_file(&file, 0, size).ok_or_else(std::io::Error::last_os_error)?;
        let mut board = Self {
            base,
            file,
            local: Mutex::new(()),
            process: 0,
        };
        let pid = std::process::id() as i32;
        let process = {
            let mut tables = board.lock();
            assert!(
                tables.magic == 0 || tables.magic == MAGIC,
                "the board is of another version"
            );
            tables.magic = MAGIC;
            let id = tables.fresh_id();
            // Slots of the dead are kept as tombstones for as long as there are others.
            let free = |slot: &Process| slot.id == 0;
            let index = match tables.processes.iter().position(free) {
                Some(index) => index,
                None => (0..PROCESSES_MAX)
                    .find(|index| !tables.lives(tables.processes[*index].id))
                    .expect("fewer than 128 processes of one simulated host"),
            };
            tables.processes[index] = Process {
                id,
                pid,
                left: 0,
                start: started_at(pid).unwrap_or(0),
                hbm: [0; DEVICES_MAX],
            };
            id
        };
        board.process = process;
        Ok(board)
    }

    fn tables(&self) -> *mut Tables {
        // SAFETY: the mapping is `TABLES_AT` and the tables long.
        unsafe { self.base.as_ptr().add(TABLES_AT) }.cast()
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the mapping begins with this word, aligned to a page, and is never undone.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().cast()) }
    }

    /// Locks the tables against every thread of every process.
    pub(crate) fn lock(&self) -> Locked<'_> {
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // SAFETY: the descriptor is open; the call takes no memory.
            let code = unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_EX) };
            if code == 0 {
                break;
            }
        }
        Locked {
            board: self,
            _local: local,
        }
    }

    /// What `wait` is to be given, taken before looking at the tables.
    pub(crate) fn ticket(&self) -> u32 {
        self.word().load(Ordering::Acquire)
    }

    /// Tells every waiter of the host that the tables changed.
    pub(crate) fn changed(&self) {
        self.word().fetch_add(1, Ordering::Release);
        // SAFETY: the word is mapped for ever; waking takes no further memory.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word().as_ptr(),
                libc::FUTEX_WAKE,
                i32::MAX,
            );
        }
    }

    /// Tells them, if there is something to tell.
    pub(crate) fn changed_if(&self, changed: bool) {
        if changed {
            self.changed();
        }
    }

    /// Waits until something changed since the ticket, or for `most`.
    pub(crate) fn wait(&self, ticket: u32, most: Duration) {
        let time = libc::timespec {
            tv_sec: most.as_secs() as i64,
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        // SAFETY: the word is mapped for ever, the time is a local; an early return only looks
        // again.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word().as_ptr(),
                libc::FUTEX_WAIT,
                ticket,
                &raw const time,
            );
        }
    }

    /// Takes all `ports` for `time`, from `start` on, when the last of them is free. Returns the
    /// end.
    pub(crate) fn reserve(&self, ports: &[(u32, Port)], start: u64, time: u64) -> u64 {
        let mut tables = self.lock();
        let free = |(device, port): &(u32, Port)| tables.ports[*device as usize][*port as usize];
        let begin = ports.iter().map(free).max().unwrap_or(0).max(start);
        for (device, port) in ports {
            tables.ports[*device as usize][*port as usize] = begin + time;
        }
        begin + time
    }

    /// The file that holds a process's memory of a card.
    pub(crate) fn memory_path(pid: i32, device: u32) -> PathBuf {
        config().dir.join(format!("hbm-{pid}-{device}"))
    }

    /// Leaves the host in good order: what this process had is gone.
    pub(crate) fn leave(&self) {
        let process = self.process;
        let mut tables = self.lock();
        for slot in &mut tables.processes {
            if slot.id == process {
                slot.left = 1;
                slot.hbm = [0; DEVICES_MAX];
            }
        }
        drop(tables);
        self.changed();
    }

    /// Is a process again that finalised and came back.
    pub(crate) fn rejoin(&self) {
        let process = self.process;
        let mut tables = self.lock();
        for slot in &mut tables.processes {
            if slot.id == process {
                slot.left = 0;
            }
        }
    }
}
