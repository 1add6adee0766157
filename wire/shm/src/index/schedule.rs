//! Random schedules: threads of which one runs at a time, chosen anew at each shared access.
//!
//! Loom tries every schedule of a few steps; this tries some schedules of many. A thread that takes
//! part calls [`point`] before each access (the index's lines do); there a random number decides
//! who goes on. The same seed gives the same schedule. Memory is sequentially consistent here: what
//! weaker orders do is loom's part.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// The threads of one schedule.
#[derive(Debug)]
pub(crate) struct Schedule {
    state: Mutex<State>,
    turns: Vec<Condvar>,
}

#[derive(Debug)]
struct State {
    random: u64,
    /// One point in so many hands over to another thread: 2 to 128, so that some schedules cut
    /// operations anywhere, and in others a whole one fits between two steps of another thread.
    run_mean: u64,
    current: usize,
    live: Vec<usize>,
}

thread_local! {
    static PLACE: RefCell<Option<(Arc<Schedule>, usize)>> = const { RefCell::new(None) };
}

impl State {
    fn below(&mut self, bound: u64) -> u64 {
        self.random = mix(self.random);
        self.random % bound
    }

    /// Chooses one of the other live threads, if there is one.
    fn choose_other(&mut self, place: usize) {
        let others = self.live.iter().filter(|&&live| live != place).count();
        if others > 0 {
            let chosen = self.below(others as u64);
            let mut others = self.live.iter().filter(|&&live| live != place);
            let other = others.nth(usize::try_from(chosen).expect("one of a few"));
            self.current = *other.expect("counted just now");
        }
    }
}

/// The next number of a sequence that visits all 64-bit numbers but zero.
pub(crate) fn mix(number: u64) -> u64 {
    let mut number = number.max(1);
    number ^= number << 13;
    number ^= number >> 7;
    number ^ (number << 17)
}

impl Schedule {
    /// Runs the bodies as threads under the schedule that `seed` gives.
    ///
    /// # Errors
    ///
    /// The panic of the first thread (by number) that had one.
    pub(crate) fn run(
        seed: u64,
        bodies: Vec<Box<dyn FnOnce() + Send>>,
    ) -> Result<(), Box<dyn std::any::Any + Send>> {
        let count = bodies.len();
        let schedule = Arc::new(Self {
            state: Mutex::new(State {
                random: mix(seed ^ 0x9e37_79b9_7f4a_7c15),
                run_mean: 2 << (seed % 7),
                current: 0,
                live: (0..count).collect(),
            }),
            turns: (0..count).map(|_| Condvar::new()).collect(),
        });
        let threads: Vec<_> = bodies
            .into_iter()
            .enumerate()
            .map(|(place, body)| {
                let schedule = Arc::clone(&schedule);
                thread::spawn(move || {
                    let _part = Part::take(schedule, place);
                    body();
                })
            })
            .collect();
        let ends: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
        ends.into_iter().collect()
    }

    /// Decides who goes on, and comes back when that is this thread.
    fn point(&self, place: usize, must_give_way: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(state.current, place, "one thread runs at a time");
        let run_mean = state.run_mean;
        if must_give_way || state.below(run_mean) == 0 {
            state.choose_other(place);
            self.turns[state.current].notify_one();
        }
        self.wait(state, place);
    }

    fn wait(&self, mut state: std::sync::MutexGuard<'_, State>, place: usize) {
        while state.current != place {
            state = self.turns[place]
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A thread's part in a schedule, from its first turn to its end.
struct Part;

impl Part {
    fn take(schedule: Arc<Schedule>, place: usize) -> Self {
        let state = schedule
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        schedule.wait(state, place);
        PLACE.set(Some((schedule, place)));
        Self
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let (schedule, place) = PLACE.take().expect("set when the part was taken");
        let mut state = schedule
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.choose_other(place);
        state.live.retain(|&live| live != place);
        schedule.turns[state.current].notify_one();
    }
}

/// A shared access is about to happen: another thread may come first. Nothing happens on a thread
/// that takes no part in a schedule.
pub(crate) fn point() {
    at_point(false);
}

/// Another thread, if there is one, comes first.
pub(crate) fn give_way() {
    at_point(true);
}

fn at_point(must_give_way: bool) {
    if thread::panicking() {
        return;
    }
    PLACE.with_borrow(|place| {
        if let Some((schedule, place)) = place {
            schedule.point(*place, must_give_way);
        }
    });
}
