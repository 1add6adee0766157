//! The life word against real processes: this test binary runs itself as the daemon that is killed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use super::*;

const ROLE: &str = "CHARIOT_LIFE_TEST_LOCK";

#[test]
fn life_ends_with_drop_and_is_told_to_waiters() {
    let (life, file) = LifeThread::start(7, 3).unwrap();
    let read_only = file.read_only().unwrap();
    let view = LifeView::attach(read_only.as_fd()).unwrap();
    assert!(view.is_alive());
    assert_eq!((view.boot_id(), view.generation()), (7, 3));
    assert!(!view.wait_dead(Some(Duration::from_millis(1))));
    let barrier = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                barrier.wait();
                assert!(view.wait_dead(Some(Duration::from_secs(20))));
            });
        }
        barrier.wait();
        drop(life);
    });
    assert!(!view.is_alive());
}

#[test]
fn life_page_of_another_kind_or_version_is_refused() {
    let file = Memfd::create("other", PAGE_MAX as u64, MemfdOptions::default()).unwrap();
    let page = MappedMemory::new(Mapping::read_write(file.fd(), 0, life::SIZE).unwrap());
    assert!(matches!(
        LifeView::attach(file.fd()),
        Err(AttachError::Magic { found: 0, .. })
    ));
    page.store64(life::MAGIC, LIFE_MAGIC);
    page.store32(life::LAYOUT, LAYOUT_VERSION + 1);
    assert!(matches!(
        LifeView::attach(file.fd()),
        Err(AttachError::Version { .. })
    ));
    let short = Memfd::create("short", 64, MemfdOptions::default()).unwrap();
    assert!(matches!(
        LifeView::attach(short.fd()),
        Err(AttachError::Geometry { size: 64, .. })
    ));
}

/// Not a test by itself: the daemon's part of the one below, in a process of its own.
#[test]
fn life_child_process() {
    let Some(path) = std::env::var_os(ROLE) else {
        return;
    };
    let lock = File::options().write(true).open(path).unwrap();
    lock_exclusively(&lock);
    let (life, page) = LifeThread::start(1, 1).unwrap();
    // The life thread must not be the only thread, nor the last to die.
    let stop = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| while stop.load(Ordering::Relaxed) == 0 {});
        println!("\nlife {} {}", std::process::id(), page.fd().as_raw_fd());
        futex::wait(&stop, 0, Some(Duration::from_mins(1)));
        stop.store(1, Ordering::Relaxed);
    });
    drop(life);
}

#[test]
fn killed_daemons_word_is_marked_before_its_lock_is_free() {
    let path = std::env::temp_dir().join(format!("chariot-life-{}", std::process::id()));
    let lock = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .unwrap();
    for round in 0..20 {
        let (mut child, page) = start_daemon(&path);
        let view = LifeView::attach(page.as_fd()).unwrap();
        assert!(view.is_alive(), "round {round}");
        // SAFETY: kills the child that this test started and has not waited for.
        let killed = unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGKILL) };
        assert_eq!(killed, 0);
        if round % 2 == 0 {
            // A waiter hears it from the kernel.
            assert!(
                view.wait_dead(Some(Duration::from_secs(20))),
                "round {round}"
            );
        }
        lock_exclusively(&lock);
        assert!(
            !view.is_alive(),
            "round {round}: the lock was free before the word was marked"
        );
        unlock(&lock);
        child.wait().unwrap();
    }
    std::fs::remove_file(&path).unwrap();
}

/// The same daemon without a robust list: proves that the test above can fail.
#[test]
fn word_without_robust_list_stays_alive_after_its_thread() {
    let file = Memfd::create("plain", PAGE_MAX as u64, MemfdOptions::default()).unwrap();
    let page = MappedMemory::new(Mapping::read_write(file.fd(), 0, life::SIZE).unwrap());
    page.store64(life::MAGIC, LIFE_MAGIC);
    page.store32(life::LAYOUT, LAYOUT_VERSION);
    let word = page.clone();
    // SAFETY: answers a number.
    let owner =
        thread::spawn(move || word.store32(life::WORD, unsafe { libc::gettid() }.cast_unsigned()));
    owner.join().unwrap();
    let view = LifeView::attach(file.fd()).unwrap();
    assert!(view.is_alive(), "only the kernel's mark tells");
}

fn start_daemon(path: &std::path::Path) -> (Child, File) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .args(["--exact", "life::tests::life_child_process", "--nocapture"])
        .env(ROLE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let line = output
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with("life "))
        .unwrap();
    let mut words = line.split(' ').skip(1);
    let (process, fd) = (words.next().unwrap(), words.next().unwrap());
    // Its parent may open its descriptors.
    (
        child,
        File::open(format!("/proc/{process}/fd/{fd}")).unwrap(),
    )
}

fn lock_exclusively(file: &File) {
    // SAFETY: takes a number; blocks until the lock is ours.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
}

fn unlock(file: &File) {
    // SAFETY: takes a number.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) }, 0);
}
