//! The device core: what a caller starts, submits to and stops.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use chariot_device::{Device, DeviceError, Direction};

use crate::cost::{Calibration, CostModel};
use crate::lane::{Lane, Shared};
use crate::numa::{self, Place};
use crate::object::{Handle, InFlight, Transfer, TransferError};
use crate::plan::Path;
use crate::probe::Probe;
use crate::queue::{PARTS_MAX, Part, Queue};
use crate::staging;

/// How long after its deadline a transfer has all outcomes, at the latest: what is being moved at
/// the deadline is aborted, and this is the time for that.
pub const OBJECT_GRACE: Duration = Duration::from_millis(500);

/// Lanes of a direction: one prepares while the other's bytes move.
const LANES: usize = 2;
/// Bytes of a batch, and of the parts that larger objects are cut into: at 55 GB/s 300 us, so that
/// a call's 10 us are 3 %, and a lane is at its deadline in time.
const BATCH_BYTES: usize = 16 << 20;
/// An object is cut for several lanes in parts no smaller than this.
const PART_MIN: usize = 1 << 20;
/// How long stopping waits for lanes; one that is left with a hanging stream is left behind.
const STOP: Duration = Duration::from_secs(6);

/// How a core is to be.
#[derive(Clone, Copy, Debug)]
pub struct CoreOptions {
    /// Where the cost model comes from.
    pub calibration: Calibration,
    /// The card's NUMA node, where the driver does not tell: for threads and staging.
    pub numa_node: Option<u32>,
    /// The CPUs of that node, where the kernel's own list is not to be taken; for tests.
    pub node_cpus: Option<&'static [usize]>,
    /// A way that is taken whatever the model says; for tests and measurements.
    pub forced: Option<Path>,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self {
            calibration: Calibration::Measured,
            numa_node: None,
            node_cpus: None,
            forced: None,
        }
    }
}

/// What became of a submission.
#[derive(Debug)]
#[must_use]
pub enum Submit {
    /// It is queued; the handle tells the outcomes.
    Accepted(Handle),
    /// There is no room now: here it is back, nothing of it was begun.
    Full(Transfer),
}

#[derive(Debug, Default)]
struct Open {
    by_deadline: BTreeMap<(Instant, u64), Weak<InFlight>>,
    stopped: bool,
}

/// Transfers by deadline, for the core's thread.
#[derive(Debug, Default)]
struct Deadlines {
    open: Mutex<Open>,
    changed: Condvar,
}

impl Deadlines {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The core's thread: gives late transfers their outcomes.
    fn run(&self) {
        let mut open = self.lock();
        while !open.stopped {
            let next = open.expire(Instant::now());
            let most = next.map_or(Duration::from_mins(1), |at| {
                at.saturating_duration_since(Instant::now())
            });
            let waited = self.changed.wait_timeout(open, most);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn add(&self, transfer: &Arc<InFlight>) {
        let mut open = self.lock();
        let key = (transfer.deadline, transfer.number);
        let earliest = open
            .by_deadline
            .first_key_value()
            .is_none_or(|(first, _)| key < *first);
        open.by_deadline.insert(key, Arc::downgrade(transfer));
        // Transfers that are over are swept from the front; those behind a late one wait for it,
        // so a list that is longer than all that can be open is swept whole.
        if open.by_deadline.len() > 4 * PARTS_MAX {
            let is_open = |weak: &Weak<InFlight>| weak.upgrade().is_some_and(|it| !it.is_done());
            open.by_deadline.retain(|_, weak| is_open(weak));
        }
        if earliest {
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_one();
    }
}

impl Open {
    /// Gives outcomes to what is late, and forgets what is over. Returns the next deadline.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some(entry) = self.by_deadline.first_entry() {
            let (at, number) = *entry.key();
            let transfer = entry.get().upgrade().filter(|transfer| !transfer.is_done());
            let Some(transfer) = transfer else {
                entry.remove();
                continue;
            };
            if at > now {
                return Some(at);
            }
            entry.remove();
            if let Some(again) = transfer.expire(now, OBJECT_GRACE) {
                let again = again.max(now + Duration::from_millis(1));
                self.by_deadline
                    .insert((again, number), Arc::downgrade(&transfer));
            }
        }
        None
    }
}

/// The device core of one card. Lives on: any thread; dropping it stops it.
#[derive(Debug)]
pub struct DeviceCore {
    shared: Arc<Shared>,
    queues: [Arc<Queue>; 2],
    deadlines: Arc<Deadlines>,
    last: AtomicU64,
    /// Closed when every lane has ended.
    ended: Mutex<mpsc::Receiver<()>>,
    timer: Option<std::thread::JoinHandle<()>>,
}

impl DeviceCore {
    /// Starts the core of a card: measures it, unless a model is given, and starts its threads (two
    /// lanes a direction, and one for deadlines).
    ///
    /// # Errors
    /// The card's; or [`DeviceError::Full`]: no threads.
    pub fn start(device: Device, options: CoreOptions) -> Result<Self, DeviceError> {
        let place = Place {
            node: options
                .numa_node
                .or_else(|| device.capabilities().numa_node),
            cpus: options.node_cpus,
        };
        let model = match options.calibration {
            Calibration::Fixed(model) => model,
            Calibration::Measured => measure(&device, place)?,
        };
        let shared = Arc::new(Shared {
            device,
            model,
            probe: Probe::default(),
            place,
            stopped: AtomicBool::new(false),
            forced: options.forced,
        });
        let queue = || Arc::new(Queue::new(LANES, BATCH_BYTES));
        let queues = [queue(), queue()];
        let directions = [Direction::HostToDevice, Direction::DeviceToHost];
        let (sender, ended) = mpsc::channel();
        let mut core = Self {
            shared,
            queues,
            deadlines: Arc::default(),
            last: AtomicU64::new(0),
            ended: Mutex::new(ended),
            timer: None,
        };
        for (direction, queue) in directions.into_iter().zip(core.queues.clone()) {
            for _ in 0..LANES {
                let lane = Lane::new(Arc::clone(&core.shared), Arc::clone(&queue), direction)?;
                let sender = sender.clone();
                spawn("chariot-lane", move || {
                    lane.run();
                    // The sender goes with the lane, which tells the core.
                    drop(sender);
                })?;
            }
        }
        let deadlines = Arc::clone(&core.deadlines);
        core.timer = Some(spawn("chariot-device", move || deadlines.run())?);
        Ok(core)
    }

