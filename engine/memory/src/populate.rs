//! The thread that makes pages ahead of need, so that no shard waits for a first touch.
//!
//! Lives on: a helper thread of its own, started by the control thread, at low priority. Jobs come
//! through a bounded queue; each is worked off in slices of at most 2 MiB, between which the thread
//! looks whether it should stop. What is done is told to a callback, on this thread: it posts the
//! event to the granule home's mailbox and rings its bell.
//!
//! Neighbours: `granule` says what to do, `arena` does it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chariot_base::limits::GRANULE_BYTES;
use chariot_base::{Extent, GranuleIndex};

use crate::arena::ArenaMemory;
use crate::granule::GranuleWork;

/// Bytes made present in one system call: one huge page, about 1 ms with small pages.
pub const POPULATE_SLICE_BYTES: u64 = 2 << 20;

/// Jobs that may wait; the ledger keeps the rest. Two are under way, the others hide the latency of
/// the granule home.
pub const POPULATE_QUEUE_MAX: usize = 16;

/// How far below ordinary threads the helper stands, in `nice` steps, when it finds no idle time.
const NICENESS: libc::c_int = 10;
/// A slice that takes so long is one that got no CPU: it is the work of a few milliseconds.
const STARVED: Duration = Duration::from_millis(20);

const _: () = assert!(GRANULE_BYTES.is_multiple_of(POPULATE_SLICE_BYTES));

/// One thing to do, and where. Sent from the granule home to the helper thread.
#[derive(Debug)]
pub struct PopulateJob {
    /// What to do, by the ledger's word.
    pub work: GranuleWork,
    /// The arena of the tenant that the work names.
    pub arena: Arc<ArenaMemory>,
}

/// What became of a job.
#[derive(Debug)]
pub struct PopulateDone {
    /// The work, for [`crate::GranuleLedger::work_done`].
    pub work: GranuleWork,
    /// An error says that the machine is short of memory or huge pages. Granules are usable all
    /// the same, at the price of a first touch; a failed punch must be asked for again.
    pub result: io::Result<()>,
}

/// Owns the helper thread; stops it when dropped, within one slice.
///
/// Lives on: the granule home (or the control thread on its behalf).
#[derive(Debug)]
pub struct PopulateThread {
    // Declared and dropped first: the closed queue wakes the thread.
    jobs: Option<SyncSender<PopulateJob>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PopulateThread {
    /// Starts the thread. `on_done` runs on it, once per job that was finished, in order.
    ///
    /// # Errors
    /// The kernel's: no thread left.
    pub fn start(on_done: impl FnMut(PopulateDone) + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(POPULATE_QUEUE_MAX);
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopping);
        let builder = std::thread::Builder::new().name("chariot-populate".to_owned());
        let thread = builder.spawn(move || run(&queue, &seen, on_done))?;
        Ok(Self {
            jobs: Some(jobs),
            stopping,
            thread: Some(thread),
        })
    }

    /// Hands a job over without waiting.
    ///
    /// # Errors
    /// Gives the job back when the queue is full: try again after the next completion.
    ///
    /// # Panics
    /// When the thread has died, which only a panic of the callback can do.
    pub fn try_submit(&self, job: PopulateJob) -> Result<(), PopulateJob> {
        let jobs = self.jobs.as_ref().expect("only drop takes the queue");
        match jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job)) => Err(job),
            Err(TrySendError::Disconnected(_)) => panic!("the populate thread has died"),
        }
    }
}

impl Drop for PopulateThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.jobs.take());
        // A panic of the callback was reported by the thread itself.
        let _joined = self.thread.take().map(JoinHandle::join);
    }
}

fn run(
    queue: &Receiver<PopulateJob>,
    stopping: &AtomicBool,
    mut on_done: impl FnMut(PopulateDone),
) {
    while let Ok(PopulateJob { work, arena }) = queue.recv() {
        let result = match work {
            GranuleWork::Populate { granule, .. } => populate(&arena, granule, stopping),
            GranuleWork::Punch { granule, .. } => arena.punch(granule),
        };
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        on_done(PopulateDone { work, result });
    }
}

/// Where this thread stands among others; that a change did not work costs nothing but politeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Runs where nobody else wants to (`SCHED_IDLE`). A mere `nice` of 10 on a shard's core was
    /// measured to take three quarters of it, because the shard's every sleep was its turn.
    Idle,
    /// Gets its tenth of a busy core: somebody may wait for the granule.
    Nice,
}

