//! One pinned thread with its glommio executor, and what its tasks hold of it.
//!
//! A [`ShardSeat`] is made first (so that bells exist before any mailbox is wired), then
//! [`ShardExecutor::spawn`] gives it a thread, on which the main future gets a [`ShardContext`].
//! Lives on: seats on the starting thread; contexts on their owner shard (they are `!Send`).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::IntoRawFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chariot_base::ShardId;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::bell::{BellHandle, BellShared};
use crate::clock::monotonic_ns;
use crate::data_ring::DataRing;
use crate::driver::{DriverStats, Pass, drive, eventfd_file, read_eventfd};
use crate::limits::{GLOMMIO_IO_BYTES, HEARTBEAT_MS, RESCUE_READS};
use crate::spin::SpinSetting;
use crate::timers::{Elapsed, Sleep, Timeout, Timers};

/// The rails against glommio's parking over runnable tasks. All on by default; tests switch them
/// off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rails {
    /// Preempt timer of the executor. The defect needs the thread to be off the CPU for as long as
    /// this at the wrong moment; nothing on a shard depends on preemption, so the default is an
    /// hour.
    pub preempt_timer: Duration,
    /// Heartbeat every 10 ms while the shard sleeps with requests in flight.
    pub heartbeat: bool,
    /// Reads armed on the rescue eventfd, without which a [`crate::Watchdog`] cannot wake the
    /// shard.
    pub rescue: bool,
}

impl Default for Rails {
    fn default() -> Self {
        Self {
            preempt_timer: Duration::from_hours(1),
            heartbeat: true,
            rescue: true,
        }
    }
}

/// What one shard's thread is made of.
#[derive(Clone, Debug)]
pub struct ShardSpec {
    /// The shard that lives there.
    pub shard: ShardId,
    /// The CPU to be pinned to; `None` leaves it to the kernel.
    pub cpu: Option<usize>,
    /// Name of the thread; glommio adds a number.
    pub name: String,
    /// How long to poll before sleeping.
    pub spin: SpinSetting,
    /// Rails against lost wakes.
    pub rails: Rails,
}

impl ShardSpec {
    /// Describes a shard with default spin and rails, not pinned.
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            cpu: None,
            name: format!("shard-{}", shard.0),
            spin: SpinSetting::default(),
            rails: Rails::default(),
        }
    }
}

/// A shard's bell and its specification, before there is a thread. Lives on: the starting thread.
#[derive(Debug)]
pub struct ShardSeat {
    spec: ShardSpec,
    shared: Arc<BellShared>,
}

impl ShardSeat {
    /// Makes the bell of one shard.
    ///
    /// # Errors
    /// When the process has no descriptor left (raise `RLIMIT_NOFILE`).
    pub fn new(spec: ShardSpec) -> io::Result<Self> {
        Ok(Self {
            spec,
            shared: BellShared::new()?,
        })
    }

    /// Returns a handle that rings this shard.
    pub fn bell(&self) -> BellHandle {
        BellHandle::new(Arc::clone(&self.shared))
    }

    /// Returns the shard's id.
    pub fn shard(&self) -> ShardId {
        self.spec.shard
    }

    pub(crate) fn shared(&self) -> Arc<BellShared> {
        Arc::clone(&self.shared)
    }
}

/// Why a shard could not be started. The operator can fix each by its remedy in
/// `KernelCapabilities`.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The executor could not be made: CPU out of range, memlock, `io_uring` or threads refused.
    #[error("the executor of {name} cannot start: {cause}")]
    Executor {
        /// Name of the shard's thread.
        name: String,
        /// What glommio said.
        cause: String,
    },
}

/// Starts shards. Lives on: the starting thread.
#[derive(Debug)]
pub struct ShardExecutor;

impl ShardExecutor {
    /// Gives `seat` a thread, pins it, makes its data ring there, and runs `main` to its end.
    ///
    /// # Errors
    /// [`SpawnError::Executor`] when the thread cannot be made; failures inside the thread come
    /// from [`ShardJoin::join`].
    pub fn spawn<F, Fut, T>(seat: ShardSeat, main: F) -> Result<ShardJoin<T>, SpawnError>
    where
        F: FnOnce(ShardContext) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let name = seat.spec.name.clone();
        let placement = seat.spec.cpu.map_or(Placement::Unbound, Placement::Fixed);
        let handle = LocalExecutorBuilder::new(placement)
            .name(&name)
            .preempt_timer(seat.spec.rails.preempt_timer)
            .io_memory(GLOMMIO_IO_BYTES)
            .spawn(move || run_shard(seat, main))
            .map_err(|error| SpawnError::Executor {
                name: name.clone(),
                cause: error.to_string(),
            })?;
        Ok(ShardJoin { handle, name })
    }
}

