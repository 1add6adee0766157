//! A sender: one thread for each port that is sent to, with the link that leads there.
//!
//! It announces one chunk after the other, of its transfers in turn, and only chunks that are here.
//! While a chunk moves, the next one is announced, so that the receiver's half is posted when its
//! turn comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chariot_client::device::DevicePort;
use chariot_device::{DeviceError, Invitation, LinkEnd, LinkPart, LinkTurn, PeerLink};

use crate::error::PeerError;
use crate::object::{Held, Piece};
use crate::state::{Serve, Shared};

/// How often somebody who waits for a link looks whether it was broken from outside.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Between two tries of a set-up that the library is not ready for.
const RETRY: Duration = Duration::from_millis(2);

/// A chunk whose tickets are given.
#[derive(Debug)]
struct Announced {
    object: Arc<Held>,
    pieces: Vec<Piece>,
    ticket: u64,
}

/// What a sender has in hand.
struct Sender<'a> {
    shared: &'a Arc<Shared>,
    peer: DevicePort,
    link: Option<(u64, PeerLink)>,
    serves: VecDeque<Serve>,
    next: Option<Announced>,
}

/// Runs until the port closes, or the other one is gone and nothing is left to send.
pub(crate) fn run(shared: &Arc<Shared>, peer: DevicePort) {
    let mut sender = Sender {
        shared,
        peer,
        link: None,
        serves: VecDeque::new(),
        next: None,
    };
    while sender.listen() {
        if let Err(error) = sender.work() {
            sender.give_up();
            if matches!(&error, PeerError::Device(error) if error.is_lost()) {
                shared.lose_all();
            }
        }
    }
    sender.give_up();
    shared.change(|state| {
        if state.closing {
            state.outgoing.remove(&peer);
        }
    });
}

impl Sender<'_> {
    /// Takes over what the state has for this thread; waits while there is nothing to do. `false`:
    /// it is over.
    fn listen(&mut self) -> bool {
        let mut state = self.shared.lock();
        loop {
            if state.closing {
                return false;
            }
            let outgoing = state.outgoing.entry(self.peer).or_default();
            let is_broken = std::mem::take(&mut outgoing.all_broken)
                || outgoing
                    .broken
                    .drain(..)
                    .any(|link| self.link.as_ref().is_some_and(|own| own.0 == link));
            let stopped = std::mem::take(&mut outgoing.stopped);
            self.serves.retain(|serve| !stopped.contains(&serve.number));
            if is_broken {
                // What was being served over it is asked for anew by its receiver.
                drop(state);
                self.drop_link();
                state = self.shared.lock();
                continue;
            }
            self.serves.append(&mut outgoing.serves);
            // A link is wanted as soon as there is somebody to serve, not only when there is
            // something to send: those of a long chain are then set up side by side.
            let wants_link = self.link.is_none() && !self.serves.is_empty();
            if wants_link || self.next.is_some() || self.serves.iter().any(is_ready) {
                return true;
            }
            if self.serves.is_empty() && self.link.is_none() {
                // Under the lock: a serve that comes now starts another thread.
                state.outgoing.remove(&self.peer);
                return false;
            }
            state = self.shared.wait(state, Instant::now() + LOOK * 10);
        }
    }

    /// Sends one chunk.
    fn work(&mut self) -> Result<(), PeerError> {
        if self.link.is_none() {
            self.link = Some(self.connect()?);
            self.shared.links_made.fetch_add(1, Ordering::Relaxed);
            // Whatever was stopped meanwhile is not begun.
            return Ok(());
        }
        let Some(now) = self
            .next
            .take()
            .map_or_else(|| self.announce(), |one| Ok(Some(one)))?
        else {
            return Ok(());
        };
        let (number, link) = self.link.as_ref().expect("connected above");
        let mut bytes = 0;
        for (ticket, piece) in (now.ticket..).zip(&now.pieces) {
            let part = LinkPart::Send {
                memory: now.object.blobs[piece.blob].memory.clone(),
                at: piece.at,
                len: piece.len,
            };
            post(link, ticket, part)?;
            bytes += piece.len as u64;
        }
        let (number, last) = (*number, now.ticket + now.pieces.len() as u64 - 1);
        // The next one, so that its other half is there in time.
        self.next = self.announce()?;
        let (_, link) = self.link.as_ref().expect("connected above");
        wait(link, last, self.shared.options.stall, || {
            let state = self.shared.lock();
            let outgoing = state.outgoing.get(&self.peer);
            state.closing
                || outgoing.is_none_or(|one| one.all_broken || one.broken.contains(&number))
        })?;
        self.shared.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        drop(now);
        // Serves that came to their end with it are forgotten: who deletes the object may wait.
        self.shared.change(|_| ());
        Ok(())
    }

    /// Announces the next chunk of whose turn it is, if one is here.
    fn announce(&mut self) -> Result<Option<Announced>, PeerError> {
        let Some(at) = self.serves.iter().position(is_ready) else {
            return Ok(None);
        };
        let mut serve = self.serves.remove(at).expect("just found");
        let pieces = serve.object.pieces(serve.next);
        let tickets = u32::try_from(pieces.len()).expect("bounded by the blobs of an object");
        let chunk = u32::try_from(serve.next).expect("bounded by CHUNKS_MAX");
        let (link, _) = self.link.as_ref().expect("connected before");
        let until = Instant::now() + self.shared.options.stall;
        let ticket = loop {
            let of = (*link, serve.number);
            let given = self
                .shared
                .directory
                .announce(self.shared.card(), of, (chunk, 1), tickets);
            match given {
                Err(error) if error.is_passing() && Instant::now() < until => {
                    std::thread::yield_now();
                },
                other => break other?,
            }
        };
        let object = Arc::clone(&serve.object);
        // Counted as served until its last chunk has left.
        object.serve();
        let announced = Announced {
            object,
            pieces,
            ticket,
        };
        serve.next += 1;
        if serve.next < serve.object.chunks() {
            self.serves.push_back(serve);
        }
        Ok(Some(announced))
    }

    /// Meets the other end.
    fn connect(&self) -> Result<(u64, PeerLink), PeerError> {
        let shared = self.shared;
        let card = shared.card();
        let mut opened = shared.directory.open_link(card, self.peer)?;
        if opened.is_up {
            // Of an earlier thread, whose end is gone.
            drop(shared.directory.break_link(card, opened.link));
            opened = shared.directory.open_link(card, self.peer)?;
        }
        let met = self.meet(opened.link);
        if met.is_err() {
            shared.break_link(opened.link);
        }
        Ok((opened.link, met?))
    }

    fn meet(&self, link: u64) -> Result<PeerLink, PeerError> {
        let shared = self.shared;
        let until = Instant::now() + shared.options.stall;
        self.wait_turn(link, until)?;
        shared.device.check_link()?;
        let invitation = shared.device.invite()?;
        let life = 2 * shared.options.stall;
        shared.directory.invite(link, invitation.as_bytes(), life)?;
        // Whoever waits inside the library for an end that does not come cannot be called back.
        hear(
            until,
            |wait| shared.directory.accepted(link, wait),
            || {
                let state = shared.lock();
                let outgoing = state.outgoing.get(&self.peer);
                state.closing
                    || outgoing.is_none_or(|one| one.all_broken || one.broken.contains(&link))
            },
        )?;
        let met = join(shared, &invitation, LinkEnd::First, until)?;
        shared.directory.joined(shared.card(), link)?;
        Ok(met)
    }

    /// Waits until the directory says that both cards are free.
    fn wait_turn(&self, link: u64, until: Instant) -> Result<(), PeerError> {
        let mut state = self.shared.lock();
        loop {
            if state.closing {
                return Err(PeerError::Closed);
            }
            let outgoing = state.outgoing.entry(self.peer).or_default();
            if outgoing.connect == Some(link) {
                outgoing.connect = None;
                return Ok(());
            }
            if outgoing.all_broken || outgoing.broken.contains(&link) || Instant::now() >= until {
                return Err(PeerError::Absent);
            }
            state = self.shared.wait(state, until);
        }
    }

    /// Breaks the link and forgets what went over it: the receivers ask anew.
    fn give_up(&mut self) {
        if let Some((link, _)) = &self.link {
            self.shared.break_link(*link);
        } else {
            for serve in &self.serves {
                let shared = self.shared;
                let told = shared
                    .directory
                    .refuse(shared.card(), self.peer, serve.number);
                // Whoever is gone need not hear it.
                drop(told);
            }
        }
        self.drop_link();
    }

    fn drop_link(&mut self) {
        if let Some((_, link)) = self.link.take() {
            // What is under way touches memory until it is aborted.
            drop(link.abort());
        }
        self.next = None;
        self.serves.clear();
        self.shared.change(|_| ());
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.object.served();
    }
}

