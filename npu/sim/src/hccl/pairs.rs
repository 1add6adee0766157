//! Sends and receives: who pairs with whom, who waits for whom, and the bytes.
//!
//! Rules 10 and 12 of the device facts, 5.2. The nth send from one rank to another pairs with the
//! nth receive there. An operation is known to the board from its submission on, so that a stream
//! whose head waits for something queued behind another head can be seen: a cycle of such waits is
//! reported and its operations fail with 9, where the real library hangs.

use std::fs::OpenOptions;
use std::time::{Duration, Instant};

use chariot_ascend_rt_sys::sys;

use crate::board::{Blocked, Board, DONE, HEAD, MOVING, Operation, QUEUED, Tables};
use crate::config::config;
use crate::fault::{TaskFault, Works};
use crate::link::{self, Route};
use crate::memory::map_file;
use crate::{Code, fault, hccl, memory, state, stream};

/// Operations that the board knows; forgotten by it when this is dropped.
#[derive(Debug)]
pub(crate) struct Posted {
    ids: Vec<u64>,
    comm: u64,
}

impl Drop for Posted {
    fn drop(&mut self) {
        let board = Board::of_host();
        let mut tables = board.lock();
        for operation in &mut tables.operations {
            if self.ids.contains(&operation.id) && operation.id != 0 {
                operation.id = 0;
            }
        }
        drop(tables);
        board.changed();
    }
}

impl Posted {
    /// Nothing yet, on one communicator.
    pub(crate) fn on(comm: u64) -> Self {
        Self {
            ids: Vec::new(),
            comm,
        }
    }

    /// Adds an operation, and takes its turn in the order of its pair.
    pub(crate) fn add(&mut self, handle: u64, stream: u64, side: Side) -> Result<(), Code> {
        let mut comms = hccl::comms();
        let local = comms.get_mut(&handle).ok_or(sys::HCCL_E_PARA)?;
        let (device, offset) = memory::locate(side.buffer).ok_or(sys::HCCL_E_PARA)?;
        if side.peer >= local.ranks || side.peer == local.rank || side.bytes == 0 {
            return Err(sys::HCCL_E_PARA);
        }
        if device != local.device {
            return Err(sys::HCCL_E_PARA);
        }
        let board = Board::of_host();
        let mut tables = board.lock();
        let free = tables.operations.iter().position(|slot| slot.id == 0);
        let dead = || {
            tables
                .operations
                .iter()
                .position(|slot| !tables.lives(slot.process))
        };
        let free = free.or_else(dead).ok_or(sys::HCCL_E_MEMORY)?;
        let sequence = local.sequences.entry((side.send, side.peer)).or_insert(0);
        let id = tables.fresh_id();
        let (from, to) = if side.send {
            (local.rank, side.peer)
        } else {
            (side.peer, local.rank)
        };
        tables.operations[free] = Operation {
            id,
            process: board.process,
            stream,
            comm: local.comm,
            sequence: *sequence,
            bytes: side.bytes,
            offset,
            from,
            to,
            send: u32::from(side.send),
            device,
            data_type: side.data_type,
            state: QUEUED,
            ..Operation::default()
        };
        *sequence += 1;
        self.ids.push(id);
        Ok(())
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.ids.append(&mut other.ids);
    }
}

/// One side of a pair, as its caller names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    pub(crate) buffer: u64,
    pub(crate) bytes: u64,
    pub(crate) data_type: i32,
    pub(crate) peer: u32,
    pub(crate) send: bool,
}

/// The runtime's code for what the communicator answers.
fn runtime_code(code: Code) -> Code {
    match code {
        sys::HCCL_E_TIMEOUT => sys::ACL_ERROR_RT_TASK_TIMEOUT,
        sys::HCCL_E_REMOTE => sys::ACL_ERROR_RT_SUSPECT_REMOTE,
        _ => sys::ACL_ERROR_RT_INTERNAL_ERROR,
    }
}

fn matching(tables: &Tables, own: &Operation) -> Option<usize> {
    tables.operations.iter().position(|other| {
        other.id != 0
            && other.comm == own.comm
            && other.sequence == own.sequence
            && (other.from, other.to) == (own.from, own.to)
            && other.send != own.send
    })
}