async fn run_shard<F, Fut, T>(seat: ShardSeat, main: F) -> io::Result<T>
where
    F: FnOnce(ShardContext) -> Fut,
    Fut: Future<Output = T> + 'static,
{
    let core = Rc::new(ShardCore::new(&seat)?);
    let rescue = core.start_rescue()?;
    let heartbeat = core.start_heartbeat();
    let context = ShardContext {
        core: Rc::clone(&core),
    };
    let result = main(context).await;
    core.stop(rescue, heartbeat).await;
    Ok(result)
}

/// The end of a shard's thread. Lives on: the starting thread.
#[derive(Debug)]
pub struct ShardJoin<T: Send + 'static> {
    handle: ExecutorJoinHandle<io::Result<T>>,
    name: String,
}

impl<T: Send + 'static> ShardJoin<T> {
    /// Waits until the shard's main future has ended and returns what it returned.
    ///
    /// # Errors
    /// [`SpawnError::Executor`] when the executor or the data ring could not be made in its thread,
    /// or the main future panicked.
    pub fn join(self) -> Result<T, SpawnError> {
        let name = self.name;
        match self.handle.join() {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(SpawnError::Executor {
                name,
                cause: error.to_string(),
            }),
            Err(error) => Err(SpawnError::Executor {
                name,
                cause: error.to_string(),
            }),
        }
    }
}

/// What a shard's main future and its tasks hold: spawn, sleep, ring. Lives on: owner shard.
#[derive(Clone, Debug)]
pub struct ShardContext {
    core: Rc<ShardCore>,
}

impl ShardContext {
    /// Returns the shard this is.
    pub fn shard(&self) -> ShardId {
        self.core.shard
    }

    /// Returns the shard's data ring; clones are the same ring.
    pub fn ring(&self) -> DataRing {
        self.core.ring.clone()
    }

    /// Returns a handle that rings this shard.
    pub fn bell(&self) -> BellHandle {
        BellHandle::new(Arc::clone(&self.core.bell))
    }

    /// Runs the driver with `pass` until a round says stop. Ring operations, [`Self::sleep`] and
    /// [`Self::yield_now`] make progress only meanwhile.
    ///
    /// # Errors
    /// When `io_uring_enter` fails for a reason that no repetition cures; the shard cannot go on.
    ///
    /// # Panics
    /// When a driver already runs on this shard.
    pub async fn run<P: Pass + ?Sized>(&self, pass: &mut P) -> io::Result<()> {
        assert!(!self.core.driving.replace(true), "a shard has one driver");
        self.core.bell.set_running(true);
        let outcome = drive(&self.core, pass).await;
        self.core.bell.set_running(false);
        self.core.driving.set(false);
        outcome
    }

    /// Starts a task on this shard. It first runs when the current one waits.
    pub fn spawn_local<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> LocalTask<T> {
        let core = Rc::clone(&self.core);
        let noted = async move {
            let mut future = pin!(future);
            std::future::poll_fn(|cx| {
                let polled = future.as_mut().poll(cx);
                core.nudge_driver();
                polled
            })
            .await
        };
        LocalTask {
            task: glommio::spawn_local(noted),
        }
    }

    /// Waits for `duration`; resolution is that of the driver's rounds, some 60 µs when it slept.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until(monotonic_ns().saturating_add(nanoseconds))
    }

    /// Waits until `CLOCK_MONOTONIC` reads `deadline_ns`.
    pub fn sleep_until(&self, deadline_ns: u64) -> Sleep {
        Sleep::new(Rc::clone(&self.core.timers), deadline_ns)
    }

    /// Awaits `future` until `deadline_ns`, then drops it, which cancels its ring operation.
    ///
    /// # Errors
    /// [`Elapsed`] when the deadline came first.
    pub async fn timeout_at<F: Future>(
        &self,
        deadline_ns: u64,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        Timeout::new(self.sleep_until(deadline_ns), future).await
    }

    /// Lets the driver make a round before the calling task goes on. Long work yields with this
    /// one, so that the driver knows of it and does not fall asleep.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            self.core.hold_yielded(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Returns what the driver has counted.
    pub fn driver_stats(&self) -> DriverStats {
        self.core.stats.get()
    }
}

/// A task on its own shard; awaiting it gives its result, dropping it cancels it. Lives on: owner
/// shard.
#[derive(Debug)]
#[must_use = "dropping a task cancels it: detach it or keep it"]
pub struct LocalTask<T> {
    task: glommio::Task<T>,
}

impl<T> LocalTask<T> {
    /// Lets the task run to its end by itself.
    pub fn detach(self) {
        drop(self.task.detach());
    }

    /// Cancels the task and waits until it has stopped; `None` when it had not finished.
    pub async fn cancel(self) -> Option<T> {
        self.task.cancel().await
    }
}

impl<T> Future for LocalTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.task).poll(cx)
    }
}

