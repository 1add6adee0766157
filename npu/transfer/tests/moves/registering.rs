//! Registration in the background: served meanwhile, direct afterwards, staged where it is refused.

use std::sync::Arc;

use chariot_device::{Device, DeviceError, Direction, HostAccess, HostMemory};
use chariot_npu_sim::Profile;
use chariot_transfer::{Arena, ArenaState, Path};

use crate::process::{ascend, is_alone};
use crate::{core, host, in_time, object, submit};

const PIECE: usize = 1 << 20;

/// Pages of this process's own, with a number in every 8 bytes.
fn pages(len: usize, access: HostAccess) -> HostMemory {
    struct Pages(usize, usize);
    impl Drop for Pages {
        fn drop(&mut self) {
            // SAFETY: a mapping of this test that nobody uses any more.
            let code = unsafe { libc::munmap(self.0 as *mut libc::c_void, self.1) };
            assert_eq!(code, 0);
        }
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping takes nothing away.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    for word in 0..len / 8 {
        // SAFETY: inside the mapping, which is aligned to pages.
        unsafe { at.cast::<u64>().wrapping_add(word).write(word as u64) };
    }
    if access == HostAccess::ReadOnly {
        // SAFETY: the mapping's own pages.
        assert_eq!(unsafe { libc::mprotect(at, len, libc::PROT_READ) }, 0);
    }
    let keep = Arc::new(Pages(at as usize, len));
    // SAFETY: mapped until the keep is dropped, and nobody forms references.
    unsafe { HostMemory::foreign(at as usize, len, access, keep) }
}

/// Moves all of the arena into the card and out to page-locked memory, and compares.
fn check(core: &chariot_transfer::DeviceCore, arena: &Arc<Arena>) {
    let device: &Device = core.device();
    let whole = object(device, arena, arena.len() / (256 << 10), 256 << 10);
    let handle = submit(
        core,
        Direction::HostToDevice,
        vec![whole.clone()],
        in_time(),
    );
    assert_eq!(handle.wait(), [Ok(())]);
    let back = crate::pinned(device, arena.len());
    let mut out = whole;
    out.host.arena = Arc::clone(&back);
    let handle = submit(core, Direction::DeviceToHost, vec![out], in_time());
    assert_eq!(handle.wait(), [Ok(())]);
    let mut bytes = vec![0; arena.len()];
    back.memory().read_at(0, &mut bytes).unwrap();
    let words = bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    assert!(words.eq(0..arena.len() as u64 / 8));
}

/// What a registering arena comes to, and how much of it is direct then.
fn settle(access: HostAccess, runtime: &chariot_device::Runtime) -> (ArenaState, u64, u64) {
    let core = core(runtime, None);
    let memory = pages(8 * PIECE, access);
    let arena = Arena::registering(core.device(), memory, PIECE);
    // Served at once, however far registration is.
    check(&core, &arena);
    arena.settle();
    let before = core.probe().staged_bytes();
    check(&core, &arena);
    let staged = core.probe().staged_bytes() - before;
    assert!(core.probe().path(Path::Queued).bytes() > 0);
    (arena.state(), arena.registered_bytes(), staged)
}

#[test]
fn an_arena_is_registered_while_it_serves() {
    for access in [HostAccess::ReadWrite, HostAccess::ReadOnly] {
        let settled = settle(access, &host());
        assert_eq!(settled, (ArenaState::Registered, 8 << 20, 0));
    }
}

#[test]
fn read_only_pages_are_registered_where_the_driver_can() {
    let test = "registering::read_only_pages_are_registered_where_the_driver_can";
    if is_alone(test, Profile::Cann91, &[]) {
        let settled = settle(HostAccess::ReadOnly, &ascend());
        assert_eq!(settled, (ArenaState::Registered, 8 << 20, 0));
    }
}

#[test]
fn read_only_pages_are_staged_where_the_driver_cannot() {
    let test = "registering::read_only_pages_are_staged_where_the_driver_cannot";
    if is_alone(test, Profile::Cann91, &[("REGISTER", "writable")]) {
        let (state, registered, staged) = settle(HostAccess::ReadOnly, &ascend());
        assert!(
            matches!(state, ArenaState::Refused(DeviceError::Unsupported { .. })),
            "{state:?}"
        );
        assert_eq!((registered, staged), (0, 8 << 20));
        let (state, registered, staged) = settle(HostAccess::ReadWrite, &ascend());
        assert_eq!(
            (state, registered, staged),
            (ArenaState::Registered, 8 << 20, 0)
        );
    }
}

#[test]
fn a_limit_of_locked_memory_leaves_the_rest_to_staging() {
    let test = "registering::a_limit_of_locked_memory_leaves_the_rest_to_staging";
    // Three pieces of the arena, the lanes' slots (which shrink), and the way back.
    let limit = (8_u64 << 20) + (3 << 20) + (4 << 20);
    if is_alone(
        test,
        Profile::Cann91,
        &[("PINNED_BYTES", &limit.to_string())],
    ) {
        let runtime = ascend();
        let core = core(&runtime, None);
        let held = core.device().alloc_host(8 << 20).unwrap();
        let memory = pages(8 * PIECE, HostAccess::ReadWrite);
        let arena = Arena::registering(core.device(), memory, PIECE);
        arena.settle();
        let state = arena.state();
        assert!(
            matches!(state, ArenaState::Refused(DeviceError::PinnedMemory { .. })),
            "{state:?}"
        );
        assert_eq!(arena.registered_bytes(), 7 << 20);
        drop(held);
        let whole = object(core.device(), &arena, 8, PIECE);
        let handle = submit(&core, Direction::HostToDevice, vec![whole], in_time());
        assert_eq!(handle.wait(), [Ok(())]);
        assert!(core.probe().staged_bytes() > 0, "the last piece");
    }
}