/// Runs the operations at the head of a stream until all are over.
pub(crate) fn run(
    stream: u64,
    device: u32,
    posted: &Posted,
    start: u64,
    aborts: u64,
) -> (u64, Result<(), Code>) {
    let board = Board::of_host();
    let ordered = fault::on_task(device, Works::Pair);
    let remote = ordered == Some(TaskFault::Remote);
    {
        let mut tables = board.lock();
        for at in 0..tables.operations.len() {
            let operation = &mut tables.operations[at];
            if operation.id == 0 || !posted.ids.contains(&operation.id) {
                continue;
            }
            operation.state = HEAD;
            operation.time = start;
            // At once, under the lock: a partner that waits already must not pair with it.
            if remote {
                let partner = matching(&tables, &tables.operations[at]);
                for at in partner.into_iter().chain([at]) {
                    end(&mut tables, at, sys::HCCL_E_REMOTE);
                }
            }
        }
    }
    board.changed();
    if ordered == Some(TaskFault::KillPair) {
        fault::kill();
    }
    let begun = Instant::now();
    loop {
        let ticket = board.ticket();
        let (moves, over) = step(board, posted);
        if let Some((finish, error)) = over {
            return conclude(posted, finish, error);
        }
        if !moves.is_empty() {
            for (send, receive) in moves {
                transport(board, send, receive);
            }
            continue;
        }
        if stream::is_aborted(&state::lock(), stream, aborts) {
            return (start, Err(sys::ACL_ERROR_RT_STREAM_ABORT));
        }
        if begun.elapsed() >= config().exec_timeout {
            return conclude(posted, start, sys::HCCL_E_TIMEOUT);
        }
        if break_cycle(&mut board.lock(), (board.process, stream)) {
            board.changed();
            continue;
        }
        board.wait(ticket, Duration::from_millis(20));
    }
}

fn conclude(posted: &Posted, finish: u64, error: Code) -> (u64, Result<(), Code>) {
    let mut comms = hccl::comms();
    if let Some(local) = comms.values_mut().find(|local| local.comm == posted.comm) {
        if error == sys::HCCL_SUCCESS {
            local.completed += 1;
        } else {
            local.error = error;
        }
    }
    let outcome = if error == sys::HCCL_SUCCESS {
        Ok(())
    } else {
        Err(runtime_code(error))
    };
    (finish, outcome)
}

/// Ends of a transfer that this stream moves now.
type Move = (Operation, Operation);

/// Looks at the own operations once: pairs those whose partner is there, ends those whose partner
/// never comes. When all are over, says when, and with which code.
fn step(board: &Board, posted: &Posted) -> (Vec<Move>, Option<(u64, Code)>) {
    let mut tables = board.lock();
    let own = |slot: &Operation| slot.id != 0 && posted.ids.contains(&slot.id);
    let slots: Vec<usize> = (0..tables.operations.len())
        .filter(|at| own(&tables.operations[*at]))
        .collect();
    let mut moves = Vec::new();
    for at in &slots {
        let operation = tables.operations[*at];
        let partner = matching(&tables, &operation);
        if operation.state != HEAD {
            let lost = operation.state == MOVING && !mover_lives(&tables, &operation);
            if lost {
                end(&mut tables, *at, sys::HCCL_E_REMOTE);
            }
            continue;
        }
        match partner {
            Some(partner) if tables.operations[partner].state == HEAD => {
                let other = tables.operations[partner];
                if (other.bytes, other.data_type) != (operation.bytes, operation.data_type) {
                    crate::log("a send and its receive differ in size or type");
                    end(&mut tables, *at, sys::HCCL_E_PARA);
                    end(&mut tables, partner, sys::HCCL_E_PARA);
                    continue;
                }
                for slot in [*at, partner] {
                    tables.operations[slot].state = MOVING;
                    tables.operations[slot].mover = board.process;
                }
                moves.push(if operation.send == 1 {
                    (operation, other)
                } else {
                    (other, operation)
                });
            },
            Some(partner) if !tables.lives(tables.operations[partner].process) => {
                end(&mut tables, *at, sys::HCCL_E_REMOTE);
            },
            _ if broken(&tables, &operation) != sys::HCCL_SUCCESS => {
                let error = broken(&tables, &operation);
                end(&mut tables, *at, error);
            },
            Some(_) => {},
            None => {
                if !peer_lives(&tables, &operation) {
                    end(&mut tables, *at, sys::HCCL_E_REMOTE);
                }
            },
        }
    }
    let over = conclusion(&tables, &slots);
    drop(tables);
    board.changed_if(!moves.is_empty() || over.is_some());
    (moves, over)
}

