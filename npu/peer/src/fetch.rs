//! Getting objects: ask for a provider, wait for the bytes, ask for another one where that fails.
//!
//! ```text
//!   wanted ─ granted ─▶ running ─ all chunks ─▶ over
//!     ▲                    │
//!     └── stop, broken link, standstill: whatever is posted is drained first
//! ```
//! Runs on the caller's thread, for all keys of a call at once; senders and receivers do the work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::device::Lifetime;
use chariot_device::{CopyBatch, Direction, Submission};

use crate::directory::{Taken, Wish};
use crate::error::PeerError;
use crate::object::Held;
use crate::state::{Incoming, Shared, State};

/// How long the first and the later questions to the directory wait: keys that nobody has must not
/// hold up the others of a call for longer.
const FIRST_QUESTION: Duration = Duration::from_millis(100);
const QUESTION: Duration = Duration::from_millis(250);

#[derive(Debug)]
enum Phase {
    Wanted,
    Running,
    Over(Result<(), PeerError>),
}

#[derive(Debug)]
struct Job {
    object: Arc<Held>,
    number: u64,
    phase: Phase,
    /// Its place in the call.
    place: usize,
    /// Somebody provides it, or did.
    found: bool,
    /// The caller has heard that it is here.
    told: bool,
}

/// How long a call waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For a provider; a key is asked for at least once.
    pub(crate) provider: Instant,
    /// For the bytes, once there was a provider; not before `provider`.
    pub(crate) whole: Instant,
}

impl Limits {
    fn of(&self, job: &Job) -> Instant {
        if job.found { self.whole } else { self.provider }
    }
}

/// Gets objects; one result each. `told` hears of each place whose object is here, at once.
pub(crate) fn run(
    shared: &Arc<Shared>,
    wanted: Vec<Result<Arc<Held>, PeerError>>,
    limits: Limits,
    told: &mut dyn FnMut(usize),
) -> Vec<Result<(), PeerError>> {
    assert!(
        limits.provider <= limits.whole,
        "bytes come from a provider"
    );
    let mut jobs: Vec<Job> = Vec::with_capacity(wanted.len());
    let mut places = Vec::with_capacity(wanted.len());
    for (place, object) in wanted.into_iter().enumerate() {
        places.push(object.map(|object| {
            let phase = admit(shared, &object);
            jobs.push(Job {
                object,
                number: 0,
                phase,
                place,
                found: false,
                told: false,
            });
            jobs.len() - 1
        }));
    }
    let mut question = FIRST_QUESTION;
    let mut is_first = limits.provider < limits.whole;
    loop {
        let now = Instant::now();
        let last = jobs.iter().filter(|job| !job.is_over());
        let last = last.map(|job| limits.of(job)).max();
        let Some(last) = last.filter(|last| is_first || now < *last) else {
            break;
        };
        let ended = if shared.lock().closing {
            Err(PeerError::Closed)
        } else {
            shared.device.check_alive().map_err(PeerError::from)
        };
        if let Err(error) = ended
            && close(&mut jobs, &error)
        {
            continue;
        }
        let left = last.saturating_duration_since(now);
        let wait = if is_first {
            question
        } else {
            question.min(left)
        };
        let asked = ask(shared, &mut jobs, wait);
        (question, is_first) = (QUESTION, false);
        give_up(shared, &mut jobs, limits);
        if !look(shared, &mut jobs) && !asked {
            rest(shared, &jobs, last);
        }
        tell(&mut jobs, told);
    }
    // What came in time counts, whenever it is seen.
    look(shared, &mut jobs);
    for job in &mut jobs {
        job.end(shared);
    }
    let mut results: Vec<Option<Result<(), PeerError>>> =
        jobs.into_iter().map(Job::into_result).map(Some).collect();
    places
        .into_iter()
        .map(|place| results[place?].take().expect("each place once"))
        .collect()
}

/// Who has found no provider in time is a miss, if nobody offers the object: an offer whose
/// provider is busy, or an answer that a busy machine delayed, is worth the rest of the time.
fn give_up(shared: &Shared, jobs: &mut [Job], limits: Limits) {
    if limits.provider == limits.whole || Instant::now() < limits.provider {
        return;
    }
    for job in jobs {
        if job.found || !matches!(job.phase, Phase::Wanted) {
            continue;
        }
        if matches!(shared.directory.shape(job.object.hash), Ok(Some(_))) {
            job.found = true;
        } else {
            job.phase = Phase::Over(Err(PeerError::Absent));
        }
    }
}

/// Tells of what has come. What failed is not told of before the end: it may still be written.
fn tell(jobs: &mut [Job], told: &mut dyn FnMut(usize)) {
    for job in jobs {
        if !job.told && matches!(job.phase, Phase::Over(Ok(()))) {
            job.told = true;
            told(job.place);
        }
    }
}