    /// What the core counts.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        &self.shared.probe
    }

    /// What copies cost on this card.
    #[must_use]
    pub fn model(&self) -> &CostModel {
        &self.shared.model
    }

    /// The card.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// Queues a transfer. Objects that are described wrongly have their outcome at once.
    ///
    /// # Panics
    /// When the direction is neither into nor out of the card.
    pub fn try_submit(&self, transfer: Transfer) -> Submit {
        let queue = match transfer.direction {
            Direction::HostToDevice => &self.queues[0],
            Direction::DeviceToHost => &self.queues[1],
            Direction::DeviceToDevice => panic!("a core moves between host and card"),
        };
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let inflight = Arc::new(InFlight::new(transfer, number));
        let parts = parts_of(&inflight);
        if parts.is_empty() {
            return Submit::Accepted(Handle(inflight));
        }
        if let Err(parts) = queue.try_push(parts) {
            // They are the only others that have it.
            drop(parts);
            self.shared.probe.full.fetch_add(1, Ordering::Relaxed);
            let transfer = Arc::into_inner(inflight).expect("nothing was queued");
            return Submit::Full(transfer.into_transfer());
        }
        self.deadlines.add(&inflight);
        Submit::Accepted(Handle(inflight))
    }
}

/// Measures a card from its own node: from the caller's, the figures would be those of a longer way
/// than the lanes have.
fn measure(device: &Device, place: Place) -> Result<CostModel, DeviceError> {
    let measured = std::thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            numa::settle_on(place);
            // A card without room for the gathering streams does without gathering.
            let streams = staging::gathering(device).unwrap_or_default();
            CostModel::measure(device, &streams)
        });
        measuring.join()
    });
    measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, DeviceError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(|_error| DeviceError::Full {
        what: "threads of the process",
    })
}

/// Cuts a transfer's open objects into parts: large ones into batches, and a lone one for all
/// lanes, so that the second's call overlaps with the first's bytes.
fn parts_of(inflight: &Arc<InFlight>) -> Vec<Part> {
    let mut parts = Vec::new();
    let lone = inflight.objects.len() == 1;
    for (object, copy) in inflight.objects.iter().enumerate() {
        if !inflight.is_open(object) {
            continue;
        }
        let whole: usize = copy.fragments.iter().map(|fragment| fragment.len).sum();
        let share = if lone {
            whole.div_ceil(LANES).max(PART_MIN)
        } else {
            BATCH_BYTES
        };
        let most = share.min(BATCH_BYTES);
        let before = parts.len();
        let (mut first, mut bytes) = (0, 0);
        for (index, fragment) in copy.fragments.iter().enumerate() {
            if bytes > 0 && bytes + fragment.len > most {
                let fragments = first..index;
                parts.push(Part {
                    transfer: Arc::clone(inflight),
                    object,
                    fragments,
                    bytes,
                });
                (first, bytes) = (index, 0);
            }
            bytes += fragment.len;
        }
        let fragments = first..copy.fragments.len();
        parts.push(Part {
            transfer: Arc::clone(inflight),
            object,
            fragments,
            bytes,
        });
        let count = u32::try_from(parts.len() - before).expect("at most 4096 fragments");
        inflight.set_parts(object, count);
    }
    parts
}

impl Drop for DeviceCore {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        for queue in &self.queues {
            for part in queue.close() {
                part.transfer.refuse(part.object, TransferError::Cancelled);
            }
        }
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it is over when every lane has dropped its end.
        while ended.recv_timeout(STOP).is_ok() {}
        self.deadlines.stop();
        if let Some(timer) = self.timer.take() {
            // It holds nothing; a panic of it was told by the panic hook.
            drop(timer.join());
        }
    }
}