/// Everything one shard's tasks share. Lives on: owner shard.
#[derive(Debug)]
pub(crate) struct ShardCore {
    shard: ShardId,
    spin: SpinSetting,
    rails: Rails,
    bell: Arc<BellShared>,
    ring: DataRing,
    timers: Rc<Timers>,
    /// Tasks that yielded to the driver; it wakes them in its next round.
    yielded: RefCell<Vec<Waker>>,
    driving: Cell<bool>,
    stopping: Cell<bool>,
    /// The sleeping driver's waker. Tasks that were still runnable when it fell asleep may have
    /// started operations or timers since, or changed what its pass looks at.
    asleep: RefCell<Option<Waker>>,
    heartbeat_wanted: Cell<bool>,
    heartbeat_waker: RefCell<Option<Waker>>,
    stats: Cell<DriverStats>,
}

impl ShardCore {
    fn new(seat: &ShardSeat) -> io::Result<Self> {
        let bell = seat.shared();
        let ring = DataRing::new(&bell)?;
        Ok(Self {
            shard: seat.spec.shard,
            spin: seat.spec.spin,
            rails: seat.spec.rails,
            bell,
            ring,
            timers: Rc::new(Timers::default()),
            yielded: RefCell::default(),
            driving: Cell::new(false),
            stopping: Cell::new(false),
            asleep: RefCell::default(),
            heartbeat_wanted: Cell::new(false),
            heartbeat_waker: RefCell::default(),
            stats: Cell::default(),
        })
    }

    pub(crate) fn bell(&self) -> &BellShared {
        &self.bell
    }

    pub(crate) fn ring(&self) -> &DataRing {
        &self.ring
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    pub(crate) fn spin(&self) -> SpinSetting {
        self.spin
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut DriverStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    fn hold_yielded(&self, waker: &Waker) {
        if self.driving.get() {
            self.yielded.borrow_mut().push(waker.clone());
        } else {
            waker.wake_by_ref();
        }
    }

    /// The driver sleeps from now on; whatever runs on this shard meanwhile wakes it.
    pub(crate) fn set_asleep(&self, driver: Option<Waker>) {
        *self.asleep.borrow_mut() = driver;
    }

    fn nudge_driver(&self) {
        if let Some(driver) = self.asleep.take() {
            driver.wake();
        }
    }

    pub(crate) fn has_yielded(&self) -> bool {
        !self.yielded.borrow().is_empty()
    }

    /// Wakes the tasks that yielded; returns how many.
    pub(crate) fn release_yielded(&self) -> usize {
        if !self.has_yielded() {
            return 0;
        }
        let yielded = self.yielded.take();
        let count = yielded.len();
        yielded.into_iter().for_each(Waker::wake);
        count
    }

    /// Starts or stops the heartbeat; it beats only while the shard sleeps over requests in flight.
    pub(crate) fn set_heartbeat(&self, wanted: bool) {
        self.heartbeat_wanted.set(wanted && self.rails.heartbeat);
        if self.heartbeat_wanted.get()
            && let Some(waker) = self.heartbeat_waker.take()
        {
            waker.wake();
        }
    }

    fn start_heartbeat(self: &Rc<Self>) -> glommio::Task<()> {
        let core = Rc::clone(self);
        glommio::spawn_local(async move {
            while !core.stopping.get() {
                if core.heartbeat_wanted.get() {
                    glommio::timer::sleep(Duration::from_millis(HEARTBEAT_MS)).await;
                    // Proof for the watchdog that the executor runs its tasks.
                    core.bell.begin_beat();
                } else {
                    core.heartbeat_called().await;
                }
            }
        })
    }

    async fn heartbeat_called(&self) {
        std::future::poll_fn(|cx| {
            if self.heartbeat_wanted.get() || self.stopping.get() {
                return Poll::Ready(());
            }
            *self.heartbeat_waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Arms the reads on the rescue eventfd. What they read does not matter: any completion makes
    /// the executor look at its tasks again.
    fn start_rescue(self: &Rc<Self>) -> io::Result<Vec<glommio::Task<()>>> {
        let reads = if self.rails.rescue { RESCUE_READS } else { 0 };
        let mut tasks = Vec::with_capacity(reads);
        for _ in 0..reads {
            let file = Rc::new(eventfd_file(self.bell.duplicate_rescue()?.into_raw_fd()));
            let core = Rc::clone(self);
            tasks.push(glommio::spawn_local(async move {
                let mut outcome = Ok(());
                while outcome.is_ok() && !core.stopping.get() {
                    outcome = read_eventfd(Rc::clone(&file)).await;
                }
                // The write that ended this read ends the next one, too.
                core.bell.write_rescue();
            }));
        }
        Ok(tasks)
    }

    /// Ends what the shard started for itself, and gives the kernel's operations their time to end.
    async fn stop(&self, rescue: Vec<glommio::Task<()>>, heartbeat: glommio::Task<()>) {
        self.stopping.set(true);
        if let Some(waker) = self.heartbeat_waker.take() {
            waker.wake();
        }
        self.bell.write_rescue();
        for task in rescue {
            task.await;
        }
        heartbeat.await;
        self.ring.close();
    }
}
