//! The guard across real forks. Children of a test process with threads call the kernel only.

use super::*;

/// Runs `child` in a forked process and answers its exit code.
fn in_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls the kernel and atomics only, until it ends without unwinding.
    let process = unsafe { libc::fork() };
    assert!(process >= 0);
    if process == 0 {
        let code = child();
        // SAFETY: ends the child at once, without destructors of what its parent owns.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made; `status` is live.
    let waited = unsafe { libc::waitpid(process, &raw mut status, 0) };
    assert_eq!(waited, process);
    assert!(libc::WIFEXITED(status));
    libc::WEXITSTATUS(status)
}

#[test]
fn forked_child_knows_that_it_is_another_process() {
    let guard = ForkGuard::here().unwrap();
    assert!(guard.is_same_process());
    assert_eq!(in_child(|| i32::from(guard.is_same_process())), 0);
    assert!(guard.is_same_process());
}

#[test]
fn grandchild_and_later_forks_know_it_too() {
    let guard = ForkGuard::here().unwrap();
    for _ in 0..3 {
        assert_eq!(
            in_child(|| in_child(|| i32::from(guard.is_same_process()))),
            0
        );
    }
}

/// A page without the advice: proves that the tests above can fail.
#[test]
fn unadvised_page_says_nothing_in_a_child() {
    let plain = AtomicU32::new(1);
    assert_eq!(
        in_child(|| i32::from(plain.load(Ordering::Relaxed) == 1)),
        1
    );
}
