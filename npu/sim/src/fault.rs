//! Faults on order: from `ASCEND_SIM_FAULTS`, from a file, or from a test through `asim_fault`.
//!
//! The file that `ASCEND_SIM_FAULTS_FILE` names is taken, and is gone then, at the next call or
//! task after it has come; who orders renames it into its place, one process a file.
//!
//! A list with commas; `N` counts from 1 and from the order on:
//! - `fail:SYMBOL:N:CODE`: the Nth call of a function answers the code.
//! - `task:CARD:N:CODE`: the Nth task of a card fails with it (507056 is a broken link).
//! - `lost:CARD:N`: at the Nth task the card is lost: 507010 from then on, and its status is
//!   abnormal.
//! - `hang:CARD:N`: the Nth task does not end until its stream is aborted.
//! - `flip:CARD:N`: the Nth task that copies turns one bit.
//! - `remote:CARD:N`: the Nth send or receive of a card fails with 21 on both ends.
//! - `kill:SYMBOL:N`: the Nth call of a function kills the process, as `kill -9` does.
//! - `killtask:CARD:N`: the Nth task of a card does so when it begins.
//! - `killpair:CARD:N`: the Nth send or receive of a card does so at the head of its stream, where
//!   the other end can see it.
//! - `oom:CARD:BYTES`: the card has that much memory.
//! - `stub`: every function answers 100039.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};

use chariot_ascend_rt_sys::sys;

use crate::Code;
use crate::config::config;

#[derive(Debug, Default)]
struct Orders {
    calls: Vec<(String, u64, CallFault)>,
    tasks: Vec<(u32, u64, TaskFault)>,
    limits: BTreeMap<u32, u64>,
    stub: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallFault {
    Fail(Code),
    Kill,
}

/// What a task is, as faults tell tasks apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Works {
    Copy,
    /// Any other task that begins.
    Other,
    /// A send or receive at the head of its stream; it began before.
    Pair,
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskFault {
    Fail(Code),
    Lost,
    Hang,
    Flip,
    Remote,
    Kill,
    KillPair,
}

static ORDERS: Mutex<Orders> = Mutex::new(Orders {
    calls: Vec::new(),
    tasks: Vec::new(),
    limits: BTreeMap::new(),
    stub: false,
});

fn parse(order: &str, orders: &mut Orders) -> Option<()> {
    let mut parts = order.trim().split(':');
    let verb = parts.next()?;
    if verb == "stub" {
        orders.stub = true;
        return Some(());
    }
    let subject = parts.next()?;
    let number: u64 = parts.next()?.parse().ok()?;
    if verb == "fail" {
        let code = CallFault::Fail(parts.next()?.parse().ok()?);
        orders.calls.push((subject.to_owned(), number, code));
        return Some(());
    }
    if verb == "kill" {
        orders
            .calls
            .push((subject.to_owned(), number, CallFault::Kill));
        return Some(());
    }
    let card: u32 = subject.parse().ok()?;
    let fault = match verb {
        "oom" => {
            orders.limits.insert(card, number);
            return Some(());
        },
        "task" => TaskFault::Fail(parts.next()?.parse().ok()?),
        "lost" => TaskFault::Lost,
        "hang" => TaskFault::Hang,
        "flip" => TaskFault::Flip,
        "remote" => TaskFault::Remote,
        "killtask" => TaskFault::Kill,
        "killpair" => TaskFault::KillPair,
        _ => return None,
    };
    orders.tasks.push((card, number.max(1), fault));
    Some(())
}

/// Takes a list of orders. False when one of them is not understood; those before it stand.
pub(crate) fn order(list: &str) -> bool {
    let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    list.split(',')
        .filter(|order| !order.trim().is_empty())
        .all(|order| parse(order, &mut orders).is_some())
}

/// Obeys a file of orders, if there is one now. It is this process's alone once it has its new
/// name.
fn take_file(path: &Path) {
    let mut own = path.as_os_str().to_owned();
    own.push(format!(".taken-{}", std::process::id()));
    if std::fs::rename(path, &own).is_err() {
        return;
    }
    let list = std::fs::read_to_string(&own).unwrap_or_default();
    let _ = std::fs::remove_file(&own);
    if !order(&list) {
        crate::log(&format!("the faults {} are not understood", list.trim()));
    }
}

/// Ends the process as another one's `kill -9` does.
pub(crate) fn kill() -> ! {
    crate::log("killed on order");
    loop {
        // SAFETY: no handler can see this signal, and nothing is returned to.
        unsafe { libc::raise(libc::SIGKILL) };
    }
}

fn with<T>(look: impl FnOnce(&mut Orders) -> T) -> T {
    static FROM_ENVIRONMENT: Once = Once::new();
    FROM_ENVIRONMENT.call_once(|| {
        if !order(&config().faults) {
            crate::log(&format!(
                "ASCEND_SIM_FAULTS={} is not understood",
                config().faults
            ));
        }
    });
    if let Some(path) = &config().faults_file {
        take_file(path);
    }
    look(&mut ORDERS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What a call of `symbol` is to answer, if it is to fail.
pub(crate) fn on_call(symbol: &str) -> Option<Code> {
    let due = with(|orders| {
        if orders.stub {
            return Some(CallFault::Fail(sys::ACL_ERROR_COMPILING_STUB_MODE));
        }
        let mut due = None;
        orders.calls.retain_mut(|(name, left, fault)| {
            if name != symbol {
                return true;
            }
            *left = left.saturating_sub(1);
            if *left == 0 {
                due = Some(*fault);
            }
            *left > 0
        });
        due
    });
    match due? {
        CallFault::Fail(code) => Some(code),
        CallFault::Kill => kill(),
    }
}

/// What becomes of a card's next task.
pub(crate) fn on_task(device: u32, works: Works) -> Option<TaskFault> {
    let due = with(|orders| {
        let mut due = None;
        orders.tasks.retain_mut(|(card, left, fault)| {
            let meant = match fault {
                TaskFault::Flip => works == Works::Copy,
                TaskFault::Remote | TaskFault::KillPair => works == Works::Pair,
                TaskFault::Fail(_) | TaskFault::Lost | TaskFault::Hang | TaskFault::Kill => {
                    works != Works::Pair
                },
            };
            if *card != device || !meant {
                return true;
            }
            *left -= 1;
            if *left == 0 {
                due = Some(*fault);
            }
            *left > 0
        });
        due
    });
    if due == Some(TaskFault::Kill) {
        kill();
    }
    due
}

/// A smaller memory, if one was ordered.
pub(crate) fn hbm_limit(device: u32) -> Option<u64> {
    with(|orders| orders.limits.get(&device).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_nobody_understands_are_refused() {
        let mut orders = Orders::default();
        for bad in ["fail:x", "lost:a:1", "what:0:1", "task:0:1", "fail:x:1"] {
            assert_eq!(parse(bad, &mut orders), None, "{bad}");
        }
        assert_eq!(parse("task:0:2:507056", &mut orders), Some(()));
        assert_eq!(orders.tasks, [(0, 2, TaskFault::Fail(507_056))]);
    }
}
