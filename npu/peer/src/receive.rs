//! A receiver: one thread for each link that ends here. It sets its end up, then posts receives in
//! the order of their tickets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use chariot_client::device::DevicePort;
use chariot_device::{DeviceError, Invitation, LinkEnd, LinkPart, PeerLink};

use crate::error::PeerError;
use crate::object::Held;
use crate::send::{LOOK, hear, join, post, wait};
use crate::state::{Receive, Shared};

/// Runs until the link is broken or the port closes.
pub(crate) fn run(shared: &Arc<Shared>, number: u64, peer: DevicePort) {
    let met = meet(shared, number);
    let mut ended = Ok(());
    if let Ok(link) = &met {
        shared.change(|state| state.unfit.remove(&peer));
        shared.links_made.fetch_add(1, Ordering::Relaxed);
        while let Some(receive) = next(shared, number) {
            ended = receive_chunks(shared, (number, link), peer, receive);
            if ended.is_err() {
                break;
            }
        }
        // What is under way writes into memory until it is aborted.
        drop(link.abort());
    }
    let own = own_failure(met.map(drop).and(ended));
    let was_broken = shared.change(|state| {
        let arriving = state.arriving.remove(&number);
        if let Some(own) = own {
            state.unfit.insert(peer, own);
        }
        for incoming in state.incoming.values_mut() {
            if incoming.posted == Some(number) {
                incoming.posted = None;
            }
            incoming.failed |= incoming.provider == Some(peer);
        }
        arriving.is_some_and(|arriving| arriving.broken)
    });
    if !was_broken {
        shared.break_link(number);
    }
}

fn meet(shared: &Shared, number: u64) -> Result<PeerLink, PeerError> {
    let until = Instant::now() + shared.options.stall;
    shared.device.check_link()?;
    let invitation = hear(
        until,
        |wait| shared.directory.invitation(number, wait),
        || is_over(shared, number),
    )?;
    let invitation = Invitation::from_bytes(invitation);
    shared.directory.accept(number, 2 * shared.options.stall)?;
    let link = join(shared, &invitation, LinkEnd::Second, until)?;
    shared.directory.joined(shared.card(), number)?;
    Ok(link)
}

/// Whether nobody wants the link any more.
fn is_over(shared: &Shared, number: u64) -> bool {
    let state = shared.lock();
    let arriving = state.arriving.get(&number);
    state.closing || arriving.is_none_or(|arriving| arriving.broken)
}

/// What no other provider could mend: this card's own failure.
fn own_failure(ended: Result<(), PeerError>) -> Option<DeviceError> {
    match ended {
        Err(PeerError::Device(
            error @ (DeviceError::Lost { .. }
            | DeviceError::DeviceMemory { .. }
            | DeviceError::Full { .. }
            | DeviceError::Unsupported { .. }),
        )) => Some(error),
        _ => None,
    }
}

/// Waits for what is to be received next; nothing when the link is over.
fn next(shared: &Shared, number: u64) -> Option<Receive> {
    let mut state = shared.lock();
    loop {
        if state.closing {
            return None;
        }
        let arriving = state.arriving.get_mut(&number)?;
        if arriving.broken {
            return None;
        }
        if let Some(receive) = arriving.receives.pop_front() {
            return Some(receive);
        }
        state = shared.wait(state, Instant::now() + LOOK * 10);
    }
}

fn receive_chunks(
    shared: &Shared,
    (number, link): (u64, &PeerLink),
    peer: DevicePort,
    receive: Receive,
) -> Result<(), PeerError> {
    let object = begin(shared, number, peer, receive)?;
    let mut ticket = receive.ticket;
    let first = u64::from(receive.first);
    for chunk in first..first + u64::from(receive.count) {
        let pieces = object.pieces(chunk);
        let mut bytes = 0;
        for piece in &pieces {
            let part = LinkPart::Receive {
                memory: object.blobs[piece.blob].memory.clone(),
                at: piece.at,
                len: piece.len,
            };
            post(link, ticket, part)?;
            ticket += 1;
            bytes += piece.len as u64;
        }
        wait(link, ticket - 1, shared.options.stall, || {
            is_over(shared, number)
        })?;
        shared.bytes_received.fetch_add(bytes, Ordering::Relaxed);
        shared.change(|state| {
            object.set_have(chunk + 1);
            if let Some(incoming) = state.incoming.get_mut(&receive.number) {
                incoming.moved = Instant::now();
            }
        });
    }
    shared.change(|state| {
        if let Some(incoming) = state.incoming.get_mut(&receive.number) {
            incoming.posted = None;
        }
    });
    Ok(())
}

/// Finds the transfer of some chunks and checks that they are the ones that come next. A sender
/// that sends anything else has its link broken: nobody else is harmed.
fn begin(
    shared: &Shared,
    number: u64,
    peer: DevicePort,
    receive: Receive,
) -> Result<Arc<Held>, PeerError> {
    let until = Instant::now() + shared.options.stall;
    let mut state = shared.lock();
    loop {
        let closing = state.closing;
        let Some(incoming) = state.incoming.get_mut(&receive.number) else {
            // Given up here: the bytes have no place to go.
            return Err(PeerError::Absent);
        };
        if incoming.failed {
            return Err(PeerError::Absent);
        }
        match incoming.provider {
            Some(provider) if provider == peer => {
                let object = &incoming.object;
                let end = u64::from(receive.first) + u64::from(receive.count);
                if u64::from(receive.first) != object.have() || end > object.chunks() {
                    return Err(PeerError::Invalid("chunks out of turn"));
                }
                incoming.posted = Some(number);
                return Ok(Arc::clone(object));
            },
            Some(_) => return Err(PeerError::Invalid("another sends this object")),
            // The answer of the directory is on its way to the caller.
            None if Instant::now() >= until || closing => return Err(PeerError::Absent),
            None => state = shared.wait(state, until),
        }
    }
}