/// When the last of the operations ended, and how; nothing while one is not over.
fn conclusion(tables: &Tables, slots: &[usize]) -> Option<(u64, Code)> {
    let done = |at: &usize| tables.operations[*at].state == DONE;
    slots.iter().all(done).then(|| {
        let ends = slots.iter().map(|at| &tables.operations[*at]);
        let finish = ends
            .clone()
            .map(|operation| operation.time)
            .max()
            .unwrap_or(0);
        let error = ends
            .map(|operation| operation.error)
            .find(|error| *error != 0);
        (finish, error.unwrap_or(sys::HCCL_SUCCESS))
    })
}

/// Ends an operation with a code, which the communicator keeps: its later operations end likewise.
fn end(tables: &mut Tables, at: usize, error: Code) {
    let comm = tables.operations[at].comm;
    if let Some(comm) = tables.comms.iter_mut().find(|slot| slot.id == comm)
        && comm.error == 0
    {
        comm.error = i64::from(error);
    }
    tables.operations[at].state = DONE;
    tables.operations[at].error = error;
}

fn broken(tables: &Tables, operation: &Operation) -> Code {
    let comm = tables.comms.iter().find(|comm| comm.id == operation.comm);
    comm.map_or(sys::HCCL_SUCCESS, |comm| comm.error as Code)
}

fn mover_lives(tables: &Tables, operation: &Operation) -> bool {
    tables.lives(operation.mover)
}

fn peer_lives(tables: &Tables, operation: &Operation) -> bool {
    let peer = if operation.send == 1 {
        operation.to
    } else {
        operation.from
    };
    let comm = tables.comms.iter().find(|comm| comm.id == operation.comm);
    comm.is_some_and(|comm| tables.lives(comm.members[peer as usize].process))
}

/// Where an operation's bytes are in this process: its own memory, or a passing look at the
/// other's.
fn view(board: &Board, operation: &Operation) -> Result<(usize, usize), Code> {
    let len = operation.bytes as usize;
    if operation.process == board.process {
        let state = state::lock();
        let device = state
            .devices
            .get(&operation.device)
            .ok_or(sys::HCCL_E_RUNTIME)?;
        let at = device.bytes(operation.offset, operation.bytes);
        return at.map(|at| (at, 0)).map_err(|_| sys::HCCL_E_MEMORY);
    }
    let pid = board
        .lock()
        .pid_of(operation.process)
        .ok_or(sys::HCCL_E_REMOTE)?;
    let path = Board::memory_path(pid, operation.device);
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|_| sys::HCCL_E_REMOTE)?;
    let map = map_file(&file, operation.offset, len).ok_or(sys::HCCL_E_REMOTE)?;
    Ok((map.as_ptr() as usize, len))
}

fn transport(board: &Board, send: Operation, receive: Operation) {
    let start = send.time.max(receive.time) + config().preset.task_ns;
    let views = view(board, &send).and_then(|from| Ok((from, view(board, &receive)?)));
    let error = match views {
        Ok((from, to)) => {
            // SAFETY: both views are `bytes` long: a live block, or a mapping made for this.
            unsafe {
                std::ptr::copy(from.0 as *const u8, to.0 as *mut u8, send.bytes as usize);
            }
            for (at, len) in [from, to] {
                memory::unmap(at, len);
            }
            sys::HCCL_SUCCESS
        },
        Err(code) => code,
    };
    let route = if send.device == receive.device {
        Route::Local(send.device)
    } else {
        Route::Peer {
            from: send.device,
            to: receive.device,
        }
    };
    let finish = link::reserve(config().preset, route, send.bytes, start);
    let mut tables = board.lock();
    for operation in &mut tables.operations {
        if operation.id == send.id || operation.id == receive.id {
            operation.state = DONE;
            operation.error = error;
            operation.time = finish;
        }
    }
    drop(tables);
    board.changed();
}

