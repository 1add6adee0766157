//! Faults on order: from `ASCEND_SIM_FAULTS`, or from a test through `asim_fault`.
//!
//! A list with commas; `N` counts from 1 and from the order on:
//! - `fail:SYMBOL:N:CODE`: the Nth call of a function answers the code.
//! - `task:CARD:N:CODE`: the Nth task of a card fails with it (507056 is a broken link).
//! - `lost:CARD:N`: at the Nth task the card is lost: 507010 from then on, and its status is
//!   abnormal.
//! - `hang:CARD:N`: the Nth task does not end until its stream is aborted.
//! - `flip:CARD:N`: the Nth task that copies turns one bit.
//! - `remote:CARD:N`: the Nth send or receive of a card fails with 21 on both ends.
//! - `oom:CARD:BYTES`: the card has that much memory.
//! - `stub`: every function answers 100039.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once, PoisonError};

use chariot_ascend_rt_sys::sys;

use crate::Code;
use crate::config::config;

#[derive(Debug, Default)]
struct Orders {
    calls: Vec<(String, u64, Code)>,
    tasks: Vec<(u32, u64, TaskFault)>,
    limits: BTreeMap<u32, u64>,
    stub: bool,
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskFault {
    Fail(Code),
    Lost,
    Hang,
    Flip,
    Remote,
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
        let code = parts.next()?.parse().ok()?;
        orders.calls.push((subject.to_owned(), number, code));
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
    look(&mut ORDERS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What a call of `symbol` is to answer, if it is to fail.
pub(crate) fn on_call(symbol: &str) -> Option<Code> {
    with(|orders| {
        if orders.stub {
            return Some(sys::ACL_ERROR_COMPILING_STUB_MODE);
        }
        let mut due = None;
        orders.calls.retain_mut(|(name, left, code)| {
            if name != symbol {
                return true;
            }
            *left = left.saturating_sub(1);
            if *left == 0 {
                due = Some(*code);
            }
            *left > 0
        });
        due
    })
}

/// What becomes of a card's next task.
pub(crate) fn on_task(device: u32, copies: bool, pairs: bool) -> Option<TaskFault> {
    with(|orders| {
        let mut due = None;
        orders.tasks.retain_mut(|(card, left, fault)| {
            let meant = match fault {
                TaskFault::Flip => copies,
                TaskFault::Remote => pairs,
                TaskFault::Fail(_) | TaskFault::Lost | TaskFault::Hang => true,
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
    })
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
