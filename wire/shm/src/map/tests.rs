//! What a client can and cannot do with the descriptors that it is given.

use std::os::fd::IntoRawFd;

use super::*;
use crate::layout::PAGE_MAX;

fn memory(size: usize) -> Memfd {
    Memfd::create("test", size as u64, MemfdOptions::default()).unwrap()
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn sealed_memory_neither_shrinks_nor_grows() {
    let memory = memory(4 * PAGE_MAX);
    for size in [0, PAGE_MAX, 8 * PAGE_MAX] {
        // SAFETY: the file is ours; the kernel refuses.
        let result = unsafe {
            libc::ftruncate(
                memory.fd().as_raw_fd(),
                libc::off_t::try_from(size).unwrap(),
            )
        };
        assert_eq!(errno(sys::check(result)), Some(libc::EPERM));
    }
    // SAFETY: takes numbers.
    let sealed = unsafe { libc::fcntl(memory.fd().as_raw_fd(), libc::F_ADD_SEALS, 0) };
    assert_eq!(
        errno(sys::check(sealed)),
        Some(libc::EPERM),
        "seals are sealed"
    );
    assert_eq!(memory.size(), 4 * PAGE_MAX as u64);
}

#[test]
fn read_only_descriptor_is_never_mapped_writable() {
    let memory = memory(PAGE_MAX);
    let read_only = memory.read_only().unwrap();
    let writable = Mapping::read_write(read_only.as_fd(), 0, PAGE_MAX);
    assert_eq!(errno(writable), Some(libc::EACCES));
    let mapping = Mapping::read_only(read_only.as_fd(), 0, PAGE_MAX).unwrap();
    assert_eq!(
        errno(mapping.protect_write(0, PAGE_MAX)),
        Some(libc::EACCES)
    );
    mapping.protect_read(0, PAGE_MAX).unwrap();
}

#[test]
fn writable_window_opens_and_closes_in_a_read_only_mapping_of_a_writable_descriptor() {
    let memory = memory(2 * PAGE_MAX);
    let mapping = Mapping::read_only(memory.fd(), 0, 2 * PAGE_MAX).unwrap();
    mapping.protect_write(PAGE_MAX, PAGE_MAX).unwrap();
    // SAFETY: within the window just opened; nobody else has this memory.
    let target = unsafe { mapping.base().as_ptr().add(PAGE_MAX) };
    // SAFETY: as above; a byte is always aligned.
    unsafe { target.write_volatile(7) };
    mapping.protect_read(PAGE_MAX, PAGE_MAX).unwrap();
    // SAFETY: mapped for reading.
    assert_eq!(unsafe { target.read_volatile() }, 7);
}

#[test]
fn punched_hole_reads_as_zero_and_the_rest_stays() {
    let memory = memory(2 * PAGE_MAX);
    let mapping = Mapping::read_write(memory.fd(), 0, 2 * PAGE_MAX).unwrap();
    mapping.populate_write(0, 2 * PAGE_MAX).unwrap();
    let byte = |offset: usize| {
        assert!(offset < mapping.len());
        // SAFETY: within the mapping, checked above.
        unsafe { mapping.base().as_ptr().add(offset) }
    };
    for offset in [5, PAGE_MAX + 5] {
        // SAFETY: within the mapping, which is ours alone.
        unsafe { byte(offset).write_volatile(9) };
    }
    memory.punch_hole(PAGE_MAX as u64, PAGE_MAX as u64).unwrap();
    // SAFETY: within the mapping.
    assert_eq!(unsafe { byte(5).read_volatile() }, 9);
    // SAFETY: within the mapping.
    assert_eq!(unsafe { byte(PAGE_MAX + 5).read_volatile() }, 0);
}

#[test]
#[should_panic(expected = "end <= self.size")]
fn hole_outside_the_memory_is_a_bug() {
    drop(memory(PAGE_MAX).punch_hole(0, 2 * PAGE_MAX as u64));
}

#[test]
#[should_panic(expected = "end <= self.len")]
fn protection_outside_the_mapping_is_a_bug() {
    let memory = memory(2 * PAGE_MAX);
    let mapping = Mapping::read_write(memory.fd(), 0, PAGE_MAX).unwrap();
    drop(mapping.protect_read(PAGE_MAX, 1));
}

#[test]
fn hugetlb_memory_is_made_or_refused_by_the_kernel() {
    let options = MemfdOptions { hugetlb: true };
    match Memfd::create("huge", 2 << 20, options) {
        Ok(memory) => assert_eq!(memory.size(), 2 << 20),
        Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
    }
}

/// Another uid that holds a read-only descriptor cannot turn it into a writable one by opening
/// `/proc/self/fd` again. Only root can play both parts; the same child proves that it would get
/// through to a file of mode 0666.
#[test]
fn other_uid_cannot_reopen_a_read_only_descriptor_for_writing() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: needs root to become another uid");
        return;
    }
    let guarded = memory(PAGE_MAX);
    let guarded = reopen_as_nobody(guarded.read_only().unwrap());
    assert_eq!(guarded, libc::EACCES);

    let open = memory(PAGE_MAX);
    // SAFETY: the file is ours.
    let changed = unsafe { libc::fchmod(open.fd().as_raw_fd(), 0o666) };
    sys::check(changed).unwrap();
    assert_eq!(
        reopen_as_nobody(open.read_only().unwrap()),
        0,
        "the child can open at all"
    );
}

/// Opens `fd` for writing in a child of uid 65534 and answers the error number, 0 for success.
fn reopen_as_nobody(fd: OwnedFd) -> i32 {
    let fd = fd.into_raw_fd();
    let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap();
    // SAFETY: the child calls the kernel only, until it ends without unwinding.
    let process = unsafe { libc::fork() };
    assert!(process >= 0);
    if process == 0 {
        let code = become_nobody_and_open(&path);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made; `status` is live.
    let waited = unsafe { libc::waitpid(process, &raw mut status, 0) };
    assert_eq!(waited, process);
    assert!(libc::WIFEXITED(status));
    // SAFETY: `fd` came from `into_raw_fd` above and was not closed since.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    libc::WEXITSTATUS(status)
}

fn become_nobody_and_open(path: &CString) -> i32 {
    const NOBODY: libc::c_long = 65_534;
    // SAFETY: takes numbers; the raw call changes this one thread, the child's only one.
    let changed = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    if changed != 0 {
        return 200;
    }
    // A process that changes its uid loses /proc/self; an ordinary client has not lost it.
    // SAFETY: takes numbers.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) } != 0 {
        return 201;
    }
    // SAFETY: `path` is a live C string.
    let opened = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    match sys::check(opened) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(202),
    }
}
