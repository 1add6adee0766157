//! The threads that make pages ahead of need, so that no shard waits for a first touch.
//!
//! Lives on: two populate threads, started by control, bound to no core.
//! The *ahead* thread works where nobody else wants the processor; the *urgent* one, of ordinary
//! rank, does what somebody waits for: holes to punch, and granules that a shard holds already.
//! Each has a bounded queue of its own, so that nothing urgent stands behind a gigabyte made ahead;
//! a granule that the ahead thread has begun may be given to the urgent one as well, and the first
//! of them to finish reports it. Jobs are worked off in slices of at most 2 MiB, between which a
//! thread looks whether it should stop or the other one has finished. What is done is told to a
//! callback, on the populate thread: it posts the event to the granule home's mailbox and rings its
//! bell.
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

/// Urgent jobs that may wait; the ledger keeps the rest.
pub const URGENT_QUEUE_MAX: usize = 16;
/// Jobs ahead that may wait beside the one under way: one hides the latency of the granule home,
/// and the ledger can still change its mind about all others.
pub const AHEAD_QUEUE_MAX: usize = 1;

/// How far below ordinary threads the ahead thread stands, in `nice` steps, when it finds no idle
/// time.
const NICENESS: libc::c_int = 10;
/// A slice that takes so long is one that got no CPU: it is the work of a few milliseconds.
const STARVED: Duration = Duration::from_millis(20);

const _: () = assert!(GRANULE_BYTES.is_multiple_of(POPULATE_SLICE_BYTES));

/// Which of the two threads a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// For whoever comes.
    Ahead,
    /// Somebody waits for it.
    Urgent,
}

/// One thing to do, and where. Sent from the granule home to a populate thread; a clone is the same
/// job, reported once.
#[derive(Clone, Debug)]
pub struct PopulateJob {
    work: GranuleWork,
    arena: Arc<ArenaMemory>,
    is_finished: Arc<AtomicBool>,
}

impl PopulateJob {
    /// Makes a job of the ledger's word and the arena of the tenant that it names.
    pub fn new(work: GranuleWork, arena: Arc<ArenaMemory>) -> Self {
        let is_finished = Arc::new(AtomicBool::new(false));
        Self {
            work,
            arena,
            is_finished,
        }
    }

    /// Returns what to do.
    pub const fn work(&self) -> GranuleWork {
        self.work
    }
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

/// A populate thread and its queue.
#[derive(Debug)]
struct Populator {
    // Declared and dropped first: the closed queue wakes the thread.
    jobs: Option<SyncSender<PopulateJob>>,
    thread: Option<JoinHandle<()>>,
}

/// Owns the populate threads; stops them when dropped, within one slice.
///
/// Lives on: the granule home (or the control thread on its behalf).
#[derive(Debug)]
pub struct PopulateThreads {
    stopping: Arc<AtomicBool>,
    ahead: Populator,
    urgent: Populator,
}

impl PopulateThreads {
    /// Starts the threads; they may run on the cores that the caller may run on. `on_done` runs on
    /// them, once per job that was finished.
    ///
    /// # Errors
    /// The kernel's: no thread left.
    pub fn start(on_done: impl FnMut(PopulateDone) + Clone + Send + 'static) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let populator = |name: &str, haste, queue_max| {
            let (jobs, queue) = sync_channel(queue_max);
            let (seen, on_done) = (Arc::clone(&stopping), on_done.clone());
            let builder = std::thread::Builder::new().name(name.to_owned());
            let thread = builder.spawn(move || run(haste, &queue, &seen, on_done))?;
            Ok::<Populator, io::Error>(Populator {
                jobs: Some(jobs),
                thread: Some(thread),
            })
        };
        Ok(Self {
            ahead: populator("chariot-ahead", Haste::Ahead, AHEAD_QUEUE_MAX)?,
            urgent: populator("chariot-urgent", Haste::Urgent, URGENT_QUEUE_MAX)?,
            stopping: Arc::clone(&stopping),
        })
    }

    /// Hands a job over without waiting.
    ///
    /// # Errors
    /// Gives the job back when the queue is full: try again after the next completion.
    ///
    /// # Panics
    /// When the thread has died, which only a panic of the callback can do.
    pub fn try_submit(&self, job: PopulateJob, haste: Haste) -> Result<(), PopulateJob> {
        let populator = match haste {
            Haste::Ahead => &self.ahead,
            Haste::Urgent => &self.urgent,
        };
        let jobs = populator.jobs.as_ref().expect("only drop takes the queue");
        match jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job)) => Err(job),
            Err(TrySendError::Disconnected(_)) => panic!("a populate thread has died"),
        }
    }
}

impl Drop for PopulateThreads {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for populator in [&mut self.ahead, &mut self.urgent] {
            drop(populator.jobs.take());
            // A panic of the callback was reported by the thread itself.
            let _joined = populator.thread.take().map(JoinHandle::join);
        }
    }
}

fn run(
    haste: Haste,
    queue: &Receiver<PopulateJob>,
    stopping: &AtomicBool,
    mut on_done: impl FnMut(PopulateDone),
) {
    let rank = match haste {
        Haste::Ahead => Rank::humble(),
        Haste::Urgent => Rank::Ordinary,
    };
    rank.take();
    while let Ok(job) = queue.recv() {
        let is_over =
            || stopping.load(Ordering::Relaxed) || job.is_finished.load(Ordering::Acquire);
        let result = match job.work {
            GranuleWork::Populate { granule, .. } => {
                let result = populate(&job.arena, granule, rank, is_over);
                rank.take();
                result
            },
            GranuleWork::Punch { granule, .. } => job.arena.punch(granule),
        };
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        let is_first = !job.is_finished.swap(true, Ordering::AcqRel);
        if is_first {
            let work = job.work;
            on_done(PopulateDone { work, result });
        }
    }
}

