//! What tests change in a look-up: steps left out, and something done between two steps.
//!
//! Each step that defends against a race is left out by a test that must then fail: the proof that
//! the others can. In a product build every function here is empty or constant. Under the feature
//! `testing`, for tests with real processes, the variable `CHARIOT_SWITCH` says what to leave out
//! (`skip-fence`, `skip-recheck` or `skip-life`), and `CHARIOT_PAUSE` after how many look-ups one
//! stands still between look-up and pin, long enough for others to reuse what was found.

/// A step to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// The fence between pins and re-checks.
    Fence,
    /// The re-check of the record.
    Recheck,
    /// The look at the daemon's life word, wherever it is looked at.
    Life,
}

#[cfg(not(any(test, feature = "testing")))]
mod product {
    use chariot_shm::PinTable;

    use super::Switch;

    #[inline]
    pub(in super::super) const fn is_off(_switch: Switch) -> bool {
        true
    }

    /// The fence between pins and re-checks.
    #[inline]
    pub(in super::super) fn fence(pins: &PinTable) {
        if is_off(Switch::Fence) {
            pins.fence();
        }
    }

    #[inline]
    pub(in super::super) const fn between_find_and_pin() {}

    #[inline]
    pub(in super::super) const fn between_recheck_and_life() {}
}

#[cfg(not(any(test, feature = "testing")))]
pub(super) use self::product::{between_find_and_pin, between_recheck_and_life, fence, is_off};

#[cfg(any(test, feature = "testing"))]
mod changed {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use chariot_shm::PinTable;

    use super::Switch;

    type Hook = Option<Box<dyn FnOnce()>>;

    thread_local! {
        static SWITCH: Cell<Option<Switch>> = Cell::new(of_environment());
        static PAUSE_EVERY: Cell<u64> = Cell::new(pause_of_environment());
        static LOOK_UPS: Cell<u64> = const { Cell::new(0) };
        static FENCES: Cell<u64> = const { Cell::new(0) };
        static AFTER_FIND: RefCell<Hook> = const { RefCell::new(None) };
        static AFTER_RECHECK: RefCell<Hook> = const { RefCell::new(None) };
    }

    fn pause_of_environment() -> u64 {
        std::env::var("CHARIOT_PAUSE").map_or(0, |every| every.parse().expect("a number"))
    }

    fn of_environment() -> Option<Switch> {
        match std::env::var("CHARIOT_SWITCH").ok()?.as_str() {
            "skip-fence" => Some(Switch::Fence),
            "skip-recheck" => Some(Switch::Recheck),
            "skip-life" => Some(Switch::Life),
            other => panic!("CHARIOT_SWITCH is {other}, which is no switch"),
        }
    }

    pub(in super::super) fn is_off(switch: Switch) -> bool {
        SWITCH.get() != Some(switch)
    }

    /// The fence between pins and re-checks, counted.
    pub(in super::super) fn fence(pins: &PinTable) {
        if is_off(Switch::Fence) {
            pins.fence();
            FENCES.set(FENCES.get() + 1);
        }
    }

    /// How many fences this thread has taken.
    #[cfg(test)]
    pub(in super::super) fn fences() -> u64 {
        FENCES.get()
    }

    /// How long a look-up stands still that does.
    const PAUSE: Duration = Duration::from_millis(100);

    pub(in super::super) fn between_find_and_pin() {
        run(AFTER_FIND.take());
        let every = PAUSE_EVERY.get();
        if every != 0 {
            LOOK_UPS.set(LOOK_UPS.get() + 1);
            if LOOK_UPS.get().is_multiple_of(every) {
                std::thread::park_timeout(PAUSE);
            }
        }
    }

    pub(in super::super) fn between_recheck_and_life() {
        run(AFTER_RECHECK.take());
    }

    fn run(hook: Hook) {
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Leaves a step out on this thread, or none.
    #[cfg(test)]
    pub(in super::super) fn leave_out(switch: Option<Switch>) {
        SWITCH.set(switch);
    }

    /// Does something once, when this thread's next look-up has found a value and not pinned it.
    #[cfg(test)]
    pub(in super::super) fn after_find(hook: impl FnOnce() + 'static) {
        AFTER_FIND.set(Some(Box::new(hook)));
    }

    /// Does something once, after this thread's next look-up has re-checked its records.
    #[cfg(test)]
    pub(in super::super) fn after_recheck(hook: impl FnOnce() + 'static) {
        AFTER_RECHECK.set(Some(Box::new(hook)));
    }
}

#[cfg(test)]
pub(super) use self::changed::{after_find, after_recheck, fences, leave_out};
#[cfg(any(test, feature = "testing"))]
pub(super) use self::changed::{between_find_and_pin, between_recheck_and_life, fence, is_off};