impl Rank {
    fn take(self) {
        let policy = match self {
            Self::Idle => libc::SCHED_IDLE,
            Self::Nice => libc::SCHED_OTHER,
        };
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the kernel reads one `sched_param`, which lives; 0 names the calling thread.
        let _status = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
        // SAFETY: gettid takes no argument and cannot fail.
        let tid = unsafe { libc::gettid() };
        let who = libc::id_t::try_from(tid).expect("thread ids are positive");
        // SAFETY: setpriority takes numbers only, and names this very thread.
        let _status = unsafe { libc::setpriority(libc::PRIO_PROCESS, who, NICENESS) };
    }
}

fn populate(arena: &ArenaMemory, granule: GranuleIndex, stopping: &AtomicBool) -> io::Result<()> {
    let mut rank = Rank::Idle;
    rank.take();
    for slice in 0..GRANULE_BYTES / POPULATE_SLICE_BYTES {
        if stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let offset = granule.offset() + slice * POPULATE_SLICE_BYTES;
        let begun = Instant::now();
        arena.populate(Extent::new(offset, POPULATE_SLICE_BYTES))?;
        if rank == Rank::Idle && begun.elapsed() > STARVED {
            rank = Rank::Nice;
            rank.take();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use chariot_base::TenantId;

    use super::*;
    use crate::arena::ArenaOptions;

    const TENANT: TenantId = TenantId(0);

    fn arena(virtual_granules: u32) -> Arc<ArenaMemory> {
        let options = ArenaOptions {
            virtual_granules,
            hugetlb: false,
        };
        Arc::new(ArenaMemory::create("chariot-populate-test", options).expect("memfd works"))
    }

    fn blocks_of(arena: &ArenaMemory) -> u64 {
        let file = arena
            .fd()
            .try_clone_to_owned()
            .expect("a descriptor is left");
        let metadata = std::fs::File::from(file).metadata().expect("fstat works");
        std::os::unix::fs::MetadataExt::blocks(&metadata) * 512
    }

    #[test]
    fn granule_is_backed_when_its_job_is_done_and_not_when_punched() {
        let (done, seen) = channel();
        let thread = PopulateThread::start(move |event| {
            done.send(event).expect("the test listens");
        })
        .expect("a thread is left");
        let arena = arena(2);
        let granule = GranuleIndex(1);
        let populate = GranuleWork::Populate {
            tenant: TENANT,
            granule,
        };
        let punch = GranuleWork::Punch {
            tenant: TENANT,
            granule,
        };
        for (work, backed) in [(populate, GRANULE_BYTES), (punch, 0)] {
            let job = PopulateJob {
                work,
                arena: Arc::clone(&arena),
            };
            thread.try_submit(job).expect("the queue is empty");
            let event = seen.recv().expect("the thread lives");
            assert_eq!(event.work, work);
            event.result.expect("64 MiB are there");
            assert_eq!(blocks_of(&arena), backed);
        }
    }

    #[test]
    fn large_arena_is_made_at_once_and_full_queue_gives_jobs_back() {
        // 4 GiB of memory, twice that in addresses: nothing is touched here.
        let arena = arena(128);
        assert_eq!(blocks_of(&arena), 0);
        let (done, seen) = channel();
        let (release, gate) = channel::<()>();
        let thread = PopulateThread::start(move |event| {
            done.send(event.work).expect("the test listens");
            // The test holds the thread here; once it lets go, nothing waits.
            let _closed = gate.recv();
        })
        .expect("a thread is left");
        let job = |granule| PopulateJob {
            work: GranuleWork::Punch {
                tenant: TENANT,
                granule: GranuleIndex(granule),
            },
            arena: Arc::clone(&arena),
        };
        thread.try_submit(job(0)).expect("the queue is empty");
        seen.recv()
            .expect("the first job is done and the thread held");
        for index in 0..POPULATE_QUEUE_MAX {
            thread
                .try_submit(job(u32::try_from(index).expect("few")))
                .expect("room");
        }
        let refused = thread.try_submit(job(99)).expect_err("the queue is full");
        assert_eq!(refused.work, job(99).work);
        drop(release);
        drop(thread);
        assert!(
            seen.iter().count() <= POPULATE_QUEUE_MAX,
            "stopping does not finish the queue"
        );
    }
}