fn is_ready(serve: &Serve) -> bool {
    serve.object.have() > serve.next
}

/// Meets the other end of a link; waits for the library's turn.
pub(crate) fn join(
    shared: &Shared,
    invitation: &Invitation,
    end: LinkEnd,
    until: Instant,
) -> Result<PeerLink, PeerError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match shared.device.link(invitation, end, left) {
            Err(DeviceError::LinkBusy) if Instant::now() < until => {
                let state = shared.lock();
                drop(shared.wait(state, Instant::now() + RETRY));
            },
            other => return Ok(other?),
        }
    }
}

/// Waits for a word of the other end, and looks now and then whether it is still worth waiting.
pub(crate) fn hear<T>(
    until: Instant,
    ask: impl Fn(Duration) -> Result<T, PeerError>,
    is_over: impl Fn() -> bool,
) -> Result<T, PeerError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match ask(left.min(LOOK * 10)) {
            Err(PeerError::Absent) if !left.is_zero() && !is_over() => {},
            other => return other,
        }
    }
}

/// Posts one half of a ticket whose turn it is.
pub(crate) fn post(link: &PeerLink, ticket: u64, part: LinkPart) -> Result<(), PeerError> {
    match link.post(ticket, part)? {
        LinkTurn::Submitted => Ok(()),
        // Tickets come in order: one that is early was given by a directory that lost others.
        LinkTurn::Early | LinkTurn::Full(_) => Err(PeerError::Invalid("a ticket out of turn")),
    }
}

/// Waits for a ticket, and looks now and then whether it is still worth waiting.
pub(crate) fn wait(
    link: &PeerLink,
    ticket: u64,
    most: Duration,
    is_over: impl Fn() -> bool,
) -> Result<(), PeerError> {
    let until = Instant::now() + most;
    loop {
        let slice = until.min(Instant::now() + LOOK);
        match link.wait(ticket, slice) {
            Err(DeviceError::Timeout { .. }) if Instant::now() < until && !is_over() => {},
            other => return Ok(other?),
        }
    }
}
