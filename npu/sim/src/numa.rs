//! NUMA nodes of the simulated host: on which one a card hangs, and on which one memory is.
//!
//! A part of rule 13 of the device facts, 5.2: memory of another node is reached at a fraction of
//! the link's rate. `kernel` asks the kernel where a page is. A list of CPUs makes nodes on a
//! machine that has one: memory that the runtime allocates is then on the node of the CPU that the
//! calling thread runs on, as it is where pages are locked at once. What nobody can tell is near.

use std::ffi::c_void;

use crate::config::config;
use crate::state::{HostRange, State};

/// How nodes of host memory are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Numa {
    /// One node.
    #[default]
    One,
    /// The kernel's own.
    Kernel,
    /// The CPUs of each node.
    Cpus(Vec<Vec<usize>>),
}

impl Numa {
    /// Parses `kernel`, or `0-1,4/2-3`: the CPUs of node 0, of node 1.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "kernel" {
            return Some(Self::Kernel);
        }
        let nodes: Option<Vec<_>> = text.split('/').map(parse_cpus).collect();
        nodes.map(Self::Cpus)
    }

    /// On which node memory is that a thread on `cpu` allocates.
    fn node_of_cpu(&self, cpu: usize) -> Option<u32> {
        let Self::Cpus(nodes) = self else {
            return None;
        };
        let node = nodes.iter().position(|cpus| cpus.contains(&cpu))?;
        u32::try_from(node).ok()
    }
}

fn parse_cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        cpus.extend(first..=last.min(first + 4096));
    }
    Some(cpus)
}

/// On which node memory is that the calling thread allocates now, and its pages with it.
pub(crate) fn settle(memory: *mut u8, len: usize) -> Option<u32> {
    match &config().numa {
        Numa::One => None,
        Numa::Kernel => {
            // SAFETY: the caller has just allocated this range and nobody else has it. A card locks
            // pages, so they are there at once, where the thread's policy puts them.
            unsafe { std::ptr::write_bytes(memory, 0, len) };
            None
        },
        numa @ Numa::Cpus(_) => {
            // SAFETY: the call has no conditions.
            let cpu = unsafe { libc::sched_getcpu() };
            numa.node_of_cpu(usize::try_from(cpu).ok()?)
        },
    }
}

/// The node of the page at an address, as the kernel says.
fn node_of_page(address: u64) -> Option<u32> {
    let page = address as *mut c_void;
    let mut status: libc::c_int = -1;
    let nowhere: *const libc::c_int = std::ptr::null();
    // SAFETY: without nodes to move to, the call only asks where one page of this process is; the
    // page's address and the answer are locals.
    let code = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            1_usize,
            &raw const page,
            nowhere,
            &raw mut status,
            0,
        )
    };
    let node = u32::try_from(status).ok().filter(|_| code == 0);
    if node.is_none() {
        crate::count("node_unknown");
    }
    node
}

/// Is host memory on another node than a card?
pub(crate) fn is_far(state: &State, address: u64, device: u32) -> bool {
    let config = config();
    let node = match &config.numa {
        Numa::One => None,
        Numa::Kernel => node_of_page(address),
        Numa::Cpus(_) => state
            .host_range(address, 1)
            .and_then(|range: &HostRange| range.node),
    };
    let nodes = &config.card_nodes;
    let at = nodes.len().saturating_sub(1).min(device as usize);
    let far = node.is_some_and(|node| node != nodes.get(at).copied().unwrap_or(0));
    if far {
        crate::count("far_copies");
    }
    far
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_and_found() {
        assert_eq!(Numa::parse("kernel"), Some(Numa::Kernel));
        let numa = Numa::parse("0-1,4/2-3").unwrap();
        let nodes = [0, 1, 2, 3, 4, 5].map(|cpu| numa.node_of_cpu(cpu));
        assert_eq!(nodes, [Some(0), Some(0), Some(1), Some(1), Some(0), None]);
        assert_eq!(Numa::parse("0/x"), None);
        assert_eq!(Numa::One.node_of_cpu(0), None);
    }
}
