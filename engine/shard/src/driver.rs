//! The one loop of a shard.
//!
//! Lives on: owner shard. A round turns the data ring (submit and reap in one enter, no system call
//! when there is nothing to do), fires timers, calls [`Pass::pass`], and lets local tasks run. A
//! round without work is repeated within the spin budget; then the driver declares itself asleep,
//! looks at everything once more, and waits for the bell. Neighbours: `bell.rs` (sleep and wake),
//! `data_ring.rs`, `timers.rs`.

use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use glommio::io::BufferedFile;

use crate::clock::monotonic_ns;
use crate::executor::ShardCore;
use crate::spin::SpinGovernor;

/// What one bounded round of a shard did, and what it needs next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "three independent answers, each asked by name"
)]
pub struct Progress {
    /// Something was done; another round follows without spinning down.
    pub worked: bool,
    /// The shard owes somebody an answer: heartbeat and watchdog stay alert while it sleeps.
    pub in_flight: bool,
    /// Time (`CLOCK_MONOTONIC`, ns) by which another round must come, if nothing rings before.
    pub next_timer_ns: Option<u64>,
    /// The driver returns after this round.
    pub stop: bool,
}

/// The work of one shard, called by the driver. Lives on: owner shard.
///
/// Order of calls: `pass`*, then before a sleep `prepare_sleep`, a full fence, `pending`; after it,
/// or when `pending` said so, `woke`.
pub trait Pass {
    /// Does one round with bounded batches (mailboxes, session rings, own timers) at time `now_ns`.
    fn pass(&mut self, now_ns: u64) -> Progress;

    /// Stores what tells senders to ring (each session's `sleeping` word). A full fence follows.
    fn prepare_sleep(&mut self) {}

    /// Looks at every queue once more; `true` when something is there and the shard must not sleep.
    fn pending(&mut self) -> bool;

    /// Takes back what `prepare_sleep` stored.
    fn woke(&mut self) {}
}

/// What the driver of a shard has counted since its start; plain numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverStats {
    /// Rounds, idle spins included.
    pub passes: u64,
    /// Rounds that found work.
    pub busy_passes: u64,
    /// Sleeps on the bell.
    pub sleeps: u64,
    /// Sleeps given up by the last look at the queues.
    pub sleeps_aborted: u64,
    /// Rounds whose distance to the one before, without a sleep between, was above 10 ms.
    pub stalls: u64,
    /// Longest such distance in nanoseconds.
    pub longest_stall_ns: u64,
}

/// A round that follows the one before so late counts as a stall.
const STALL_NS: u64 = 10_000_000;

/// Runs rounds until one says stop.
///
/// # Errors
/// When `io_uring_enter` fails for a reason that no repetition cures.
pub(crate) async fn drive<P: Pass + ?Sized>(core: &Rc<ShardCore>, pass: &mut P) -> io::Result<()> {
    let mut waiter = BellWaiter::new(core)?;
    let mut governor = SpinGovernor::new(core.spin());
    let mut last_work_ns = monotonic_ns();
    let mut last_round_ns = last_work_ns;
    loop {
        core.bell().begin_pass();
        let now_ns = monotonic_ns();
        count_round(core, now_ns, last_round_ns);
        last_round_ns = now_ns;

        let completed = core.ring().turn()?;
        let fired = core.timers().fire(now_ns);
        let released = core.release_yielded();
        let progress = pass.pass(now_ns);
        if progress.stop {
            return Ok(());
        }
        let worked = progress.worked || completed + fired + released > 0;
        if worked {
            governor.worked(now_ns, last_work_ns);
            last_work_ns = now_ns;
            core.count(|stats| stats.busy_passes += 1);
        }
        run_local_tasks().await;
        if worked || core.ring().has_work() {
            continue;
        }
        if governor.may_spin(now_ns, last_work_ns) {
            std::hint::spin_loop();
            continue;
        }
        sleep_once(core, pass, progress, &mut waiter).await?;
        last_round_ns = monotonic_ns();
        governor.slept(last_round_ns.saturating_sub(now_ns));
    }
}

fn count_round(core: &ShardCore, now_ns: u64, last_round_ns: u64) {
    let gap_ns = now_ns.saturating_sub(last_round_ns);
    core.count(|stats| {
        stats.passes += 1;
        stats.longest_stall_ns = stats.longest_stall_ns.max(gap_ns);
        if gap_ns > STALL_NS {
            stats.stalls += 1;
        }
    });
}

/// Declares the shard asleep, looks at everything once more, and waits for the bell.
async fn sleep_once<P: Pass + ?Sized>(
    core: &Rc<ShardCore>,
    pass: &mut P,
    progress: Progress,
    waiter: &mut BellWaiter,
) -> io::Result<()> {
    let wake_ns = earlier(core.timers().next_ns(), progress.next_timer_ns);
    if let Some(wake_ns) = wake_ns {
        core.ring().arm_wake(wake_ns)?;
    }
    pass.prepare_sleep();
    core.ring().arm_eventfd();
    core.bell().fall_asleep(progress.in_flight);
    let due = wake_ns.is_some_and(|wake_ns| wake_ns <= monotonic_ns());
    if due || core.ring().has_work() || core.has_yielded() || pass.pending() {
        core.count(|stats| stats.sleeps_aborted += 1);
    } else {
        core.count(|stats| stats.sleeps += 1);
        core.set_heartbeat(progress.in_flight);
        waiter.wait(core).await?;
    }
    core.bell().wake_up();
    core.ring().disarm_eventfd();
    pass.woke();
    Ok(())
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Lets every runnable local task have its turn before the driver goes on.
async fn run_local_tasks() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

type BellRead = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// The one read that is armed on the bell while the shard sleeps; it outlives sleeps that are cut
/// short.
struct BellWaiter {
    bell: Rc<BufferedFile>,
    read: Option<BellRead>,
}

impl BellWaiter {
    fn new(core: &ShardCore) -> io::Result<Self> {
        let bell = eventfd_file(core.bell().duplicate_bell()?.into_raw_fd());
        Ok(Self {
            bell: Rc::new(bell),
            read: None,
        })
    }

    /// Waits for the bell, or until anything else runs on this shard: local tasks that were
    /// runnable when the driver fell asleep run after it, and what they start needs another round.
    async fn wait(&mut self, core: &ShardCore) -> io::Result<()> {
        let bell = &self.bell;
        let mut read = self
            .read
            .take()
            .unwrap_or_else(|| Box::pin(read_eventfd(Rc::clone(bell))));
        let mut asleep = false;
        let rung = std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = read.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            if asleep {
                return Poll::Ready(None);
            }
            asleep = true;
            core.set_asleep(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        core.set_asleep(None);
        if rung.is_none() {
            self.read = Some(read);
        }
        rung.unwrap_or(Ok(()))
    }
}

/// Adopts an eventfd as a file of glommio, the only door to a read in the ring that glommio parks
/// in.
pub(crate) fn eventfd_file(raw: std::os::fd::RawFd) -> BufferedFile {
    // SAFETY: the callers pass a descriptor that they have just released from an `OwnedFd`, so it
    // is open and the file becomes its only owner.
    unsafe { BufferedFile::from_raw_fd(raw) }
}

/// Waits until the eventfd counts, and empties it.
pub(crate) async fn read_eventfd(file: Rc<BufferedFile>) -> io::Result<()> {
    let count = file.read_at(0, 8).await.map_err(io::Error::from)?;
    assert_eq!(count.len(), 8, "an eventfd gives eight bytes at a time");
    Ok(())
}
