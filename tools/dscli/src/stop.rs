//! `stop`: asks a node to drain and end, and ends it when it does not.

use std::time::Duration;

use rustix::process::Signal;

use crate::arguments::StopOrder;
use crate::error::CliError;
use crate::{mapping, nodes, say_info, say_warning};

/// How long the kernel may take to end a process that was killed.
const KILL_WITHIN: Duration = Duration::from_secs(30);

/// Stops the node.
///
/// # Errors
/// There is none, or it is another user's.
pub(crate) fn run(order: &StopOrder) -> Result<(), CliError> {
    let address = match &order.address {
        Ok(address) => address.clone(),
        Err(file) => mapping::address_of(&mapping::read_file(file)?)?,
    };
    let node = nodes::find(&address).ok_or_else(|| CliError::NoNode(address.clone()))?;
    node.signal(Signal::TERM)?;
    let pid = node.pid;
    if node.ended_within(order.within) {
        say_info(&format!(
            "[  OK  ] Stop worker service @ {address} normally, PID: {pid}"
        ));
        return Ok(());
    }
    say_warning(&format!(
        "{address} did not end within {} s: killing it",
        order.within.as_secs()
    ));
    node.signal(Signal::KILL)?;
    if node.ended_within(KILL_WITHIN) {
        say_info(&format!(
            "[  OK  ] Stop worker service @ {address} by force, PID: {pid}"
        ));
        Ok(())
    } else {
        Err(CliError::NotStarted {
            address,
            cause: format!("PID {pid} does not end: the kernel holds it"),
        })
    }
}