/// The port closes or its card is lost: nobody is asked any more; says whether anybody would have
/// been. What runs is ended by `look`.
fn close(jobs: &mut [Job], why: &PeerError) -> bool {
    let mut changed = false;
    for job in jobs {
        if matches!(job.phase, Phase::Wanted) {
            job.phase = Phase::Over(Err(why.clone()));
            changed = true;
        }
    }
    changed
}

impl Job {
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    fn into_result(self) -> Result<(), PeerError> {
        match self.phase {
            Phase::Over(result) => result,
            Phase::Wanted | Phase::Running => unreachable!("ended before"),
        }
    }

    /// Gives up what is not over: nothing writes into its blobs any more.
    fn end(&mut self, shared: &Shared) {
        match self.phase {
            Phase::Over(Ok(())) => return,
            Phase::Running => {
                withdraw(shared, self.number);
                let (card, hash) = (shared.card(), self.object.hash);
                drop(shared.directory.fail(card, hash, self.number, false));
            },
            Phase::Wanted | Phase::Over(Err(_)) => {},
        }
        let name = (self.object.hash.hi, self.object.hash.lo);
        let was_held = shared.change(|state| {
            let is_own = |held: &Arc<Held>| Arc::ptr_eq(held, &self.object);
            let is_own = state.objects.get(&name).is_some_and(is_own);
            is_own && state.objects.remove(&name).is_some()
        });
        if was_held {
            // Those that get it from here are told to ask others.
            let hashes = [self.object.hash];
            drop(shared.directory.leave(shared.card(), &hashes));
        }
        if !self.is_over() {
            self.phase = Phase::Over(Err(PeerError::Absent));
        }
    }
}

/// Takes an object in: from now on it may be served to others.
fn admit(shared: &Shared, object: &Arc<Held>) -> Phase {
    let name = (object.hash.hi, object.hash.lo);
    let own = shared.change(|state| {
        if state.closing {
            return Err(PeerError::Closed);
        }
        if let Some(own) = state.objects.get(&name) {
            return Ok(Some(Arc::clone(own)));
        }
        if object.lifetime == Lifetime::Reference {
            state.objects.insert(name, Arc::clone(object));
        }
        Ok(None)
    });
    match own {
        Err(error) => Phase::Over(Err(error)),
        Ok(None) => Phase::Wanted,
        Ok(Some(own)) => Phase::Over(copy_own(shared, &own, object)),
    }
}

/// The card has the object already: copies it within the card.
fn copy_own(shared: &Shared, own: &Held, object: &Held) -> Result<(), PeerError> {
    if object.lifetime == Lifetime::Move || own.lifetime == Lifetime::Move {
        return Err(PeerError::Invalid(
            "an object moves to another card than its own",
        ));
    }
    if own.shape != object.shape {
        return Err(PeerError::Mismatch {
            sender: own.shape.blobs(),
            receiver: object.shape.blobs(),
        });
    }
    if !own.is_whole() {
        return Err(PeerError::Exists);
    }
    let stream = shared.device.stream()?;
    let mut batch = CopyBatch::new(Direction::DeviceToDevice);
    for (from, to) in own.blobs.iter().zip(&object.blobs) {
        batch.push_local((&to.memory, to.at), (&from.memory, from.at), to.len)?;
    }
    stream.submit(batch, Submission::Each)?;
    Ok(stream.wait(Some(shared.options.stall))?)
}

/// Asks for providers of what has none; says whether anything was asked.
fn ask(shared: &Shared, jobs: &mut [Job], wait: Duration) -> bool {
    let mut asking: Vec<&mut Job> = jobs
        .iter_mut()
        .filter(|job| matches!(job.phase, Phase::Wanted))
        .collect();
    if asking.is_empty() {
        return false;
    }
    let mut wishes = Vec::with_capacity(asking.len());
    for job in &mut asking {
        job.number = shared.number();
        wishes.push(Wish {
            hash: job.object.hash,
            shape: job.object.shape.clone(),
            lifetime: job.object.lifetime,
            chunk_log2: 0,
            number: job.number,
            first: u32::try_from(job.object.have()).expect("bounded by CHUNKS_MAX"),
        });
        let incoming = Incoming {
            object: Arc::clone(&job.object),
            provider: None,
            moved: Instant::now(),
            failed: false,
            posted: None,
        };
        shared.lock().incoming.insert(job.number, incoming);
    }
    let taken = shared.directory.take(shared.card(), &wishes, wait);
    for (wish, taken) in wishes.iter().zip(&taken) {
        if taken.is_err() {
            // An answer that came too late, if it came: it was no grant.
            let given_up = shared
                .directory
                .fail(shared.card(), wish.hash, wish.number, false);
            drop(given_up);
        }
    }
    shared.change(|state| {
        for (job, taken) in asking.into_iter().zip(taken) {
            job.phase = granted(state, job, taken);
            job.found |= matches!(job.phase, Phase::Running);
        }
    });
    true
}