/// Where this thread stands among others; that a change did not work costs nothing but politeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Runs where nobody else wants to (`SCHED_IDLE`).
    Idle,
    /// Gets its tenth of a busy core: somebody may come for the granule.
    Nice,
    /// As everybody.
    Ordinary,
}

impl Rank {
    /// The humblest rank from which there is a way back: whoever has no right to raise itself
    /// would stay idle for ever, and make nothing on a busy machine.
    fn humble() -> Self {
        let probe = std::thread::Builder::new().name("chariot-probe".to_owned());
        let probe = probe.spawn(|| Self::Idle.take() && Self::Nice.take());
        let may_return = probe.is_ok_and(|probe| probe.join().unwrap_or(false));
        if may_return { Self::Idle } else { Self::Nice }
    }

    /// Takes the rank; whether the kernel allowed it.
    fn take(self) -> bool {
        let policy = match self {
            Self::Idle => libc::SCHED_IDLE,
            Self::Nice => libc::SCHED_OTHER,
            Self::Ordinary => return true,
        };
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the kernel reads one `sched_param`, which lives; 0 names the calling thread.
        let policy_set = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
        // SAFETY: gettid takes no argument and cannot fail.
        let tid = unsafe { libc::gettid() };
        let who = libc::id_t::try_from(tid).expect("thread ids are positive");
        // SAFETY: setpriority takes numbers only, and names this very thread.
        let nice_set = unsafe { libc::setpriority(libc::PRIO_PROCESS, who, NICENESS) };
        policy_set == 0 && nice_set == 0
    }
}

fn populate(
    arena: &ArenaMemory,
    granule: GranuleIndex,
    mut rank: Rank,
    is_over: impl Fn() -> bool,
) -> io::Result<()> {
    for slice in 0..GRANULE_BYTES / POPULATE_SLICE_BYTES {
        if is_over() {
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
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

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
        let threads = PopulateThreads::start(move |event| {
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
            let job = PopulateJob::new(work, Arc::clone(&arena));
            threads
                .try_submit(job, Haste::Urgent)
                .expect("the queue is empty");
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
        let (release, threads) = held(done);
        let job = |granule| {
            let granule = GranuleIndex(granule);
            let tenant = TENANT;
            PopulateJob::new(GranuleWork::Punch { tenant, granule }, Arc::clone(&arena))
        };
        threads
            .try_submit(job(0), Haste::Ahead)
            .expect("the queue is empty");
        seen.recv()
            .expect("the first job is done and the thread held");
        for index in 0..AHEAD_QUEUE_MAX {
            threads
                .try_submit(job(u32::try_from(index).expect("few")), Haste::Ahead)
                .expect("room");
        }
        let refused = threads.try_submit(job(99), Haste::Ahead);
        let refused = refused.expect_err("the queue is full");
        assert_eq!(refused.work, job(99).work);
        drop(release);
        drop(threads);
        assert!(
            seen.iter().count() <= AHEAD_QUEUE_MAX,
            "stopping does not finish the queue"
        );
    }

    /// Threads that stand still after each job until the answered end is dropped.
    fn held(done: Sender<GranuleWork>) -> (Sender<()>, PopulateThreads) {
        let (release, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let threads = PopulateThreads::start(move |event| {
            done.send(event.work).expect("the test listens");
            // The test holds the ahead thread here; once it lets go, nothing waits.
            if std::thread::current().name() == Some("chariot-ahead") {
                let _closed = gate.lock().expect("nobody panics here").recv();
            }
        });
        (release, threads.expect("a thread is left"))
    }

    #[test]
    fn what_is_urgent_overtakes_what_is_made_ahead_and_is_reported_once() {
        let arena = arena(4);
        let (done, seen) = channel();
        let (release, threads) = held(done);
        let job = |granule| {
            let granule = GranuleIndex(granule);
            let tenant = TENANT;
            PopulateJob::new(
                GranuleWork::Populate { tenant, granule },
                Arc::clone(&arena),
            )
        };
        let first = job(0);
        threads
            .try_submit(first.clone(), Haste::Ahead)
            .expect("the queue is empty");
        assert_eq!(seen.recv(), Ok(first.work));
        // Behind the one whose report holds the thread up.
        let second = job(1);
        threads
            .try_submit(second.clone(), Haste::Ahead)
            .expect("room for one");
        threads
            .try_submit(second.clone(), Haste::Urgent)
            .expect("a queue of its own");
        assert_eq!(seen.recv(), Ok(second.work));
        assert_eq!(blocks_of(&arena), 2 * GRANULE_BYTES);
        drop(release);
        // The ahead thread takes the second, which is finished, and then this one.
        let mut third = job(2);
        while let Err(back) = threads.try_submit(third, Haste::Ahead) {
            third = back;
            std::thread::yield_now();
        }
        assert_eq!(seen.recv(), Ok(job(2).work));
        drop(threads);
        assert_eq!(seen.iter().count(), 0, "each was reported once");
    }

    #[test]
    fn a_thread_takes_no_rank_that_it_cannot_leave() {
        let rank = std::thread::spawn(|| {
            let rank = Rank::humble();
            let taken = rank.take();
            (rank, taken, Rank::Nice.take())
        });
        let (rank, taken, came_back) = rank.join().expect("it does not panic");
        assert!(taken && came_back, "{rank:?}");
    }
}