/// A stream of a process.
type Node = (u64, u64);

/// For whom each stream's head waits, as far as the board knows.
fn edges(tables: &Tables) -> Vec<(Node, Node)> {
    let mut edges = Vec::new();
    for operation in tables
        .operations
        .iter()
        .filter(|slot| slot.id != 0 && slot.state == HEAD)
    {
        if let Some(partner) = matching(tables, operation)
            && tables.operations[partner].state == QUEUED
        {
            let other = &tables.operations[partner];
            edges.push((
                (operation.process, operation.stream),
                (other.process, other.stream),
            ));
        }
    }
    for blocked in tables.blocked.iter().filter(|blocked| blocked.process != 0) {
        let process = blocked.process;
        edges.push(((process, blocked.stream), (process, blocked.on)));
    }
    edges
}

/// A cycle of waits through `from`, if there is one.
fn cycle(edges: &[(Node, Node)], from: Node) -> Option<Vec<Node>> {
    let mut paths = vec![vec![from]];
    let mut seen = vec![from];
    while let Some(path) = paths.pop() {
        let last = *path.last()?;
        for (_, next) in edges.iter().filter(|(waiter, _)| *waiter == last) {
            if *next == from {
                return Some(path);
            }
            if !seen.contains(next) {
                seen.push(*next);
                paths.push([path.as_slice(), &[*next]].concat());
            }
        }
    }
    None
}

/// Reports a cycle of waits through a stream and fails its operations. False when there is none.
fn break_cycle(tables: &mut Tables, from: Node) -> bool {
    let Some(cycle) = cycle(&edges(tables), from) else {
        return false;
    };
    crate::count("deadlocks");
    let name = |node: &Node| format!("stream {:x} of {}", node.1 & 0xffff_ffff, node.0);
    let names: Vec<String> = cycle.iter().map(name).collect();
    crate::log(&format!(
        "deadlock: {} waits for itself",
        names.join(" waits for ")
    ));
    for at in 0..tables.operations.len() {
        let operation = &tables.operations[at];
        let within = cycle.contains(&(operation.process, operation.stream));
        if operation.id != 0 && within && operation.state == HEAD {
            end(tables, at, sys::HCCL_E_TIMEOUT);
        }
    }
    true
}

/// Says that a stream waits for another one of this process.
pub(crate) fn block(stream: u64, on: u64) {
    let board = Board::of_host();
    let mut tables = board.lock();
    let process = board.process;
    let known = |slot: &Blocked| slot.process == process && slot.stream == stream;
    if tables.blocked.iter().any(known) {
        return;
    }
    if let Some(slot) = tables.blocked.iter_mut().find(|slot| slot.process == 0) {
        *slot = Blocked {
            process,
            stream,
            on,
        };
    }
    drop(tables);
    board.changed();
}

/// Says that a stream waits no longer.
pub(crate) fn unblock(stream: u64) {
    let board = Board::of_host();
    let mut tables = board.lock();
    for slot in &mut tables.blocked {
        if slot.process == board.process && slot.stream == stream {
            slot.process = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found_through_other_processes_alone() {
        let (a, b, c, d) = ((1, 1), (2, 1), (3, 1), (3, 2));
        let waits = [(a, b), (b, c), (c, a), (d, a)];
        assert_eq!(cycle(&waits, a), Some(vec![a, b, c]));
        assert_eq!(
            cycle(&waits, d),
            None,
            "it waits for a cycle, but is not in it"
        );
        assert_eq!(cycle(&waits[..2], a), None);
        assert_eq!(cycle(&[(a, a)], a), Some(vec![a]));
    }
}
