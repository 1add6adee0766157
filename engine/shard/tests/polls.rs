//! Session bells: eventfds shared with a client that may do to them whatever it likes.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module"
)]

mod support;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use chariot_shard::{DataRing, IoFd, Pass, PollHandle, Progress, ShardExecutor};
use support::{seat, wait_until};

const ONE: u64 = 1;
const HONEST: u64 = 11;
const HOSTILE: u64 = 66;

fn eventfd() -> File {
    // SAFETY: eventfd(2) takes two integers and no memory.
    let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    assert!(raw >= 0, "{}", io::Error::last_os_error());
    // SAFETY: `raw` was returned by eventfd(2) just now and has no other owner.
    File::from(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn ring_bell(mut bell: &File, count: u64) -> io::Result<()> {
    #[expect(
        clippy::host_endian_bytes,
        reason = "an eventfd counts in the host's own byte order"
    )]
    bell.write_all(&count.to_ne_bytes())
}

fn set_nonblocking(bell: &File) {
    // SAFETY: fcntl(2) with F_SETFL takes an integer and no memory.
    let failed = unsafe { libc::fcntl(bell.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(failed, 0);
}

#[derive(Default)]
struct Seen {
    honest: AtomicU64,
    hostile: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
    /// Raised for each event of the hostile bell that is delivered after its handle was dropped.
    late: AtomicU64,
    drop_hostile: AtomicBool,
    dropped: AtomicBool,
}

struct SessionsPass {
    ring: DataRing,
    seen: Arc<Seen>,
    _honest: PollHandle,
    hostile: Option<PollHandle>,
}

impl Pass for SessionsPass {
    fn pass(&mut self, _now_ns: u64) -> Progress {
        let mut worked = false;
        while let Some(event) = self.ring.take_ready() {
            worked = true;
            let count = match event.key {
                HONEST => &self.seen.honest,
                HOSTILE if self.hostile.is_none() => &self.seen.late,
                HOSTILE => &self.seen.hostile,
                key => panic!("nobody has key {key}"),
            };
            count.fetch_add(1, Ordering::Release);
            if event.errno.is_some() {
                self.seen.failed.fetch_add(1, Ordering::Release);
            }
        }
        if self.hostile.is_some() && self.seen.drop_hostile.load(Ordering::Acquire) {
            self.hostile = None;
            self.seen.dropped.store(true, Ordering::Release);
        }
        Progress {
            worked,
            stop: self.seen.stop.load(Ordering::Acquire),
            ..Progress::default()
        }
    }

    fn pending(&mut self) -> bool {
        self.seen.stop.load(Ordering::Acquire)
            || (self.hostile.is_some() && self.seen.drop_hostile.load(Ordering::Acquire))
    }
}

/// A hostile client: makes its bell non-blocking, fills it to the brim, and drains it.
fn flood(hostile: &File, flooding: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (hostile, flooding) = (hostile.try_clone().unwrap(), Arc::clone(flooding));
    std::thread::spawn(move || {
        set_nonblocking(&hostile);
        let mut round = 0_u64;
        while flooding.load(Ordering::Acquire) {
            round += 1;
            // Full and empty are both meant to fail here.
            let count = if round.is_multiple_of(3) {
                u64::MAX - 1
            } else {
                ONE
            };
            let _full = ring_bell(&hostile, count);
            let _empty = (&hostile).read(&mut [0; 8]);
        }
    })
}

#[test]
fn a_hostile_session_loses_its_own_wakes_and_nobody_elses() {
    let (honest, hostile) = (eventfd(), eventfd());
    let seen = Arc::new(Seen::default());
    let seat = seat(0);
    let bell = seat.bell();
    let polled = (honest.try_clone().unwrap(), hostile.try_clone().unwrap());
    let shared = Arc::clone(&seen);
    let join = ShardExecutor::spawn(seat, move |context| async move {
        let ring = context.ring();
        let honest = ring.poll_multishot(&IoFd::new(polled.0), HONEST).unwrap();
        let hostile = Some(ring.poll_multishot(&IoFd::new(polled.1), HOSTILE).unwrap());
        let mut pass = SessionsPass {
            ring: ring.clone(),
            seen: shared,
            _honest: honest,
            hostile,
        };
        context.run(&mut pass).await.unwrap();
    })
    .unwrap();

    let flooding = Arc::new(AtomicBool::new(true));
    let flood = flood(&hostile, &flooding);
    for round in 1..=500 {
        let before = seen.honest.load(Ordering::Acquire);
        ring_bell(&honest, ONE).unwrap();
        wait_until(&format!("the honest wake of round {round}"), || {
            seen.honest.load(Ordering::Acquire) > before
        });
    }
    flooding.store(false, Ordering::Release);
    flood.join().unwrap();
    assert_eq!(seen.failed.load(Ordering::Acquire), 0, "no poll has ended");

    // The bell is as good as ever once its client behaves.
    let before = seen.hostile.load(Ordering::Acquire);
    let _empty = (&hostile).read(&mut [0; 8]);
    ring_bell(&hostile, ONE).unwrap();
    wait_until("the wake of the reformed client", || {
        seen.hostile.load(Ordering::Acquire) > before
    });

    // After its handle is gone, nothing of it is delivered, though it rings on.
    seen.drop_hostile.store(true, Ordering::Release);
    bell.ring();
    wait_until("the handle's end", || seen.dropped.load(Ordering::Acquire));
    for _ in 0..100 {
        ring_bell(&hostile, ONE).unwrap();
        let before = seen.honest.load(Ordering::Acquire);
        ring_bell(&honest, ONE).unwrap();
        wait_until("an honest wake", || {
            seen.honest.load(Ordering::Acquire) > before
        });
    }
    assert_eq!(seen.late.load(Ordering::Acquire), 0);
    seen.stop.store(true, Ordering::Release);
    bell.ring();
    join.join().unwrap();
}