fn granted(state: &mut State, job: &Job, taken: Result<Taken, PeerError>) -> Phase {
    match taken {
        Ok(Taken::Granted {
            provider,
            chunk_log2,
        }) => {
            if !job.object.cut(chunk_log2) {
                // Another object under the same key, offered after a part of the first came: the
                // transfer ends with the transfers of this call.
                job.object.set_have(0);
            }
            let incoming = state.incoming.get_mut(&job.number);
            let incoming = incoming.expect("made before it was asked for");
            incoming.provider = Some(provider);
            incoming.moved = Instant::now();
            Phase::Running
        },
        other => {
            state.incoming.remove(&job.number);
            match other {
                Ok(Taken::Mismatch(sender)) => Phase::Over(Err(PeerError::Mismatch {
                    sender,
                    receiver: job.object.shape.blobs(),
                })),
                Err(error) if !error.is_passing() => Phase::Over(Err(error)),
                _ => Phase::Wanted,
            }
        },
    }
}

/// Looks what became of what runs; says whether anything changed.
fn look(shared: &Shared, jobs: &mut [Job]) -> bool {
    let stall = shared.options.stall;
    let mut changed = false;
    for job in jobs {
        if !matches!(job.phase, Phase::Running) {
            continue;
        }
        let is_posted = |incoming: &Incoming| incoming.posted.is_some();
        let (is_whole, failed, hopeless) = {
            let state = shared.lock();
            let incoming = state.incoming.get(&job.number);
            let stands = |incoming: &Incoming| incoming.moved.elapsed() >= stall;
            (
                // The receiver has let go of it too.
                job.object.is_whole() && incoming.is_none_or(|one| !is_posted(one)),
                incoming.is_none_or(|one| one.failed || stands(one)) || state.closing,
                incoming
                    .and_then(|one| state.unfit.get(&one.provider?))
                    .cloned(),
            )
        };
        if !is_whole && !failed {
            continue;
        }
        changed = true;
        withdraw(shared, job.number);
        let (card, hash) = (shared.card(), job.object.hash);
        // All of it may have come before its link broke.
        if job.object.is_whole() {
            job.phase = Phase::Over(finish(shared, job));
            continue;
        }
        drop(shared.directory.fail(card, hash, job.number, true));
        job.phase = if shared.lock().closing {
            Phase::Over(Err(PeerError::Closed))
        } else if let Some(error) = hopeless {
            Phase::Over(Err(error.into()))
        } else {
            Phase::Wanted
        };
    }
    changed
}

/// Every byte is here: tells the directory.
fn finish(shared: &Shared, job: &Job) -> Result<(), PeerError> {
    let (card, hash) = (shared.card(), job.object.hash);
    let told = shared.directory.done(card, hash, job.number);
    match told {
        Err(error) if error.is_gone() => {
            // Deleted meanwhile, or the transfer was given up there: the bytes are whole, but
            // nobody shall get them from here.
            if job.object.lifetime == Lifetime::Move {
                return Err(PeerError::Absent);
            }
            let name = (hash.hi, hash.lo);
            shared.change(|state| state.objects.remove(&name));
            drop(shared.directory.leave(card, &[hash]));
            Ok(())
        },
        other => other,
    }
}

/// Takes a transfer out of the tables; what is posted for it is drained before, by breaking its
/// link where need be.
fn withdraw(shared: &Shared, number: u64) {
    let until = Instant::now() + 2 * shared.options.stall;
    let mut state = shared.lock();
    let mut told = None;
    loop {
        let Some(incoming) = state.incoming.get_mut(&number) else {
            return;
        };
        incoming.failed = true;
        let posted = incoming.posted;
        let Some(link) = posted.filter(|_| Instant::now() < until) else {
            state.incoming.remove(&number);
            return;
        };
        if told != Some(link) {
            told = Some(link);
            if let Some(arriving) = state.arriving.get_mut(&link) {
                arriving.broken = true;
            }
            drop(state);
            shared.change(|_| ());
            shared.break_link(link);
            state = shared.lock();
            continue;
        }
        state = shared.wait(state, until);
    }
}

/// Waits until something happens to what runs.
fn rest(shared: &Shared, jobs: &[Job], deadline: Instant) {
    let stall = shared.options.stall;
    let state = shared.lock();
    let mut until = deadline;
    for job in jobs
        .iter()
        .filter(|job| matches!(job.phase, Phase::Running))
    {
        let Some(incoming) = state.incoming.get(&job.number) else {
            return;
        };
        if incoming.failed || (job.object.is_whole() && incoming.posted.is_none()) {
            return;
        }
        until = until.min(incoming.moved + stall);
    }
    drop(shared.wait(state, until));
}
